"""The lab's driver on the host with the real machine: its results, and how a broken boot ends."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from vagrant.lab import qemu, run
from vagrant.lab.errors import BootHang, LabError

pytestmark = pytest.mark.needs_lab


def machines() -> list[str]:
    """The command lines of the running machines."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if line.startswith("qemu-system") and "-name pycontain-lab " in line:
            found.append(line)
    return found


@pytest.fixture(autouse=True)
def _no_machine_remains() -> Iterator[None]:
    """After each test no machine is running."""
    yield
    assert machines() == []


def test_output_status_and_report_come_back(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    report = tmp_path / "sub/report.xml"
    script = 'echo to-stdout; echo to-stderr >&2; id -un > "$LAB_REPORT"'
    assert run.command(["sh", "-c", f"{script}; exit 7"], limit=120, report=report) == 7
    output, errors = capfd.readouterr()
    assert "to-stdout" in output
    assert "to-stderr" in errors
    assert report.read_text() == "root\n"


@pytest.mark.parametrize(
    ("append", "message"),
    [
        ("root=/dev/absent", "no root disk /dev/absent"),
        ("rdinit=/absent init=/absent root=/dev/absent", "Kernel panic"),
        ("systemd.unit=emergency.target", "emergency mode|access to console"),
    ],
)
def test_the_error_of_a_broken_boot_has_the_consoles_last_lines(append: str, message: str) -> None:
    with pytest.raises(LabError, match=rf"did not come up[\s\S]*({message})"):
        run.command(["true"], append=append)


def test_a_boot_over_its_limit_is_aborted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(qemu, "boot_limit", lambda: 2.0)
    with pytest.raises(BootHang, match=r"did not come up within 2\.0 s"):
        run.command(["true"])


@pytest.mark.needs_root
def test_a_full_disk_of_the_host_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu, "SPACE", 0.0)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    mount = ["mount", "-t", "tmpfs", "-o", "size=48m", "tmpfs", str(tmp_path)]
    subprocess.run(mount, check=True)
    try:
        fill = ["dd", "if=/dev/urandom", "of=/fill", "bs=1M", "count=200", "conv=fsync"]
        try:
            assert run.command(fill, limit=120) != 0
        except LabError as error:
            assert "console's last lines" in str(error)  # noqa: PT017  # both outcomes are right
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
