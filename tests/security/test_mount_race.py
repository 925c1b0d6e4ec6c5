"""
CVE-2021-30465, CVE-2024-45310: what was checked is swapped for a link before it is used.

A volume is shared with another container, which swaps a mount's destination (or a folder on the
way to it) for a link to the host, over and over, while containers are created.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

import pytest

from pycontain.init import copying, rootfs
from pycontain.kernel import const as c
from pycontain.kernel.mounts import Tree
from pycontain.kernel.root import Root
from pycontain.options import Options
from pycontain.plan.request import Request
from pycontain.runtime.run import run
from tests.security.attack import filesystem_at, in_a_child, mount_by_path, snapshot

pytestmark = pytest.mark.needs_root

CREATES = 240
MOUNTS = 8
RENAME_EXCHANGE = 2


def swap(one, other):
    """Exchange two names in one step. renameat2(2)."""
    libc = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(one), os.fsencode(other)
    assert libc.renameat2(c.AT_FDCWD, names[0], c.AT_FDCWD, names[1], RENAME_EXCHANGE) == 0


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    (folder / "dst/deep").mkdir(parents=True)
    (folder / "file").write_text("host\n")
    return folder


@pytest.fixture
def made(bundle, outside):
    """A bundle whose /volume/way is a folder, with a link to the host beside it."""
    made = bundle("true")
    (made.rootfs / "volume/way/dst/deep").mkdir(parents=True)
    (made.rootfs / "volume/swapped").symlink_to(outside)
    (made.rootfs / "volume/made").mkdir()
    return made


@pytest.fixture
def flipping(made):
    """A process that swaps them as fast as it can."""
    volume = made.rootfs / "volume"
    pid = os.fork()
    if pid == 0:
        while True:
            swap(volume / "way", volume / "swapped")
            time.sleep(20e-6)  # otherwise nobody else gets to use the folder
    yield volume
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def racing(made, outside, kinds):
    """Configure mounts and new files at the place that is swapped."""
    mounts = made.config["mounts"][:1]
    for number in range(MOUNTS):
        path = "/volume/way" + ("/dst", "/dst/deep", "", f"/new{number}/deep")[number % 4]
        mounts.append({"destination": path, **kinds[number % len(kinds)]})
    devices = [{"path": "/volume/way/device", "type": "c", "major": 1, "minor": 3}]
    made.edit(
        {
            "mounts": mounts,
            "linux.devices": devices,
            "linux.maskedPaths": ["/volume/way/dst"],
            "linux.readonlyPaths": ["/volume/way"],
            "process.cwd": "/volume/way/work",
            "hooks.createContainer": [{"path": str(made.path / "look"), "args": ["look"]}],
        }
    )
    made.script(
        "look",
        f"grep -o ' {outside}[^ ]*' /proc/self/mountinfo >> {made.path}/seen; true",
    )


def make_many(made, state, times):
    """The number of containers that ran; the others were refused midway."""

    def work():
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        ran = 0
        for number in range(times):
            try:
                ran += (
                    run(
                        Options(root=str(state)),
                        Request(id=f"race{os.getpid()}-{number}", bundle=str(made.path)),
                    )
                    == 0
                )
            except Exception:
                continue
        return ran

    return in_a_child(work)


KINDS = {
    "file systems": [{"type": "tmpfs", "source": "tmpfs"}],
    "binds": [{"type": "bind", "source": "folder", "options": ["rbind"]}],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_swapped_destination_leads_nowhere(made, outside, flipping, tmp_path, kind):
    (made.path / "folder").mkdir()
    racing(made, outside, KINDS[kind])
    before = snapshot(outside)
    ran = make_many(made, tmp_path / "state", CREATES // 2)
    assert snapshot(outside) == before
    assert Path(made.path / "seen").read_text() == ""
    assert ran > 0


def test_a_descriptor_is_what_was_checked(made, outside):
    """The race, lost on purpose: the swap between resolving and mounting."""
    volume = made.rootfs / "volume"

    def work():
        root = Root(os.open(made.rootfs, os.O_PATH))
        target = root.make_directory("/volume/way/dst")
        swap(volume / "way", volume / "swapped")
        Tree.new("tmpfs").attach(target)
        return [(outside / "dst").is_mount(), (volume / "swapped/dst").is_mount()]

    assert in_a_child(work) == [False, True]


@pytest.mark.control
def test_a_naive_mount_by_path_loses_the_race(made, outside):
    volume = made.rootfs / "volume"

    def work():
        path = volume / "way/dst"
        assert Path(os.path.realpath(path)).is_relative_to(made.rootfs)
        swap(volume / "way", volume / "swapped")
        mount_by_path("tmpfs", path)
        return (outside / "dst").is_mount()

    assert in_a_child(work)


@pytest.mark.control
def test_naive_creation_of_folders_loses_the_race(made, outside):
    """Like MkdirAll below a path that was resolved before: CVE-2024-45310."""
    volume = made.rootfs / "volume"
    path = volume / "way"
    assert Path(os.path.realpath(path)).is_relative_to(made.rootfs)
    swap(volume / "way", volume / "swapped")
    os.makedirs(path / "new/deep")
    assert (outside / "new/deep").is_dir()


def test_folders_are_made_inside_whatever_is_swapped(made, outside, flipping):
    """`Root` alone, many more times than containers could be created."""
    before = snapshot(outside)
    root = Root(os.open(made.rootfs, os.O_PATH))
    made_ones = 0
    for number in range(1000):
        for make in (root.make_directory, root.make_file):
            try:
                os.close(make(f"/volume/way/{make.__name__}{number}/deep"))
                made_ones += 1
            except Exception:
                continue
    os.close(root.fd)
    assert made_ones > 0
    assert snapshot(outside) == before


def test_proc_is_mounted_on_what_was_checked(bundle, monkeypatch):
    """A link replaces /proc after the check: nothing is mounted through the link."""
    made = bundle("")
    (made.rootfs / "elsewhere").mkdir()
    (made.rootfs / "swapped").symlink_to("elsewhere")

    def work():
        root = Root(os.open(made.rootfs, os.O_PATH))
        found = rootfs.real_directory("/proc", root)
        swap(made.rootfs / "proc", made.rootfs / "swapped")
        Tree.new("proc").attach(found)
        return filesystem_at(made.rootfs / "elsewhere")

    assert in_a_child(work) != c.PROC_SUPER_MAGIC


def test_a_fifo_in_place_of_a_file_that_is_copied_does_not_block(tmp_path):
    """It replaces the file after the check, and nobody ever writes to it."""
    source, target = tmp_path / "source", tmp_path / "target"
    for folder in (source, target):
        folder.mkdir()
    os.mkfifo(source / "file")

    def work():
        signal.alarm(10)
        folders = [os.open(folder, os.O_RDONLY) for folder in (source, target)]
        copying._copy_file("file", *folders)
        return os.listdir(target)

    assert in_a_child(work) == []
