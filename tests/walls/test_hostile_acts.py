"""
The same hostile acts against each wall: which of them holds.

The weak container has all capabilities, no filter and no masked paths: it is the control, and shows
what the virtual machine inside it still stops.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from pycontain.spec import system_calls
from pycontain.spec.names import CAPABILITIES
from tests.walls.acts import ACTS, CONTAINER, VM, WALLS, WEAK, source, table
from tests.walls.conftest import require

PAGE = Path(__file__).parents[2] / "docs/isolation.md"
MASKED = ["/proc/kcore", "/proc/keys", "/proc/sysrq-trigger", "/sys/firmware"]


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """The program that commits the acts."""
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    made = tmp_path_factory.mktemp("acts") / "act"
    subprocess.run(["gcc", "-static", "-w", "-x", "c", "-o", made, "-"], check=True,
                   input=source().encode())  # fmt: skip
    return made


def changes(wall):
    """What makes a bundle of the tests this wall."""
    if wall == CONTAINER:
        few = ["CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_KILL", "CAP_SETUID"]
        return {
            "process.capabilities": dict.fromkeys(("bounding", "effective", "permitted"), few),
            "linux.seccomp": system_calls.profile(()),
            "linux.maskedPaths": MASKED,
        }
    every = dict.fromkeys(("bounding", "effective", "permitted"), sorted(CAPABILITIES))
    return {"process.capabilities": every}


@pytest.mark.parametrize("wall", WALLS)
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.name)
def test_the_walls_hold_what_the_table_says(runtime, bundle, program, act, wall):
    if wall == VM:
        require("kvm")
        runtime.isolation = "kvm"
    made = bundle("", {"process.args": ["/bin/act", str(ACTS.index(act))], **changes(wall)})
    shutil.copy(program, made.rootfs / "bin/act")
    assert runtime.run(made).out == ("held\n" if wall in act.holds else "reached\n")


def test_every_act_reaches_the_kernel_of_the_weak_container():
    """Else it would prove nothing about the others."""
    assert all(WEAK not in act.holds for act in ACTS)


def test_the_page_has_the_table():
    assert table() in PAGE.read_text()


def test_what_a_crash_takes_down_is_its_own_container(runtime, bundle):
    require("kvm")
    runtime.isolation = "kvm"
    loop = bundle("echo up; while :; do sleep 0.1; done")
    other, victim = runtime.started(loop), runtime.started(loop)
    runtime.wait_for_text(victim, "up")
    runtime.ok("kill", victim, "KILL")  # the monitor, which is the "kernel" of the program
    runtime.wait_for_status(victim, "stopped")
    assert runtime.state(other)["status"] == "running"
