"""
What the tests of containers share: bundles, the command line, and a snapshot of the host.

Each bundle has its own busybox root, so that no test sees another's files. Every container id
begins with `TOKEN`, which identifies the container's processes and cgroups wherever they are.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

from pycontain.cgroup.place import find_mount
from pycontain.cli import launcher
from pycontain.lean import archive
from tests.unit.spec_configs import edited

TOKEN = f"pct{os.getpid()}x"  # the x keeps it from being a prefix of another process's
LIMIT = 60.0
"""Seconds after which a hanging command fails its test."""

APPLETS = tuple(
    "ash awk cat chmod chown cut date dd df du echo env expr false find free grep head hostname id"
    " ifconfig ionice ip kill ln ls mkdir mkfifo mknod mount mv nproc od printf ps pwd readlink rm"
    " route sed seq sh sha1sum sleep sort stat stty sync sysctl tail taskset tee test timeout top"
    " touch tr true truncate tty umount uname uniq wc xargs yes".split()
)

MOUNTS: list[dict[str, Any]] = [
    {"destination": "/proc", "type": "proc", "source": "proc"},
    {
        "destination": "/dev",
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "strictatime", "mode=755", "size=65536k"],
    },
    {
        "destination": "/dev/pts",
        "type": "devpts",
        "source": "devpts",
        "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"],
    },
    {
        "destination": "/dev/shm",
        "type": "tmpfs",
        "source": "shm",
        "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"],
    },
]

_CAPABILITIES = [
    f"CAP_{name}"
    for name in (
        "CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "MKNOD", "NET_ADMIN", "NET_BIND_SERVICE",
        "SETGID", "SETUID", "SYS_ADMIN", "SYSLOG",
    )
]  # fmt: skip

CONFIG: dict[str, Any] = {
    "ociVersion": "1.2.0",
    "process": {
        "user": {"uid": 0, "gid": 0},
        "args": ["sh"],
        "env": ["PATH=/bin"],
        "cwd": "/",
        "noNewPrivileges": True,
        "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES),
    },
    "root": {"path": "rootfs"},
    "hostname": "box",
    "mounts": MOUNTS,
    "linux": {
        "namespaces": [{"type": kind} for kind in ("pid", "network", "ipc", "uts", "mount")],
    },
}
"""The configuration that every bundle starts from."""


class Bundle(NamedTuple):
    """A folder with config.json and rootfs."""

    path: Path

    @property
    def rootfs(self) -> Path:
        """Its root file system."""
        return self.path / "rootfs"

    @property
    def config(self) -> dict[str, Any]:
        """The current content of config.json."""
        return json.loads((self.path / "config.json").read_text())

    def write(self, config: Mapping[str, Any]) -> None:
        """Write config.json."""
        (self.path / "config.json").write_text(json.dumps(config))

    def edit(self, changes: Mapping[str, Any]) -> None:
        """Change config.json: JSON path -> value."""
        self.write(changed(self.config, changes))

    def script(self, name: str, text: str, mode: int = 0o755) -> Path:
        """Put a shell script of this name into the bundle, for hooks; returns its path."""
        path = self.path / name
        path.write_text(f"#!{busybox()} sh\n{text}\n")
        path.chmod(mode)
        return path


def changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of a configuration with some values changed: JSON path -> value."""
    config = copy.deepcopy(dict(config))
    for path, value in changes.items():
        config = edited(config, path, value)
    return config


def busybox() -> str:
    """The static busybox of the host."""
    path = shutil.which("busybox")
    assert path, "needs the package busybox-static"
    return path


def fill_rootfs(rootfs: Path) -> None:
    """Put busybox and the usual folders into a root file system."""
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (rootfs / name).mkdir(parents=True, exist_ok=True)
    shutil.copy2(busybox(), rootfs / "bin/busybox")
    for name in APPLETS:
        (rootfs / "bin" / name).symlink_to("busybox")
    rootfs.chmod(0o755)
    (rootfs / "tmp").chmod(0o1777)


class Bundles:
    """Creates bundles below one folder."""

    def __init__(self, folder: Path, rootfs: Path) -> None:
        self.folder = folder
        self.rootfs = rootfs
        self._numbers = count(1)

    def __call__(self, script: str = "", changes: Mapping[str, Any] | None = None) -> Bundle:
        """A bundle that runs a shell script (or what the changes specify) in its own root."""
        bundle = Bundle(self.folder / f"bundle-{next(self._numbers)}")
        bundle.path.mkdir()
        shutil.copytree(self.rootfs, bundle.rootfs, symlinks=True, copy_function=os.link)
        args = ["sh", "-c", script] if script else ["true"]
        bundle.write(changed(CONFIG, {"process.args": args, **(changes or {})}))
        return bundle


# --- the command line ----------------------------------------------------------------------------

COMMAND = [
    launcher.interpreter(),
    archive.FLAGS,
    "-c",
    archive.boot(f"sys.path += {launcher.directories()!r}"),
]
"""The command line as its launcher starts it."""


class Done(NamedTuple):
    """The outcome of a command."""

    status: int
    out: str
    err: str

    @property
    def words(self) -> list[str]:
        """What it printed, as words."""
        return self.out.split()

    @property
    def lines(self) -> list[str]:
        """What it printed, as lines."""
        return self.out.splitlines()


class Runtime:
    """pycontain's command line with its own state root."""

    def __init__(self, folder: Path, isolation: str = "") -> None:
        """isolation  what programs run in, "" for what their configurations say."""
        self.folder = folder
        self.isolation = isolation
        self.root = folder / "state"
        self._numbers = count(1)

    def new_id(self) -> str:
        """An id that no container on this host has."""
        return f"{TOKEN}-{next(self._numbers)}"

    def command(self, *words: str | Path) -> list[str]:
        """The whole command line."""
        more = []
        if self.isolation and words[:1] in (("run",), ("create",)):
            more = ["--isolation", self.isolation]
        return [
            *COMMAND,
            "--root",
            str(self.root),
            *map(str, words[:1]),
            *more,
            *map(str, words[1:]),
        ]

    def __call__(self, *words: str | Path, name: str = "command", **how: Any) -> Done:
        """
        Run one command to completion.

        The output goes to files: a container left running would keep the ends of pipes open.
        """
        out, err = self.folder / f"{name}.out", self.folder / f"{name}.err"
        for path in (out, err):
            path.unlink(missing_ok=True)
        how.setdefault("stdin", subprocess.DEVNULL)
        with out.open("ab") as stdout, err.open("ab") as stderr:
            done = subprocess.run(
                self.command(*words),
                stdout=stdout,
                stderr=stderr,
                timeout=LIMIT,
                check=False,
                **how,
            )
        texts = [path.read_bytes().decode(errors="surrogateescape") for path in (out, err)]
        return Done(done.returncode, *texts)

    def ok(self, *words: str | Path, **how: Any) -> Done:
        """Run a command that must succeed."""
        done = self(*words, **how)
        assert done.status == 0, f"{words} ended with {done.status}: {done.err}{done.out}"
        return done

    def refuses(self, *words: str | Path, **how: Any) -> str:
        """Run a command that must fail; returns its one-line error."""
        done = self(*words, **how)
        assert done.status != 0, f"{words} should have failed; it printed {done.out}"
        assert done.err.startswith("pycontain: "), done.err
        assert done.err.count("\n") == 1, f"expected one line: {done.err}"
        return done.err

    def run(self, bundle: Bundle, *flags: str | Path, **how: Any) -> Done:
        """Run a bundle in the foreground, whether it succeeds or not."""
        return self("run", "--bundle", bundle.path, *flags, self.new_id(), **how)

    def output(self, bundle: Bundle, *flags: str | Path, **how: Any) -> Done:
        """Run a bundle in the foreground; it must succeed and print nothing on standard error."""
        done = self.run(bundle, *flags, **how)
        assert (done.status, done.err) == (0, ""), done
        return done

    def fails(self, bundle: Bundle, *flags: str | Path, **how: Any) -> str:
        """Run a bundle whose container must fail to start; returns the one-line error."""
        return self.refuses("run", "--bundle", bundle.path, *flags, self.new_id(), **how)

    def create(self, bundle: Bundle, *flags: str | Path, **how: Any) -> str:
        """Create a container; `printed` returns its output."""
        id = self.new_id()
        self.ok("create", "--bundle", bundle.path, *flags, id, name=id, **how)
        return id

    def started(self, bundle: Bundle, *flags: str | Path, **how: Any) -> str:
        """Create and start a container."""
        id = self.create(bundle, *flags, **how)
        self.ok("start", id)
        return id

    def printed(self, id: str) -> str:
        """What a created container has printed so far."""
        return (self.folder / f"{id}.out").read_text()

    def wait_for_text(self, id: str, text: str) -> None:
        """Wait until a created container has printed this."""
        wait_until(lambda: text in self.printed(id), f"{id} prints {text!r}")

    def wait_for_status(self, id: str, status: str) -> None:
        """Wait until a container is in this state."""
        wait_until(lambda: self.state(id)["status"] == status, f"{id} is {status}")

    def state(self, id: str) -> dict[str, Any]:
        """A container's state."""
        return json.loads(self.ok("state", id).out)

    def ids(self) -> list[str]:
        """The directories in the state root, whatever is in them."""
        return sorted(name for name in _names(self.root) if not name.startswith("."))

    def close(self) -> None:
        """Delete the containers that the test left behind."""
        for id in self.ids():
            self.ok("delete", "--force", id)


def wait_until(true: Callable[[], object], what: str = "") -> None:
    """Wait until a condition holds."""
    end = time.monotonic() + LIMIT
    while not true():
        assert time.monotonic() < end, f"not within {LIMIT} s: {what}"
        time.sleep(0.005)


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


# --- the host ------------------------------------------------------------------------------------


class Host(NamedTuple):
    """The parts of the host's state that our containers could change."""

    mounts: tuple[str, ...]
    cgroups: tuple[str, ...]
    processes: tuple[str, ...]
    descriptors: tuple[str, ...]
    namespaces: tuple[str, ...]


def look() -> Host:
    """The current state of the host."""
    return Host(
        mounts=tuple(Path("/proc/self/mountinfo").read_text().splitlines()),
        cgroups=tuple(sorted(_cgroups(find_mount()))),
        processes=tuple(sorted(_processes())),
        descriptors=tuple(sorted(_descriptors())),
        namespaces=tuple(
            os.readlink(f"/proc/self/ns/{name}") for name in os.listdir("/proc/self/ns")
        ),
    )


def _cgroups(mount: str) -> Iterator[str]:
    for folder, names, _ in os.walk(mount):
        for name in names:
            if TOKEN in name:
                yield os.path.join(folder, name)


def _processes() -> Iterator[str]:
    """Processes of our containers, or of a runtime that is creating one."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = (
                Path(f"/proc/{pid}/cmdline")
                .read_bytes()
                .replace(b"\0", b" ")
                .decode("utf-8", "replace")
            )
            cgroup = Path(f"/proc/{pid}/cgroup").read_text()
            status = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ended = status[0] in "ZX" and int(status[1]) != os.getpid()
        if not ended and (TOKEN in words or f"/{TOKEN}" in cgroup):
            yield f"{pid} {status[0]} {words}"


def _descriptors() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        try:
            yield f"{fd} {os.readlink(f'/proc/self/fd/{fd}')}"
        except FileNotFoundError:  # the descriptor of the listing itself
            continue
