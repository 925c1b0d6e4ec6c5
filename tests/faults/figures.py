"""What was tried: figures that each test adds to a file, for the summary of `python -m tests.faults`."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from pathlib import Path

VARIABLE = "PYCONTAIN_FIGURES"
"""Names the file; without it, a test only prints its figures."""

KINDS = ("failed once", "failed from one on", "killed", "halted")


def add(kind: str, verb: str, number: int) -> None:
    """So many faults of one of these kinds have happened to a verb."""
    print(f"{verb}: {number} {kind}")
    path = os.environ.get(VARIABLE)
    if path:
        with open(path, "a") as file:
            file.write(json.dumps([kind, verb, number]) + "\n")


def table(path: Path) -> str:
    """The figures of a file, a line for each verb, and their sums."""
    sums: dict[str, dict[str, int]] = defaultdict(lambda: dict.fromkeys(KINDS, 0))
    for line in path.read_text().splitlines():
        kind, verb, number = json.loads(line)
        sums[verb][kind] += number
        sums["all"][kind] += number
    width = max(map(len, sums), default=0)
    rows = [" " * width + "".join(f"{kind:>20}" for kind in KINDS)]
    for verb in sorted(sums, key=lambda verb: (verb == "all", verb)):
        rows.append(verb.ljust(width) + "".join(f"{sums[verb][kind]:20}" for kind in KINDS))
    return "\n".join(rows)
