"""What must hold of an id, whatever was done to it, once nothing is being done to it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

from pycontain.cgroup.place import find_mount

PATIENCE = 10.0
"""Seconds for what was killed to be gone."""

STATUSES = ("creating", "created", "running", "paused", "stopped")


def problems(root: Path, id: str) -> Iterator[str]:
    """
    What does not hold now of an id that no command is working on.

    Without a state directory there is no cgroup and no process of it. With one, its process is in
    its cgroup, and `state` can be believed.
    """
    if not (root / id).exists():
        cgroup = Path(find_mount()) / id
        if not gone(cgroup):
            pids = processes(cgroup)
            yield f"its processes {pids} run on" if pids else "its cgroup is left"
        return
    try:
        pid, start, *_ = (root / id / "process").read_text().split()
    except (FileNotFoundError, ValueError):
        return  # it was not created completely
    if started(int(pid)) == start and f"/{id}" not in cgroup_of(int(pid)):
        yield f"its process {pid} is in the cgroup {cgroup_of(int(pid))}"


def gone(cgroup: Path) -> bool:
    """Whether a cgroup is gone, after a moment."""
    end = time.monotonic() + PATIENCE
    while cgroup.exists():
        if time.monotonic() > end or not processes(cgroup):
            return not cgroup.exists()
        time.sleep(0.01)
    return True


def processes(cgroup: Path) -> list[int]:
    try:
        return [int(line) for line in (cgroup / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def started(pid: int) -> str:
    """A process's start time, "" if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def cgroup_of(pid: int) -> str:
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return next((line[3:] for line in lines if line.startswith("0::")), "")


def complaints_about_output(
    words: list[str], status: int | None, out: str, err: str
) -> Iterator[str]:
    """What is wrong with how a command has ended; None if it hung."""
    if status is None:
        yield "it hangs"
    if "Traceback" in err or "Traceback" in out:
        yield f"it prints a traceback: {err}"
    ours = [line for line in err.splitlines() if line]
    if words[0] not in ("run", "exec") and any(not line.startswith("pycontain: ") for line in ours):
        yield f"it prints {err}"
    if status == 0 and words[0] == "state":
        shown = json.loads(out)
        phase, pid = shown["status"], shown["pid"]
        if phase not in STATUSES or (phase != "creating" and (pid == 0) != (phase == "stopped")):
            yield f"it shows {out}"
    if status == 0 and words[0] == "list":
        json.loads(out)
