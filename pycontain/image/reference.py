"""Names of images: a transport that skopeo knows, and a place. containers-transports(5)."""

from __future__ import annotations

import os

from ..errors import UsageError

REGISTRY = "docker://"
_IN_FILES = ("oci:", "oci-archive:", "docker-archive:", "dir:")  # a path, and :NAME except for dir
TRANSPORTS = (REGISTRY, *_IN_FILES, "containers-storage:", "docker-daemon:")
DIGEST = "sha256:"
_SHORTEST = 12  # digits of a digest that name an image


def _plain(name: str) -> str:
    """A name that could be in a registry, or an example."""
    return name if name and name.strip(":/") == name and "//" not in name else "busybox"


def checked(name: str) -> str:
    """
    The name of an image, with an absolute path; or the digest of a cached one.

    Raises UsageError for what is neither.
    """
    if name.startswith(DIGEST):
        digits = name.removeprefix(DIGEST)
        if len(digits) < _SHORTEST or set(digits) - set("0123456789abcdef"):
            raise UsageError(
                "is not a digest", at="image", value=name,
                remedy=f"give {DIGEST} and at least {_SHORTEST} digits, as `pycontain images` does",
            )  # fmt: skip
        return name
    transport = next((one for one in TRANSPORTS if name.startswith(one)), "")
    place = name.removeprefix(transport)
    if not transport or not place:
        raise UsageError(
            "is not an image", at="image", value=name,
            remedy=f"name it with its transport, such as {REGISTRY}{_plain(name)} or oci:DIR:NAME",
        )  # fmt: skip
    if transport not in _IN_FILES:
        return name
    path, colon, rest = (place, "", "") if transport == "dir:" else place.partition(":")
    return f"{transport}{os.path.abspath(path)}{colon}{rest}"
