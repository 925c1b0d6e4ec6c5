"""`run --rootfs` and `run IMAGE` where every limit binds and the kernel has overlayfs."""

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.containers import Runtime, keyed

pytestmark = [
    pytest.mark.needs_root,
    pytest.mark.needs_cgroup2,
    pytest.mark.needs_busybox,
    pytest.mark.skipif("PYCONTAIN_RUNTIME" in os.environ, reason="other runtimes run bundles only"),
]

STORE = Path("/var/lib/pycontain/images")
HOG = "dd if=/dev/zero of=/dev/null bs=64M count=1"


def run(runtime: Runtime, *words: str) -> "subprocess.CompletedProcess[str]":
    return runtime("run", *words, check=False)


@pytest.fixture
def image(rootfs: Path) -> Iterator[str]:
    """An image in the cache, put there by hand: the machine has no skopeo. Its digest."""
    digits = hashlib.sha256(os.urandom(16)).hexdigest()
    place = STORE / digits
    place.mkdir(mode=0o700, parents=True)
    for folder in (STORE, STORE.parent):
        folder.chmod(0o700)
    shutil.copytree(rootfs, place / "rootfs", symlinks=True)
    (place / "config.json").write_text(json.dumps({"os": "linux", "config": {"Cmd": ["id"]}}))
    (place / "record.json").write_text(json.dumps({"digest": f"sha256:{digits}", "size": 1}))
    yield f"sha256:{digits}"
    shutil.rmtree(place)


def test_memory_and_processes_are_limited(runtime: Runtime) -> None:
    script = f"cat /sys/fs/cgroup/pids.max; {HOG}; cat /sys/fs/cgroup/memory.events"
    flags = ("--memory", "24m", "--pids", "30", "--cpus", "1")
    done = run(runtime, *flags, "--rootfs", str(runtime.rootfs), "--", "sh", "-c", script)
    number, _, events = done.stdout.partition("\n")
    assert number == "30", done.stderr
    assert keyed(events)["oom_kill"] == 1


def test_processor_time_is_limited(runtime: Runtime) -> None:
    words = ("--cpus", "0.5", "--rootfs", str(runtime.rootfs), "cat", "/sys/fs/cgroup/cpu.max")
    assert run(runtime, *words).stdout == "50000 100000\n"


def test_a_container_has_an_overlay_over_its_image(runtime: Runtime, image: str) -> None:
    script = "echo x >/new; grep ' / ' /proc/mounts"
    done = run(runtime, image, "sh", "-c", script)
    assert " / overlay rw" in done.stdout, done.stderr
    assert not (STORE / image.removeprefix("sha256:") / "rootfs/new").exists()


def test_a_layer_in_memory_is_limited(runtime: Runtime, image: str) -> None:
    words = ("--disk", "1m", image, "dd", "if=/dev/zero", "of=/big", "bs=64k", "count=32")
    done = run(runtime, *words)
    assert "No space left on device" in done.stderr
    assert done.returncode == 1


def test_nothing_is_mounted_on_the_host(runtime: Runtime, image: str) -> None:
    before = Path("/proc/self/mountinfo").read_text(encoding="utf-8")
    assert run(runtime, image).stdout.startswith("uid=0")
    assert Path("/proc/self/mountinfo").read_text(encoding="utf-8") == before
