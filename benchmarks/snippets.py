"""One untrusted snippet, `pass`: in a sandbox, in a pool, and what people use instead."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pycontain
from pycontain.sandbox.root import PYTHON, python_root

from .measure import Subject
from .subjects import BARE

_AT_ONCE = 2  # cores
_SNIPPETS = 20
_NATIVE = [BARE, "-c", "pass"]


class Snippets:
    """The subjects, and the pool and the sandbox that they use."""

    def __enter__(self) -> list[Subject]:
        """Start the pool, and wait until each kind has run once."""
        self._pool = pycontain.Pool(_AT_ONCE)
        self._box = pycontain.Sandbox()
        others = [*_bubblewrap(), *_nsjail(), *_podman()]
        return [
            Subject("python3 -c pass", _NATIVE),
            Subject("Pool", act=lambda: self._pool.run("pass")),
            Subject("Sandbox, the same", act=lambda: self._box.run_python("pass")),
            Subject("Sandbox, cold", act=_cold),
            Subject("subprocess", act=_native),
            *others,
            Subject("python3, of two at once", act=_at_once(_native)),
            Subject("Pool, of two at once", act=_at_once(lambda: self._pool.run("pass"))),
            Subject("Sandbox, of two at once", act=_at_once(_cold)),
            *(_of_two(each.name, each.command) for each in others),
        ]

    def __exit__(self, *_: object) -> None:
        self._pool.close()
        self._box.close()


def _native() -> None:
    subprocess.run(_NATIVE, check=True)


def _cold() -> None:
    with pycontain.Sandbox() as box:
        box.run_python("pass")


def _at_once(run: Callable[[], object]) -> Callable[[], float]:
    """The milliseconds that one takes, if two cores run one after the other."""

    def measure() -> float:
        with ThreadPoolExecutor(_AT_ONCE) as threads:
            began = time.perf_counter()
            for _ in threads.map(lambda _: run(), range(_SNIPPETS)):
                pass
            return (time.perf_counter() - began) * 1e3 / _SNIPPETS

    return measure


def _of_two(name: str, command: Sequence[str]) -> Subject:
    def run() -> None:
        subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, check=True)

    return Subject(f"{name}, of two at once", act=_at_once(run))


def _bubblewrap() -> list[Subject]:
    path = shutil.which("bwrap")
    if path is None:
        return []
    own = ["--unshare-all", "--new-session", "--die-with-parent", "--clearenv"]
    mounts = ["--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib"]
    mounts += ["--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev"]
    mounts += ["--tmpfs", "/tmp", "--ro-bind", os.path.dirname(BARE), os.path.dirname(BARE)]
    return [Subject("bwrap + python", [path, *own, *mounts, *_NATIVE])]


def _nsjail() -> list[Subject]:
    """nsjail, which Debian has no package of, on the root file system that a sandbox has."""
    path = shutil.which("nsjail")
    if path is None:
        return []
    flags = ["-Mo", "--quiet", "--chroot", python_root(), "--disable_rlimits"]
    return [Subject("nsjail + python", [path, *flags, "--", PYTHON, "-c", "pass"])]


def _podman() -> list[Subject]:
    """
    Podman on the root file system that a sandbox has.

    With runc: crun refuses hybrid hosts. Limits of our own, since Podman raises those of the host.
    """
    path = shutil.which("podman")
    if path is None:
        return []
    host = ["--cgroup-manager=cgroupfs", "run", "--runtime=runc", "--pids-limit=-1"]
    limits = ["--ulimit=nofile=1024:1024", "--ulimit=nproc=500:500"]
    flags = ["--rm", "--network=none", "--read-only", "--cap-drop=all", "--rootfs"]
    root = f"{python_root()}:O"  # an overlay over it
    return [Subject("podman run", [path, *host, *limits, *flags, root, PYTHON, "-c", "pass"])]
