"""
The child of `run` borrows its parent's memory until it executes its program.

Which children may is the plan's to say (tests/unit/test_plan.py), what happens when a step of one
fails is in test_failures.py. Here: what borrowing must not change, and a child that is killed.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pycontain.kernel import borrow, calls
from tests.bundles import TOKEN, look

PROGRAM = (b"/bin/sh", (b"sh", b"-c", b"exit 7"), ())
RESCUE = (b"/bin/false",)


def refuse(number):
    raise AssertionError(f"execve: {os.strerror(number)}")


def spawned(live, refuse=refuse, rescue=RESCUE):
    """The status of a child that lives so, and what it left in this process's memory."""
    left = []

    def live_here(pid, pidfd):
        left.append((pid, pidfd))
        return live(left)

    try:
        borrow.spawn(0, -1, live_here, refuse, rescue)
    finally:
        [(pid, pidfd), *rest] = left
        ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        assert ended.si_pid == pid
        os.close(pidfd)
    return ended.si_status, rest


def test_what_the_child_writes_to_memory_the_parent_finds():
    def live(left):
        left.append(os.getpid())
        return PROGRAM

    status, [pid] = spawned(live)
    assert status == 7
    assert pid != os.getpid()


def test_descriptors_directory_signals_and_mask_stay_the_parents_own():
    def live(_):
        os.close(reader)
        os.chdir("/proc")
        os.umask(0o777)
        calls.default_signals()
        return PROGRAM

    reader, writer = os.pipe()
    folder, mask, handled = os.getcwd(), os.umask(0o022), signals()
    spawned(live)
    assert os.fstat(reader)
    assert (os.getcwd(), os.umask(mask), signals()) == (folder, 0o022, handled)
    os.close(reader)
    os.close(writer)


def signals():
    """What this process does about signals."""
    with open("/proc/self/status") as file:
        return [line for line in file if line.startswith("Sig")]


class Wrong(Exception):
    pass


def test_what_the_child_raises_is_raised_in_the_parent():
    def live(_):
        raise Wrong("deep inside")

    for _ in range(100):  # nothing is left over that would add up
        with pytest.raises(Wrong, match="deep inside"):
            spawned(live)


def test_a_program_that_cannot_be_executed_is_refused_in_the_child():
    def said(number):
        raise Wrong(os.strerror(number), os.getpid())

    with pytest.raises(Wrong, match="No such file") as caught:
        spawned(lambda _: (b"/nowhere", (), ()), said)
    assert caught.value.args[1] != os.getpid()


@pytest.mark.parametrize(
    "program", [(b"/bin/sh", (b"a\0b",), ()), ("/bin/sh", (), ()), (b"/bin/sh", ("x",), ())]
)
def test_what_is_no_program_is_an_error(program):
    with pytest.raises((TypeError, ValueError)):
        spawned(lambda _: program)


def test_references_do_not_add_up():
    def live(_):
        return (b"/bin/true", (word,), ())

    word = b"a word that is only here"
    spawned(live)
    before = sys.getrefcount(word)
    for _ in range(50):
        spawned(live)
    assert sys.getrefcount(word) == before


def test_without_a_child_there_is_an_error():
    with pytest.raises(Exception, match="clone3"):
        borrow.spawn(0x1 << 62, -1, lambda *_: PROGRAM, refuse, RESCUE)


# --- a child that is killed ----------------------------------------------------------------------

KILLED = """
import os, sys
sys.path = {path!r}
from pycontain.init import main
from pycontain.kernel._ffi import ffi
from pycontain.runtime.options import Options
from pycontain.runtime.run import run

carry_out = main.carry_out
def carry_out_until(step, box):
    if step.name == {step!r}:
        ffi.cast("int *", 8)[0] = 1
    carry_out(step, box)
main.carry_out = carry_out_until
run(Options(root={root!r}), {id!r}, bundle={bundle!r})
print("the parent went on")
"""


@pytest.mark.parametrize("step", ["guard", "mount", "pivot", "find program"])
def test_a_child_that_crashes_leaves_nothing(bundle, tmp_path, step):
    made = bundle("true")
    code = KILLED.format(
        path=sys.path, step=step, root=str(tmp_path / "state"),
        id=f"{TOKEN}-killed", bundle=str(made.path),
    )  # fmt: skip
    before = look()
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.stdout == ""
    assert done.returncode == 1
    assert done.stderr.startswith(
        "pycontain: the container's first process was killed while it was set up; look for"
    )
    assert os.listdir(tmp_path / "state") == []
    assert look() == before
