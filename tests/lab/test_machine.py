"""The machine itself provides what the other tests rely on."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.capabilities import CONTROLLERS

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_cgroup2, pytest.mark.needs_systemd]


def output(*argv: str) -> str:
    """What a command prints; it must succeed."""
    done = subprocess.run(
        argv, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, f"{argv}: {done.stderr}"
    return done.stdout


def test_cgroup2_is_the_only_hierarchy() -> None:
    mounts = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    assert [mount[2] for mount in mounts if mount[2].startswith("cgroup")] == ["cgroup2"]


def test_every_controller_can_be_enabled_for_children() -> None:
    made = Path("/sys/fs/cgroup/lab-machine")
    Path("/sys/fs/cgroup/cgroup.subtree_control").write_text(
        " ".join(f"+{name}" for name in sorted(CONTROLLERS))
    )
    made.mkdir()
    try:
        assert set((made / "cgroup.controllers").read_text().split()) >= CONTROLLERS
    finally:
        made.rmdir()


def test_systemd_is_process_one_and_no_unit_failed() -> None:
    assert Path("/proc/1/comm").read_text().strip() == "systemd"
    assert output("systemctl", "--failed", "--no-legend", "--plain") == ""


def test_systemd_delegates_controllers_to_a_scope() -> None:
    script = "cat /sys/fs/cgroup$(cut -d: -f3 /proc/self/cgroup)/cgroup.controllers"
    found = output("systemd-run", "-q", "--scope", "-p", "Delegate=yes", "sh", "-c", script)
    assert set(found.split()) >= CONTROLLERS


@pytest.mark.needs_overlay
def test_an_overlay_can_be_mounted(tmp_path: Path) -> None:
    for name in ("lower", "upper", "work", "merged"):
        (tmp_path / name).mkdir()
    (tmp_path / "lower/file").write_text("below")
    merged = tmp_path / "merged"
    layers = f"lowerdir={tmp_path}/lower,upperdir={tmp_path}/upper,workdir={tmp_path}/work"
    output("mount", "-t", "overlay", "overlay", "-o", layers, str(merged))
    try:
        (merged / "file").write_text("above")
    finally:
        output("umount", str(merged))
    assert (tmp_path / "upper/file").read_text() == "above"
    assert (tmp_path / "lower/file").read_text() == "below"


@pytest.mark.needs_svm
def test_kvm_has_hardware_semantics_and_the_stable_api() -> None:
    from fcntl import ioctl

    handle = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
    try:
        assert ioctl(handle, 0xAE00) == 12  # KVM_GET_API_VERSION
    finally:
        os.close(handle)


def test_all_capabilities_are_in_the_bounding_set() -> None:
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    status = Path("/proc/self/status").read_text()
    bounding = next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd"))
    assert int(bounding, 16) == (1 << (last + 1)) - 1


def test_apparmor_is_enabled() -> None:
    assert "apparmor" in Path("/sys/kernel/security/lsm").read_text().split(",")


@pytest.mark.needs_podman
@pytest.mark.needs_crun
def test_podman_runs_a_container_with_crun(rootfs: Path) -> None:
    run = ["podman", "--runtime", "crun", "--cgroup-manager", "cgroupfs", "run", "--rm"]
    script = "echo hello; cat /proc/1/comm; true"
    found = output(*run, "--network", "none", "--rootfs", str(rootfs), "/bin/sh", "-c", script)
    assert found.split() == ["hello", "sh"]
