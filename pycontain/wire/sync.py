"""
The protocol between the runtime (parent) and a container's first process (child).

Both hold the same turns of the plan (`plan.walk`). One side works, the other waits to be told that
its turn has come. Messages are lines of JSON over a pair of pipes:

    parent                                   child
    ------                                   -----
    steps up to "spawn"
                      <-  {"alive": true}
    record …
                      {"go": true}      ->   guard … mounts …
    hooks             <-  {"done": [[step, µs], …]}
                      {"go": true}      ->   pivot … find program
    created           <-  {"done": …}
                      {"go": true}      ->   seccomp …
                      <-  {"exec": [[step, µs], …]}   the next thing is execve
                      <-  (end of file)               execve worked: the pipe is close-on-exec

    exec: the child enters the container, makes the process that goes on in its place, and ends
                      <-  {"born": pid}
                      {"go": true}      ->   join …

    instead of any message of the child:
                      <-  {"fault": {…}}              a step failed: errors.Fault as an object
                      <-  (end of file)               without "exec" before: the child died

An eventfd(2) beside the pipes counts the steps that the child has begun, so that one that dies
without a message still tells where.

For `create` the parent ends after "created"; the child then waits at two FIFOs in the state
directory, which both sides of this protocol treat as they treat the pipes, and `start` takes the
parent's place. A parent that dies is an end of file to the child, which then exits.

A child of vfork shares its parent's memory and needs none of this.
"""

from __future__ import annotations

from ..errors import PycontainError, StepError, fault_of, from_record
from ..lean import jsontext, os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Times: TypeAlias = list[tuple[str, int]]  # (step, microseconds)

EXIT_FAILED = 255  # of a child that did not become its program


class Channel:
    """
    One end: a descriptor to read lines from and one to write lines to.

    steps  the eventfd that counts the child's steps, -1 when nobody does
    """

    __slots__ = ("_pending", "reader", "steps", "writer")

    def __init__(self, reader: int, writer: int, steps: int = -1) -> None:
        self.reader = reader
        self.writer = writer
        self.steps = steps
        self._pending = b""

    @classmethod
    def pair(cls) -> tuple[Channel, Channel]:
        """The parent's end and the child's."""
        down, up = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        steps = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        return cls(up[0], down[1], steps), cls(down[0], up[1], os.dup(steps))

    @property
    def fds(self) -> set[int]:
        """Its descriptors."""
        return {self.reader, self.writer, self.steps} - {-1}

    def send(self, message: dict[str, object]) -> None:
        """Write one message. Raises BrokenPipeError when nobody listens."""
        line = jsontext.dumps(message).encode() + b"\n"
        while line:
            line = line[os.write(self.writer, line) :]

    def receive(self) -> dict[str, object] | None:
        """The next message, or None at the end of file."""
        while b"\n" not in self._pending:
            piece = os.read(self.reader, 65536)
            if not piece:
                return None
            self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        message = jsontext.loads(line.decode())
        if not isinstance(message, dict):
            raise StepError("is no message of the protocol", value=line.decode())
        return message

    def close(self) -> None:
        """Close the descriptors; a second time does nothing."""
        for fd in self.fds:
            os.close(fd)
        self.reader = self.writer = self.steps = -1


# --- what the child says -------------------------------------------------------------------------


def report_alive(channel: Channel) -> None:
    """Say that one has come to life, which not every child does (`launch.fork`)."""
    channel.send({"alive": True})


def await_turn(channel: Channel) -> None:
    """Wait for the child's turn; exit when the parent is gone."""
    if channel.receive() is None:
        os._exit(EXIT_FAILED)


def begin_step(channel: Channel) -> None:
    """Count a step that begins."""
    if channel.steps >= 0:
        os.eventfd_write(channel.steps, 1)


def report_done(channel: Channel, times: Times) -> None:
    """Tell the parent that its turn has come, and how long each step took."""
    channel.send({"done": times})


def report_born(channel: Channel, pid: int) -> None:
    """Say that another process, our parent's child, goes on in our place."""
    channel.send({"born": pid})


def report_exec(channel: Channel, times: Times) -> None:
    """Say that execve comes next."""
    channel.send({"exec": times})


def report_fault(channel: Channel, error: BaseException) -> None:
    """Say why nothing more will come."""
    channel.send({"fault": fault_of(error).record()})


# --- what the parent says ------------------------------------------------------------------------


def is_alive(channel: Channel) -> bool:
    """Wait until the child has said that it is alive; False when it ended before."""
    return channel.receive() is not None


def pass_turn(channel: Channel) -> None:
    """Tell the child that its turn has come. One that has died left its reason to be read."""
    try:
        channel.send({"go": True})
    except BrokenPipeError:
        pass


def steps_begun(channel: Channel) -> int:
    """How many steps the child has begun since this was last asked."""
    try:
        return os.eventfd_read(channel.steps)
    except BlockingIOError:  # none
        return 0


def await_child(
    channel: Channel, born: Callable[[int], None] = lambda _: None
) -> tuple[str, Times]:
    """
    What the child says next: ("done" | "exec" | "end", the times of its steps).

    born is called with the pid of a process that goes on in its place. Raises the child's error
    when it reports one.
    """
    message = channel.receive()
    if message is not None and "born" in message:
        born(int(str(message["born"])))
        message = channel.receive()
    if message is None:
        return "end", []
    if "fault" in message:
        raise _fault(message["fault"])
    word = "exec" if "exec" in message else "done"
    times = message.get(word)
    assert isinstance(times, list)
    return word, [(str(name), int(spent)) for name, spent in times]


def _fault(record: object) -> PycontainError:
    assert isinstance(record, dict)
    return from_record(record)
