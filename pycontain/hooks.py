"""
Running a hook: the same on both sides. config.md, POSIX-platform Hooks.

The state is passed through a pipe that is filled before the hook runs, so a hook that does not read
blocks nobody. A file would be truncated by a limit on file sizes (RLIMIT_FSIZE). The hook's output
is read while it runs, and only its end is kept. A process that a hook leaves behind may keep the
output open: reading stops when the hook itself has ended.
"""

from __future__ import annotations

import _signal
import errno
import fcntl
import select
import time

from .errors import HookError
from .kernel import const as c
from .kernel.descriptors import close_all, close_owned
from .kernel.wait import FOREVER
from .lean import jsontext, os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .kernel.wait import Until
    from .spec.records import Hook

# All but the two that cannot be ignored.
_SIGNALS = c.ALL_SIGNALS - {_signal.SIGKILL, _signal.SIGSTOP}
_PIPE = 65536  # bytes that a pipe takes at first: pipe(7)
# Annotations of crun: the files that hooks on the host write to.
_FILES = ("run.oci.hooks.stdout", "run.oci.hooks.stderr")
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
_TAIL = 2000  # bytes of the hook's output, for the error


def run_all(
    hooks: tuple[Hook, ...],
    kind: str,
    state: Mapping[str, object],
    directory: str = "",
    failed: Callable[[HookError], None] | None = None,
    until: Until = FOREVER,
) -> None:
    """
    Run the hooks of a kind, in order.

    If a hook fails, `failed` is called and the others still run; without `failed`, HookError is
    raised. The beginning of the error's text is runc's. Raises Timeout and Interrupted when `until`
    does; the hook is then killed.
    """
    for number, hook in enumerate(hooks):
        try:
            run_hook(hook, state, directory, until)
        except HookError as error:
            error.fault.call = f"error running {kind} hook #{number}"
            if failed is None:
                raise
            failed(error)


def run_hook(
    hook: Hook, state: Mapping[str, object], directory: str = "", until: Until = FOREVER
) -> None:
    """
    Run one hook to its end, with the state on its standard input.

    directory is its working directory, if given: the bundle, for hooks on the host, as in runc.
    Those inherit none of our caller's descriptors; hooks in the container inherit the descriptors
    that the first process preserves for its program.

    Raises HookError with its path, how and when it ended and the tail of its output, if it cannot
    be started, exits with a status other than 0 or runs longer than its timeout (seconds), and if
    the state does not fit into a pipe.
    """
    try:
        stdin, writer = filled_pipe(jsontext.dumps(state).encode())
        os.close(writer)
    except OSError as error:
        raise HookError(
            f"cannot be given the state: {os.strerror(error.errno or 0).lower()}",
            at=hook.path,
            remedy="shorten the annotations, or raise /proc/sys/fs/pipe-max-size",
        ) from None
    output = _Output()
    files: list[int] = []
    try:
        files += _output_files(state, directory)
        out, err = (fd if fd >= 0 else output.writer for fd in files)
        pid, began = _spawn(hook, (stdin, out, err), directory), time.monotonic()
        ended = _wait(pid, output, hook.timeout, until)
        if ended != 0:
            how = _ending(ended, hook, time.monotonic() - began)
            raise HookError(f"{how}{output.text()}", at=hook.path)
    finally:
        close_all((stdin, *files))
        output.close()


class _Output:
    """The pipe that a hook writes to; the last bytes that were read from it are kept."""

    __slots__ = ("reader", "tail", "writer")

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self.reader, False)
        self.tail = b""

    def read(self) -> None:
        """Read what is available, at most a full pipe: a daemon may write without end."""
        try:
            self.tail = (self.tail + os.read(self.reader, _PIPE))[-_TAIL:]
        except BlockingIOError:
            pass

    def text(self) -> str:
        """What was kept, for an error, on one line."""
        text = self.tail.decode(errors="replace").strip()
        return ": " + " | ".join(text.splitlines()) if text else ""

    def close(self) -> None:
        """Close both ends."""
        close_owned(self, "reader", "writer")


def filled_pipe(content: bytes, more: int = 0) -> tuple[int, int]:
    """
    (read end, write end) of a pipe with this content and room for `more` bytes.

    Its write end is non-blocking. Raises OSError.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    try:
        os.set_blocking(writer, False)
        rest = content[os.write(writer, content) :]  # no SIGPIPE: the read end is open
        if rest or len(content) + more > _PIPE:
            fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, len(content) + more)
            rest = rest[os.write(writer, rest) :]
        if rest:
            raise BlockingIOError(errno.EAGAIN, "")
    except OSError:
        os.close(reader)
        os.close(writer)
        raise
    return reader, writer


def _output_files(state: Mapping[str, object], directory: str) -> list[int]:
    """
    Files for standard output and error of a hook on the host; -1 for the pipe that is read here.

    As with crun, annotations name the files, which are appended to. Raises HookError.
    """
    annotations = state.get("annotations")
    if not (directory and isinstance(annotations, dict)):
        return [-1, -1]
    fds: list[int] = []
    for key in _FILES:
        path = annotations.get(key)
        try:
            fds.append(os.open(os.path.join(directory, path), _APPEND, 0o600) if path else -1)
        except OSError as error:
            close_all(fds)
            why = f"cannot be opened: {os.strerror(error.errno or 0).lower()}"
            raise HookError(why, at=f"annotations[{key}] = {path}") from None
    return fds


def _spawn(hook: Hook, streams: tuple[int, int, int], directory: str) -> int:
    """
    Start a hook, in a process group of its own, so that its children can be killed with it.

    It ignores no signals, even if we or our caller do.
    """
    try:
        return (
            _spawn_on_host(hook, streams, directory) if directory else _spawn_inside(hook, streams)
        )
    except OSError as error:
        why = "does not exist" if error.errno == errno.ENOENT else os.strerror(error.errno or 0)
        raise HookError(f"cannot be executed: {why.lower()}", at=hook.path) from None


def _spawn_on_host(hook: Hook, streams: tuple[int, int, int], directory: str) -> int:
    """
    The hook is killed with us: PR_SET_PDEATHSIG, which posix_spawn(3) cannot set.

    Another command then deletes the container and runs its poststop hooks, which must not happen
    while this one runs. The thread that starts it waits for it, so the signal cannot come too
    early.
    """
    from .kernel import _vfork  # late: most hooks in the container need no C

    inherited = tuple(b"%b=%b" % each for each in os.environ.items())
    env = tuple(os.fsencode(entry) for entry in hook.env if "=" in entry) or inherited
    words = tuple(os.fsencode(word) for word in hook.args or (hook.path,))
    cwd = directory if os.path.isdir(directory) else "."
    fd = os.open(cwd, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _vfork.start(os.fsencode(hook.path), words, env, streams, fd)
    finally:
        os.close(fd)


def _spawn_inside(hook: Hook, streams: tuple[int, int, int]) -> int:
    """A hook in the container ends with it; a loaded filter may forbid prctl(2)."""
    env = (
        dict(entry.split("=", 1) for entry in hook.env if "=" in entry) if hook.env else os.environ
    )
    return os.posix_spawn(
        hook.path,
        hook.args or (hook.path,),
        env,
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, n) for n, fd in enumerate(streams)],
        setsigmask=(),
        setsigdef=_SIGNALS,
        setpgroup=0,
    )


_TIMED_OUT = -1


def _wait(pid: int, output: _Output, timeout: int | None, until: Until) -> int:
    """The wait status of a hook, or _TIMED_OUT if it had to be killed."""
    end = None if timeout is None else time.monotonic() + timeout
    pidfd = -1
    ended = False
    try:
        pidfd = os.pidfd_open(pid)
        with select.epoll() as events:  # one descriptor that is ready when either is
            events.register(pidfd, select.EPOLLIN)
            events.register(output.reader, select.EPOLLIN)
            while not ended:
                left = None if end is None else max(end - time.monotonic(), 0.0)
                if not until.wait(events.fileno(), left):
                    break
                ended = any(fd == pidfd for fd, _ in events.poll(0))
                output.read()
    finally:
        if pidfd >= 0:
            os.close(pidfd)
        if not ended:  # not reaped yet, so the pid cannot have been reused
            os.killpg(pid, _signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
    return status if ended else _TIMED_OUT


def _ending(status: int, hook: Hook, spent: float) -> str:
    """How a hook ended; spent is in seconds."""
    if status == _TIMED_OUT:
        return f"ran longer than its timeout of {hook.timeout} s"
    code = os.waitstatus_to_exitcode(status)
    how = f"exited with status {code}"
    if code < 0:
        how = f"was killed by signal {-code} ({(_signal.strsignal(-code) or '?').lower()})"
    return f"{how} after {spent * 1000:.0f} ms"
