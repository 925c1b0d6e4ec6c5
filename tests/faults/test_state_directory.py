"""A state directory on a disk that is full, read-only or gone."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.kernel import const as c
from pycontain.kernel.mounts import Tree
from tests.bundles import LIMIT, look, wait_until
from tests.faults.trial import sweep

pytestmark = pytest.mark.needs_root


@pytest.fixture
def disk(runtime) -> Iterator[Path]:
    """A small file system of its own as the state root."""
    runtime.root.mkdir(mode=0o700)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", runtime.root], check=True
    )
    yield runtime.root
    for id in runtime.ids():
        runtime.ok("delete", "--force", id)
    subprocess.run(["umount", runtime.root], check=True)


def fill(disk: Path) -> Path:
    """Write until the disk is full; returns the file to remove."""
    ballast = disk / ".ballast"
    with ballast.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
        while True:
            file.write(bytes(4096))
    return ballast


def read_only(disk: Path, value: bool) -> None:
    """Make a mount read-only, or writable again."""
    fd = os.open(disk, os.O_PATH)
    change = (c.MOUNT_ATTR_RDONLY, 0) if value else (0, c.MOUNT_ATTR_RDONLY)
    Tree(fd).set(*change)
    os.close(fd)


@pytest.mark.parametrize("verb", ["run", "create"])
def test_no_container_is_created_on_a_full_disk(runtime, bundle, disk, verb):
    made, before = bundle("sleep 100"), look()
    ballast = fill(disk)
    error = runtime.refuses(verb, "-b", made.path, runtime.new_id())
    assert "no space left on device" in error
    assert runtime.ids() == []
    assert look() == before
    ballast.unlink()
    runtime.output(bundle("true"))


def test_a_container_can_be_used_and_deleted_on_a_full_disk(runtime, bundle, disk):
    before = look()
    id = runtime.started(bundle("sleep 100"))
    fill(disk)
    assert runtime.ok("exec", id, "echo", "here").words == ["here"]
    for words in (("pause", id), ("resume", id), ("kill", id, "KILL")):
        runtime.ok(*words)
    runtime.ok("delete", "--force", id)
    assert look() == before


def test_an_update_that_cannot_be_stored_is_an_error_and_keeps_the_container(
    runtime, bundle, disk, tmp_path
):
    id = runtime.started(bundle("sleep 100"))
    fill(disk)
    wanted = tmp_path / "resources"
    wanted.write_text('{"unified": {"cgroup.max.depth": "7"}}')
    assert "no space left" in runtime.refuses("update", "--resources", wanted, id)
    assert runtime.state(id)["status"] == "running"
    runtime.ok("delete", "--force", id)


@pytest.mark.parametrize("verb", ["run", "create"])
def test_no_container_is_created_on_a_read_only_disk(runtime, bundle, disk, verb):
    made, before = bundle("sleep 100"), look()
    read_only(disk, True)
    try:
        error = runtime.refuses(verb, "-b", made.path, runtime.new_id())
        assert "read-only file system" in error
        assert look().cgroups == before.cgroups
        assert look().processes == before.processes
    finally:
        read_only(disk, False)


def test_a_container_on_a_read_only_disk_is_deleted_once_it_is_writable(runtime, bundle, disk):
    before = look()
    id = runtime.started(bundle("sleep 100"))
    read_only(disk, True)
    try:
        assert runtime.state(id)["status"] == "running"
        assert "read-only file system" in runtime.refuses("delete", "--force", id)
        assert runtime.ids() == [id], "it is still known"
        assert look().processes == before.processes, "and what ran has been killed"
    finally:
        read_only(disk, False)
    runtime.ok("delete", "--force", id)
    assert runtime.ids() == []
    assert look() == before


@pytest.fixture
def swept(runtime) -> Iterator[None]:
    """Removes what a test leaves on purpose, or because it fails."""
    before = look()
    yield
    sweep(before)


def test_a_program_that_ends_after_its_state_has_vanished_leaves_nothing(runtime, bundle, swept):
    made, before = bundle("until [ -e /tmp/go ]; do sleep .01; done; exit 7"), look()
    id = runtime.new_id()
    with subprocess.Popen(runtime.command("run", "-b", made.path, id)) as command:
        record = runtime.root / id / "process"
        wait_until(lambda: record.exists() and "created" in record.read_text(), "it is created")
        shutil.rmtree(runtime.root / id)
        (made.rootfs / "tmp/go").touch()
        assert command.wait(timeout=LIMIT) == 7
    runtime.ok("delete", "--force", id)
    assert look() == before


def test_a_creation_whose_state_vanishes_is_undone(runtime, bundle, swept):
    made, before = bundle("sleep 100"), look()
    hook = made.script("hook", f"rm -r {runtime.root}/*")
    made.edit({"hooks": {"createRuntime": [{"path": str(hook), "env": ["PATH=/bin:/usr/bin"]}]}})
    id = runtime.new_id()
    done = runtime("create", "-b", made.path, id)
    assert done.status == 1
    assert all(line.startswith("pycontain: ") for line in done.err.splitlines()), done.err
    runtime.ok("delete", "--force", id)
    assert look() == before


def test_delete_with_force_succeeds_for_a_state_that_has_vanished(runtime, bundle, swept):
    """Nothing else tells of the container: its processes are the caller's to end, by their pid."""
    id = runtime.started(bundle("sleep 100"))
    shutil.rmtree(runtime.root / id)
    runtime.ok("delete", "--force", id)
    assert "does not exist" in runtime.refuses("delete", id)


def test_a_state_root_that_has_vanished_is_created_again(runtime, bundle):
    runtime.output(bundle("true"))
    shutil.rmtree(runtime.root)
    runtime.ok("delete", "--force", runtime.new_id())
    runtime.output(bundle("true"))
