"""
Run the soak: `python -m tests.soak --seconds 600 --seed N`.

Prints the seed first, then what does not hold, and at the end one line with the numbers; the exit
status is 1 if anything does not hold. The same seed chooses the same commands and faults in each
worker, but not the same moments.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from pycontain.cli import fast
from pycontain.kernel import calls, seal
from pycontain.kernel import const as c
from pycontain.kernel.mounts import Tree
from tests.bundles import Bundles, fill_rootfs, look
from tests.lifecycle.test_failures import RICH, VFORK
from tests.soak.work import Place, Worker, id_of, save

_PLAIN = {"process.terminal": False, "process.args": ["/bin/program"]}
_PROGRAM = "#!/bin/sh\ntrap 'exit 3' TERM\nfor n in $(seq ${1:-20}); do sleep .05; done\n"


class Outcome(NamedTuple):
    """What a soak has done and found."""

    counts: Counter[str]
    problems: list[str]

    def __str__(self) -> str:
        faults = sum(self.counts[name] for name in ("killed", "errors injected", "programs killed"))
        others = [
            f"{count} {name}" for name, count in sorted(self.counts.items()) if name != "operations"
        ]
        return (
            f"{self.counts['operations']} operations, {faults} faults,"
            f" {len(self.problems)} that do not hold ({', '.join(others)})"
        )


def soak(
    folder: Path, seed: int, seconds: float, workers: int = 8, ids: int = 50, most: int = 1 << 30
) -> Outcome:
    """Soak in a folder, in this process's mount namespace; most is of operations of each worker."""
    before = look()
    place = furnished(folder, ids)
    until = time.monotonic() + seconds
    started = []
    for number in range(workers):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                worker = Worker(place, f"{seed}/{number}")
                worker.work(until, most)
                save(worker, folder / f"result-{number}")
                status = 0
            finally:
                os._exit(status)
        started.append(pid)
    counts: Counter[str] = Counter()
    problems: list[str] = []
    for number, pid in enumerate(started):
        if os.waitpid(pid, 0)[1]:
            problems.append(f"worker {number} has failed")
            continue
        more, found = json.loads((folder / f"result-{number}").read_text())
        counts.update(more)
        problems += found
    problems += left_after(place, before)
    return Outcome(counts, problems)


def furnished(folder: Path, ids: int) -> Place:
    """Bundles of each kind, and what the commands need."""
    folder.chmod(0o755)
    rootfs = folder / "busybox"
    rootfs.mkdir()
    fill_rootfs(rootfs)
    (rootfs / "bin/program").write_text(_PROGRAM)
    (rootfs / "bin/program").chmod(0o755)
    (folder / "resources").write_text('{"unified": {"cgroup.max.depth": "7"}}')
    made = Bundles(folder, rootfs)
    hook = {"path": "/bin/true"}
    hooks = {kind: [hook] for kind in ("createRuntime", "createContainer", "poststop")}
    changes = ({}, _PLAIN, {**VFORK, **_PLAIN}, {**RICH, **_PLAIN, "hooks": hooks})
    bundles = tuple(made("", {"process.args": ["/bin/program"], **each}).path for each in changes)
    return Place(folder, tuple(map(id_of, range(ids))), bundles)


def left_after(place: Place, before: object) -> list[str]:
    """What is left after `delete --force` of every id."""
    found = []
    for id in place.ids:
        pid = os.fork()
        if pid == 0:
            seal.ensure = lambda: None
            os._exit(fast.main(["--root", str(place.root), "delete", "--force", id]))
        if os.waitpid(pid, 0)[1]:
            found.append(f"delete --force {id} fails")
    end = time.monotonic() + 10
    while look()[:3] != before[:3] and time.monotonic() < end:
        time.sleep(0.01)
    for kind, was, now in zip(before._fields, before, look(), strict=True):
        if was != now:
            found.append(f"{kind} changed: {sorted(set(was) ^ set(now))}")
    left = [name for name in os.listdir(place.root) if not name.startswith(".")]
    return found + ([f"directories are left: {left}"] if left else [])


def main() -> int:
    """Soak in a temporary folder and a mount namespace of its own."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak")
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--workers", type=int, default=8)
    parser.add_argument("--ids", type=int, default=50)
    chosen = parser.parse_args()
    print(f"seed {chosen.seed}", flush=True)
    calls.unshare(c.CLONE_NEWNS)
    slash = os.open("/", os.O_PATH | os.O_CLOEXEC)
    for kind in (c.MS_PRIVATE, c.MS_SHARED):
        Tree(slash).propagate(kind, recursive=True)
    os.close(slash)
    with tempfile.TemporaryDirectory(prefix="pycontain-soak.") as folder:
        outcome = soak(Path(folder), chosen.seed, chosen.seconds, chosen.workers, chosen.ids)
    for text in outcome.problems:
        print(f"does not hold: {text}")
    print(f"{outcome}, seed {chosen.seed}")
    return int(bool(outcome.problems))


if __name__ == "__main__":
    sys.exit(main())
