"""process.terminal: where the master goes, the size, and the data that passes through."""

from __future__ import annotations

import array
import fcntl
import os
import pty
import select
import signal
import socket
import struct
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pycontain.runtime import foreground
from tests.bundles import LIMIT, MOUNTS

TTY = {"process.terminal": True}
SLEEP = "echo up; sleep 100"


@contextmanager
def console_socket(folder: Path) -> Iterator[tuple[Path, socket.socket]]:
    """The socket of an engine that waits for a terminal's master."""
    path = folder / "console.sock"
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        listener.settimeout(LIMIT)
        yield path, listener


def receive(listener: socket.socket) -> tuple[int, str]:
    """The master and the name that came with it."""
    connection, _ = listener.accept()
    with connection:
        fds = array.array("i")
        name, ancillary, _, _ = connection.recvmsg(4096, socket.CMSG_SPACE(fds.itemsize))
        [(_, kind, data)] = ancillary
        assert kind == socket.SCM_RIGHTS
        fds.frombytes(data)
        return fds[0], name.decode()


def read_until(master: int, text: str) -> str:
    """A terminal's output up to this text, or all of it when that is ""."""
    found = ""
    end = time.monotonic() + LIMIT
    while not text or text not in found:
        assert select.select([master], [], [], end - time.monotonic())[0], f"got only {found!r}"
        try:
            piece = os.read(master, 4096)
        except OSError:  # EIO: the last slave is closed
            piece = b""
        if not piece:
            assert not text, f"the output ended with {found!r}"
            return found
        found += piece.decode()
    return found


def set_size(fd: int, rows: int, columns: int) -> None:
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


# --- the console socket --------------------------------------------------------------------------

LOOK = "tty; stty size; test -t 0 && test -t 1 && test -t 2 && echo all; stat -c '%F %u' /dev/console $(tty); ls /proc/self/fd | wc -l; read line; echo got $line"


@pytest.mark.property("process.terminal", "process.consoleSize*")
@pytest.mark.parametrize("detached_run", [True, False], ids=["run --detach", "create"])
def test_the_console_socket_receives_the_terminals_master(runtime, bundle, detached_run):
    size = {"process.consoleSize": {"height": 33, "width": 111}}
    made = bundle(LOOK, {**TTY, **size, "process.user": {"uid": 5, "gid": 5}})
    id = runtime.new_id()
    with console_socket(made.path) as (path, listener):
        verb = ["run", "--detach"] if detached_run else ["create"]
        runtime.ok(*verb, "-b", made.path, "--console-socket", path, id)
        master, name = receive(listener)
    assert "ptmx" in name
    if not detached_run:
        runtime.ok("start", id)
    shown = read_until(master, "4").split()  # stdin, stdout, stderr and that of the listing
    assert shown[:4] == ["/dev/pts/0", "33", "111", "all"]
    assert shown[4:12] == ["character", "special", "file", "5"] * 2
    os.write(master, b"hello\n")
    assert "got hello" in read_until(master, "got hello")
    read_until(master, "")
    os.close(master)
    runtime.wait_for_status(id, "stopped")


@pytest.mark.parametrize("uid", [0, 5])
def test_a_terminal_works_in_a_dev_that_is_a_read_only_path(runtime, bundle, uid):
    """The mount point of /dev/console is created before that; the terminal stays root's."""
    user = {"process.user": {"uid": uid, "gid": uid}}
    made = bundle(
        "tty; test -c /dev/console && echo there; touch /dev/x; echo end", {**TTY, **user}
    )
    made.edit({"linux.readonlyPaths": ["/dev"]})
    with console_socket(made.path) as (path, listener):
        runtime.ok("run", "--detach", "-b", made.path, "--console-socket", path, runtime.new_id())
        master, _ = receive(listener)
    shown = read_until(master, "end")
    assert shown.split()[:2] == ["/dev/pts/0", "there"]
    assert "Read-only file system" in shown
    os.close(master)


def test_the_terminal_is_the_controlling_terminal_of_the_program(runtime, bundle):
    made = bundle("trap 'echo interrupted; exit 3' INT; echo up; while :; do sleep .01; done", TTY)
    with console_socket(made.path) as (path, listener):
        id = runtime.started(made, "--console-socket", path)
        master, _ = receive(listener)
    read_until(master, "up")
    os.write(master, b"\x03")
    read_until(master, "interrupted")
    read_until(master, "")
    os.close(master)
    runtime.wait_for_status(id, "stopped")


def test_exec_sends_its_terminal_to_the_console_socket(runtime, bundle):
    id = runtime.started(bundle(SLEEP))
    with console_socket(runtime.folder) as (path, listener):
        runtime.ok(
            "exec",
            "--tty",
            "--detach",
            "--console-socket",
            path,
            id,
            "sh",
            "-c",
            "tty; ls /dev/console; read x",
        )
        master, _ = receive(listener)
    shown = read_until(master, "No such file")
    assert "/dev/pts/0" in shown
    assert "/dev/console: No such file" in shown, "the container has no terminal, so no console"
    os.close(master)


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_output_that_is_not_a_terminal_gets_plain_newlines(runtime, bundle, terminal, verb):
    if verb == "run":
        done = runtime.run(bundle("echo one; echo two", TTY), stdin=terminal)
    else:
        container = runtime.started(bundle("sleep 100"))
        words = ("sh", "-c", "echo one; echo two")
        done = runtime("exec", "-t", container, *words, stdin=terminal)
    assert (done.status, done.out) == (0, "one\ntwo\n")


def test_exec_uses_the_configured_terminal_size(runtime, bundle, terminal):
    made = bundle("sleep 100", {"process.consoleSize": {"height": 13, "width": 44}})
    container = runtime.started(made)
    done = runtime.ok("exec", "-t", container, "stty", "size", stdin=terminal)
    assert done.words == ["13", "44"]


REMEDIES = "give --console-socket, or set process.terminal to false"
CONTRADICTIONS = [
    (["create"], TTY, REMEDIES),
    (["run", "--detach"], TTY, REMEDIES),
    (["run"], TTY, "is one; use a terminal, give --detach and --console-socket, or set"),
    (["create", "--console-socket", "/x"], {}, "--console-socket"),
    (["run", "--console-socket", "/x"], TTY, "--console-socket"),
    (["create", "--console-socket", "/does/not/exist"], TTY, "/does/not/exist"),
]


@pytest.mark.parametrize(
    ("words", "changes", "named"), CONTRADICTIONS, ids=lambda value: str(value)[:50]
)
def test_contradictory_terminal_flags_are_refused(runtime, bundle, words, changes, named):
    made = bundle(SLEEP, changes)
    line = runtime.refuses(*words, "-b", made.path, runtime.new_id())
    assert named in line
    assert runtime.ids() == []


EXECS = [
    (["--tty"], "", "--tty requests a terminal, but neither", "leave out --tty"),
    (["--tty", "--detach"], "", "--tty requests a terminal, but nothing", "or leave out --tty"),
    ([], '"terminal": true,', "process.terminal requests", "set process.terminal to false"),
]


@pytest.mark.parametrize(("flags", "from_file", "named", "remedy"), EXECS)
def test_exec_refuses_contradictory_terminal_flags(
    runtime, bundle, flags, from_file, named, remedy
):
    made = bundle(SLEEP)
    id = runtime.started(made)
    if from_file:
        process = f'{{{from_file} "user": {{"uid": 0, "gid": 0}}, "cwd": "/", "args": ["sh"]}}'
        (made.path / "process.json").write_text(process)
        flags = ["--process", made.path / "process.json"]
    line = runtime.refuses("exec", *flags, id, *([] if from_file else ["sh"]))
    assert named in line
    assert line.endswith(f"{remedy}\n")


def test_without_devpts_a_terminal_is_refused(runtime, bundle, terminal):
    mounts = [mount for mount in MOUNTS if mount["destination"] != "/dev/pts"]
    made = bundle(SLEEP, {**TTY, "mounts": mounts})
    line = runtime.fails(made, stdin=terminal)
    assert "/dev/pts/ptmx" in line


def test_console_size_is_ignored_without_a_terminal(runtime, bundle):
    made = bundle(
        "tty; test -e /dev/console || echo none", {"process.consoleSize": {"height": 3, "width": 4}}
    )
    done = runtime.run(made)
    assert done.lines == ["not a tty", "none"]


# --- in the foreground ---------------------------------------------------------------------------


class Typed:
    """A command on a terminal of its own, as if typed by a person."""

    def __init__(self, command: list[str], stdin: int | None = None) -> None:
        self.master, slave = pty.openpty()
        set_size(slave, 30, 90)
        self.slave = slave
        self.before = termios.tcgetattr(slave)
        self.process = subprocess.Popen(
            command,
            stdin=slave if stdin is None else stdin,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )

    def __enter__(self) -> Typed:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self.slave)
        os.close(self.master)

    def until(self, text: str) -> str:
        return read_until(self.master, text)

    def type(self, text: bytes) -> None:
        os.write(self.master, text)


@pytest.mark.parametrize("verb", ["run", "exec"])
def test_in_the_foreground_the_callers_terminal_is_connected(runtime, bundle, verb):
    script = "stty size; trap 'stty size' WINCH; echo up; read x; echo got $x; read y; exit 9"
    if verb == "run":
        command = runtime.command("run", "-b", bundle(script, TTY).path, runtime.new_id())
    else:
        id = runtime.started(bundle(SLEEP))
        command = runtime.command("exec", "-t", id, "sh", "-c", script)
    with Typed(command) as typed:
        assert "30 90" in typed.until("up")
        assert not termios.tcgetattr(typed.slave)[3] & termios.ECHO, "the outer terminal is raw"
        typed.type(b"hello\r")
        assert "hello\r\n" in typed.until("got hello"), "the inner terminal echoes"
        set_size(typed.slave, 40, 100)
        typed.process.send_signal(signal.SIGWINCH)
        typed.type(b"\r")
        assert typed.process.wait(LIMIT) == 9
        assert termios.tcgetattr(typed.slave) == typed.before, "the outer terminal is restored"


def test_a_new_terminal_size_reaches_the_program(runtime, bundle):
    script = "trap 'stty size; exit 0' WINCH; echo up; while :; do sleep .01; done"
    with Typed(runtime.command("run", "-b", bundle(script, TTY).path, runtime.new_id())) as typed:
        typed.until("up")
        set_size(typed.slave, 41, 101)
        typed.process.send_signal(signal.SIGWINCH)
        typed.until("41 101")
        assert typed.process.wait(LIMIT) == 0


def test_control_c_goes_to_the_program_alone(runtime, bundle):
    script = "trap 'echo interrupted; exit 3' INT; echo up; while :; do sleep .01; done"
    with Typed(runtime.command("run", "-b", bundle(script, TTY).path, runtime.new_id())) as typed:
        typed.until("up")
        typed.type(b"\x03")
        typed.until("interrupted")
        assert typed.process.wait(LIMIT) == 3


def test_all_output_of_the_terminal_arrives_before_run_exits(runtime, bundle, terminal):
    made = bundle("seq 20000", TTY)
    done = subprocess.run(
        runtime.command("run", "-b", made.path, runtime.new_id()),
        stdin=terminal, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [str(number).encode() for number in range(1, 20001)]


@pytest.mark.property("process.consoleSize*")
def test_without_a_size_of_the_callers_terminal_the_configured_one_is_used(
    runtime, bundle, terminal
):
    made = bundle("stty size", {**TTY, "process.consoleSize": {"height": 7, "width": 8}})
    assert runtime.output(made, stdin=terminal).words == ["7", "8"]


@pytest.mark.parametrize("text", [b"hello\n", b"hello", b""])
def test_input_that_is_not_a_terminal_reaches_the_program_and_ends(runtime, bundle, text):
    """Its output is a terminal, which is not in raw mode and has a size."""
    made = bundle("stty size; cat; echo; echo end", TTY)
    command = runtime.command("run", "-b", made.path, runtime.new_id())
    read, write = os.pipe()
    os.write(write, text)
    os.close(write)
    with Typed(command, stdin=read) as typed:
        shown = typed.until("end\r\n")
        assert typed.process.wait(LIMIT) == 0
    os.close(read)
    assert "30 90\r\n" in shown
    assert f"{text.decode().strip()}\r\nend\r\n" in shown.replace("\r\n\r\n", "\r\n")
    assert "\r\r" not in shown


def test_a_program_without_a_terminal_cannot_open_the_callers(runtime, bundle):
    """A program in the caller's session could push input into its terminal (CVE-2017-5226)."""
    made = bundle("ps -o pid,sid,tty | cat; tty; (: </dev/tty) || echo none")
    with Typed(runtime.command("run", "-b", made.path, runtime.new_id())) as typed:
        typed.until("none")
        assert typed.process.wait(LIMIT) == 0


RAW = "stty raw -echo; trap 'exit 5' TERM; echo up; "


@pytest.mark.parametrize("verb", ["run", "exec"])
@pytest.mark.parametrize("end", ["by itself", "by a signal"])
def test_a_program_that_reads_nothing_does_not_block_the_command(runtime, bundle, verb, end):
    """The caller keeps writing more than the terminal and the pipe before it can hold."""
    script = RAW + ("sleep 1; exit 5" if end == "by itself" else "while :; do sleep .05; done")
    if verb == "run":
        command = runtime.command("run", "-b", bundle(script, TTY).path, runtime.new_id())
    else:
        id = runtime.started(bundle(SLEEP))
        command = runtime.command("exec", "-t", id, "sh", "-c", script)
    read, write = os.pipe()
    with Typed(command, stdin=read) as typed:
        os.close(read)
        typed.until("up")
        fill(write)
        if end == "by a signal":
            typed.process.terminate()
        assert typed.process.wait(LIMIT) == 5
    os.close(write)


def fill(pipe: int) -> None:
    """Write until the pipe has accepted nothing for a while."""
    os.set_blocking(pipe, False)
    refused = 0
    while refused < 10:
        try:
            os.write(pipe, bytes(4096))
            refused = 0
        except BlockingIOError:
            refused += 1
            time.sleep(0.02)


class Counted(foreground._Copy):
    """It fails instead of running forever."""

    turns = 0

    def advance(self):
        self.turns += 1
        assert self.turns < 1000
        super().advance()


def test_a_writer_that_outlives_the_program_does_not_block_the_command():
    zero, shown = os.open("/dev/zero", os.O_RDONLY), os.memfd_create("shown")
    foreground._drain(Counted(zero, shown))
    assert os.fstat(shown).st_size > 70_000, "at least what a terminal holds"
    os.close(zero)
    os.close(shown)
