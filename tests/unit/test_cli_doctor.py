from __future__ import annotations

import errno
import json
import os

import pytest

from pycontain.cli import fast
from pycontain.errors import KernelError
from pycontain.kernel import calls
from pycontain.runtime import doctor


def by_name(findings):
    return {finding.name: finding for finding in findings}


@pytest.mark.parametrize(
    ("release", "status"),
    [
        ("5.13.19-generic", "lack"),
        ("4.18.0-553.el8", "lack"),
        ("5.14.0-1.el9", "ok"),
        ("6.1-rc2", "ok"),
        ("6.18.44", "ok"),
    ],
)
def test_the_kernel_must_be_new_enough(release, status):
    [finding] = doctor.kernel(release)
    assert finding.status == status
    assert bool(finding.remedy) == (status == "lack")


def test_every_check_runs_here_and_each_lack_has_a_remedy():
    findings = doctor.examine()
    assert len(findings) == len(by_name(findings))
    assert all(finding.found for finding in findings)
    assert all(finding.remedy for finding in findings if finding.status == "lack")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def ended_children():
    """Whether there is a child that nobody waited for; other tests may have some that live."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


@pytest.mark.needs_root
def test_trying_changes_nothing_on_the_host():
    def host():
        with open("/proc/self/mountinfo") as file:
            spaces = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net", "time")}
            return file.read(), spaces, sorted(os.listdir("/proc/self/fd"))

    before = host()
    assert all(one.status == "ok" for one in doctor.system_calls())
    list(doctor.namespaces())
    assert host() == before
    assert not ended_children()


@pytest.mark.parametrize(
    ("number", "status", "remedy"),
    [
        (errno.ENOSYS, "lack", "boot a kernel built with it"),
        (errno.EPERM, "lack", "grant CAP_SYS_ADMIN"),
    ],
)
def test_a_call_that_is_refused_is_told_with_its_remedy(monkeypatch, number, status, remedy):
    def refuse(*_):
        raise KernelError.of("clone3", number)

    monkeypatch.setattr(calls, "clone3", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    finding = by_name(doctor.system_calls())["clone3"]
    assert finding.status == status
    assert finding.remedy.startswith(remedy)


def test_rights_that_only_root_has_are_no_lack_of_the_host(monkeypatch):
    monkeypatch.setattr(doctor, "_unshare", lambda flag: errno.EPERM)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert {finding.status for finding in doctor.namespaces()} == {"warn"}


def test_a_user_namespace_is_welcome_and_the_others_are_needed(monkeypatch):
    monkeypatch.setattr(doctor, "_unshare", lambda flag: errno.EINVAL)
    found = by_name(doctor.namespaces())
    assert found["user namespace"].status == "warn"
    assert found["mount namespace"].status == "lack"


HYBRID = """\
32 31 0:29 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
34 31 0:31 / /sys/fs/cgroup/disk rw,relatime - cgroup cgroup rw,blkio
41 31 0:38 / {unified} rw,relatime - cgroup2 cgroup2 rw
"""


def test_who_holds_a_controller_is_named(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpu pids\n")
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(HYBRID.format(unified=tmp_path))
    found = by_name(doctor.cgroups(str(mountinfo)))
    assert found["cgroup v2"].found == f"at {tmp_path}"
    assert found["cpu controller"].status == "ok"
    assert found["memory controller"].found == "held by cgroup v1 at /sys/fs/cgroup/memory"
    assert found["io controller"].found == "held by cgroup v1 at /sys/fs/cgroup/disk"
    assert "boot with" in found["io controller"].remedy
    assert found["cpuset controller"].found == "not in this kernel"


def test_a_host_without_cgroup_v2_lacks_it(tmp_path):
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(HYBRID.splitlines()[0] + "\n")
    [finding] = doctor.cgroups(str(mountinfo))
    assert finding.status == "lack"
    assert finding.remedy.startswith("mount -t cgroup2")


def test_capabilities_that_no_container_can_have_are_named(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tx\nCapBnd:\t000001fffeffffff\n")
    [finding] = doctor.capabilities(str(status))
    assert (finding.status, finding.found) == ("warn", "without CAP_SYS_RESOURCE")
    status.write_text("CapBnd:\t0000000000000000\n")
    [finding] = doctor.capabilities(str(status))
    assert finding.status == "lack"


def test_a_host_without_kvm_is_told_how_to_get_it(tmp_path):
    [finding] = doctor.kvm(str(tmp_path / "kvm"))
    assert finding.status == "warn"
    assert finding.found.endswith("does not exist")
    assert finding.remedy


def test_overlayfs_that_is_not_loaded_is_told(tmp_path):
    file = tmp_path / "filesystems"
    file.write_text("nodev\ttmpfs\n\text4\n")
    [finding] = doctor.filesystems(str(file))
    assert finding.remedy == "modprobe overlay"


def test_engines_that_are_here_are_told_how_to_know_pycontain(monkeypatch, tmp_path):
    podman = tmp_path / "podman"
    podman.write_text("#!/bin/sh\n")
    podman.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = by_name(doctor.engines())
    assert found["podman"].found == str(podman)
    assert 'pycontain = ["/usr/local/bin/pycontain"]' in found["podman"].remedy
    assert found["docker"].found == "not installed"


@pytest.mark.parametrize(("status", "exit_status"), [("ok", 0), ("warn", 0), ("lack", 1)])
def test_only_a_lack_makes_the_doctor_fail(monkeypatch, capfd, status, exit_status):
    finding = doctor.Finding(name="x", status=status, found="[y]", remedy="z")
    monkeypatch.setattr(doctor, "examine", lambda: [finding])
    assert fast.main(["doctor"]) == exit_status
    assert capfd.readouterr().out.split()[-4:] == ["x", status, "[y]", "z"]
    assert fast.main(["doctor", "--format", "json"]) == exit_status
    assert json.loads(capfd.readouterr().out) == [finding.fields()]
