"""config.md, Linux mount options: every option, and the flag that it sets in mountinfo."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.plan.mounts import ATTRIBUTES, OPTIONS, RECURSIVE_ATTRIBUTES
from tests.bundles import MOUNTS, Bundles, Runtime
from tests.conformance import mountinfo
from tests.conformance.mountinfo import Mounted

MUST = (
    "async atime bind defaults dev diratime dirsync exec iversion lazytime loud noatime nodev"
    " nodiratime noexec noiversion nolazytime norelatime nostrictatime nosuid private rbind"
    " relatime remount ro rprivate rshared rslave runbindable rw shared silent slave strictatime"
    " suid sync unbindable"
).split()
SHOULD = (
    "nosymfollow symfollow ratime rdev rdiratime rexec rnoatime rnodiratime rnoexec rnorelatime"
    " rnostrictatime rnosuid rnosymfollow rrelatime rro rrw rstrictatime rsuid rsymfollow"
).split()

# option -> (what mountinfo then shows, what it then does not show)
FLAGS = {
    "ro": ({"ro"}, {"rw"}),
    "rw": ({"rw"}, {"ro"}),
    "nosuid": ({"nosuid"}, set()),
    "suid": (set(), {"nosuid"}),
    "nodev": ({"nodev"}, set()),
    "dev": (set(), {"nodev"}),
    "noexec": ({"noexec"}, set()),
    "exec": (set(), {"noexec"}),
    "nodiratime": ({"nodiratime"}, set()),
    "diratime": (set(), {"nodiratime"}),
    "nosymfollow": ({"nosymfollow"}, set()),
    "symfollow": (set(), {"nosymfollow"}),
    "noatime": ({"noatime"}, {"relatime"}),
    "atime": ({"relatime"}, {"noatime"}),
    "relatime": ({"relatime"}, {"noatime"}),
    "norelatime": ({"relatime"}, {"noatime"}),
    "strictatime": (set(), {"noatime", "relatime"}),
    "nostrictatime": ({"relatime"}, {"noatime"}),
}
# option -> (what the superblock then shows, what it then does not show)
SUPERBLOCK = {
    "sync": ({"sync"}, set()),
    "dirsync": ({"dirsync"}, set()),
    "lazytime": ({"lazytime"}, set()),
    "size=64k": ({"size=64k"}, set()),  # anything else is the file system's own option
}
UNDONE = {"sync": "async", "lazytime": "nolazytime"}
WITHOUT_EFFECT = ("defaults", "silent", "loud", "iversion", "noiversion")
PROPAGATION = {
    "shared": ({"shared", "master"}, {"master"}),
    "rshared": ({"shared", "master"}, {"shared", "master"}),
    "slave": ({"master"}, {"master"}),
    "rslave": ({"master"}, {"master"}),
    "private": (set(), {"master"}),
    "rprivate": (set(), set()),
    "unbindable": ({"unbindable"}, {"master"}),
    "runbindable": ({"unbindable"}, {"unbindable"}),
}
"""Option -> what the top of a tree and the mount below it become; the host's are shared."""

_ALL_ON = "ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow"


@pytest.mark.property("mounts[].options")
def test_every_option_of_the_specification_is_known():
    assert set(MUST + SHOULD) - set(OPTIONS) == set()


def test_every_option_is_in_a_table_of_these_tests():
    assert ATTRIBUTES.keys() == FLAGS.keys()
    assert RECURSIVE_ATTRIBUTES.keys() == {f"r{option}" for option in FLAGS}


def tmpfs(name: str, *options: str) -> dict[str, object]:
    return {"destination": f"/new/{name}", "type": "tmpfs", "options": list(options)}


def bound(name: str, source: Path, *options: str) -> dict[str, object]:
    return {"destination": f"/{name}", "source": str(source), "options": list(options)}


@pytest.fixture(scope="module")
def trees(tmp_path_factory, shared_mounts: None) -> Iterator[tuple[Path, Path]]:
    """Two mounts with a mount below each: one with no flags, one with all of them."""
    plain, flagged = (tmp_path_factory.mktemp(name) for name in ("plain", "flagged"))
    for top, options in ((plain, "rw"), (flagged, _ALL_ON)):
        subprocess.run(["mount", "-t", "tmpfs", "-o", "rw", "top", top], check=True)
        (top / "sub").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "sub", top / "sub"], check=True)
        subprocess.run(["mount", "-o", f"remount,bind,{options}", top], check=True)
    yield plain, flagged
    for top in (plain, flagged):
        subprocess.run(["umount", "--recursive", top], check=True)


@pytest.fixture(scope="module")
def mounts(tmp_path_factory, busybox_root, trees) -> dict[str, Mounted]:
    """The mounts of one container that has a mount for each option."""
    plain, flagged = trees
    wanted: list[dict[str, object]] = [*MOUNTS]
    wanted += [tmpfs(option, option) for option in (*FLAGS, *SUPERBLOCK, *WITHOUT_EFFECT)]
    wanted += [tmpfs(f"{option}-{undo}", option, undo) for option, undo in UNDONE.items()]
    wanted.append(tmpfs("later-wins", "nosuid", "ro", "suid", "rw", "noatime", "strictatime"))
    wanted.append(tmpfs("nothing"))
    for option in FLAGS:
        for kind, name in (("bind", option), ("rbind", option), ("rbind", f"r{option}")):
            for source in trees:
                wanted.append(bound(f"{source.name[:-1]}/{kind}/{name}", source, kind, name))
    wanted += [bound(f"way/{option}", plain, "rbind", option) for option in PROPAGATION]
    wanted += [
        bound("again/bind", plain, "rbind"),
        {"destination": "/again/bind", "options": ["remount", "bind", "ro", "nosuid"]},
        tmpfs("remounted", "size=32k", "nodev"),
        {"destination": "/new/remounted", "options": ["remount", "size=64k", "ro"]},
    ]
    folder = tmp_path_factory.mktemp("options")
    runtime = Runtime(folder)
    made = Bundles(folder, busybox_root)("cat /proc/self/mountinfo", {"mounts": wanted})
    return mountinfo.read(runtime.output(made).out)


def shows(found: frozenset[str], wanted: tuple[set[str], set[str]]) -> bool:
    present, absent = wanted
    return present <= found and not absent & found


@pytest.mark.parametrize("option", FLAGS)
def test_an_option_applies_to_a_new_file_system(mounts, option):
    assert shows(mounts[f"/new/{option}"].options, FLAGS[option])


@pytest.mark.parametrize("tree", ["plain", "flagged"])
@pytest.mark.parametrize("option", FLAGS)
def test_an_option_applies_to_a_bind_mount(mounts, tree, option):
    top = mounts[f"/{tree}/bind/{option}"]
    assert shows(top.options, FLAGS[option])
    assert f"/{tree}/bind/{option}/sub" not in mounts


@pytest.mark.parametrize("option", FLAGS)
def test_an_option_without_r_leaves_the_mounts_below(mounts, option):
    below = mounts[f"/flagged/rbind/{option}/sub"].options
    assert set(_ALL_ON.split(",")) <= below
    assert {"rw", "relatime"} == mounts[f"/plain/rbind/{option}/sub"].options


@pytest.mark.parametrize("tree", ["plain", "flagged"])
@pytest.mark.parametrize("option", FLAGS)
def test_an_option_with_r_applies_to_the_mounts_below(mounts, tree, option):
    top = f"/{tree}/rbind/r{option}"
    assert shows(mounts[top].options, FLAGS[option])
    assert shows(mounts[f"{top}/sub"].options, FLAGS[option])


@pytest.mark.parametrize("option", SUPERBLOCK)
def test_an_option_of_the_superblock_is_set(mounts, option):
    assert shows(mounts[f"/new/{option}"].superblock, SUPERBLOCK[option])


@pytest.mark.parametrize("option", UNDONE)
def test_an_option_of_the_superblock_can_be_undone(mounts, option):
    assert option not in mounts[f"/new/{option}-{UNDONE[option]}"].superblock


@pytest.mark.parametrize("option", WITHOUT_EFFECT)
def test_an_obsolete_option_is_accepted_without_effect(mounts, option):
    found, nothing = mounts[f"/new/{option}"], mounts["/new/nothing"]
    assert (found.options, found.superblock) == (nothing.options, nothing.superblock)


def test_the_last_of_contradicting_options_wins(mounts):
    assert mounts["/new/later-wins"].options == {"rw"}


@pytest.mark.parametrize("option", PROPAGATION)
def test_an_option_of_propagation_applies_to_its_mounts(mounts, option):
    top, below = PROPAGATION[option]
    assert mounts[f"/way/{option}"].propagation == top
    assert mounts[f"/way/{option}/sub"].propagation == below


def test_remount_of_a_bind_mount_changes_its_flags_alone(mounts):
    found = mounts["/again/bind"]
    assert {"ro", "nosuid"} <= found.options
    assert "rw" in found.superblock
    assert "rw" in mounts["/again/bind/sub"].options


def test_remount_changes_the_file_system(mounts):
    found = mounts["/new/remounted"]
    assert "size=64k" in found.superblock
    assert "ro" in found.options
    assert "nodev" in found.options


def test_rbind_includes_the_mounts_below(mounts):
    assert mounts["/again/bind/sub"].source == "sub"


def test_the_mounts_of_the_host_keep_their_flags(trees):
    text = Path("/proc/self/mountinfo").read_text()
    found = mountinfo.read(text)
    for top in trees:
        assert "shared" in found[os.fspath(top)].propagation
        assert ("ro" in found[os.fspath(top / "sub")].options) == top.name.startswith("flagged")
