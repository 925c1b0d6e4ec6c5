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
from pycontain.sandbox import network

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
    policy = network.Network(network.places(["*.example.org:443", "[::1]:80"]) or [])
    try:
        assert policy._entry("a.b.example.org", 443)
        assert policy._entry("::1", 80)
        for host, port in (
            ("example.org", 443),
            ("a.example.org", 80),
            ("evilexample.org", 443),
            ("a.example.org.evil", 443),
        ):
            assert policy._entry(host, port) is None
    finally:
        policy.close()


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
    ("address", "near"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("169.254.169.254", True),
        ("::ffff:127.0.0.1", True),
        ("0.0.0.0", True),
        ("fe80::1%1", True),
        ("192.0.2.1", False),
        ("2001:db8::1", False),
    ],
)
def test_local_and_private_addresses_are_recognized(address: str, near: bool) -> None:
    assert network._is_near(address) is near


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
