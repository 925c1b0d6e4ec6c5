"""Sockets of programs: as natively where the network is theirs, and nothing of the host without."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from pycontain.errors import UsageError
from pycontain.vm import Volume, jail
from tests.vm.programs import run

PYTHON = "/usr/bin/python3"
pytestmark = pytest.mark.skipif(not os.access(PYTHON, os.X_OK), reason="needs Debian's Python")

SCRIPT = r"""
import socket, threading, os
a, b = socket.socketpair(); a.send(b"x"); print(b.recv(3), a.getsockname(), b.gettimeout())
r, w = os.pipe(); socket.send_fds(a, [b"m"], [w])
m, fds, flags, where = socket.recv_fds(b, 5, 4); os.write(fds[0], b"through")
print(m, os.read(r, 20), flags)
a.close()
print(b.recv(1))
try: b.send(b"x")
except OSError as e: print(e)
s = socket.create_server(("127.0.0.1", 0)); port = s.getsockname()[1]
def serve():
    c, _ = s.accept(); c.sendall(c.recv(100).upper()); c.close()
t = threading.Thread(target=serve); t.start()
c = socket.create_connection(("localhost", port)); c.sendall(b"hello")
print(c.recv(100), c.getpeername()[0]); t.join()
u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); u.bind(("127.0.0.1", 0))
u.sendto(b"datagram", u.getsockname()); got, sender = u.recvfrom(4); print(got, sender == u.getsockname())
try: socket.create_connection(("127.0.0.1", 1), timeout=2)
except OSError as e: print(e)
n = socket.socket(socket.AF_UNIX); n.bind("/dev/shm/pct-test"); n.listen(1); print(n.getsockname())
k = socket.socket(socket.AF_UNIX); k.connect("/dev/shm/pct-test"); x, y = n.accept()
k.send(b"unix"); print(x.recv(9), y)
try: socket.socket(socket.AF_UNIX).bind("/dev/shm/pct-test")
except OSError as e: print(e)
os.unlink("/dev/shm/pct-test")
print(socket.create_server(("::1", 0), family=socket.AF_INET6).getsockname()[0])
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
print(s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))
big = socket.socketpair(); data = bytes(range(256)) * 8000
threading.Thread(target=lambda: (big[0].sendall(data), big[0].close())).start()
print(sum(map(len, iter(lambda: big[1].recv(65536), b""))))
"""


def python(script, *arguments, **world):
    return run(PYTHON, "-c", script, *arguments, root="/", **world)[:3]


def test_sockets_do_what_they_do_natively(needs_kvm):
    native = subprocess.run([PYTHON, "-c", SCRIPT], check=True, capture_output=True, timeout=60)
    assert python(SCRIPT, network="loopback") == (0, native.stdout, native.stderr)


def test_an_unknown_network_is_refused():
    with pytest.raises(UsageError, match="is not one of none, loopback, host"):
        python("", network="some")


@pytest.mark.parametrize("family", ["AF_INET", "AF_INET6", "AF_NETLINK", "AF_PACKET", "AF_VSOCK"])
@pytest.mark.parametrize("network", ["none", "loopback", "host"])
def test_only_families_of_the_policy_are_there(needs_kvm, family, network):
    script = f"import socket as s\ntry: s.socket(s.{family}, s.SOCK_DGRAM); print('made')\nexcept OSError as e: print(e.errno)"
    expected = b"made\n" if network != "none" and "INET" in family else b"97\n"
    assert python(script, network=network)[1] == expected


REACH = """
import socket, sys
try: socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10); print("reached")
except OSError as e: print(e.errno)
"""


def test_a_network_of_its_own_does_not_reach_the_host(needs_kvm):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert python(REACH, port, network="loopback")[1] == b"111\n"
        assert python(REACH, port, network="host")[1] == b"reached\n"


UNIX = """
import socket, sys
try: socket.socket(socket.AF_UNIX).connect(sys.argv[1]); print("reached")
except OSError as e: print(e.errno)
"""


@pytest.mark.parametrize("writable", [False, True])
def test_a_daemon_of_the_host_is_reached_only_where_the_program_may_write(
    needs_kvm, tmp_path, writable
):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        volumes = (Volume(host=str(tmp_path), guest=str(tmp_path), writable=writable),)
        answer = python(UNIX, path, network="loopback", volumes=volumes)[1]
        assert answer == (b"reached\n" if writable else b"111\n")
        assert python(UNIX, path, volumes=volumes)[1] == b"111\n"


def test_nothing_waits_at_a_file_that_is_no_socket(needs_kvm):
    script = (
        "import ctypes as c; f = c.CDLL(None, use_errno=True)\n"
        "print([(n(1, 0, 0, 0), c.get_errno()) for n in (f.accept, f.recv, f.send, f.listen)])"
    )
    expected = b"[(-1, 88), (-1, 88), (-1, 88), (-1, 88)]\n"
    assert python(script, network="loopback", timeout=20)[1] == expected


def test_the_filter_has_calls_of_networks_only_with_one():
    without, with_one = jail.allowed_calls(), jail.allowed_calls(network=True)
    assert not without & {"bind", "connect", "listen", "accept4"}
    assert {"bind", "connect", "listen", "accept4"} <= with_one
