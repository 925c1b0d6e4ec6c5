"""
No device file and no link is created in, or removed from, a /dev that is the host's.

The configuration need not say that it is: a link of the image leads a volume there, or the root has
it below. As in CVE-2026-41579, ptmx of the host would be replaced.
"""

from __future__ import annotations

import os
import stat

import pytest

from pycontain.errors import StepError
from pycontain.init import devices, host_mounts, process
from pycontain.init.context import Context
from pycontain.kernel import calls
from pycontain.kernel import const as c
from pycontain.plan import steps
from pycontain.plan.devices import DEFAULT_DEVICES, DEFAULT_LINKS
from pycontain.plan.steps import host_mounts as without
from tests.bundles import MOUNTS, fill_rootfs
from tests.security.attack import in_a_child, mount_by_path, snapshot
from tests.security.test_swapped_mount_points import build_root

pytestmark = pytest.mark.needs_root

PROC = MOUNTS[0]
FUSE = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}


@pytest.fixture
def dev(tmp_path):
    """A directory that is like the host's /dev."""
    folder = tmp_path / "dev"
    folder.mkdir()
    os.mknod(folder / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(folder / "ptmx", stat.S_IFCHR | 0o666, os.makedev(5, 2))
    return folder


@pytest.fixture
def aliased(bundle, dev):
    """A bundle with that directory as a volume, which a link of the image leads to /dev."""
    bind = {"destination": "/volume", "source": str(dev), "options": ["rbind"]}
    made = bundle("echo ran", {"mounts": [PROC, bind]})
    (made.rootfs / "volume").symlink_to("dev")
    return made


def test_a_volume_that_a_link_leads_to_dev_is_left_alone(runtime, aliased, dev):
    before = snapshot(dev)
    assert runtime.output(aliased).out == "ran\n"
    assert snapshot(dev) == before


@pytest.mark.control
def test_a_naive_runtime_replaces_the_ptmx_of_the_host(aliased, dev, monkeypatch):
    monkeypatch.setattr(devices, "_is_the_hosts", lambda directory, context: False)

    def work():
        build_root(aliased, -1, "", "nothing is swapped")
        return os.readlink(dev / "ptmx"), sorted(os.listdir(dev))

    ptmx, names = in_a_child(work)
    assert ptmx == "pts/ptmx"
    assert {"zero", "tty", "fd", "stdin"} <= set(names)


def test_a_device_to_create_in_the_hosts_dev_is_refused_by_name(runtime, aliased, dev):
    aliased.edit({"linux.devices": [FUSE]})
    before = snapshot(dev)
    line = runtime.fails(aliased)
    assert "linux.devices[0] = /dev/fuse would be created on the host" in line
    assert snapshot(dev) == before


def test_a_device_that_exists_in_the_hosts_dev_is_used(runtime, aliased, dev):
    aliased.edit({"linux.devices": [{"path": "/dev/null", "type": "c", "major": 1, "minor": 3}]})
    runtime.output(aliased)
    aliased.edit({"linux.devices": [{"path": "/dev/ptmx", "type": "c", "major": 1, "minor": 9}]})
    assert "/dev/ptmx exists and is not the device c 1:9" in runtime.fails(aliased)


@pytest.mark.parametrize("how", ["root.path", "a bind mount onto /"])
def test_a_dev_of_the_host_that_comes_with_the_root_is_left_alone(
    runtime, bundle, dev, how, tmp_path
):
    """As when the root is all of a host: its /dev is a mount of its own."""
    host = tmp_path / "host"
    fill_rootfs(host)
    mount_by_path("tmpfs", host / "dev")
    os.mknod(host / "dev/ptmx", stat.S_IFCHR | 0o666, os.makedev(5, 2))
    made = bundle("echo ran", {"mounts": [PROC]})
    if how == "root.path":
        made.edit({"root.path": str(host)})
    else:
        bind = {"destination": "/", "source": str(host), "options": ["rbind"]}
        made.edit({"mounts": [bind, PROC]})
    before = snapshot(host / "dev")
    done = runtime.run(made)
    after = snapshot(host / "dev")
    calls.umount2(str(host / "dev"), c.MNT_DETACH)
    assert (done.status, done.out, after) == (0, "ran\n", before), done


# --- without a mount namespace, and with the host's own root -------------------------------------


@pytest.fixture
def as_root(tmp_path, dev):
    """Calls a function in a child whose own root directory is like that of a host."""
    host = tmp_path / "host"
    (host / "etc").mkdir(parents=True)
    dev.rename(host / "dev")

    def run(work):
        def inside():
            context = Context(None)
            os.chroot(host)
            os.chdir("/")
            host_mounts.open_root(without.OpenRoot(path="/"), context)
            try:
                work(context)
            except StepError as error:
                return str(error)
            return ""

        before = snapshot(host)
        said = in_a_child(inside)
        assert snapshot(host) == before
        return said

    return run


def test_default_devices_in_the_hosts_dev_are_those_of_the_host(as_root):
    def work(context):
        devices.make_devices(steps.MakeDevices(nodes=DEFAULT_DEVICES), context)
        devices.link_devices(steps.LinkDevices(links=DEFAULT_LINKS), context)

    assert as_root(work) == ""


@pytest.mark.parametrize("path", ["/dev/fuse", "/deep/er/disk"])
def test_other_devices_in_the_hosts_dev_are_refused_by_name(as_root, path):
    node = steps.DeviceNode(path=path, type="c", major=10, minor=229, at="linux.devices[3]")
    said = as_root(lambda context: devices.make_devices(steps.MakeDevices(nodes=(node,)), context))
    assert said.startswith(f"linux.devices[3] = {path} would be created on the host; add ")


def test_a_working_directory_is_not_created_on_the_host(as_root):
    def work(context):
        process.enter_directory(steps.EnterDirectory(path="/new/er"), context)

    assert as_root(work) == (
        "process.cwd = /new/er does not exist, and would be created on the host, whose root this is"
    )


def test_paths_to_hide_are_refused_by_name(as_root):
    paths = (("/missing", "linux.maskedPaths[0]"), ("/etc", "linux.maskedPaths[1]"))

    def work(context):
        host_mounts.require_missing(without.RequireMissing(paths=paths), context)

    assert as_root(work).startswith(
        "linux.maskedPaths[1] = /etc would be mounted over on the host without a mount namespace"
    )
