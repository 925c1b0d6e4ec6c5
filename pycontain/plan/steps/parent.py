"""The steps of the parent: what is done on the host, and from outside of the child."""

from __future__ import annotations

from .base import ParentStep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...spec.records import DeviceRule, Hook
    from ..resources import Setting
    from ..seccomp import Profile


class Reserve(ParentStep):
    """The id is taken and the state directory made, before anything else exists."""

    name = "reserve"

    def what(self) -> str:
        return "make the container's state directory"


class MakeCgroup(ParentStep):
    """The cgroup is made, with its limits, before the child that is born into it."""

    name = "cgroup"
    path: str | None
    controllers: tuple[str, ...]

    def what(self) -> str:
        with_ = f" with {', '.join(self.controllers)}" if self.controllers else ""
        return f"make the cgroup {self.path or 'of the id'}{with_}"


class LimitCgroup(ParentStep):
    """The limits are written."""

    name = "limits"
    settings: tuple[Setting, ...]

    def what(self) -> str:
        return "write " + ", ".join(f"{s.file} = {s.value}" for s in self.settings)


class GiveCgroup(ParentStep):
    """The container may divide its cgroup: the files for that become its user's."""

    name = "cgroup owner"
    uid: int

    def what(self) -> str:
        return f"give the cgroup to uid {self.uid}"


class FilterDevices(ParentStep):
    """The device filter is attached to the cgroup."""

    name = "device filter"
    rules: tuple[DeviceRule, ...]
    program: bytes

    def what(self) -> str:
        return f"attach an eBPF filter of {len(self.rules)} rules, then those of the defaults"


class CompileSeccomp(ParentStep):
    """The system call filter is compiled, or taken from the cache."""

    name = "seccomp program"
    profile: Profile

    def what(self) -> str:
        return "compile the system call filter to BPF, or take it from the cache"


class OpenNamespaces(ParentStep):
    """The namespaces to join are opened, and each checked to be of its type."""

    name = "open namespaces"
    paths: dict[int, str]  # CLONE_NEW* -> path
    foreign: dict[int, str] = {}  # not the runtime's own: what it would change

    def what(self) -> str:
        return "open " + ", ".join(self.paths.values())


class ConnectConsole(ParentStep):
    """The socket that will be sent the terminal is connected while its path still means that."""

    name = "console socket"
    path: str

    def what(self) -> str:
        return f"connect to {self.path}, which receives the terminal's master"


class Spawn(ParentStep):
    """
    The child is made, in its new namespaces; its steps begin after this one.

    It is forked, or shares the parent's memory until execve, as a child of vfork(2) does. The
    parent then sleeps, so that until then its steps are done in the child, too.
    """

    name = "spawn"
    flags: int
    names: tuple[str, ...]
    fork_because: str = ""  # why it needs memory of its own, "" when it does not
    join_pid: bool = False  # only children enter a pid namespace, so the parent joins it
    time_offsets: dict[str, tuple[int, int]] = {}  # clock -> (s, ns)
    time_namespace: bool = False
    cpus: tuple[int, ...] = ()  # where the parent is at that moment, () for wherever it is

    def what(self) -> str:
        way = f"fork: {self.fork_because}" if self.fork_because else "vfork"
        return f"clone3 with new namespaces: {', '.join(self.names) or 'none'}; {way}"


class RecordPid(ParentStep):
    """Pid and start time are written down before the child may go on."""

    name = "record"

    def what(self) -> str:
        return "write down pid and start time"


class AdjustOomScore(ParentStep):
    """The out-of-memory killer's preference."""

    name = "oom score"
    score: int

    def what(self) -> str:
        return f"set oom_score_adj to {self.score}"


class RunHooks(ParentStep):
    """Hooks that run in the runtime's namespaces."""

    name = "hooks"
    kind: str
    hooks: tuple[Hook, ...]

    def what(self) -> str:
        return f"run the {self.kind} hooks: {', '.join(hook.path for hook in self.hooks)}"


class WritePidFile(ParentStep):
    """The pid, as the caller sees it, for whoever supervises the container."""

    name = "pid file"
    path: str

    def what(self) -> str:
        return f"write the pid to {self.path}"


class SendPidfd(ParentStep):
    """A descriptor of the process, which stays right when its pid is somebody else's."""

    name = "pidfd"
    path: str

    def what(self) -> str:
        return f"send a pidfd to the socket {self.path}"


class Announce(ParentStep):
    """The container is created: its state says so."""

    name = "created"

    def what(self) -> str:
        return "mark the container created"
