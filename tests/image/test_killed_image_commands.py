"""
A command for images or root file systems that is killed leaves what others remove.

`pycontain delete --force` ends the container, as after any other `run`, and `pycontain image prune`
removes files. SIGKILL reaches the command before each operation on files, programs and sockets, and
at each step of a launch. PYCONTAIN_SEED chooses some of these moments; with PYCONTAIN_FAULTS=full
(`make faults`) it is each.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pycontain.cli import fast
from pycontain.image import tools
from pycontain.kernel import calls, seal
from pycontain.kernel import const as c
from tests.bundles import Host, Runtime, look
from tests.faults import audited, figures
from tests.faults.sample import sample
from tests.faults.trial import LIMIT, living_children, settled, within
from tests.image.conftest import Made

pytestmark = pytest.mark.needs_root

MOMENTS = 4  # of each command


class Verb(NamedTuple):
    """A command, and those that prepare it; ROOTFS, IMAGE and ID are replaced."""

    words: str
    before: tuple[str, ...] = ()


PULL, PRUNE = "image pull IMAGE", "image prune --all"
VERBS = {
    "run --rootfs": Verb("run --rootfs ROOTFS --name ID -- true"),
    "run --rootfs --detach": Verb("run -d --rootfs ROOTFS --name ID -- sleep 100"),
    "run IMAGE": Verb("run --name ID IMAGE true", (PULL,)),
    "run IMAGE --detach": Verb("run -d --name ID IMAGE sleep 100", (PULL,)),
    "run --disk IMAGE": Verb("run --disk 2m --name ID IMAGE true", (PULL,)),
    "image pull": Verb(PULL, (PRUNE,)),
    "image rm": Verb("image rm IMAGE", (PULL,)),
    "image prune": Verb(PRUNE, (PULL,)),
}


class Trials:
    """Tries commands again and again, with one image and one root file system."""

    def __init__(self, runtime: Runtime, storage: Path, image: str, rootfs: Path) -> None:
        self.runtime, self.storage = runtime, storage
        self.names = {"ROOTFS": str(rootfs), "IMAGE": image}
        self.count = audited.Count()
        self.id = ""
        self.clean: Host = look()

    def length(self, verb: Verb) -> int:
        """How many operations it announces; it must succeed, and then be removed wholly."""
        self.prepare(verb)
        assert self.status(verb.words, -1) == 0
        assert self.complaints() == []
        return self.count.value

    def killed(self, verb: Verb, moment: int) -> list[str]:
        """What is left after it was killed at this moment, and all was done to mend that."""
        self.prepare(verb)
        assert self.status(verb.words, moment) in (-signal.SIGKILL, 0)
        return self.complaints()

    def prepare(self, verb: Verb) -> None:
        self.id = self.runtime.new_id()
        for words in verb.before:
            assert self.status(words) == 0, (words, self.errors())

    def complaints(self) -> list[str]:
        found = []
        for words in ("delete --force ID", "image prune"):
            if self.status(words):
                found.append(f"{words}: {self.errors()}")
        host = settled(self.clean)
        for kind in ("mounts", "cgroups", "processes"):
            more = sorted(set(getattr(host, kind)) ^ set(getattr(self.clean, kind)))
            found += [f"{kind}: {line}" for line in more]
        found += [f"a file: {path}" for path in self.left()]
        if found:  # so that the next complaints are about the next kill
            for name in ("containers", "images"):
                for path in (self.storage / name).iterdir():
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
        return found

    def left(self) -> Iterator[str]:
        """All files but the lock, the names, and the images that are complete."""
        yield from self.runtime.ids()
        yield from map(str, (self.storage / "containers").iterdir())
        for path in (self.storage / "images").iterdir():
            if path.name in ("lock", "names.json"):
                continue
            if len(path.name) != 64 or set(os.listdir(path)) != {
                "config.json", "record.json", "rootfs",
            }:  # fmt: skip
                yield str(path)

    def status(self, words: str, moment: int | None = None) -> int:
        """Run a command, killed at a moment if there is one; returns its status."""
        line = [self.names.get(word, word.replace("ID", self.id)) for word in words.split()]
        pid = os.fork()
        if not pid:
            self.perform(line, moment)
        assert within(LIMIT, lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG))
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    def perform(self, line: list[str], moment: int | None) -> None:
        try:
            with open(self.runtime.folder / "err", "w") as err:
                os.dup2(err.fileno(), 2)
            os.dup2(os.open(os.devnull, os.O_RDWR), 0)
            os.dup2(os.open(self.runtime.folder / "out", os.O_WRONLY | os.O_CREAT), 1)
            sys.argv[1:] = ["--root", str(self.runtime.root), *line]
            seal.ensure = lambda: None  # this process goes on in its own interpreter
            if moment is not None:
                audited.install(self.count, moment)
            os._exit(fast.main(sys.argv[1:]))
        finally:
            os._exit(99)

    def errors(self) -> str:
        return (self.runtime.folder / "err").read_text()


@pytest.fixture
def trials(runtime: Runtime, storage: Path, image: Made, rootfs: Path) -> Iterator[Trials]:
    runtime.root.mkdir(mode=0o700)
    calls.prctl(c.PR_SET_CHILD_SUBREAPER, 1, name="PR_SET_CHILD_SUBREAPER")
    yield Trials(runtime, storage, image(), rootfs)
    calls.prctl(c.PR_SET_CHILD_SUBREAPER, 0, name="PR_SET_CHILD_SUBREAPER")


@pytest.mark.parametrize("name", VERBS)
def test_a_killed_command_leaves_nothing_that_delete_and_prune_do_not_remove(trials, name) -> None:
    verb, found = VERBS[name], []
    moments = sample(range(trials.length(verb)), MOMENTS, verb.words)
    for moment in moments:
        found += [f"moment {moment}: {text}" for text in trials.killed(verb, moment)]
    figures.add("killed", name, len(moments))
    assert found == []


# --- the programs that it starts ---------------------------------------------------------------------


UMOCI = """#!/bin/sh
for rootfs; do :; done
mkdir "$rootfs"
echo $$ >"$BEGAN"
exec sleep 1000
"""


@pytest.fixture
def umoci(trials: Trials, tmp_path: Path, monkeypatch) -> Callable[[], int]:
    """Has an image unpacked by a program that never ends, and kills the command; its pid."""
    place, began = tmp_path / "programs", tmp_path / "began"
    place.mkdir()
    os.mkfifo(began)
    (place / "umoci").write_text(UMOCI)
    (place / "umoci").chmod(0o755)

    def unpacking() -> int:
        monkeypatch.setenv("PATH", f"{place}:{os.environ['PATH']}")
        monkeypatch.setenv("BEGAN", str(began))
        pid = os.fork()
        if not pid:
            trials.perform(["image", "pull", trials.names["IMAGE"]], None)
        found = int(began.read_text())
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return found

    return unpacking


def pruned(trials: Trials) -> bool:
    """Whether `image prune` removes what was being unpacked."""
    assert trials.status("image prune") == 0
    return not list((trials.storage / "images").glob("new.*"))


def end(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert within(LIMIT, lambda: not living_children())


def test_what_is_still_being_unpacked_is_pruned_once_that_has_ended(trials, umoci) -> None:
    pid = umoci()
    assert not pruned(trials)
    end(pid)
    assert pruned(trials)


@pytest.mark.control
def test_naive_programs_without_the_lock_lose_their_directory(trials, umoci, monkeypatch) -> None:
    real = subprocess.run
    naive = lambda *words, **how: real(*words, **{**how, "pass_fds": ()})  # noqa: E731
    monkeypatch.setattr(tools.subprocess, "run", naive)
    pid = umoci()
    monkeypatch.undo()
    assert pruned(trials), "while the program still writes to it"
    end(pid)
