"""
A program with a sandbox or a pool that is killed leaves no process, cgroup, mount or file.

Nothing else need be run afterwards: the kernel ends the containers, and the workers notice that the
program has gone and remove the rest.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pycontain.cgroup.place import find_mount, own
from pycontain.sandbox import root
from tests.faults import audited, figures
from tests.faults.sample import sample
from tests.faults.trial import within

pytestmark = pytest.mark.needs_root

MOMENTS = 2
LIMIT = 60.0
PROGRAMS = {
    "a Sandbox": "with pycontain.Sandbox(timeout=30) as box:\n    assert box.run_python('1').value == 1",
    "a session": "with pycontain.Sandbox() as box, box.session() as python:\n    assert python.run('1').value == 1",
    "a Pool": "with pycontain.Pool(1) as pool:\n    assert pool.run('1').value == 1",
    "a Pool with a network": "with pycontain.Pool(1, network=['a.example:443']) as pool:\n    assert pool.run('1').value == 1",
}
RUNNING = {
    "a Sandbox": "pycontain.Sandbox().run_python(code)",
    "a Pool": "pycontain.Pool(2).run(code)",
}


def left(pid: int) -> list[str]:
    """What exists of a program: processes of its users, cgroups and directories of containers."""
    first = 0x7000_0000 + pid * 256
    above = find_mount() + os.path.dirname(own())
    found = [f"cgroup {name}" for name in os.listdir(above) if name.startswith(f"py-{pid}-")]
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            uid = os.stat(f"/proc/{name}").st_uid
            words = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        if first <= uid < first + 256 or b"py-%d-" % pid in words:
            found.append(f"process {name} {words!r}")
    states = (Path("/run/pycontain").rglob(f"py-{pid}-*"), Path(root.BASE).glob(f"*/py-{pid}-*"))
    return found + [f"file {path}" for paths in states for path in paths]


def cleaned(pid: int) -> list[str]:
    within(LIMIT, lambda: not left(pid))
    return left(pid)


def ran(count: str, moment: int, code: str) -> tuple[int, int]:
    """The pid and the status of a program that is killed at a moment."""
    command = [sys.executable, audited.__file__, count, str(moment), f"import pycontain\n{code}"]
    with subprocess.Popen(command, cwd=Path(__file__).parents[2]) as process:
        return process.pid, process.wait(LIMIT)


@pytest.mark.parametrize("name", PROGRAMS)
def test_nothing_is_left_of_a_program_that_is_killed_at_any_moment(name, tmp_path) -> None:
    count, code, found = str(tmp_path / "count"), PROGRAMS[name], []
    pid, status = ran(count, -1, code)
    assert (status, cleaned(pid)) == (0, [])
    moments = sample(range(audited.Count(count).value), MOMENTS, name)
    for moment in moments:
        pid, status = ran(count, moment, code)
        assert status in (-signal.SIGKILL, 0)
        found += [(moment, text) for text in cleaned(pid)]
    figures.add("killed", name, len(moments))
    assert found == []


@pytest.mark.parametrize("name", RUNNING)
def test_nothing_is_left_of_a_program_that_is_killed_while_code_runs(name, tmp_path) -> None:
    code = "import os, time\nos.fork()\ntime.sleep(600)"
    program = f"import pycontain\ncode = {code!r}\n{RUNNING[name]}"
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=Path(__file__).parents[2]
    ) as process:
        try:
            assert within(
                LIMIT, lambda: sum(text.startswith("process") for text in left(process.pid)) >= 2
            )
            assert any(text.startswith("cgroup") for text in left(process.pid)), "it is recognized"
        finally:
            process.kill()
    assert cleaned(process.pid) == []
