"""
Saving a container with CRIU, and restoring it: what is requested, what CRIU is told, the plan.

CRIU saves what belongs to the processes. What the container has from outside (bind mounts, masked
files, a network namespace that it joined, its standard streams) is external: it is known by a name
when it is saved, and given again under this name. criu(8), --external and --inherit-fd.
"""

from __future__ import annotations

from ..errors import SpecError
from ..kernel import const as c
from ..lean.record import Record
from ..spec.records import Linux
from . import mounts, steps
from .namespaces import Namespaces
from .steps.criu import RestoreProcesses, SpawnCriu
from .walk import Turn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.records import Namespace, Spec

NETWORK = "pycontain-network"  # the name of a network namespace that was joined
# For restore: without it, criu 4.2 forgets from the second bind mount of one file system on that
# the mount is read-only, nosuid and so on.
MOUNTS = "--mntns-compat-mode"
_BEFORE = frozenset(
    ("reserve", "unit", "cgroup", "limits", "cgroup owner", "device filter", "start unit",
     "rdt group", "join rdt group")
)  # fmt: skip
_AFTER = frozenset(("pid file", "pidfd", "created"))
_SWITCHES = ("tcp_established", "ext_unix_sk", "shell_job", "file_locks", "auto_dedup",
             "lazy_pages")  # fmt: skip


class CriuRequest(Record):
    """
    What checkpoint and restore have in common.

    image_path          the directory of the images
    work_path           the directory of the log, "" for that of the images
    tcp_established     established TCP connections are saved, too
    ext_unix_sk         Unix sockets whose other end is outside are saved, too
    shell_job           the container may share the session of a shell
    file_locks          locks of files are saved, too
    empty_ns            the type of a namespace that is created, but not filled: "network"
    auto_dedup          memory is dropped from the images as soon as it is restored
    lazy_pages          memory is fetched from a page server when it is needed
    lsm_profile         TYPE:NAME, the profile to use instead of the saved one
    lsm_mount_context   the SELinux context for mounts, instead of the saved one
    """

    image_path: str = "checkpoint"
    work_path: str = ""
    tcp_established: bool = False
    ext_unix_sk: bool = False
    shell_job: bool = False
    file_locks: bool = False
    empty_ns: str = ""
    auto_dedup: bool = False
    lazy_pages: bool = False
    lsm_profile: str = ""
    lsm_mount_context: str = ""

    def arguments(self) -> list[str]:
        """These choices for criu."""
        made = [f"--{name.replace('_', '-')}" for name in _SWITCHES if getattr(self, name)]
        if self.empty_ns:
            made += ["--empty-ns", "net" if self.empty_ns == "network" else self.empty_ns]
        if self.lsm_profile:
            made += ["--lsm-profile", self.lsm_profile]
        if self.lsm_mount_context:
            made += ["--lsm-mount-context", self.lsm_mount_context]
        return made


def check(spec: Spec) -> None:
    """Raises SpecError for a container that cannot be saved, or not be restored."""
    if spec.process is not None and spec.process.terminal:
        raise SpecError(
            "cannot be saved: the other end of a terminal is outside of the container",
            at="process.terminal", value="true",
        )  # fmt: skip
    linux = _linux(spec)
    if linux.netDevices:
        raise SpecError("cannot be saved: they return to the host", at="linux.netDevices")
    if linux.seccomp is not None and linux.seccomp.listenerPath:
        raise SpecError(
            "cannot be saved: its agent is outside of the container",
            at="linux.seccomp.listenerPath", value=linux.seccomp.listenerPath,
        )  # fmt: skip
    for index, namespace in enumerate(linux.namespaces):
        _check_namespace(namespace, f"linux.namespaces[{index}]")


def _check_namespace(namespace: Namespace, at: str) -> None:
    if namespace.type == "user":
        why = "cannot be saved: in a user namespace the files of devices are outside"
        raise SpecError(why, at=f"{at}.type", value=namespace.type)
    if namespace.path and namespace.type != "network":
        raise SpecError(
            "is joined, and would be a new one after a restore",
            at=f"{at}.path", value=namespace.path, remedy="give the container one of its own",
        )  # fmt: skip


def bind_mounts(spec: Spec, bundle: str, rootfs: str) -> dict[str, str]:
    """Destination -> source, of what is mounted from the host."""
    made, _ = mounts.mount_steps(spec.mounts, bundle, has_cgroup_namespace(spec), rootfs)
    return {step.target: step.source for step in made if isinstance(step, steps.MountBind)}


def masked_paths(spec: Spec) -> list[str]:
    """The paths that /dev/null is mounted on, if they are files."""
    return [mounts.plain(path) for path in _linux(spec).maskedPaths]


def joined_network(spec: Spec) -> str:
    """The path of the network namespace that the container joins, "" if it has its own or none."""
    return Namespaces(_linux(spec)).joined.get(c.CLONE_NEWNET, "")


def has_cgroup_namespace(spec: Spec) -> bool:
    """Whether the container has a cgroup namespace of its own."""
    return c.CLONE_NEWCGROUP in Namespaces(_linux(spec)).new


def restoration(
    turns: tuple[Turn, ...], spawn: SpawnCriu, restore: RestoreProcesses
) -> tuple[Turn, ...]:
    """
    The turn that restores a container, made from those that would create it.

    The cgroup and its limits are made as always, from the configuration of now.
    """
    listed = [step for turn in turns for step in turn.steps]
    made: list[steps.Step] = []
    for step in listed:
        if isinstance(step, steps.Spawn):
            made += [spawn, steps.RecordPid(why="a container can always be deleted")]
        elif step.name in _BEFORE:
            made.append(step)
    made += [restore, steps.RecordPid(why="from here on it is the container's first process")]
    made += [step for step in listed if step.name in _AFTER]
    return (Turn(side="parent", steps=tuple(made)),)


def warnings(spec: Spec) -> list[str]:
    """What a restored container does without."""
    hooks = spec.hooks
    kinds = ("prestart", "createRuntime", "createContainer", "startContainer")
    named = [f"hooks.{kind}" for kind in kinds if hooks and getattr(hooks, kind)]
    return [f"{', '.join(named)}: not run by restore"] if named else []


def _linux(spec: Spec) -> Linux:
    return spec.linux or Linux(at="linux")
