"""
What a bind mount keeps of the flags that its source has. mount(8), "-o bind" with other options.

The specification refers to mount(8), which drops the source's flags when others are listed. A row
has what runc's main does, too; where runc 1.1 or crun 1.8 do something else, the row says what.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.kernel import calls
from pycontain.kernel import const as c
from pycontain.kernel.mounts import Tree
from tests.bundles import CONFIG
from tests.idmap import bundle_with_user

SOURCE = "ro,nodev,noexec,noatime"
CLEARED = "rw,noatime"
# options -> (what the mount then has, runc 1.1 where it differs, crun 1.8 where it differs)
CASES = {
    "bind": (SOURCE, "", CLEARED),
    "rbind,rprivate": (SOURCE, "", CLEARED),
    "bind,defaults": (SOURCE, "", CLEARED),
    "bind,rnosuid": ("ro,nosuid,nodev,noexec,noatime", "", "rw,nosuid,noatime"),
    "bind,ro": ("ro,noatime", "", ""),
    "bind,nosuid,nodev,rprivate": ("rw,nosuid,nodev,noatime", "", ""),
    "bind,nodev,ro": ("ro,nodev,noatime", "", ""),
    "bind,sync": (CLEARED, "", ""),
    "bind,noatime": (CLEARED, "", ""),
    "bind,relatime": ("rw,relatime", "", ""),
    "bind,strictatime": ("rw", "", ""),
    "bind,nodiratime": ("rw,nodiratime,relatime", "", ""),
    # runc 1.1 ignores a list that only switches off
    "bind,rw": (CLEARED, SOURCE, ""),
    "bind,exec": (CLEARED, SOURCE, ""),
    "bind,diratime": (CLEARED, SOURCE, ""),
    # here we differ on purpose: runc clears a flag that is not set, and the source's noatime stays
    "bind,atime": ("rw,relatime", SOURCE, CLEARED),
    "bind,norelatime": ("rw,relatime", SOURCE, CLEARED),
}


@pytest.fixture
def source(runtime, tmp_path) -> Iterator[Path]:
    """A mount with the flags SOURCE."""
    folder = tmp_path / "source"
    folder.mkdir()
    calls.mount("x", str(folder), "tmpfs", "", str(folder))
    fd = os.open(folder, os.O_PATH)
    Tree(fd).set(c.MOUNT_ATTR_RDONLY | c.MOUNT_ATTR_NODEV | c.MOUNT_ATTR_NOEXEC, 0)
    Tree(fd).set(c.MOUNT_ATTR_NOATIME, c.MOUNT_ATTR__ATIME)
    os.close(fd)
    yield folder
    subprocess.run(["umount", folder], check=True)


def bound(made, source, options):
    mount = {"destination": "/m", "type": "bind", "source": str(source),
             "options": options.split(",")}  # fmt: skip
    made.edit({"mounts": [*CONFIG["mounts"], mount], "ociVersion": "1.0.2"})
    return made


def flags(text: str) -> str:
    """The mount's flags, without the options of tmpfs."""
    words = text.split()[3].split(",")
    return ",".join(word for word in words if "=" not in word and word != "inode64")


SCRIPT = "grep ' /m ' /proc/self/mounts"


@pytest.mark.parametrize("options", CASES)
def test_flags_of_the_source_stay_only_without_a_list(runtime, bundle, source, options):
    done = runtime.run(bound(bundle(SCRIPT), source, options))
    assert flags(done.out) == CASES[options][0]


@pytest.mark.parametrize("options", CASES)
def test_peers_answer_as_the_table_says(peer, runtime, bundle, source, options):
    ours, runc, crun = CASES[options]
    done = peer.run(bound(bundle(SCRIPT), source, options))
    assert flags(done.out) == ({"runc": runc, "crun": crun}[peer.name] or ours)


@pytest.mark.needs_userns
def test_in_a_user_namespace_flags_of_the_source_stay(runtime, bundle, source):
    """There the kernel has locked them; to take one away, the bundle must say so."""
    made = bound(bundle_with_user(bundle, SCRIPT), source, "bind,nosuid")
    assert flags(runtime.output(made).out) == "ro,nosuid,nodev,noexec,noatime"


@pytest.mark.needs_userns
def test_locked_flags_stay_where_the_runtime_is_in_a_user_namespace(source):
    """As on a host that is a container itself."""
    fd = os.open(source, os.O_PATH)
    child = os.fork()
    if not child:
        try:
            calls.unshare(c.CLONE_NEWUSER | c.CLONE_NEWNS)
            tree = Tree.clone(os.open(source, os.O_PATH))
            tree.clear_unless_locked(
                c.MOUNT_ATTR_RDONLY | c.MOUNT_ATTR_NOSYMFOLLOW | c.MOUNT_ATTR__ATIME
            )
            os._exit(0 if os.fstatvfs(tree.fd).f_flag & os.ST_RDONLY else 1)
        finally:
            os._exit(2)
    os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
