"""
What an image says about running it: its configuration, read from an OCI layout.

Source: OCI image specification 1.1: image-layout.md, manifest.md, config.md.
"""

from __future__ import annotations

import hashlib
import os

from ..errors import HostError
from ..kernel.files import read_bytes
from ..lean import jsontext
from ..lean.record import Record

_DIGEST = "sha256:"
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}  # as GOARCH names them: config.md, architecture


class ImageConfig(Record):
    """
    The part of an image's configuration that concerns its containers.

    digest   of the image's manifest, as sha256:...
    created  RFC 3339, "" if unknown
    author os architecture  as in the image
    entrypoint cmd env user cwd  the process
    stop_signal volumes ports labels  for the annotations and the mounts
    """

    digest: str
    created: str = ""
    author: str = ""
    os: str = "linux"
    architecture: str = ""
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    user: str = ""
    cwd: str = ""
    stop_signal: str = ""
    volumes: tuple[str, ...] = ()
    ports: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


def read(layout: str, name: str) -> tuple[str, str]:
    """
    The digest of the only manifest in a layout, and the text of its configuration.

    Raises HostError if the layout is broken, or its digests do not match.
    """
    index = _object(_file(os.path.join(layout, "index.json")), name)
    entries = index.get("manifests")
    if not isinstance(entries, list) or len(entries) != 1:
        raise HostError("does not contain exactly one image", at=name)
    digest = _digest(entries[0], name)
    manifest = _object(_blob(layout, digest, name), name)
    return digest, _blob(layout, _digest(manifest.get("config"), name), name)


def parsed(digest: str, text: str) -> ImageConfig:
    """The configuration with this text. Raises HostError if it is broken."""
    found = _object(text, digest)
    process = found.get("config") or {}
    if not isinstance(process, dict):
        raise HostError("has a config that is not an object", at=digest)
    return ImageConfig(
        digest=digest,
        created=_text(found, "created"),
        author=_text(found, "author"),
        os=_text(found, "os") or "linux",
        architecture=_text(found, "architecture"),
        entrypoint=_texts(process, "Entrypoint", digest),
        cmd=_texts(process, "Cmd", digest),
        env=_texts(process, "Env", digest),
        user=_text(process, "User"),
        cwd=_text(process, "WorkingDir"),
        stop_signal=_text(process, "StopSignal"),
        volumes=tuple(_table(process, "Volumes", digest)),
        ports=tuple(_table(process, "ExposedPorts", digest)),
        labels=tuple(
            (str(key), str(value)) for key, value in _table(process, "Labels", digest).items()
        ),
    )


def check_machine(config: ImageConfig, name: str) -> None:
    """Raises HostError for an image of another operating system or kind of processor."""
    ours = _MACHINES.get(os.uname().machine, os.uname().machine)
    theirs = config.architecture or ours
    if config.os != "linux" or theirs != ours:
        why = f"is for {config.os}/{theirs}, and this machine is linux/{ours}"
        raise HostError(why, at=name)


def _file(path: str) -> str:
    return read_bytes(path).decode(errors="replace")


def _blob(layout: str, digest: str, name: str) -> str:
    data = read_bytes(os.path.join(layout, "blobs", "sha256", digest.removeprefix(_DIGEST)))
    if _DIGEST + hashlib.sha256(data).hexdigest() != digest:
        raise HostError("contains a file that does not match its digest", at=name, value=digest)
    return data.decode(errors="replace")


def _digest(descriptor: object, name: str) -> str:
    """The digest in a descriptor: descriptor.md. It becomes the name of a file."""
    digest = descriptor.get("digest") if isinstance(descriptor, dict) else None
    digits = digest.removeprefix(_DIGEST) if isinstance(digest, str) else ""
    if digest != _DIGEST + digits or len(digits) != 64 or set(digits) - set("0123456789abcdef"):
        raise HostError("has a digest that is not SHA-256", at=name, value=str(digest))
    return _DIGEST + digits


def _object(text: str, name: str) -> dict[str, object]:
    try:
        found = jsontext.loads(text)
    except ValueError as error:
        raise HostError(f"has a file that is not JSON: {error}", at=name) from None
    if not isinstance(found, dict):
        raise HostError("has a file that is not a JSON object", at=name)
    return found


def _text(table: dict[str, object], key: str) -> str:
    value = table.get(key)
    return value if isinstance(value, str) else ""


def _texts(table: dict[str, object], key: str, name: str) -> tuple[str, ...]:
    found = table.get(key) or []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise HostError("is not a list of texts", at=f"config.{key} of {name}")
    return tuple(found)


def _table(table: dict[str, object], key: str, name: str) -> dict[str, object]:
    found = table.get(key) or {}
    if not isinstance(found, dict):
        raise HostError("is not an object", at=f"config.{key} of {name}")
    return found
