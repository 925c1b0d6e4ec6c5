from __future__ import annotations

import os
from pathlib import Path

import pytest

from pycontain.cgroup.place import find_mount, mounts, own, resolve
from pycontain.errors import KernelError, SpecError

SESSION = "/user.slice/user-0.slice/session-1.scope"


@pytest.mark.parametrize(
    ("cgroups_path", "runtime", "path"),
    [
        ("/pods/a/b", SESSION, "/pods/a/b"),
        ("//pods/./a/", SESSION, "/pods/a"),
        ("/../../etc", SESSION, "/etc"),
        (None, SESSION, "/user.slice/user-0.slice/web"),
        ("pods/a", SESSION, "/user.slice/user-0.slice/pods/a"),
        ("../../pods", SESSION, "/user.slice/user-0.slice/pods"),
        (None, "/", "/web"),
        (None, "/../outside/x", "/outside/web"),
        (None, "/system.slice/podman.service", "/machine.slice/machine-pycontain.slice/web"),
    ],
)
def test_a_container_gets_a_cgroup_below_the_mount_or_beside_the_runtime(
    cgroups_path: str | None, runtime: str, path: str
) -> None:
    assert resolve(cgroups_path, "web", runtime) == path


@pytest.mark.parametrize("cgroups_path", ["/", "//", "/a/..", ".", "a/.."])
def test_the_cgroup_of_others_is_refused(cgroups_path: str) -> None:
    with pytest.raises(SpecError) as caught:
        resolve(cgroups_path, "web", SESSION)
    assert caught.value.fault.at == "linux.cgroupsPath"


def test_mounts_are_read_from_mountinfo_with_their_escapes(tmp_path: Path) -> None:
    file = tmp_path / "mountinfo"
    file.write_text(
        "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
        "36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw shared:9 - cgroup x rw,cpu,cpuacct\n"
        "41 31 0:38 / /mnt/two\\040words\\134 rw - cgroup2 cgroup2 rw,nsdelegate\n"
    )
    assert list(mounts("cgroup", str(file))) == [
        ("/sys/fs/cgroup/cpu,cpuacct", ["rw", "cpu", "cpuacct"])
    ]
    assert list(mounts("cgroup2", str(file))) == [("/mnt/two words\\", ["rw", "nsdelegate"])]


def test_the_mount_and_the_cgroup_of_this_process_are_found() -> None:
    directory = Path(find_mount() + own())
    assert str(os.getpid()) in (directory / "cgroup.procs").read_text().split()


def test_a_missing_process_is_named() -> None:
    with pytest.raises(KernelError, match="/proc/0/cgroup does not exist"):
        own(0)
