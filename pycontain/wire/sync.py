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

    instead of any message of the child:
                      <-  {"fault": {…}}              a step failed: errors.Fault as an object
                      <-  (end of file)               without "exec" before: the child died

If the program runs in a pid namespace that others are in, the child stays outside. Its last step
creates the bare process that becomes the program (`kernel.bare`), and the child exits. Another pair
of pipes leads to that process, which otherwise has only the program's descriptors:

    parent                                   child
    ------                                   -----
                      <-  {"done": …}
                      <-  (end of file)      enter, exit
                                             the bare process
                      <-  {"done": []}       exists
    take over …
                      pid, pid          ->   execve …
                      <-  {"exec": []}, (end of file)
                      <-  {"fault": {…}, "errno": "00002"}   what was prepared for that failure

The parent learns its pid from the kernel (`bare.SharedPid`), not from a message. It sends the pid
that the process has inside, twice, as digits padded to 12 bytes: with NULs, then with spaces.

An eventfd(2) beside the pipes counts the steps that the child has begun, so that the failed step
is known even if the child dies without a message.

For `create` the parent exits after "created"; the child, or the bare process, then waits on two
FIFOs in the state directory, which replace the pipes, and `start` takes the parent's place. If the
parent dies, the child reads an end of file and exits. They are FIFOs, not a socket, because a
filter that is loaded by then may permit read(2) and write(2) alone; and they have names, because
pidfd_getfd(2) cannot take a nameless pipe from a process that is not dumpable without
CAP_SYS_PTRACE, nor with Yama's ptrace_scope of 3.

A child in a user namespace is created by an intermediate process (`launch.intermediate`), with a
pair of pipes of its own:

    parent                                   intermediate process
    ------                                   --------------------
                      <-  {"alive": true}
                      <-  {"pid": …}         of the child; or {"fault": {…}}

A child of vfork shares its parent's memory and needs none of this.
"""

from __future__ import annotations

from ..errors import PycontainError, StepError, fault_of, from_record, reason
from ..kernel.descriptors import close_owned
from ..lean import jsontext, os
from . import EXIT_FAILED

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeAlias

    from ..kernel.wait import Until

    Times: TypeAlias = list[tuple[str, int]]  # (step, microseconds)
    Message: TypeAlias = tuple[str, Times | PycontainError]  # its kind and its content

PID_SIZE = 12  # bytes of each text with which a bare process is sent its pid
_DIGITS = 5  # of an errno that a bare process inserts into a message, as in kernel.bare.TAIL
_SHOWN = 100  # characters of a refused message that an error quotes
_LONGEST = 1 << 20  # bytes of a message: whoever can inspect a bare process can forge one


class Channel:
    """
    One end of a channel: a descriptor to read lines from and one to write lines to.

    steps  the eventfd that counts the child's steps, -1 for none
    until  what ends the wait for a message early; the child waits for its parent indefinitely
    """

    __slots__ = ("_pending", "reader", "steps", "until", "writer")

    def __init__(
        self, reader: int, writer: int, steps: int = -1, until: Until | None = None
    ) -> None:
        self.reader = reader
        self.writer = writer
        self.steps = steps
        self.until = until
        self._pending = b""

    @classmethod
    def pair(cls, until: Until | None = None) -> tuple[Channel, Channel]:
        """The parent's end, with this `until`, and the child's."""
        ours, theirs = cls.uncounted_pair(until)
        ours.steps = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        theirs.steps = os.dup(ours.steps)
        return ours, theirs

    @classmethod
    def uncounted_pair(cls, until: Until | None = None) -> tuple[Channel, Channel]:
        """The same for a child whose steps are not counted."""
        down, up = os.pipe2(os.O_CLOEXEC), os.pipe2(os.O_CLOEXEC)
        return cls(up[0], down[1], until=until), cls(down[0], up[1])

    @property
    def fds(self) -> set[int]:
        """Its descriptors."""
        return {self.reader, self.writer, self.steps} - {-1}

    def send(self, message: dict[str, object]) -> None:
        """Write one message. Raises BrokenPipeError when the other end is closed."""
        line = jsontext.dumps(message).encode() + b"\n"
        while line:
            line = line[os.write(self.writer, line) :]

    def receive(self) -> Message | None:
        """
        The next message, or None at the end of file.

        Raises StepError for a line that is not in the protocol, and what `until` raises.
        """
        while b"\n" not in self._pending:
            if self.until is not None:
                self.until.wait(self.reader)
            piece = os.read(self.reader, 65536)
            if not piece:
                return None
            self._pending += piece
            if len(self._pending) > _LONGEST:
                raise StepError("is longer than any message of the protocol", at="a line")
        line, _, self._pending = self._pending.partition(b"\n")
        try:
            return _message(line)
        except ValueError:
            text = line[:_SHOWN].decode(errors="replace")
            raise StepError("is not a message of the protocol", value=text) from None

    def close(self) -> None:
        """Close the descriptors; a second call does nothing."""
        close_owned(self, "reader", "writer", "steps")


# --- the child's side ----------------------------------------------------------------------------


def report_alive(channel: Channel) -> None:
    """Report that the child runs, since it can be killed before that (`launch.fork`)."""
    channel.send({"alive": True})


def await_turn(channel: Channel) -> None:
    """Wait for the child's turn; exit if the parent has exited."""
    if channel.receive() is None:
        os._exit(EXIT_FAILED)


def report_pid(channel: Channel, pid: int) -> None:
    """Report the pid of the child that this process has created (`launch.intermediate`)."""
    channel.send({"pid": pid})


def begin_step(channel: Channel) -> None:
    """Count a step as begun."""
    if channel.steps >= 0:
        os.eventfd_write(channel.steps, 1)


def report_done(channel: Channel, times: Times) -> None:
    """Report that the parent's turn has come, and how long each step took."""
    channel.send({"done": times})


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


def await_pid(channel: Channel) -> int:
    """The pid that an intermediate process reports; 0 if it ended before. Raises its error."""
    message = channel.receive()
    if message is None:
        return 0
    word, content = message
    if isinstance(content, PycontainError):
        raise content
    if word != "pid":
        raise StepError("is not a message of an intermediate process", value=word)
    [(_, pid)] = content
    return pid


def pass_turn(channel: Channel) -> None:
    """Tell the child that its turn has come. If it has died, the next message tells why."""
    try:
        channel.send({"go": True})
    except BrokenPipeError:
        pass


def steps_begun(channel: Channel) -> int:
    """How many steps the child has begun since the last call; 0 if they are not counted."""
    if channel.steps < 0:
        return 0
    try:
        return os.eventfd_read(channel.steps)
    except BlockingIOError:  # none
        return 0


def let_run(channel: Channel, pid: int) -> None:
    """Let a bare process continue, which has this pid inside; as `pass_turn`."""
    digits = str(pid).encode()
    text = digits.ljust(PID_SIZE, b"\0") + digits.ljust(PID_SIZE)
    try:
        os.write(channel.writer, text)
    except BrokenPipeError:
        pass


def await_child(channel: Channel) -> tuple[str, Times]:
    """
    The child's next message: ("done" | "exec" | "end", the times of its steps).

    Raises the child's error if it reports one, and StepError for what is not in the protocol.
    """
    message = channel.receive()
    if message is None:
        return "end", []
    word, content = message
    if isinstance(content, PycontainError):
        raise content
    if word not in ("done", "exec"):
        raise StepError("is not a message of a child", value=word)
    return word, content


# --- what both sides check -----------------------------------------------------------------------


def _message(line: bytes) -> Message:
    """The message in a line. Raises ValueError for any other text, since it can be forged."""
    record = jsontext.object_of(line)
    if "fault" in record:
        return "fault", _fault(record)
    [(word, content)] = record.items()
    if word in ("alive", "go") and content is True:
        return word, []
    if word in ("done", "exec") and jsontext.fits(content, [(str, int)]):
        assert isinstance(content, list)
        return word, [(name, spent) for name, spent in content]
    if word == "pid" and type(content) is int and content > 0:
        return word, [(word, content)]
    raise ValueError(f"there is no such {word}")


def _fault(message: dict[str, object]) -> PycontainError:
    """The error that a message reports. Raises ValueError if it is malformed."""
    record, text, cases = message["fault"], message.get("errno"), message.get("cases", {})
    if text is None:
        return from_record(record)
    if not (isinstance(text, str) and text.isdecimal() and len(text) <= _DIGITS):
        raise ValueError("is not an errno")
    if not (isinstance(record, dict) and isinstance(cases, dict)):
        raise ValueError("is not a fault")
    number, why = int(text), record.get("why", "")
    if str(number) in cases:
        return from_record(cases[str(number)])
    if "hook" in message:
        return from_record({**record, "why": _ending(number)})
    if not isinstance(why, str):
        raise ValueError("is not a fault")
    return from_record({**record, "why": why + reason(number), "errno": number})


def _ending(status: int) -> str:
    """How a program ended, from its wait status."""
    code = os.waitstatus_to_exitcode(status)
    return f"exited with status {code}" if code >= 0 else f"was killed by signal {-code}"
