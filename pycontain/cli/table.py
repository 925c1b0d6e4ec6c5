"""
Every command, argument and flag of the command line, in one table: `COMMANDS`.

Its rows are in `engine_commands.py` and `people_commands.py`. `fast.py` parses with this table,
`helptext.py` generates help, `completion.py` scripts for shells and `manual.py` man pages from it,
and the values are passed to the function that a command `calls` as keyword arguments named after
the flags. Names and meanings are runc's, since engines use them; crun's and our own additions are
marked.
"""

from __future__ import annotations

from .. import __version__
from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Literal

    Kind = Literal["switch", "text", "integer", "list", "integers"]
    Value = bool | str | int | None | tuple[str | int, ...]

PROGRAM = "pycontain"
VERSION = __version__


class Flag:
    """
    One flag.

    kind     switch takes no value, list and integers may be given several times
    value    the placeholder for the value in the help
    choices  the allowed values, if they are few
    variable the environment variable with the value that is used where the flag is not given

    A plain class: 130 are created at each start, and a Record costs five times as much.
    """

    __slots__ = (
        "choices", "default", "help", "kind", "name", "short", "value", "variable",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        help: str,
        *,
        kind: Kind = "switch",
        default: Value = False,
        short: str = "",
        value: str = "",
        choices: tuple[str, ...] = (),
        variable: str = "",
    ) -> None:
        self.name = name
        self.help = help
        self.kind = kind
        self.default = default
        self.short = short
        self.value = value
        self.choices = choices
        self.variable = variable

    @property
    def key(self) -> str:
        """The name of the keyword argument."""
        return self.name.replace("-", "_")


class Argument(Record):
    """
    One positional argument.

    default  None if it is required
    rest     takes all remaining words, as a tuple
    unless   the flag that makes it unnecessary
    choices  the usual values, for completion
    """

    name: str
    help: str
    default: str | None = None
    rest: bool = False
    unless: str = ""
    choices: tuple[str, ...] = ()


class Command(Record):
    """
    One command.

    calls    "module:function"; it gets the Options, then arguments and flags by keyword
    request  "module:Record" to put these into first, if the function takes one
    panel    its heading in the help
    prefix   flags end at the first argument, because what follows belongs to another program
    enters   it puts a process of pycontain into a container, so the interpreter must be sealed
    anyone   it works without root privileges
    """

    name: str
    help: str
    panel: str
    calls: str = ""
    request: str = ""
    arguments: tuple[Argument, ...] = ()
    flags: tuple[Flag, ...] = ()
    prefix: bool = False
    enters: bool = False
    anyone: bool = False

    @property
    def summary(self) -> str:
        """The first sentence of its help."""
        return self.help.partition(". ")[0].rstrip(".") + "."


def text(name: str, help: str, value: str, default: str = "", short: str = "") -> Flag:
    return Flag(name, help, kind="text", default=default, short=short, value=value)


def count(name: str, help: str, value: str = "NUMBER", default: int | None = None) -> Flag:
    return Flag(name, help, kind="integer", default=default, value=value)


def isolation_flag() -> Flag:
    """What the program of a bundle runs in."""
    return Flag(
        "isolation", "run the program in namespaces, in a virtual machine inside them (kvm), or on"
        " an emulated processor (emulate); without it, as run.pycontain.isolation says",
        kind="text", default="", value="ISOLATION", choices=("namespaces", "kvm", "emulate"),
    )  # fmt: skip


def format_flag(*formats: str) -> Flag:
    return Flag(
        "format", "output format", kind="text", default=formats[0], short="f", value="FORMAT",
        choices=formats,
    )  # fmt: skip


HELP = Flag("help", "show help and exit", short="h")

GLOBALS = (
    text("root", "directory for the state of containers; by default /run/pycontain or, without"
         " root privileges, pycontain in XDG_RUNTIME_DIR", "DIR"),
    text("log", "file to append errors and warnings to", "FILE"),
    Flag(
        "log-format", "format of the log, text by default; if given, of standard error, too",
        kind="text", default="", value="FORMAT", choices=("text", "json"),
    ),
    Flag("debug", "log each step, and the traceback of unexpected errors"),
    Flag("systemd-cgroup", "let systemd create the cgroup: --cgroup-manager systemd"),
    Flag(
        "rootless", "run without root privileges", kind="text", default="auto", value="WHEN",
        choices=("true", "false", "auto"),
    ),
    Flag(
        "cgroup-manager", "how to create the cgroup (crun)", kind="text", default="cgroupfs",
        value="MANAGER", choices=("cgroupfs", "systemd", "disabled"),
    ),
    Flag(
        "cgroup-missing", "what to do about a limit that cgroup v2 cannot apply on this host "
        "(pycontain only)", kind="text", default="error", value="WHAT", choices=("warn", "error"),
        variable="PYCONTAIN_CGROUP_MISSING",
    ),
    Flag("version", "show the version and exit", short="v"),
    HELP,
)  # fmt: skip

ID = Argument(name="id", help="id of the container")
LIFE, INSPECT, MODIFY = "Life cycle", "Inspect", "Modify"


def make_image_flags() -> tuple[Flag, ...]:
    from . import image_flags  # only `run` and `spec` have these

    return image_flags.flags()


def make_registry_flags() -> tuple[Flag, ...]:
    from . import image_flags  # only `run` and `image pull`

    return image_flags.registry_flags()


class Commands:
    """
    The commands by name, like a dictionary.

    They are in two modules, so that a command that engines call does not load those for people.
    """

    def __getitem__(self, name: str) -> Command:
        from . import engine_commands

        if name in engine_commands.COMMANDS:
            return engine_commands.COMMANDS[name]()
        return _all()[name]()

    def __contains__(self, name: object) -> bool:
        from . import engine_commands

        return name in engine_commands.COMMANDS or name in _all()

    def __iter__(self) -> Iterator[str]:
        return iter(_all())

    def values(self) -> list[Command]:
        """All commands, in the order of the help."""
        return [make() for make in _all().values()]


def _all() -> dict[str, Callable[[], Command]]:
    from . import engine_commands, people_commands

    return {**engine_commands.COMMANDS, **people_commands.COMMANDS}


COMMANDS = Commands()
