"""Names of images: a transport that skopeo knows, and a place. containers-transports(5)."""

from __future__ import annotations

import os

from ..errors import UsageError
from ..lean.record import Record

REGISTRY = "docker://"
_IN_FILES = ("oci:", "oci-archive:", "docker-archive:", "dir:")  # a path, and :NAME except for dir
TRANSPORTS = (REGISTRY, *_IN_FILES, "containers-storage:", "docker-daemon:")
DIGEST = "sha256:"
_SHORTEST = 12  # digits of a digest that name an image


class Access(Record):
    """
    How a registry is reached, where registries.conf(5) and the login of skopeo do not say it.

    tls_verify  "false" for one without HTTPS or with an unknown certificate, "" or "true"
    authfile    a file with credentials, containers-auth.json(5)
    """

    tls_verify: str = ""
    authfile: str = ""

    def flags(self, prefix: str = "") -> tuple[str, ...]:
        """The flags of skopeo; prefix is "src-" for `skopeo copy`."""
        found = []
        if self.tls_verify:
            found.append(f"--{prefix}tls-verify={self.tls_verify}")
        if self.authfile:
            found += [f"--{prefix}authfile", self.authfile]
        return tuple(found)

    def check(self, name: str) -> None:
        """Raises UsageError if it is given for no registry, or its file does not exist."""
        for flag, value in (("--tls-verify", self.tls_verify), ("--authfile", self.authfile)):
            if value and not name.startswith(REGISTRY):
                remedy = f"leave it out, or name an image that begins with {REGISTRY}"
                raise UsageError("is for images in a registry", at=flag, remedy=remedy)
        if self.authfile and not os.path.exists(self.authfile):
            raise UsageError("does not exist", at="--authfile", value=self.authfile)


USUAL = Access()


def pinned(name: str, digest: str) -> str:
    """The name of exactly this manifest in a registry, where the tag may move meanwhile."""
    if not name.startswith(REGISTRY):
        return name
    head, slash, last = name.partition("@")[0].rpartition("/")
    return f"{head}{slash}{last.partition(':')[0]}@{digest}"


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
