"""One worker of the soak."""

from __future__ import annotations

import errno
import faulthandler
import fcntl
import json
import os
import random
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pycontain.cli import fast
from tests.bundles import TOKEN
from tests.faults import binding
from tests.soak import invariants

LIMIT = 60.0
"""Seconds after which a command counts as hanging; `delete --force` itself waits 10 for others."""

ERRORS = (errno.ENOSPC, errno.EMFILE, errno.ENOMEM, errno.EINTR)
VERBS = {
    "create": 6, "start": 5, "run": 5, "run --detach": 4, "exec": 5, "kill": 3, "kill --all": 2,
    "pause": 2, "resume": 3, "update": 2, "delete": 5, "delete --force": 5, "state": 3, "list": 1,
    "ps": 1, "events": 1,
}  # fmt: skip
"""How often each is chosen, relative to the others."""


class Place(NamedTuple):
    """Where a soak happens: folders, ids, and the bundles to choose from."""

    folder: Path
    ids: tuple[str, ...]
    bundles: tuple[Path, ...]

    @property
    def root(self) -> Path:
        return self.folder / "state"


class Worker:
    """
    Runs commands until its time is over.

    counts    operations, and faults of each kind
    problems  what does not hold, with the command that was run
    """

    def __init__(self, place: Place, seed: str) -> None:
        self.place = place
        self.chance = random.Random(seed)
        self.name = seed.replace("/", "-")
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []

    def work(self, until: float, most: int) -> None:
        """Until this time by time.monotonic(), or so many operations."""
        while time.monotonic() < until and self.counts["operations"] < most:
            self.operate()

    def operate(self) -> None:
        """One command, with a fault or without, and what must hold afterwards."""
        id = self.chance.choice(self.place.ids)
        words = self._words(id)
        kind = self.chance.choices(["none", "errno", "kill", "kill program"], [5, 2, 2, 1])[0]
        with self._using(id):
            status, out, err = self._command(words, kind)
            self._disturb(id, kind)
        self.counts["operations"] += 1
        self.counts[f"ended with {'a signal' if (status or 0) < 0 else status}"] += 1
        found = [*invariants.complaints_about_output(words, status, out, err)]
        self._report(words, kind, found)
        with self._alone_with(id) as alone:
            if alone:
                self.counts["states checked"] += 1
                self._report(words, kind, [*invariants.problems(self.place.root, id)])

    def _words(self, id: str) -> list[str]:
        verb = self.chance.choices([*VERBS], [*VERBS.values()])[0]
        bundle = str(self.chance.choice(self.place.bundles))
        words = verb.split()
        if words[0] in ("create", "run"):
            return [*words, "-b", bundle, id]
        if words[0] == "exec":
            return ["exec", id, *self.chance.choice([("true",), ("sleep", "0.1"), ("missing",)])]
        if verb == "kill":
            return ["kill", id, self.chance.choice(["TERM", "KILL", "USR1"])]
        if verb == "kill --all":
            return ["kill", "--all", id, "KILL"]
        more = {
            "list": ["--format", "json"], "ps": ["--format", "json", id],
            "events": ["--stats", id],
            "update": ["--resources", str(self.place.folder / "resources"), id],
        }  # fmt: skip
        return [*words, *more.get(verb, [id])]

    # --- one command ---------------------------------------------------------------------------

    def _command(self, words: list[str], kind: str) -> tuple[int | None, str, str]:
        """(status, output, errors) of a command; its status is None if it hangs."""
        out, err = (self.place.folder / f"{self.name}.{name}" for name in ("out", "err"))
        for path in (out, err):
            path.unlink(missing_ok=True)
        fault, wait = self._fault(kind), LIMIT
        if kind == "kill":
            wait = self.chance.random() ** 2 * 0.2
        pid = os.fork()
        if pid == 0:
            _become(words, self.place.root, fault, out, err)
        pidfd = os.pidfd_open(pid)
        ended = bool(select.select([pidfd], [], [], wait)[0])
        os.close(pidfd)
        if not ended:
            os.kill(pid, signal.SIGKILL)
            self.counts["killed"] += kind == "kill"
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        hung = not ended and kind != "kill"
        return None if hung else status, _text(out), _text(err)

    def _fault(self, kind: str) -> binding.Fault | None:
        if kind != "errno":
            return None
        self.counts["errors injected"] += 1
        process, most = self.chance.choice([(0, 60), (0, 500), (1, 400)])
        error, lasting = self.chance.choice(ERRORS), self.chance.random() < 0.2
        lasting = lasting and error != errno.EINTR
        return binding.Fault(process, self.chance.randrange(most), error, lasting)

    def _disturb(self, id: str, kind: str) -> None:
        """Kill a container's first process, as its program's end or an engine would."""
        if kind != "kill program":
            return
        try:
            pid = int((self.place.root / id / "process").read_text().split()[0])
            if f"/{id}" in invariants.cgroup_of(pid):
                os.kill(pid, signal.SIGKILL)
                self.counts["programs killed"] += 1
        except (OSError, ValueError, IndexError):
            pass  # there is none

    def _report(self, words: list[str], kind: str, found: list[str]) -> None:
        self.problems += [f"{' '.join(words)} ({kind}): {text}" for text in found]

    # --- who uses an id --------------------------------------------------------------------------

    @contextmanager
    def _using(self, id: str) -> Iterator[None]:
        """While others may use the id, too."""
        with (self.place.folder / f"{id}.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            yield

    @contextmanager
    def _alone_with(self, id: str) -> Iterator[bool]:
        """Whether no other worker is using the id; until the end of the block none does."""
        with (self.place.folder / f"{id}.lock").open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True


def _become(
    words: list[str], root: Path, fault: binding.Fault | None, out: Path, err: Path
) -> None:
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(os.open(out, flags), 1)
        os.dup2(os.open(err, flags), 2)
        faulthandler.disable()
        sys.argv[1:] = ["--root", str(root), *words]
        shared = binding.Shared() if fault else None
        binding.install(fault, shared)
        os._exit(fast.main(sys.argv[1:]))
    finally:
        os._exit(99)


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except FileNotFoundError:
        return ""


def id_of(number: int) -> str:
    """An id that is recognized as this soak's everywhere on the host."""
    return f"{TOKEN}-soak{number}"


def save(worker: Worker, path: Path) -> None:
    """Write what a worker has to tell."""
    path.write_text(json.dumps([worker.counts, worker.problems]))
