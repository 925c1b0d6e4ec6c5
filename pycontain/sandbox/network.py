"""
A network of a few places: what a sandbox may connect to, through a proxy in this program.

The containers of the sandbox join a network namespace that has a loopback device and nothing else.
On it the proxy listens, whose other end is this program: it looks names up and connects, if the
place is on the list. Inside are the usual variables, such as https_proxy, and no rights are needed.

It serves HTTP/1.1 with CONNECT, for whatever runs over TLS, and with absolute addresses for http:
(RFC 9110, 9.3.6; RFC 9112, 3.2). For these the proxy writes the Host field itself, so that a server
of several hosts serves the one that is allowed. What is sent in TLS is not inspected.

A name is looked up once, and what is connected to is the address that was examined (`places`).
"""

from __future__ import annotations

import os
import re
import select
import socket
import threading
import time
from urllib.parse import urlsplit

from ..kernel import calls, net
from ..kernel import const as c
from ..kernel.descriptors import close_owned
from . import log
from .places import split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .places import Places

_PORT = 3128
# What tells programs of the proxy.
VARIABLES = dict.fromkeys(
    ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), f"http://127.0.0.1:{_PORT}"
)
_HEAD = 16 << 10  # bytes of a request's first line and fields
_CONNECTIONS = 64  # at once
_HEAD_TIME = 30.0  # seconds until it is complete
_PATIENCE = 60.0  # seconds without a byte
_PAUSE = 0.05  # seconds, while no connection can be accepted
# RFC 9112, 3 and 5: neither a continued line nor a line break that only some would see
_REQUEST = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~]+) HTTP/1\.[01]")
_FIELD = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t -~\x80-\xff]*")
_OF_PROXY = ("connection", "host", "proxy-authorization", "proxy-connection")
_PIECE = 1 << 16
_BAD = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_FAILED = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Network:
    """
    A network namespace, and the proxy that listens in it.

    allowed    the places
    namespace  a descriptor of it
    """

    def __init__(self, allowed: Places) -> None:
        """Raises KernelError, OSError."""
        self.allowed = allowed
        self._places = threading.BoundedSemaphore(_CONNECTIONS)
        self._error: BaseException | None = None
        self.namespace = -1
        self._listener: socket.socket
        thread = threading.Thread(target=self._make)  # it enters the namespace for good
        thread.start()
        thread.join()
        if self._error is not None:
            raise self._error
        self._closing = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=self._serve, name="pycontain", daemon=True)
        self._thread.start()

    def _make(self) -> None:
        try:
            calls.unshare(c.CLONE_NEWNET)
            net.loopback_up()
            self._listener = socket.create_server(("127.0.0.1", _PORT), backlog=_CONNECTIONS)
            self.namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except BaseException as error:
            self._error = error

    @property
    def path(self) -> str:
        """The path of the namespace, for the configuration."""
        return f"/proc/{os.getpid()}/fd/{self.namespace}"

    def close(self) -> None:
        """End the proxy; its connections end with the sandbox's programs."""
        os.eventfd_write(self._closing, 1)
        self._thread.join()
        close_owned(self, "_closing")
        self.close_copy()

    def close_copy(self) -> None:
        """In a forked child: close what belongs to the program."""
        self._listener.close()
        close_owned(self, "namespace")

    # --- the proxy -----------------------------------------------------------------------------

    def _serve(self) -> None:
        watch = select.poll()
        watch.register(self._listener, select.POLLIN)
        watch.register(self._closing, select.POLLIN)
        while self._closing not in dict(watch.poll()):
            try:
                client, _ = self._listener.accept()
            except OSError:  # the client has gone, or there are too many open files
                time.sleep(_PAUSE)
                continue
            if self._places.acquire(blocking=False):
                threading.Thread(target=self._handle, args=(client,), daemon=True).start()
            else:
                client.close()

    def _handle(self, client: socket.socket) -> None:
        try:
            with client:
                try:
                    self._connect(client)
                except ValueError:
                    client.sendall(_BAD)
        except OSError:
            pass  # the program inside sees that the connection has ended
        finally:
            self._places.release()

    def _connect(self, client: socket.socket) -> None:
        """Serve one request. Raises OSError, ValueError for what is not a request."""
        head, rest = _received(client)
        client.settimeout(_PATIENCE)
        method, target, fields = _parsed(head)
        tunnel = method == "CONNECT"
        if tunnel:
            host, port = split(target)
            first = b""
        else:
            host, port, first = _rewritten(method, target, fields)
        peer = self._opened(client, host, port)
        if peer is None:
            return
        with peer:
            if tunnel:
                client.sendall(_CONNECTED)
            peer.sendall(first + rest)
            _relay(client, peer)

    def _opened(self, client: socket.socket, host: str, port: int) -> socket.socket | None:
        """A connection to a place, None if it is not allowed or cannot be reached."""
        if not self.allowed.allow(host, port):
            log.LOGGER.info("network: refused %r, port %d", host, port)
            client.sendall(_REFUSED)
            return None
        for address in _addresses(host, port):
            if not self.allowed.lead(host, address, port):
                log.LOGGER.info("network: refused %r, which leads to %s", host, address)
                continue
            try:
                return socket.create_connection((address, port), _PATIENCE)
            except OSError:
                continue
        client.sendall(_FAILED)
        return None


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(address[0]) for *_, address in found]


def _received(client: socket.socket) -> tuple[str, bytes]:
    """The head of a request, and what has arrived after it. Raises OSError, ValueError."""
    data = b""
    end = time.monotonic() + _HEAD_TIME
    while b"\r\n\r\n" not in data:
        client.settimeout(max(end - time.monotonic(), _PAUSE))  # of all pieces together
        piece = client.recv(_PIECE)
        if not piece or len(data) > _HEAD or time.monotonic() > end:
            raise ValueError("is not a request")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode("latin-1"), rest


def _parsed(head: str) -> tuple[str, str, list[tuple[str, str]]]:
    """The method, the target, and each field's name and line. Raises ValueError."""
    first, *lines = head.split("\r\n")
    request = _REQUEST.fullmatch(first)
    fields = [_FIELD.fullmatch(line) for line in lines]
    if request is None or None in fields:
        raise ValueError("is not a request")
    found = [(field[1].lower(), field[0]) for field in fields if field is not None]
    return request[1], request[2], found


def _rewritten(method: str, target: str, fields: list[tuple[str, str]]) -> tuple[str, int, bytes]:
    """
    The place, and the head as the place itself expects it; one request a connection.

    Raises ValueError for a target that is not the address of something of a host.
    """
    address = urlsplit(target)
    place = address.netloc.rpartition("@")[2]
    if address.scheme != "http" or not place:
        raise ValueError("is not for a proxy")
    host, port = split(place if re.search(r":\d+$", place) else f"{place}:80")
    path = (address.path or "/") + (f"?{address.query}" if address.query else "")
    lines = [line for name, line in fields if name not in _OF_PROXY]
    lines = [f"{method} {path} HTTP/1.1", f"Host: {place}", *lines, "Connection: close", "", ""]
    return host, port, "\r\n".join(lines).encode("latin-1")


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Pass on what either sends, until both have ended or nothing comes for a while."""
    peers = {one.fileno(): (one, other), other.fileno(): (other, one)}
    watch = select.poll()
    for fd in peers:
        watch.register(fd, select.POLLIN)
    left = len(peers)
    while left:
        ready = watch.poll(_PATIENCE * 1000)
        if not ready:
            return
        for fd, _ in ready:
            source, target = peers[fd]
            piece = source.recv(_PIECE)
            if piece:
                target.sendall(piece)
                continue
            watch.unregister(fd)
            left -= 1
            target.shutdown(socket.SHUT_WR)
