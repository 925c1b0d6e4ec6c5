"""
The messages between a program and its workers, on a socket.

    program                                          worker
    {"verb": "run", "id": …, "bundle": …,
     "seconds": …}                          ->
      + stdin, stdout, stderr, and the
        mount namespace to work in, if any
                                            <-       {"pid": …, "times": […], "state": {…},
                                                      "ended": […], "warnings": […]}
                                                       + a pidfd, and the master of a terminal;
                                                         exec has no state
                                            <-       {"fault": {…}, "ended": […],
                                                      "warnings": […]}
    {"verb": "forget", "id": …}             ->       (no answer)
    {"verb": "adopt", "id": …}              ->       (no answer): another worker created it
    (end of file)                           ->       deletes the containers it has not forgotten

Containers are children of the program, not of the worker (CLONE_PARENT), so the program can and
must wait for them; it first reaps those listed in "ended". "seconds" is the time that is left for
the call, null for no limit. REQUESTS and REPLIES define the exact shapes.
"""

from __future__ import annotations

import _socket
import sys

from ..errors import StateError
from ..lean import jsontext, os

TYPE_CHECKING = False
if TYPE_CHECKING:
    Message = dict[str, object]

_WHERE = {"id": str, "root": str, "cgroup_manager": str, "cgroup_missing": str}
_CALL = {**_WHERE, "seconds": {int, float, None}}
_ANSWER = {"ended": [int], "warnings": [str]}
_PROCESS = {"pid": int, "times": [(str, str, int)], **_ANSWER}
REQUESTS: tuple[dict[str, object], ...] = (
    {"verb": {"create", "run"}, "bundle": str, "config": str, "isolation": str, **_CALL},
    {"verb": "exec", "args": [str], "env": [str], "cwd": str, "user": str, "tty": [int], **_CALL},
    {"verb": "forget", "id": str},
    {"verb": "adopt", **_WHERE},
)
REPLIES: tuple[dict[str, object], ...] = (
    {**_PROCESS, "state": {str: object}},
    {**_PROCESS, "state": None},
    {"fault": {str: object}, **_ANSWER},
)

_LIMIT = 1 << 25  # bytes of a message, which may carry a whole config.json as text in JSON
_SHOWN = 100  # characters of a message that is refused


def send(socket: _socket.socket, message: Message, fds: list[int]) -> None:
    """
    Send a message and descriptors: four bytes of length, then JSON.

    Raises StateError if it is longer than the other end accepts, and OSError.
    """
    data = jsontext.dumps(message).encode()
    if len(data) > _LIMIT:
        raise StateError(f"is longer than {_LIMIT >> 20} MiB", at="a message of the library")
    data = len(data).to_bytes(4, "little") + data
    packed = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)] if fds else []
    sent = socket.sendmsg([data], rights)  # in one call, so that the other end wakes up once
    if sent < len(data):
        socket.sendall(data[sent:])


def receive(
    socket: _socket.socket, shapes: tuple[dict[str, object], ...], limit: int
) -> tuple[Message | None, list[int]]:
    """
    The next message, of one of these shapes, and up to `limit` descriptors.

    None at the end of file.
    Raises StateError for anything else, and OSError.
    """
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
    try:
        data = _exactly(socket, length) if length <= _LIMIT else b""
        if length <= _LIMIT and len(data) < length:
            raise ConnectionResetError("the message has no end")
        return _message(data, shapes), fds
    except BaseException:
        for fd in fds:
            os.close(fd)
        raise


def _message(data: bytes, shapes: tuple[dict[str, object], ...]) -> Message:
    """The message of one of these shapes in these bytes. Raises StateError for any other."""
    try:
        message = jsontext.object_of(data)
        if any(jsontext.fits(message, shape) for shape in shapes):
            return message
    except ValueError:
        pass  # the same error as for another shape
    text = data[:_SHOWN].decode(errors="replace")
    raise StateError("is not a message of the library", value=text)


def _exactly(socket: _socket.socket, size: int) -> bytes:
    """This many bytes, fewer at the end of file; MSG_WAITALL does not work with a timeout."""
    pieces = []
    while size and (piece := socket.recv(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)
