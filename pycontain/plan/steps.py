"""
The steps of a container's life, as data: what `plan` decides and the two processes carry out.

Each class is one kind of step. `side` says who carries it out: "parent" is the runtime on the
host, "child" the container's own first process. `what()` says what this very step does; `why` says
what asks for it, a JSON path of config.json or a rule.
"""

from __future__ import annotations

from ..record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import ClassVar

    from ..spec.records import DeviceRule, Hook
    from .resources import Setting
    from .seccomp import Profile


class Step(Record):
    """The base of all steps."""

    side: ClassVar[str] = "child"
    name: ClassVar[str] = ""
    why: str = ""

    def what(self) -> str:
        """What this step does, in one line."""
        raise NotImplementedError


class _ParentStep(Step):
    side: ClassVar[str] = "parent"


# --- the host is prepared ----------------------------------------------------------------------


class Reserve(_ParentStep):
    """The id is taken and the state directory made, before anything else exists."""

    name = "reserve"
    id: str

    def what(self) -> str:
        return f"make the state directory of {self.id}"


class MakeCgroup(_ParentStep):
    """The cgroup is made, with its limits, before the child that is born into it."""

    name = "cgroup"
    path: str | None
    controllers: tuple[str, ...]

    def what(self) -> str:
        with_ = f" with {', '.join(self.controllers)}" if self.controllers else ""
        return f"make the cgroup {self.path or 'of the id'}{with_}"


class LimitCgroup(_ParentStep):
    """The limits are written."""

    name = "limits"
    settings: tuple[Setting, ...]

    def what(self) -> str:
        return "write " + ", ".join(f"{s.file} = {s.value}" for s in self.settings)


class GiveCgroup(_ParentStep):
    """The container may divide its cgroup: the files for that become its user's."""

    name = "cgroup owner"
    uid: int

    def what(self) -> str:
        return f"give the cgroup to uid {self.uid}"


class FilterDevices(_ParentStep):
    """The device filter is attached to the cgroup."""

    name = "device filter"
    rules: tuple[DeviceRule, ...]

    def what(self) -> str:
        return f"attach an eBPF filter of {len(self.rules)} rules, then those of the defaults"


class CompileSeccomp(_ParentStep):
    """The system call filter is compiled, or taken from the cache."""

    name = "seccomp program"
    profile: Profile

    def what(self) -> str:
        return "compile the system call filter to BPF, or take it from the cache"


class OpenNamespaces(_ParentStep):
    """The namespaces to join are opened, and each checked to be of its type."""

    name = "open namespaces"
    paths: dict[int, str]  # CLONE_NEW* -> path
    foreign: tuple[int, ...] = ()  # those that must not be the runtime's own

    def what(self) -> str:
        return "open " + ", ".join(self.paths.values())


class ConnectConsole(_ParentStep):
    """The socket that will be sent the terminal is connected while its path still means that."""

    name = "console socket"
    path: str

    def what(self) -> str:
        return f"connect to {self.path}, which receives the terminal's master"


class Spawn(_ParentStep):
    """The child comes to life in its new namespaces. Child steps begin after this one."""

    name = "spawn"
    flags: int
    names: tuple[str, ...]
    join_pid: bool = False  # only children enter a pid namespace, so the parent joins it
    time_offsets: dict[str, tuple[int, int]] = {}  # clock -> (s, ns)
    time_namespace: bool = False

    def what(self) -> str:
        return f"clone3 with new namespaces: {', '.join(self.names) or 'none'}"


class RecordPid(_ParentStep):
    """The state file gets pid and start time before the child may go on."""

    name = "record"

    def what(self) -> str:
        return "write pid and start time to the state file"


class AdjustOomScore(_ParentStep):
    """The out-of-memory killer's preference."""

    name = "oom score"
    score: int

    def what(self) -> str:
        return f"set oom_score_adj to {self.score}"


# --- the child enters its world ----------------------------------------------------------------


class Guard(Step):
    """From here on no code is read from any disk."""

    name = "guard"
    preserve_fds: int = 0

    def what(self) -> str:
        return "seal imports, reset signals, mark descriptors close-on-exec"


class JoinKeyring(Step):
    """A session keyring of its own: the caller's secrets stay the caller's."""

    name = "keyring"

    def what(self) -> str:
        return "join a new session keyring"


class JoinProcess(Step):
    """The namespaces of a container's process are entered, all at once (setns(2), 5.8)."""

    name = "join"
    flags: int
    names: tuple[str, ...]

    def what(self) -> str:
        return f"enter the container's namespaces: {', '.join(self.names)}"


class JoinNamespaces(Step):
    """Existing namespaces are entered, the mount namespace last."""

    name = "join namespaces"
    kinds: tuple[int, ...]

    def what(self) -> str:
        return "enter the namespaces that were opened"


class Unshare(Step):
    """Namespaces that are to be made from within."""

    name = "unshare"
    flags: int
    names: tuple[str, ...]

    def what(self) -> str:
        return f"unshare {', '.join(self.names)}"


class RaiseLoopback(Step):
    """A new network namespace starts with `lo` down."""

    name = "loopback"

    def what(self) -> str:
        return "bring lo up"


# --- the file system ---------------------------------------------------------------------------


class BindRoot(Step):
    """The rootfs becomes a mount of its own that can be pivoted to."""

    name = "root"
    path: str
    propagation: int
    recursive: bool

    def what(self) -> str:
        return f"bind {self.path} as the root to be"


class ChangeDirectoryRoot(Step):
    """Without a mount namespace the root is changed for this process alone."""

    name = "chroot"
    path: str

    def what(self) -> str:
        return f"chroot to {self.path}"


class MountStep(Step):
    """What the three kinds of mount have in common."""

    target: str
    on: int = 0
    off: int = 0
    recursive_on: int = 0
    recursive_off: int = 0
    propagation: tuple[tuple[int, bool], ...] = ()  # (MS_*, recursive) in order


class MountFilesystem(MountStep):
    """A new file system is made and attached."""

    name = "mount"
    kind: str
    source: str
    options: tuple[str, ...] = ()
    copy_up: bool = False
    readonly_later: bool = False

    def what(self) -> str:
        options = f" ({','.join(self.options)})" if self.options else ""
        return f"mount {self.kind}{options} on {self.target}"


class MountBind(MountStep):
    """A part of the host's tree is cloned and attached."""

    name = "bind"
    source: str
    recursive: bool

    def what(self) -> str:
        return f"bind {self.source} on {self.target}{' with its submounts' * self.recursive}"


class MountCgroup(MountStep):
    """Without a cgroup namespace, the container's own part of the host's tree is shown."""

    name = "bind cgroup"

    def what(self) -> str:
        return f"bind the container's cgroup on {self.target}"


class Remount(MountStep):
    """A mount that is there gets other attributes."""

    name = "remount"
    options: tuple[str, ...] = ()
    bind: bool = False

    def what(self) -> str:
        return f"remount {self.target}"


class DeviceNode(Record):
    """A device file to make; type is "c", "b" or "p"."""

    path: str
    type: str
    major: int
    minor: int
    mode: int = 0o666
    uid: int = 0
    gid: int = 0


class MakeDevices(Step):
    """The default devices and those of the configuration."""

    name = "devices"
    nodes: tuple[DeviceNode, ...]

    def what(self) -> str:
        return "make " + ", ".join(node.path for node in self.nodes)


class LinkDevices(Step):
    """The links every program expects in /dev."""

    name = "links"
    links: tuple[tuple[str, str], ...]  # (path, target)

    def what(self) -> str:
        return "link " + ", ".join(path for path, _ in self.links)


class OpenTerminal(Step):
    """A terminal from the container's own devpts; its master goes to who asked for it."""

    name = "terminal"
    rows: int = 0
    columns: int = 0
    uid: int = 0
    mount: bool = True  # make it /dev/console

    def what(self) -> str:
        return "open a terminal, send its master away" + ", make it /dev/console" * self.mount


class RunHooks(_ParentStep):
    """Hooks that run in the runtime's namespaces."""

    name = "hooks"
    kind: str
    hooks: tuple[Hook, ...]

    def what(self) -> str:
        return f"run the {self.kind} hooks: {', '.join(hook.path for hook in self.hooks)}"


class RunContainerHooks(Step):
    """Hooks that run in the container's namespaces."""

    name = "container hooks"
    kind: str
    hooks: tuple[Hook, ...]

    def what(self) -> str:
        return f"run the {self.kind} hooks: {', '.join(hook.path for hook in self.hooks)}"


class ChangeRoot(Step):
    """The rootfs becomes "/" and the host's tree is let go."""

    name = "pivot"
    pivot: bool
    propagation: int = 0
    recursive: bool = False

    def what(self) -> str:
        return "pivot_root and detach the old root" if self.pivot else "chroot to the moved root"


class FreezeMounts(Step):
    """Mounts that had to be writable until now become read-only."""

    name = "freeze"
    targets: tuple[str, ...]

    def what(self) -> str:
        return f"make {', '.join(self.targets)} read-only"


class WriteSysctls(Step):
    """Kernel parameters, through a private /proc."""

    name = "sysctl"
    settings: tuple[tuple[str, str, str], ...]  # (file below /proc/sys, value, JSON path)

    def what(self) -> str:
        return "set " + ", ".join(f"{file} = {value}" for file, value, _ in self.settings)


class ProtectPaths(Step):
    """Paths that become read-only."""

    name = "readonly paths"
    paths: tuple[str, ...]

    def what(self) -> str:
        return f"make {len(self.paths)} paths read-only"


class MaskPaths(Step):
    """Paths that become empty."""

    name = "masked paths"
    paths: tuple[str, ...]

    def what(self) -> str:
        return f"hide {len(self.paths)} paths"


class SetHostname(Step):
    """The name of the UTS namespace."""

    name = "hostname"
    hostname: str | None = None
    domainname: str | None = None

    def what(self) -> str:
        names = (("host name", self.hostname), ("domain name", self.domainname))
        return "set " + ", ".join(f"{kind} {name}" for kind, name in names if name is not None)


# --- the process -------------------------------------------------------------------------------


class SetScheduler(Step):
    """CPU scheduling; times in nanoseconds."""

    name = "scheduler"
    policy: int
    flags: int
    nice: int
    priority: int
    runtime: int
    deadline: int
    period: int

    def what(self) -> str:
        return f"set scheduling policy {self.policy}"


class SetIoPriority(Step):
    """I/O scheduling."""

    name = "io priority"
    priority: int

    def what(self) -> str:
        return f"set I/O priority {self.priority:#x}"


class SetPersonality(Step):
    """The execution domain."""

    name = "personality"
    persona: int

    def what(self) -> str:
        return f"set personality {self.persona:#x}"


class StartSession(Step):
    """A session of its own, so that nothing can be typed into the caller's terminal."""

    name = "session"
    umask: int = 0o022

    def what(self) -> str:
        return f"start a session, set umask {self.umask:04o}"


class EnterDirectory(Step):
    """The working directory, made when missing."""

    name = "cwd"
    path: str
    make: bool = True

    def what(self) -> str:
        return f"change to {self.path} and check that it is inside"


class LoadSeccomp(Step):
    """The system call filter."""

    name = "seccomp"
    flags: int

    def what(self) -> str:
        return "install the system call filter"


class BoundCapabilities(Step):
    """Capabilities that no program started here can ever have are dropped."""

    name = "bounding set"
    keep: int  # bit mask
    last: int  # the highest capability the kernel knows

    def what(self) -> str:
        return f"keep the capabilities {self.keep:#x} in the bounding set"


class TakeUser(Step):
    """The process takes its groups, its gid and its uid."""

    name = "user"
    uid: int
    gid: int
    groups: tuple[int, ...]

    def what(self) -> str:
        groups = ",".join(map(str, self.groups)) or "none"
        return f"become uid {self.uid}, gid {self.gid}, groups {groups}"


class SetCapabilities(Step):
    """The four other sets, as bit masks."""

    name = "capabilities"
    effective: int
    permitted: int
    inheritable: int
    ambient: int

    def what(self) -> str:
        return (
            f"set capabilities: effective {self.effective:#x}, permitted {self.permitted:#x}, "
            f"inheritable {self.inheritable:#x}, ambient {self.ambient:#x}"
        )


class NoNewPrivileges(Step):
    """execve grants nothing from here on."""

    name = "no new privileges"

    def what(self) -> str:
        return "set no_new_privs"


class FindProgram(Step):
    """The program is looked up as the user it will run as, so that create already fails."""

    name = "find program"
    args: tuple[str, ...]
    env: tuple[str, ...]

    def what(self) -> str:
        return f"look up {self.args[0]}"


class SetRlimits(Step):
    """Resource limits, while there is still the right to raise them."""

    name = "rlimits"
    limits: tuple[tuple[str, int, int, int, str], ...]  # (name, number, soft, hard, JSON path)

    def what(self) -> str:
        return "set " + ", ".join(f"{name} {soft}:{hard}" for name, _, soft, hard, _ in self.limits)


class WritePidFile(_ParentStep):
    """The pid, as the caller sees it, for whoever supervises the container."""

    name = "pid file"
    path: str

    def what(self) -> str:
        return f"write the pid to {self.path}"


class SendPidfd(_ParentStep):
    """A descriptor of the process, which stays right when its pid is somebody else's."""

    name = "pidfd"
    path: str

    def what(self) -> str:
        return f"send a pidfd to the socket {self.path}"


class Announce(_ParentStep):
    """The container is created: its state says so."""

    name = "created"

    def what(self) -> str:
        return "mark the container created"


class AwaitStart(Step):
    """Everything is done but the program; `start` lets the child go on."""

    name = "wait for start"

    def what(self) -> str:
        return "wait for `start`"


class Execute(Step):
    """The child becomes the program."""

    name = "execve"
    args: tuple[str, ...]
    env: tuple[str, ...]
    preserve_fds: int = 0

    def what(self) -> str:
        return "execve " + " ".join(self.args)
