"""
Every command, argument and flag of the command line, once.

`fast.py` parses by this table, `human.py` makes help and shell completion of it, and the values
reach the function that a command `calls` as keyword arguments named after the flags. Names and
meanings are runc's, since engines speak them; crun's and our own additions are marked.
"""

from __future__ import annotations

from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

    Kind = Literal["switch", "text", "integer", "list", "integers"]
    Value = bool | str | int | None | tuple[str | int, ...]

PROGRAM = "pycontain"
VERSION = "0.1.0"


class Flag:
    """
    One flag.

    kind     switch takes no value, list and integers may be given several times
    value    the word that stands for the value in the help
    choices  the values there are, if they are few
    refusal  why a value other than the default and `accepted` is refused, when not built yet

    A plain class: 130 of them are made at each start, and a Record costs five times as much.
    """

    __slots__ = (
        "accepted", "choices", "default", "help", "kind", "name", "refusal", "short", "value",
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
        refusal: str = "",
        accepted: tuple[str, ...] = (),
    ) -> None:
        self.name = name
        self.help = help
        self.kind = kind
        self.default = default
        self.short = short
        self.value = value
        self.choices = choices
        self.refusal = refusal
        self.accepted = accepted

    @property
    def key(self) -> str:
        """The name of the keyword argument."""
        return self.name.replace("-", "_")


class Argument(Record):
    """
    One positional argument.

    default  None where it has to be given
    rest     takes all the words that are left, as a tuple
    unless   the flag that makes it unnecessary
    """

    name: str
    help: str
    default: str | None = None
    rest: bool = False
    unless: str = ""


class Command(Record):
    """
    One command.

    calls    "module:function"; it gets the Options, then arguments and flags by keyword
    request  "module:Record" that these are put into first, where the function takes one
    panel    the heading it stands under in the help
    prefix   flags end at the first argument, because what follows is another program's
    enters   it puts a process of ours into a container, so the interpreter must be sealed
    refusal  why the whole command is refused, when it is not built yet
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
    refusal: str = ""


def _text(name: str, help: str, value: str, default: str = "", short: str = "") -> Flag:
    return Flag(name, help, kind="text", default=default, short=short, value=value)


def _count(name: str, help: str, value: str = "NUMBER", default: int | None = None) -> Flag:
    return Flag(name, help, kind="integer", default=default, value=value)


def _format(*formats: str) -> Flag:
    return Flag(
        "format", "how to print it", kind="text", default=formats[0], short="f", value="FORMAT",
        choices=formats,
    )  # fmt: skip


_LSM = "is not built yet: pycontain does not set {} labels"
_RDT = "is not built yet: pycontain does not manage Intel RDT"
_CRIU = "is not built yet: pycontain does not work with CRIU"

HELP = Flag("help", "show the help and exit", short="h")

GLOBALS = (
    _text("root", "directory of the containers' state", "DIR", "/run/pycontain"),
    _text("log", "file that errors and warnings are appended to", "FILE"),
    Flag(
        "log-format", "form of a log line", kind="text", default="text", value="FORMAT",
        choices=("text", "json"),
    ),
    Flag("debug", "log more, and show where unexpected errors come from"),
    Flag(
        "systemd-cgroup", "let systemd make the cgroup",
        refusal="is not built yet: pycontain makes cgroups itself",
    ),
    Flag(
        "rootless", "run without root's rights", kind="text", default="auto", value="WHEN",
        choices=("true", "false", "auto"), accepted=("false",),
        refusal="is not built yet: pycontain runs as root",
    ),
    Flag(
        "cgroup-manager", "who makes the cgroup (crun)", kind="text", default="cgroupfs",
        value="MANAGER", choices=("cgroupfs", "systemd", "disabled"), accepted=("disabled",),
        refusal="is not built yet: pycontain makes cgroups itself",
    ),
    Flag("version", "show the version and exit", short="v"),
    HELP,
)  # fmt: skip

_ID = Argument(name="id", help="the container's name")
_CONSOLE_SOCKET = _text(
    "console-socket", "socket that receives the terminal's controlling side", "SOCKET"
)
_PIDFD_SOCKET = _text("pidfd-socket", "socket that receives a pidfd of the process", "SOCKET")
_PID_FILE = _text("pid-file", "file that the process id is written to", "FILE")
_PRESERVE_FDS = _count("preserve-fds", "pass that many descriptors on, from 3 up", default=0)
_DETACH = Flag("detach", "do not wait for the process to end", short="d")

_CREATE = (
    _text("bundle", "directory with config.json", "DIR", ".", "b"),
    _CONSOLE_SOCKET,
    _PIDFD_SOCKET,
    _PID_FILE,
    Flag("no-pivot", "change the root without pivot_root, for a rootfs on a ramdisk"),
    Flag("no-new-keyring", "keep the caller's session keyring"),
    _PRESERVE_FDS,
    _text("config", "configuration to read instead of the bundle's config.json (crun)", "FILE"),
)

_EXEC = (
    _CONSOLE_SOCKET,
    _PIDFD_SOCKET,
    _PID_FILE,
    _PRESERVE_FDS,
    _DETACH,
    _text("process", "JSON file that describes the process", "FILE", short="p"),
    _text("cwd", "working directory in the container", "DIR"),
    Flag("env", "set a variable", kind="list", default=(), short="e", value="NAME=VALUE"),
    Flag("tty", "give it a terminal", short="t"),
    _text("user", "who it runs as", "UID[:GID]", short="u"),
    Flag(
        "additional-gids", "add a group", kind="integers", default=(), short="g", value="GID"
    ),
    Flag("cap", "add a capability", kind="list", default=(), short="c", value="CAPABILITY"),
    Flag("no-new-privs", "forbid gaining rights by execve"),
    _text("cgroup", "run it in this cgroup below the container's", "PATH"),
    Flag("ignore-paused", "start it even if the container is paused"),
    Flag(
        "process-label", "SELinux label", kind="text", default="", value="LABEL",
        refusal=_LSM.format("SELinux"),
    ),
    Flag(
        "apparmor", "AppArmor profile", kind="text", default="", value="PROFILE",
        refusal=_LSM.format("AppArmor"),
    ),
)  # fmt: skip

_UPDATE = (
    _text("resources", "JSON file of limits, - for standard input; other flags are ignored",
          "FILE", short="r"),
    _count("blkio-weight", "share of block I/O, 10 to 1000"),
    _count("cpu-period", "period of the CPU limit", "MICROSECONDS"),
    _count("cpu-quota", "CPU time in a period, -1 is no limit", "MICROSECONDS"),
    _count("cpu-burst", "CPU time that may be saved up", "MICROSECONDS"),
    _count("cpu-share", "share of CPU time against other containers"),
    _count("cpu-rt-period", "period of the realtime limit", "MICROSECONDS"),
    _count("cpu-rt-runtime", "realtime CPU time in a period", "MICROSECONDS"),
    _count("cpu-idle", "1 runs only when the CPU is idle"),
    _text("cpuset-cpus", "CPUs it may use", "LIST"),
    _text("cpuset-mems", "memory nodes it may use", "LIST"),
    _text("memory", "memory limit, such as 512m; -1 is no limit", "BYTES"),
    _text("memory-reservation", "memory that is kept for it under pressure", "BYTES"),
    _text("memory-swap", "limit of memory and swap together, -1 is no limit", "BYTES"),
    _text("kernel-memory", "ignored: removed from Linux", "BYTES"),
    _text("kernel-memory-tcp", "ignored: cgroup v2 has no such limit", "BYTES"),
    _count("pids-limit", "how many processes, -1 is no limit"),
    Flag("l3-cache-schema", "Intel RDT cache share", kind="text", default="", value="SCHEMA",
         refusal=_RDT),
    Flag("mem-bw-schema", "Intel RDT memory bandwidth", kind="text", default="", value="SCHEMA",
         refusal=_RDT),
)  # fmt: skip

_REQUEST = "pycontain.plan.request:Request"
_LIFE, _INSPECT, _MODIFY = "Life cycle", "Inspect", "Modify"
_HOST, _VM = "Bundles and the host", "Virtual machines"

_ALL = (
    Command(
        name="create", panel=_LIFE, enters=True, calls="pycontain.runtime.create:create",
        request=_REQUEST,
        help="Make a container from a bundle; its program waits for start.",
        arguments=(_ID,), flags=_CREATE,
    ),
    Command(
        name="start", panel=_LIFE, calls="pycontain.runtime.start:start",
        help="Start the program of a created container.", arguments=(_ID,),
    ),
    Command(
        name="run", panel=_LIFE, enters=True, calls="pycontain.cli.run:run",
        request=_REQUEST,
        help="Create and start a container, wait for it and delete it.",
        arguments=(_ID,),
        flags=(
            *_CREATE,
            _DETACH,
            Flag("keep", "do not delete the container when it has ended"),
            Flag("no-subreaper", "leave orphans of the container to the host's init"),
            Flag("timing", "show how long each step took (ours)"),
        ),
    ),
    Command(
        name="exec", panel=_LIFE, enters=True, calls="pycontain.runtime.exec:exec_",
        request="pycontain.plan.request:ExecRequest",
        help="Run one more program in a container.",
        arguments=(
            _ID,
            Argument(name="args", help="the program and its arguments", rest=True,
                     unless="process"),
        ),
        flags=_EXEC, prefix=True,
    ),
    Command(
        name="kill", panel=_LIFE, calls="pycontain.runtime.kill:kill",
        help="Send a signal to a container.",
        arguments=(
            _ID, Argument(name="signal", help="name or number of a signal", default="SIGTERM"),
        ),
        flags=(Flag("all", "to all of its processes", short="a"),),
    ),
    Command(
        name="delete", panel=_LIFE, calls="pycontain.runtime.delete:delete",
        help="Remove what is left of a stopped container.", arguments=(_ID,),
        flags=(Flag("force", "kill it first if it is still running", short="f"),),
    ),
    Command(
        name="state", panel=_INSPECT, calls="pycontain.runtime.state:state",
        help="Print the state of a container as JSON.", arguments=(_ID,),
    ),
    Command(
        name="list", panel=_INSPECT, calls="pycontain.cli.verbs:list_containers",
        help="List the containers.",
        flags=(_format("table", "json"), Flag("quiet", "names alone", short="q")),
    ),
    Command(
        name="ps", panel=_INSPECT, calls="pycontain.cli.verbs:processes",
        help="List the processes of a container.",
        arguments=(
            _ID,
            Argument(name="ps_options", help="options of ps(1), -ef if there are none",
                     default="", rest=True),
        ),
        flags=(_format("table", "json"),), prefix=True,
    ),
    Command(
        name="events", panel=_INSPECT, calls="pycontain.cli.verbs:events",
        help="Print what a container uses, as one JSON text a line.", arguments=(_ID,),
        flags=(
            _text("interval", "time between two records", "DURATION", "5s"),
            Flag("stats", "print one record and exit"),
        ),
    ),
    Command(
        name="pause", panel=_MODIFY, calls="pycontain.runtime.pause:pause",
        help="Freeze the processes of a container.", arguments=(_ID,),
    ),
    Command(
        name="resume", panel=_MODIFY, calls="pycontain.runtime.resume:resume",
        help="Let the processes of a paused container go on.", arguments=(_ID,),
    ),
    Command(
        name="update", panel=_MODIFY, calls="pycontain.cli.verbs:update",
        help="Change the limits of a container.", arguments=(_ID,), flags=_UPDATE,
    ),
    Command(
        name="checkpoint", panel=_MODIFY, help="Save a running container to files.",
        refusal=_CRIU,
    ),
    Command(
        name="restore", panel=_MODIFY, help="Bring a saved container back.", refusal=_CRIU,
    ),
    Command(
        name="spec", panel=_HOST, calls="pycontain.cli.verbs:spec",
        help="Write a sample config.json.",
        flags=(
            _text("bundle", "directory to write it to", "DIR", ".", "b"),
            Flag("rootless", "for a container without root's rights",
                 refusal="is not built yet: pycontain runs as root"),
        ),
    ),
    Command(
        name="features", panel=_HOST, calls="pycontain.cli.verbs:features",
        help="Print what this runtime can do, as JSON.",
    ),
    Command(
        name="plan", panel=_HOST, calls="pycontain.cli.verbs:plan",
        help="Show the steps that would run a bundle, and why each is there (ours).",
        arguments=(Argument(name="bundle", help="directory with config.json", default="."),),
        flags=(
            Flag("verb", "the command whose steps to show", kind="text", default="create",
                 value="VERB", choices=("create", "run")),
            _format("table", "json"),
        ),
    ),
    Command(
        name="doctor", panel=_HOST, calls="pycontain.cli.verbs:doctor",
        help="Check this host and say what can be done about each lack (ours).",
        flags=(_format("table", "json"),),
    ),
    Command(
        name="vm", panel=_VM, calls="pycontain.cli.vm:vm",
        help="Run a guest or a program in a virtual machine, or say what /dev/kvm can (ours).",
        arguments=(
            Argument(name="action", help="run, or caps"),
            Argument(name="what", help="a guest of ours, a flat binary, or -- a static program "
                     "and its arguments", default="", rest=True),
        ),
        flags=(
            _text("mem", "memory, such as 64M", "SIZE"),
            Flag("cpus", "processors", kind="integer", default=0, value="N"),
            _text("timeout", "end it after so many seconds", "SECONDS"),
            _text("root", "the / of a program", "DIR", "/"),
            _text("disk", "a raw disk image for a guest", "FILE"),
            Flag("interactive", "the terminal is the guest's serial port", short="i"),
            Flag("trace", "print each exit, with its registers"),
            Flag("stats", "count the exits, with their time"),
            Flag("engine", "what runs it", kind="text", default="kvm", value="ENGINE",
                 choices=("kvm", "emulate")),
            _format("table", "json"),
        ),
    ),
    Command(
        name="compare", panel=_VM, calls="pycontain.cli.vm:compare",
        help="Run one program natively, contained, in a virtual machine and emulated (ours).",
        arguments=(
            Argument(name="program", help="a static program and its arguments, after --",
                     default="", rest=True),
        ),
        flags=(
            Flag("runs", "how often, in turn", kind="integer", default=5, value="N"),
            _text("html", "write a page with charts", "FILE"),
            _format("table", "json"),
        ),
    ),
)  # fmt: skip

COMMANDS = {command.name: command for command in _ALL}
