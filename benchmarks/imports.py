"""What imports cost, and what `pycontain.lean` saves: `python benchmarks/imports.py`."""

from __future__ import annotations

import os
import sys
import time

from pycontain.cli import launcher
from pycontain.lean import archive

_RUNS = 120
_OURS = f"import sys; sys.path += {launcher.directories()!r}; import "
_RUN = "pycontain.cli.fast, pycontain.cli.run, pycontain.kernel.seal, pycontain.launch.vfork"
_CASES = {
    "nothing": "pass",
    "os": "import os",
    "pycontain.lean.os": f"{_OURS}pycontain.lean.os",
    "json": "import json",
    "pycontain.lean.jsontext": f"{_OURS}pycontain.lean.jsontext",
    "dataclasses": "import dataclasses",
    "pycontain.lean.record": f"{_OURS}pycontain.lean.record",
    "typing": "import typing",
    "enum": "import enum",
    "re": "import re",
    "subprocess": "import subprocess",
    "modules of run, as usual": f"{_OURS}{_RUN}",
    "modules of run, archived": archive.boot(f"sys.path += {launcher.directories()!r}").replace(
        f"sys.exit({archive.PROGRAM.partition(':')[2]}())", f"import {_RUN}"
    ),
}


def main() -> None:
    """Print the least time of each case, and what it adds to the first (milliseconds)."""
    least = dict.fromkeys(_CASES, float("inf"))
    for _ in range(_RUNS):
        for name, code in _CASES.items():
            least[name] = min(least[name], _milliseconds(code))
    bare = least["nothing"]
    for name, spent in least.items():
        print(f"{name:26} {spent:6.1f}  +{spent - bare:.1f}")


def _milliseconds(code: str) -> float:
    command = [launcher.interpreter(), archive.FLAGS, "-c", code, "run"]
    began = time.perf_counter()
    pid = os.posix_spawn(command[0], command, {"PATH": "/usr/bin:/bin"})
    if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) != 0:
        sys.exit(f"does not run: {code}")
    return (time.perf_counter() - began) * 1000


if __name__ == "__main__":
    main()
