"""Which system calls of the host's kernel a program causes, by name, as strace(1) sees them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile

from ..vm import jail
from ..vm.linux.numbers import BY_MACHINE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_CALL = re.compile(r"^\d+ +(\w+)\(")
_LIMIT = 120  # seconds


def made(command: Sequence[str], *, monitored: bool) -> dict[str, int]:
    """
    How often a command makes each system call; {} without strace.

    monitored  it is the monitor of a program: what counts begins when its jail is closed
    """
    if not shutil.which("strace"):
        return {}
    with tempfile.TemporaryDirectory(prefix="pycontain-calls-") as directory:
        log = f"{directory}/log"
        strace = ["strace", "-f", "-qq", "-o", log, *command]
        quiet = subprocess.DEVNULL
        subprocess.run(strace, stdin=quiet, stdout=quiet, stderr=quiet, timeout=_LIMIT, check=False)
        if not os.path.exists(log):
            return {}
        with open(log, encoding="utf-8", errors="replace") as file:
            return count(file.read().splitlines(), monitored=monitored)


def count(lines: Sequence[str], *, monitored: bool) -> dict[str, int]:
    """The calls in the lines of a log, most frequent first."""
    if monitored:
        closed = [number for number, line in enumerate(lines) if " seccomp(SECCOMP_SET_" in line]
        lines = _of_same(lines, closed[-1]) if closed else []
    found: dict[str, int] = {}
    for line in lines:
        if match := _CALL.match(line):
            found[match[1]] = found.get(match[1], 0) + 1
    return dict(sorted(found.items(), key=lambda pair: -pair[1]))


def _of_same(lines: Sequence[str], start: int) -> list[str]:
    """The lines after this one that are about its process, not about what has started that."""
    pid = lines[start].split(" ", 1)[0]
    earlier = {line.split(" ", 1)[0] for line in lines[:start]} - {pid}
    return [line for line in lines[start + 1 :] if line.split(" ", 1)[0] not in earlier]


def allowed(*, monitored: bool) -> int:
    """How many system calls a wall lets through to the kernel, some for certain arguments only."""
    return len(jail.allowed_calls()) if monitored else len(BY_MACHINE[os.uname().machine])
