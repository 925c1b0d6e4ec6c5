"""Network namespaces, and the loopback device in each. network_namespaces(7), netdevice(7)."""

from __future__ import annotations

from ..errors import KernelError
from ..lean import os
from . import calls
from . import const as c
from ._ffi import ffi


def loopback_up() -> None:
    """Bring up `lo` of this network namespace, which also sets its IPv4 and IPv6 addresses."""
    socket = calls.socket(c.AF_INET, c.SOCK_DGRAM | c.SOCK_CLOEXEC)
    try:
        request = ffi.new("struct ifreq *", (b"lo",))
        calls.ioctl(socket, c.SIOCGIFFLAGS, request, "SIOCGIFFLAGS")
        request.ifr_flags |= c.IFF_UP
        calls.ioctl(socket, c.SIOCSIFFLAGS, request, "SIOCSIFFLAGS")
    finally:
        os.close(socket)


def new_namespace() -> int:
    """
    A descriptor of a new network namespace, in which `lo` is up; this process stays in its own.

    Raises KernelError.
    """
    own = _current()
    try:
        calls.unshare(c.CLONE_NEWNET)
        try:
            loopback_up()
            return _current()
        finally:
            calls.setns(own, c.CLONE_NEWNET)
    finally:
        os.close(own)


def _current() -> int:
    path = "/proc/thread-self/ns/net"
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise KernelError.of("open", error.errno or 0, path) from None
