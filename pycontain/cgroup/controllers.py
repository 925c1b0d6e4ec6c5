"""
Controllers: which ones a cgroup has, enabling them for its children, and why one is missing.

A controller works in a cgroup only if every cgroup above enables it in cgroup.subtree_control, and
in v2 only if no v1 hierarchy uses it (cgroups(7)).
"""

from __future__ import annotations

import errno

from ..errors import HostError, KernelError, StateError, reason
from ..kernel.files import read_text
from ..lean import os
from .place import mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..plan.resources import Setting

_OLD_NAMES = {"io": "blkio"}  # the v1 name, where it differs

_THREADED = {"cpu", "cpuset", "perf_event", "pids"}  # cgroups(7), Thread mode

_OTHERWISE = "remove the limit, or run without it: --cgroup-missing warn"

_REMEDIES = {
    errno.EBUSY: "move the processes of {cgroup} into a cgroup below it",
    errno.EINVAL: "move realtime processes into the root cgroup: the cpu controller requires it",
    errno.EACCES: "run as root, or have the controller delegated: systemctl edit user@.service,"
    " [Service] Delegate=cpu cpuset io memory pids",
    errno.EROFS: "mount cgroup2 read-write",
}


def of(directory: str) -> list[str]:
    """The controllers that are available in this cgroup."""
    return _words(f"{directory}/cgroup.controllers")


def enable(directory: str, names: set[str]) -> None:
    """
    Enable the wanted controllers that are available, for the cgroups below this one.

    A refusal by the kernel is ignored: it matters only if a limit is then written, and that error
    can name the limit (`provide`).
    """
    missing = names.difference(_words(f"{directory}/cgroup.subtree_control"))
    off = [name for name in of(directory) if name in missing] if missing else []
    if off and _enable(directory, off):  # one write is all or nothing
        for name in off:
            _enable(directory, [name])


def _enable(directory: str, names: list[str]) -> int:
    """
    Enable controllers; returns 0 or the errno of the refusal.

    Does nothing in a cgroup with processes, and returns EBUSY. The kernel would accept threaded
    controllers, such as cpu, but then no process could enter a cgroup below: cgroups(7), Thread
    mode, "domain invalid".
    """
    if _is_occupied(directory):
        return errno.EBUSY
    try:
        with open(f"{directory}/cgroup.subtree_control", "wb", buffering=0) as file:
            file.write(" ".join(f"+{name}" for name in names).encode())
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def check_can_hold_processes(directory: str) -> None:
    """
    Raises StateError for a cgroup that enables controllers for the cgroups below it.

    Such a cgroup cannot have processes of its own: cgroups(7), "no internal processes" rule.
    """
    if on := sorted({*_words(f"{directory}/cgroup.subtree_control")} - _THREADED):
        raise StateError(
            f"cannot have processes: it enables {', '.join(on)} for the cgroups below it",
            at=directory,
            remedy="choose another linux.cgroupsPath, or clear its cgroup.subtree_control",
        )


def _is_occupied(directory: str) -> bool:
    """Whether processes are in this cgroup itself; in the root cgroup they do not matter."""
    if not os.path.exists(f"{directory}/cgroup.type"):  # which the root does not have
        return False
    try:
        return bool(_words(f"{directory}/cgroup.procs"))
    except KernelError:
        return False  # EOPNOTSUPP: a threaded one


def absence(
    mount: str, setting: Setting, mountinfo: str = "/proc/self/mountinfo"
) -> HostError | None:
    """The error for a limit whose controller cgroup v2 does not have; None if it does."""
    if setting.controller == "cgroup" or setting.controller in of(mount):
        return None
    return _not_in_v2(setting, mountinfo)


def provide(mount: str, path: str, setting: Setting) -> HostError | None:
    """
    Enable the controller of a limit, which v2 has, in every cgroup above this one.

    Raises HostError that names the limit, the controller and what prevents it. If the controller is
    only not delegated to this user, the error is returned instead.
    """
    if setting.controller == "cgroup":  # the core's own files need none
        return None
    above = mount
    for name in path.strip("/").split("/"):
        on = _words(f"{above}/cgroup.subtree_control")
        if setting.controller not in on and (number := _enable(above, [setting.controller])):
            error = _refused(setting, above, number)
            if number == errno.EACCES:
                return error
            raise error
        above = f"{above}/{name}"
    return None


def _not_in_v2(setting: Setting, mountinfo: str) -> HostError:
    controller = setting.controller
    old = _OLD_NAMES.get(controller, controller)
    for point, options in mounts("cgroup", mountinfo):
        if old in options:
            why = f"the {controller} controller belongs to the cgroup v1 hierarchy at {point}"
            return cannot(setting, why, f"boot with cgroup_no_v1=all, {_OTHERWISE}")
    why = f"cgroup v2 has no {controller} controller on this kernel"
    return cannot(setting, why, f"see /proc/cgroups, {_OTHERWISE}")


def _refused(setting: Setting, directory: str, number: int) -> HostError:
    file = f"{directory}/cgroup.subtree_control"
    why = f"{file} does not accept +{setting.controller}: {reason(number)}"
    return cannot(setting, why, _REMEDIES.get(number, "").format(cgroup=directory))


def refuse(error: HostError) -> None:
    """The default for limits that cannot be applied: raise the error."""
    raise error


def cannot(setting: Setting, why: str, remedy: str = "remove the limit") -> HostError:
    """The error for a limit that this host cannot apply."""
    value = setting.value
    return HostError(f"cannot be applied: {why}", at=setting.at, value=value, remedy=remedy)


def _words(file: str) -> list[str]:
    return read_text(file).split()


def delegated_files() -> list[str]:
    """The files of a cgroup that change owner when it is delegated (Linux 4.15)."""
    try:
        return _words("/sys/kernel/cgroup/delegate")
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
    return ["cgroup.procs", "cgroup.subtree_control", "cgroup.threads"]  # sysfs is not mounted
