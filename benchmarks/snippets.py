"""One untrusted snippet, `pass`: in a sandbox, in a pool, and what people use instead."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pycontain

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
        return [
            Subject("python3 -c pass", _NATIVE),
            Subject("Pool", act=lambda: self._pool.run("pass")),
            Subject("Sandbox, the same", act=lambda: self._box.run_python("pass")),
            Subject("Sandbox, cold", act=_cold),
            Subject("subprocess", act=_native),
            *_bubblewrap(),
            *_podman(),
            Subject("python3, of two at once", act=_at_once(_native)),
            Subject("Pool, of two at once", act=_at_once(lambda: self._pool.run("pass"))),
            Subject("Sandbox, of two at once", act=_at_once(_cold)),
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


def _bubblewrap() -> list[Subject]:
    path = shutil.which("bwrap")
    if path is None:
        return []
    own = ["--unshare-all", "--new-session", "--die-with-parent", "--clearenv"]
    mounts = ["--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib"]
    mounts += ["--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev"]
    mounts += ["--tmpfs", "/tmp", "--ro-bind", os.path.dirname(BARE), os.path.dirname(BARE)]
    return [Subject("bwrap + python", [path, *own, *mounts, *_NATIVE])]


def _podman() -> list[Subject]:
    """Podman on the root file system that a sandbox has."""
    path = shutil.which("podman")
    if path is None:
        return []
    from pycontain.sandbox.root import PYTHON, python_root

    flags = ["--rm", "--network=none", "--read-only", "--cap-drop=all", "--rootfs"]
    return [
        Subject("podman run", [path, "run", *flags, f"{python_root()}:O", PYTHON, "-c", "pass"])
    ]
