"""buildah, and containerd with its shim."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compat.engines import LIMIT, output

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroup2, pytest.mark.needs_systemd]

CONTAINERFILE = """\
FROM scratch
ADD root.tar /
RUN echo built > /made && chown 5:6 /made
USER 5
RUN id -u > /tmp/uid
"""


@pytest.mark.needs_buildah
def test_buildah_builds_an_image(runtime: str, archive: Path, tmp_path: Path) -> None:
    (tmp_path / "root.tar").write_bytes(archive.read_bytes())
    (tmp_path / "Containerfile").write_text(CONTAINERFILE)
    output("buildah", "build", "--runtime", runtime, "--isolation", "oci", "--network", "none",
           "--tag", "built", str(tmp_path))  # fmt: skip
    container = output("buildah", "from", "built").strip()
    run = ("buildah", "run", "--runtime", runtime, "--isolation", "oci", "--network", "none")
    assert output(*run, container, "cat", "/made", "/tmp/uid").split() == ["built", "5"]
    output("buildah", "rm", container)


@pytest.fixture(scope="module")
def ctr() -> Iterator[tuple[str, ...]]:
    """A running containerd; the words of its client."""
    subprocess.run(["systemctl", "start", "containerd"], check=True, timeout=LIMIT)
    yield ("ctr", "--namespace", "lab")
    subprocess.run(["systemctl", "stop", "containerd"], check=False, timeout=LIMIT)


@pytest.mark.needs_containerd
def test_containerd_runs_executes_and_kills(
    runtime: str, ctr: tuple[str, ...], rootfs: Path
) -> None:
    made = ("--runc-binary", runtime, "--rootfs", str(rootfs), "lab")
    assert output(*ctr, "run", "--rm", *made, "sh", "-c", "echo hello") == "hello\n"
    output(*ctr, "run", "--rm", *made, "sh", "-c", "exit 7", status=7)
    output(*ctr, "run", "--detach", "--memory-limit", "67108864", *made, "sleep", "300")
    try:
        assert "RUNNING" in output(*ctr, "task", "ls")
        execute = (*ctr, "task", "exec", "--exec-id", "e", "lab")
        assert output(*execute, "cat", "/proc/1/comm") == "sleep\n"
        assert "memory" in output(*ctr, "task", "metrics", "lab")
        output(*ctr, "task", "pause", "lab")
        assert "PAUSED" in output(*ctr, "task", "ls")
        output(*ctr, "task", "resume", "lab")
    finally:
        output(*ctr, "task", "kill", "--signal", "KILL", "lab")
        subprocess.run([*ctr, "task", "delete", "lab"], check=False, timeout=LIMIT)
        output(*ctr, "container", "delete", "lab")
