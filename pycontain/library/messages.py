"""
The messages between a program and its workers, on a socket.

    program                                          worker
    {"verb": "run", "id": …, "bundle": …}   ->
      + stdin, stdout, stderr
                                            <-       {"pid": …, "times": […], "state": {…},
                                                      "ended": […]}
                                                       + a pidfd; exec has no state
                                            <-       {"fault": {…}, "ended": […]}
    {"verb": "forget", "id": …}             ->       (no answer)
    (end of file)                           ->       deletes the containers it has not forgotten

Containers are children of the program, not of the worker (CLONE_PARENT), so the program can and
must wait for them; it first reaps those listed in "ended".
"""

from __future__ import annotations

import _socket
import sys

from ..lean import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    Message = dict[str, object]

_LIMIT = 1 << 24  # bytes of a message, which may carry a whole config.json


def send(socket: _socket.socket, message: Message, fds: list[int]) -> None:
    """Send a message and descriptors: four bytes of length, then JSON."""
    data = jsontext.dumps(message).encode()
    data = len(data).to_bytes(4, "little") + data
    packed = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)] if fds else []
    sent = socket.sendmsg([data], rights)  # in one call, so that the other end wakes up once
    if sent < len(data):
        socket.sendall(data[sent:])


def receive(socket: _socket.socket, limit: int) -> tuple[Message | None, list[int]]:
    """The next message and up to `limit` descriptors; None at the end of file."""
    space = _socket.CMSG_SPACE(4 * limit)
    head, ancillary, _, _ = socket.recvmsg(4, space, _socket.MSG_CMSG_CLOEXEC | _socket.MSG_WAITALL)
    if len(head) < 4:
        return None, []
    fds = [
        int.from_bytes(data[at : at + 4], sys.byteorder)
        for _, _, data in ancillary
        for at in range(0, len(data), 4)
    ]
    length = int.from_bytes(head, "little")
    data = socket.recv(length, _socket.MSG_WAITALL) if length <= _LIMIT else b""
    message = jsontext.loads(data.decode())
    assert isinstance(message, dict)
    return message, fds
