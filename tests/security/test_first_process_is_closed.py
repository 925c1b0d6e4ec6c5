"""
CVE-2016-9962: a process on its way into a container is seen inside before it is the program.

Whoever could look into it found the host's files behind its descriptors, its root or its memory.
"""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest

from pycontain.spec.names import CAPABILITIES
from tests.security.attack import PYTHON, drop_from_bounding_set, give_python, python

pytestmark = pytest.mark.needs_root

# --- while it waits for `start` ------------------------------------------------------------------

FURNISHED = {
    "process.user": {"uid": 1000, "gid": 1000},
    "linux.sysctl": {"net.ipv4.ip_forward": "1"},
    "linux.maskedPaths": ["/proc/keys"],
    "linux.readonlyPaths": ["/proc/sys"],
    "linux.seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
}


@pytest.fixture
def waiting(runtime, bundle):
    """The pid of a container's first process that waits for `start`."""
    host = os.open("/", os.O_RDONLY)
    os.set_inheritable(host, True)
    try:
        container = runtime.create(bundle("true", FURNISHED), pass_fds=[host])
    finally:
        os.close(host)
    return runtime.state(container)["pid"]


def is_of_the_host(pid, fd):
    """Whether a descriptor is a file that has a name, no FIFO, and not the process's own root."""
    if not os.readlink(f"/proc/{pid}/fd/{fd}").startswith("/"):
        return False  # a pipe, an eventfd
    info = os.stat(f"/proc/{pid}/fd/{fd}")
    root = os.stat(f"/proc/{pid}/root")
    return not stat.S_ISFIFO(info.st_mode) and not os.path.samestat(info, root)


def test_the_waiting_process_holds_no_descriptor_of_the_host(waiting):
    held = [fd for fd in os.listdir(f"/proc/{waiting}/fd") if int(fd) > 2]
    assert [
        os.readlink(f"/proc/{waiting}/fd/{fd}") for fd in held if is_of_the_host(waiting, fd)
    ] == []


def test_the_waiting_process_lets_nobody_look_in(waiting):
    """What is not dumpable belongs to root, whoever the process is: proc_pid(5)."""
    assert os.stat(f"/proc/{waiting}/fd").st_uid == 0
    assert "Uid:\t1000\t" in open_text(f"/proc/{waiting}/status")


NAIVE_INIT = """
import os, sys
host = os.open("/", os.O_RDONLY)
os.setresuid(1000, 1000, 1000)
import ctypes
ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE, as it is without a change of user
print(flush=True)
sys.stdin.read()
"""


def test_a_naive_process_holds_the_host_and_lets_its_user_look_in():
    pipe = subprocess.PIPE
    with subprocess.Popen([PYTHON, "-ISc", NAIVE_INIT], stdin=pipe, stdout=pipe) as naive:
        naive.stdout.readline()
        links = [
            os.readlink(f"/proc/{naive.pid}/fd/{fd}") for fd in os.listdir(f"/proc/{naive.pid}/fd")
        ]
        owner = os.stat(f"/proc/{naive.pid}/fd").st_uid
        naive.stdin.close()
    assert "/" in links
    assert owner == 1000


def open_text(path):
    with open(path) as stream:
        return stream.read()


# --- on its way by `exec` ------------------------------------------------------------------------

# Everything the runtime has, so that nothing but dumpability is in the way (ptrace(2), access
# mode checking), and without the capability that goes through that.
EQUAL = sorted(set(CAPABILITIES) - {"CAP_SYS_PTRACE"})
PTRACE = CAPABILITIES["CAP_SYS_PTRACE"]
PATHS = [path for path in sys.path if path]

WATCH = """
import os
mine = os.stat("/")
seen, taken = set(), set()
print("ready")

def early(pid):
    with open(f"/proc/{pid}/cmdline", "rb") as file:  # anybody may read this
        return b"exec" in file.read().split(b"\\0")

def root(pid):
    return not os.path.samestat(os.stat(f"/proc/{pid}/root/."), mine)

def cwd(pid):
    return not os.path.samestat(os.stat(f"/proc/{pid}/cwd/."), mine)

def exe(pid):
    return "python" in os.readlink(f"/proc/{pid}/exe")

def fd(pid):
    return [os.stat(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")] and early(pid)

def mem(pid):  # asks for what ptrace(2) asks
    with open(f"/proc/{pid}/mem", "r+b", 0):
        return early(pid)

while not os.path.exists("/tmp/stop"):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for attempt in (root, cwd, exe, fd, mem):
            try:
                if int(pid) != os.getpid() and early(pid):
                    seen.add(pid)
                    if attempt(pid):
                        taken.add(attempt.__name__)
            except OSError:
                pass
print("seen", len(seen), "taken", *sorted(taken), "end")
"""


@pytest.fixture
def watcher(runtime, bundle):
    """A container that looks at every new process in its pid namespace, and its verdict."""
    sets = dict.fromkeys(("bounding", "effective", "permitted"), EQUAL)
    made = bundle("", {"process.args": python(WATCH), "process.capabilities": sets})
    give_python(made)
    container = runtime.started(made, preexec_fn=lambda: drop_from_bounding_set(PTRACE))
    runtime.wait_for_text(container, "ready")

    def verdict():
        (made.rootfs / "tmp/stop").touch()
        runtime.wait_for_text(container, "end")
        _, seen, _, *taken, _ = runtime.printed(container).split("ready")[1].split()
        return int(seen), taken

    return container, runtime.state(container)["pid"], verdict


DRIVER = """
import sys
sys.path += {paths!r}
from pycontain.runtime.exec import exec_
from pycontain.runtime.options import Options
for _ in range({times}):
    assert exec_(Options(root={root!r}), {id!r}, ("true",)) == 0
"""

NAIVE = """
import os, sys
sys.path += {paths!r}
from pycontain.kernel import calls, const as c
target = os.pidfd_open({pid})
calls.setns(target, c.CLONE_NEWPID)
for _ in range(10):
    if os.fork() == 0:
        for _ in range(200_000):
            pass  # what a runtime has to do here
        calls.setns(target, c.CLONE_NEWNS)
        os.execv("/bin/true", ["true"])
    os.wait()
"""


def enter(code):
    """Run code that enters the container; its command line says `exec`, which the watcher heeds."""
    command = [PYTHON, "-ISc", code, "exec"]
    subprocess.run(command, check=True, preexec_fn=lambda: drop_from_bounding_set(PTRACE))


def test_nobody_inside_can_look_into_an_exec(runtime, watcher):
    container, _, verdict = watcher
    enter(DRIVER.format(paths=PATHS, root=str(runtime.root), id=container, times=150))
    seen, taken = verdict()
    assert seen > 0
    assert taken == []


def test_a_naive_exec_is_looked_into(watcher):
    _, pid, verdict = watcher
    enter(NAIVE.format(paths=PATHS, pid=pid))
    seen, taken = verdict()
    assert seen > 0
    assert taken == ["cwd", "exe", "fd", "mem", "root"]
