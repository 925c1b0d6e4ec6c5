"""
A worker: a warm interpreter that creates containers for a Python program.

A program with threads must not fork: in the child, locks could be held by threads that do not exist
there. So the library starts this process, from a sealed interpreter, and sends it requests, one
after the other (`library.messages`).
"""

from __future__ import annotations

import _signal
import _socket
import sys

import prctl

from ..errors import KernelError, PycontainError, StateError, fault_of
from ..kernel import calls, net
from ..kernel import const as c
from ..kernel.descriptors import close_all, close_owned
from ..kernel.wait import Until
from ..launch import recover
from ..launch.bring_up import bring_up, bring_up_for_master
from ..launch.launch import Caller, ContainerLaunch
from ..lean import jsontext, os
from ..options import Options
from ..plan import steps
from ..plan.request import ExecRequest, Request
from ..runtime import exec as runtime_exec
from ..runtime.bundle import Bundle
from ..runtime.delete import delete, remove_unfinished
from ..runtime.prepare import prepare
from ..runtime.run import run_poststart
from .messages import REQUESTS, receive, send

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from ..launch.launch import Launch
    from ..state.record import State
    from .messages import Message

SOCKET = 3  # the descriptor that the library passes to us
_STREAMS = (0, 1, 2)
_SPECS_KEPT = 16


def name_of(pid: int) -> str:
    """
    The name of a worker, as ps(1) shows it, and of its children until they execute a program.

    PR_SET_NAME(2const) has room for 15 bytes.
    """
    return f"pycont-{pid}"


def serve() -> NoReturn:
    """Serve requests until the program closes its end."""
    socket = _prepare()
    _serve(socket, Server())


def recovered() -> NoReturn:
    """
    Continue serving after a child of vfork, which shared the worker's memory, was killed.

    The command line contains the worker's data (`Server._recovery`) and the child's pid.
    """
    socket = _prepare()
    text, *mine, pid = sys.argv[1:]
    kept = jsontext.loads(text)
    assert isinstance(kept, dict)
    _take_streams(kept["streams"])
    server = Server()
    for name, root, manager in zip(mine[::3], mine[1::3], mine[2::3], strict=True):
        server.mine[name] = Options(root=root, cgroup_manager=manager)
    options = Options(root=kept["root"], cgroup_manager=kept["cgroup_manager"])
    death = remove_unfinished(options, kept["id"], kept["created"], "was killed")
    _reply(socket, {"fault": death.fault.record(), "ended": [int(pid)], "warnings": []}, [])
    _serve(socket, server)


def _prepare() -> _socket.socket:
    prctl.set_name(name_of(os.getpid()))
    _signal.pthread_sigmask(_signal.SIG_BLOCK, c.ALL_SIGNALS)
    os.set_inheritable(SOCKET, False)
    return _socket.socket(fileno=SOCKET)


def _serve(socket: _socket.socket, server: Server) -> NoReturn:
    while True:
        try:
            request, fds = receive(socket, REQUESTS, len(_STREAMS) + 1)
        except ConnectionResetError:  # the program has ended with an answer unread
            request = None
        except StateError as error:
            _reply(socket, {"fault": fault_of(error).record(), "ended": [], "warnings": []}, [])
            continue
        if request is None:
            server.clean_up()
            os._exit(0)
        if request["verb"] in ("forget", "adopt"):
            server.update_containers(request)
            continue
        streams, mounts = fds[: len(_STREAMS)], fds[len(_STREAMS) :]
        with _Mounts(mounts), _Streams(streams) as ours:
            reply, made = server.answer(request, ours)
        _reply(socket, reply, made)
        close_all(made)
        server.create_network_ahead()


def _reply(socket: _socket.socket, reply: Message, fds: list[int]) -> None:
    try:
        send(socket, reply, fds)
    except BrokenPipeError:
        pass  # the next receive fails, too


class Server:
    """
    What is kept from one request to the next.

    mine     the containers created here and not forgotten yet: id -> where their state is
    bundles  (path, configuration) -> the bundle
    filters  the device filters of those bundles: verifying one takes longer than clone3
    network  a network namespace for the next container: creating one is most of clone3's time
    """

    def __init__(self) -> None:
        self.mine: dict[str, Options] = {}
        self.bundles: dict[tuple[str, str], Bundle] = {}
        self.filters: dict[bytes, int] = {}
        self.network = -1
        self.network_used = False
        self.warnings: list[str] = []

    def update_containers(self, message: Message) -> None:
        """Forget a container that was deleted, or take over one that another worker created."""
        name = str(message["id"])
        if message["verb"] == "forget":
            self.mine.pop(name, None)
        else:
            self.mine[name] = _options(message)

    def answer(self, request: Message, ours: list[int]) -> tuple[Message, list[int]]:
        """
        Serve a request; returns the reply and the descriptors for it.

        ours are the worker's own streams.
        """
        launch: Launch | None = None
        self.warnings = []
        try:
            launch = self._launch(request, ours)
            terminal = [bring_up_for_master(launch)] if request.get("tty") else []
            if not terminal:
                bring_up(launch)
            if isinstance(launch, ContainerLaunch):
                self._finish(launch, request)
            child = launch.child
            launch.release()
            state = launch.state.fields() if isinstance(launch, ContainerLaunch) else None
            reply: Message = {
                "pid": child.pid, "ended": launch.left_over, "times": launch.times, "state": state,
                "warnings": self.warnings,
            }  # fmt: skip
            return reply, [child.pidfd, *terminal]
        except Exception as error:  # of any kind: earlier containers still need this worker
            fault = fault_of(error).record()
            return {"fault": fault, "ended": _ended(launch), "warnings": self.warnings}, []

    def _launch(self, message: Message, ours: list[int]) -> Launch:
        """The requested launch."""
        options = _options(message).replace(warn=self.warnings.append)
        seconds = message["seconds"]
        assert seconds is None or isinstance(seconds, (int, float))
        caller = Caller(
            clone_flags=c.CLONE_PARENT,
            filters=self.filters,
            network=self.network,
            recovery=lambda options, state: self._recovery(options, state, ours),
            until=Until.after(seconds),
        )
        name = str(message["id"])
        if message["verb"] == "exec":
            return runtime_exec.prepare(options, _exec_request(name, message), caller)
        bundle = self._bundle(str(message["bundle"]), str(message["config"]), caller.until)
        new = Request(
            id=name,
            separate_start=message["verb"] == "create",
            isolation=str(message["isolation"]),
        )
        return prepare(options, bundle, new, caller)

    def _bundle(self, path: str, text: str, until: Until) -> Bundle:
        """A bundle; the last ones are cached, because parsing takes as long as running."""
        key = path, text or Bundle.read(path, until=until)
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

    def _finish(self, launch: ContainerLaunch, message: Message) -> None:
        """Finish a request after a container was created, or its program runs."""
        self.network_used = any(
            isinstance(step, steps.Spawn) and step.flags & c.CLONE_NEWNET
            for step in launch.turns[0].steps
        )
        if message["verb"] == "run":
            bundle = self._bundle(launch.state.bundle, launch.config, launch.caller.until)
            run_poststart(launch, bundle.spec)
        self.mine[launch.state.id] = _options(message)

    def _recovery(self, options: Options, state: State, ours: list[int]) -> recover.Recovery:
        """The command that calls `recovered` with what this worker must keep."""
        kept = {
            "id": state.id,
            "created": state.created,
            "root": options.root,
            "cgroup_manager": options.cgroup_manager,
            "streams": ours,
        }
        # separate arguments: one can be at most 128 KiB, execve(2)
        mine = [
            word
            for name, options in self.mine.items()
            for word in (name, options.root, options.cgroup_manager)
        ]
        command = recover.python(f"{__name__}:recovered", jsontext.dumps(kept), *mine)
        return recover.Recovery(command=command, inherited=(SOCKET, *ours))

    def create_network_ahead(self) -> None:
        """While idle, create a network namespace for the next container if the last one had one."""
        if not self.network_used:
            return
        self.network_used = False
        close_owned(self, "network")
        try:
            self.network = net.new_namespace()
        except KernelError:
            pass  # the next container creates its own, or reports the error

    def clean_up(self) -> None:
        """Delete what the program has left, after it has ended."""
        for name, options in self.mine.items():
            try:
                delete(options, name, force=True)
            except (PycontainError, OSError) as error:
                os.write(2, f"pycontain: {name}: {error}\n".encode())


def _exec_request(id: str, message: Message) -> ExecRequest:
    """The request for exec; tty is the size of the terminal."""
    args, env, size = message["args"], message["env"], message["tty"]
    assert isinstance(args, list)
    assert isinstance(env, list)
    assert isinstance(size, list)
    return ExecRequest(
        id=id,
        args=tuple(args),
        env=tuple(env),
        cwd=str(message["cwd"]),
        user=str(message["user"]),
        tty=bool(size),
        window=(size[0], size[1]) if size else (0, 0),
    )


def _options(message: Message) -> Options:
    """The options of a request, without a receiver of warnings."""
    names = ("root", "cgroup_manager", "cgroup_missing")
    return Options(**{name: str(message[name]) for name in names})  # type: ignore[arg-type]


def _ended(launch: Launch | None) -> list[int]:
    """The processes of a failed launch, for the program to reap."""
    return [] if launch is None else [*launch.left_over, *launch.pids]


def _without_terminal(bundle: Bundle) -> Bundle:
    """The bundle without a terminal: the library serves streams instead."""
    process = bundle.spec.process
    if process is not None and process.terminal:
        plain = process.replace(terminal=False, consoleSize=None)
        bundle.spec = bundle.spec.replace(process=plain)
    return bundle


class _Streams:
    """Replaces our standard streams by those of the next container."""

    def __init__(self, fds: list[int]) -> None:
        self.fds = fds

    def __enter__(self) -> list[int]:
        self.saved = [os.dup(stream) for stream in _STREAMS]
        _take_streams(self.fds)
        return self.saved

    def __exit__(self, *_: object) -> None:
        _take_streams(self.saved)


class _Mounts:
    """Enters the mount namespace that the program has sent, if any, and returns to our own."""

    def __init__(self, fds: list[int]) -> None:
        self.fds = fds
        self.own = -1
        self.directory = -1

    def __enter__(self) -> None:
        if not self.fds:
            return
        self.own = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self.directory = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        calls.setns(self.fds[0], c.CLONE_NEWNS)

    def __exit__(self, *_: object) -> None:
        if not self.fds:
            return
        calls.setns(self.own, c.CLONE_NEWNS)
        os.fchdir(self.directory)  # setns(2) has changed it
        for fd in (self.fds[0], self.own, self.directory):
            os.close(fd)


def _take_streams(streams: list[int]) -> None:
    """Make these the standard streams."""
    for fd, stream in zip(streams, _STREAMS, strict=True):
        os.dup2(fd, stream)
        os.close(fd)
