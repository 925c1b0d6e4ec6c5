"""A complete run: the image, the machine, the tree, the command, its report."""

import os
from collections.abc import Sequence
from pathlib import Path

from . import cache, guest, qemu, tree
from . import image as images
from .progress import SELDOM, Step, say
from .recipe import PROJECT

COMMAND_LIMIT = 2700.0
"""Seconds a command may take by default."""

REPORT = "/run/pycontain-lab.xml"
"""A file that the command may write inside, to be copied out; $LAB_REPORT is its path."""


def image() -> images.Image:
    """The image, built if its recipe changed."""
    with cache.lock():
        return images.ensure()


def command(
    argv: Sequence[str],
    *,
    limit: float = COMMAND_LIMIT,
    report: Path | None = None,
    terminal: bool = False,
    append: str = "",
    title: str = "",
) -> int:
    """
    Runs a command in a fresh machine, in a copy of the tree; returns its exit status.

    `report` receives the file that the command wrote to $LAB_REPORT, if it did; `append` goes to
    the kernel's command line. Raises LabError when the machine does not boot or is lost.
    """
    with cache.lock():
        ready = images.ensure()
        handle = tree.packed(PROJECT)
        try:
            with qemu.booted(ready, tree=handle, append=append) as machine:
                with Step("copying the tree", guest.SMALL):
                    guest.unpack(machine)
                status = _inside(machine, argv, limit, terminal, title or f"`{argv[0]}`")
                if report and guest.fetch(machine, REPORT, report):
                    say(f"report: {report}")
                return status
        finally:
            os.close(handle)


def _inside(
    machine: qemu.Machine, argv: Sequence[str], limit: float, terminal: bool, title: str
) -> int:
    env = {"LAB_REPORT": REPORT, "PYTHONUNBUFFERED": "1"}
    if terminal:
        return guest.run(machine, argv, limit=limit, env=env, terminal=True)
    with Step(f"running {title}", limit, every=SELDOM):
        return guest.run(machine, argv, limit=limit, env=env)


def tests(arguments: Sequence[str], *, limit: float, report: Path) -> int:
    """Runs the tests marked for the machine in one pytest process; returns its exit status."""
    report.unlink(missing_ok=True)
    shell = 'exec python -m pytest --junitxml="$LAB_REPORT" "$@"'
    chosen = arguments or ["tests", "-m", "machine"]
    plain = ["-p", "no:cacheprovider", *chosen]
    return command(
        ["sh", "-c", shell, "pytest", *plain], limit=limit, report=report, title="the tests"
    )
