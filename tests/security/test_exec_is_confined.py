"""
CVE-2019-10144, CVE-2019-10145, CVE-2019-10147: what was executed in a container had capabilities
and system calls that the container lacks, and the devices of its caller's cgroup.
"""

from __future__ import annotations

import os
import subprocess

import pytest

from pycontain.kernel import calls
from pycontain.kernel import const as c
from tests.security.attack import in_a_child

pytestmark = pytest.mark.needs_root

# Each line does what one of the three restrictions prevents. CAP_MKNOD is granted, so that only the
# device filter of the cgroup is left to refuse the host's log.
ATTACK = """
mount -t tmpfs none /sys && echo mounted
mkdir /tmp/new && echo made
mknod /tmp/log c 1 11 && (exec 9</tmp/log) && echo opened
"""
CONFINED = {
    "process.capabilities": dict.fromkeys(("bounding", "effective", "permitted"), ["CAP_MKNOD"]),
    "linux.seccomp": {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    },
}
ENTERED = c.CLONE_NEWIPC | c.CLONE_NEWUTS | c.CLONE_NEWNET | c.CLONE_NEWPID | c.CLONE_NEWNS


@pytest.fixture
def container(runtime, bundle):
    return runtime.started(bundle("sleep 100", CONFINED))


def test_a_process_of_exec_is_confined_like_its_container(runtime, bundle, container):
    first = runtime.run(bundle(ATTACK, CONFINED))
    entered = runtime("exec", container, "sh", "-c", ATTACK)
    assert (entered.words, entered.err.splitlines()) == ([], first.err.splitlines())
    assert len(first.err.splitlines()) == 3, "each line of the attack is refused"


def test_a_process_that_exec_reads_from_a_file_is_confined(runtime, container, tmp_path):
    process = tmp_path / "process.json"
    process.write_text('{"cwd": "/", "env": ["PATH=/bin"], "args": ["sh", "/tmp/attack"]}')
    rootfs = runtime.state(container)["rootfs"]
    with open(f"{rootfs}/tmp/attack", "w") as script:
        script.write(ATTACK)
    assert runtime("exec", "--process", process, container).words == []


@pytest.mark.control
def test_a_naive_exec_only_enters_the_namespaces(runtime, container):
    pid = runtime.state(container)["pid"]

    def enter():
        calls.setns(os.pidfd_open(pid), ENTERED)
        done = subprocess.run(
            ["/bin/sh", "-c", ATTACK], capture_output=True, text=True, check=False
        )
        return done.stdout.split()

    assert in_a_child(enter) == ["mounted", "made", "opened"]
