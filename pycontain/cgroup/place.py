"""Where cgroups are: the mount point of cgroup2, the cgroup of a process, that of a container."""

from __future__ import annotations

from ..errors import HostError, SpecError
from ..kernel.files import read_bytes
from ..lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_mount_points = ["/sys/fs/cgroup"]  # where to look first, and where it was found


def find_mount() -> str:
    """
    Where cgroup2 is mounted: /sys/fs/cgroup or, beside v1, a mount point found in mountinfo.

    Raises HostError if it is mounted nowhere.
    """
    for point in _mount_points:  # mountinfo can be thousands of lines
        if _is_cgroup2(point):
            return point
    for point, _ in mounts("cgroup2"):
        if point not in _mount_points:
            _mount_points.append(point)
        return point
    raise HostError(
        "is not mounted", at="cgroup2", remedy="mount it: mount -t cgroup2 none /sys/fs/cgroup"
    )


def _is_cgroup2(directory: str) -> bool:
    from ..kernel import calls  # late: commands that only need a state file do not get here
    from ..kernel import const as c

    try:
        fd = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return False
    try:
        return calls.filesystem_type(fd) == c.CGROUP2_SUPER_MAGIC
    finally:
        os.close(fd)


def own(pid: int | str = "self") -> str:
    """The path of a process's cgroup below the cgroup2 mount point. cgroups(7)."""
    file = f"/proc/{pid}/cgroup"
    for line in os.fsdecode(read_bytes(file)).splitlines():
        if line.startswith("0::"):
            return line[3:]
    raise HostError("has no entry for cgroup2", at=file)


def resolve(cgroups_path: str | None, id: str, runtime: str) -> str:
    """
    The path of a container's cgroup, by the rules of runc.

    An absolute linux.cgroupsPath is below the mount point. A relative one, or the id if there is
    none, is beside the runtime's own cgroup, not below it: a cgroup with processes in it cannot
    enable controllers for its children. /system.slice is reserved for the services of systemd.
    """
    name = cgroups_path or id
    if name.startswith("/"):
        above = "/"
    else:
        above = os.path.dirname(runtime)
        above = "/machine.slice/machine-pycontain.slice" if above == "/system.slice" else above
    path = joined(above, name)
    if path == joined(above, ""):
        raise SpecError(
            "does not name a cgroup of the container's own", at="linux.cgroupsPath", value=name
        )
    return path


def joined(above: str, below: str) -> str:
    """One cgroup path appended to another; ".." cannot leave either of them."""
    parts = (os.path.normpath(f"/{part}").strip("/") for part in (above, below))
    return "/" + "/".join(part for part in parts if part)


def mounts(kind: str, mountinfo: str = "/proc/self/mountinfo") -> Iterator[tuple[str, list[str]]]:
    """The mount point and the options of each mount of this file system type."""
    from ..kernel.mounts import mounted  # late, as above

    for _, point, type_, options in mounted(mountinfo):
        if type_ == kind:
            yield point, options.split(",")
