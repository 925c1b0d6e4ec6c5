"""
The programs that handle images: skopeo fetches them, umoci unpacks their layers.

Both are packages of Debian, Fedora and others. skopeo checks the digest of everything it copies.
"""

from __future__ import annotations

import os
import subprocess

from ..errors import HostError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .reference import Access

_STDERR = 2
_TIME_TO_ANSWER = "60s"  # of a registry that is asked for a manifest, a few kilobytes
# What a registry answers, and what can be done. The words are those of Go's libraries.
_REMEDIES = (
    (("unauthorized", "authentication required", "denied: "),
     "log in with `skopeo login`, or name a file of credentials with --authfile"),
    (("server gave HTTP response to HTTPS client", "does not look like a TLS handshake", "x509: "),
     "give --tls-verify=false, or insecure = true in registries.conf, if you trust the network"),
    (("context deadline exceeded", "i/o timeout"), "see whether the registry can be reached"),
)  # fmt: skip
_PACKAGES = {
    "skopeo": ("skopeo", "umoci"),
    "umoci": ("skopeo", "umoci"),
    "mkfs.ext4": ("e2fsprogs",),
}


def manifest(name: str, access: Access) -> bytes:
    """The manifest of an image, or its index. Raises HostError."""
    limit = ("--command-timeout", _TIME_TO_ANSWER)
    return _run(("skopeo", "inspect", *limit, "--raw", *access.flags(), name), name)


def copy(name: str, exact: str, layout: str, lock: int, access: Access) -> None:
    """
    Copy an image to an OCI layout, with progress on a terminal. Raises HostError.

    exact  its name with the digest of the manifest, in a registry
    lock   a descriptor whose lock the program keeps until it has ended, also if we are killed
    """
    shown = os.isatty(_STDERR)
    tell(f"copying {name}")
    flags = (*(() if shown else ("--quiet",)), *access.flags("src-"))
    command = ("skopeo", "copy", *flags, exact, f"oci:{layout}:image")
    _run(command, name, (lock,), to_terminal=shown)


def unpack(layout: str, rootfs: str, name: str, lock: int) -> None:
    """Unpack the layers of an image in a layout; the lock is as in `copy`. Raises HostError."""
    tell(f"unpacking {name}")
    rootless = () if os.geteuid() == 0 else ("--rootless",)
    _run(("umoci", "raw", "unpack", *rootless, "--image", f"{layout}:image", rootfs), name, (lock,))


def copy_tree(source: int, target: int) -> None:
    """Copy the content of a directory to another, both by descriptor. Raises HostError."""
    command = ("cp", "-a", "--reflink=auto", f"/proc/self/fd/{source}/.", f"/proc/self/fd/{target}")
    _run(command, "the root file system", pass_fds=(source, target))


def make_file_system(file: int) -> None:
    """
    Make an ext4 file system in a file that is open. Raises HostError.

    Without a journal: it does not outlive the container.
    """
    options = ("-q", "-F", "-m", "0", "-i", "4096", "-O", "^has_journal", "-E", "nodiscard")
    _run(("mkfs.ext4", *options, f"/proc/self/fd/{file}"), "--disk", (file,))


def remove_tree(name: str, directory: int) -> None:
    """Remove a directory in a directory and all that is in it, however deep. Raises HostError."""
    _run(
        ("rm", "-rf", "--one-file-system", f"/proc/self/fd/{directory}/{name}"), name, (directory,)
    )


def size(directory: str) -> int:
    """The bytes in all files below a directory. Raises HostError."""
    return int(_run(("du", "-sb", "--", directory), directory).split()[0])


def tell(text: str) -> None:
    """Say on a terminal what is being done."""
    if os.isatty(_STDERR):
        os.write(_STDERR, f"pycontain: {text}\n".encode(errors="backslashreplace"))


def _run(
    command: Sequence[str], about: str, pass_fds: tuple[int, ...] = (), *, to_terminal: bool = False
) -> bytes:
    """What a program prints. Raises HostError with the last line of its errors."""
    stdout = _STDERR if to_terminal else subprocess.PIPE
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE,
            pass_fds=pass_fds, check=False,
        )  # fmt: skip
    except FileNotFoundError:
        packages = _PACKAGES.get(command[0], ("coreutils",))
        remedy = f"install {' and '.join(packages)}: apt-get install {' '.join(packages)}"
        raise HostError("is not installed", at=command[0], remedy=remedy) from None
    if done.returncode:
        call = " ".join(command[:2]) if command[0] in ("skopeo", "umoci") else command[0]
        why = _reason(done.stderr, done.returncode)
        raise HostError(why, call=call, at=about, remedy=_remedy(why))
    return done.stdout or b""


def _reason(errors: bytes, status: int) -> str:
    """The message in the last line: skopeo writes time="..." level=fatal msg="..."."""
    lines = errors.decode(errors="replace").strip().splitlines()
    if not lines:
        return f"ended with status {status}"
    head, found, message = lines[-1].partition(' msg="')
    text = message.removesuffix('"').replace('\\"', '"') if found else head
    if text.startswith("Error parsing image name "):  # which we say ourselves
        text = text.partition('": ')[2]
    # engines take this sentence for a missing program (errors.py)
    return text.replace("no such file or directory", "does not exist").lstrip(" ⨯")


def _remedy(why: str) -> str:
    return next(
        (remedy for words, remedy in _REMEDIES if any(each in why for each in words)),
        "",
    )
