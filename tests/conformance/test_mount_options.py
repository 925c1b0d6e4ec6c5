"""config.md, Linux mount options: every word, and the flag it makes in mountinfo."""

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

# word -> (what mountinfo then shows, what it then does not show)
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
# word -> (what the superblock then shows, what it then does not show)
SUPERBLOCK = {
    "sync": ({"sync"}, set()),
    "dirsync": ({"dirsync"}, set()),
    "lazytime": ({"lazytime"}, set()),
    "size=64k": ({"size=64k"}, set()),  # what is no option is the file system's own
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
"""Word -> what the top of a tree and the mount below it become; the host's are shared."""

_ALL_ON = "ro,nosuid,nodev,noexec,noatime,nodiratime,nosymfollow"


def test_every_option_of_the_specification_is_known():
    assert set(MUST + SHOULD) - set(OPTIONS) == set()


def test_every_option_has_its_row_here():
    assert ATTRIBUTES.keys() == FLAGS.keys()
    assert RECURSIVE_ATTRIBUTES.keys() == {f"r{word}" for word in FLAGS}


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
    """The mounts of one container that has a mount for each word."""
    plain, flagged = trees
    wanted: list[dict[str, object]] = [*MOUNTS]
    wanted += [tmpfs(word, word) for word in (*FLAGS, *SUPERBLOCK, *WITHOUT_EFFECT)]
    wanted += [tmpfs(f"{word}-{undo}", word, undo) for word, undo in UNDONE.items()]
    wanted.append(tmpfs("later-wins", "nosuid", "ro", "suid", "rw", "noatime", "strictatime"))
    wanted.append(tmpfs("nothing"))
    for word in FLAGS:
        for kind, name in (("bind", word), ("rbind", word), ("rbind", f"r{word}")):
            for source in trees:
                wanted.append(bound(f"{source.name[:-1]}/{kind}/{name}", source, kind, name))
    wanted += [bound(f"way/{word}", plain, "rbind", word) for word in PROPAGATION]
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
    there, away = wanted
    return there <= found and not away & found


@pytest.mark.parametrize("word", FLAGS)
def test_on_a_new_file_system(mounts, word):
    assert shows(mounts[f"/new/{word}"].options, FLAGS[word])


@pytest.mark.parametrize("tree", ["plain", "flagged"])
@pytest.mark.parametrize("word", FLAGS)
def test_on_a_bind_mount(mounts, tree, word):
    top = mounts[f"/{tree}/bind/{word}"]
    assert shows(top.options, FLAGS[word])
    assert f"/{tree}/bind/{word}/sub" not in mounts


@pytest.mark.parametrize("word", FLAGS)
def test_without_r_the_mounts_below_keep_their_flags(mounts, word):
    below = mounts[f"/flagged/rbind/{word}/sub"].options
    assert set(_ALL_ON.split(",")) <= below
    assert {"rw", "relatime"} == mounts[f"/plain/rbind/{word}/sub"].options


@pytest.mark.parametrize("tree", ["plain", "flagged"])
@pytest.mark.parametrize("word", FLAGS)
def test_with_r_the_mounts_below_follow(mounts, tree, word):
    top = f"/{tree}/rbind/r{word}"
    assert shows(mounts[top].options, FLAGS[word])
    assert shows(mounts[f"{top}/sub"].options, FLAGS[word])


@pytest.mark.parametrize("word", SUPERBLOCK)
def test_on_the_superblock(mounts, word):
    assert shows(mounts[f"/new/{word}"].superblock, SUPERBLOCK[word])


@pytest.mark.parametrize("word", UNDONE)
def test_off_the_superblock_again(mounts, word):
    assert word not in mounts[f"/new/{word}-{UNDONE[word]}"].superblock


@pytest.mark.parametrize("word", WITHOUT_EFFECT)
def test_accepted_without_effect(mounts, word):
    found, nothing = mounts[f"/new/{word}"], mounts["/new/nothing"]
    assert (found.options, found.superblock) == (nothing.options, nothing.superblock)


def test_the_later_of_two_words_wins(mounts):
    assert mounts["/new/later-wins"].options == {"rw"}


@pytest.mark.parametrize("word", PROPAGATION)
def test_propagation(mounts, word):
    top, below = PROPAGATION[word]
    assert mounts[f"/way/{word}"].propagation == top
    assert mounts[f"/way/{word}/sub"].propagation == below


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


def test_recursive_bind_has_what_is_mounted_below(mounts):
    assert mounts["/again/bind/sub"].source == "sub"


def test_the_host_keeps_its_flags(trees):
    text = Path("/proc/self/mountinfo").read_text()
    found = mountinfo.read(text)
    for top in trees:
        assert "shared" in found[os.fspath(top)].propagation
        assert ("ro" in found[os.fspath(top / "sub")].options) == top.name.startswith("flagged")
