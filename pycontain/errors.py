"""
The exceptions of pycontain and the record they carry.

    PycontainError              str() is one line; .fault has the parts
    ├── UsageError              the command line, or an argument, cannot be understood
    ├── SpecError               config.json is missing, broken, or requests the impossible
    ├── StateError              the container is not in the state that the command needs
    ├── HostError               this host does not have what the container needs
    ├── KernelError             a system call failed; .errno is its error number
    ├── StepError               a step of bringing up a container failed
    │   ├── HookError           a hook failed
    │   └── ProgramError        the container's program cannot be executed (status 126 or 127)
    ├── GuestError              a virtual machine's guest failed
    ├── Timeout                 the time limit was exceeded
    └── Interrupted             a signal ended the command (status 128 + its number), or the
                                caller has cancelled the call

Every error names the step, the file or field, the value found there, and the remedy.
"""

from __future__ import annotations

import errno as _errno

from .lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Self

    from .result import Result

_LAST_STATUS = 255  # of a process: wait(2)


def reason(number: int) -> str:
    """
    The message for an errno.

    Podman and Docker take "no such file or directory" for "the program was not found"
    (exit status 127), so pycontain uses "does not exist" for everything else.
    """
    if number == _errno.ENOENT:
        return "does not exist"
    return os.strerror(number).lower()


_AS_ROOT = (
    "use sudo; without root work compare, completion, doctor, features, image, images, plan, setup,"
    " spec and vm"
)


def one_line(text: str) -> str:
    """The text on one line: a value may contain line breaks."""
    return " ".join(text.splitlines())


class Fault:
    """
    What went wrong, as data.

    step    the step that failed, such as "mount" ("" outside of the steps)
    call    the system call or action that failed
    at      the file, or the JSON path in config.json
    value   the value found there, as text
    why     the reason, a predicate: "does not exist", "is not a number"
    remedy  what can be done
    errno   the kernel's number, or 0
    status  the exit status the command ends with
    kind    the name of the exception class
    """

    __slots__ = ("at", "call", "errno", "kind", "remedy", "status", "step", "value", "why")

    def __init__(
        self,
        why: str,
        *,
        step: str = "",
        call: str = "",
        at: str = "",
        value: str = "",
        remedy: str = "",
        errno: int = 0,
        status: int = 1,
        kind: str = "PycontainError",
    ) -> None:
        self.why = why
        self.step = step
        self.call = call
        self.at = at
        self.value = value
        self.remedy = remedy
        self.errno = errno
        self.status = status
        self.kind = kind

    def line(self) -> str:
        """Everything but the remedy, on one line."""
        subject = " = ".join(part for part in (self.at, self.value) if part)
        sentence = " ".join(part for part in (subject, self.why) if part)
        return one_line(": ".join(part for part in (self.step, self.call, sentence) if part))

    def whole_line(self) -> str:
        """Everything, on one line."""
        return f"{self.line()}; {one_line(self.remedy)}" if self.remedy else self.line()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fault) and self.record() == other.record()

    __hash__ = None  # type: ignore[assignment]  # its parts can change

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}={value!r}" for name, value in self.record().items())
        return f"Fault({parts})"

    def record(self) -> dict[str, object]:
        """The parts that are set, for JSON and for passing from child to parent."""
        return {name: getattr(self, name) for name in self.__slots__ if getattr(self, name)}


class PycontainError(Exception):
    """The base of all errors; raised itself only if no subclass fits."""

    status = 1

    def __init__(
        self,
        why: str,
        *,
        step: str = "",
        call: str = "",
        at: str = "",
        value: str = "",
        remedy: str = "",
        errno: int = 0,
        status: int | None = None,
    ) -> None:
        self.fault = Fault(
            why,
            step=step,
            call=call,
            at=at,
            value=value,
            remedy=remedy,
            errno=errno,
            status=type(self).status if status is None else status,
            kind=type(self).__name__,
        )
        super().__init__(why)

    @property
    def errno(self) -> int:
        """The kernel's error number, or 0."""
        return self.fault.errno

    def __str__(self) -> str:
        return self.fault.whole_line()

    def in_step(self, name: str, place: str = "") -> Self:
        """
        The same error, with the step in which it occurred (an inner step's name is kept).

        place  what it is about, such as "mounts[2], tmpfs on /tmp"
        """
        if not self.fault.step:
            self.fault.step = name
            self.fault.call = ": ".join(part for part in (place, self.fault.call) if part)
        return self


class UsageError(PycontainError):
    """The command line, or an argument of a call, cannot be understood."""


class SpecError(PycontainError):
    """config.json is missing, broken, or requests the impossible."""


class StateError(PycontainError):
    """The container is not in the state that the command needs."""


class HostError(PycontainError):
    """This host does not have what the container needs."""

    @classmethod
    def needs_root(cls, what: str, number: int = 0) -> HostError:
        """The error for a caller without the rights for this; number is the kernel's, if any."""
        return cls("needs root", at=what, errno=number, remedy=_AS_ROOT)


class KernelError(PycontainError):
    """A system call failed."""

    @classmethod
    def of(cls, call: str, number: int, at: str = "", remedy: str = "") -> KernelError:
        """The error for a call that failed with this errno on this file."""
        return cls(reason(number), call=call, at=at, errno=number, remedy=remedy)


class StepError(PycontainError):
    """A step of bringing up a container failed."""


class HookError(StepError):
    """A hook failed."""


class ProgramError(StepError):
    """The container's program cannot be executed."""

    status = 127


class GuestError(PycontainError):
    """A virtual machine's guest failed."""


class Timeout(PycontainError):
    """
    The time limit was exceeded.

    result  what is known of a program that a call of the library has ended: what it printed until
            then, and what it used; None for every other wait
    """

    result: Result | None = None

    @property
    def stdout(self) -> bytes:
        """What the program had printed on standard output, as far as it was captured."""
        return self.result.stdout if self.result is not None else b""

    @property
    def stderr(self) -> bytes:
        """What the program had printed on standard error, likewise."""
        return self.result.stderr if self.result is not None else b""


class Interrupted(PycontainError):
    """A signal or the caller ended the command, which has undone what it had done."""

    @classmethod
    def by(cls, number: int) -> Interrupted:
        """The error for a signal of this number."""
        return cls(f"interrupted by signal {number}", status=128 + number)


def fault_of(error: BaseException) -> Fault:
    """The fault of any exception, so that every one can be reported."""
    if isinstance(error, PycontainError):
        return error.fault
    if isinstance(error, OSError) and error.errno:
        name = error.filename
        at = name.decode(errors="replace") if isinstance(name, bytes) else str(name or "")
        return Fault(reason(error.errno), at=at, errno=error.errno, kind="KernelError")
    return Fault(f"{type(error).__name__}: {error}", kind="StepError")


def from_record(record: object) -> PycontainError:
    """
    The exception for a fault of another process.

    Raises ValueError if the record does not come from Fault.record(): it may be forged.
    """
    if not isinstance(record, dict):
        raise ValueError("is not a fault")
    fault = Fault("", kind="StepError", status=0)
    for name, value in record.items():
        if name not in Fault.__slots__ or type(value) is not type(getattr(fault, name)):
            raise ValueError(f"{name} is not part of a fault")
        setattr(fault, name, value)
    family = {cls.__name__: cls for cls in _tree(PycontainError)}
    if not fault.why or fault.kind not in family or not 0 <= fault.status <= _LAST_STATUS:
        raise ValueError("is not a fault that can be reported")
    error = family[fault.kind](fault.why)
    fault.status = fault.status or error.fault.status
    error.fault = fault
    return error


def _tree(root: type[PycontainError]) -> list[type[PycontainError]]:
    return [root, *(cls for child in root.__subclasses__() for cls in _tree(child))]
