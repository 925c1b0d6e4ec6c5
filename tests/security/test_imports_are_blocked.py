"""
CVE-2019-14271, in Python's form: code is loaded late, from the container's tree.

The rootfs holds a trap at every place where the runtime's interpreter, its packages and the C
library look for code. None may be opened, let alone run, on any path into the container.
"""

from __future__ import annotations

import os
import struct
import sys
import sysconfig
from pathlib import Path

import pytest

import pycontain
from pycontain.init import guard
from pycontain.init.context import Context
from pycontain.plan import steps
from pycontain.wire.sync import Channel
from tests.security.attack import in_a_child

pytestmark = pytest.mark.needs_root

TRAP = "import os; os.open('/tmp/TRAPPED', os.O_CREAT); raise SystemExit('TRAPPED')\n"
LIBRARIES = (
    "libnss_files.so.2 libnss_dns.so.2 libnss_compat.so.2 libgcc_s.so.1 libc.so.6 libpthread.so.0"
)
PACKAGES = [
    Path(pycontain.__file__).parent,
    *(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")),
]


def traps():
    """Every place from which code might be loaded, on the host."""
    for folder in PACKAGES:
        for path in (*folder.glob("*.py"), *folder.glob("*/*.py"), *folder.glob("*.so")):
            yield path
        for path in (folder / "lib-dynload").glob("*.so"):
            yield path
    for folder in (
        "/lib",
        "/lib64",
        "/usr/lib",
        "/lib/x86_64-linux-gnu",
        "/usr/lib/x86_64-linux-gnu",
    ):
        for name in LIBRARIES.split():
            yield Path(folder, name)
    for name in ("ld.so.cache", "ld.so.preload", "nsswitch.conf", "localtime", "locale.alias"):
        yield Path("/etc", name)
    yield Path("/usr/lib/x86_64-linux-gnu/gconv/gconv-modules")
    yield Path("/usr/lib/locale/locale-archive")


def plant(rootfs):
    for trap in traps():
        path = rootfs / str(trap).lstrip("/")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(TRAP)


# --- who opens what ------------------------------------------------------------------------------


class Watch:
    """Opened files below the folders of a tree, by inotify(7), wherever the tree is mounted."""

    OPEN = 0x20
    NAMELESS = "the folder itself"

    def __init__(self, top: Path) -> None:
        import ctypes

        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        self.folders = {}
        for folder, _, _ in os.walk(top):
            number = libc.inotify_add_watch(self.fd, os.fsencode(folder), self.OPEN)
            assert number >= 0, os.strerror(ctypes.get_errno())
            self.folders[number] = Path(folder)

    def opened(self) -> set[Path]:
        """What was opened since the last call."""
        found = set()
        while True:
            try:
                data = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                return found
            while data:
                number, _, _, length = struct.unpack_from("iIII", data)
                assert number >= 0, "the queue overflowed"
                name = data[16 : 16 + length].rstrip(b"\0").decode()
                found.add(self.folders[number] / name)
                data = data[16 + length :]

    def close(self) -> None:
        os.close(self.fd)


@pytest.fixture
def trapped(bundle):
    """A bundle full of traps, and the watch over them."""
    made = bundle("sleep 100")
    plant(made.rootfs)
    watch = Watch(made.rootfs)
    yield made, watch
    watch.close()


def sprung(made, watch):
    """The traps that were opened."""
    assert not (made.rootfs / "tmp/TRAPPED").exists()
    places = {made.rootfs / str(trap).lstrip("/") for trap in traps()}
    return watch.opened() & places


def test_no_trap_is_sprung_by_a_container_that_works(runtime, trapped):
    made, watch = trapped
    made.edit(
        {
            "process.user": {"uid": 1000, "gid": 1000},
            "process.cwd": "/made/for/it",
            "linux.maskedPaths": ["/proc/keys"],
            "linux.readonlyPaths": ["/proc/sys"],
            "linux.sysctl": {"net.ipv4.ip_forward": "1"},
            "linux.seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
            "hooks.startContainer": [{"path": "/bin/true", "timeout": 10}],
            "hooks.createContainer": [{"path": "/bin/true"}],
        }
    )
    container = runtime.started(made)
    assert runtime.ok("exec", "--user", "5", container, "echo", "in").out == "in\n"
    assert made.rootfs / "bin/busybox" in (opened := watch.opened())
    assert opened & {made.rootfs / str(trap).lstrip("/") for trap in traps()} == set()
    assert sprung(made, watch) == set()


FAILURES = {
    "a missing program": {"process.args": ["missing"]},
    "a program that is a folder": {"process.args": ["/bin"]},
    "a program without its loader": {"process.args": ["/elf"]},
    "a program in no known format": {"process.args": ["/text"]},
    "a script without its interpreter": {"process.args": ["/script"]},
    "a working directory that is a file": {"process.cwd": "/bin/busybox"},
    "a hook inside that fails": {"hooks.startContainer": [{"path": "/bin/false"}]},
    "a hook inside that is missing": {"hooks.startContainer": [{"path": "/missing"}]},
    "a hook before the pivot that fails": {"hooks.createContainer": [{"path": "/bin/false"}]},
    "a sysctl that the kernel refuses": {"linux.sysctl": {"net.ipv4.ip_forward": "many"}},
    "an unknown sysctl": {"linux.sysctl": {"net.missing": "1"}},
    "an impossible limit": {
        "process.rlimits": [{"type": "RLIMIT_NOFILE", "soft": 1, "hard": 1 << 60}]
    },
    "a mount in /proc": {"mounts[4]": {"destination": "/proc/x", "type": "tmpfs"}},
}


def test_no_trap_is_sprung_by_a_container_that_fails(runtime, trapped):
    """Error paths are used least."""
    made, watch = trapped
    for name, text in (
        ("elf", open_bytes(sys.executable)),
        ("text", b"text"),
        ("script", b"#!/missing\n"),
    ):
        (made.rootfs / name).write_bytes(text)
        (made.rootfs / name).chmod(0o755)
    (made.rootfs / "lib64/ld-linux-x86-64.so.2").unlink(missing_ok=True)
    whole = made.config
    for name, changes in FAILURES.items():
        made.write(whole)
        made.edit(changes)
        assert "was about to be loaded" not in runtime.fails(made), name
        assert sprung(made, watch) == set(), name


def test_no_trap_is_sprung_by_an_exec_that_fails(runtime, trapped):
    made, watch = trapped
    container = runtime.started(made)
    for words in (["missing"], ["/etc"], ["/usr/lib/libc.so.6"]):
        assert "was about to be loaded" not in runtime.refuses("exec", container, *words)
        assert sprung(made, watch) == set()


def open_bytes(path):
    with open(path, "rb") as file:
        return file.read()


@pytest.mark.control
def test_a_naive_runtime_springs_the_traps(trapped):
    made, watch = trapped

    def run():
        sys.modules.pop("colorsys", None)
        os.chroot(made.rootfs)
        try:
            import colorsys  # noqa: F401  (a first import, after the change of root)
        except SystemExit as end:
            return str(end)

    assert in_a_child(run) == "TRAPPED"
    assert (made.rootfs / "tmp/TRAPPED").exists()
    assert any(path.name == "colorsys.py" for path in watch.opened())


# --- the guard itself ----------------------------------------------------------------------------

LOADERS = {
    "import": lambda: __import__("nobody_loaded_this"),
    "compile": lambda: compile("1", "x", "eval"),
    "exec": lambda: exec((lambda: None).__code__),
    "ctypes.dlopen": lambda: sys.modules["ctypes"].CDLL("libm.so.6"),
    "subprocess.Popen": lambda: sys.modules["subprocess"].Popen(["true"]),
}


def status_after_guard(work):
    """The exit status and the error output of a guarded process that does this."""
    import ctypes  # noqa: F401  (loaded before, as an attacker would have it)
    import subprocess  # noqa: F401

    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 2)
        try:
            guard.guard(steps.Guard(), Context(Channel(0, 1)))
            work()
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        words = file.read()
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), words


@pytest.mark.parametrize("event", LOADERS)
def test_loading_code_after_the_guard_ends_the_process(event):
    assert event in guard._FORBIDDEN
    assert status_after_guard(LOADERS[event]) == (255, guard._MESSAGE)


def test_every_forbidden_event_is_tried():
    assert set(guard._FORBIDDEN) == set(LOADERS)


def test_a_guarded_process_that_loads_nothing_continues():
    assert status_after_guard(lambda: os.listdir("/")) == (0, b"")
