"""The steps of the parent, on the host and on the child from outside."""

from __future__ import annotations

from .base import ParentStep

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ...spec.records import DeviceRule
    from ..resources import Setting
    from ..seccomp import Profile


class Reserve(ParentStep):
    """The id is claimed by creating the state directory, before anything else exists."""

    name = "reserve"

    def what(self) -> str:
        return "create the container's state directory"


class MakeCgroup(ParentStep):
    """The cgroup is created, before the child that starts in it."""

    name = "cgroup"
    path: str | None

    def what(self) -> str:
        return f"create the cgroup {self.path or 'named after the id'}"


class LimitCgroup(ParentStep):
    """The limits are written."""

    name = "limits"
    settings: tuple[Setting, ...]

    def what(self) -> str:
        return "write " + ", ".join(f"{s.file} = {s.value}" for s in self.settings)


class GiveCgroup(ParentStep):
    """The container may divide its cgroup: its user gets the files for that."""

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
        return f"attach an eBPF filter of {len(self.rules)} rules and the default ones"


class CompileSeccomp(ParentStep):
    """The system call filter is compiled, or taken from the cache."""

    name = "seccomp program"
    profile: Profile

    def what(self) -> str:
        return "compile the system call filter to BPF, or take it from the cache"


class Spawn(ParentStep):
    """
    The child is created, in its new namespaces; its steps begin after this one.

    It is forked, or shares the parent's memory until execve, as a child of vfork(2) does. In that
    case the parent sleeps until execve, and the child performs the parent's steps, too.
    """

    name = "spawn"
    flags: int
    names: tuple[str, ...]
    fork_because: str = ""  # why it needs memory of its own, "" if it does not
    time_offsets: dict[str, tuple[int, int]] = {}  # clock -> (s, ns)
    time_namespace: bool = False
    cpus: tuple[int, ...] = ()  # where the parent runs while it forks, () for no change
    # namespaces that an intermediate process enters before it creates the child, user last
    enters: tuple[int, ...] = ()

    def what(self) -> str:
        way = "fork" if self.fork_because else "vfork"
        more = ", as root of the user namespace" * bool(self.enters)
        return f"{way}, with new namespaces: {', '.join(self.names) or 'none'} (clone3){more}"


class RecordPid(ParentStep):
    """Pid and start time are recorded before the child continues."""

    name = "record"

    def what(self) -> str:
        return "record pid and start time"


class AdjustOomScore(ParentStep):
    """The out-of-memory killer's preference."""

    name = "oom score"
    score: int

    def what(self) -> str:
        return f"set oom_score_adj to {self.score}"


class WritePidFile(ParentStep):
    """The pid, as the caller sees it, for a supervisor of the container."""

    name = "pid file"
    path: str

    def what(self) -> str:
        return f"write the pid to {self.path}"


class SendPidfd(ParentStep):
    """A descriptor of the process, which stays valid when its pid is reused."""

    name = "pidfd"
    path: str

    def what(self) -> str:
        return f"send a pidfd to the socket {self.path}"


class Announce(ParentStep):
    """The state becomes "created"."""

    name = "created"

    def what(self) -> str:
        return "mark the container as created"
