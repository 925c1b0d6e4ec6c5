"""
A network of a few places: what a sandbox may connect to, through a proxy in this program.

The containers of the sandbox join a network namespace that has a loopback device and nothing else.
On it the proxy listens, whose other end is this program: it looks names up and connects, if the
place is on the list. Inside are the usual variables, such as https_proxy, and no rights are needed.

It serves HTTP/1.1 with CONNECT, for whatever runs over TLS, and with absolute addresses for http:
(RFC 9110, 9.3.6; RFC 9112, 3.2). What is sent to an allowed host is not inspected.
"""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import threading
from urllib.parse import urlsplit

from ..errors import UsageError
from ..kernel import calls, net
from ..kernel import const as c
from ..kernel.descriptors import close_owned
from . import log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_PORT = 3128
# What tells programs of the proxy.
VARIABLES = dict.fromkeys(
    ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), f"http://127.0.0.1:{_PORT}"
)
_HEAD = 16 << 10  # bytes of a request's first line and fields
_CONNECTIONS = 64  # at once
_PATIENCE = 60.0  # seconds without a byte
_PIECE = 1 << 16
_REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_FAILED = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_CONNECTED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Network:
    """
    A network namespace, and the proxy that listens in it.

    allowed    the places (`places`)
    namespace  a descriptor of it

    A name that leads to this host itself or to its link (the metadata service of a cloud is there)
    is refused, unless the list has that address or "localhost".
    """

    def __init__(self, allowed: Sequence[tuple[str, int]]) -> None:
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
                continue
            if self._places.acquire(blocking=False):
                threading.Thread(target=self._handle, args=(client,), daemon=True).start()
            else:
                client.close()

    def _handle(self, client: socket.socket) -> None:
        try:
            with client:
                client.settimeout(_PATIENCE)
                self._connect(client)
        except (OSError, ValueError):
            pass  # the program inside sees that the connection has ended
        finally:
            self._places.release()

    def _connect(self, client: socket.socket) -> None:
        """Serve one request. Raises OSError, ValueError for what is not a request."""
        head, rest = _received(client)
        method, target, _ = head.split("\r\n", 1)[0].split(" ")
        if method == "CONNECT":
            host, port = _split(target)
            first = b""
        else:
            address = urlsplit(target)
            host, port = (address.hostname or "").lower(), address.port or 80
            first = _rewritten(head, method, target)
        peer = self._opened(client, host, port)
        if peer is None:
            return
        with peer:
            if method == "CONNECT":
                client.sendall(_CONNECTED)
            peer.sendall(first + rest)
            _relay(client, peer)

    def _opened(self, client: socket.socket, host: str, port: int) -> socket.socket | None:
        """A connection to a place, None if it is not allowed or cannot be reached."""
        entry = self._entry(host, port)
        if entry is None:
            log.LOGGER.info("network: refused %r, port %d", host, port)
            client.sendall(_REFUSED)
            return None
        for address in _addresses(host, port):
            if _is_near(address) and not (entry == "localhost" or _is_address(entry)):
                continue
            try:
                return socket.create_connection((address, port), _PATIENCE)
            except OSError:
                continue
        client.sendall(_FAILED)
        return None

    def _entry(self, host: str, port: int) -> str | None:
        """The host of the entry that allows a place."""
        for allowed, its_port in self.allowed:
            below = allowed.startswith("*.") and host.endswith(allowed[1:])
            if port == its_port and (host == allowed or below):
                return allowed
        return None


def places(wanted: Sequence[str] | None) -> list[tuple[str, int]] | None:
    """
    The places in a list of "HOST:PORT", where "*.HOST" stands for all names below; None for None.

    Raises UsageError for an entry that is not HOST:PORT.
    """
    if wanted is None:
        return None
    if isinstance(wanted, str):
        remedy = 'write ["example.org:443"] or "host"'
        why = "is not a list of HOST:PORT"
        raise UsageError(why, at="network", value=repr(wanted), remedy=remedy)
    return [_place(entry) for entry in wanted]


def _place(entry: str) -> tuple[str, int]:
    """A place of the list. Raises UsageError."""
    try:
        host, port = _split(entry)
    except (ValueError, AttributeError):
        remedy = 'write "example.org:443"'
        raise UsageError(
            "is not HOST:PORT", at="network", value=repr(entry), remedy=remedy
        ) from None
    return host, port


def _split(text: str) -> tuple[str, int]:
    """HOST:PORT, the host in lower case. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not (host and colon and port.isascii() and port.isdigit() and 0 < int(port) < 1 << 16):
        raise ValueError(text)
    return host.lower().strip("[]"), int(port)


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    return [str(address[0]) for *_, address in found]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_near(address: str) -> bool:
    """Whether an address is this host's own, or on its link."""
    found = ipaddress.ip_address(address.partition("%")[0])
    mapped = getattr(found, "ipv4_mapped", None) or found
    return bool(mapped.is_loopback or mapped.is_link_local or mapped.is_unspecified)


def _received(client: socket.socket) -> tuple[str, bytes]:
    """The head of a request, and what has arrived after it. Raises OSError, ValueError."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = client.recv(_PIECE)
        if not piece or len(data) > _HEAD:
            raise ValueError("is not a request")
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode("latin-1"), rest


def _rewritten(head: str, method: str, target: str) -> bytes:
    """The head as the place itself expects it; one request a connection."""
    address = urlsplit(target)
    path = (address.path or "/") + (f"?{address.query}" if address.query else "")
    fields = [
        line
        for line in head.split("\r\n")[1:]
        if line.partition(":")[0].strip().lower() not in ("connection", "proxy-connection")
    ]
    lines = [f"{method} {path} HTTP/1.1", *fields, "Connection: close", "", ""]
    return "\r\n".join(lines).encode("latin-1")


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
