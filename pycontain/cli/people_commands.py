"""The commands that only people call, and a few that engines call rarely."""

from __future__ import annotations

from .table import (
    ID,
    INSPECT,
    MODIFY,
    Argument,
    Command,
    Flag,
    count,
    format_flag,
    isolation_flag,
    make_image_flags,
    make_registry_flags,
    text,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_HOST, _VM = "Bundles and the host", "Virtual machines"


def _update_flags() -> tuple[Flag, ...]:
    return (
        text("resources", "JSON file with limits, - for standard input; other flags are ignored",
              "FILE", short="r"),
        count("blkio-weight", "block I/O weight, 10 to 1000"),
        count("cpu-period", "period of the CPU limit", "MICROSECONDS"),
        count("cpu-quota", "CPU time per period, -1 for no limit", "MICROSECONDS"),
        count("cpu-burst", "unused CPU time that may be accumulated", "MICROSECONDS"),
        count("cpu-share", "CPU time relative to other containers"),
        count("cpu-rt-period", "period of the realtime limit", "MICROSECONDS"),
        count("cpu-rt-runtime", "realtime CPU time per period", "MICROSECONDS"),
        count("cpu-idle", "1 to run only when the CPU is otherwise idle"),
        text("cpuset-cpus", "CPUs that may be used", "LIST"),
        text("cpuset-mems", "memory nodes that may be used", "LIST"),
        text("memory", "memory limit, such as 512m; -1 for no limit", "BYTES"),
        text("memory-reservation", "memory protected from reclaim", "BYTES"),
        text("memory-swap", "limit of memory and swap together, -1 for no limit", "BYTES"),
        text("kernel-memory", "ignored: removed from Linux", "BYTES"),
        text("kernel-memory-tcp", "ignored: cgroup v2 has no such limit", "BYTES"),
        count("pids-limit", "maximum number of processes, -1 for no limit"),
        text("l3-cache-schema", "Intel RDT cache share", "SCHEMA"),
        text("mem-bw-schema", "Intel RDT memory bandwidth", "SCHEMA"),
    )  # fmt: skip


def _criu_flags() -> tuple[Flag, ...]:
    return (
        text("image-path", "directory of the images", "DIR", "checkpoint"),
        text("work-path", "directory of criu's log, that of the images if none is given", "DIR"),
        Flag("tcp-established", "with established TCP connections"),
        Flag("ext-unix-sk", "with Unix sockets whose other end is outside"),
        Flag("shell-job", "even if it shares the session of a shell"),
        Flag("file-locks", "with locks of files"),
        Flag("manage-cgroups-mode", "what to do about cgroups below the container's", kind="text",
             default="ignore", value="MODE", choices=("ignore",)),
        text("empty-ns", "type of a namespace that is created but not filled", "TYPE"),
        Flag("auto-dedup", "drop memory from the images as soon as it is restored"),
        Flag("lazy-pages", "fetch memory from a page server when it is needed"),
    )  # fmt: skip


def _checkpoint_flags() -> tuple[Flag, ...]:
    return (
        *_criu_flags(),
        text("parent-path", "images of an earlier pre-dump, relative to the new ones", "DIR"),
        text("page-server", "page server to send memory to", "HOST:PORT"),
        count("status-fd", "descriptor through which criu tells that lazy pages are ready"),
        Flag("pre-dump", "save memory alone, and leave the container running"),
        Flag("leave-running", "leave the container running"),
    )  # fmt: skip


def _restore_flags() -> tuple[Flag, ...]:
    return (
        text("bundle", "directory with config.json", "DIR", ".", "b"),
        text("pid-file", "file to write the process id to", "FILE"),
        Flag("detach", "do not wait for the process to exit", short="d"),
        Flag("no-subreaper", "leave orphaned processes to the host's init"),
        *_criu_flags(),
        text("lsm-profile", "security profile to use instead of the saved one", "TYPE:NAME"),
        text("lsm-mount-context", "SELinux context for mounts, instead of the saved one",
             "CONTEXT"),
    )  # fmt: skip


# by name, as in `engine_commands`
COMMANDS: dict[str, Callable[[], Command]] = {
    "list": lambda: Command(
        name="list", panel=INSPECT, calls="pycontain.cli.verbs:list_containers",
        help="List the containers.",
        flags=(format_flag("table", "json"), Flag("quiet", "print only the ids", short="q")),
    ),
    "ps": lambda: Command(
        name="ps", panel=INSPECT, calls="pycontain.cli.verbs:processes",
        help="List the processes of a container.",
        arguments=(
            ID,
            Argument(name="ps_options", help="options for ps(1), -ef if none are given",
                     default="", rest=True),
        ),
        flags=(format_flag("table", "json"),), prefix=True,
    ),
    "events": lambda: Command(
        name="events", panel=INSPECT, calls="pycontain.cli.verbs:events",
        help="Print the resource usage of a container, one JSON object per line.",
        arguments=(ID,),
        flags=(
            text("interval", "time between records", "DURATION", "5s"),
            Flag("stats", "print one record and exit"),
        ),
    ),
    "update": lambda: Command(
        name="update", panel=MODIFY, calls="pycontain.cli.verbs:update",
        help="Change the limits of a container.", arguments=(ID,), flags=_update_flags(),
    ),
    "checkpoint": lambda: Command(
        name="checkpoint", panel=MODIFY, calls="pycontain.cli.verbs:checkpoint",
        help="Save a running container in files, with CRIU, and delete it.",
        arguments=(ID,), flags=_checkpoint_flags(),
    ),
    "restore": lambda: Command(
        name="restore", panel=MODIFY, calls="pycontain.cli.verbs:restore",
        help="Restore a container that checkpoint has saved, from its bundle.",
        arguments=(ID,), flags=_restore_flags(),
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
            *make_image_flags(),
            text("bundle", "directory to write it to", "DIR", ".", "b"),
            Flag("rootless", "for a container of this user, without root privileges"),
        ),
    ),
    "images": lambda: Command(
        name="images", panel=_HOST, anyone=True, calls="pycontain.cli.image:images",
        help="List the images in the cache (pycontain only).",
        flags=(format_flag("table", "json"),),
    ),
    "image": lambda: Command(
        name="image", panel=_HOST, anyone=True, calls="pycontain.cli.image:image",
        help="Fetch images into the cache or remove them (pycontain only).",
        arguments=(
            Argument(name="action", help="pull, rm, or prune: remove images without a name, and"
                     " remains of interrupted commands", choices=("pull", "rm", "prune")),
            Argument(name="names", help="images, by name or digest", default="", rest=True),
        ),
        flags=(
            Flag("all", "let prune remove all images that no container uses", short="a"),
            *make_registry_flags(),
        ),
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
            isolation_flag(),
            format_flag("table", "json"),
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
        flags=(format_flag("table", "json"),),
    ),
    "vm": lambda: Command(
        name="vm", panel=_VM, anyone=True, calls="pycontain.cli.vm:vm",
        request="pycontain.cli.vm:VmRequest",
        help="Run code in a virtual machine, or show what /dev/kvm supports (pycontain only).",
        arguments=(
            Argument(name="action", help="run or caps", choices=("run", "caps")),
            Argument(name="what", help="a built-in guest, a flat binary, or -- and a program "
                     "with its arguments", default="", rest=True),
        ),
        flags=(
            text("mem", "memory size, such as 64M", "SIZE"),
            Flag("cpus", "number of processors", kind="integer", default=0, value="N"),
            text("timeout", "stop after this many seconds", "SECONDS"),
            text("root", "directory that a program has as /, read-only; without it, the program "
                  "sees only itself", "DIR"),
            Flag("volume", "directory or file that a program sees at GUEST, read-only unless rw",
                 kind="list", default=(), short="v", value="HOST:GUEST[:ro|rw]"),
            Flag("net", "network of a program: loopback is one of its own that leads nowhere",
                 kind="text", default="none", value="NET", choices=("none", "loopback", "host")),
            Flag("env", "set an environment variable of a program; only PATH is set otherwise",
                 kind="list", default=(), short="e", value="NAME=VALUE"),
            text("disk", "raw disk image for a guest", "FILE"),
            Flag("interactive", "connect the terminal to the guest's serial port", short="i"),
            Flag("trace", "print each exit with its registers"),
            Flag("stats", "count the exits and measure their time"),
            Flag("engine", "what executes the code", kind="text", default="kvm", value="ENGINE",
                 choices=("kvm", "emulate")),
            format_flag("table", "json"),
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
            text("html", "file to write an HTML page with charts to", "FILE"),
            format_flag("table", "json"),
        ),
    ),
}  # fmt: skip
