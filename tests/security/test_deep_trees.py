"""
tmpcopyup of what an image or another container made to hurt: deep trees, and trees that move.

A copy that recurses ends at Python's limit, one that keeps each directory open at the limit of
descriptors. One that goes back up by ".." can be led to another place: the directory that it is in
is moved there meanwhile.
"""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import stat
import time

import pytest

from pycontain.errors import KernelError, StepError
from pycontain.init import copying
from pycontain.kernel import calls
from pycontain.kernel import const as c
from tests.bundles import MOUNTS
from tests.security.attack import in_a_child, mount_by_path

pytestmark = pytest.mark.needs_root

DEPTH = 5000
FEW = 8  # descriptors, beside those that are open already


@pytest.fixture
def folders(tmp_path, shared_mounts):
    """An empty source and an empty target, in memory: the removal of deep trees takes long."""
    mount_by_path("tmpfs", tmp_path)
    for name in ("source", "target"):
        (tmp_path / name).mkdir()
    yield tmp_path / "source", tmp_path / "target"
    calls.umount2(str(tmp_path), c.MNT_DETACH)


def dig(folder, depth):
    """Nest directories called d below a folder; the innermost has a file."""
    here = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=here)
        here = step(here, "d")
    os.close(os.open("end", os.O_CREAT | os.O_WRONLY, dir_fd=here))
    os.close(here)


def step(here, name):
    there = os.open(name, os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
    os.close(here)
    return there


def depth_of(folder):
    """How deep directories called d are nested there; -1 if the innermost has no file."""
    here, depth = os.open(folder, os.O_RDONLY), 0
    while "d" in os.listdir(here):
        here, depth = step(here, "d"), depth + 1
    found = "end" in os.listdir(here)
    os.close(here)
    return depth if found else -1


@pytest.fixture
def deep(folders):
    """The two folders; the source is deep."""
    dig(folders[0], DEPTH)
    return folders


def copied(source, target, copy=copying.copy_tree):
    """Copy one folder into another; the error's name, "" for none."""
    fds = [os.open(folder, os.O_RDONLY | os.O_DIRECTORY) for folder in (source, target)]
    try:
        copy(*fds)
    except (KernelError, OSError, RecursionError) as error:
        return type(error).__name__
    finally:
        for fd in fds:
            os.close(fd)
    return ""


def allow(more):
    """Limit the number of this process's descriptors."""
    limit = max(map(int, os.listdir("/proc/self/fd"))) + more
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def naive_copy(source, target):
    """What recurses, and keeps all directories on the way open."""
    for name in os.listdir(source):
        if stat.S_ISDIR(os.lstat(name, dir_fd=source).st_mode):
            os.mkdir(name, dir_fd=target)
            naive_copy(*(os.open(name, os.O_RDONLY, dir_fd=fd) for fd in (source, target)))


def test_a_deep_tree_is_copied_with_few_descriptors(deep):
    source, target = deep

    def work():
        allow(FEW)
        return copied(source, target)

    assert in_a_child(work) == ""
    assert depth_of(target) == DEPTH


@pytest.mark.control
@pytest.mark.parametrize(("more", "error"), [(FEW, "OSError"), (9000, "RecursionError")])
def test_a_naive_copy_exceeds_a_limit(deep, more, error):
    source, target = deep

    def work():
        allow(more)
        return copied(source, target, naive_copy)

    assert in_a_child(work) == error


def test_a_container_gets_a_deep_tree(runtime, bundle):
    mount = {"destination": "/deep", "type": "tmpfs", "options": ["tmpcopyup"]}
    made = bundle("sleep 100", {"mounts": [*MOUNTS, mount]})
    deep = made.rootfs / "deep"
    deep.mkdir()
    mount_by_path("tmpfs", deep)
    dig(deep, DEPTH)
    pid = runtime.state(runtime.create(made))["pid"]
    found = depth_of(f"/proc/{pid}/root/deep")
    calls.umount2(str(deep), c.MNT_DETACH)
    assert found == DEPTH


# --- a tree that moves ---------------------------------------------------------------------------


@pytest.fixture
def moving(folders, tmp_path):
    """
    source/a/z, which an attacker can move to outside/z; the copy goes on with a/s after it.

    Beside the place it is moved to, there is another s, with a secret.
    """
    source, _ = folders
    for folder in ("source/a/z/deep", "source/a/s", "outside/s"):
        (tmp_path / folder).mkdir(parents=True)
    (source / "a/s/file").write_text("public\n")
    (tmp_path / "outside/s/secret").write_text("SECRET\n")
    return source / "a/z", tmp_path / "outside/z"


def move_when_inside(monkeypatch, inside, outside):
    """Let the copy find z before s, and move z once it is in there."""
    real = copying._listed
    monkeypatch.setattr(copying, "_listed", lambda source: sorted(real(source)))
    leave = copying._Way.leave

    def move_and_leave(way):
        if way.names[-1:] == ["z"]:
            inside.rename(outside)
        leave(way)

    monkeypatch.setattr(copying._Way, "leave", move_and_leave)


def test_a_directory_that_is_moved_away_does_not_lead_out(folders, moving, monkeypatch):
    source, target = folders
    move_when_inside(monkeypatch, *moving)
    fds = [os.open(folder, os.O_RDONLY) for folder in (source, target)]
    with pytest.raises(StepError, match="a/z was moved while it was copied"):
        copying.copy_tree(*fds)
    assert not (target / "a/s").exists()


@pytest.mark.control
def test_a_naive_way_up_leads_to_where_the_directory_was_moved(folders, moving, monkeypatch):
    source, target = folders
    move_when_inside(monkeypatch, *moving)
    monkeypatch.setattr(copying, "_identity", lambda fd: (0, 0))
    assert copied(source, target) == ""
    assert (target / "a/s/secret").read_text() == "SECRET\n"


def test_whatever_is_moved_meanwhile_no_secret_is_copied(folders, moving, tmp_path):
    inside, outside = moving
    pid = os.fork()
    if pid == 0:
        while True:
            inside.rename(outside)
            time.sleep(20e-6)
            outside.rename(inside)
            time.sleep(20e-6)
    try:
        complete = 0
        for number in range(400):
            target = tmp_path / f"target{number}"
            target.mkdir()
            complete += copied(folders[0], target, copy_or_refuse) == ""
            assert list(target.rglob("secret")) == []
            shutil.rmtree(target)
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    assert complete > 0


def copy_or_refuse(source, target):
    try:
        copying.copy_tree(source, target)
    except StepError as error:
        raise OSError(errno.EAGAIN, str(error)) from None


CHANGES = {
    "a file is gone": lambda place: (place / "file").unlink(),
    "a directory is gone": lambda place: (place / "folder").rmdir(),
    "a link is gone": lambda place: (place / "link").unlink(),
    "a directory in place of a file": lambda place: ((place / "file").unlink(), (place / "file").mkdir()),
    "a link in place of a file": lambda place: ((place / "file").unlink(), (place / "file").symlink_to("/etc/passwd")),
    "a link in place of a directory": lambda place: ((place / "folder").rmdir(), (place / "folder").symlink_to("/etc")),
    "a file in place of a directory": lambda place: ((place / "folder").rmdir(), (place / "folder").touch()),
    "a file in place of a link": lambda place: ((place / "link").unlink(), (place / "link").touch()),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_files_that_change_after_they_were_listed_are_left_out(folders, monkeypatch, change):
    source, target = folders
    (source / "file").write_text("1\n")
    (source / "folder").mkdir()
    (source / "link").symlink_to("file")
    (source / "other").write_text("2\n")
    changed = change.split()[1] if "place" not in change else change.split()[-1]
    name = {"directory": "folder"}.get(changed, changed)
    real = copying._status

    def found_and_changed(file, fd):
        found = real(file, fd)
        if file == name:
            CHANGES[change](source)
        return found

    monkeypatch.setattr(copying, "_status", found_and_changed)
    assert copied(source, target) == ""
    assert {path.name for path in target.iterdir()} == {"file", "folder", "link", "other"} - {name}
    assert [path for path in target.rglob("*") if path.is_symlink() and path.name != "link"] == []


def test_a_file_that_cannot_be_copied_is_named(folders, monkeypatch):
    source, target = folders
    (source / "one/two").mkdir(parents=True)
    (source / "one/two/file").touch()

    def full(*arguments):
        raise OSError(errno.ENOSPC, "")

    monkeypatch.setattr(copying.os, "sendfile", full)
    fds = [os.open(folder, os.O_RDONLY) for folder in (source, target)]
    with pytest.raises(KernelError) as caught:
        copying.copy_tree(*fds)
    assert str(caught.value) == "copy: one/two/file no space left on device"


def test_modes_are_copied_whatever_the_umask(folders):
    source, target = folders
    os.mkfifo(source / "pipe")
    (source / "file").touch()
    (source / "folder").mkdir()
    for name in ("pipe", "file", "folder"):
        (source / name).chmod(0o777)
    old = os.umask(0o077)
    try:
        assert copied(source, target) == ""
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(old)
    assert {stat.S_IMODE(path.lstat().st_mode) for path in target.iterdir()} == {0o777}
    assert len(list(target.iterdir())) == 3
