"""
A person's choices, and an image's configuration, as the settings of `spec.default`.

Source: the OCI image specification, conversion.md; docker-run(1) and podman-run(1) for the flags.
"""

from __future__ import annotations

import glob
import os

from ..errors import UsageError
from ..lean.record import Record
from ..spec.default import Settings
from ..units import size
from .accounts import account

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .layout import ImageConfig

_OURS = "run.pycontain."  # annotations that this runtime obeys
_IMAGE = "org.opencontainers.image."
_FLAGS = (
    "noexec", "nosuid", "nodev", "private", "rprivate", "shared", "rshared", "slave", "rslave",
)  # fmt: skip
_WRITABLE = {"ro": "rro", "rw": "rw"}  # read-only with all that is mounted below
_LABELS = ("z", "Z")


class Choices(Record):
    """
    What the flags of `run` and `spec` choose, as they were written.

    rootfs      the root file system's directory; "" for an image
    command     the program and its arguments; () for the image's
    entrypoint  replaces the image's; None to keep it
    disk        the size of a file system for what the container writes
    """

    rootfs: str = ""
    command: tuple[str, ...] = ()
    name: str = ""
    entrypoint: str | None = None
    env: tuple[str, ...] = ()
    workdir: str = ""
    user: str = ""
    volume: tuple[str, ...] = ()
    tty: bool = False
    interactive: bool = False
    hostname: str = ""
    memory: str = ""
    cpus: str = ""
    pids: int | None = None
    disk: str = ""
    read_only: bool = False
    network: str = ""
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    rm: bool = False
    tls_verify: str = ""
    authfile: str = ""


def arguments(choices: Choices, image: ImageConfig | None = None) -> list[str]:
    """The program and its arguments. Raises UsageError if nothing names one."""
    entrypoint = image.entrypoint if image else ()
    command = choices.command
    if choices.entrypoint is not None:
        entrypoint = (choices.entrypoint,) if choices.entrypoint else ()
    elif not command and image:
        command = image.cmd
    if not (*entrypoint, *command):
        whom = "the image does not name one" if image else "a root file system names none"
        raise UsageError("needs a command", at="run", remedy=f"write it at the end: {whom}")
    return [*entrypoint, *command]


def settings(
    choices: Choices,
    root: int,
    hostname: str,
    image: ImageConfig | None = None,
    mounts: tuple[dict[str, object], ...] = (),
) -> Settings:
    """
    The settings of a container.

    root    a descriptor of the root file system, in which users are looked up
    mounts  come before those of the choices

    Raises UsageError for a choice that cannot be understood.
    """
    who = account(root, choices.user or (image.user if image else ""))
    return Settings(
        env=(f"HOME={who.home}", *(image.env if image else ()), *_environment(choices.env)),
        cwd=choices.workdir or (image.cwd if image else "") or "/",
        uid=who.uid,
        gid=who.gid,
        groups=who.groups,
        terminal=choices.tty,
        hostname=choices.hostname or hostname,
        readonly=choices.read_only,
        network=choices.network or "none",
        memory=memory(choices.memory, "--memory"),
        cpus=_cpus(choices.cpus),
        pids=_pids(choices.pids),
        cap_add=choices.cap_add,
        cap_drop=choices.cap_drop,
        mounts=(*mounts, *map(_volume, choices.volume)),
        masked=tuple(sorted(glob.glob("/sys/devices/system/cpu/cpu*/thermal_throttle"))),
        annotations=tuple(_annotations(image).items()) if image else (),
    )


def memory(text: str, at: str) -> int:
    """Bytes, 0 for "". Raises UsageError."""
    if not text:
        return 0
    found = size(text, at)
    if not found:
        raise UsageError("is not positive", at=at, value=text, remedy="write 512m, 2g or bytes")
    return found


def _cpus(text: str) -> float:
    try:
        found = float(text or 0)
    except ValueError:
        found = -1.0
    if not 0 <= found <= 1 << 20 or (text and found < 0.01):  # the kernel's least: 1 ms of 100
        remedy = "write it as 1.5 or 2; at least 0.01"
        raise UsageError("is not a number of processors", at="--cpus", value=text, remedy=remedy)
    return found


def _pids(number: int | None) -> int:
    if number is not None and number < 1:
        raise UsageError("is less than 1", at="--pids", value=str(number))
    return number or 0


def _environment(entries: tuple[str, ...]) -> Iterator[str]:
    """NAME=VALUE; a NAME alone has the caller's value, if there is one."""
    for entry in entries:
        name, equals, _ = entry.partition("=")
        if not name:
            remedy = "write NAME=VALUE"
            raise UsageError("has no name", at="--env", value=entry, remedy=remedy)
        if equals:
            yield entry
        elif name in os.environ:
            yield f"{name}={os.environ[name]}"


def _volume(text: str) -> dict[str, object]:
    """The mount for SOURCE:TARGET[:OPTION,...]."""
    source, _, rest = text.partition(":")
    target, _, words = rest.partition(":")
    if not source.startswith(("/", ".")) or not target.startswith("/"):
        remedy = "write SOURCE:TARGET or SOURCE:TARGET:ro, paths that begin with / or, of SOURCE, ."
        raise UsageError("is not a volume", at="--volume", value=text, remedy=remedy)
    if not os.path.exists(source):
        raise UsageError("does not exist", at="--volume", value=source, remedy="create it first")
    options = [_volume_option(word, text) for word in words.split(",") if word]
    return {
        "destination": target,
        "source": os.path.abspath(source),
        "type": "bind",
        "options": ["rbind", "rprivate", *options],
    }


def _volume_option(word: str, text: str) -> str:
    if word in _WRITABLE or word in _FLAGS:
        return _WRITABLE.get(word, word)
    if word in _LABELS:
        why, remedy = "is not built yet: pycontain sets no SELinux labels", "leave it out"
    else:
        why, remedy = "is not an option of a volume", f"use {', '.join((*_WRITABLE, *_FLAGS))}"
    raise UsageError(why, at=f"--volume {text}", value=word, remedy=remedy)


def _annotations(image: ImageConfig) -> dict[str, str]:
    """
    The image's properties and labels as annotations: conversion.md, Annotation Fields.

    A label replaces a property of that name, as specified; but the author of the image does not
    decide how this runtime isolates it.
    """
    properties = {
        "os": image.os,
        "architecture": image.architecture,
        "author": image.author,
        "created": image.created,
        "stopSignal": image.stop_signal,
        "exposedPorts": ",".join(image.ports),
    }
    labels = {key: value for key, value in image.labels if key and not key.startswith(_OURS)}
    return {**{_IMAGE + key: value for key, value in properties.items() if value}, **labels}
