"""Calls in asyncio tasks: cancelling one ends its container at once, and leaves no thread."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import pycontain
from tests.bundles import Bundles, wait_until

pytestmark = pytest.mark.needs_root
SOON = 20  # seconds: far below what the programs would sleep


@pytest.fixture(autouse=True)
def nothing_is_left(left) -> Iterator[None]:
    """No thread, descriptor, child or container."""
    yield
    assert [thread.name for thread in threading.enumerate()] == ["MainThread"]
    assert left() == []
    pycontain.close()
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


async def running(left) -> None:
    """Wait until a container runs."""
    while not left():
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.1)


def test_a_task_gets_a_result(bundle: Bundles, options) -> None:
    result = asyncio.run(pycontain.run_async(bundle().path, ["cat"], stdin=b"x", options=options))
    assert (result.status, result.stdout) == (0, b"x")


def test_many_tasks_run_at_once(bundle: Bundles, options) -> None:
    """More than the threads of asyncio's own executor, which others need, too."""
    path = bundle("sleep 0.5; echo $0").path

    async def main() -> list[pycontain.Result]:
        calls = [pycontain.run_async(path, ["sleep", "1"], options=options) for _ in range(12)]
        began = time.monotonic()
        assert await asyncio.to_thread(lambda: 7) == 7
        assert time.monotonic() - began < SOON
        return await asyncio.gather(*calls)

    assert [result.status for result in asyncio.run(main())] == [0] * 12


def test_the_loop_goes_on_meanwhile(bundle: Bundles, options) -> None:
    async def main() -> int:
        ticks = 0
        call = asyncio.create_task(
            pycontain.run_async(bundle().path, ["sleep", "0.5"], options=options)
        )
        while not call.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks

    assert asyncio.run(main()) > 10


def test_errors_come_back(bundle: Bundles, options) -> None:
    with pytest.raises(pycontain.ProgramError):
        asyncio.run(pycontain.run_async(bundle().path, ["/bin/nosuch"], options=options))
    with pytest.raises(pycontain.Timeout) as caught:
        command = ["sh", "-c", "echo x; sleep 100"]
        asyncio.run(pycontain.run_async(bundle().path, command, timeout=0.5, options=options))
    assert caught.value.stdout == b"x\n"
    with pytest.raises(pycontain.UsageError):
        asyncio.run(pycontain.run_async(bundle().path, "echo", options=options))


@pytest.mark.parametrize("script", ["sleep 100", "yes"])
def test_cancelling_ends_the_container_at_once(bundle: Bundles, options, left, script) -> None:
    async def main() -> None:
        call = asyncio.create_task(
            pycontain.run_async(
                bundle(script).path, overflow="cut", options=options, stdin=bytes(1 << 20)
            )
        )
        await running(left)
        began = time.monotonic()
        call.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough"):
            await call
        assert left() == []  # as soon as the task has ended
        assert time.monotonic() - began < SOON

    asyncio.run(main())


def test_cancelling_during_a_hook_ends_the_hook(bundle: Bundles, options, left) -> None:
    made = bundle()
    made.script("slow", f"echo $$ > {made.path}/pid; sleep 100")
    made.edit({"hooks": {"createRuntime": [{"path": f"{made.path}/slow"}]}})

    async def main() -> int:
        call = asyncio.create_task(pycontain.run_async(made.path, options=options))
        await running(left)
        began = time.monotonic()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert time.monotonic() - began < SOON
        return int((made.path / "pid").read_text())

    hook = Path(f"/proc/{asyncio.run(main())}/stat")
    wait_until(lambda: not hook.exists() or ") Z " in hook.read_text(), "it is killed")


def test_cancelling_at_any_moment_leaves_nothing(bundle: Bundles, options) -> None:
    path = bundle("sleep 100").path

    async def main() -> None:
        await pycontain.run_async(path, ["true"], options=options)
        for milliseconds in range(12):
            call = asyncio.create_task(pycontain.run_async(path, options=options))
            await asyncio.sleep(milliseconds / 1000)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

    asyncio.run(main())


def test_a_second_cancellation_waits_for_the_end_of_the_container(
    bundle: Bundles, options, left
) -> None:
    async def main() -> None:
        call = asyncio.create_task(pycontain.run_async(bundle("sleep 100").path, options=options))
        await running(left)
        call.cancel()
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert left() == []

    asyncio.run(main())


def test_a_time_limit_of_asyncio_works(bundle: Bundles, options, left) -> None:
    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await pycontain.run_async(bundle("sleep 100").path, options=options)
        assert left() == []

    asyncio.run(main())


def test_a_failing_task_ends_the_containers_of_its_group(bundle: Bundles, options, left) -> None:
    async def fail() -> None:
        await running(left)
        raise ZeroDivisionError

    async def main() -> None:
        with pytest.raises(ExceptionGroup):
            async with asyncio.TaskGroup() as group:
                group.create_task(pycontain.run_async(bundle("sleep 100").path, options=options))
                group.create_task(fail())
        assert left() == []

    asyncio.run(main())


def test_a_loop_that_is_closed_takes_its_containers_along(bundle: Bundles, options, left) -> None:
    loop = asyncio.new_event_loop()
    call = pycontain.run_async(bundle("sleep 100").path, options=options)
    task = loop.create_task(call)
    loop.run_until_complete(running(left))
    loop.set_exception_handler(lambda *_: None)  # "Task was destroyed but it is pending!"
    loop.close()
    call.close()
    del task


def test_a_container_is_deleted_at_the_end_of_the_block(bundle: Bundles, options, left) -> None:
    async def main() -> None:
        path = bundle("sleep 100").path
        async with pycontain.Container(path, options=options) as container:
            container.create()
            container.start()
            assert (await container.exec_async(["cat"], stdin=b"x")).stdout == b"x"
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(container.exec_async(["sleep", "100"]), 0.2)
            assert container.state()["status"] == "running"
        assert left() == []

    asyncio.run(main())
