"""Nothing of one run is seen by another, before, after or beside it, and nothing of the host."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

import pycontain

pytestmark = pytest.mark.needs_root

SECRET = "a secret of the host's"
os.environ["PYCONTAIN_TEST_SECRET"] = SECRET

# (what the first run leaves, what the second run finds: False if nothing)
PAIRS = {
    "a file in /work": ("open('/work/left', 'w').close()", "os.path.exists('/work/left')"),
    "a file in /tmp": ("open('/tmp/left', 'w').close()", "bool(os.listdir('/tmp'))"),
    "shared memory": ("open('/dev/shm/left', 'w').close()", "bool(os.listdir('/dev/shm'))"),
    "the environment": ("os.environ['LEFT'] = '1'", "'LEFT' in os.environ"),
    "a variable of a module": ("import json; json.left = 1", "hasattr(__import__('json'), 'left')"),
    "a builtin": ("import builtins; builtins.left = 1", "hasattr(__import__('builtins'), 'left')"),
    "a signal handler": (
        "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "__import__('signal').getsignal(15) != __import__('signal').SIG_DFL",
    ),
    "the working directory": ("os.chdir('/tmp')", "os.getcwd() != '/work'"),
    "the umask": ("os.umask(0)", "os.umask(0o22) != 0o22"),
    "a changed root": ("os.chmod('/work', 0o777)", "os.stat('/work').st_mode & 0o77 != 0"),
    "a process": (
        "import time\nif os.fork() == 0:\n    os.setsid()\n    time.sleep(60)",
        "any(int(name) not in (1, os.getpid()) for name in os.listdir('/proc') if name.isdigit())",
    ),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_the_next_run_in_a_pool_does_not_see_what_the_last_one_left(
    pool: pycontain.Pool, pair: str
) -> None:
    leave, look = PAIRS[pair]
    for _ in range(3):  # two copies were ready before
        assert pool.run(f"import os\n{leave}").reason == "exit"
    assert pool.run(f"import os\n{look}").value is False


@pytest.mark.control
def test_a_naive_pool_with_one_interpreter_shows_what_the_last_run_left(
    box: pycontain.Sandbox,
) -> None:
    with box.session() as python:
        seen = []
        for leave, look in PAIRS.values():
            python.run(f"import os\n{leave}")
            seen.append(python.run(f"import os\n{look}").value)
    assert all(seen), "each pair finds what is left, where nothing divides the two"


BESIDE = {
    "an abstract socket": (
        "import socket\ns = socket.socket(socket.AF_UNIX); s.bind('\\0left'); s.listen()",
        "import socket\ns = socket.socket(socket.AF_UNIX)\ntry:\n    s.connect('\\0left'); found = True\nexcept OSError:\n    found = False",
    ),
    "a port": (
        "import socket\ns = socket.socket(); s.bind(('127.0.0.1', 7777)); s.listen()",
        "import socket\ns = socket.socket()\ntry:\n    s.connect(('127.0.0.1', 7777)); found = True\nexcept OSError:\n    found = False",
    ),
    "a message queue": (
        "import ctypes\nlibc = ctypes.CDLL(None)\nlibc.mq_open(b'/left', 0o100 | 2, 0o666, None)",
        "import ctypes\nlibc = ctypes.CDLL(None)\nfound = libc.mq_open(b'/left', 2) >= 0",
    ),
    "a process": (
        "import os",
        "import os\nfound = len([n for n in os.listdir('/proc') if n.isdigit()]) > 2",
    ),
    "a file": (
        "for place in ('/tmp', '/work', '/dev/shm'):\n    open(place + '/left', 'w').close()",
        "import os\nfound = any(os.listdir(place) for place in ('/tmp', '/work', '/dev/shm'))",
    ),
}


@pytest.mark.parametrize("what", BESIDE)
def test_a_concurrent_run_does_not_see_what_another_one_holds(
    pool: pycontain.Pool, what: str
) -> None:
    hold, look = BESIDE[what]
    done = f"{hold}\nimport sys, time\nprint('held', flush=True)\ntime.sleep(1)\nhold = 1"
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(pool.run, done)
        time.sleep(0.3)
        second = pool.run(f"{look}\nfound")
        assert second.value is False, second
        assert first.result().stdout == b"held\n"


@pytest.mark.control
@pytest.mark.parametrize("what", ["an abstract socket", "a port"])
def test_in_one_network_namespace_a_run_sees_what_another_one_holds(what: str) -> None:
    """That the look works: in one network namespace it finds what is held."""
    hold, look = BESIDE[what]
    code = f"{hold}\nheld = s\n{look}\nprint(found)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == b"True\n"


def test_random_numbers_of_runs_differ(pool: pycontain.Pool) -> None:
    code = "import random, uuid, tempfile, secrets\n[random.random(), str(uuid.uuid4()), secrets.token_hex(), next(tempfile._get_candidate_names())]"
    results = [json.dumps(pool.run(code).value) for _ in range(5)]
    numbers = [json.loads(result) for result in results]
    for column in zip(*numbers, strict=True):
        assert len(set(column)) == 5


def test_random_numbers_differ_even_if_random_was_imported_before() -> None:
    with pycontain.Pool(2, imports=["random"]) as pool:
        assert len({pool.run("import random\nrandom.random()").value for _ in range(6)}) == 6


# What a curious snippet can find out about itself and where it is.
CURIOUS = """
import os, sys
def read(path):
    try:
        with open(path, 'rb') as file:
            return file.read().decode(errors='replace')
    except OSError as error:
        return ''
seen = [repr(dict(os.environ)), repr(sys.argv), repr(sys.path), repr(sorted(sys.modules))]
for pid in [name for name in os.listdir('/proc') if name.isdigit() or name == 'self']:
    for name in ('cmdline', 'environ', 'mountinfo', 'cgroup', 'status', 'maps', 'stat'):
        seen.append(read(f'/proc/{pid}/{name}'))
    try:
        for fd in os.listdir(f'/proc/{pid}/fd'):
            seen.append(fd + ' ' + os.readlink(f'/proc/{pid}/fd/{fd}'))
    except OSError:
        pass
for top, folders, files in os.walk('/'):
    if top.startswith(('/proc', '/usr/lib/python')):
        folders.clear()
        continue
    seen += [os.path.join(top, name) for name in files]
    for name in files:
        if top.startswith('/etc') or top.startswith('/packages') or top.startswith('/server'):
            seen.append(read(os.path.join(top, name)))
'\\n'.join(seen)
"""


def facts_of_the_host() -> list[str]:
    """What must not be found: places, names and secrets."""
    with open("/etc/passwd") as file:
        users = [line.split(":")[0] for line in file]
    return [
        SECRET,
        sys.prefix,
        os.getcwd(),
        os.path.dirname(pycontain.__file__),
        socket.gethostname(),
        *(name for name in users if name in ("daemon", "www-data", "games")),
        f"py-{os.getpid()}-",
    ]


@pytest.mark.parametrize("kind", ["pool", "box"])
def test_nothing_of_the_host_is_seen(
    pool: pycontain.Pool, box: pycontain.Sandbox, kind: str
) -> None:
    result = pool.run(CURIOUS) if kind == "pool" else box.run_python(CURIOUS)
    assert result.status == 0, result.stderr.decode()
    assert result.shown
    text = str(result.value)
    assert "Seccomp:\t2" in text, "it has looked"
    for fact in facts_of_the_host():
        assert fact not in text, f"{fact} is seen"
    assert "pycontain.kernel" not in text


@pytest.mark.control
def test_on_the_host_the_secret_paths_and_accounts_are_seen() -> None:
    with open("/proc/self/maps") as maps, open("/etc/passwd") as passwd:
        text = repr(dict(os.environ)) + maps.read() + passwd.read() + repr(sys.path)
    assert SECRET in text
    assert sys.prefix in text
    assert "daemon" in text


ATTEMPTS = {
    "becomes root": "os.setuid(0)",
    "mounts": "assert libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0",
    "unmounts": "assert libc.umount2(b'/proc', 2) == 0",
    "enters a new namespace": "assert libc.unshare(0x10000000) == 0",
    "traces the first process": "assert libc.ptrace(16, 1, 0, 0) == 0",
    "kills the first process": "os.kill(1, 9) if os.getpid() != 1 else os.setuid(0)",
    "makes a device": "os.mknod('/tmp/x', 0o60600, os.makedev(8, 0))",
    "writes to the root": "open('/usr/bin/python3', 'r+b')",
    "writes to /etc": "open('/etc/passwd', 'a')",
    "writes to /dev": "open('/dev/left', 'w')",
    "raises a limit": "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (9999, 9999))",
    "uses the kernel's keys": "assert libc.syscall(250, 0, -3, 1) >= 0",
    "sets up io_uring": "assert libc.syscall(425, 4, ctypes.create_string_buffer(120)) >= 0",
    "loads a program for BPF": "assert libc.syscall(321, 0, 0, 0) >= 0",
    "reads the memory of others": "open('/proc/1/mem', 'rb').read(1) if os.getpid() != 1 else os.setuid(0)",
    "sets the host name": "assert libc.sethostname(b'x', 1) == 0",
    "reaches the internet": "import socket; socket.create_connection(('192.0.2.1', 80), 1)",
    "makes a file without a name": "os.memfd_create('x')",
    "makes System V shared memory": "assert libc.shmget(0, 4096, 0o1600) >= 0",
}


@pytest.mark.parametrize("kind", ["pool", "box"])
@pytest.mark.parametrize("attempt", ATTEMPTS)
def test_a_run_fails_to(
    pool: pycontain.Pool, box: pycontain.Sandbox, attempt: str, kind: str
) -> None:
    code = f"import ctypes, os\nlibc = ctypes.CDLL(None)\n{ATTEMPTS[attempt]}"
    result = pool.run(code) if kind == "pool" else box.run_python(code)
    assert result.status == 1, f"{attempt}: {result}"
    assert result.error.split(":")[0] in (
        "PermissionError",
        "OSError",
        "AssertionError",
        "ValueError",
    )


def test_a_run_has_no_rights_at_all(pool: pycontain.Pool, box: pycontain.Sandbox) -> None:
    code = "dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines() if ':\\t' in line)"
    for result in (pool.run(code), box.run_python(code)):
        status = result.value
        assert isinstance(status, dict)
        for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[name], 16) == 0, name
        assert status["NoNewPrivs"] == "1"
        assert status["Seccomp"] == "2"
        assert set(status["Uid"].split()) == set(status["Gid"].split())
        assert int(status["Uid"].split()[0]) >= 0x7000_0000
        assert status["Groups"].strip() == ""


def test_runs_at_the_same_time_have_users_of_their_own(pool: pycontain.Pool) -> None:
    users: list[object] = []

    def run() -> None:
        users.append(pool.run("import os, time\ntime.sleep(0.5)\nos.getuid()").value)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(users)) == 2
