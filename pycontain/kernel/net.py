"""The one network device every namespace has. netdevice(7)."""

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
