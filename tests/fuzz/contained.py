"""
Containers of mutated configurations, on a host that they cannot change.

Each command runs in a process of its own, in namespaces of its own, and everything it sees is
read-only but the bundle, the state root and the cgroups. So even a configuration that asks for the
host's root, without a mount namespace, does no harm.
"""

from __future__ import annotations

import json
import os
import random
import re
import select
import signal
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pycontain.cgroup.place import find_mount
from pycontain.cli import fast
from pycontain.kernel import calls, seal
from pycontain.kernel import const as c
from pycontain.kernel.mounts import Tree
from tests.bundles import Bundle, Bundles, Runtime, fill_rootfs, look
from tests.fuzz.mutate import mutated
from tests.lifecycle.test_failures import RICH, VFORK

LIMIT = 20.0
"""Seconds after which a command counts as hanging."""

_UNFORESEEN = re.compile(r"\b(?!OSError)[A-Z][a-z]+[A-Za-z]*Error: ")


class Tried(NamedTuple):
    """How a command ended: status, negative for a signal, None if it hung; its errors."""

    status: int | None
    err: str


def in_a_world_of_its_own(folder: str) -> None:
    """Leave the caller's namespaces; only the folder and the cgroups can be written to."""
    calls.unshare(c.CLONE_NEWNS | c.CLONE_NEWUTS | c.CLONE_NEWIPC | c.CLONE_NEWNET)
    slash = os.open("/", os.O_PATH)
    Tree(slash).propagate(c.MS_PRIVATE, recursive=True)
    place = os.open(folder, os.O_PATH)
    Tree.clone(place).attach(place, folder)
    Tree(slash).set(c.MOUNT_ATTR_RDONLY, 0, recursive=True)
    for path in (folder, find_mount()):
        Tree(os.open(path, os.O_PATH)).set(0, c.MOUNT_ATTR_RDONLY)


def command(runtime: Runtime, words: Sequence[str]) -> Tried:
    """Run one command line in a world of its own."""
    err = runtime.folder / "err"
    err.unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
            for number, path in enumerate((os.devnull, runtime.folder / "out", err)):
                os.dup2(os.open(path, flags if number else os.O_RDONLY), number)
            in_a_world_of_its_own(str(runtime.folder))
            seal.ensure = lambda: None
            os._exit(fast.main(["--root", str(runtime.root), *words]))
        finally:
            os._exit(99)
    pidfd = os.pidfd_open(pid)
    hangs = not select.select([pidfd], [], [], LIMIT)[0]
    os.close(pidfd)
    if hangs:
        os.kill(pid, signal.SIGKILL)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Tried(None if hangs else status, err.read_text(errors="replace"))


def complaints(runtime: Runtime, made: Bundle, wanted: dict[str, Any], verb: str) -> list[str]:
    """What does not hold when this configuration is run or created; each with it at the end."""
    (made.path / "config.json").write_text(json.dumps(wanted))
    before, id = look(), runtime.new_id()
    tried = command(runtime, [verb, "-b", str(made.path), id])
    found = []
    if tried.status is None:
        found.append(f"{verb} hangs")
    ours = [line for line in tried.err.splitlines() if line.startswith("pycontain: ")]
    if "Traceback" in tried.err or any(_UNFORESEEN.search(line) for line in ours):
        found.append(f"{verb} has not foreseen: {tried.err}")
    failed = any(not line.startswith("pycontain: warning: ") for line in ours)
    if failed and runtime.ids():
        found.append(f"{verb} fails and leaves something: {tried.err}")
    deleted = command(runtime, ["delete", "--force", id])
    if deleted.status != 0:
        found.append(f"delete --force: {deleted}")
    end = time.monotonic() + 3
    while look()[:3] != before[:3] and time.monotonic() < end:
        time.sleep(0.002)
    for kind, was, now in zip(before._fields, before, look(), strict=True):
        if was != now:
            found.append(f"{kind} changed: {sorted(set(was) ^ set(now))}")
    return [f"{text}\n{json.dumps(wanted)}" for text in found]


_PLAIN = {"process.terminal": False, "process.args": ["true"], "hooks": {}}
CONFIGS: tuple[dict[str, Any], ...] = ({}, {**RICH, **_PLAIN}, {**VFORK, **_PLAIN})
"""Changes of the usual configuration: from the smallest to one with every kind of step."""


def tries(
    runtime: Runtime, bundles: Bundles, seed: int, seconds: float, most: int = 1 << 30
) -> Iterator[list[str]]:
    """The complaints about one mutated configuration after the other."""
    chance = random.Random(seed)
    sound = [(made, made.config) for made in (bundles("true", changes) for changes in CONFIGS)]
    end = time.monotonic() + seconds
    while time.monotonic() < end and most > 0:
        made, config = chance.choice(sound)
        verb = chance.choice(["run", "create"])
        yield complaints(runtime, made, mutated(chance, config), verb)
        most -= 1


def forever(seed: int, seconds: float) -> Iterator[list[str]]:
    """The same in a process without fixtures."""
    calls.unshare(c.CLONE_NEWNS)
    Tree(os.open("/", os.O_PATH)).propagate(c.MS_PRIVATE, recursive=True)
    with tempfile.TemporaryDirectory(prefix="pycontain-fuzz.") as name:
        folder = Path(name)
        folder.chmod(0o755)
        rootfs = folder / "busybox"
        rootfs.mkdir()
        fill_rootfs(rootfs)
        yield from tries(Runtime(folder), Bundles(folder, rootfs), seed, seconds)
