"""Commands inside the machine, over ssh on the loopback port."""

import shlex
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import LabError
from .progress import seconds
from .qemu import Machine
from .shell import bound

SOURCE = "/src/pycontain"
"""Where the tree is inside the machine; the machine's Python imports from there."""

SMALL = 300.0
"""Seconds allowed for a command that takes two on an idle host."""

LOST = 255
"""ssh's own exit status: the connection failed or broke."""


def ssh(machine: Machine, *, terminal: bool = False) -> list[str]:
    """The ssh command up to the remote command. Reads no configuration, trusts one host key."""
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": "60",
        "HostKeyAlias": "lab",
        "IdentitiesOnly": "yes",
        "LogLevel": "ERROR",
        "ServerAliveInterval": "20",
        "ServerAliveCountMax": "9",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(machine.image.hosts),
    }
    argv = ["ssh", "-F", "none", "-i", str(machine.image.key), "-p", str(machine.port)]
    argv += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return [*argv, "-tt" if terminal else "-T", "root@127.0.0.1", "--"]


def run(
    machine: Machine,
    argv: Sequence[str],
    *,
    limit: float,
    env: Mapping[str, str] | None = None,
    terminal: bool = False,
) -> int:
    """
    Runs a command in the tree, passing its output through; returns its exit status.

    Raises LabError when it takes longer than `limit` seconds or the machine is lost.
    """
    words = [*(f"{name}={value}" for name, value in (env or {}).items()), *argv]
    remote = f"cd {SOURCE} && exec env {shlex.join(words)}"
    source = None if terminal else subprocess.DEVNULL
    try:
        done = subprocess.run(
            bound([*ssh(machine, terminal=terminal), remote]),
            check=False,
            stdin=source,
            timeout=limit,
        )
    except subprocess.TimeoutExpired:
        raise machine.lost(f"{shlex.join(argv)}: did not finish within {seconds(limit)}") from None
    if done.returncode == LOST:
        raise machine.lost(f"{shlex.join(argv)}: the connection to the machine broke")
    return done.returncode


def unpack(machine: Machine) -> None:
    """Unpack the tree from the second disk and prepare the machine for it."""
    script = f"mkdir -p {SOURCE} && tar -xf /dev/vdb -C {SOURCE} && sh {SOURCE}/vagrant/tree.sh"
    done = _small(machine, script)
    if done.returncode:
        raise machine.lost(f"the tree can't be set up: {done.stderr.decode().strip()}")


def fetch(machine: Machine, remote: str, local: Path) -> bool:
    """Copies one file out; false when the machine has no such file."""
    done = _small(machine, f"cat {shlex.quote(remote)}")
    if done.returncode:
        return False
    try:
        local.parent.mkdir(parents=True, exist_ok=True)
        local.write_bytes(done.stdout)
    except OSError as error:
        raise LabError(f"{local}: the report can't be written ({error.strerror})") from error
    return True


def _small(machine: Machine, script: str) -> "subprocess.CompletedProcess[bytes]":
    try:
        done = subprocess.run(
            bound([*ssh(machine), script]),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=SMALL,
        )
    except subprocess.TimeoutExpired:
        raise machine.lost(f"{script}: did not finish within {seconds(SMALL)}") from None
    if done.returncode == LOST:
        raise machine.lost(f"no connection to the machine: {done.stderr.decode().strip()}")
    return done
