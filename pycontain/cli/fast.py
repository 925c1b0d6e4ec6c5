"""
From the command line to the function that implements it, for engines and people alike.

Flags are parsed as by Go's flag package, since that is how engines write them: `--name value`,
`--name=value`, one dash or two, `--switch=false`. Nothing heavy is imported on this path: importing
typer, for help, or rich, for tables, takes longer than running a container.
"""

from __future__ import annotations

import _signal
import sys

from ..errors import PycontainError, UsageError
from ..lean import jsontext, os
from . import table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any, NoReturn

    from .log import Log
    from .table import Command, Flag, Value

    Values = dict[str, Value]
    Result = None | int | str | dict[str, object] | Iterator[str]

_TRUTH = {
    "1": True, "t": True, "true": True, "T": True, "True": True, "TRUE": True,
    "0": False, "f": False, "false": False, "F": False, "False": False, "FALSE": False,
}  # fmt: skip
_STDOUT = 1
_INTERRUPTED = 130  # 128 + SIGINT, as in a shell
_BROKEN_PIPE = 141  # 128 + SIGPIPE


def program() -> NoReturn:
    """Run the command line of this process; exit without the interpreter's slow finalization."""
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)  # a caller's SIG_IGN would reap our children
    _forget_coercion()
    os._exit(main(sys.argv[1:]))


def _forget_coercion() -> None:
    """
    Remove what Python has added to the environment, which hooks inherit.

    In the C locale it sets LC_CTYPE (PEP 538), but /proc/self/environ stays what the caller passed.
    """
    if b"LC_CTYPE" in os.environ:
        from ..kernel.files import read_bytes

        if b"\0LC_CTYPE=" not in b"\0" + read_bytes("/proc/self/environ"):
            os.environ.pop(b"LC_CTYPE")


def main(words: list[str]) -> int:
    """
    Run one command line; returns the exit status.

    Any error becomes one line on standard error and in the log.
    """
    settings = defaults(table.GLOBALS)
    try:
        return _run(words, settings)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except Exception as error:
        return _log(settings).error(error)


def _run(words: list[str], settings: Values) -> int:
    _take_variables(table.GLOBALS, settings)
    rest = take_flags(table.GLOBALS, words, settings, prefix=True)
    if settings["log"]:
        _check_log(settings)
    if settings["debug"]:
        said = f"{table.PROGRAM} {table.VERSION}, process {os.getpid()}: {' '.join(words)}"
        _log(settings).detail(said)
    if settings["version"]:
        return _finish(_version())
    if settings["help"] or rest in ([], ["help"]):
        return _human_main(["--help"])
    if rest[0] == "help":
        rest = [rest[1], "--help"]
    command = find(rest[0])
    values = parse(command, rest[1:])
    if values is None:
        return _human_main([command.name, "--help"])
    return _finish(call(command, settings, values))


def _version() -> str:
    """The version as engines parse it: "NAME version X" first, then "key: value" lines."""
    from ..spec.names import OCI_VERSION

    return f"{table.PROGRAM} version {table.VERSION}\nspec: {OCI_VERSION}"


def _human_main(words: list[str]) -> int:
    from . import helptext

    return helptext.main(words)


def find(name: str) -> Command:
    """The command of this name. Raises UsageError if there is none."""
    if name not in table.COMMANDS:
        raise UsageError("is not a command", value=name, remedy=_nearest(name, table.COMMANDS))
    return table.COMMANDS[name]


def parse(command: Command, words: list[str]) -> Values | None:
    """
    The values of a command's arguments and flags, by key; None if help is requested.

    Raises UsageError that names the flag, the value and the reason.
    """
    flags = (*command.flags, table.HELP)
    values = defaults(flags)
    rest = take_flags(flags, words, values, prefix=command.prefix, command=command.name)
    if values.pop("help"):
        return None
    _take_arguments(command, rest, values)
    return values


def defaults(flags: Iterable[Flag]) -> Values:
    """The default value of each flag."""
    return {flag.key: flag.default for flag in flags}


def _take_variables(flags: Iterable[Flag], values: Values) -> None:
    """Put the values that the environment has for these flags into values."""
    for flag in flags:
        text = os.environ.get(flag.variable.encode()) if flag.variable else None
        if text:
            values[flag.key] = _value(flag, os.fsdecode(text), None, at=flag.variable)


def take_flags(
    flags: Iterable[Flag], words: list[str], values: Values, *, prefix: bool, command: str = ""
) -> list[str]:
    """
    Put the flags among these words into values; returns the other words.

    With `prefix` the first other word ends the flags, as `--` always does. An error refers to the
    help of this command.
    """
    known = {name: flag for flag in flags for name in (flag.name, flag.short) if name}
    rest: list[str] = []
    queue = iter(words)
    for word in queue:
        if word == "--":
            break
        if len(word) < 2 or word[0] != "-":  # a single dash is a file name: standard input
            rest.append(word)
            if prefix:
                break
            continue
        name, equals, text = word[2 if word[1] == "-" else 1 :].partition("=")
        if name not in known and _are_switches(word, known):  # -it
            values.update((known[letter].key, True) for letter in name)
            continue
        if name not in known:
            raise UsageError("is not a flag", value=word, remedy=_flag_remedy(name, known, command))
        flag = known[name]
        if flag.kind == "switch":
            values[flag.key] = _truth(flag, text) if equals else True
        else:
            given = text if equals else next(queue, None)
            values[flag.key] = _value(flag, given, values[flag.key])
    return [*rest, *queue]


def _are_switches(word: str, known: dict[str, Flag]) -> bool:
    """Whether a word is a dash and letters, each of which is a switch."""
    return word[1] != "-" and all(
        letter in known and known[letter].kind == "switch" for letter in word[1:]
    )


def _flag_remedy(name: str, known: Iterable[str], command: str) -> str:
    if any(name in (flag.name, flag.short) for flag in table.GLOBALS):
        return "it is a global flag: write it before the command"
    return _nearest(name, known, "--", command)


def _truth(flag: Flag, text: str) -> bool:
    if text not in _TRUTH:
        raise UsageError("is neither true nor false", at=f"--{flag.name}", value=text)
    return _TRUTH[text]


def _value(flag: Flag, text: str | None, before: Value, at: str = "") -> Value:
    """The value of a flag that takes one, given at this place; lists are appended to."""
    at = at or f"--{flag.name}"
    if text is None:
        raise UsageError(f"needs a {flag.value}", at=at)
    if flag.choices and text not in flag.choices:
        raise UsageError(f"is not one of {', '.join(flag.choices)}", at=at, value=text)
    if flag.kind == "text":
        return text
    value = text if flag.kind == "list" else _integer(at, text)
    return (*before, value) if isinstance(before, tuple) else value


def _integer(at: str, text: str) -> int:
    if not (text.isascii() and text.removeprefix("-").isdigit()):  # int() takes 1_000 and " 5"
        raise UsageError("is not a whole number", at=at, value=text)
    return int(text)


def _take_arguments(command: Command, words: list[str], values: Values) -> None:
    left = list(words)
    for argument in command.arguments:
        if not left and argument.default is None and not values.get(argument.unless):
            wanted = argument.name.upper()
            raise UsageError(f"{command.name} needs {wanted}", remedy=_usage(command))
        if argument.rest:
            values[argument.name] = tuple(left)
            left = []
        else:
            values[argument.name] = left.pop(0) if left else argument.default
    if left:
        raise UsageError("is one argument too many", value=left[0], remedy=_usage(command))


def _usage(command: Command) -> str:
    return f"see {table.PROGRAM} {command.name} --help"


def _nearest(name: str, known: Iterable[str], dashes: str = "", command: str = "") -> str:
    """A remedy: the known name that is most similar."""
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    if near:
        return f"did you mean {dashes}{near[0]}?"
    return f"see {table.PROGRAM} {command}{' ' if command else ''}--help"


def call(command: Command, settings: Values, values: Values) -> Result:
    """Import the function behind a command and call it."""
    from ..kernel.rights import default_root, is_rootless
    from ..options import Options, nowhere

    rootless = str(settings["rootless"])
    options = Options(
        root=str(settings["root"]) or default_root(rootless=is_rootless(rootless)),
        cgroup_manager="systemd" if settings["systemd_cgroup"] else str(settings["cgroup_manager"]),
        rootless=rootless,
        cgroup_missing=str(settings["cgroup_missing"]),
        debug=bool(settings["debug"]),
        log=str(settings["log"]),
        log_format=str(settings["log_format"]),
        warn=lambda text: _log(settings).warning(text),
        detail=_log(settings).detail if settings["debug"] else nowhere,
    )
    if command.enters:
        from ..kernel import seal

        if seal.is_needed():
            seal.ensure()
        options.detail(f"seal: the interpreter is {os.readlink('/proc/self/exe')}")
    function: Callable[..., Result] = _load(command.calls)
    if command.request:
        return function(options, _load(command.request)(**values))
    return function(options, **values)


def _load(name: str) -> Callable[..., Any]:
    """The object that a "module:name" refers to."""
    module, _, attribute = name.partition(":")
    __import__(module)  # importlib is one more module
    found: Callable[..., Any] = getattr(sys.modules[module], attribute)
    return found


def _finish(result: Result) -> int:
    """
    Print what a command returned; returns the exit status.

    An int is the status itself, a dict is printed as JSON, a str unchanged, and an iterator line by
    line as it produces them.
    """
    if result is None:
        return 0
    if isinstance(result, int):
        return result
    if isinstance(result, dict):
        result = jsontext.pretty(result)
    try:
        for line in (result,) if isinstance(result, str) else result:
            _print(line)
    except BrokenPipeError:  # the reader, such as head(1), has seen enough
        return _BROKEN_PIPE
    return 0


def _print(line: str) -> None:
    """Unlike print(): the output is UTF-8 whatever the locale, and unbuffered."""
    data = (line + "\n").encode(errors="surrogateescape")
    while data:
        data = data[os.write(_STDOUT, data) :]


def _check_log(settings: Values) -> None:
    """Raises PycontainError if the log cannot be opened; from then on it is standard error."""
    try:
        _log(settings).check()
    except PycontainError:
        settings["log"] = ""
        raise


def _log(settings: Values) -> Log:
    from .log import Log

    return Log(str(settings["log"]), str(settings["log_format"]), bool(settings["debug"]))
