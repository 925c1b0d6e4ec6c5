"""Namespaces of config.json to flags and steps. config-linux.md, Namespaces; namespaces(7)."""

from __future__ import annotations

from ..kernel import const as c
from . import steps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.records import Linux
    from .ids import Ids

FLAGS = {
    "pid": c.CLONE_NEWPID,
    "network": c.CLONE_NEWNET,
    "mount": c.CLONE_NEWNS,
    "ipc": c.CLONE_NEWIPC,
    "uts": c.CLONE_NEWUTS,
    "cgroup": c.CLONE_NEWCGROUP,
    "time": c.CLONE_NEWTIME,
    "user": c.CLONE_NEWUSER,
}
# The names of the files in /proc/PID/ns.
FILES = {
    c.CLONE_NEWPID: "pid",
    c.CLONE_NEWNET: "net",
    c.CLONE_NEWNS: "mnt",
    c.CLONE_NEWIPC: "ipc",
    c.CLONE_NEWUTS: "uts",
    c.CLONE_NEWCGROUP: "cgroup",
    c.CLONE_NEWTIME: "time",
    c.CLONE_NEWUSER: "user",
}
# The mount namespace comes last: the files of the others are reached through the old one.
JOIN_ORDER = (
    c.CLONE_NEWIPC, c.CLONE_NEWUTS, c.CLONE_NEWNET, c.CLONE_NEWTIME, c.CLONE_NEWCGROUP,
    c.CLONE_NEWNS,
)  # fmt: skip
# Those that may belong to the host's user namespace are entered before another one is.
_BEFORE_USER = JOIN_ORDER[:-1]

# A cgroup namespace is rooted in its creator's cgroup, so the child creates it, once it is in the
# container's; only children enter a new time namespace, so the parent creates it, and a user
# namespace is created with its mappings before there is a child.
_FROM_WITHIN = c.CLONE_NEWCGROUP
_FROM_OUTSIDE = c.CLONE_NEWTIME | c.CLONE_NEWUSER


class Namespaces:
    """A container's list of namespaces, evaluated."""

    def __init__(self, linux: Linux, *, named: bool = False) -> None:
        """named: the container has a host or domain name."""
        listed = {FLAGS[entry.type]: entry for entry in linux.namespaces}
        self.joined = {flag: entry.path for flag, entry in listed.items() if entry.path}
        self.new = tuple(flag for flag in listed if flag not in self.joined)
        # what will be modified in a namespace, which must therefore not be the host's
        self.changed = {c.CLONE_NEWNS: "mounts"}
        if named:
            self.changed[c.CLONE_NEWUTS] = "hostname or domainname"
        if linux.sysctl:
            self.changed |= _changed(linux)
        self.devices = {name: device.name or name for name, device in linux.netDevices.items()}
        if self.devices:
            self.changed[c.CLONE_NEWNET] = "netDevices"
        self.ids: Ids | None = None
        if linux.uidMappings:
            from .ids import ids_of

            self.ids = ids_of(linux.uidMappings, linux.gidMappings)
        self.offsets = {
            clock: (offset.secs, offset.nanosecs) for clock, offset in linux.timeOffsets.items()
        }

    def has(self, flag: int) -> bool:
        """Whether the container is given a namespace of this type, new or joined."""
        return flag in self.new or flag in self.joined

    @property
    def joins_pids(self) -> bool:
        """Whether others are in the container's pid namespace, and can see its processes."""
        return c.CLONE_NEWPID in self.joined

    @property
    def has_user(self) -> bool:
        """Whether the container has a user namespace, to which its new namespaces belong."""
        return self.has(c.CLONE_NEWUSER)

    def open_steps(self) -> list[steps.Step]:
        """The parent opens the namespaces to join, and creates or examines a user namespace."""
        planned: list[steps.Step] = []
        if self.joined:
            foreign = {flag: self.changed[flag] for flag in self.joined if flag in self.changed}
            why = "linux.namespaces[].path"
            planned.append(steps.OpenNamespaces(paths=dict(self.joined), foreign=foreign, why=why))
        if self.has_user:
            from .steps import idmap

            why = "linux.uidMappings, linux.gidMappings"
            if c.CLONE_NEWUSER in self.joined:
                planned.append(idmap.ReadMappings(wanted=self.ids, why=why))
            else:
                assert self.ids is not None, "`spec.check` requires the mappings"
                planned.append(idmap.MakeUserNamespace(ids=self.ids, why=why))
        return planned

    def device_steps(self, *, joined: bool) -> list[steps.Step]:
        """The parent moves network devices, to a joined namespace while it is open."""
        if not self.devices or joined != (c.CLONE_NEWNET in self.joined):
            return []
        from .steps.netdevices import MoveDevices

        return [MoveDevices(names=self.devices, joined=joined, why="linux.netDevices")]

    def spawn(self, *, fork_because: str) -> steps.Spawn:
        """The child is created in the namespaces that clone3 can create."""
        flags = 0
        for flag in self.new:
            flags |= flag & ~(_FROM_WITHIN | _FROM_OUTSIDE)
        why = "linux.namespaces"
        return steps.Spawn(
            why=f"{why}; forked: {fork_because}" if fork_because else why,
            flags=flags,
            names=tuple(name for name, flag in FLAGS.items() if flags & flag),
            fork_because=fork_because,
            time_namespace=c.CLONE_NEWTIME in self.new,
            time_offsets=self.offsets,
            enters=(*self._to_join(_BEFORE_USER), c.CLONE_NEWUSER) if self.has_user else (),
        )

    def _to_join(self, kinds: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(flag for flag in kinds if flag in self.joined)

    def enter_steps(self) -> list[steps.Step]:
        """The child enters the rest, except for a pid namespace (`join_pids_steps`)."""
        planned: list[steps.Step] = []
        kinds = self._to_join((c.CLONE_NEWNS,) if self.has_user else JOIN_ORDER)
        if kinds:
            planned.append(steps.JoinNamespaces(kinds=kinds, why="linux.namespaces[].path"))
        if _FROM_WITHIN in self.new:
            planned.append(
                steps.Unshare(flags=_FROM_WITHIN, names=("cgroup",), why="linux.namespaces")
            )
        if c.CLONE_NEWNET in self.new:
            planned.append(steps.RaiseLoopback(why="it is down in a new network namespace"))
        return planned

    def join_pids_steps(self) -> list[steps.Step]:
        """
        From here on, the child's children are in a pid namespace that is joined.

        Not before the createContainer hooks, which have the host's root file system and all
        capabilities: they run outside of it, where no process of another container sees them.
        """
        if not self.joins_pids:
            return []
        return [steps.JoinPids(why="linux.namespaces[].path")]


def _changed(linux: Linux) -> dict[int, str]:
    """The namespaces to which the sysctls belong."""
    from ..spec import sysctl

    kinds = {FLAGS.get(sysctl.namespace(sysctl.path(key)), 0) for key in linux.sysctl}
    return dict.fromkeys(kinds, "linux.sysctl")
