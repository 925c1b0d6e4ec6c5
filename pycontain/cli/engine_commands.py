"""The commands that engines call. Each start of one of them loads this file."""

from __future__ import annotations

from .table import (
    ID,
    INSPECT,
    LIFE,
    MODIFY,
    Argument,
    Command,
    Flag,
    count,
    isolation_flag,
    make_image_flags,
    make_registry_flags,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_REQUEST = "pycontain.plan.request:Request"


def _socket_flags() -> tuple[Flag, ...]:
    return (
        text("console-socket", "Unix socket that receives the terminal's master end", "SOCKET"),
        text("pidfd-socket", "Unix socket that receives a pidfd of the process", "SOCKET"),
        text("pid-file", "file to write the process id to", "FILE"),
        count("preserve-fds", "number of descriptors to pass on, from 3 up", default=0),
    )


def _detach_flag() -> Flag:
    return Flag("detach", "do not wait for the process to exit", short="d")


def _regex_flag() -> Flag:
    return Flag("regex", "take ID as a regular expression for the ids of containers (crun)")


def _create_flags() -> tuple[Flag, ...]:
    return (
        text("bundle", "directory with config.json", "DIR", ".", "b"),
        *_socket_flags(),
        Flag("no-pivot", "change the root without pivot_root, for a rootfs on a ramdisk"),
        Flag("no-new-keyring", "keep the caller's session keyring"),
        isolation_flag(),
        text("config", "configuration to read instead of the bundle's config.json (crun)", "FILE"),
    )  # fmt: skip


def _exec_flags() -> tuple[Flag, ...]:
    return (
        *_socket_flags(),
        _detach_flag(),
        text("process", "JSON file that describes the process", "FILE", short="p"),
        text("cwd", "working directory in the container", "DIR"),
        Flag("env", "set an environment variable", kind="list", default=(), short="e",
             value="NAME=VALUE"),
        Flag("tty", "allocate a terminal", short="t"),
        text("user", "user to run as", "UID[:GID]", short="u"),
        Flag(
            "additional-gids", "add a supplementary group", kind="integers", default=(), short="g",
            value="GID",
        ),
        Flag("cap", "add a capability", kind="list", default=(), short="c", value="CAPABILITY"),
        Flag("no-new-privs", "set no_new_privs: execve grants no privileges"),
        text("cgroup", "cgroup to run in, below the container's", "PATH"),
        Flag("ignore-paused", "run even if the container is paused"),
        text("process-label", "SELinux label", "LABEL"),
        text("apparmor", "AppArmor profile", "PROFILE"),
    )  # fmt: skip


# by name; each is created on first use, since a command needs none of the others
COMMANDS: dict[str, Callable[[], Command]] = {
    "create": lambda: Command(
        name="create", panel=LIFE, enters=True, calls="pycontain.runtime.create:create",
        request=_REQUEST,
        help="Create a container from a bundle; start runs its program.",
        arguments=(ID,), flags=_create_flags(),
    ),
    "start": lambda: Command(
        name="start", panel=LIFE, calls="pycontain.runtime.start:start",
        help="Start the program of a created container.", arguments=(ID,),
    ),
    "run": lambda: Command(
        name="run", panel=LIFE, enters=True, calls="pycontain.cli.run:run",
        help="Create and start a container, wait for it and delete it. ID is the id of a bundle's"
        " container, or an image with its transport, such as docker://busybox or oci:DIR:TAG. An"
        " image or --rootfs may be followed by the command to run.",
        arguments=(
            Argument(name="id", help="id of the container, or image", unless="rootfs"),
            Argument(name="args", help="the program and its arguments", default="", rest=True),
        ),
        flags=(
            *_create_flags(),
            _detach_flag(),
            Flag("keep", "do not delete the container when it exits"),
            Flag("no-subreaper", "leave orphaned processes to the host's init"),
            Flag("timing", "show how long each step took (pycontain only)"),
            *make_image_flags(),
            *make_registry_flags(),
        ),
        prefix=True,
    ),
    "exec": lambda: Command(
        name="exec", panel=LIFE, enters=True, calls="pycontain.runtime.exec:exec_",
        request="pycontain.plan.request:ExecRequest",
        help="Run another program in a container.",
        arguments=(
            ID,
            Argument(name="args", help="the program and its arguments", rest=True,
                     unless="process"),
        ),
        flags=_exec_flags(), prefix=True,
    ),
    "kill": lambda: Command(
        name="kill", panel=LIFE, calls="pycontain.runtime.kill:kill",
        help="Send a signal to a container.",
        arguments=(
            ID, Argument(name="signal", help="name or number of the signal", default="SIGTERM"),
        ),
        flags=(
            Flag("all", "signal all processes of the container", short="a"),
            _regex_flag(),
        ),
    ),
    "delete": lambda: Command(
        name="delete", panel=LIFE, calls="pycontain.runtime.delete:delete",
        help="Delete a container that was not started or has stopped.", arguments=(ID,),
        flags=(Flag("force", "kill it first if it is still running", short="f"), _regex_flag()),
    ),
    "state": lambda: Command(
        name="state", panel=INSPECT, calls="pycontain.runtime.state:state",
        help="Print the state of a container as JSON.", arguments=(ID,),
    ),
    "pause": lambda: Command(
        name="pause", panel=MODIFY, calls="pycontain.runtime.pause:pause",
        help="Freeze the processes of a container.", arguments=(ID,),
    ),
    "resume": lambda: Command(
        name="resume", panel=MODIFY, calls="pycontain.runtime.resume:resume",
        help="Resume the processes of a paused container.", arguments=(ID,),
    ),
}  # fmt: skip
