"""What a container's first process keeps from one step to the next."""

from __future__ import annotations

from ..kernel import calls
from ..kernel.root import Root

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ..kernel.bare import Orders, SharedPid
    from ..kernel.mounts import Tree
    from ..plan.ids import Ids
    from ..plan.walk import Turn
    from ..vm.contained import Monitor
    from ..wire.sync import Channel


class Context:
    """
    The child's working state. Descriptors here live until execve closes them.

    channel        to the parent; None for a child of vfork
    start          the FIFOs at which the child waits for `start`; None for run and exec
    namespaces     CLONE_NEW* -> descriptor, of those to join
    network        the network namespace, if it was created ahead of time; else -1
    trees          detached mounts that the parent has prepared: JSON or device's path -> descriptor
    stage          where those were attached (`launch.intermediate`), -1 for nowhere
    ids            which ids of the host the container's are; None without a user namespace
    root_ids       uid and gid of the host that the container's root is
    target         a pidfd of the container's first process, for exec
    cgroup         the directory of the container's cgroup
    console        where the terminal's master is sent; -1 without a terminal
    seccomp        the compiled system call filter
    listener       of the system call filter, once that is loaded
    kept           more descriptors that are needed until the end
    hook_state     the state that hooks get, without status and pid
    root           the root file system, from the step that binds it
    mount_point    the directory of the host that it is mounted on
    shares_root    the root file system is the host's own root
    filesystems    mounts of file systems that were created for the container
    late           target -> mount, of those that become read-only after everything is created
    preserved      how many descriptors after the standard ones are the program's
    program, env   what execve gets, from the step that finds the program
    monitor        of the program's virtual machine; None without one
    new_times      the times of steps that were not sent to the parent yet

    Where the program's process is created in a pid namespace that others are in:

    turns          the plan, whose last steps are that process's
    orders         the system calls that it will make
    entrance       its ends of the pipes to the parent
    shared_pid     where the parent finds its pid
    """

    __slots__ = (
        "cgroup", "channel", "console", "entrance", "env", "filesystems", "hook_state", "ids",
        "kept", "late", "listener", "monitor", "mount_point", "namespaces", "network", "new_times",
        "orders", "preserved", "program", "root", "root_ids", "seccomp", "shared_pid",
        "shares_root", "stage", "start", "target", "trees", "turns",
    )  # fmt: skip

    def __init__(self, channel: Channel | None) -> None:
        self.channel = channel
        self.start: Channel | None = None
        self.namespaces: dict[int, int] = {}
        self.trees: dict[str, int] = {}
        self.stage = -1
        self.ids: Ids | None = None
        self.root_ids = 0, 0
        self.network = -1
        self.target = -1
        self.cgroup = ""
        self.console = -1
        self.preserved = 0
        self.seccomp = b""
        self.listener = -1
        self.kept: tuple[int, ...] = ()
        self.hook_state: dict[str, object] = {}
        self.root: Root | None = None
        self.mount_point = -1
        self.shares_root = False
        self.filesystems: list[int] = []
        self.late: dict[str, Tree] = {}
        self.program = ""
        self.env: dict[str, str] = {}
        self.monitor: Monitor | None = None
        self.new_times: Callable[[], list[tuple[str, int]]] = list
        self.turns: Sequence[Turn] = ()
        self.orders: Orders | None = None
        self.entrance: Channel | None = None
        self.shared_pid: SharedPid | None = None

    def close_others(self) -> None:
        """
        Close every descriptor that no later step needs.

        Until now the child held files of the host: any process in its pid namespace could have
        reached them through /proc/PID/fd (CVE-2016-9962, CVE-2024-21626).
        """
        root = self.root = Root(self.inside.fd)  # the mounts that the old one remembers are closed
        self.mount_point, self.filesystems = -1, []
        kept = {self.console, root.fd, *self.kept, *(tree.fd for tree in self.late.values())}
        if self.monitor is not None:
            kept |= self.monitor.fds
        for channel in (self.channel, self.start, self.entrance):
            if channel is not None:
                kept |= channel.fds
        self.close_but(kept)

    def close_but(self, kept: set[int]) -> None:
        """Close every descriptor but these, the standard ones and the program's."""
        first = 3 + self.preserved
        for fd in sorted(fd for fd in kept if fd >= first):
            if fd > first:
                calls.close_range(first, fd - 1)
            first = fd + 1
        calls.close_range(first)

    @property
    def parent(self) -> Channel:
        """The channel to the parent; only a child that has its own memory has one."""
        assert self.channel is not None
        return self.channel

    @property
    def inside(self) -> Root:
        """The root file system; only for steps after the one that binds it."""
        assert self.root is not None
        return self.root
