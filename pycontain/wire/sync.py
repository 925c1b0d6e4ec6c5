"""
The protocol between the runtime (parent) and a container's first process (child).

Both have the same turns of the plan (`plan.walk`). While one side works, the other waits for the
message that its turn has come. Messages are lines of JSON over a pair of pipes:

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

    exec: the child enters the container, creates the process that replaces it, and exits
                      <-  {"born": pid}
                      {"go": true}      ->   join …

    instead of any message of the child:
                      <-  {"fault": {…}}              a step failed: errors.Fault as an object
                      <-  (end of file)               without "exec" before: the child died

An eventfd(2) beside the pipes counts the steps that the child has begun, so that the failed step
is known even if the child dies without a message.

For `create` the parent exits after "created"; the child then waits on two FIFOs in the state
directory, which replace the pipes, and `start` takes the parent's place. If the parent dies, the
child reads an end of file and exits.

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

    steps  the eventfd that counts the child's steps, -1 for none
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
        """Write one message. Raises BrokenPipeError when the other end is closed."""
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
            raise StepError("is not a message of the protocol", value=line.decode())
        return message

    def close(self) -> None:
        """Close the descriptors; a second call does nothing."""
        for fd in self.fds:
            os.close(fd)
        self.reader = self.writer = self.steps = -1


# --- the child's side ----------------------------------------------------------------------------


def report_alive(channel: Channel) -> None:
    """Report that the child runs, since it can be killed before that (`launch.fork`)."""
    channel.send({"alive": True})


def await_turn(channel: Channel) -> None:
    """Wait for the child's turn; exit if the parent has exited."""
    if channel.receive() is None:
        os._exit(EXIT_FAILED)


def begin_step(channel: Channel) -> None:
    """Count a step as begun."""
    if channel.steps >= 0:
        os.eventfd_write(channel.steps, 1)


def report_done(channel: Channel, times: Times) -> None:
    """Report that the parent's turn has come, and how long each step took."""
    channel.send({"done": times})


def report_born(channel: Channel, pid: int) -> None:
    """Report that another process, a child of our parent, continues in our place."""
    channel.send({"born": pid})


def report_exec(channel: Channel, times: Times) -> None:
    """Report that execve comes next."""
    channel.send({"exec": times})


def report_fault(channel: Channel, error: BaseException) -> None:
    """Report the error that ends the child."""
    channel.send({"fault": fault_of(error).record()})


# --- the parent's side ---------------------------------------------------------------------------


def is_alive(channel: Channel) -> bool:
    """Wait until the child has reported that it runs; False if it ended before."""
    return channel.receive() is not None


def pass_turn(channel: Channel) -> None:
    """Tell the child that its turn has come. If it has died, reading will tell why."""
    try:
        channel.send({"go": True})
    except BrokenPipeError:
        pass


def steps_begun(channel: Channel) -> int:
    """How many steps the child has begun since the last call."""
    try:
        return os.eventfd_read(channel.steps)
    except BlockingIOError:  # none
        return 0


def await_child(
    channel: Channel, born: Callable[[int], None] = lambda _: None
) -> tuple[str, Times]:
    """
    The child's next message: ("done" | "exec" | "end", the times of its steps).

    born is called with the pid of a process that continues in its place. Raises the child's error
    if it reports one.
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
