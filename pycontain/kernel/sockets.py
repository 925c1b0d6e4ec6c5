"""Descriptors sent over AF_UNIX sockets. unix(7), SCM_RIGHTS."""

from __future__ import annotations

import _socket
import _stat as stat
import sys

from ..errors import KernelError
from ..lean import os
from . import safe_path

_STREAM = _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC


def connect(path: str) -> int:
    """
    A connection to a listening socket, whose path may be longer than the 107 bytes of unix(7).

    A link at the path's end is followed as by `safe_path.open_named`. If the queue of connections
    is full, that is an error, as in runc. Raises KernelError and HostError.
    """
    socket = _socket.socket(_socket.AF_UNIX, _STREAM | _socket.SOCK_NONBLOCK)
    try:
        file = safe_path.open_named(path, os.O_PATH)
        try:
            if not stat.S_ISSOCK(os.fstat(file).st_mode):
                raise KernelError("is not a socket", call="connect", at=path)
            socket.connect(f"/proc/self/fd/{file}")
        finally:
            os.close(file)
        socket.setblocking(True)
        return socket.detach()
    except BlockingIOError:
        raise KernelError("does not accept connections", call="connect", at=path) from None
    except OSError as error:
        raise KernelError.of("connect", error.errno or 0, path) from None
    finally:
        socket.close()  # does nothing once it is detached


def pair() -> tuple[int, int]:
    """Two connected sockets."""
    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _STREAM)
    return ours.detach(), theirs.detach()


def send(connection: int, fd: int, name: bytes = b"\0") -> None:
    """Send a descriptor, with a name that some receivers show, and close the connection."""
    socket = _socket.socket(fileno=connection)
    rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))
    try:
        socket.sendmsg([name], [rights])
    finally:
        socket.close()


def receive(connection: int) -> int:
    """The descriptor that was sent; closes the connection. Raises KernelError if none came."""
    socket = _socket.socket(fileno=connection)
    try:
        _, ancillary, _, _ = socket.recvmsg(4096, _socket.CMSG_SPACE(4), _socket.MSG_CMSG_CLOEXEC)
    finally:
        socket.close()
    if not ancillary:
        raise KernelError("received no descriptor", call="recvmsg")
    return int.from_bytes(ancillary[0][2][:4], sys.byteorder)
