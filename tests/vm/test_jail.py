"""
What a monitor can still do after a program has taken it over: next to nothing.

The handler of one system call is replaced by arbitrary Python, as a defect in it might do. Each
attack has its control: without the jail the same Python succeeds.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import select
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pycontain.kernel import landlock
from pycontain.vm import jail, monitor
from pycontain.vm.linux.numbers import BY_MACHINE
from pycontain.vm.linux.table import TABLE, Call
from pycontain.vm.program import World, run_program
from pycontain.vm.sink import Capture
from tests.vm.programs import BUSYBOX, files, run

__all__ = ["files"]  # a fixture

_libc = ctypes.CDLL(None, use_errno=True)
_NUMBERS = {name: number for number, name in BY_MACHINE[os.uname().machine].items()}
_APPEND = os.O_CREAT | os.O_WRONLY | os.O_APPEND
REFUSED = {"EPERM", "EACCES"}


def call(name, *arguments):
    """A system call. Raises OSError."""
    given = [arg if isinstance(arg, bytes) else ctypes.c_long(arg) for arg in arguments]
    result = _libc.syscall(ctypes.c_long(_NUMBERS[name]), *given)
    if result < 0:
        raise OSError(ctypes.get_errno(), name)
    return result


def outcome(attack, monkeypatch, *, jailed, engine="kvm"):
    """The name of the error that the attack got, or "done"."""

    def taken_over(task):
        try:
            attack()
            text = "done"
        except OSError as error:
            text = errno.errorcode[error.errno or 0]
        os.write(task.files.get(1).fd, text.encode())
        task.process.exit(0)
        return 0

    with monkeypatch.context() as patch:
        row = Call(**{**TABLE["getuid"].fields(), "function": taken_over})
        patch.setitem(TABLE, "getuid", row)
        patch.setattr(monitor, "_fork", lambda: (os.fork(), False))  # in the pids of its victims
        if not jailed:
            patch.setattr(jail, "close", lambda *_, **__: None)
        output = Capture()
        run_program([BUSYBOX, "true"], world=World(stdout=output), timeout=60, engine=engine)
    return bytes(output.data).decode()


def in_child(body):
    """Do it in a forked process, which may be replaced; raises OSError with its error."""
    child = os.fork()
    if not child:
        try:
            body()
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if status:
        raise OSError(status, "")


@pytest.fixture
def victim():
    """The monitor of another virtual machine, by its process number."""
    command = [sys.executable, "-m", "pycontain", "vm", "run", "--", BUSYBOX, "cat"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as caller:
        try:
            children = Path(f"/proc/{caller.pid}/task/{caller.pid}/children")
            until = time.monotonic() + 30
            while not (found := children.read_text().split()):
                assert time.monotonic() < until
                select.select([], [], [], 0.01)
            yield int(found[0])
        finally:
            caller.kill()


def both(attack, monkeypatch, *, control="done"):
    assert outcome(attack, monkeypatch, jailed=True) in REFUSED
    assert outcome(attack, monkeypatch, jailed=False) == control


def test_the_jailed_monitor_opens_no_files_but_the_program_s(needs_kvm, monkeypatch, tmp_path):
    if not landlock.version():
        pytest.skip("needs Landlock")
    both(lambda: os.open("/etc/shadow", os.O_RDONLY), monkeypatch)
    both(lambda: os.open(tmp_path / "made", os.O_CREAT | os.O_WRONLY, 0o600), monkeypatch)
    both(lambda: os.open("/dev/kvm", os.O_RDWR), monkeypatch)
    both(lambda: os.open(BUSYBOX, os.O_WRONLY | os.O_APPEND), monkeypatch)


def test_the_jailed_monitor_can_execute_nothing(needs_kvm, monkeypatch):
    both(lambda: in_child(lambda: os.execv("/bin/true", ["true"])), monkeypatch)


def test_the_jailed_monitor_can_connect_to_nothing(needs_kvm, monkeypatch, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        where = server.getsockname()
        both(lambda: socket.socket().connect(where), monkeypatch)
    with socket.socket(socket.AF_UNIX) as server:
        path = str(tmp_path / "socket")
        server.bind(path)
        server.listen()
        both(lambda: socket.socket(socket.AF_UNIX).connect(path), monkeypatch)


def test_the_jailed_monitor_can_trace_and_read_no_other_process(needs_kvm, monkeypatch, victim):
    attach, detach = 16, 17

    def trace():
        call("ptrace", attach, victim, 0, 0)
        os.waitpid(victim, 0x4000_0000)  # __WALL
        call("ptrace", detach, victim, 0, 0)

    both(trace, monkeypatch)
    first = Path(f"/proc/{victim}/maps").read_text()
    at = int(first.split("-")[0], 16)

    def read():
        buffer = ctypes.create_string_buffer(16)
        local = (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 16)
        other = (ctypes.c_size_t * 2)(at, 16)
        address = ctypes.addressof
        call("process_vm_readv", victim, address(local), 1, address(other), 1, 0)

    both(read, monkeypatch)
    if landlock.version():
        both(lambda: os.open(f"/proc/{victim}/mem", os.O_RDWR), monkeypatch)


def test_the_jailed_monitor_can_send_no_other_process_a_signal(needs_kvm, monkeypatch, victim):
    if landlock.version() < 6:
        pytest.skip("needs Linux 6.12")
    both(lambda: os.kill(victim, signal.SIGCONT), monkeypatch)
    both(lambda: call("tgkill", victim, victim, signal.SIGCONT), monkeypatch)


def test_the_jailed_monitor_can_mount_nothing_and_create_no_namespace(
    needs_kvm, monkeypatch, tmp_path
):
    # of a type that does not exist, so that the control leaves no mount behind
    target = bytes(tmp_path)
    both(lambda: call("mount", b"none", target, b"none", 0, 0), monkeypatch, control="ENODEV")
    both(lambda: call("unshare", 0x0400_0000), monkeypatch)  # CLONE_NEWUTS


def status_of_monitor(monkeypatch, log, *, jailed):
    """/proc/self/status of a monitor whose jail has closed, or would have."""
    real = jail.close

    def close(view, **options):
        status, to = os.open("/proc/self/status", os.O_RDONLY), os.open(log, _APPEND, 0o600)
        if jailed:
            real(view, **options)
        os.write(to, os.pread(status, 1 << 16, 0))

    with monkeypatch.context() as patch:
        patch.setattr(jail, "close", close)
        assert run(BUSYBOX, "echo", "lives")[:2] == (0, b"lives\n")
    return dict(line.split(":\t") for line in log.read_text().splitlines())


def test_the_jailed_monitor_has_no_capabilities(needs_kvm, monkeypatch, tmp_path):
    inside = status_of_monitor(monkeypatch, tmp_path / "inside", jailed=True)
    outside = status_of_monitor(monkeypatch, tmp_path / "outside", jailed=False)
    for name, value in (("CapPrm", "0" * 16), ("CapEff", "0" * 16), ("NoNewPrivs", "1"),
                        ("Seccomp", "2")):  # fmt: skip
        assert inside[name] == value
        assert outside[name] != value
    caller = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines())
    assert caller["Seccomp"] == outside["Seccomp"]  # the jail closes around a child


def test_the_emulator_s_monitor_is_in_the_same_jail(monkeypatch):
    pytest.importorskip("unicorn")
    attack = lambda: in_child(lambda: os.execv("/bin/true", ["true"]))  # noqa: E731
    assert outcome(attack, monkeypatch, jailed=True, engine="emulate") in REFUSED
    assert outcome(attack, monkeypatch, jailed=False, engine="emulate") == "done"


@pytest.mark.parametrize("late", [False, True])
def test_the_jailed_monitor_imports_nothing(engine, files, monkeypatch, late):
    real, log = jail.close, files / "log"

    def close(view, **options):
        to = os.open(log, _APPEND, 0o600)
        real(view, **options)
        sys.addaudithook(lambda event, _: event == "import" and os.write(to, b"imported "))
        if late:  # the control: the hook sees one
            with contextlib.suppress(ImportError, OSError):
                import this  # noqa: F401

    monkeypatch.setattr(jail, "close", close)
    script = (
        "ls -la /; cat /text | wc -l; sleep 0.01; date; kill -0 $$; cat /proc/meminfo /proc/1/stat"
    )
    lines = []
    with open(os.devnull, "rb") as stdin:
        run(
            "/bin/busybox", "sh", "-c", script, engine=engine, root=str(files),
            stdin=stdin.fileno(), trace=lines.append,
        )  # fmt: skip
    assert lines
    assert ("imported" in log.read_text()) is late


def test_the_jail_s_filter_follows_the_table_of_system_calls(monkeypatch):
    with_sockets = jail.allowed_calls()
    assert {"sendmsg", "openat", "ioctl"} <= with_sockets
    dangerous = {
        "execve",
        "execveat",
        "ptrace",
        "connect",
        "bind",
        "mount",
        "bpf",
        "io_uring_setup",
    }
    assert not with_sockets & (dangerous | {"unshare", "setns", "process_vm_readv", "keyctl"})
    for name in [name for name, row in TABLE.items() if "sockets" in row.function.__module__]:
        monkeypatch.delitem(TABLE, name)
    assert "sendmsg" not in jail.allowed_calls()


def test_the_caller_s_descriptors_are_not_in_the_jail(needs_kvm, monkeypatch, tmp_path):
    with open(tmp_path / "secret", "w+") as file:
        number = file.fileno()

        def read():
            if os.path.samestat(os.fstat(number), os.stat(tmp_path / "secret")):
                return
            raise OSError(9, "")

        assert outcome(read, monkeypatch, jailed=False) == "EBADF"
