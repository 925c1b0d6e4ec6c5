"""
The commands that do more than call the runtime: they read input or format output.

Each returns what `fast.py` prints: text, JSON, lines, or an exit status.
"""

from __future__ import annotations

import os
import sys

from ..errors import HostError, UsageError
from ..lean import jsontext
from ..options import Options
from ..units import duration
from . import limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from ..lean.record import Record


def list_containers(options: Options, *, format: str, quiet: bool) -> str | Iterator[str] | None:
    """Every container below the root. Raises UsageError if one was given that does not exist."""
    from ..kernel.rights import default_root, is_rootless
    from ..runtime.list import list_containers

    default = default_root(rootless=is_rootless(options.rootless))
    if options.root != default and not os.path.isdir(options.root):
        raise UsageError("does not exist", at="--root", value=options.root)

    containers = list_containers(options)
    if quiet:
        return (str(container["id"]) for container in containers)
    if format == "json":
        return jsontext.dumps(containers)
    from . import render

    render.containers(containers)
    return None


def processes(
    options: Options, id: str, *, ps_options: tuple[str, ...], format: str
) -> str | Iterator[str]:
    """The processes of a container: their ids, or the lines that ps(1) prints for them."""
    from ..runtime.ps import ps

    pids = ps(options, id)
    if format == "json":
        return jsontext.dumps(pids)
    return _ps_lines(pids, ps_options or ("-ef",))


def _ps_lines(pids: list[int], ps_options: tuple[str, ...]) -> Iterator[str]:
    import subprocess

    try:
        done = subprocess.run(("ps", *ps_options), capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise HostError(
            "is not installed", at="ps", remedy="install procps, or use --format json"
        ) from None
    if done.returncode:
        raise UsageError(done.stderr.strip().partition("\n")[0], at=f"ps {' '.join(ps_options)}")
    return _lines_of(pids, done.stdout.splitlines())


def _lines_of(pids: list[int], lines: list[str]) -> Iterator[str]:
    """The heading and the lines whose PID column contains one of these."""
    heading = lines[0].split()
    if "PID" not in heading:
        raise UsageError("leave out the PID column", at="ps options", remedy="add -o pid")
    column = heading.index("PID")
    listed = {str(pid) for pid in pids}
    yield lines[0]
    yield from (line for line in lines[1:] if line.split()[column] in listed)


def events(options: Options, id: str, *, interval: str, stats: bool) -> Iterator[str]:
    """The resource usage of a container, repeatedly or, with stats, once."""
    from ..runtime.events import events

    seconds = duration(interval, "--interval")
    return (jsontext.dumps(event) for event in events(options, id, stats=stats, interval=seconds))


def update(options: Options, id: str, *, resources: str, **flags: object) -> None:
    """Change limits, given by a JSON file or else by flags."""
    from ..runtime.update import update

    if resources:
        update(options, id, _resources_of(resources))
    else:
        update(options, id, limits.resources(flags), limits.rdt(flags))


def checkpoint(options: Options, id: str, **flags: Any) -> None:
    """Save a container in files."""
    from ..runtime.checkpoint import CheckpointRequest, checkpoint

    del flags["manage_cgroups_mode"]  # there is only one
    checkpoint(options, id, CheckpointRequest(**flags))


def restore(options: Options, id: str, **flags: Any) -> int:
    """Restore a container from files; returns its program's exit status."""
    from ..plan.criu import CriuRequest
    from ..plan.request import Request
    from ..runtime.restore import restore

    def chosen(kind: type[Record]) -> dict[str, Any]:
        return {name: value for name, value in flags.items() if name in kind.FIELDS}

    return restore(options, Request(id=id, **chosen(Request)), CriuRequest(**chosen(CriuRequest)))


def _resources_of(path: str) -> dict[str, object]:
    if path == "-":
        return limits.read(sys.stdin.read(), "standard input")
    try:
        with open(path, encoding="utf-8") as file:
            return limits.read(file.read(), path)
    except UnicodeDecodeError:
        raise UsageError("is not UTF-8 text", at=path) from None


def spec(_: Options, *, bundle: str, rootless: bool, **chosen: object) -> dict[str, object] | None:
    """
    Write a sample config.json into a bundle; or return what `run --rootfs` would use.

    Raises UsageError if there is a config.json.
    """
    if chosen["rootfs"]:
        from .image import rootfs_spec

        return rootfs_spec(chosen)
    _refuse_others(chosen)
    from ..spec import sample

    config = sample.rootless(os.geteuid(), os.getegid()) if rootless else sample.sample()
    path = os.path.join(bundle, "config.json")
    try:
        with open(path, "x", encoding="utf-8") as file:
            file.write(jsontext.pretty(config) + "\n")
    except FileExistsError:
        raise UsageError("exists already", at=path, remedy="remove it first") from None
    return None


def _refuse_others(chosen: dict[str, object]) -> None:
    """Raises UsageError for a flag or argument that only means something with --rootfs."""
    for key, value in chosen.items():
        if value:
            at = "the command" if key == "args" else f"--{key.replace('_', '-')}"
            raise UsageError("needs --rootfs", at=at, remedy="give the root file system")


def features(_: Options) -> dict[str, object]:
    """The features of this runtime (features.md)."""
    from ..plan.mounts import OPTIONS
    from ..spec.features import features

    return features(OPTIONS)


def plan(options: Options, *, bundle: str, verb: str, isolation: str, format: str) -> str | None:
    """The steps that would run a bundle."""
    from ..runtime.planning import steps

    name = os.path.basename(os.path.abspath(bundle))
    found = steps(options, name, bundle, verb=verb, isolation=isolation)
    if format == "json":
        return jsontext.pretty(found)
    from . import render

    render.plan(bundle, found)
    return None


def doctor(_: Options, *, format: str) -> int:
    """Print what this host has and does not have; returns 1 if something prevents containers."""
    from ..runtime import doctor
    from . import render

    findings = doctor.examine()
    ready = doctor.is_ready(findings)
    if format == "json":
        render.json([finding.fields() for finding in findings])
    else:
        render.findings(findings, ready=ready)
    return int(not ready)
