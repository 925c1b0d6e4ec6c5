"""A program's streams: what goes in, where output goes, and how much of it is kept."""

from __future__ import annotations

import fcntl
import io
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import pycontain
from pycontain.library.call import Call
from pycontain.library.streams import Streams, Wanted
from tests.bundles import Bundles

pytestmark = pytest.mark.needs_root
MIB = 1 << 20


# --- input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [b"x", bytearray(b"x"), memoryview(b"x"), "x"])
def test_the_program_reads_bytes_or_text(bundle: Bundles, options, data: Any) -> None:
    assert pycontain.run(bundle().path, ["cat"], stdin=data, options=options).stdout == b"x"


def test_text_is_utf8(bundle: Bundles, options) -> None:
    assert pycontain.run(bundle().path, ["cat"], stdin="é", options=options).stdout == "é".encode()


def test_the_program_reads_a_file_or_a_descriptor(bundle: Bundles, options, tmp_path: Path) -> None:
    (tmp_path / "in").write_bytes(b"12345")
    with (tmp_path / "in").open("rb") as file:
        assert pycontain.run(bundle().path, ["cat"], stdin=file, options=options).stdout == b"12345"
        os.lseek(file.fileno(), 2, os.SEEK_SET)
        result = pycontain.run(bundle().path, ["cat"], stdin=file.fileno(), options=options)
        assert result.stdout == b"345"
        assert not file.closed


@pytest.mark.parametrize("none", [None, b"", subprocess.DEVNULL])
def test_without_input_the_program_reads_the_end_at_once(bundle: Bundles, options, none) -> None:
    result = pycontain.run(bundle().path, ["wc", "-c"], stdin=none, timeout=60, options=options)
    assert result.stdout.strip() == b"0"


def test_much_input_is_written_without_copying_the_rest_each_time(bundle: Bundles, options) -> None:
    data = bytes(256 * MIB)  # copying the rest for each piece of 64 KiB would copy 500 GiB
    result = pycontain.run(bundle().path, ["wc", "-c"], stdin=data, timeout=60, options=options)
    assert result.stdout.strip() == b"%d" % len(data)


def test_a_program_need_not_read_its_input(bundle: Bundles, options) -> None:
    result = pycontain.run(bundle().path, ["true"], stdin=bytes(MIB), options=options)
    assert result.status == 0


# --- where output goes ---------------------------------------------------------------------------

BOTH = ["sh", "-c", "echo out; echo err >&2"]


def test_output_goes_to_files_and_descriptors(bundle: Bundles, options, tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
        result = pycontain.run(
            bundle().path, BOTH, stdout=out, stderr=err.fileno(), options=options
        )
        os.fstat(err.fileno())  # it is still open
    assert (result.stdout, result.stderr) == (b"", b"")
    assert (tmp_path / "out").read_bytes() == b"out\n"
    assert (tmp_path / "err").read_bytes() == b"err\n"


def test_one_stream_can_be_captured_alone(bundle: Bundles, options, tmp_path: Path) -> None:
    with (tmp_path / "err").open("wb") as err:
        result = pycontain.run(bundle().path, BOTH, stderr=err, options=options)
    assert (result.stdout, result.stderr) == (b"out\n", b"")


def test_both_streams_can_be_captured_as_one(bundle: Bundles, options) -> None:
    result = pycontain.run(bundle().path, BOTH, stderr=subprocess.STDOUT, options=options)
    assert (result.stdout, result.stderr) == (b"out\nerr\n", b"")


def test_output_can_be_thrown_away(bundle: Bundles, options) -> None:
    result = pycontain.run(bundle().path, BOTH, stdout=subprocess.DEVNULL, options=options)
    assert (result.stdout, result.stderr) == (b"", b"err\n")


def test_a_function_gets_the_pieces_as_they_come(bundle: Bundles, options) -> None:
    pieces: list[tuple[bytes, float]] = []
    result = pycontain.run(
        bundle().path,
        ["sh", "-c", "echo a; sleep 0.5; echo b"],
        stdout=lambda piece: pieces.append((piece, time.monotonic())),
        options=options,
    )
    assert [piece for piece, _ in pieces] == [b"a\n", b"b\n"]
    assert pieces[1][1] - pieces[0][1] > 0.2
    assert result.stdout == b""


def test_an_error_of_the_function_ends_the_container(bundle: Bundles, options, left) -> None:
    def fail(piece: bytes) -> None:
        raise ZeroDivisionError(piece)

    with pytest.raises(ZeroDivisionError, match="x"):
        pycontain.run(
            bundle().path, ["sh", "-c", "echo x; sleep 100"], stdout=fail, options=options
        )
    assert left() == []


def test_the_callers_streams_can_be_mixed_with_others(bundle: Bundles, options) -> None:
    """Input that is given is not ignored without capture."""
    program = f"""
import pycontain
pycontain.run({str(bundle().path)!r}, ["cat"], stdin=b"given", capture=False,
              options=pycontain.Options(root={options.root!r}))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"given"


def test_a_caller_without_streams_can_run_containers(bundle: Bundles, options) -> None:
    """As a daemon that has closed them: pipes then have their numbers."""
    program = f"""
import os, pycontain
for fd in range(3): os.close(fd)
options = pycontain.Options(root={options.root!r})
first = pycontain.run({str(bundle().path)!r}, ["cat"], stdin=b"x", options=options)
before = os.listdir("/proc/self/fd")
again = pycontain.run({str(bundle().path)!r}, ["echo", "y"], options=options)
plain = pycontain.run({str(bundle().path)!r}, ["echo", "y"], capture=False, options=options)
assert before == os.listdir("/proc/self/fd")
open({options.root!r} + "/../seen", "w").write(f"{{first.stdout}}{{again.stdout}}{{plain.status}}")
"""
    subprocess.run([sys.executable, "-c", program], check=True)
    assert Path(options.root, "../seen").read_text() == "b'x'b'y\\n'0"


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"stdout": "file"}, "stdout = 'file' cannot be used here"),
        ({"stdout": True}, "stdout = True cannot be used here"),
        ({"stdin": 12345}, "stdin = 12345 is not an open descriptor"),
        ({"stdin": io.BytesIO(b"x")}, "stdin = .* give bytes"),
        ({"stderr": 1.5}, "stderr = 1.5 cannot be used here"),
        ({"max_output": -1}, "max_output = -1 is not a number of bytes"),
        ({"max_output": 1.5}, "max_output = 1.5 is not a number of bytes"),
        ({"overflow": "drop"}, "overflow = 'drop' is not"),
    ],
)
def test_contradictory_streams_are_refused(
    bundle: Bundles, options, how: Any, message: str
) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(pycontain.UsageError, match=message):
        pycontain.run(bundle().path, options=options, **how)
    assert os.listdir("/proc/self/fd") == before


def test_an_unknown_argument_is_a_type_error(bundle: Bundles, options) -> None:
    with pytest.raises(TypeError, match="stdut"):
        pycontain.run(bundle().path, options=options, stdut=1)  # type: ignore[call-arg]


def test_too_many_open_files_leave_nothing_behind(bundle: Bundles, options) -> None:
    """Whichever descriptor is the first that cannot be had."""
    program = f"""
import os, pycontain, resource
options = pycontain.Options(root={options.root!r})
def look():
    fds, children = os.listdir("/proc/self/fd"), f"/proc/self/task/{{os.getpid()}}/children"
    return fds, os.listdir(options.root), open(children).read()
pycontain.run({str(bundle().path)!r}, options=options)
before, (soft, hard), ended = look(), resource.getrlimit(resource.RLIMIT_NOFILE), []
for limit in range(3, 30):
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    try:
        pycontain.run({str(bundle().path)!r}, options=options)
        ended.append("well")
    except pycontain.PycontainError as error:
        assert error.errno == 24, error
        ended.append("badly")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert look() == before, (limit, look(), before)
print(*ended)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    words = done.stdout.split()
    assert words == sorted(words)
    assert set(words) == {"badly", "well"}


# --- how much is kept ----------------------------------------------------------------------------


def test_a_program_that_prints_too_much_is_killed(bundle: Bundles, options, left) -> None:
    began = time.monotonic()
    result = pycontain.run(bundle().path, ["yes"], max_output=100_000, timeout=60, options=options)
    assert (result.reason, result.status, result.signal) == ("output", 137, 9)
    assert result.stdout == (b"y\n" * 50_000)
    assert result.truncated
    assert left() == []
    assert time.monotonic() - began < 30


def test_a_program_that_ended_after_too_much_output_keeps_its_status(
    bundle: Bundles, options
) -> None:
    result = pycontain.run(
        bundle().path, ["sh", "-c", "echo 12345; exit 3"], max_output=2, options=options
    )
    assert (result.reason, result.stdout, result.truncated) == ("output", b"12", True)
    assert result.status in (3, 137)


def test_output_beyond_the_limit_is_truncated_on_request(bundle: Bundles, options) -> None:
    result = pycontain.run(
        bundle().path, ["seq", "100000"], max_output=10, overflow="cut", options=options
    )
    assert (result.reason, result.status) == ("exit", 0)
    assert (result.stdout, result.truncated) == (b"1\n2\n3\n4\n5\n", True)


def test_output_of_just_that_size_is_whole(bundle: Bundles, options) -> None:
    result = pycontain.run(bundle().path, ["echo", "123"], max_output=4, options=options)
    assert (result.reason, result.stdout, result.truncated) == ("exit", b"123\n", False)


def test_each_stream_has_its_own_limit(bundle: Bundles, options) -> None:
    result = pycontain.run(bundle().path, BOTH, max_output=4, options=options)
    assert (result.stdout, result.stderr, result.truncated) == (b"out\n", b"err\n", False)
    noisy = ["sh", "-c", "echo out; yes >&2"]
    result = pycontain.run(bundle().path, noisy, max_output=4, options=options)
    assert (result.reason, result.stdout, result.stderr) == ("output", b"out\n", b"y\ny\n")


def test_a_limit_can_be_lifted(bundle: Bundles, options) -> None:
    command = ["dd", "if=/dev/zero", "bs=1M", "count=20"]
    assert len(pycontain.run(bundle().path, command, options=options).stdout) == 16 * MIB
    result = pycontain.run(bundle().path, command, max_output=None, options=options)
    assert len(result.stdout) == 20 * MIB


FLOOD = """
import pycontain
before = peak = 0
def rss():
    return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) >> 10
options = pycontain.Options(root={root!r})
pycontain.run({path!r}, options=options)
before = rss()
result = pycontain.run({path!r}, {command!r}, overflow="cut", options=options)
print(rss() - before, result.status, len(result.stdout) >> 20, result.truncated)
"""


@pytest.mark.parametrize(
    ("command", "kept"),
    [
        ("dd if=/dev/zero bs=1M count=1024", "16 True"),
        # a byte at a time: as many objects would take a hundred times as much
        ("dd if=/dev/zero bs=1 count=1000000 2>&-", "0 False"),
    ],
)
def test_a_flood_stays_within_memory(bundle: Bundles, options, command: str, kept: str) -> None:
    program = FLOOD.format(
        root=options.root, path=str(bundle().path), command=["sh", "-c", command]
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    grown, rest = done.stdout.split(" ", 1)
    assert rest.strip() == f"0 {kept}", done
    assert int(grown) < 64  # MiB: what is kept, twice, and some space to grow


# --- when the time is over -----------------------------------------------------------------------


def test_a_timeout_carries_what_was_printed(bundle: Bundles, options, left) -> None:
    command = ["sh", "-c", "echo so far; echo bad >&2; sleep 100"]
    with pytest.raises(pycontain.Timeout, match=r"longer than 0\.5 s") as caught:
        pycontain.run(bundle().path, command, timeout=0.5, options=options)
    error = caught.value
    assert (error.stdout, error.stderr) == (b"so far\n", b"bad\n")
    assert error.result is not None
    assert (error.result.reason, error.result.status, error.result.signal) == ("timeout", 137, 9)
    assert 0.5 <= error.result.wall < 30
    assert left() == []


def test_a_timeout_before_the_program_ran_has_a_result(bundle: Bundles, options, left) -> None:
    made = bundle()
    made.script("slow", "sleep 100")
    made.edit({"hooks": {"createRuntime": [{"path": f"{made.path}/slow"}]}})
    with pytest.raises(pycontain.Timeout) as caught:
        pycontain.run(made.path, timeout=0.3, options=options)
    assert caught.value.result is not None
    assert (caught.value.result.reason, caught.value.stdout) == ("timeout", b"")
    assert left() == []


class Endless:
    """A process that never ends."""

    terminal = -1
    times = ()

    def __init__(self) -> None:
        self.pidfd = os.pidfd_open(os.getpid())
        self.killed = False

    def kill(self) -> None:
        """Note it."""
        self.killed = True

    def wait(self, _: float) -> bool:
        """It does not end."""
        return False


def test_a_program_that_never_stops_writing_times_out() -> None:
    process = Endless()
    with Call("x", {"overflow": "cut"}, 0.1) as call:
        writer = subprocess.Popen(["yes"], stdout=call.streams.theirs[1])
        call.start(lambda *_: process)  # type: ignore[arg-type,return-value]
        call.serve()
        assert call.reason == "timeout"
        writer.kill()
        writer.wait()
    assert process.killed
    os.close(process.pidfd)


def test_a_writer_that_outlives_the_program_does_not_block_the_call(monkeypatch) -> None:
    """It writes again as soon as something was read."""
    with Streams(Wanted()) as streams:

        def read_and_write(*arguments: int) -> bool:
            assert len(streams.captured[1].data) < 100
            ended = read(*arguments)
            os.write(streams.theirs[1], b"more")
            return ended

        read = streams._read
        monkeypatch.setattr(streams, "_read", read_and_write)
        os.write(streams.theirs[1], b"last")
        streams.drain()
        assert streams.captured[1].data == b"last"


def test_the_last_output_comes_back_from_a_pipe_of_any_size() -> None:
    """The program has exited before any of it is read."""
    with Streams(Wanted()) as streams:
        fcntl.fcntl(streams.theirs[1], fcntl.F_SETPIPE_SZ, 1 << 20)
        os.write(streams.theirs[1], b"x" * (1 << 20))
        streams.drain()
        assert len(streams.captured[1].data) == 1 << 20


# --- bundles for terminals -----------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"stdin": b"x"}, {"stdout": subprocess.DEVNULL}])
def test_a_bundle_for_a_terminal_gets_streams_and_never_waits(
    bundle: Bundles, options, how: Any
) -> None:
    made = bundle("cat; test -t 0 || echo none >&2", {"process.terminal": True})
    result = pycontain.run(made.path, timeout=60, options=options, **how)
    assert (result.status, result.stderr) == (0, b"none\n")


def test_a_bundle_with_a_terminal_runs_with_the_callers_streams(bundle: Bundles, options) -> None:
    made = bundle("test -t 1 || echo none", {"process.terminal": True})
    program = f"""
import pycontain
options = pycontain.Options(root={options.root!r})
print(pycontain.run({str(made.path)!r}, capture=False, timeout=60, options=options).status)
with pycontain.Container({str(made.path)!r}, options=options) as container:
    container.create()
    container.start()
    print(container.wait(60))
"""
    done = subprocess.run(
        [sys.executable, "-uc", program], capture_output=True, stdin=subprocess.DEVNULL, check=True
    )
    assert done.stdout == b"none\n0\nnone\n0\n"
