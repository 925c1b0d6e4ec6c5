"""Tree: mounts created detached, with their flags, and attached to descriptors."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pycontain.errors import KernelError
from pycontain.kernel import calls, mounts
from pycontain.kernel import const as c
from pycontain.kernel.mounts import Tree
from tests.conformance import mountinfo
from tests.conformance.mountinfo import Mounted

pytestmark = pytest.mark.needs_root


@pytest.fixture
def target(tmp_path: Path, shared_mounts: None) -> Iterator[Path]:
    """A folder to mount on; it is unmounted at the end."""
    made = tmp_path / "target"
    made.mkdir()
    yield made
    while made in map(Path, mounted()):
        calls.umount2(str(made), c.MNT_DETACH)


@pytest.fixture
def attach(target: Path) -> Callable[[Tree], Mounted]:
    def attach(tree: Tree) -> Mounted:
        fd = os.open(target, os.O_PATH)
        tree.attach(fd, str(target))
        os.close(fd)
        os.close(tree.fd)
        return mounted()[str(target)]

    return attach


def mounted() -> dict[str, Mounted]:
    return mountinfo.read(Path("/proc/self/mountinfo").read_text())


def test_a_new_file_system_is_not_visible_until_it_is_attached(target, attach):
    tree = Tree.new("tmpfs", ("size=64k", "mode=700"), c.MOUNT_ATTR_NOSUID, "name")
    assert str(target) not in mounted()
    found = attach(tree)
    assert (found.kind, found.source) == ("tmpfs", "name")
    assert "size=64k" in found.superblock
    assert "nosuid" in found.options


def test_attributes_can_be_set_and_cleared(attach):
    tree = Tree.new("tmpfs", (), c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NOEXEC)
    tree.set(c.MOUNT_ATTR_RDONLY, c.MOUNT_ATTR_NOSUID)
    tree.set(0, 0)
    assert attach(tree).options == {"ro", "noexec", "relatime"}


def test_a_clone_is_a_mount_of_its_own(tmp_path, attach):
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    fd = os.open(source, os.O_PATH)
    tree = Tree.clone(fd, at=str(source))
    os.close(fd)
    tree.set(c.MOUNT_ATTR_RDONLY, 0)
    attach(tree)
    with pytest.raises(OSError, match="Read-only"):
        (tmp_path / "target/file").write_text("y")
    (source / "file").write_text("z")
    assert (tmp_path / "target/file").read_text() == "z"


@pytest.mark.parametrize(
    ("kind", "shown"),
    [(c.MS_SHARED, {"shared"}), (c.MS_PRIVATE, set()), (c.MS_UNBINDABLE, {"unbindable"})],
)
def test_the_propagation_of_a_mount_is_set(target, attach, kind, shown):
    attach(Tree.new("tmpfs"))
    tree = Tree(os.open(target, os.O_PATH))
    tree.propagate(kind)
    os.close(tree.fd)
    assert mounted()[str(target)].propagation == shown


def test_reconfiguring_changes_the_options_of_the_file_system(target, attach):
    attach(Tree.new("tmpfs", ("size=64k",)))
    tree = Tree(os.open(target, os.O_PATH))
    tree.reconfigure(("size=128k", "ro"), str(target))
    assert {"ro", "size=128k"} <= mounted()[str(target)].superblock
    with pytest.raises(KernelError) as caught:
        tree.reconfigure(("nonsense=1",), str(target))
    os.close(tree.fd)
    assert "nonsense" in str(caught.value)


def test_an_unknown_file_system_is_named():
    with pytest.raises(KernelError) as caught:
        Tree.new("nofs")
    assert str(caught.value) == "fsopen: nofs is not a file system that this kernel supports"
    assert caught.value.errno == errno.ENODEV


@pytest.mark.parametrize(
    ("option", "message"), [("sise=1", "sise"), ("size=many", "size"), ("uid=x", "uid")]
)
def test_an_error_contains_the_file_systems_own_message(option, message):
    with pytest.raises(KernelError) as caught:
        Tree.new("tmpfs", (option,))
    assert message in str(caught.value)
    assert "tmpfs" in str(caught.value)


def test_a_failed_mount_leaves_no_descriptor_open():
    before = sorted(os.listdir("/proc/self/fd"))
    for kind, options in (("nofs", ()), ("tmpfs", ("sise=1",)), ("overlay", ("lowerdir=/none",))):
        with pytest.raises(KernelError):
            Tree.new(kind, options)
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_mount_that_cannot_be_cloned_is_named(tmp_path, target, attach):
    attach(Tree.new("tmpfs"))
    tree = Tree(os.open(target, os.O_PATH))
    tree.propagate(c.MS_UNBINDABLE)
    with pytest.raises(KernelError) as caught:
        Tree.clone(tree.fd, at="the mount")
    os.close(tree.fd)
    assert "the mount" in str(caught.value)


def test_a_mount_point_may_have_any_name(tmp_path):
    """Only space, tab, newline and backslash are escaped: proc_pid_mountinfo(5)."""
    info = tmp_path / "mountinfo"
    names = ["/x\ry", "/with\\040space\\134", "/\u2028", "/new\\012line"]
    lines = [f"{n} 1 0:2 / {name} rw - tmpfs none rw,size=1" for n, name in enumerate(names)]
    info.write_text("\n".join(lines) + "\n")
    assert [found[:2] for found in mounts.mounted(str(info))] == [
        (0, "/x\ry"), (1, "/with space\\"), (2, "/\u2028"), (3, "/new\nline"),
    ]  # fmt: skip
