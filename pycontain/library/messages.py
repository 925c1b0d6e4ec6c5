"""
The messages between a program and its workers, on a socket.

    program                                          worker
    {"verb": "run", "id": …, "bundle": …,
     "seconds": …}                          ->
      + stdin, stdout, stderr
                                            <-       {"pid": …, "times": […], "state": {…},
                                                      "ended": […], "warnings": […]}
                                                       + a pidfd; exec has no state
                                            <-       {"fault": {…}, "ended": […],
                                                      "warnings": […]}
    {"verb": "forget", "id": …}             ->       (no answer)
    {"verb": "adopt", "id": …}              ->       (no answer): another worker created it
    (end of file)                           ->       deletes the containers it has not forgotten

Containers are children of the program, not of the worker (CLONE_PARENT), so the program can and
must wait for them; it first reaps those listed in "ended". "seconds" is what is left of the time
that the call was given, null for no limit.
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
    head, ancillary, _, _ = socket.recvmsg(4, space, _socket.MSG_CMSG_CLOEXEC)
    head += _exactly(socket, 4 - len(head)) if head else b""
    if len(head) < 4:
        return None, []
    fds = [
        int.from_bytes(data[at : at + 4], sys.byteorder)
        for _, _, data in ancillary
        for at in range(0, len(data), 4)
    ]
    length = int.from_bytes(head, "little")
    data = _exactly(socket, length) if length <= _LIMIT else b""
    message = jsontext.loads(data.decode())
    assert isinstance(message, dict)
    return message, fds


def _exactly(socket: _socket.socket, size: int) -> bytes:
    """So many bytes, or less at the end of file. A socket with a timeout knows no MSG_WAITALL."""
    pieces = []
    while size and (piece := socket.recv(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
