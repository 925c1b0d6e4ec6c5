"""
runc and crun, where they are installed, for comparing their behaviour with ours.

The tests expect the behaviour of the versions in `VERSIONS`; docs/peers.md describes newer ones. A
peer runs in a mount namespace with only cgroup v2 at /sys/fs/cgroup, since crun refuses a hybrid
host. The host's mounts are not changed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.bundles import LIMIT, TOKEN, Bundle, Done, wait_until

PEERS = ("runc", "crun")
VERSIONS = "runc 1.1.5 and crun 1.8.1 of Debian 12"
_ALONE = 'mount -t cgroup2 none /sys/fs/cgroup 2>/dev/null; exec "$@"'
_numbers = count(1)


class Peer:
    """The command line of a peer, with its own state root."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.root = folder / f"{name}-state"

    def new_id(self) -> str:
        """An id that no container on this host has."""
        return f"{TOKEN}-{self.name}-{next(_numbers)}"

    def command(self, *words: str | Path) -> list[str]:
        """The whole command line."""
        alone = ["unshare", "-m", "--propagation", "private", "sh", "-c", _ALONE, "sh"]
        return [*alone, self.name, "--root", str(self.root), *map(str, words)]

    def __call__(self, *words: str | Path, **how: Any) -> Done:
        """Run one command to completion; its output goes to files, as in `Runtime`."""
        how.setdefault("stdin", subprocess.DEVNULL)
        out, err = self.folder / f"{self.name}.out", self.folder / f"{self.name}.err"
        with out.open("wb") as stdout, err.open("wb") as stderr:
            done = subprocess.run(self.command(*words), stdout=stdout, stderr=stderr,
                                  timeout=LIMIT, check=False, **how)  # fmt: skip
        texts = (path.read_text(errors="surrogateescape") for path in (out, err))
        return Done(done.returncode, *texts)

    def run(self, bundle: Bundle, *flags: str | Path, **how: Any) -> Done:
        """Run a bundle in the foreground."""
        return self("run", "--bundle", bundle.path, *flags, self.new_id(), **how)

    def started(self, bundle: Bundle, *flags: str | Path) -> str:
        """Create and start a container."""
        id = self.new_id()
        for words in (("create", "--bundle", bundle.path, *flags, id), ("start", id)):
            done = self(*words)
            assert done.status == 0, done
        return id

    def state(self, id: str) -> dict[str, Any]:
        """A container's state."""
        return json.loads(self("state", id).out)

    def close(self) -> None:
        """Delete the containers that the test left behind."""
        for id in os.listdir(self.root) if self.root.exists() else ():
            self("delete", "--force", id)
        wait_until(lambda: not self._is_in_use(), f"the processes of {self.name} have ended")

    def _is_in_use(self) -> bool:
        """Whether processes are left in a container's cgroup: delete does not wait for them."""
        files = (path / "cgroup" for path in Path("/proc").glob("[0-9]*"))
        return any(f"/{TOKEN}-{self.name}-" in _text(file) for file in files)


def _text(file: Path) -> str:
    try:
        return file.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.fixture(params=[pytest.param(name, marks=getattr(pytest.mark, f"needs_{name}"))
                        for name in PEERS])  # fmt: skip
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    """One peer after the other."""
    assert shutil.which(request.param)
    runtime = Peer(request.param, tmp_path)
    yield runtime
    runtime.close()
