"""
A mount point is renamed while a container is created.

Another container that shares the rootfs does not see its mount points and may rename them:
renameat2(2) exchanges /proc with a decoy, masks and read-only paths land on the decoy, and once
the names are back the container has a /proc without them.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import time

import pytest

from pycontain.init import devices, protection, rootfs  # noqa: F401 -- their steps
from pycontain.init.context import Context
from pycontain.kernel import calls
from pycontain.kernel import const as c
from pycontain.kernel.root import Root
from pycontain.plan import plan as planning
from pycontain.plan import steps
from pycontain.plan.facts import Facts
from pycontain.plan.request import Request
from pycontain.plan.walk import child_step
from pycontain.spec.parse import parse
from tests.bundles import MOUNTS
from tests.security.attack import filesystem_at, in_a_child, mount_points
from tests.security.test_mount_race import swap

pytestmark = pytest.mark.needs_root

MASKED = ["/proc/keys", "/proc/irq", "/sys/firmware"]
PROTECTED = ["/proc/sys", "/proc/version"]
SYSFS = {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid"]}
FOLDERS = ("proc/irq", "proc/sys/kernel", "dev/pts", "dev/shm", "dev/net", "sys/firmware")
FILES = ("proc/keys", "proc/version", "proc/uptime", "proc/sys/kernel/core_pattern")


@pytest.fixture
def made(bundle):
    """A bundle whose image has a decoy beside each mount point: decoy-proc and so on."""
    changes = {"linux.maskedPaths": MASKED, "linux.readonlyPaths": PROTECTED}
    made = bundle("true", {**changes, "mounts": [*MOUNTS, SYSFS]})
    for name in FOLDERS:
        (made.rootfs / f"decoy-{name}").mkdir(parents=True)
    for name in FILES:
        (made.rootfs / f"decoy-{name}").touch()
    return made


@pytest.fixture
def outside():
    """The mount namespace of the attacker."""
    namespace = os.open("/proc/self/ns/mnt", os.O_RDONLY)
    yield namespace
    os.close(namespace)


def swap_from(outside, made, name):
    """Exchange /name with its decoy, from a namespace where it is not a mount point."""
    pid = os.fork()
    if pid == 0:
        calls.setns(outside, c.CLONE_NEWNS)
        swap(made.rootfs / name, made.rootfs / f"decoy-{name}")
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0


def is_child_step(step):
    return isinstance(step, (steps.MountStep, *BUILDING))


BUILDING = (
    steps.BindRoot, steps.MakeDevices, steps.LinkDevices, steps.MakePlaces, steps.ProtectPaths,
    steps.MaskPaths, steps.MakeReadOnly,
)  # fmt: skip


def build_root(made, outside, name, after):
    """
    Perform the steps that build the root, as the container's first process does.

    Right after the first step that mounts on `after`, /name is exchanged with its decoy; at the end
    the names are restored.
    """
    request = Request(id="x", bundle=str(made.path))
    facts = Facts(last_capability=40, permitted=0, bounding=0)
    plan = planning.build(parse(json.dumps(made.config)), request, facts)
    context = Context(None)
    swaps = 0
    for step in filter(is_child_step, plan.steps):
        child_step.perform(step, context)
        if getattr(step, "target", "") == after and not swaps:
            swap_from(outside, made, name)
            swaps += 1
    if swaps:
        swap_from(outside, made, name)


def kind(path):
    return stat.S_IFMT(os.lstat(path).st_mode)


def is_read_only(path):
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def what_is_open(made):
    """The masked or read-only paths of the container that are not protected."""
    root = made.rootfs
    assert filesystem_at(root / "proc") == c.PROC_SUPER_MAGIC
    masked = {
        "/proc/keys": kind(root / "proc/keys") == stat.S_IFCHR,
        "/proc/irq": filesystem_at(root / "proc/irq") == c.TMPFS_MAGIC,
        "/sys/firmware": filesystem_at(root / "sys/firmware") == c.TMPFS_MAGIC,
        **{path: is_read_only(f"{root}{path}") for path in PROTECTED},
    }
    return [path for path, closed in masked.items() if not closed]


def from_the_root(monkeypatch):
    """The naive way: each path is looked up from the root, whatever was mounted where."""
    monkeypatch.setattr(Root, "_trusted_place", lambda self, path: ("", path))


OF = {"proc": [*MASKED[:2], *PROTECTED], "sys": MASKED[2:]}


@pytest.mark.parametrize("name", OF)
def test_masks_and_read_only_paths_are_where_the_mount_is(made, outside, name):
    def work():
        build_root(made, outside, name, f"/{name}")
        return what_is_open(made)

    assert in_a_child(work) == []


@pytest.mark.control
@pytest.mark.parametrize("name", OF)
def test_naive_masks_are_where_the_path_leads(made, outside, name, monkeypatch):
    from_the_root(monkeypatch)

    def work():
        build_root(made, outside, name, f"/{name}")
        return what_is_open(made)

    assert in_a_child(work) == OF[name]


def test_masks_and_read_only_paths_hold_on_a_bind_of_a_whole_proc(made, outside):
    bind = {"destination": "/proc", "source": "/proc", "options": ["rbind"]}
    made.edit({"mounts": [bind, *MOUNTS[1:], SYSFS]})

    def work():
        build_root(made, outside, "proc", "/proc")
        return what_is_open(made)

    assert in_a_child(work) == []


def test_masks_hold_when_all_of_proc_is_read_only(made, outside):
    """A read-only path that is a mount itself is not covered by another."""
    made.edit({"linux.readonlyPaths": ["/proc", "/sys", *PROTECTED]})

    def work():
        build_root(made, outside, "proc", "/proc")
        return what_is_open(made), is_read_only(made.rootfs / "proc")

    assert in_a_child(work) == [[], True]


def test_masks_hold_when_a_link_makes_all_of_proc_read_only(made, outside):
    made.edit({"linux.readonlyPaths": ["/link", *PROTECTED]})
    (made.rootfs / "link").symlink_to("proc")

    def work():
        build_root(made, outside, "", "nothing is swapped")
        return what_is_open(made)

    assert in_a_child(work) == []


# --- /dev ----------------------------------------------------------------------------------------

FUSE = {"path": "/dev/net/fuse", "type": "c", "major": 10, "minor": 229}


def dev_of(made, outside):
    """What is in /dev, and in the decoy, after an exchange in the middle."""
    made.edit({"linux.devices": [FUSE], "process.terminal": True})

    def work():
        build_root(made, outside, "dev", "/dev")
        dev, decoy = made.rootfs / "dev", made.rootfs / "decoy-dev"
        return [
            filesystem_at(dev / "pts") == c.DEVPTS_SUPER_MAGIC if (dev / "pts").exists() else False,
            sorted(os.listdir(dev)),
            sorted(os.listdir(decoy)),
            os.listdir(decoy / "net"),
        ]

    return in_a_child(work)


def test_devices_and_mounts_are_in_the_dev_that_was_mounted(made, outside):
    has_pts, dev, decoy, net = dev_of(made, outside)
    assert has_pts
    assert {"null", "tty", "stdin", "ptmx", "pts", "shm", "net", "console"} <= set(dev)
    assert (decoy, net) == (["net", "pts", "shm"], [])


@pytest.mark.control
def test_a_naive_runtime_creates_devices_and_mounts_in_the_decoy(made, outside, monkeypatch):
    from_the_root(monkeypatch)
    has_pts, dev, decoy, net = dev_of(made, outside)
    assert not has_pts
    assert dev == []
    assert "null" in decoy
    assert net == ["fuse"]


@pytest.fixture
def swapped_after_the_check(made, monkeypatch):
    """A /dev without a mount that is replaced with a link to another folder after the check."""
    made.edit({"mounts": MOUNTS[:1], "linux.devices": [FUSE]})
    (made.rootfs / "host").mkdir()
    (made.rootfs / "swapped").symlink_to("host")
    real = rootfs.real_directory

    def look(path, root):
        found = real(path, root)
        swap(made.rootfs / "dev", made.rootfs / "swapped")
        return found

    def work():
        context = Context(None)
        context.root = Root(os.open(made.rootfs, os.O_PATH))
        monkeypatch.setattr(devices, "real_directory", look)
        node = steps.DeviceNode(path="/dev/net/fuse", type="c", major=10, minor=229)
        devices.make_devices(steps.MakeDevices(nodes=(node,)), context)

    return work


def test_devices_are_created_in_the_dev_that_was_checked(made, swapped_after_the_check):
    in_a_child(swapped_after_the_check)
    assert os.listdir(made.rootfs / "host") == []
    assert os.listdir(made.rootfs / "swapped/net") == ["fuse"]


@pytest.mark.control
def test_a_naive_check_is_of_another_dev_than_the_one_that_is_filled(
    made, swapped_after_the_check, monkeypatch
):
    monkeypatch.setattr(
        devices, "_device_directory", lambda path, dev, inside: inside.make_directory(path)
    )
    in_a_child(swapped_after_the_check)
    assert os.listdir(made.rootfs / "host/net") == ["fuse"]


# --- what is changed after it was mounted --------------------------------------------------------


def test_a_remount_is_of_the_mount_that_was_made(made, outside):
    remount = {"destination": "/proc", "options": ["remount", "ro", "nosuid"]}
    made.edit({"mounts": [*MOUNTS, SYSFS, remount]})

    def work():
        build_root(made, outside, "proc", "/proc")
        return is_read_only(made.rootfs / "proc")

    assert in_a_child(work)


@pytest.mark.control
def test_a_naive_remount_finds_no_mount(made, outside, monkeypatch):
    from_the_root(monkeypatch)
    monkeypatch.setattr(Root, "mount", Root.open)
    test = test_a_remount_is_of_the_mount_that_was_made
    with pytest.raises(AssertionError, match="invalid argument"):
        test(made, outside)


def test_what_becomes_read_only_later_is_the_mount_that_was_made(made, outside):
    dev = {"destination": "/dev", "type": "tmpfs", "options": ["ro", "mode=755"]}
    made.edit({"mounts": [MOUNTS[0], dev, *MOUNTS[2:], SYSFS]})

    def work():
        build_root(made, outside, "dev", "/dev")
        return is_read_only(made.rootfs / "dev")

    assert in_a_child(work)


LONG = {
    "destination": "/dev",
    "type": "tmpfs",
    "options": ["nosuid", f"size={'0' * 300}64k", "mode=755"],
}


def test_a_mount_with_long_options_is_found_again_after_its_target_was_swapped(
    made, outside, monkeypatch
):
    """mount(2) gives no descriptor: what is looked up afterwards could be another mount."""
    made.edit({"mounts": [MOUNTS[0], LONG, SYSFS]})
    mount = calls.mount

    def work():
        def mount_and_swap(*arguments):
            mount(*arguments)
            swap_from(outside, made, "dev")

        monkeypatch.setattr(calls, "mount", mount_and_swap)
        build_root(made, outside, "dev", "no mount point")
        swap_from(outside, made, "dev")
        dev = made.rootfs / "dev"
        points = [point for point in mount_points() if point.startswith(str(made.rootfs))]
        flags = os.statvfs(dev).f_flag & os.ST_NOSUID
        return [filesystem_at(dev) == c.TMPFS_MAGIC, bool(flags), len(points) == len(set(points))]

    assert in_a_child(work) == [True, True, True]


# --- for real ------------------------------------------------------------------------------------

RUNS = 25
TRY = """
for place in /proc /decoy-proc; do
    cd $place
    test -e self/status || continue
    (: >>sys/kernel/core_pattern) 2>/dev/null && echo OPEN
    test -s keys && echo READ
    echo closed
done
"""


@pytest.fixture
def flipping(made):
    """A process that exchanges /proc with its decoy all the time."""
    pid = os.fork()
    if pid == 0:
        while True:
            swap(made.rootfs / "proc", made.rootfs / "decoy-proc")
            time.sleep(200e-6)
    yield
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_no_container_gets_an_unprotected_proc(runtime, made, flipping):
    made.edit({"process.args": ["sh", "-c", TRY]})
    words = [word for _ in range(RUNS) for word in runtime.run(made).words]
    assert set(words) == {"closed"}
