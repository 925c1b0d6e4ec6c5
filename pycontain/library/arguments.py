"""Checks of the arguments of callers: each error says what to pass instead."""

from __future__ import annotations

import os
from collections.abc import Sequence

from ..errors import UsageError
from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypedDict

    from ..options import Options
    from .streams import StreamArguments

    class ContainerArguments(TypedDict, total=False):
        """What a Container takes; `pycontain.run` says what each means."""

        shell: bool
        env: Mapping[str, str] | None
        cwd: str | os.PathLike[str]
        isolation: str
        id: str
        options: Options | None

    class RunArguments(ContainerArguments, StreamArguments, total=False):
        """What `run`, `run_async` and `stream` take."""

    class ExecArguments(StreamArguments, total=False):
        """What `Container.exec`, `exec_async` and `exec_stream` take."""

        shell: bool
        env: Mapping[str, str] | None
        cwd: str | os.PathLike[str]
        user: str | int
        tty: bool | tuple[int, int]


class Program(Record):
    """A further program in a container: see `Container.exec`."""

    shell: bool = False
    env: Mapping[str, str] | None = None
    cwd: str | os.PathLike[str] = ""
    user: str | int = ""
    tty: bool | tuple[int, int] = False


LONGEST = 2_000_000  # seconds: poll(2) counts milliseconds in an int
_SHOWN = 60  # characters of a value in an error


def command(args: object, shell: bool) -> list[str]:
    """
    The words of a command; [] for None, which is that of the configuration.

    With shell, args is one line for the container's /bin/sh. Raises UsageError.
    """
    if shell:
        return ["/bin/sh", "-c", _line(args)]
    if args is None:
        return []
    if isinstance(args, str):
        words = args.split()
        remedy = f"give {words!r}, or add shell=True" if len(args) < _SHOWN else "give its words"
        raise _wrong("args", args, "is a string, not a list of words", remedy)
    if not isinstance(args, Sequence) or isinstance(args, (bytes, bytearray)):
        raise _wrong("args", args, "is not a list of strings", 'give words, as ["echo", "hi"]')
    words = list(args)
    if not words:
        raise _wrong("args", args, "is empty", "name a program, or leave it out")
    for index, word in enumerate(words):
        if not isinstance(word, str):
            raise _wrong(f"args[{index}]", word, "is not a string", "use str() or os.fsdecode()")
    return words


def _line(args: object) -> str:
    if not isinstance(args, str) or not args:
        raise _wrong("args", args, "is not one line for the shell", "leave out shell=True")
    return args


def environment(env: Mapping[str, str] | None) -> list[str]:
    """NAME=VALUE of each variable. Raises UsageError."""
    if env is None:
        return []
    if not hasattr(env, "items"):
        raise _wrong("env", env, "is not a mapping", 'give {"NAME": "value"}')
    for name, value in env.items():
        if not isinstance(name, str) or not name or "=" in name:
            raise _wrong("env", name, "is not the name of a variable", "use a string without =")
        if not isinstance(value, str):
            raise _wrong(f"env[{name!r}]", value, "is not a string", "use str()")
    return [f"{name}={value}" for name, value in env.items()]


def directory(cwd: str | os.PathLike[str]) -> str:
    """A directory in the container, "" for that of the configuration. Raises UsageError."""
    path = os.fspath(cwd) if isinstance(cwd, os.PathLike) else cwd
    if not isinstance(path, str):
        raise _wrong("cwd", cwd, "is not a path", "give a string, or leave it out")
    return path


def isolation(wanted: str) -> str:
    """What a program runs in, "" for what the configuration says. Raises UsageError."""
    if wanted not in ("", "namespaces", "kvm", "emulate"):
        why = "is not namespaces, kvm or emulate"
        raise _wrong("isolation", wanted, why, "leave it out for the configuration's")
    return wanted


def seconds(timeout: float | None) -> float | None:
    """A time limit, None for none. Raises UsageError."""
    if timeout is None or timeout == float("inf"):
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise _wrong("timeout", timeout, "is not a number", "give seconds, or None for no limit")
    if not 0 <= timeout <= LONGEST:  # not true of NaN either
        why = f"is not between 0 and {LONGEST} s"
        raise _wrong("timeout", timeout, why, "give None for no limit")
    return timeout


def data(given: bytes | str, at: str) -> bytes:
    """Bytes, or text as UTF-8. Raises UsageError."""
    if isinstance(given, (bytes, bytearray, memoryview)):
        return bytes(given)
    if not isinstance(given, str):
        raise _wrong(at, given, "is neither bytes nor text", "give bytes or a string")
    try:
        return given.encode()
    except UnicodeEncodeError:
        why = "has characters that UTF-8 cannot express"
        raise _wrong(at, given, why, "give bytes") from None


def path(given: str | os.PathLike[str], at: str) -> str:
    """A path as text. Raises UsageError."""
    found = os.fspath(given) if isinstance(given, os.PathLike) else given
    if not isinstance(found, str):
        raise _wrong(at, given, "is not a path", "give a string")
    return found


def strings(given: Sequence[str], at: str) -> list[str]:
    """A list of strings. Raises UsageError for anything else, such as one string."""
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise _wrong(at, given, "is not a list of strings", f"give [{given!r}]")
    for index, each in enumerate(given):
        if not isinstance(each, str):
            raise _wrong(f"{at}[{index}]", each, "is not a string", "give strings")
    return list(given)


def user(name: str | int) -> str:
    """A user as text, "" for the container's own. Raises UsageError."""
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        raise _wrong("user", name, "is not a user", 'give "UID:GID", a name or a number')
    return str(name)


def terminal(tty: object) -> list[int]:
    """The rows and columns of a terminal, [] for none. Raises UsageError."""
    if isinstance(tty, bool):
        return [0, 0] if tty else []
    if not isinstance(tty, tuple) or [type(size) for size in tty] != [int, int]:
        raise _wrong("tty", tty, "is not a size", "give True, or (rows, columns)")
    if not all(0 <= size < 1 << 16 for size in tty):
        raise _wrong("tty", tty, "does not fit a terminal", "give (rows, columns) below 65536")
    return list(tty)


def _wrong(name: str, value: object, why: str, remedy: str) -> UsageError:
    text = repr(value)
    if len(text) > _SHOWN:
        text = f"{text[:_SHOWN]}…"
    return UsageError(why, at=name, value=text, remedy=remedy)
