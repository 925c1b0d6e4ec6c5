"""Device filters on the running kernel. What a program decides is tested in tests/unit."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pycontain.cgroup.devices import attach, detach
from pycontain.cgroup.place import find_mount
from pycontain.cgroup.tree import Cgroup
from pycontain.errors import KernelError
from pycontain.kernel import bpf, calls
from pycontain.kernel import const as c
from pycontain.plan.device_filter import DEFAULT_RULES, program
from pycontain.spec.records import DeviceRule

pytestmark = pytest.mark.needs_root

NOTHING = DeviceRule(at="r", allow=False, access="rwm")
ANYTHING = NOTHING.replace(allow=True)


@pytest.fixture
def cgroup() -> Iterator[Cgroup]:
    made = Cgroup(find_mount(), f"/pycontain-test-devices-{os.getpid()}")
    made.create()
    yield made
    made.remove()


def errno_inside(cgroup: Cgroup, action: Callable[[], object]) -> int:
    """The errno of the action in a process of the cgroup, 0 on success."""
    pid, pidfd = calls.clone3(0, cgroup.fd)
    if not pid:
        status = 255
        try:
            action()
            status = 0
        except OSError as error:
            status = error.errno or 254
        finally:
            os._exit(status)
    os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def opening(path: str | Path, flags: int = os.O_RDWR) -> Callable[[], object]:
    return lambda: os.open(path, flags)


def making(path: Path, kind: int, major: int, minor: int) -> Callable[[], object]:
    return lambda: os.mknod(path, kind | 0o600, os.makedev(major, minor))


def test_a_denied_device_can_be_neither_opened_nor_created(cgroup: Cgroup, tmp_path: Path) -> None:
    assert errno_inside(cgroup, opening("/dev/null")) == 0
    attach(cgroup.fd, program([NOTHING]))
    assert errno_inside(cgroup, opening("/dev/null")) == errno.EPERM
    assert errno_inside(cgroup, making(tmp_path / "n", stat.S_IFCHR, 1, 3)) == errno.EPERM
    assert errno_inside(cgroup, making(tmp_path / "b", stat.S_IFBLK, 7, 0)) == errno.EPERM
    assert not list(tmp_path.iterdir())


def test_files_other_than_devices_are_not_filtered(cgroup: Cgroup, tmp_path: Path) -> None:
    attach(cgroup.fd, program([NOTHING]))
    assert errno_inside(cgroup, opening(tmp_path / "file", os.O_RDWR | os.O_CREAT)) == 0
    assert errno_inside(cgroup, lambda: os.mkfifo(tmp_path / "fifo")) == 0


def test_the_defaults_allow_null_and_creating_but_not_opening_others(
    cgroup: Cgroup, tmp_path: Path
) -> None:
    attach(cgroup.fd, program([NOTHING, *DEFAULT_RULES]))
    assert errno_inside(cgroup, opening("/dev/null")) == 0
    assert errno_inside(cgroup, making(tmp_path / "kmsg", stat.S_IFCHR, 1, 11)) == 0
    assert errno_inside(cgroup, opening(tmp_path / "kmsg", os.O_RDONLY)) == errno.EPERM


def test_kinds_of_access_are_distinguished(cgroup: Cgroup) -> None:
    null = NOTHING.replace(allow=True, type="c", major=1, minor=3)
    attach(cgroup.fd, program([null, null.replace(allow=False, access="w")]))
    assert errno_inside(cgroup, opening("/dev/null", os.O_RDONLY)) == 0
    assert errno_inside(cgroup, opening("/dev/null", os.O_WRONLY)) == errno.EPERM
    assert errno_inside(cgroup, opening("/dev/null", os.O_RDWR)) == errno.EPERM


def test_a_second_filter_replaces_the_first(cgroup: Cgroup) -> None:
    attach(cgroup.fd, program([NOTHING]))
    attach(cgroup.fd, program([ANYTHING]))
    assert errno_inside(cgroup, opening("/dev/null")) == 0
    attach(cgroup.fd, program([NOTHING]))
    assert errno_inside(cgroup, opening("/dev/null")) == errno.EPERM


def test_a_filter_of_another_program_stays(cgroup: Cgroup) -> None:
    theirs = bpf.load(c.BPF_PROG_TYPE_CGROUP_DEVICE, program([NOTHING]), b"theirs")
    bpf.attach(cgroup.fd, c.BPF_CGROUP_DEVICE, theirs)
    os.close(theirs)
    attach(cgroup.fd, program([ANYTHING]))
    assert errno_inside(cgroup, opening("/dev/null")) == errno.EPERM


def test_detaching_leaves_the_filters_of_others(cgroup: Cgroup) -> None:
    detach(cgroup.fd)  # there is none
    attach(cgroup.fd, program([NOTHING]))
    detach(cgroup.fd)
    assert errno_inside(cgroup, opening("/dev/null")) == 0
    theirs = bpf.load(c.BPF_PROG_TYPE_CGROUP_DEVICE, program([NOTHING]), b"theirs")
    bpf.attach(cgroup.fd, c.BPF_CGROUP_DEVICE, theirs)
    os.close(theirs)
    attach(cgroup.fd, program([ANYTHING]))
    detach(cgroup.fd)
    assert errno_inside(cgroup, opening("/dev/null")) == errno.EPERM


def test_a_filter_applies_to_the_cgroups_below(cgroup: Cgroup) -> None:
    attach(cgroup.fd, program([NOTHING]))
    below = cgroup.below("inner")
    os.mkdir(below.directory)
    attach(below.fd, program([ANYTHING]))
    assert errno_inside(below, opening("/dev/null")) == errno.EPERM
    below.close()


def test_the_kernel_accepts_thousands_of_rules(cgroup: Cgroup) -> None:
    rules = [
        NOTHING.replace(allow=bool(minor % 2), type="c", major=99, minor=minor)
        for minor in range(5_000)
    ]
    attach(cgroup.fd, program([*rules, *DEFAULT_RULES]))
    assert errno_inside(cgroup, opening("/dev/null")) == 0


def test_an_error_contains_the_verifiers_message() -> None:
    endless = program([NOTHING])[:8]  # runs off its end
    with pytest.raises(KernelError, match=r"bpf PROG_LOAD: invalid argument: .+"):
        bpf.load(c.BPF_PROG_TYPE_CGROUP_DEVICE, endless, b"pycontain")


def test_the_device_filter_leaves_no_descriptor_open(cgroup: Cgroup) -> None:
    cgroup.fd  # noqa: B018
    before = os.listdir("/proc/self/fd")
    attach(cgroup.fd, program([NOTHING]))
    attach(cgroup.fd, program([ANYTHING]))
    detach(cgroup.fd)
    assert os.listdir("/proc/self/fd") == before
