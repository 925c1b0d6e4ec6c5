"""A seccomp agent for tests: it receives listeners, and answers their notifications."""

from __future__ import annotations

import array
import errno
import fcntl
import json
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

# <linux/seccomp.h>: struct seccomp_notif and seccomp_notif_resp, seccomp_unotify(2)
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_NOTIFICATION, _RESPONSE = struct.Struct("=QIIiIQ6Q"), struct.Struct("=QqiI")
_CONTINUE = 1

Answer = Callable[[int], int]
"""The number of a system call -> the errno that it fails with, 0 to let it continue."""


class Agent:
    """
    Listens at a path; `answer` decides about system calls.

    states  what the runtime sent with each listener
    counts  how many descriptors came with it
    calls   (pid, number) of each system call that it was notified of
    """

    def __init__(self, path: Path, answer: Answer = lambda _: 0) -> None:
        self.path = path
        self.answer = answer
        self.states: list[dict[str, Any]] = []
        self.counts: list[int] = []
        self.calls: list[tuple[int, int]] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._stop, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *_: object) -> None:
        """Stop: system calls that wait for an answer fail with ENOSYS."""
        os.close(self._wake)
        self._thread.join()
        os.close(self._stop)
        self._listener.close()

    def _serve(self) -> None:
        watch, listeners = select.poll(), set()
        watch.register(self._stop, select.POLLIN)
        watch.register(self._listener, select.POLLIN)
        while True:
            for fd, event in watch.poll():
                if fd == self._stop:
                    for each in listeners:
                        os.close(each)
                    return
                if fd == self._listener.fileno():
                    for each in self._accept():
                        listeners.add(each)
                        watch.register(each, select.POLLIN)
                elif event & select.POLLIN:
                    self._reply(fd)
                else:  # the last process with this filter has ended
                    watch.unregister(fd)
                    listeners.discard(fd)
                    os.close(fd)

    def _accept(self) -> list[int]:
        """The listeners from one connection, which consists of one message."""
        connection, _ = self._listener.accept()
        with connection:
            text, ancillary, _, _ = connection.recvmsg(65536, socket.CMSG_SPACE(16))
            assert connection.recv(1) == b""
        fds = array.array("i")
        for _, _, data in ancillary:
            fds.frombytes(data)
        self.states.append(json.loads(text))
        self.counts.append(len(fds))
        return list(fds)

    def _reply(self, fd: int) -> None:
        buffer = bytearray(_NOTIFICATION.size)
        try:
            fcntl.ioctl(fd, _RECEIVE, buffer)
            id, pid, _, number, *_ = _NOTIFICATION.unpack(buffer)
            self.calls.append((pid, number))
            refused = self.answer(number)
            flags = 0 if refused else _CONTINUE
            fcntl.ioctl(fd, _SEND, bytearray(_RESPONSE.pack(id, 0, -refused, flags)))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.EINTR):  # it was killed meanwhile
                raise
