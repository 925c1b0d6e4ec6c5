"""The programs to measure, with equal isolation, in a mount namespace set up as on most hosts."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pycontain
from pycontain.kernel import calls
from pycontain.kernel import const as c

from . import workloads
from .measure import Subject

PYCONTAIN = str(Path(sys.executable).with_name("pycontain"))
BARE = str(Path(sys.executable).resolve())
CGROUP = "/sys/fs/cgroup"


def enter_usual_host() -> None:
    """
    Set up what most hosts have, for this process and its children: cgroup v2 alone, tmpfs on /run.

    On a hybrid host crun refuses to run and runc uses v1; this way all runtimes do the same work.
    All keep their state below /run, where anything but a tmpfs could cost more than the rest.
    """
    calls.unshare(c.CLONE_NEWNS)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "none", "/run"], check=True)
    if not os.path.exists(f"{CGROUP}/cgroup.controllers"):
        subprocess.run(["mount", "-t", "cgroup2", "none", CGROUP], check=True)


def _id(name: str) -> str:
    return f"bench-{name}-{os.getpid()}"


def bare() -> Subject:
    """The minimum that any Python program takes."""
    return Subject("bare python3", [BARE, "-IS", "-c", "pass"])


def _runtimes() -> dict[str, str]:
    """The runtimes that are installed, and where."""
    peers = {name: shutil.which(name) for name in ("runc", "crun")}
    return {"pycontain": PYCONTAIN, **{name: path for name, path in peers.items() if path}}


def runs(bundle: str) -> list[Subject]:
    """The runtimes that are installed, on one bundle."""
    return [
        Subject(f"{name} run", [path, "run", "--bundle", bundle, _id(name)])
        for name, path in _runtimes().items()
    ]


def missing() -> list[str]:
    """The peers that are not installed."""
    return [name for name in ("runc", "crun", "bwrap") if shutil.which(name) is None]


def bubblewrap(root: str) -> list[Subject]:
    """Bubblewrap with the namespaces and mounts of the small bundle; it has no cgroups."""
    path = shutil.which("bwrap")
    if path is None:
        return []
    own = ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--new-session"]
    mounts = ["--ro-bind", root, "/", "--proc", "/proc", "--dev", "/dev"]
    mounts += ["--tmpfs", "/dev/shm", "--mqueue", "/dev/mqueue", "--ro-bind", "/sys", "/sys"]
    identity = ["--hostname", "bench", "--cap-drop", "ALL", "--clearenv"]
    return [Subject("bwrap", [path, *own, *mounts, *identity, *workloads.PROGRAM])]


def library(bundle: str) -> list[Subject]:
    """
    A container from a warm worker: from the call until it is reaped, and until it is deleted.

    The worker is warmed up by one call before each measured one.
    """

    def run() -> pycontain.Result:
        return pycontain.run(bundle)

    return [
        Subject("library, to exit", prepare=run, act=lambda: run().wall * 1e3),
        Subject("library", prepare=run, act=run),
    ]


class Verbs:
    """The short commands, on containers of a bundle that sleeps."""

    def __init__(self, bundle: str) -> None:
        self.bundle = bundle
        self.kept = _id("kept")
        self.gone = _id("gone")

    def __enter__(self) -> list[Subject]:
        """One container is kept for state and kill, another is created for each delete."""
        _call("create", "--bundle", self.bundle, self.kept)
        return [
            Subject("state", [PYCONTAIN, "state", self.kept]),
            Subject("kill", [PYCONTAIN, "kill", self.kept, "WINCH"]),  # ignored
            Subject("delete", [PYCONTAIN, "delete", self.gone], prepare=self._stopped),
        ]

    def __exit__(self, *_: object) -> None:
        _call("delete", "--force", self.kept)
        _call("delete", "--force", self.gone)

    def _stopped(self) -> None:
        _call("run", "--keep", "--bundle", self.bundle, self.gone)


class Inside:
    """`exec` of each runtime in its running container; the bundle's own program sleeps."""

    def __init__(self, bundle: str) -> None:
        self.bundle = bundle

    def __enter__(self) -> list[Subject]:
        """Start the containers."""
        for name, path in _runtimes().items():
            _call("run", "--detach", "--bundle", self.bundle, _id(name), path=path)
        return [
            Subject(f"{name} exec", [path, "exec", _id(name), *workloads.PROGRAM])
            for name, path in _runtimes().items()
        ]

    def __exit__(self, *_: object) -> None:
        for name, path in _runtimes().items():
            _call("delete", "--force", _id(name), path=path)


def _call(*words: str, path: str = PYCONTAIN) -> None:
    # no pipes: a created container would keep them open
    quiet = subprocess.DEVNULL
    subprocess.run([path, *words], check=True, stdin=quiet, stdout=quiet, stderr=quiet)
