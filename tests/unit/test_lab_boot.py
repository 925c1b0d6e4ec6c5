"""The lab's driver with a stand-in for QEMU: how a boot can end, and that nothing is left."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vagrant.lab import cache, qemu, recipe, run
from vagrant.lab.errors import BootHang, LabError
from vagrant.lab.image import Image

READY = "echo 'pycontain-lab: ready'; exec sleep 60"

SCRIPT = """#!/bin/sh
echo $$ >> {pids}
echo "Linux version 6.1"
{rest}
"""

Fake = Callable[[str], Path]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Replaces QEMU with a script; returns the file that collects its process ids."""
    pids = tmp_path / "pids"
    monkeypatch.setenv("PYCONTAIN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    image = cache.folder() / recipe.key()
    image.mkdir()
    for name in ("root.img", "vmlinuz", "initrd.gz", "key", "known_hosts"):
        (image / name).touch()

    def put(rest: str) -> Path:
        pids.unlink(missing_ok=True)
        script = tmp_path / "qemu-system-x86_64"
        script.write_text(SCRIPT.format(pids=pids, rest=rest))
        script.chmod(0o755)
        (tmp_path / "ssh").write_text(
            "#!/bin/sh\ncase $* in *unpack*|*tar*) exit 0;; esac\nsleep 60\n"
        )
        (tmp_path / "ssh").chmod(0o755)
        return pids

    return put


def image() -> Image:
    """The fixture's empty image."""
    return Image(cache.folder() / recipe.key())


def alive(pids: Path) -> list[int]:
    """The stand-in's processes that are still running."""
    found = [int(line) for line in pids.read_text().split()]
    return [pid for pid in found if Path(f"/proc/{pid}/stat").exists() and not _zombie(pid)]


def _zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def wait_until(condition: Callable[[], bool], limit: float = 20) -> None:
    """Wait for a condition."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_machine_that_comes_up_is_ended_with_the_block(fake: Fake) -> None:
    pids = fake(READY)
    with qemu.booted(image()) as machine:
        assert alive(pids) == [machine.process.pid]
    assert alive(pids) == []


def test_a_panic_shows_the_consoles_last_lines(fake: Fake) -> None:
    pids = fake("echo 'Kernel panic - not syncing: \x1b[1mno root\x1b[0m'; exit 3")
    message = r"status 3[\s\S]*\| Kernel panic - not syncing: no root"
    with pytest.raises(LabError, match=message), qemu.booted(image()):
        pytest.fail("booted")
    assert len(pids.read_text().split()) == 1, "a failure is not retried"


def test_an_emergency_shell_ends_the_wait_at_once(fake: Fake) -> None:
    pids = fake("echo 'You are in emergency mode. After logging in'; exec sleep 60")
    with pytest.raises(LabError, match="emergency mode"), qemu.booted(image()):
        pytest.fail("booted")
    assert alive(pids) == []


def test_a_hang_is_retried_once_and_then_reported(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu, "boot_limit", lambda: 0.5)
    pids = fake("exec sleep 60")
    message = r"within 0.5 s[\s\S]*\| Linux version"
    with pytest.raises(BootHang, match=message), qemu.booted(image()):
        pytest.fail("booted")
    assert len(pids.read_text().split()) == 2
    assert alive(pids) == []


def test_a_taken_port_is_retried(fake: Fake) -> None:
    taken = "echo 'Could not set up host forwarding rule'; exit 1"
    pids = fake(f"[ $(wc -l < $(dirname $0)/pids) -gt 1 ] || {{ {taken}; }}; {READY}")
    with qemu.booted(image()):
        assert len(pids.read_text().split()) == 2


def test_a_machine_that_ignores_sigterm_is_killed(
    fake: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(qemu, "PATIENCE", 0.3)
    pids = fake("trap '' TERM; echo 'pycontain-lab: ready'; while :; do sleep 1; done")
    with qemu.booted(image()):
        pass
    assert alive(pids) == []


def test_a_command_over_its_limit_shows_the_console(fake: Fake) -> None:
    pids = fake(f"echo 'hung task: dd blocked'; {READY}")
    with pytest.raises(LabError, match=r"did not finish within 0.5 s[\s\S]*hung task"):
        run.command(["true"], limit=0.5)
    assert alive(pids) == []


def test_a_missing_qemu_is_a_one_line_error(monkeypatch: pytest.MonkeyPatch, fake: Fake) -> None:
    fake(READY)
    monkeypatch.setattr("vagrant.lab.shell.which", lambda _: None)
    message = "apt-get install qemu-system-x86"
    with pytest.raises(LabError, match=message) as caught, qemu.booted(image()):
        pytest.fail("booted")
    assert "\n" not in str(caught.value)


def test_only_hardware_with_nesting_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: True)
    monkeypatch.setattr(qemu, "software_kvm", lambda: False)
    monkeypatch.setattr(qemu, "_text", lambda _: "Y")
    assert qemu.accelerator() == qemu.HARDWARE
    monkeypatch.setattr(qemu, "_text", lambda _: "N")
    assert qemu.accelerator() == qemu.EMULATED
    monkeypatch.setattr(qemu, "_text", lambda _: "Y")
    monkeypatch.setattr(qemu, "software_kvm", lambda: True)
    assert qemu.accelerator() == qemu.EMULATED


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129), (signal.SIGKILL, -9)],
)
def test_a_killed_driver_leaves_no_machine(
    fake: Fake, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    pids = fake(READY)
    driver = subprocess.Popen(
        [sys.executable, "-m", "vagrant.lab", "run", "--", "true"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=recipe.PROJECT,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    wait_until(lambda: pids.exists() and bool(alive(pids)))
    before = sorted(tmp_path.rglob("*"))
    driver.send_signal(number)
    assert driver.wait(timeout=20) == status
    wait_until(lambda: not alive(pids))
    assert sorted(tmp_path.rglob("*")) == before
    with cache.lock(1):
        pass
