"""
Errors and warnings: to standard error for people, to the file of --log for engines.

Podman and containerd read the log as one JSON object per line and fail on the first broken one, so
each message is one complete line, written with one write(2) to a file opened for appending. As text
it is runc's: time, level and msg as key=value. Without a file, programs get either of these on
standard error if they ask for it with --log-format or --debug, people something shorter.
"""

from __future__ import annotations

import time
from errno import ENXIO

from ..errors import KernelError, PycontainError, fault_of, one_line, reason
from ..kernel import safe_path
from ..lean import jsontext, os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..errors import Fault

_STDERR = 2
# Non-blocking: opening a FIFO that nobody reads fails at once, and a line for which a pipe has no
# space is dropped. Neither a container nor an error waits for the reader of a log.
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY
# Control characters: with them, text from an image could move the cursor or set the window title.
_ESCAPES = {
    code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if code not in b"\t\n"
}


class Log:
    """
    Where messages go.

    path   the file; an empty one is standard error alone
    form   "json", or "text"; on standard error, an empty one is for people
    debug  whether details are logged, and the traceback of unexpected errors
    """

    __slots__ = ("debug", "form", "path")

    def __init__(self, path: str, form: str, debug: bool) -> None:
        self.path = path
        self.form = form
        self.debug = debug

    def check(self) -> None:
        """Raises PycontainError if the file cannot be opened; it is created if missing."""
        if self.path:
            os.close(self._open())

    def error(self, error: BaseException) -> int:
        """Report the error that ends the command; returns the exit status. Never raises."""
        fault = fault_of(error)
        self._put("error", fault.whole_line(), _for_people(fault, os.isatty(_STDERR)))
        if self.path:  # the file is for the engine; the user should see the error, too
            _tell(_for_people(fault))
        if self.debug and not isinstance(error, PycontainError):
            import traceback

            trace = "".join(traceback.format_exception(error))
            self._put("debug", trace, trace)
        return fault.status

    def warning(self, text: str) -> None:
        """Report a problem that does not end the command."""
        self._put("warning", text, f"pycontain: warning: {one_line(text)}\n")

    def detail(self, text: str) -> None:
        """Report a detail for debugging, with --debug only."""
        if self.debug:
            self._put("debug", text, "")

    def _put(self, level: str, text: str, for_people: str) -> None:
        if self.path:
            self._to_file(level, text)
        elif self.form or self.debug:  # standard error is the log, read by a program
            self._append(_STDERR, level, text)
        else:
            _tell(for_people)

    def _to_file(self, level: str, text: str) -> None:
        try:
            fd = self._open()
        except PycontainError as error:
            _tell(_for_people(error.fault))
            return
        try:
            self._append(fd, level, text)
        finally:
            os.close(fd)

    def _open(self) -> int:
        try:
            return safe_path.open_named(self.path, _FLAGS, 0o644)
        except PycontainError as error:
            raise error.in_step("log") from None
        except OSError as error:
            number = error.errno or 0
            why = "is a socket, or a FIFO that nobody reads" if number == ENXIO else reason(number)
            raise KernelError(why, step="log", at=self.path, errno=number) from None

    def _append(self, fd: int, level: str, text: str) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.form == "json":
            line = jsontext.dumps({"level": level, "msg": text, "time": now})
        else:
            line = f'time="{now}" level={level} msg={jsontext.dumps(text)}'
        _write(fd, line + "\n")


def _for_people(fault: Fault, terminal: bool = False) -> str:
    if terminal and fault.remedy:
        return f"pycontain: {fault.line()}\n  hint: {one_line(fault.remedy)}\n"
    return f"pycontain: {fault.whole_line()}\n"


def _tell(text: str) -> None:
    """Print to standard error for people, with control characters escaped."""
    _write(_STDERR, text.translate(_ESCAPES))


def _write(fd: int, text: str) -> None:
    try:
        os.write(fd, text.encode(errors="backslashreplace"))
    except OSError:  # standard error is closed, or the log's disk is full: nothing can be done
        pass
