from __future__ import annotations

import errno
import json
import os
import subprocess
import sys

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
        ("5.13.19-generic", "missing"),
        ("4.18.0-553.el8", "missing"),
        ("5.14.0-1.el9", "ok"),
        ("6.1-rc2", "ok"),
        ("6.18.44", "ok"),
    ],
)
def test_the_kernel_must_be_new_enough(release, status):
    [finding] = doctor.kernel(release)
    assert finding.status == status
    assert bool(finding.remedy) == (status == "missing")


def test_every_check_runs_here_and_each_problem_has_a_remedy():
    findings = doctor.examine()
    assert len(findings) == len(by_name(findings))
    assert all(finding.found for finding in findings)
    problems = [finding for finding in findings if finding.status != "ok"]
    assert all(finding.remedy and finding.prevents for finding in problems)
    assert all(not finding.prevents for finding in findings if finding.status == "ok")


def test_problems_come_first_sorted_by_what_they_prevent(monkeypatch):
    made = [
        doctor.Finding(name=str(rank), status="denied", found="x", prevents=doctor._RANKS[rank])
        for rank in (7, 3, 0, 5)
    ]
    monkeypatch.setattr(doctor, "_CHECKS", [lambda: made])
    assert [finding.name for finding in doctor.examine()] == ["0", "3", "5", "7"]
    assert not doctor.is_ready(made)
    assert doctor.is_ready(made[:2])


def unreaped_children():
    """Whether a child has exited but was not reaped; other tests may have running children."""
    try:
        return os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:
        return False


@pytest.mark.needs_root
def test_the_probes_of_the_doctor_change_nothing_on_the_host():
    def host():
        with open("/proc/self/mountinfo") as file:
            spaces = {kind: os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "net", "time")}
            return file.read(), spaces, sorted(os.listdir("/proc/self/fd"))

    before = host()
    assert all(one.status == "ok" for one in doctor.system_calls())
    list(doctor.namespaces())
    assert host() == before
    assert not unreaped_children()


@pytest.mark.parametrize(
    ("number", "status", "remedy"),
    [
        (errno.ENOSYS, "missing", "boot a kernel built with it"),
        (errno.EPERM, "denied", "grant CAP_SYS_ADMIN"),
    ],
)
def test_a_refused_system_call_is_reported_with_its_remedy(monkeypatch, number, status, remedy):
    def refuse(*_):
        raise KernelError.of("clone3", number)

    monkeypatch.setattr(calls, "clone3", refuse)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    finding = by_name(doctor.system_calls())["clone3"]
    assert finding.status == status
    assert finding.remedy.startswith(remedy)


def refused(*_: object) -> None:
    raise KernelError.of("unshare", errno.EPERM)


@pytest.mark.needs_root
@pytest.mark.needs_userns
def test_a_user_who_can_have_a_user_namespace_is_told_what_needs_root():
    command = [sys.executable, "-m", "pycontain", "doctor", "--format", "json"]
    how = {"user": 12345, "group": 12345, "extra_groups": [], "capture_output": True, "text": True}
    done = subprocess.run(command, check=False, **how)
    found = {one["name"]: one for one in json.loads(done.stdout)}
    assert found["user"]["prevents"] == "sandboxes, and limits without a delegated cgroup"
    assert found["user"]["found"] == "not root, but user 12345: root of a user namespace"
    assert not [one for one in found.values() if one["prevents"] == "every container"]
    assert done.returncode == 0


def test_calls_that_a_user_may_not_make_are_denied_not_missing(monkeypatch):
    monkeypatch.setattr(doctor, "_unshare", lambda flag: errno.EPERM)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(doctor, "_become_root", refused)
    [alone, others] = doctor.namespaces()
    assert (alone.name, alone.prevents) == ("user namespace", "namespaces of this kind")
    assert others.name == "mount, pid, network, ipc, uts, cgroup, time namespaces"
    [user] = doctor.user()
    for finding in (others, user):
        assert finding.prevents == "every container"
        assert (finding.status, finding.remedy) == ("denied", "use sudo")


def test_a_user_namespace_is_optional_and_the_others_are_needed(monkeypatch):
    monkeypatch.setattr(doctor, "_unshare", lambda flag: errno.EINVAL)
    found = by_name(doctor.namespaces())
    assert found["user namespace"].prevents == "namespaces of this kind"
    assert found["mount namespace"].prevents == "every container"
    assert {finding.status for finding in found.values()} == {"missing"}


HYBRID = """\
32 31 0:29 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
34 31 0:31 / /sys/fs/cgroup/disk rw,relatime - cgroup cgroup rw,blkio
41 31 0:38 / {unified} rw,relatime - cgroup2 cgroup2 rw
"""


def test_the_hierarchy_that_holds_a_controller_is_named(tmp_path):
    (tmp_path / "cgroup.controllers").write_text("cpu pids\n")
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(HYBRID.format(unified=tmp_path))
    found = by_name(doctor.cgroups(str(mountinfo)))
    assert found["cgroup v2"].found == f"at {tmp_path}"
    assert found["cpu controller"].status == "ok"
    assert found["memory controller"].found == "in cgroup v1, at /sys/fs/cgroup/memory"
    assert found["io controller"].found == "in cgroup v1, at /sys/fs/cgroup/disk"
    assert "boot with" in found["io controller"].remedy
    assert found["cpuset controller"].found == "not in this kernel"


def test_missing_cgroup_v2_is_a_problem(tmp_path):
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(HYBRID.splitlines()[0] + "\n")
    [finding] = doctor.cgroups(str(mountinfo))
    assert (finding.status, finding.prevents) == ("missing", "every container")
    assert finding.remedy.startswith("mount -t cgroup2")


def test_capabilities_unavailable_to_containers_are_named(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tx\nCapBnd:\t000001fffeffffff\n")
    [finding] = doctor.capabilities(str(status))
    assert (finding.status, finding.prevents) == ("denied", "giving them to a container")
    assert finding.found == "missing from the bounding set: CAP_SYS_RESOURCE"
    status.write_text("CapBnd:\t0000000000000000\n")
    [finding] = doctor.capabilities(str(status))
    assert finding.prevents == "every container"


def test_missing_kvm_is_a_warning_with_a_remedy(tmp_path):
    [finding] = doctor.kvm(str(tmp_path / "kvm"))
    assert finding.status == "missing"
    assert finding.found.endswith("does not exist")
    assert finding.remedy.startswith("load kvm_intel")


def test_kvm_that_others_may_use_is_denied(monkeypatch):
    def refuse(*_):
        raise PermissionError(errno.EACCES, "")

    monkeypatch.setattr(os, "open", refuse)
    [finding] = doctor.kvm()
    assert (finding.status, finding.found) == ("denied", "/dev/kvm permission denied")
    assert finding.remedy == "join the group that owns it, or use sudo"


def test_overlayfs_that_is_not_loaded_has_a_remedy(tmp_path):
    file = tmp_path / "filesystems"
    file.write_text("nodev\ttmpfs\n\text4\n")
    [finding] = doctor.filesystems(str(file))
    assert finding.remedy == "modprobe overlay"


def test_installed_engines_have_a_hint_on_configuring_pycontain(monkeypatch, tmp_path):
    podman = tmp_path / "podman"
    podman.write_text("#!/bin/sh\n")
    podman.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    found = by_name(doctor.engines())
    assert found["podman"].found == str(podman)
    assert 'pycontain = ["/usr/local/bin/pycontain"]' in found["podman"].remedy
    assert found["docker"].found == "not installed"


@pytest.mark.parametrize(
    ("prevents", "exit_status", "outcome"),
    [
        ("fast starts", 0, "Containers can be run here."),
        ("every container", 1, "Containers cannot be run here."),
    ],
)
def test_only_what_prevents_containers_makes_the_doctor_fail(
    monkeypatch, capfd, prevents, exit_status, outcome
):
    finding = doctor.Finding(name="x", status="missing", found="[y]", prevents=prevents, remedy="z")
    monkeypatch.setattr(doctor, "examine", lambda: [finding])
    assert fast.main(["doctor"]) == exit_status
    _, row, last = capfd.readouterr().out.splitlines()
    assert row.split() == ["x", "missing", "[y]", *prevents.split(), "z"]
    assert last == outcome
    assert fast.main(["doctor", "--format", "json"]) == exit_status
    assert json.loads(capfd.readouterr().out) == [finding.fields()]
