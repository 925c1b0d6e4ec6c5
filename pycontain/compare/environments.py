"""The four environments for a program, each as a command for a new process."""

from __future__ import annotations

import os
import sys
from importlib.util import find_spec

from ..errors import HostError, KernelError
from ..kernel import seal
from ..lean import archive, jsontext
from ..lean.record import Record
from ..spec.sample import sample

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_NOT_SHARED = {"proc", "sys", "dev", "lost+found"}  # the container has its own


class Wall(Record):
    """
    One environment to run a program in.

    command  builds the command to execute from the program and its arguments
    missing  why this host does not provide it, or ""
    """

    name: str
    command: Callable[[Sequence[str]], list[str]]
    missing: str = ""


def walls(directory: str) -> list[Wall]:
    """All four; directory is an empty directory for the container's bundle."""
    return [
        Wall(name="native", command=list),
        Wall(
            name="container",
            command=lambda program: _container(directory, program, "namespaces"),
            missing="" if os.geteuid() == 0 else "needs root",
        ),
        Wall(
            name="vm",
            command=lambda program: _monitored(directory, program, "kvm"),
            missing=_without_kvm(),
        ),
        Wall(
            name="emulated",
            command=lambda program: _monitored(directory, program, "emulate"),
            missing="" if find_spec("unicorn") else "needs pip install 'pycontain[emulate]'",
        ),
    ]


def _without_kvm() -> str:
    if os.access("/dev/kvm", os.R_OK | os.W_OK):
        return ""
    return "not allowed to use /dev/kvm" if os.path.exists("/dev/kvm") else "needs /dev/kvm"


def _monitored(directory: str, program: Sequence[str], engine: str) -> list[str]:
    """The same bundle in a virtual machine; without root, there is only the machine."""
    if os.geteuid() == 0:
        return _container(directory, program, engine)
    return alone(engine, program)


def alone(engine: str, program: Sequence[str]) -> list[str]:
    """The command that runs a program in a virtual machine, without a container around it."""
    return archive.command(sys.executable, "pycontain.compare.engine:main", engine, *program)


def _container(directory: str, program: Sequence[str], isolation: str) -> list[str]:
    """Write the bundle for this program, and return the command that runs it."""
    rootfs = f"{directory}/rootfs"
    os.makedirs(rootfs, exist_ok=True)
    with open(f"{directory}/config.json", "w", encoding="utf-8") as file:
        file.write(jsontext.dumps(_config(rootfs, program)))
    name = f"compare-{os.getpid()}"
    words = ("run", "--isolation", isolation, "--bundle", directory, name)
    return archive.command(_sealed(), archive.PROGRAM, *words)


def _sealed() -> str:
    """The interpreter's sealed copy where possible: the runtime would re-execute any other."""
    try:
        return seal.mounted(seal.own())
    except (HostError, KernelError, OSError):
        return sys.executable


def _config(rootfs: str, program: Sequence[str]) -> dict[str, object]:
    """The sample configuration over the host's own files, read-only."""
    config = sample()
    process, mounts = config["process"], config["mounts"]
    assert isinstance(process, dict)
    assert isinstance(mounts, list)
    process.update(args=list(program), cwd=os.getcwd(), terminal=False)
    for name in sorted(os.listdir("/")):
        if name in _NOT_SHARED or not os.path.isdir(f"/{name}"):
            continue
        if os.path.islink(f"/{name}"):
            if not os.path.lexists(f"{rootfs}/{name}"):
                os.symlink(os.readlink(f"/{name}"), f"{rootfs}/{name}")
            continue
        options = ["rbind", "ro", "nosuid", "nodev"]
        mounts.append(
            {"destination": f"/{name}", "type": "bind", "source": f"/{name}", "options": options}
        )
    return config
