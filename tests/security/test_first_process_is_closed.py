"""
CVE-2016-9962: a process entering a container is visible inside before it executes its program.

A process that could inspect it found the host's files through its descriptors, root or memory.
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

CONFIGURED = {
    "process.user": {"uid": 1000, "gid": 1000},
    "linux.sysctl": {"net.ipv4.ip_forward": "1"},
    "linux.maskedPaths": ["/proc/keys"],
    "linux.readonlyPaths": ["/proc/sys"],
    "linux.seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
}


@pytest.fixture
def waiting(runtime, bundle):
    """The pid of a container's first process, which waits for `start`."""
    host = os.open("/", os.O_RDONLY)
    os.set_inheritable(host, True)
    try:
        container = runtime.create(bundle("true", CONFIGURED), pass_fds=[host])
    finally:
        os.close(host)
    return runtime.state(container)["pid"]


def is_of_the_host(pid, fd):
    """Whether a descriptor is a file with a name, but not a FIFO or the process's own root."""
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


def test_the_waiting_process_cannot_be_inspected(waiting):
    """The files of a process that is not dumpable belong to root, whatever its user: proc_pid(5)."""
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


@pytest.mark.control
def test_a_naive_process_holds_a_descriptor_of_the_host_and_can_be_inspected():
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


# --- while it enters by `exec` -------------------------------------------------------------------

# All that the runtime has, so that only dumpability is in the way (ptrace(2), access mode
# checking): without the capability that overrides it, and with it.
ALL = sorted(CAPABILITIES)
EQUAL = sorted(set(CAPABILITIES) - {"CAP_SYS_PTRACE"})
PTRACE = CAPABILITIES["CAP_SYS_PTRACE"]
PATHS = [path for path in sys.path if path]
SECRET = "exec-with-a-secret"

WATCH = """
import os, stat
mine, mounts = os.stat("/"), open("/proc/self/mountinfo").read()
seen, taken = set(), set()
print("ready")

def text(pid, name):
    with open(f"/proc/{pid}/{name}") as file:
        return file.read()

def early(pid):  # anybody may read this
    return any(name in text(pid, "comm") for name in ("python", "pycontain"))

def root(pid):
    return not os.path.samestat(os.stat(f"/proc/{pid}/root/."), mine)

def cwd(pid):
    return not os.path.samestat(os.stat(f"/proc/{pid}/cwd/."), mine)

def exe(pid):
    return "python" in os.readlink(f"/proc/{pid}/exe")

def fd(pid):
    return [os.stat(f"/proc/{pid}/fd/{n}") for n in os.listdir(f"/proc/{pid}/fd")] and early(pid)

def mem(pid):  # requires the same access as ptrace(2)
    with open(f"/proc/{pid}/mem", "r+b", 0):
        return early(pid)

def host(pid):  # a descriptor of a file or directory that is not the container's
    names = [f"/proc/{pid}/fd/{n}" for n in os.listdir(f"/proc/{pid}/fd") if int(n) > 2]
    return early(pid) and any(leads_out(name) for name in names)

def leads_out(name):
    found, path = os.stat(name), os.readlink(name)
    if not (stat.S_ISDIR(found.st_mode) or stat.S_ISREG(found.st_mode)):
        return False
    return not os.path.exists(path) or not os.path.samestat(found, os.stat(path))

def mountinfo(pid):
    return text(pid, "mountinfo") not in ("", mounts)

def cmdline(pid):
    return "SECRET" in text(pid, "cmdline")

while not os.path.exists("/tmp/stop"):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for attempt in (ATTEMPTS):
            try:
                if int(pid) != os.getpid() and early(pid):
                    seen.add(pid)
                    if attempt(pid):
                        taken.add(attempt.__name__)
            except OSError:
                pass
print("seen", len(seen), "taken", *sorted(taken), "end")
""".replace("SECRET", SECRET)
FORBIDDEN = "root, cwd, exe, fd, mem, mountinfo, cmdline"
FORBIDDEN_TO_PTRACE = "root, cwd, host, mountinfo, cmdline"  # with CAP_SYS_PTRACE inside


@pytest.fixture(params=[(FORBIDDEN, EQUAL), (FORBIDDEN_TO_PTRACE, ALL)], ids=["equal", "ptrace"])
def watcher(request, runtime, bundle):
    """A container that inspects every new process in its pid namespace, and its verdict."""
    attempts, capabilities = request.param
    sets = dict.fromkeys(("bounding", "effective", "permitted"), capabilities)
    code = WATCH.replace("ATTEMPTS", attempts)
    made = bundle("", {"process.args": python(code), "process.capabilities": sets})
    give_python(made)
    container = runtime.started(made, preexec_fn=lambda: with_capabilities(capabilities))
    runtime.wait_for_text(container, "ready")

    def verdict():
        (made.rootfs / "tmp/stop").touch()
        runtime.wait_for_text(container, "end")
        _, seen, _, *taken, _ = runtime.printed(container).split("ready")[1].split()
        return int(seen), taken

    return container, runtime.state(container)["pid"], verdict, request.param


def with_capabilities(names):
    """Keep at most these capabilities."""
    if "CAP_SYS_PTRACE" not in names:
        drop_from_bounding_set(PTRACE)


DRIVER = """
import sys
sys.path += {paths!r}
from pycontain.runtime.exec import exec_
from pycontain.options import Options
from pycontain.plan.request import ExecRequest
for _ in range({times}):
    assert exec_(Options(root={root!r}), ExecRequest(id={id!r}, args=("true",))) == 0
"""  # one interpreter for all of them: most of the time a process is entering

NAIVE = """
import os, sys
sys.path += {paths!r}
from pycontain.kernel import calls, const as c
target = os.pidfd_open({pid})
host = os.open("/", os.O_RDONLY)
calls.setns(target, c.CLONE_NEWPID)
for _ in range(10):
    if os.fork() == 0:
        for _ in range(200_000):
            pass  # what a runtime has to do here
        calls.setns(target, c.CLONE_NEWNS)
        os.execv("/bin/true", ["true"])
    os.wait()
"""


def enter(code, capabilities):
    """Run code that enters the container; its command line holds what nobody inside may read."""
    command = [PYTHON, "-ISc", code, SECRET]
    subprocess.run(command, check=True, preexec_fn=lambda: with_capabilities(capabilities))


def test_nothing_inside_can_inspect_an_exec(runtime, watcher):
    container, _, verdict, (_, capabilities) = watcher
    code = DRIVER.format(paths=PATHS, root=str(runtime.root), id=container, times=150)
    enter(code, capabilities)
    seen, taken = verdict()
    assert seen > 0
    assert taken == []


@pytest.mark.control
def test_a_naive_exec_can_be_inspected(watcher):
    _, pid, verdict, (attempts, capabilities) = watcher
    enter(NAIVE.format(paths=PATHS, pid=pid), capabilities)
    seen, taken = verdict()
    assert seen > 0
    assert taken == sorted(attempts.split(", "))


# --- while `create` puts it into a pid namespace that others are in ------------------------------

NAIVE_CREATE = """
import os, sys
sys.path += {paths!r}
from pycontain.kernel import calls, const as c
os.open("/", os.O_RDONLY)
calls.setns(os.pidfd_open({pid}), c.CLONE_NEWPID)
for _ in range(10):
    if os.fork() == 0:
        calls.unshare(c.CLONE_NEWNS)
        for _ in range(200_000):
            pass  # what a runtime has to do here
        os.chroot({rootfs!r})
        os.execv("/bin/true", ["true"])
    os.wait()
"""
# Its mount table and command line can be read by anybody: it is born here, unlike that of `exec`.
without_ptrace = pytest.mark.parametrize(
    "watcher", [("root, cwd, exe, fd, mem", EQUAL)], ids=["equal"], indirect=True
)


@without_ptrace
def test_nothing_inside_can_inspect_a_create(runtime, bundle, watcher):
    """The containers of a pod that share a pid namespace see each other being created."""
    _, pid, verdict, (_, capabilities) = watcher
    listed = [{"type": "pid", "path": f"/proc/{pid}/ns/pid"}, {"type": "mount"}, {"type": "uts"}]
    made = bundle("true", {"linux.namespaces": listed})
    for _ in range(20):
        container = runtime.create(made, preexec_fn=lambda: with_capabilities(capabilities))
        runtime.ok("delete", container)
    seen, taken = verdict()
    assert seen > 0
    assert taken == []


@pytest.mark.control
@without_ptrace
def test_a_naive_create_can_be_inspected(bundle, watcher):
    _, pid, verdict, (attempts, capabilities) = watcher
    enter(NAIVE_CREATE.format(paths=PATHS, pid=pid, rootfs=str(bundle("").rootfs)), capabilities)
    seen, taken = verdict()
    assert seen > 0
    assert taken == sorted(attempts.split(", "))
