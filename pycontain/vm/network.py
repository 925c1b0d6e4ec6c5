"""Which network a program has: none, one of its own with nothing but a loopback, or the host's."""

from __future__ import annotations

import os

from ..errors import KernelError, UsageError
from ..kernel import const as c
from ..kernel.calls import unshare

KINDS = ("none", "loopback", "host")
_SET_FLAGS = 0x8914  # SIOCSIFFLAGS, netdevice(7)
_UP = 1


def enter_network(kind: str) -> None:
    """
    Give this process, which has one thread, the network of a program.

    Without privilege, a network of its own is that of a new user namespace. Raises UsageError for
    another word, KernelError where the host allows no namespace.
    """
    if kind not in KINDS:
        raise UsageError(f"is not one of {', '.join(KINDS)}", at="--net", value=kind)
    if kind != "loopback":
        return
    unshare(c.CLONE_NEWNET | (c.CLONE_NEWUSER if os.geteuid() else 0))
    import _socket
    import fcntl
    import struct

    control = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM)
    try:
        fcntl.ioctl(control.fileno(), _SET_FLAGS, struct.pack("16sH22x", b"lo", _UP))
    except OSError as error:
        raise KernelError.of("ioctl SIOCSIFFLAGS", error.errno or 0) from None
    finally:
        control.close()
