"""The library's calls in asyncio tasks: each has a thread of its own, for as long as it takes."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import Generic, TypeVar

from .cancel import Cancel

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

Value = TypeVar("Value")


async def in_thread(work: Callable[[Cancel], Value], cancel: Cancel | None = None) -> Value:
    """
    Call `work` in a thread of its own, since a container may run for days; returns its value.

    If the task is cancelled, or destroyed with its event loop, the call is cancelled, too, and the
    task ends after it: no thread is left behind.

    cancel  what cancels the call, if the caller needs it for longer than that
    """
    thread = _Thread(work, Cancel() if cancel is None else cancel)
    cancelled: asyncio.CancelledError | None = None
    try:
        while not thread.done.done():
            try:
                await asyncio.shield(thread.done)
            except asyncio.CancelledError as error:
                cancelled = error
                thread.cancel.set()
    finally:
        thread.end()
        if cancel is None:
            thread.cancel.close()
    if cancelled is not None:
        raise cancelled
    return thread.value()


async def to_end(end: Callable[[], None], kind: object) -> None:
    """
    Leave the block of `async with`.

    kind  the type of the exception that ends it; a coroutine that is destroyed cannot wait
    """
    if kind is GeneratorExit:
        end()
    else:
        await in_thread(lambda _: end())


class _Thread(Generic[Value]):
    """
    A thread that makes a call.

    done  set in the event loop when it has ended
    """

    def __init__(self, work: Callable[[Cancel], Value], cancel: Cancel) -> None:
        self.work = work
        self.cancel = cancel
        self.loop = asyncio.get_running_loop()
        self.done: asyncio.Future[None] = self.loop.create_future()
        self.values: list[Value] = []
        self.error: BaseException | None = None
        run = contextvars.copy_context().run
        self.thread = threading.Thread(target=run, args=(self._run,), name="pycontain")
        self.thread.start()

    def _run(self) -> None:
        try:
            self.values.append(self.work(self.cancel))
        except BaseException as error:
            self.error = error
        try:
            self.loop.call_soon_threadsafe(self._set_done)
        except RuntimeError:
            pass  # the loop is closed: nobody waits any more

    def _set_done(self) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def end(self) -> None:
        """Wait for the thread, after cancelling its call if that has not ended."""
        if self.thread.is_alive() and not self.done.done():
            self.cancel.set()
        self.thread.join()

    def value(self) -> Value:
        """What the call returned. Raises what it raised."""
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # or it would form a reference cycle with this object
        return self.values[0]
