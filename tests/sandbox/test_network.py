"""A list of hosts that a sandbox may connect to, shown by servers on this host's loopback device."""

from __future__ import annotations

import concurrent.futures
import http.server
import os
import socket
import threading
import time
from collections.abc import Iterator

import pytest

import pycontain
from pycontain.sandbox import network, places

pytestmark = pytest.mark.needs_root

GET = "import urllib.request as r\nr.urlopen('http://{}').read().decode()"
CONNECT = """\
import socket
s = socket.create_connection(('127.0.0.1', 3128))
s.sendall(b'CONNECT {0} HTTP/1.1\\r\\nHost: {0}\\r\\n\\r\\n')
answer = s.recv(1000)
if b' 200 ' in answer:
    s.sendall(b'GET / HTTP/1.0\\r\\n\\r\\n')
    while piece := s.recv(1000):
        answer += piece
answer.decode()
"""


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = (
            f"{self.server.server_address[1]} {self.path} {self.headers.get('Connection')}".encode()
        )
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def ports() -> Iterator[tuple[int, int]]:
    """Of two servers."""
    servers = [http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) for _ in range(2)]
    for server in servers:
        threading.Thread(target=server.serve_forever).start()
    yield servers[0].server_address[1], servers[1].server_address[1]
    for server in servers:
        server.shutdown()
        server.server_close()


def test_only_allowed_hosts_and_ports_are_reached(ports: tuple[int, int]) -> None:
    allowed, other = ports
    with pycontain.Sandbox(network=[f"localhost:{allowed}"]) as box:
        result = box.run_python(GET.format(f"localhost:{allowed}/x?y=1"))
        assert result.value == f"{allowed} /x?y=1 close", result.stderr
        assert "403" in box.run_python(GET.format(f"localhost:{other}/")).error
        assert "403" in box.run_python(GET.format(f"127.0.0.1:{allowed}/")).error, (
            "by that name alone"
        )
        assert f"{allowed} /" in str(box.run_python(CONNECT.format(f"LOCALHOST:{allowed}")).value)
        assert " 403 " in str(box.run_python(CONNECT.format(f"localhost:{other}")).value)


def test_without_the_proxy_nothing_is_reached(ports: tuple[int, int]) -> None:
    code = f"import socket\nsocket.create_connection(('127.0.0.1', {ports[0]}), 2)"
    with pycontain.Sandbox(network=[f"localhost:{ports[0]}"]) as box:
        assert box.run_python(code).error.startswith("ConnectionRefusedError")
        assert box.run_python(code.replace("127.0.0.1", "192.0.2.1")).error.startswith("OSError")
    with pycontain.Sandbox(network="host") as box:  # that the server is there
        assert box.run_python(code).ok


def test_a_name_does_not_lead_to_this_host(ports: tuple[int, int], monkeypatch) -> None:
    """A stranger's name server can answer with 127.0.0.1, or with the address of cloud metadata."""
    real = socket.getaddrinfo

    def lying(host, port, *rest, **more):
        return real("127.0.0.1" if host == "rebound.example" else host, port, *rest, **more)

    monkeypatch.setattr(network.socket, "getaddrinfo", lying)
    with pycontain.Sandbox(network=[f"rebound.example:{ports[0]}", f"127.0.0.1:{ports[1]}"]) as box:
        assert "502" in box.run_python(GET.format(f"rebound.example:{ports[0]}/")).error
        assert box.run_python(GET.format(f"127.0.0.1:{ports[1]}/")).ok


def test_a_pattern_allows_the_names_below_a_domain() -> None:
    found = places.places(["*.example.org:443", "[::1]:80"])
    assert found.allow("a.b.example.org", 443)
    assert found.allow("::1", 80)
    for host, port in (
        ("example.org", 443),
        (".example.org", 443),
        ("a.example.org", 80),
        ("evilexample.org", 443),
        ("a.example.org.evil", 443),
    ):
        assert not found.allow(host, port)


@pytest.mark.parametrize(
    "sent",
    [
        "garbage",
        "CONNECT x",
        "GET /\\r\\n\\r\\n",
        "x" * 50_000,
        "CONNECT a:99999 HTTP/1.1\\r\\n\\r\\n",
        "CONNECT \\x00:1 HTTP/1.1\\r\\n\\r\\n",
    ],
)
def test_an_invalid_request_ends_the_connection_alone(ports: tuple[int, int], sent: str) -> None:
    code = f"import socket\ns = socket.create_connection(('127.0.0.1', 3128)); s.settimeout(10)\ns.sendall(b'{sent}'); s.shutdown(1)\ntry:\n    s.recv(100)\nexcept ConnectionResetError:\n    pass"
    with pycontain.Sandbox(network=[f"localhost:{ports[0]}"]) as box:
        assert box.run_python(code).ok
        assert box.run_python(GET.format(f"localhost:{ports[0]}/")).ok, "the proxy still serves"


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("127.0.0.1", False),
        ("::1", False),
        ("0.0.0.0", False),
        ("169.254.169.254", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("fe80::1%1", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::127.0.0.1", False),
        ("64:ff9b::10.0.0.1", False),
        ("2002:7f00:1::", False),
        ("1.1.1.1", True),
        ("2606:4700::1111", True),
        ("64:ff9b::1.1.1.1", True),
        ("::ffff:1.1.1.1", True),
    ],
)
def test_a_name_leads_to_public_addresses_alone(address: str, public: bool) -> None:
    assert places.is_public(address) is public
    assert places.places(["a.example:80"]).lead("a.example", address, 80) is public


@pytest.mark.parametrize("host", ["10.0.0.1", "db.example"])
def test_a_private_address_of_the_list_is_reached_by_it_and_by_listed_names(host: str) -> None:
    found = places.places(["db.example:80", "db.example:81", "10.0.0.1:80"])
    assert found.lead(host, "10.0.0.1", 80)
    assert not found.lead(host, "10.0.0.1", 81), "by that port alone"
    assert not found.lead(host, "10.0.0.2", 80)


def test_localhost_is_the_loopback_device_alone() -> None:
    found = places.places(["localhost:80"])
    assert found.lead("localhost", "::1", 80)
    assert found.lead("localhost", "127.0.0.1", 80)
    assert not found.lead("localhost", "1.1.1.1", 80)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("EXAMPLE.org.:80", "example.org"),
        ("[0:0:0:0:0:0:0:1]:80", "::1"),
        ("[::FFFF:1.2.3.4]:80", "::ffff:1.2.3.4"),
        ("1.2.3.4:80", "1.2.3.4"),
    ],
)
def test_a_place_has_one_spelling(text: str, host: str) -> None:
    found, port = places.split(text)
    assert (str(places.ipaddress.ip_address(found)) if ":" in host else found, port) == (
        str(places.ipaddress.ip_address(host)) if ":" in host else host, 80,
    )  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["::1:80", "[::1]x:80", "[a]:80", "a b:80", "u@a:80", "a/b:80", "a:0", "a:65536", "a:+1"],
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        places.split(text)


def ask(allowed: list[str], sent: bytes, more: str = "") -> str:
    """What the proxy answers to these bytes, or how the connection ends."""
    code = f"import socket\ns = socket.create_connection(('127.0.0.1', 3128))\ns.settimeout(20)\ns.sendall({sent!r})\n{more}\ns.recv(1000).decode()"
    with pycontain.Sandbox(network=allowed) as box:
        result = box.run_python(code)
        return str(result.value if result.ok else result.error)


@pytest.fixture
def recorder() -> Iterator[tuple[int, list[bytes]]]:
    """The port of a server, and the first bytes of each request to it."""
    seen: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    client, _ = server.accept()
                except OSError:
                    return
                with client:
                    seen.append(client.recv(10_000))
                    client.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1], seen
        server.shutdown(socket.SHUT_RDWR)
    thread.join(10)


HOSTS = [b"Host: evil", b"hOST:evil", b"A: b\r\nHost: evil\r\nHost: other"]
HIDDEN = [b"A: b\nHost: evil", b"A: b\r\n Host: evil", b"Host : evil", b"A: b\rHost: evil"]


def request(port: int, fields: bytes) -> bytes:
    return b"GET http://localhost:%d/ HTTP/1.1\r\n%b\r\n\r\n" % (port, fields)


@pytest.mark.parametrize("fields", HOSTS)
def test_the_host_field_is_the_allowed_place(recorder, fields: bytes) -> None:
    port, seen = recorder
    assert " 204 " in ask([f"localhost:{port}"], request(port, fields))
    [head] = seen
    assert head.lower().count(b"host") == 2
    assert f"\r\nHost: localhost:{port}\r\n".encode() in head
    assert b"evil" not in head


@pytest.mark.parametrize("fields", HIDDEN)
def test_a_host_field_that_only_some_would_see_is_refused(recorder, fields: bytes) -> None:
    port, seen = recorder
    assert " 400 " in ask([f"localhost:{port}"], request(port, fields))
    assert seen == []


@pytest.mark.control
@pytest.mark.parametrize("fields", [*HOSTS, *HIDDEN])
def test_a_naive_proxy_passes_on_another_host(recorder, fields: bytes, monkeypatch) -> None:
    def naive(head: str) -> tuple[str, str, list[tuple[str, str]]]:
        first, *lines = head.split("\r\n")
        method, target, _ = first.split(" ")
        return method, target, [("", line) for line in lines]

    monkeypatch.setattr(network, "_parsed", naive)
    port, seen = recorder
    ask([f"localhost:{port}"], request(port, fields))
    assert b"evil" in seen[0]


class Persistent(Handler):
    """Serves one request after the other of a connection, until a client says that it ends."""

    protocol_version = "HTTP/1.1"
    asked: list[tuple[str, str | None]] = []

    def do_GET(self) -> None:
        self.asked.append((self.path, self.headers.get("Host")))
        super().do_GET()

    do_POST = do_GET  # noqa: N815


@pytest.fixture
def persistent() -> Iterator[tuple[int, list[tuple[str, str | None]]]]:
    """The port of such a server, and the (path, Host) of each request."""
    Persistent.asked.clear()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Persistent) as server:
        threading.Thread(target=server.serve_forever).start()
        yield server.server_address[1], Persistent.asked
        server.shutdown()


SECOND = b"GET /second HTTP/1.1\r\nHost: evil\r\n\r\n"
SMUGGLED = {
    "at once": b"A: b",
    "as a body that is none": b"Content-Length: 0",
    "as a body of two lengths": b"Content-Length: 0\r\nContent-Length: 999",
    "as a body in chunks": b"Transfer-Encoding: chunked\r\nContent-Length: 0",
    "on a connection that stays": b"Connection: keep-alive\r\nKeep-Alive: timeout=9\r\nProxy-Connection: keep-alive",
}


@pytest.mark.parametrize("fields", SMUGGLED.values(), ids=SMUGGLED)
def test_a_second_request_cannot_name_another_host(persistent, fields: bytes) -> None:
    """RFC 9112, 9.6: after `Connection: close` a server takes no other request."""
    port, asked = persistent
    ask([f"localhost:{port}"], request(port, fields) + SECOND)
    assert asked == [("/", f"localhost:{port}")]


@pytest.mark.control
def test_through_a_naive_proxy_a_second_request_names_another_host(persistent, monkeypatch) -> None:
    rewritten = network._rewritten

    def naive(*given):
        host, port, head = rewritten(*given)
        return host, port, head.replace(b"Connection: close\r\n", b"")

    monkeypatch.setattr(network, "_rewritten", naive)
    port, asked = persistent
    ask([f"localhost:{port}"], request(port, b"A: b") + SECOND, "import time; time.sleep(1)")
    assert ("/second", "evil") in asked


@pytest.mark.parametrize("fields", [b"A: " + b"b" * 100_000, b"A: b\r\n" * 20_000],
                         ids=["one", "many"])  # fmt: skip
def test_huge_fields_are_refused_and_not_kept(recorder, fields: bytes) -> None:
    port, seen = recorder
    found = ask([f"localhost:{port}"], request(port, fields))
    assert " 400 " in found or found.startswith(("ConnectionResetError", "BrokenPipeError"))
    assert seen == []


@pytest.mark.control
def test_a_naive_proxy_connects_to_what_a_strangers_name_leads_to(ports, monkeypatch) -> None:
    real = socket.getaddrinfo
    monkeypatch.setattr(
        network.socket, "getaddrinfo", lambda host, *rest, **how: real("127.0.0.1", *rest, **how)
    )
    monkeypatch.setattr(places.Places, "lead", lambda *_: True)
    with pycontain.Sandbox(network=[f"rebound.example:{ports[0]}"]) as box:
        assert box.run_python(GET.format(f"rebound.example:{ports[0]}/")).ok


def test_a_name_is_looked_up_once(ports: tuple[int, int], monkeypatch) -> None:
    """A second answer could be another one than was examined."""
    real, asked = socket.getaddrinfo, []

    def counting(host, *rest, **how):
        asked.append(host)
        return real(host, *rest, **how)

    monkeypatch.setattr(network.socket, "getaddrinfo", counting)
    assert " 200 " in ask(
        [f"localhost:{ports[0]}"], b"CONNECT localhost:%d HTTP/1.1\r\n\r\n" % ports[0]
    )
    assert asked.count("localhost") == 1
    assert set(asked) <= {"localhost", "127.0.0.1", "::1"}


def test_a_client_that_takes_its_time_is_not_waited_for(monkeypatch) -> None:
    """However often it sends a byte."""
    monkeypatch.setattr(network, "_HEAD_TIME", 0.5)
    slow = "import time\nfor _ in range(100):\n    time.sleep(0.1)\n    s.sendall(b'x')"
    found = ask(
        ["a.example:80"],
        b"GET ",
        f"try:\n    {slow.replace(chr(10), chr(10) + '    ')}\nexcept OSError:\n    pass\nelse:\n    raise EOFError",
    )
    assert "EOFError" not in found


def test_connections_that_are_open_do_not_hinder_the_end(ports: tuple[int, int]) -> None:
    code = f"import socket\nkept = [socket.create_connection(('127.0.0.1', 3128)) for _ in range(80)]\nfor s in kept[::2]:\n    try:\n        s.sendall(b'CONNECT localhost:{ports[0]} HTTP/1.1\\r\\n\\r\\n'); s.shutdown(1)\n    except OSError:\n        pass"
    before = threading.active_count()
    with pycontain.Sandbox(network=[f"localhost:{ports[0]}"]) as box:
        assert box.run_python(code).ok
        assert box.run_python(GET.format(f"localhost:{ports[0]}/")).ok
    end = time.monotonic() + 20
    while threading.active_count() > before and time.monotonic() < end:
        time.sleep(0.05)
    assert threading.active_count() <= before


def test_a_pool_reaches_what_is_allowed(ports: tuple[int, int]) -> None:
    allowed, other = ports
    with pycontain.Pool(2, network=[f"localhost:{allowed}"]) as pool:
        found = pool.run(GET.format(f"localhost:{allowed}/x"))
        assert found.value == f"{allowed} /x close", found
        refused = pool.run(GET.format(f"localhost:{other}/"))
        assert "403" in refused.error
        direct = f"import socket\nsocket.create_connection(('127.0.0.1', {allowed}), 5)"
        assert pool.run(direct).error.startswith("ConnectionRefusedError")


def test_runs_of_a_pool_do_not_share_a_network() -> None:
    serve = "import socket, time\ns = socket.create_server(('127.0.0.1', 8099))\ntime.sleep(3)"
    connect = "import socket\nsocket.create_connection(('127.0.0.1', 8099), 5)"
    with pycontain.Pool(2, network=["localhost:80"], timeout=60) as pool:
        with concurrent.futures.ThreadPoolExecutor(1) as threads:
            serving = threads.submit(pool.run, f"{serve}\n'served'")
            time.sleep(0.7)
            assert pool.run(connect).error.startswith("ConnectionRefusedError")
            assert serving.result().value == "served"


def test_a_pool_can_have_the_hosts_network() -> None:
    code = "import os; os.readlink('/proc/self/ns/net')"
    with pycontain.Pool(1, network="host") as pool:
        assert pool.run(code).value == os.readlink("/proc/self/ns/net")
    with pycontain.Pool(1) as pool:
        assert pool.run(code).value != os.readlink("/proc/self/ns/net")
