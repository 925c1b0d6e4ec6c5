"""Network namespaces, and the one device that each has. network_namespaces(7), netdevice(7)."""

from __future__ import annotations

from .. import os
from . import calls
from . import const as c
from ._ffi import ffi


def loopback_up() -> None:
    """Switch `lo` of this network namespace on; its IPv4 and IPv6 addresses come with that."""
    socket = calls.socket(c.AF_INET, c.SOCK_DGRAM | c.SOCK_CLOEXEC)
    request = ffi.new("struct ifreq *", (b"lo",))
    calls.ioctl(socket, c.SIOCGIFFLAGS, request, "SIOCGIFFLAGS")
    request.ifr_flags |= c.IFF_UP
    calls.ioctl(socket, c.SIOCSIFFLAGS, request, "SIOCSIFFLAGS")
    os.close(socket)


def new_namespace() -> int:
    """
    A descriptor of a new network namespace, in which `lo` is up; this process stays in its own.

    Raises KernelError.
    """
    own = _current()
    calls.unshare(c.CLONE_NEWNET)
    try:
        loopback_up()
        return _current()
    finally:
        calls.setns(own, c.CLONE_NEWNET)
        os.close(own)


def _current() -> int:
    return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
