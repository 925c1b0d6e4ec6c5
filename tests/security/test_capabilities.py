"""
What a process may do: CVE-2022-29162, CVE-2022-27650, CVE-2022-24769, CVE-2025-27612 (inheritable
capabilities that nobody requested), CVE-2019-10144 and others (an exec with more than its
container).
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import pytest

from pycontain.kernel import calls
from pycontain.spec.names import CAPABILITIES
from tests.security.attack import effective_uid_program, in_a_child
from tests.unit.spec_configs import without

pytestmark = pytest.mark.needs_root

STATUS = ["grep", "-E", "^(Cap|Seccomp:|NoNewPrivs|Uid|Gid|Groups)", "/proc/self/status"]
SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
FEW = ["CAP_CHOWN", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
MASK = 0x421


def status(done):
    """The lines of /proc/self/status; the sets as numbers."""
    found = dict(line.split(":\t") for line in done.lines)
    return {key: int(value, 16) if key in SETS else value for key, value in found.items()}


def capabilities(*sets, names=FEW):
    return {"process.capabilities": dict.fromkeys(sets, names)}


def test_a_process_without_capabilities_in_its_configuration_has_none(runtime, bundle):
    """runc and crun do the same; otherwise those of the caller would be kept."""
    made = bundle("", {"process.args": STATUS, "process.noNewPrivileges": False})
    made.write(without(made.config, "process.capabilities"))
    found = status(runtime.output(made))
    assert {found[name] for name in SETS} == {0}


def test_no_capability_is_inheritable_unless_requested(runtime, bundle):
    made = bundle(
        "", {"process.args": STATUS, **capabilities("bounding", "permitted", "effective")}
    )
    found = status(runtime.output(made))
    assert [found[name] for name in SETS] == [0, MASK, MASK, MASK, 0]


def test_exec_with_more_capabilities_adds_no_inheritable_ones(runtime, bundle):
    made = bundle("sleep 100", capabilities("bounding", "permitted", "effective"))
    container = runtime.started(made)
    found = status(runtime.ok("exec", "--cap", "CAP_SYSLOG", container, *STATUS))
    more = MASK | 1 << CAPABILITIES["CAP_SYSLOG"]
    assert [found[name] for name in SETS] == [0, more, more, more, 0]


def test_exec_warns_of_an_unknown_capability(runtime, bundle):
    container = runtime.started(bundle("sleep 100"))
    done = runtime("exec", "--cap", "CAP_NOTHING", container, "true")
    assert (done.status, done.out) == (0, "")
    assert "CAP_NOTHING is not a capability that pycontain knows" in done.err


def test_exec_as_another_user_adds_no_inheritable_capabilities(runtime, bundle):
    container = runtime.started(bundle("sleep 100"))
    found = status(runtime.ok("exec", "--cap", "CAP_SYSLOG", "--user", "7", container, *STATUS))
    assert found["CapInh"] == found["CapAmb"] == found["CapEff"] == 0


def test_the_sample_requests_no_inheritable_capabilities(runtime, tmp_path):
    runtime.ok("spec", "--bundle", tmp_path)
    process = json.loads((tmp_path / "config.json").read_text())["process"]
    assert process["capabilities"].get("inheritable", []) == []
    assert process["noNewPrivileges"] is True


@pytest.mark.control
def test_a_naive_exec_makes_capabilities_inheritable():
    """As runc did: in all sets. A file with inheritable capabilities then gets them permitted."""

    def run():
        calls.capset(MASK, MASK, MASK)
        status = Path("/proc/self/status").read_text()
        return int(status.split("CapInh:")[1].split()[0], 16)

    assert in_a_child(run) == MASK


def test_exec_gets_no_more_than_the_container(runtime, bundle):
    """Every restriction is the same, and so are the cgroup and the namespaces."""
    show = [*STATUS, "/proc/1/status"]
    filters = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}],
    }
    changes = {
        "process.user": {"uid": 7, "gid": 8, "additionalGids": [9]},
        "linux.seccomp": filters,
    }
    container = runtime.started(
        bundle("sleep 100", {**changes, **capabilities("bounding", "ambient")})
    )
    lines = runtime.ok("exec", container, *show).lines
    own, first = (
        [line.partition(":")[2] for line in lines if line.startswith(file)]
        for file in ("/proc/s", "/proc/1")
    )
    assert own == first != []
    names = "for name in /proc/$process/ns/*; do readlink $name; done"
    places = f"for process in self 1; do cat /proc/$process/cgroup; {names}; done"
    found = runtime.ok("exec", container, "sh", "-c", places).lines
    half = len(found) // 2
    assert found[:half] == found[half:]


needs_x86 = pytest.mark.skipif(
    platform.machine() != "x86_64", reason="needs x86-64: the program is its code"
)


def setuid_root(made):
    """A setuid program that exits with the lowest byte of its effective user id."""
    path = made.rootfs / "bin/who"
    path.write_bytes(effective_uid_program())
    path.chmod(0o4755)


@needs_x86
@pytest.mark.parametrize("privileges", [True, False])
def test_no_new_privileges_defuses_setuid_programs(runtime, bundle, privileges):
    user = {"process.user": {"uid": 1000, "gid": 1000}, "process.noNewPrivileges": not privileges}
    made = bundle("", {"process.args": ["/bin/who"], **user})
    setuid_root(made)
    assert runtime.run(made).status == (0 if privileges else 1000 & 0xFF)


@needs_x86
def test_no_new_privileges_defuses_setuid_programs_for_exec(runtime, bundle):
    made = bundle("sleep 100", {"process.noNewPrivileges": False})
    setuid_root(made)
    container = runtime.started(made)
    assert runtime("exec", "--user", "1000", container, "/bin/who").status == 0
    assert (
        runtime("exec", "--user", "1000", "--no-new-privs", container, "/bin/who").status
        == 1000 & 0xFF
    )


@needs_x86
def test_the_kernel_ignores_setuid_on_a_nosuid_mount(runtime, bundle):
    """A bind mount with nosuid, which the naive mount without options is not."""
    made = bundle(
        "", {"process.user": {"uid": 1000, "gid": 1000}, "process.noNewPrivileges": False}
    )
    setuid_root(made)
    folder = str(made.rootfs / "bin")
    for options, uid in ((["bind"], 0), (["bind", "nosuid"], 1000 & 0xFF)):
        bind = {"destination": "/suid", "type": "bind", "source": folder, "options": options}
        mounts = [*made.config["mounts"][:4], bind]
        made.edit({"mounts": mounts, "process.args": ["/suid/who"]})
        assert runtime.run(made).status == uid


def test_the_bounding_set_of_the_caller_is_not_kept(runtime, bundle):
    """A root program regains what is in it (capabilities(7)), so it holds only what was requested."""
    assert os.geteuid() == 0
    changes = {"process.noNewPrivileges": False, **capabilities("bounding", names=["CAP_CHOWN"])}
    made = bundle("", {"process.args": STATUS, **changes})
    found = status(runtime.output(made))
    assert [found[name] for name in SETS] == [0, 1, 1, 1, 0]
