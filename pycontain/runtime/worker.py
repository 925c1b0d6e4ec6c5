"""
A warm interpreter that makes containers for a Python program.

A program with threads must not fork: the child would find locks held by threads that do not exist
there. So the library (`pycontain.library`) starts this process once, from a sealed interpreter, and
sends it one request after the other over a socket, with the standard streams as descriptors:

    library                                          worker
    {"verb": "run", "id": …, "bundle": …}   ->
      + stdin, stdout, stderr
                                            <-       {"pid": …, "times": […], "state": {…},
                                                      "ended": […]}
                                                       + a pidfd; exec has no state to tell
                                            <-       {"fault": {…}, "ended": […]}
    {"verb": "forget", "id": …}             ->       (no answer)
    (end of file)                           ->       deletes what it made and was not told to forget

Containers are made as children of the program, not of the worker (CLONE_PARENT), so the program
can wait for them, and has to: those in "ended" are its first to reap.
"""

from __future__ import annotations

import _signal
import _socket
import sys

import prctl

from .. import jsontext, os
from ..errors import KernelError, PycontainError, fault_of
from ..kernel import const as c
from ..kernel import net
from ..plan import steps
from ..plan.plan import Request
from . import poststart, rescue
from .bundle import Bundle
from .create import prepare
from .delete import delete
from .exec import prepare as prepare_exec
from .life import ALL_SIGNALS, Life
from .options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    Message = dict[str, object]

SOCKET = 3  # the descriptor that the library leaves for us
MESSAGE_LIMIT = 1 << 24  # bytes of a request, which may carry a whole config.json
_STREAMS = (0, 1, 2)
_SPECS_KEPT = 16


def serve() -> NoReturn:
    """Serve requests until the library closes its end."""
    socket = _prepare()
    _serve(socket, _Worker())


def revive() -> NoReturn:
    """
    Go on serving after the death of a child that had borrowed the memory of this worker.

    The command line holds what is worth knowing of it (`_Worker._rescue`), and the child's pid.
    """
    socket = _prepare()
    text, *mine, pid = sys.argv[1:]
    told = jsontext.loads(text)
    assert isinstance(told, dict)
    _take_streams(told["streams"])
    worker = _Worker()
    for name, root, manager in zip(mine[::3], mine[1::3], mine[2::3], strict=True):
        worker.mine[name] = Options(root=root, cgroup_manager=manager)
    options = Options(root=told["root"], cgroup_manager=told["cgroup_manager"])
    death = rescue.remove(options, told["id"], told["created"], "was killed")
    _reply(socket, {"fault": death.fault.record(), "ended": [int(pid)]}, [])
    _serve(socket, worker)


def _prepare() -> _socket.socket:
    prctl.set_name("pycontain")
    _signal.pthread_sigmask(_signal.SIG_BLOCK, ALL_SIGNALS)
    os.set_inheritable(SOCKET, False)
    return _socket.socket(fileno=SOCKET)


def _serve(socket: _socket.socket, worker: _Worker) -> NoReturn:
    while True:
        try:
            request, fds = receive(socket, len(_STREAMS))
        except ConnectionResetError:  # the library has ended with an answer unread
            request = None
        if request is None:
            worker.clean_up()
            os._exit(0)
        if request["verb"] == "forget":
            worker.mine.pop(str(request["id"]), None)
            continue
        with _Streams(fds) as ours:
            reply, pidfd = worker.answer(request, ours)
        _reply(socket, reply, [] if pidfd < 0 else [pidfd])
        if pidfd >= 0:
            os.close(pidfd)
        worker.look_ahead()


def _reply(socket: _socket.socket, reply: Message, fds: list[int]) -> None:
    try:
        send(socket, reply, fds)
    except BrokenPipeError:
        pass  # the next receive says the same


class _Worker:
    """
    What is kept from one request to the next.

    mine     the containers made here and not forgotten yet, and where their state is
    bundles  (path, configuration) -> what was read
    filters  the device filters of those bundles: the verifier takes longer than clone3
    network  a new network namespace for the next container: making one takes most of clone3's time
    """

    def __init__(self) -> None:
        self.mine: dict[str, Options] = {}
        self.bundles: dict[tuple[str, str], Bundle] = {}
        self.filters: dict[bytes, int] = {}
        self.network = -1
        self.network_used = False

    def answer(self, request: Message, ours: list[int]) -> tuple[Message, int]:
        """Do what is asked; the reply, and a pidfd or -1. ours are the worker's own streams."""
        life: Life | None = None
        try:
            life = self._prepare(request)
            life.clone_flags = c.CLONE_PARENT
            life.filters = self.filters
            life.rescue = self._rescue(life, ours)
            self._lend_network(life)
            life.bring_up()
            if request["verb"] == "run":
                self._started(life, request)
            if request["verb"] != "exec":
                self.mine[life.directory.id] = life.options
            child = life.child
            assert child is not None
            life.release()
            reply = {
                "pid": child.pid,
                "ended": life.left_over,
                "times": life.times,
                "state": life.state and life.state.fields(),
            }
            return reply, child.pidfd
        except Exception as error:  # whatever it is, the containers made before need this worker
            return {"fault": fault_of(error).record(), "ended": _ended(life)}, -1

    def _prepare(self, request: Message) -> Life:
        options = Options(root=str(request["root"]), cgroup_manager=str(request["cgroup_manager"]))
        name = str(request["id"])
        if request["verb"] == "exec":
            args, env = request["args"], request["env"]
            assert isinstance(args, list)
            assert isinstance(env, list)
            return prepare_exec(options, name, tuple(args), env=tuple(env), cwd=str(request["cwd"]))
        bundle = self._bundle(str(request["bundle"]), str(request["config"]))
        asked = Request(
            id=name,
            bundle=bundle.path,
            separate_start=request["verb"] == "create",
            cgroup=options.cgroup_manager != "disabled",
            takes_files=False,
        )
        return prepare(options, bundle, asked)

    def _bundle(self, path: str, text: str) -> Bundle:
        """A bundle; the last ones are kept, because parsing takes as long as running."""
        key = path, text or Bundle.read(path)
        if key not in self.bundles:
            if len(self.bundles) >= _SPECS_KEPT:
                self.bundles.clear()
                self._forget_filters()
            self.bundles[key] = _without_terminal(Bundle(path, text=key[1]))
        return self.bundles[key]

    def _forget_filters(self) -> None:
        for program in self.filters.values():
            os.close(program)
        self.filters.clear()

    def _started(self, life: Life, request: Message) -> None:
        try:
            spec = self._bundle(str(request["bundle"]), str(request["config"])).spec
            life.directory.unlock()  # a hook may use the container
            poststart.run(spec, life.known)
        except BaseException:
            life.undo(hooks_ran=True)
            raise

    def _rescue(self, life: Life, ours: list[int]) -> rescue.Rescue | None:
        """`revive` with what this worker knows; a child of exec borrows no memory."""
        if life.state is None:
            return None
        told = {
            "id": life.state.id,
            "created": life.state.created,
            "root": life.options.root,
            "cgroup_manager": life.options.cgroup_manager,
            "streams": ours,
        }
        # words of their own: one word can be 128 KiB, execve(2)
        mine = [
            word
            for name, options in self.mine.items()
            for word in (name, options.root, options.cgroup_manager)
        ]
        command = rescue.python(f"{__name__}:revive", jsontext.dumps(told), *mine)
        return rescue.Rescue(command=command, heirs=(SOCKET, *ours))

    def _lend_network(self, life: Life) -> None:
        self.network_used = any(
            isinstance(step, steps.Spawn) and step.flags & c.CLONE_NEWNET for step in life.plan
        )
        if self.network_used:
            life.network = self.network

    def look_ahead(self) -> None:
        """While nobody waits: if the last container had a network namespace, so will the next."""
        if not self.network_used:
            return
        self.network_used = False
        if self.network >= 0:
            os.close(self.network)
        try:
            self.network = net.new_namespace()
        except KernelError:
            self.network = -1  # the next container makes its own, or says why it cannot

    def clean_up(self) -> None:
        """The program is gone: so is what it left."""
        for name, options in self.mine.items():
            try:
                delete(options, name, force=True)
            except (PycontainError, OSError) as error:
                os.write(2, f"pycontain: {name}: {error}\n".encode())


def _ended(life: Life | None) -> list[int]:
    """The processes of a life that failed."""
    if life is None:
        return []
    return [*life.left_over, *([life.child.pid] if life.child is not None else [])]


def _without_terminal(bundle: Bundle) -> Bundle:
    """The bundle with streams instead of a terminal, which nobody here would serve."""
    process = bundle.spec.process
    if process is not None and process.terminal:
        bundle.spec = bundle.spec.but(process=process.but(terminal=False, consoleSize=None))
    return bundle


class _Streams:
    """The standard streams of the next container, in the place of ours."""

    def __init__(self, fds: list[int]) -> None:
        self.fds = fds

    def __enter__(self) -> list[int]:
        self.saved = [os.dup(stream) for stream in _STREAMS]
        _take_streams(self.fds)
        return self.saved

    def __exit__(self, *_: object) -> None:
        _take_streams(self.saved)


def _take_streams(streams: list[int]) -> None:
    """Make these the standard streams."""
    for fd, stream in zip(streams, _STREAMS, strict=True):
        os.dup2(fd, stream)
        os.close(fd)


# --- messages, for both ends -------------------------------------------------------------------


def send(socket: _socket.socket, message: Message, fds: list[int]) -> None:
    """Send a message and descriptors: four bytes of length, then JSON."""
    data = jsontext.dumps(message).encode()
    data = len(data).to_bytes(4, "little") + data
    packed = b"".join(fd.to_bytes(4, sys.byteorder) for fd in fds)
    rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, packed)] if fds else []
    sent = socket.sendmsg([data], rights)  # at once: the other end wakes up when it has all
    if sent < len(data):
        socket.sendall(data[sent:])


def receive(socket: _socket.socket, limit: int) -> tuple[Message | None, list[int]]:
    """The next message and up to `limit` descriptors; None at the end of file."""
    space = _socket.CMSG_SPACE(4 * limit)
    head, ancillary, _, _ = socket.recvmsg(4, space, _socket.MSG_CMSG_CLOEXEC | _socket.MSG_WAITALL)
    if len(head) < 4:
        return None, []
    fds = [
        int.from_bytes(data[at : at + 4], sys.byteorder)
        for _, _, data in ancillary
        for at in range(0, len(data), 4)
    ]
    length = int.from_bytes(head, "little")
    data = socket.recv(length, _socket.MSG_WAITALL) if length <= MESSAGE_LIMIT else b""
    message = jsontext.loads(data.decode())
    assert isinstance(message, dict)
    return message, fds
