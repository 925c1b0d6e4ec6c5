"""What a container does to its root file system never reaches the image in the cache."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bundles import LIMIT, Runtime
from tests.image.conftest import Made

pytestmark = pytest.mark.needs_root

HOSTILE = """
for f in $(find / -xdev -type f); do echo overwritten >>$f; chmod 777 $f; done
ln /data/given /data/linked; echo more >>/data/linked
mv /etc /etc2; rm -rf /data; mkdir /data; touch /data/x; chmod 700 /; chown 5 /tmp
mknod /node b 254 0; cd /proc/self/fd; for f in *; do echo x >>$f; done
echo done
"""

WITHOUT_OVERLAY = """
import sys
from pycontain.errors import KernelError
from pycontain.kernel import seal
from pycontain.kernel.mounts import Tree

seal.ensure = lambda: None  # it would start a program without these changes

new = Tree.new
def refuse(kind, *given, **named):
    if kind == "overlay":
        raise KernelError("is not a file system that this kernel supports", at=kind, errno=19)
    return new(kind, *given, **named)

Tree.new = refuse
from pycontain.cli import fast
sys.exit(fast.main(sys.argv[1:]))
"""


def look(folder: Path) -> dict[str, tuple]:
    """Every file: its kind, owner, permissions, links, time and content."""
    found = {}
    for place, folders, files in os.walk(folder):
        for name in (".", *folders, *files):
            path = Path(place, name)
            status = path.lstat()
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
            found[str(path)] = (
                status.st_mode, status.st_uid, status.st_nlink, status.st_mtime_ns, status.st_ino, digest,
            )  # fmt: skip
    return found


@pytest.fixture
def cached(runtime: Runtime, image: Made, storage: Path) -> tuple[str, Path]:
    """An image in the cache: its name, and its root."""
    name = image()
    digest = runtime.ok("image", "pull", name).out.strip()
    return name, storage / "images" / digest.removeprefix("sha256:") / "rootfs"


@pytest.mark.parametrize("flags", [(), ("--disk", "16m"), ("--cap-add", "ALL")])
def test_a_hostile_program_changes_only_its_own_layer(runtime, cached, flags) -> None:
    name, rootfs = cached
    before = look(rootfs)
    done = runtime("run", *flags, name, "sh", "-c", HOSTILE)
    assert "done" in done.out
    assert look(rootfs) == before


@pytest.mark.parametrize("flags", [(), ("--disk", "16m")])
def test_a_copied_root_leaves_the_cache_unchanged(runtime: Runtime, cached, flags) -> None:
    name, rootfs = cached
    before = look(rootfs)
    words = runtime.command("run", *flags, name, "sh", "-c", HOSTILE)
    words = words[words.index("--root") :]
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_OVERLAY, *words],
        check=False,
        capture_output=True,
        timeout=LIMIT,
        text=True,
    )
    warning, *_ = done.stderr.splitlines()
    reason = "the image is copied for this container, since overlayfs cannot be used"
    assert warning.startswith(f"pycontain: warning: {reason}: ")
    assert "done" in done.stdout
    assert look(rootfs) == before


@pytest.mark.control
def test_a_root_given_by_its_path_is_changed(runtime: Runtime, cached) -> None:
    _, rootfs = cached
    before = look(rootfs)
    runtime("run", "--rootfs", rootfs, "--", "sh", "-c", HOSTILE)
    assert look(rootfs) != before


def test_a_layer_is_gone_with_its_container(runtime: Runtime, cached, storage: Path) -> None:
    name, _ = cached
    runtime.ok("run", name, "touch", "/x")
    assert list((storage / "containers").iterdir()) == []
    id = runtime.new_id()
    runtime.ok("run", "-d", "--name", id, name, "sleep", "100")
    runtime.ok("delete", "--force", id)
    assert list((storage / "containers").iterdir()) == []


def test_the_host_has_no_mount_of_a_running_container(runtime: Runtime, cached) -> None:
    name, _ = cached
    before = Path("/proc/self/mountinfo").read_text()
    for flags in ((), ("--disk", "1m")):
        id = runtime.new_id()
        runtime.ok("run", "-d", "--name", id, *flags, name, "sleep", "100")
        assert Path("/proc/self/mountinfo").read_text() == before
