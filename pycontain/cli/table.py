"""
Every command, argument and flag of the command line, in one table.

`fast.py` parses with this table, `human.py` generates help, `completion.py` scripts for shells and
`manual.py` man pages from it, and the values are passed to the function that a command `calls` as
keyword arguments named after the flags. Names and meanings are runc's, since engines use them;
crun's and our own additions are marked.
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
    refusal  why a value other than the default and `accepted` is refused, if not built yet
    variable the environment variable with the value that is used where the flag is not given

    A plain class: 130 are created at each start, and a Record costs five times as much.
    """

    __slots__ = (
        "accepted", "choices", "default", "help", "kind", "name", "refusal", "short", "value",
        "variable",
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
        variable: str = "",
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
    refusal  why the whole command is refused, if it is not built yet
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
    refusal: str = ""


def _text(name: str, help: str, value: str, default: str = "", short: str = "") -> Flag:
    return Flag(name, help, kind="text", default=default, short=short, value=value)


def _count(name: str, help: str, value: str = "NUMBER", default: int | None = None) -> Flag:
    return Flag(name, help, kind="integer", default=default, value=value)


def _format(*formats: str) -> Flag:
    return Flag(
        "format", "output format", kind="text", default=formats[0], short="f", value="FORMAT",
        choices=formats,
    )  # fmt: skip


_LSM = "is not built yet: pycontain does not set {} labels"
_RDT = "is not built yet: pycontain does not manage Intel RDT"
_CRIU = "is not built yet: pycontain does not work with CRIU"

HELP = Flag("help", "show help and exit", short="h")

GLOBALS = (
    _text("root", "directory for the state of containers", "DIR", "/run/pycontain"),
    _text("log", "file to append errors and warnings to", "FILE"),
    Flag(
        "log-format", "format of the log", kind="text", default="text", value="FORMAT",
        choices=("text", "json"),
    ),
    Flag("debug", "log details, and the traceback of unexpected errors"),
    Flag(
        "systemd-cgroup", "let systemd create the cgroup",
        refusal="is not built yet: pycontain creates cgroups itself",
    ),
    Flag(
        "rootless", "run without root privileges", kind="text", default="auto", value="WHEN",
        choices=("true", "false", "auto"), accepted=("false",),
        refusal="is not built yet: pycontain runs as root",
    ),
    Flag(
        "cgroup-manager", "how to create the cgroup (crun)", kind="text", default="cgroupfs",
        value="MANAGER", choices=("cgroupfs", "systemd", "disabled"), accepted=("disabled",),
        refusal="is not built yet: pycontain creates cgroups itself",
    ),
    Flag(
        "cgroup-missing", "what to do about a limit that cgroup v2 cannot apply on this host "
        "(pycontain only)", kind="text", default="error", value="WHAT", choices=("warn", "error"),
        variable="PYCONTAIN_CGROUP_MISSING",
    ),
    Flag("version", "show the version and exit", short="v"),
    HELP,
)  # fmt: skip

_ID = Argument(name="id", help="id of the container")
_CONSOLE_SOCKET = _text(
    "console-socket", "Unix socket that receives the terminal's master end", "SOCKET"
)
_PIDFD_SOCKET = _text("pidfd-socket", "Unix socket that receives a pidfd of the process", "SOCKET")
_PID_FILE = _text("pid-file", "file to write the process id to", "FILE")
_PRESERVE_FDS = _count("preserve-fds", "number of descriptors to pass on, from 3 up", default=0)
_REGEX = Flag("regex", "take ID as a regular expression for the ids of containers (crun)")
_DETACH = Flag("detach", "do not wait for the process to exit", short="d")


def _create_flags() -> tuple[Flag, ...]:
    return (
        _text("bundle", "directory with config.json", "DIR", ".", "b"),
        _CONSOLE_SOCKET,
        _PIDFD_SOCKET,
        _PID_FILE,
        Flag("no-pivot", "change the root without pivot_root, for a rootfs on a ramdisk"),
        Flag("no-new-keyring", "keep the caller's session keyring"),
        _PRESERVE_FDS,
        _text("config", "configuration to read instead of the bundle's config.json (crun)", "FILE"),
    )  # fmt: skip


def _exec_flags() -> tuple[Flag, ...]:
    return (
        _CONSOLE_SOCKET,
        _PIDFD_SOCKET,
        _PID_FILE,
        _PRESERVE_FDS,
        _DETACH,
        _text("process", "JSON file that describes the process", "FILE", short="p"),
        _text("cwd", "working directory in the container", "DIR"),
        Flag("env", "set an environment variable", kind="list", default=(), short="e",
             value="NAME=VALUE"),
        Flag("tty", "allocate a terminal", short="t"),
        _text("user", "user to run as", "UID[:GID]", short="u"),
        Flag(
            "additional-gids", "add a supplementary group", kind="integers", default=(), short="g",
            value="GID",
        ),
        Flag("cap", "add a capability", kind="list", default=(), short="c", value="CAPABILITY"),
        Flag("no-new-privs", "set no_new_privs: execve grants no privileges"),
        _text("cgroup", "cgroup to run in, below the container's", "PATH"),
        Flag("ignore-paused", "run even if the container is paused"),
        Flag(
            "process-label", "SELinux label", kind="text", default="", value="LABEL",
            refusal=_LSM.format("SELinux"),
        ),
        Flag(
            "apparmor", "AppArmor profile", kind="text", default="", value="PROFILE",
            refusal=_LSM.format("AppArmor"),
        ),
    )  # fmt: skip


def _image_flags() -> tuple[Flag, ...]:
    from . import image_flags  # only `run` and `spec` have these

    return image_flags.flags()


def _update_flags() -> tuple[Flag, ...]:
    return (
        _text("resources", "JSON file with limits, - for standard input; other flags are ignored",
              "FILE", short="r"),
        _count("blkio-weight", "block I/O weight, 10 to 1000"),
        _count("cpu-period", "period of the CPU limit", "MICROSECONDS"),
        _count("cpu-quota", "CPU time per period, -1 for no limit", "MICROSECONDS"),
        _count("cpu-burst", "unused CPU time that may be accumulated", "MICROSECONDS"),
        _count("cpu-share", "CPU time relative to other containers"),
        _count("cpu-rt-period", "period of the realtime limit", "MICROSECONDS"),
        _count("cpu-rt-runtime", "realtime CPU time per period", "MICROSECONDS"),
        _count("cpu-idle", "1 to run only when the CPU is otherwise idle"),
        _text("cpuset-cpus", "CPUs that may be used", "LIST"),
        _text("cpuset-mems", "memory nodes that may be used", "LIST"),
        _text("memory", "memory limit, such as 512m; -1 for no limit", "BYTES"),
        _text("memory-reservation", "memory protected from reclaim", "BYTES"),
        _text("memory-swap", "limit of memory and swap together, -1 for no limit", "BYTES"),
        _text("kernel-memory", "ignored: removed from Linux", "BYTES"),
        _text("kernel-memory-tcp", "ignored: cgroup v2 has no such limit", "BYTES"),
        _count("pids-limit", "maximum number of processes, -1 for no limit"),
        Flag("l3-cache-schema", "Intel RDT cache share", kind="text", default="", value="SCHEMA",
             refusal=_RDT),
        Flag("mem-bw-schema", "Intel RDT memory bandwidth", kind="text", default="", value="SCHEMA",
             refusal=_RDT),
    )  # fmt: skip


_REQUEST = "pycontain.plan.request:Request"
_LIFE, _INSPECT, _MODIFY = "Life cycle", "Inspect", "Modify"
_HOST, _VM = "Bundles and the host", "Virtual machines"

# by name; each is created on first use, since a command needs none of the others
_COMMANDS: dict[str, Callable[[], Command]] = {
    "create": lambda: Command(
        name="create", panel=_LIFE, enters=True, calls="pycontain.runtime.create:create",
        request=_REQUEST,
        help="Create a container from a bundle; start runs its program.",
        arguments=(_ID,), flags=_create_flags(),
    ),
    "start": lambda: Command(
        name="start", panel=_LIFE, calls="pycontain.runtime.start:start",
        help="Start the program of a created container.", arguments=(_ID,),
    ),
    "run": lambda: Command(
        name="run", panel=_LIFE, enters=True, calls="pycontain.cli.run:run",
        help="Create and start a container, wait for it and delete it. ID is the id of a bundle's"
        " container, or an image with its transport, such as docker://busybox or oci:DIR:TAG. An"
        " image or --rootfs may be followed by the command to run.",
        arguments=(
            Argument(name="id", help="id of the container, or image", unless="rootfs"),
            Argument(name="args", help="the program and its arguments", default="", rest=True),
        ),
        flags=(
            *_create_flags(),
            _DETACH,
            Flag("keep", "do not delete the container when it exits"),
            Flag("no-subreaper", "leave orphaned processes to the host's init"),
            Flag("timing", "show how long each step took (pycontain only)"),
            *_image_flags(),
        ),
        prefix=True,
    ),
    "exec": lambda: Command(
        name="exec", panel=_LIFE, enters=True, calls="pycontain.runtime.exec:exec_",
        request="pycontain.plan.request:ExecRequest",
        help="Run another program in a container.",
        arguments=(
            _ID,
            Argument(name="args", help="the program and its arguments", rest=True,
                     unless="process"),
        ),
        flags=_exec_flags(), prefix=True,
    ),
    "kill": lambda: Command(
        name="kill", panel=_LIFE, calls="pycontain.runtime.kill:kill",
        help="Send a signal to a container.",
        arguments=(
            _ID, Argument(name="signal", help="name or number of the signal", default="SIGTERM"),
        ),
        flags=(
            Flag("all", "signal all processes of the container", short="a"),
            _REGEX,
        ),
    ),
    "delete": lambda: Command(
        name="delete", panel=_LIFE, calls="pycontain.runtime.delete:delete",
        help="Delete a container that was not started or has stopped.", arguments=(_ID,),
        flags=(Flag("force", "kill it first if it is still running", short="f"), _REGEX),
    ),
    "state": lambda: Command(
        name="state", panel=_INSPECT, calls="pycontain.runtime.state:state",
        help="Print the state of a container as JSON.", arguments=(_ID,),
    ),
    "list": lambda: Command(
        name="list", panel=_INSPECT, calls="pycontain.cli.verbs:list_containers",
        help="List the containers.",
        flags=(_format("table", "json"), Flag("quiet", "print only the ids", short="q")),
    ),
    "ps": lambda: Command(
        name="ps", panel=_INSPECT, calls="pycontain.cli.verbs:processes",
        help="List the processes of a container.",
        arguments=(
            _ID,
            Argument(name="ps_options", help="options for ps(1), -ef if none are given",
                     default="", rest=True),
        ),
        flags=(_format("table", "json"),), prefix=True,
    ),
    "events": lambda: Command(
        name="events", panel=_INSPECT, calls="pycontain.cli.verbs:events",
        help="Print the resource usage of a container, one JSON object per line.",
        arguments=(_ID,),
        flags=(
            _text("interval", "time between records", "DURATION", "5s"),
            Flag("stats", "print one record and exit"),
        ),
    ),
    "pause": lambda: Command(
        name="pause", panel=_MODIFY, calls="pycontain.runtime.pause:pause",
        help="Freeze the processes of a container.", arguments=(_ID,),
    ),
    "resume": lambda: Command(
        name="resume", panel=_MODIFY, calls="pycontain.runtime.resume:resume",
        help="Resume the processes of a paused container.", arguments=(_ID,),
    ),
    "update": lambda: Command(
        name="update", panel=_MODIFY, calls="pycontain.cli.verbs:update",
        help="Change the limits of a container.", arguments=(_ID,), flags=_update_flags(),
    ),
    "checkpoint": lambda: Command(
        name="checkpoint", panel=_MODIFY, help="Save a running container to files.",
        refusal=_CRIU,
    ),
    "restore": lambda: Command(
        name="restore", panel=_MODIFY, help="Restore a saved container.", refusal=_CRIU,
    ),
    "spec": lambda: Command(
        name="spec", panel=_HOST, anyone=True, calls="pycontain.cli.verbs:spec",
        help="Write a sample config.json; with --rootfs, print that of a root file system.",
        arguments=(
            Argument(name="args", help="the program and its arguments, with --rootfs", default="",
                     rest=True),
        ),
        prefix=True,
        flags=(
            *_image_flags(),
            _text("bundle", "directory to write it to", "DIR", ".", "b"),
            Flag("rootless", "for a container without root privileges",
                 refusal="is not built yet: pycontain runs as root"),
        ),
    ),
    "images": lambda: Command(
        name="images", panel=_HOST, anyone=True, calls="pycontain.cli.image:images",
        help="List the images in the cache (pycontain only).",
        flags=(_format("table", "json"),),
    ),
    "image": lambda: Command(
        name="image", panel=_HOST, anyone=True, calls="pycontain.cli.image:image",
        help="Fetch images into the cache or remove them (pycontain only).",
        arguments=(
            Argument(name="action", help="pull, rm, or prune: remove images without a name, and"
                     " remains of interrupted commands", choices=("pull", "rm", "prune")),
            Argument(name="names", help="images, by name or digest", default="", rest=True),
        ),
        flags=(Flag("all", "let prune remove all images that no container uses", short="a"),),
    ),
    "features": lambda: Command(
        name="features", panel=_HOST, anyone=True, calls="pycontain.cli.verbs:features",
        help="Print the features of this runtime as JSON.",
    ),
    "plan": lambda: Command(
        name="plan", panel=_HOST, anyone=True, calls="pycontain.cli.verbs:plan",
        help="Show the steps that would run a bundle, and the reason for each (pycontain only).",
        arguments=(Argument(name="bundle", help="directory with config.json", default="."),),
        flags=(
            Flag("verb", "command whose steps to show", kind="text", default="create",
                 value="VERB", choices=("create", "run")),
            _format("table", "json"),
        ),
    ),
    "setup": lambda: Command(
        name="setup", panel=_HOST, anyone=True, calls="pycontain.cli.setup:setup",
        help="Make the command start fast after an installation by pip (pycontain only).",
    ),
    "completion": lambda: Command(
        name="completion", panel=_HOST, anyone=True, calls="pycontain.cli.completion:completion",
        help="Print the script that completes command lines in a shell (pycontain only).",
        arguments=(
            Argument(name="shell", help="bash, zsh or fish", choices=("bash", "zsh", "fish")),
        ),
    ),
    "doctor": lambda: Command(
        name="doctor", panel=_HOST, anyone=True, calls="pycontain.cli.verbs:doctor",
        help="Check this host and suggest a remedy for each problem (pycontain only).",
        flags=(_format("table", "json"),),
    ),
    "vm": lambda: Command(
        name="vm", panel=_VM, anyone=True, calls="pycontain.cli.vm:vm",
        help="Run code in a virtual machine, or show what /dev/kvm supports (pycontain only).",
        arguments=(
            Argument(name="action", help="run or caps", choices=("run", "caps")),
            Argument(name="what", help="a built-in guest, a flat binary, or -- and a static "
                     "program with its arguments", default="", rest=True),
        ),
        flags=(
            _text("mem", "memory size, such as 64M", "SIZE"),
            Flag("cpus", "number of processors", kind="integer", default=0, value="N"),
            _text("timeout", "stop after this many seconds", "SECONDS"),
            _text("root", "directory that a program has as /, read-only; without it, the program "
                  "sees only itself", "DIR"),
            Flag("volume", "directory or file that a program sees at GUEST, read-only unless rw",
                 kind="list", default=(), short="v", value="HOST:GUEST[:ro|rw]"),
            Flag("env", "set an environment variable of a program; only PATH is set otherwise",
                 kind="list", default=(), short="e", value="NAME=VALUE"),
            _text("disk", "raw disk image for a guest", "FILE"),
            Flag("interactive", "connect the terminal to the guest's serial port", short="i"),
            Flag("trace", "print each exit with its registers"),
            Flag("stats", "count the exits and measure their time"),
            Flag("engine", "what executes the code", kind="text", default="kvm", value="ENGINE",
                 choices=("kvm", "emulate")),
            _format("table", "json"),
        ),
    ),
    "compare": lambda: Command(
        name="compare", panel=_VM, anyone=True, calls="pycontain.cli.vm:compare",
        help="Run a program natively, in a container, in a VM and emulated, and compare the costs"
        " (pycontain only).",
        arguments=(
            Argument(name="program", help="a static program and its arguments, after --",
                     default="", rest=True),
        ),
        flags=(
            Flag("runs", "number of runs in each environment", kind="integer", default=5,
                 value="N"),
            _text("html", "file to write an HTML page with charts to", "FILE"),
            _format("table", "json"),
        ),
    ),
}  # fmt: skip


class Commands:
    """The commands by name, like a dictionary."""

    def __init__(self, makers: dict[str, Callable[[], Command]]) -> None:
        self._makers = makers

    def __getitem__(self, name: str) -> Command:
        return self._makers[name]()

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def values(self) -> list[Command]:
        """All commands, in the order of the help."""
        return [self[name] for name in self]


COMMANDS = Commands(_COMMANDS)
