"""
CVE-2016-9962: a process entering a container is visible inside before it executes its program.

A process that could inspect it found the host's files through its descriptors, root or memory, and
what its command line said; with CAP_SYS_PTRACE it could use its capabilities.
"""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager

import pytest

from pycontain.spec.names import CAPABILITIES
from tests.bundles import LIMIT, wait_until
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


# --- while it is half made -----------------------------------------------------------------------

PATHS = [path for path in sys.path if path]
SECRET = "a-secret" + "-of-the-caller"


STOPS = """
import signal, sys
sys.path += {paths!r}
import prctl
from pycontain.cli import fast
from pycontain.kernel import seal
from pycontain.launch import fork
from pycontain.plan import steps
from pycontain.plan.walk import child_step
seal.ensure = lambda: None  # this interpreter is not replaced by another
perform = child_step.functions[steps.EnterDirectory]
def stops(*arguments):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    prctl.set_name("half made")
    signal.sigwait([signal.SIGUSR1])
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGUSR1])
    perform(*arguments)
child_step.functions[steps.EnterDirectory] = stops
sys.exit(fast.main(sys.argv[1:]))
"""


def shown(pid):
    """Command line and environment, as anybody, or whoever may inspect the process, reads them."""
    texts = [open_text(f"/proc/{pid}/{name}") for name in ("cmdline", "environ")]
    return "".join(texts).replace("\0", "")


@contextmanager
def half_made(runtime, *words):
    """(pid of the runtime, pid of its child), which waits half-way; then it continues."""
    code = STOPS.format(paths=PATHS)
    command = [PYTHON, "-ISc", code, "--root", str(runtime.root), *map(str, words)]
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, env={**os.environ, "CALLER": SECRET}, stdin=quiet, stdout=quiet
    ) as caller:
        children = f"/proc/{caller.pid}/task/{caller.pid}/children"
        wait_until(lambda: open_text(children), "a child")
        [child] = open_text(children).split()
        wait_until(lambda: open_text(f"/proc/{child}/comm") == "half made\n", "it is half made")
        try:
            yield caller.pid, int(child)
        finally:
            os.kill(int(child), signal.SIGUSR1)
            assert caller.wait(LIMIT) == 0


@pytest.mark.parametrize("verb", ["create", "run", "exec"])
def test_a_process_being_set_up_shows_nothing_of_the_caller(runtime, bundle, verb):
    made = bundle("true")
    if verb == "exec":
        words = ["--env", f"A={SECRET}", runtime.started(bundle("sleep 100")), "true"]
    else:
        words = ["--bundle", made.path, "--pid-file", made.path / SECRET, runtime.new_id()]
    with half_made(runtime, verb, *words) as (caller, child):
        assert SECRET in shown(caller)
        assert shown(child) == ""


def test_a_process_that_waits_for_start_shows_nothing_of_the_caller(waiting):
    assert shown(waiting) == ""


@pytest.mark.control
def test_a_naive_copy_of_the_caller_shows_its_command_line_and_environment():
    code = "import os, time; os.fork() or time.sleep(100); os.wait()"
    with subprocess.Popen([PYTHON, "-ISc", code], env={"CALLER": SECRET}) as naive:
        children = f"/proc/{naive.pid}/task/{naive.pid}/children"
        wait_until(lambda: open_text(children), "a child")
        copy = int(open_text(children))
        assert SECRET in shown(copy)
        os.kill(copy, signal.SIGKILL)


# --- while it enters a pid namespace that others are in ------------------------------------------

# All that the runtime has, so that only dumpability is in the way (ptrace(2), access mode
# checking): without the capability that overrides it, and with it.
ALL = sorted(CAPABILITIES)
EQUAL = sorted(set(CAPABILITIES) - {"CAP_SYS_PTRACE"})
PTRACE = CAPABILITIES["CAP_SYS_PTRACE"]
USER = 54323  # of what enters, which has no capabilities
HOST_MOUNT = "a-mount" + "-of-the-host"

WATCH = """
import os, stat
seen, taken = set(), set()

def text(pid, name):
    with open(f"/proc/{pid}/{name}", errors="replace") as file:
        return file.read()

def early(pid):  # anybody may read this
    return any(name in text(pid, "comm") for name in ("python", "pycontain"))

def root(pid):  # the host's
    return os.path.exists(f"/proc/{pid}/root/MARKER")

def cwd(pid):
    return os.path.exists(f"/proc/{pid}/cwd/MARKER")

def exe(pid):
    return "python" in os.readlink(f"/proc/{pid}/exe")

def descriptors(pid):  # any but the standard ones and FIFOs
    names = [f"/proc/{pid}/fd/{n}" for n in os.listdir(f"/proc/{pid}/fd") if int(n) > 2]
    return early(pid) and not all(stat.S_ISFIFO(os.stat(name).st_mode) for name in names)

def mem(pid):  # requires the same access as ptrace(2)
    with open(f"/proc/{pid}/mem", "r+b", 0):
        return early(pid)

def memory(pid):
    with open(f"/proc/{pid}/mem", "rb", 0) as file:
        return any("SECRET".encode() in part(file, line) for line in text(pid, "maps").splitlines())

def part(file, line):
    begin, end = (int(place, 16) for place in line.split()[0].split("-"))
    try:
        file.seek(begin)
        return file.read(end - begin)
    except (OSError, OverflowError):  # [vsyscall], [vvar]
        return b""

def mountinfo(pid):
    return "HOST_MOUNT" in text(pid, "mountinfo")

def cmdline(pid):
    return "SECRET" in text(pid, "cmdline")

def environ(pid):
    return "SECRET" in text(pid, "environ")

def privileged(pid):  # anybody may read this, too
    found = dict(line.split(":\\t") for line in text(pid, "status").splitlines() if ":\\t" in line)
    sets = [int(found["Cap" + name], 16) for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")]
    return any(sets) or found["Uid"].split() != ["USER"] * 4

print("ready")
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
"""
SEEN_BY_ALL = "cmdline, privileged"
INSPECTED = "root, cwd, descriptors, memory, mountinfo, environ"
FORBIDDEN = f"{SEEN_BY_ALL}, {INSPECTED}, exe, mem"
FORBIDDEN_TO_PTRACE = f"{SEEN_BY_ALL}, {INSPECTED}"  # with CAP_SYS_PTRACE inside


@pytest.fixture
def host_mount(tmp_path, shared_mounts):
    """A mount that no container has."""
    place = tmp_path / "mounted"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", HOST_MOUNT, place], check=True)
    yield
    subprocess.run(["umount", place], check=True)


@pytest.fixture(params=[(FORBIDDEN, EQUAL), (FORBIDDEN_TO_PTRACE, ALL)], ids=["equal", "ptrace"])
def watcher(request, runtime, bundle, host_mount):
    """A container that inspects every new process in its pid namespace, and its verdict."""
    attempts, capabilities = request.param
    sets = dict.fromkeys(("bounding", "effective", "permitted"), capabilities)
    made = bundle("", {"process.capabilities": sets, "annotations": {"secret": SECRET}})
    code = WATCH.replace("ATTEMPTS", attempts).replace("MARKER", str(made.path / "config.json"))
    # what it looks for must not be in its own arguments, which exec reads in the configuration
    for name, value in (("SECRET", SECRET), ("HOST_MOUNT", HOST_MOUNT), ("USER", str(USER))):
        code = code.replace(name, value)
    (made.rootfs / "watch.py").write_text(code)
    made.edit({"process.args": [*python("")[:-2], "/watch.py"]})
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


# Each process inside waits a while for its parent, so that it is seen.
DRIVER = """
import sys, time
sys.path += {paths!r}
from pycontain.cli import fast
from pycontain.kernel import seal
from pycontain.launch import joined_pids
from pycontain.plan import steps
from pycontain.plan.walk import parent_step
seal.ensure = lambda: None
take_over = parent_step.functions[steps.TakeOver]
def late(*arguments):
    take_over(*arguments)
    time.sleep(0.05)
parent_step.functions[steps.TakeOver] = late
for command in {commands!r}:
    assert fast.main(["--root", {root!r}, *command]) == 0, command
"""

NAIVE = """
import os, sys
sys.path += {paths!r}
from pycontain.kernel import calls, const as c
target = os.pidfd_open({pid})
host = os.open("/", os.O_RDONLY)
calls.setns(target, c.CLONE_NEWPID)
for _ in range(5):
    if os.fork() == 0:
        {work}
        for _ in range(5_000_000):
            pass  # what a runtime has to do here
        os.execv("/bin/true", ["true"])
    os.wait()
"""


def enter(code, capabilities):
    """Run code that enters; its command line and environment hold what nobody inside may read."""
    subprocess.run(
        [PYTHON, "-ISc", code, SECRET],
        env={**os.environ, "CALLER": SECRET},
        cwd="/",
        check=True,
        timeout=LIMIT,
        preexec_fn=lambda: with_capabilities(capabilities),
    )


def commands(verb, runtime, bundle, container, pid, times=8):
    """Commands that start an unprivileged program in the watcher's pid namespace."""
    process = {"user": {"uid": USER, "gid": USER}, "cwd": "/", "env": ["PATH=/bin"]}
    process |= {"args": ["true"], "capabilities": {}}
    if verb == "exec":
        file = runtime.folder / "process.json"
        file.write_text(json.dumps(process))
        return [["exec", "--process", str(file), container]] * times
    listed = [{"type": kind} for kind in ("mount", "uts", "ipc", "network")]
    listed.append({"type": "pid", "path": f"/proc/{pid}/ns/pid"})
    made = bundle("", {"linux.namespaces": listed, "annotations": {"secret": SECRET}})
    made.edit({f"process.{name}": value for name, value in process.items()})
    words = ["--bundle", str(made.path)]
    return [[verb, *words, runtime.new_id()] for _ in range(times)]


@pytest.mark.parametrize("verb", ["exec", "create", "run"])
def test_inspecting_a_process_that_enters_the_container_gains_nothing(
    runtime, bundle, watcher, verb
):
    """Containers of a pod that share a pid namespace see each other's processes being created."""
    container, pid, verdict, (_, capabilities) = watcher
    entering = commands(verb, runtime, bundle, container, pid)
    enter(DRIVER.format(paths=PATHS, root=str(runtime.root), commands=entering), capabilities)
    seen, taken = verdict()
    assert seen > 0
    assert taken == []


@pytest.mark.control
@pytest.mark.parametrize("verb", ["exec", "create"])
def test_inspecting_a_naive_process_that_enters_gains_everything(watcher, verb):
    _, pid, verdict, (attempts, capabilities) = watcher
    work = "calls.unshare(c.CLONE_NEWNS)" if verb == "create" else "pass"
    enter(NAIVE.format(paths=PATHS, pid=pid, work=work), capabilities)
    seen, taken = verdict()
    assert seen > 0
    assert taken == sorted(attempts.split(", "))
