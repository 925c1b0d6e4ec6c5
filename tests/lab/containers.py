"""
Containers for the tests of the machine: a busybox root, bundles, and a runtime driven by its CLI.

The runtime is `pycontain`; PYCONTAIN_RUNTIME names another with runc's command line, with which
the tests themselves were validated.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest

APPLETS = ("cat", "cut", "dd", "echo", "grep", "head", "id", "ls", "mkdir", "nproc", "sh", "sleep")

LIMIT = 60.0
"""Seconds allowed for one command of the runtime; the emulated machine needs one or two."""

MOUNTS: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=64k"],
    },
    {
        "destination": "/sys/fs/cgroup",
        "type": "cgroup",
        "source": "cgroup",
        "options": ["nosuid", "noexec", "nodev", "rw"],
    },
]

NAMESPACES = ("pid", "ipc", "uts", "mount", "cgroup")


def unbuilt(what: str) -> pytest.MarkDecorator:
    """
    The mark of a test that runc passes and pycontain does not yet, because `what` is missing.

    It is strict: when pycontain passes the test, it fails until the mark is removed.
    """
    ours = not os.environ.get("PYCONTAIN_RUNTIME")
    return pytest.mark.xfail(ours, reason=f"{what} is not built yet", strict=True)


def populate(rootfs: Path) -> None:
    """Fill a folder with busybox and the mount points of a container."""
    busybox = shutil.which("busybox")
    assert busybox
    for name in ("bin", "dev", "proc", "sys/fs/cgroup", "tmp"):
        (rootfs / name).mkdir(parents=True, exist_ok=True)
    shutil.copy2(busybox, rootfs / "bin/busybox")
    for name in APPLETS:
        (rootfs / "bin" / name).symlink_to("busybox")
    (rootfs / "bin/plain").write_text("not a program\n")


@contextmanager
def busybox_root(prefix: str) -> Iterator[Path]:
    """A temporary root file system with busybox, accessible to every user."""
    with tempfile.TemporaryDirectory(prefix=prefix, dir="/var/tmp") as name:
        rootfs = Path(name)
        rootfs.chmod(0o755)
        populate(rootfs)
        yield rootfs


def runtime_command() -> list[str]:
    """The runtime under test."""
    chosen = os.environ.get("PYCONTAIN_RUNTIME")
    if chosen:
        return [chosen]
    installed = shutil.which("pycontain")
    return [installed] if installed else [sys.executable, "-m", "pycontain"]


def config(
    script: str, rootfs: Path, name: str, *, resources: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A configuration that runs a shell script as root with the given limits."""
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sh", "-c", script],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "noNewPrivileges": True,
        },
        "root": {"path": str(rootfs)},
        "hostname": "lab",
        "mounts": [dict(mount) for mount in MOUNTS],
        "linux": {
            "cgroupsPath": f"/pycontain-tests/{name}",
            "namespaces": [{"type": kind} for kind in NAMESPACES],
            "resources": dict(resources or {}),
        },
    }


class Container:
    """A container: its id, its bundle and the runtime that creates it."""

    def __init__(self, runtime: "Runtime", name: str, bundle: Path) -> None:
        self.runtime = runtime
        self.name = name
        self.bundle = bundle

    @property
    def output(self) -> str:
        """What the detached container has written so far."""
        return (self.bundle / "output").read_text(encoding="utf-8")

    def state(self) -> dict[str, Any]:
        """The runtime's `state`."""
        state: dict[str, Any] = json.loads(self.runtime("state", self.name).stdout)
        return state

    def cgroup(self) -> Path:
        """The cgroup of the container's first process, on the host."""
        text = Path(f"/proc/{self.state()['pid']}/cgroup").read_text(encoding="ascii")
        path = next(line[3:] for line in text.splitlines() if line.startswith("0::"))
        return Path("/sys/fs/cgroup") / path.lstrip("/")

    def read(self, file: str) -> str:
        """One file of the container's cgroup, stripped."""
        return (self.cgroup() / file).read_text(encoding="ascii").strip()

    def number(self, file: str, key: str) -> int:
        """One value of a keyed file such as memory.events."""
        return keyed(self.read(file))[key]

    def wait_for(self, text: str) -> None:
        """Wait until the container wrote the text."""
        until(lambda: text in self.output, f"{text!r} in the output, which is {self.output!r}")


class Runtime:
    """The runtime under test with its own state root."""

    def __init__(self, folder: Path, rootfs: Path, options: Sequence[str] = ()) -> None:
        self.command = [*runtime_command(), "--root", str(folder / "state"), *options]
        self.folder = folder
        self.rootfs = rootfs
        self.made: list[Container] = []
        self._numbers = count()

    def __call__(
        self, *arguments: str, check: bool = True, text: str | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run one command and return its output; a failure fails the test if `check`."""
        done = subprocess.run(
            [*self.command, *arguments],
            check=False,
            input=text or "",
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
        if check:
            assert done.returncode == 0, f"{' '.join(arguments)}: {done.returncode}: {done.stderr}"
        return done

    def bundle(
        self,
        script: str,
        resources: Mapping[str, Any] | None = None,
        change: Callable[[dict[str, Any]], None] | None = None,
    ) -> Container:
        """A bundle whose container is not created yet; `change` may edit its configuration."""
        name = f"lab-{os.getpid()}-{self.folder.name}-{next(self._numbers)}"
        bundle = self.folder / name
        bundle.mkdir()
        content = config(script, self.rootfs, name, resources=resources)
        if change:
            change(content)
        (bundle / "config.json").write_text(json.dumps(content), encoding="utf-8")
        container = Container(self, name, bundle)
        self.made.append(container)
        return container

    def run(self, container: Container) -> "subprocess.CompletedProcess[str]":
        """Run a container in the foreground until it exits."""
        return self("run", "--bundle", str(container.bundle), container.name, check=False)

    def start(self, container: Container) -> Container:
        """Run a container in the background; its output goes to a file."""
        with open(container.bundle / "output", "wb") as output:
            done = subprocess.run(
                [
                    *self.command,
                    "run",
                    "--detach",
                    "--bundle",
                    str(container.bundle),
                    container.name,
                ],
                check=False,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                timeout=LIMIT,
            )
        assert done.returncode == 0, container.output
        return container

    def close(self) -> None:
        """Remove every container of the test, in any state."""
        for container in self.made:
            self("delete", "--force", container.name, check=False)


def keyed(text: str) -> dict[str, int]:
    """A flat keyed cgroup file, cgroup-v2.rst: one `key value` a line."""
    pairs = (line.split() for line in text.strip().splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs}


def until(condition: Callable[[], bool], what: str, limit: float = 30.0) -> None:
    """Wait for a condition for at most `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"not within {limit:g} s: {what}"
        time.sleep(0.05)
