"""Pseudo-terminals. ioctl_tty(2), pts(4)."""

from __future__ import annotations

from ..errors import KernelError
from ..lean import os
from . import calls
from . import const as c
from ._ffi import ffi
from .root import Root


def open_pair(root: Root) -> tuple[int, int]:
    """
    A new terminal (master, slave) on the devpts mounted on /dev/pts below root.

    The slave is opened through the master (TIOCGPTPEER, 4.13): the name /dev/pts/N could have
    been replaced (CVE-2025-52565). Raises KernelError when /dev/pts is not a devpts.
    """
    master = root.open("/dev/pts/ptmx", os.O_RDWR | os.O_NOCTTY)
    if calls.filesystem_type(master) != c.DEVPTS_SUPER_MAGIC:
        raise KernelError(
            "is not on a devpts file system",
            at="/dev/pts/ptmx",
            remedy="mount devpts on /dev/pts for a process with a terminal",
        )
    calls.ioctl(master, c.TIOCSPTLCK, ffi.new("int *", 0), "TIOCSPTLCK")
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    return master, calls.ioctl(master, c.TIOCGPTPEER, flags, "TIOCGPTPEER")


def keep_newlines(terminal: int) -> None:
    """Write newlines without adding carriage returns. termios(3), ONLCR."""
    onlcr = 0o4
    attributes = ffi.new("unsigned int[16]")  # the kernel's struct termios: c_oflag is the second
    calls.ioctl(terminal, c.TCGETS, attributes, "TCGETS")
    attributes[1] &= ~onlcr
    calls.ioctl(terminal, c.TCSETS, attributes, "TCSETS")


def set_size(terminal: int, rows: int, columns: int) -> None:
    """Set a terminal's size in characters."""
    size = ffi.new("struct winsize *", (rows, columns, 0, 0))
    calls.ioctl(terminal, c.TIOCSWINSZ, size, "TIOCSWINSZ")


def size(terminal: int) -> tuple[int, int]:
    """A terminal's (rows, columns)."""
    size = ffi.new("struct winsize *")
    calls.ioctl(terminal, c.TIOCGWINSZ, size, "TIOCGWINSZ")
    return size.ws_row, size.ws_col


def make_controlling(slave: int) -> None:
    """Make a terminal this session's own."""
    calls.ioctl(slave, c.TIOCSCTTY, 0, "TIOCSCTTY")


def make_standard(slave: int) -> None:
    """Make a terminal this process's standard input, output and error."""
    for stream in (0, 1, 2):
        os.dup2(slave, stream)
