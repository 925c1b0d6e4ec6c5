"""A line for each system call of a program: name, arguments, result, and time. strace(1)."""

from __future__ import annotations

import errno

from .linux.layout import signed
from .linux.table import TABLE
from .space import BadAddress, MapError
from .trace import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .linux.task import Task

_SHOWN = 32  # bytes of a string
"".encode("unicode_escape")  # loads the codec, which the jail would not let be read


class Strace:
    """Writes the lines; of a call that does not return, only its beginning is known."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._line = ""
        self._began = 0.0
        self._late: list[tuple[int, int]] = []  # position and address of what a call fills

    def begin(self, task: Task, number: int, arguments: Sequence[int]) -> None:
        """Before a call is served, which may change its arguments."""
        name = task.process.names.get(number, f"call {number & 0xFFFF_FFFF}")
        kinds = TABLE[name].kinds if name in TABLE else ("flags",) * 6
        self._arguments = arguments
        self._kinds = kinds
        self._shown = [
            _shown(task, kind, value, arguments)
            for kind, value in zip(kinds, arguments, strict=False)
        ]
        self._line = f"{task.tid} {name}"
        self._began = clock()

    def end(self, task: Task, result: int) -> None:
        """After it."""
        spent = clock() - self._began
        for at, kind in enumerate(self._kinds):
            if kind.startswith("out@") and result > 0:
                self._shown[at] = _bytes(task, self._arguments[at], result)
        if result < 0 and -result in errno.errorcode:
            answer = f"-1 {errno.errorcode[-result]}"
        else:
            answer = f"{result:#x}" if result > 1 << 31 else str(result)
        text = f"{self._line}({', '.join(self._shown)})"
        self._write(f"{text} = {answer} <{spent:.6f}>\n")


def _shown(task: Task, kind: str, value: int, arguments: Sequence[int]) -> str:
    if kind in ("path", "text"):
        try:
            return _quoted(task.space.text(value))
        except (BadAddress, MapError):
            return f"{value:#x}"
    if kind.startswith("in@"):
        return _bytes(task, value, arguments[int(kind[3:])])
    if kind == "dirfd" and signed(value, 32) == -100:
        return "AT_FDCWD"
    if kind in ("fd", "dirfd", "int", "pid", "sig"):
        return str(signed(value, 32))
    if kind == "long":
        return str(signed(value, 64))
    if kind == "mode":
        return f"{value & 0xFFFF_FFFF:#o}"
    if kind == "size":
        return str(value)
    return f"{value:#x}" if value else "0"


def _bytes(task: Task, address: int, length: int) -> str:
    try:
        return _quoted(task.space.read(address, min(length, _SHOWN)), more=length > _SHOWN)
    except BadAddress:
        return f"{address:#x}"


def _quoted(data: bytes, *, more: bool = False) -> str:
    text = data.decode("latin-1").encode("unicode_escape").decode().replace('"', '\\"')
    return f'"{text}"' + ("..." if more else "")
