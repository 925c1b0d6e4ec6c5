"""A process without the memory of the one that creates it: what it has, does and reports."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest

from pycontain.errors import HookError, KernelError
from pycontain.kernel import _bare, bare, calls, procfs
from pycontain.kernel import const as c
from pycontain.kernel.bare import Orders, SharedPid
from pycontain.kernel.files import start_time
from pycontain.wire import prepared
from tests.bundles import wait_until

SECRET = "a-secret" + "-of-the-creator"


def failure(call="x"):
    return prepared.failure(KernelError("", call=call))


class Made:
    """A bare process, made by a child of ours, and what it reports."""

    def __init__(self, order, flags=signal.SIGCHLD):
        """order(orders, go) adds the calls; the process may wait on the pipe `go`."""
        reader, self._go = os.pipe()
        self.report, writer = os.pipe()
        shared = SharedPid()
        self.maker = os.fork()
        if self.maker == 0:
            status = 1
            try:
                orders = Orders()
                orders.report = writer
                order(orders, reader)
                os.close(self._go)
                os.close(self.report)
                orders.spawn(c.CLONE_PARENT | c.CLONE_PARENT_SETTID)
                status = 0
            finally:
                os._exit(status)
        os.close(reader)
        os.close(writer)
        os.waitpid(self.maker, 0)
        self.pid = shared.number

    def go(self, data=b"."):
        """Let it continue; returns its report and its exit status."""
        os.write(self._go, data)
        return self.end()

    def end(self):
        os.close(self._go)
        with open(self.report, "rb") as stream:
            said = stream.read()
        return said, os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def waiting(orders, go):
    """It waits, and then executes /bin/sh."""
    orders.call(c.SYS_read, go, orders.place(bytes(8)), 8, least=1)
    execute(orders, b"/bin/sh", b"sh", b"-c", b"exit 7")


def execute(orders, path, *words):
    words = orders.strings(map(orders.string, words))
    orders.call(
        c.SYS_execve, orders.string(path), words, orders.strings(()), text=failure("execve")
    )


def mappings(pid):
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return [line.split() for line in lines if "[vsyscall]" not in line]


def has(pid, text):
    """Whether a text is in what is mapped and can be read."""
    with open(f"/proc/{pid}/mem", "rb", 0) as file:
        return any(text in piece for piece in pieces(file, pid, len(text)))


def pieces(file, pid, overlap):
    """The memory of a process, in pieces: that of a whole test run is large."""
    for place, rights, *_ in mappings(pid):
        begin, end = (int(part, 16) for part in place.split("-"))
        while rights.startswith("r") and begin < end:
            file.seek(begin)
            try:
                yield file.read(min(1 << 24, end - begin))
            except OSError:  # [vvar]
                break
            begin += (1 << 24) - overlap


def test_a_bare_process_has_no_memory_but_its_code_and_orders():
    secret = SECRET.encode()
    made = Made(waiting)
    try:
        assert [line[1] for line in mappings(made.pid)] == ["r-xp", "rw-p"]
        assert all(len(line) == 5 for line in mappings(made.pid)), "no file is mapped"
        assert not has(made.pid, secret)
        assert has(made.pid, b"/bin/sh")
    finally:
        said, status = made.go()
    assert (said, status) == (b"", 7)


def test_a_forked_process_has_all_memory_of_its_parent():
    """The naive way: what a test of memory finds if it is there."""
    secret = SECRET.encode()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(writer)
        os.read(reader, 1)
        os._exit(0)
    found = has(pid, secret)
    os.close(writer)
    os.close(reader)
    os.waitpid(pid, 0)
    assert found
    assert len(mappings(os.getpid())) > 20


def test_a_bare_process_has_no_command_line_and_environment():
    made = Made(waiting)
    for name in ("cmdline", "environ"):
        assert Path(f"/proc/{made.pid}/{name}").read_bytes() == b""
    made.go()


def test_a_bare_process_ends_with_its_creator():
    """An end of file is less than it wants to read; that has no text."""
    assert Made(waiting).end() == (b"", 255)


def test_a_call_that_fails_is_reported_with_its_errno():
    made = Made(lambda orders, _: execute(orders, b"/does/not/exist", b"x"))
    said, status = made.end()
    assert status == 255
    assert json.loads(said) == {
        "fault": {"why": "", "call": "execve", "status": 1, "kind": "KernelError"},
        "errno": f"{errno.ENOENT:05}",
    }


def test_a_result_that_is_too_small_is_a_failure():
    def order(orders, _):
        orders.call(c.SYS_write, 1, orders.string(b""), 0, least=1, text=failure())

    said, _ = Made(order).end()
    assert json.loads(said)["errno"] == "00000"


def test_calls_after_a_failure_are_not_made(tmp_path):
    reached = tmp_path / "reached"

    def order(orders, _):
        orders.call(c.SYS_close, 12345, text=failure("close"))
        execute(orders, b"/bin/touch", b"touch", bytes(reached))

    said, _ = Made(order).end()
    assert json.loads(said)["errno"] == f"{errno.EBADF:05}"
    assert not reached.exists()


def test_arguments_and_environment_arrive(tmp_path):
    out = tmp_path / "out"

    def order(orders, _):
        words = (b"sh", b"-c", f'echo "$1" "$A" >{out}'.encode(), b"sh", b"x" * 100_000)
        env = orders.strings([orders.string(b"A=\xff y")])
        words = orders.strings(map(orders.string, words))
        orders.call(c.SYS_execve, orders.string(b"/bin/sh"), words, env, text=failure())

    assert Made(order).end() == (b"", 0)
    assert out.read_bytes() == b"x" * 100_000 + b" \xff y\n"


def test_a_nul_in_an_argument_is_refused():
    with pytest.raises(ValueError, match="embedded null byte"):
        Orders().string(b"a\0b")


def test_more_arguments_than_execve_takes_are_refused():
    orders = Orders()
    orders.place(bytes(bare._ROOM))
    with pytest.raises(KernelError, match="argument list too long"):
        orders.spawn(signal.SIGCHLD)


def test_bytes_sent_to_a_bare_process_can_go_into_its_environment(tmp_path):
    """As a pid does that only its parent knows: sd_listen_fds(3)."""
    out = tmp_path / "out"

    def order(orders, go):
        variable = orders.string(b"PID=" + b"?" * 12)
        orders.call(c.SYS_read, go, variable + 4, 12, least=1)
        words = orders.strings(map(orders.string, (b"sh", b"-c", f"echo $PID >{out}".encode())))
        env = orders.strings([variable])
        orders.call(c.SYS_execve, orders.string(b"/bin/sh"), words, env, text=failure())

    made = Made(order)
    made.go(b"123".ljust(12, b"\0"))
    assert out.read_text() == "123\n"


def test_the_pid_of_a_bare_process_is_known_when_it_runs():
    made = Made(waiting)
    assert made.pid > 0
    assert Path(f"/proc/{made.pid}").exists()
    made.go()


def test_a_bare_process_cannot_write_to_the_memory_of_its_pid():
    made = Made(waiting)
    page = int(bare.ffi.cast("uintptr_t", bare.ffi.from_buffer(_bare.page())))
    assert not any(int(line[0].split("-")[0], 16) <= page < int(line[0].split("-")[1], 16)
                   for line in mappings(made.pid))  # fmt: skip
    made.go()


# --- programs that it runs -----------------------------------------------------------------------


def runs(script, seconds=None):
    """It runs a shell script, and exits with status 3 afterwards."""

    def order(orders, _):
        error = HookError("", at="/hook", step="hooks")
        orders.run(2, seconds, prepared.hook_failure(error, seconds))
        orders.call(c.SYS_setpgid, 0, 0)
        execute(orders, b"/bin/sh", b"sh", b"-c", script.encode())
        execute(orders, b"/bin/sh", b"sh", b"-c", b"exit 3")

    return order


@pytest.mark.parametrize("seconds", [None, 60])
def test_a_bare_process_waits_for_a_program_and_continues(seconds, tmp_path):
    made = Made(runs(f"touch {tmp_path}/ran", seconds))
    assert made.end() == (b"", 3)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize(("script", "status"), [("exit 9", 9 << 8), ("kill -KILL $$", 9)])
def test_a_program_that_fails_ends_the_bare_process(script, status):
    said, code = Made(runs(script)).end()
    assert code == 255
    assert json.loads(said)["errno"] == f"{status:05}"


def test_a_program_that_runs_too_long_is_killed_with_what_it_has_started(tmp_path):
    script = f"sleep 1000 & echo $! >{tmp_path}/child; sleep 1000"
    said, code = Made(runs(script, 1)).end()
    assert code == 255
    message = json.loads(said)
    number = str(int(message["errno"]))
    assert message["cases"][number]["why"] == "ran longer than its timeout of 1 s"
    child = int((tmp_path / "child").read_text())
    wait_until(lambda: start_time(child) == 0, "it has ended, too")


# --- how it is built -----------------------------------------------------------------------------


def test_the_code_of_a_bare_process_refers_to_nothing_but_itself():
    """The compiler may put constants elsewhere, which the process would not have."""
    command = ["objdump", "-d", "-j", "bare", _bare.__file__]
    try:
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except FileNotFoundError:
        pytest.skip("objdump is missing: install binutils")
    addresses = [int(line.split(":")[0], 16) for line in re.findall(r"^ +[0-9a-f]+:", code, re.M)]
    assert len(addresses) > 50
    relative = re.findall(r"\(%rip\)|\badrp?\b|\bauipc\b|%fs:|%gs:|@plt", code)
    assert relative == []
    jumps = re.findall(r"\b(?:call|jmp|j[a-z]+|bl?|b\.[a-z]+) +(?:0x)?([0-9a-f]+) <", code)
    assert jumps
    assert all(min(addresses) <= int(jump, 16) <= max(addresses) for jump in jumps)


# --- a proc file system of another pid namespace -------------------------------------------------


@pytest.fixture
def elsewhere():
    """A descriptor of a pid namespace with one process."""
    keeper = subprocess.Popen(
        ["unshare", "--fork", "--pid", "--kill-child", "sh", "-c", "echo up; exec cat"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    assert keeper.stdout.readline() == b"up\n"
    child = Path(f"/proc/{keeper.pid}/task/{keeper.pid}/children").read_text().strip()
    pids = os.open(f"/proc/{child}/ns/pid", os.O_RDONLY)
    yield pids
    os.close(pids)
    keeper.stdin.close()
    keeper.wait()
    keeper.stdout.close()


@pytest.mark.needs_root
def test_before_linux_6_17_a_process_in_the_namespace_opens_proc(elsewhere):
    context = procfs.context_from_inside(elsewhere)
    calls.fsconfig(context, c.FSCONFIG_CMD_CREATE)
    tree = calls.fsmount(context, 0)
    try:
        names = os.listdir(f"/proc/self/fd/{tree}")
    finally:
        os.close(context)
        os.close(tree)
    assert [name for name in names if name.isdigit()] == ["1"]
