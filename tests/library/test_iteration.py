"""Output that is iterated over as it comes."""

from __future__ import annotations

import asyncio
import subprocess
import time

import pytest

import pycontain
from pycontain.library.stream import Stream
from tests.bundles import Bundles

pytestmark = pytest.mark.needs_root
SLOWLY = "for i in 1 2 3; do echo $i; echo e$i >&2; sleep 0.2; done; printf end; exit 3"


def test_lines_come_as_they_are_printed(bundle: Bundles, options, left) -> None:
    times = []
    with pycontain.stream(bundle(SLOWLY).path, options=options) as lines:
        found = []
        for line in lines:
            found.append(line)
            times.append(time.monotonic())
    assert found == [b"1\n", b"2\n", b"3\n", b"end"]
    assert times[2] - times[0] > 0.2
    assert lines.result is not None
    assert (lines.result.status, lines.result.stderr) == (3, b"e1\ne2\ne3\n")
    assert left() == []


def test_lines_can_be_iterated_over_in_a_task(bundle: Bundles, options, left) -> None:
    async def main() -> list[bytes]:
        async with pycontain.stream(bundle(SLOWLY).path, options=options) as lines:
            found = [line async for line in lines]
        assert lines.result is not None
        assert lines.result.status == 3
        return found

    assert asyncio.run(main()) == [b"1\n", b"2\n", b"3\n", b"end"]
    assert left() == []


def test_without_a_block_the_container_ends_with_the_iteration(
    bundle: Bundles, options, left
) -> None:
    assert list(pycontain.stream(bundle().path, ["seq", "3"], options=options)) == [
        b"1\n", b"2\n", b"3\n",
    ]  # fmt: skip
    assert left() == []
    for _ in pycontain.stream(bundle().path, ["yes"], options=options):
        break
    assert left() == []


def test_leaving_the_block_ends_the_program_at_once(bundle: Bundles, options, left) -> None:
    began = time.monotonic()
    with pycontain.stream(bundle().path, ["sh", "-c", "echo x; sleep 100"], options=options) as it:
        assert next(it) == b"x\n"
        assert left() != []
    assert left() == []
    assert it.result is None
    assert list(it) == []
    assert time.monotonic() - began < 50


def test_cancelling_a_task_that_waits_for_a_line_ends_the_program(
    bundle: Bundles, options, left
) -> None:
    path = bundle("echo x; sleep 100").path

    async def watch() -> None:
        async for _ in pycontain.stream(path, options=options):
            pass

    async def main() -> None:
        task = asyncio.create_task(watch())
        while not left():
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert left() == []

    asyncio.run(main())


def test_a_program_waits_for_a_slow_reader(bundle: Bundles, options) -> None:
    """A flood is read no faster than it is used: nothing piles up here."""
    with pycontain.stream(bundle().path, ["yes"], options=options) as lines:
        for _ in range(100_000):
            next(lines)
        assert len(lines._output.lines) < 100_000


def test_an_endless_line_comes_in_parts(bundle: Bundles, options) -> None:
    command = ["dd", "if=/dev/zero", "bs=1M", "count=5"]
    parts = list(pycontain.stream(bundle().path, command, options=options))
    assert sum(map(len, parts)) == 5 << 20
    assert all(len(part) < 2 << 20 for part in parts)


def test_a_time_limit_ends_an_iteration(bundle: Bundles, options, left) -> None:
    found = []
    with pytest.raises(pycontain.Timeout):
        for line in pycontain.stream(
            bundle("echo x; sleep 100").path, timeout=0.5, options=options
        ):
            found.append(line)  # noqa: PERF402 -- up to the error
    assert found == [b"x\n"]
    assert left() == []


def test_both_streams_can_be_iterated_over(bundle: Bundles, options) -> None:
    both = bundle("echo a; echo b >&2").path
    lines = list(pycontain.stream(both, stderr=subprocess.STDOUT, options=options))
    assert lines == [b"a\n", b"b\n"]


def test_a_program_of_a_live_container_can_be_iterated_over(bundle: Bundles, options) -> None:
    with pycontain.Container(bundle("sleep 100").path, options=options) as container:
        container.create()
        container.start()
        assert list(container.exec_stream(["seq", "2"])) == [b"1\n", b"2\n"]
        with container.exec_stream(["yes"]) as lines:
            next(lines)
        assert b"yes" not in container.exec(["ps"]).stdout


def test_a_failed_start_is_an_error_of_the_first_line(bundle: Bundles, options, left) -> None:
    lines = pycontain.stream(bundle().path, ["/bin/nosuch"], options=options)
    with pytest.raises(pycontain.ProgramError):
        next(lines)
    assert list(lines) == []
    assert left() == []


def test_a_stream_refuses_another_destination_for_its_output(bundle: Bundles, options) -> None:
    with pytest.raises(pycontain.UsageError, match="stdout is the stream that is iterated over"):
        pycontain.stream(bundle().path, options=options, stdout=1)
    assert isinstance(pycontain.stream(bundle().path, options=options), Stream)
