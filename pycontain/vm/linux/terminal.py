"""ioctl(2): what a program may ask of its descriptors."""

from __future__ import annotations

import errno
import fcntl
import os
import termios

from . import pids

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..open_file import OpenFile
    from .task import Task

_FIOCLEX, _FIONCLEX, _FIONBIO, _FIONREAD = 0x5451, 0x5450, 0x5421, 0x541B
_TCGETS, _TCSETS, _TCSETSW, _TCSETSF = 0x5401, 0x5402, 0x5403, 0x5404
_TIOCGWINSZ, _TIOCSWINSZ, _TIOCGPGRP, _TIOCSPGRP, _TIOCGSID = 0x5413, 0x5414, 0x540F, 0x5410, 0x5429
# request -> bytes read, bytes written. No other reaches a terminal: TIOCSTI would type into it.
_TERMINAL = {
    _TCGETS: (0, 36), _TCSETS: (36, 0), _TCSETSW: (36, 0), _TCSETSF: (36, 0),
    _TIOCGWINSZ: (0, 8), 0x5409: (0, 0), 0x540A: (0, 0), 0x540B: (0, 0),
}  # fmt: skip
REQUESTS = (*_TERMINAL, _FIONREAD, _FIONBIO, _FIOCLEX, _FIONCLEX)  # that reach the host


def ioctl(task: Task, fd: int, request: int, argument: int) -> int:
    file = task.files.get(fd)
    request &= 0xFFFF_FFFF
    if request in (_FIOCLEX, _FIONCLEX):
        task.files.set_closes(fd, request == _FIOCLEX)
        return 0
    if request == _FIONBIO:
        on = int.from_bytes(task.space.read(argument, 4), "little")
        file.flags = file.flags & ~os.O_NONBLOCK | (os.O_NONBLOCK if on else 0)
        return 0
    if request == _FIONREAD and file.fd >= 0:
        task.space.write(argument, fcntl.ioctl(file.fd, termios.FIONREAD, bytes(4)))
        return 0
    if file.fd < 0 or not os.isatty(file.fd):
        raise OSError(errno.ENOTTY, "")
    return _terminal(task, file, request, argument)


def _terminal(task: Task, file: OpenFile, request: int, argument: int) -> int:
    """The terminal that the program was given; its groups are those of the program."""
    table = task.process.pids
    if request in (_TIOCGPGRP, _TIOCGSID):
        field = pids.GROUP if request == _TIOCGPGRP else pids.SESSION
        group = table.get(0, pids.GROUP) if request == _TIOCGPGRP else 0
        task.space.write(argument, (group or table.get(task.pid, field)).to_bytes(4, "little"))
        return 0
    if request == _TIOCSPGRP:
        table.set(0, pids.GROUP, int.from_bytes(task.space.read(argument, 4), "little"))
        return 0
    if request not in _TERMINAL:
        raise OSError(errno.ENOTTY, "")
    taken, given = _TERMINAL[request]
    data = task.space.read(argument, taken) if taken else bytes(given)
    found = fcntl.ioctl(file.fd, request, data) if data else fcntl.ioctl(file.fd, request, argument)
    if given and isinstance(found, bytes):
        task.space.write(argument, found)
    return 0
