"""Runs a Linux program in a virtual machine: memory, processor, files."""

from __future__ import annotations

import os

from .. import errors
from ..errors import GuestError, KernelError, ProgramError, Timeout, UsageError
from ..lean import jsontext
from ..lean.record import Record
from . import jail, loader, monitor
from .deadline import Deadline
from .frames import Frames, OutOfFrames
from .linux import execute, family
from .linux.ending import ProgramEnding
from .linux.files import Files
from .linux.pids import Pids
from .linux.task import Process, Task, User
from .memory import Memory
from .network import enter_network
from .owned import Owned
from .serve import Serve
from .space import LOWEST, MapError, Space
from .trace import Stats, clock
from .view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from .cpu import Cpu
    from .devices.serial import Sink
    from .kvm import Kvm
    from .view import Volume

MIB = 1 << 20
MEMORY = 256 * MIB
_ARGUMENTS_MAX = 128 << 10
_REPORT = {
    "stats": object, "unserved": {str: int}, "ending": {"status": int, "signal": int, "fault": str}
}  # fmt: skip


class World(Record):
    """
    What a program is given.

    root    a directory of this host that is its `/`; "" for the program alone
    writable  whether the program can write to it
    volumes  files of this host that it finds at other paths
    cwd     its working directory, as it sees it
    stdin, stdout, stderr  descriptors, or functions that take what is written
    streams_as_opened  each stream is used in the directions that it is open for, not in one alone
    network "none", "loopback" (a network of its own, which leads nowhere), or "host"
    memory  bytes of guest physical memory, page tables and window included
    user    who it is
    """

    root: str = ""
    writable: bool = False
    volumes: tuple[Volume, ...] = ()
    cwd: str = "/"
    stdin: int = 0
    stdout: int | Sink = 1
    stderr: int | Sink = 2
    streams_as_opened: bool = False
    network: str = "none"
    memory: int = MEMORY
    user: User = User()


class ProgramResult(Record):
    """
    How a program ended, and what it cost.

    unserved  system calls that were answered with ENOSYS -> how often
    seconds   from before the first file was opened to the end
    """

    engine: str
    ending: ProgramEnding
    unserved: Mapping[str, int]
    seconds: float
    stats: Stats


def run_program(
    arguments: Sequence[str],
    environment: Sequence[str] = (),
    world: World | None = None,
    *,
    timeout: float | None = None,
    engine: str = "kvm",
    trace: Callable[[str], object] | None = None,
    stats: Stats | None = None,
) -> ProgramResult:
    """
    Run a Linux program; arguments[0] is its path in the root or a volume, or on this host.

    A program that is killed by a signal is a result, not an error. Processes that it leaves behind
    are killed. trace gets a line for each system call.

    Raises GuestError for a file that cannot be run or insufficient memory, Timeout after `timeout`
    seconds, UsageError for invalid arguments, HostError for what the host does not provide.
    """
    if not arguments:
        raise UsageError("is missing", at="program")
    if sum(len(os.fsencode(text)) + 1 for text in (*arguments, *environment)) > _ARGUMENTS_MAX:
        raise UsageError("are longer than 128 KiB in total", at="arguments and environment")
    world = world or World()
    began = clock()
    stats = stats or Stats()
    deadline = Deadline(timeout, "the program")
    load(engine)  # loaded here, so that each run of a library does not do it again
    outputs = [out for out in (world.stdout, world.stderr) if not isinstance(out, int)]
    takers: list[Callable[[bytes], object]] = list({id(out): out for out in outputs}.values())
    if trace:
        takers.append(_Lines(trace).take)

    def body(pipes: list[int], report: dict[str, object]) -> None:
        given = {id(taker): pipe for taker, pipe in zip(takers, pipes, strict=True)}
        streams = {
            name: given.get(id(getattr(world, name)), getattr(world, name))
            for name in ("stdout", "stderr")
        }
        inside = world.replace(**streams)
        write = _writes_lines(pipes[-1]) if trace else None
        _monitor(arguments, environment, inside, deadline, engine, write, report)

    keep = {fd for fd in (world.stdin, world.stdout, world.stderr) if isinstance(fd, int)}
    try:
        report: Any = monitor.run(body, takers, keep, deadline.left())
    except Timeout:  # the monitor was killed, which is no other end than its own report of it
        deadline.check()
        raise
    _check(report, stats)
    return ProgramResult(
        engine=engine, ending=ProgramEnding(**report["ending"]), unserved=report["unserved"],
        seconds=clock() - began, stats=stats,
    )  # fmt: skip


def _check(report: Any, stats: Stats) -> None:
    """Raises the error in a monitor's report, and GuestError for one that may be forged."""
    try:
        stats.load(report.get("stats"))
        if "error" in report:
            raise errors.from_record(report["error"])
        if not jsontext.fits(report, _REPORT):
            raise ValueError("is not a report")
    except (KeyError, TypeError, ValueError):
        raise GuestError("is not understood", at="the report of the program's monitor") from None


def _monitor(
    arguments: Sequence[str], environment: Sequence[str], world: World, deadline: Deadline,
    engine: str, trace: Callable[[str], object] | None, report: dict[str, object],
) -> None:  # fmt: skip
    """Serve the program, in a process of its own."""
    stats = Stats()
    with deadline, Owned() as owned:
        task = prepare(arguments[0], world, deadline, engine, owned, traced=bool(trace))
        start(task, arguments, environment, world)
        process = task.process
        serve = Serve(task, stats, trace)
        jail.close(process.view, network=process.network)
        try:
            serve.run()
        finally:
            family.end_all(process)
            process.files.close_all()
            report["stats"] = stats.dump()
    assert process.ending
    report["ending"] = process.ending.fields()
    report["unserved"] = process.unserved


class _Lines:
    """Gives a function whole lines of what comes in pieces."""

    def __init__(self, write: Callable[[str], object]) -> None:
        self._write = write
        self._rest = b""

    def take(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._write(line.decode(errors="replace") + "\n")


def _writes_lines(fd: int) -> Callable[[str], object]:
    return lambda text: os.write(fd, text.encode())


def prepare(
    name: str, world: World, deadline: Deadline, engine: str, owned: Owned,
    *, traced: bool = False, kvm: Kvm | None = None,
) -> Task:  # fmt: skip
    """
    Everything that the program with this name needs, before it is loaded.

    kvm is /dev/kvm if that is open already. Raises what run_program() does.
    """
    enter_network(world.network)
    shared = 0 if world.writable else world.memory // 2
    view = owned.keep(
        View(world.root, world.volumes, writable=world.writable, shared_memory=shared)
    )
    file = owned.keep_fd(view.open_program(name, world.cwd))
    machine = _machine(file, name)
    memory = owned.keep(Memory(world.memory))
    frames = Frames(LOWEST, memory.size)
    files = Files(os.fsencode(world.cwd))
    owned.defer(files.close_all)
    try:
        cpu = owned.keep(_cpu(engine, machine, memory, frames, deadline, kvm))
        if not traced:  # a trace shows every read
            files.window = cpu.window()
    except (OutOfFrames, MapError):
        raise _too_small(world) from None
    pids = owned.keep(Pids())
    process = Process(machine, Space(memory, frames, cpu.tables), files, view, pids, deadline)
    process.memory = world.memory
    process.user = world.user
    process.network = world.network != "none"
    process.cpus = len(os.sched_getaffinity(0)) if engine == "kvm" else 1
    owned.defer(process.bell.close)
    owned.defer(process.timers.close)
    for stream in (world.stdin, world.stdout, world.stderr):
        assert isinstance(stream, int)
        files.add_stream(stream, as_opened=world.streams_as_opened)
    task = Task(process, cpu, pids.own)
    process.quick = not traced
    process.show_self(cpu)
    return task


def _too_small(world: World) -> GuestError:
    return GuestError(
        "is too small for the program", at="memory", value=f"{world.memory // MIB} MiB",
        remedy="raise --mem",
    )  # fmt: skip


def _machine(file: int, name: str) -> str:
    """What the first program is for; a script's interpreter is for this host."""
    return os.uname().machine if os.pread(file, 2, 0) == b"#!" else loader.read(file, name).machine


def start(
    task: Task, arguments: Sequence[str], environment: Sequence[str], world: World, path: str = ""
) -> None:
    """
    Load the first program; path is its file if that is not arguments[0].

    Raises GuestError, ProgramError.
    """
    name = os.fsencode(path or arguments[0])
    where = name if name.startswith(b"/") else task.files.cwd + b"/" + name
    texts = tuple(map(os.fsencode, arguments))
    try:
        image = execute.look(task, where, texts)
    except (OSError, KernelError) as error:
        raise ProgramError(
            f"cannot start: {os.strerror(error.errno or 0).lower()}", at=path or arguments[0],
            errno=error.errno or 0,
        ) from None  # fmt: skip
    try:
        execute.begin(task, image, tuple(map(os.fsencode, environment)), name)
    except MapError:
        raise _too_small(world) from None
    finally:
        image.close()


def _cpu(
    engine: str, machine: str, memory: Memory, frames: Frames, deadline: Deadline, kvm: Kvm | None
) -> Cpu:
    made = load(engine)
    if engine == "kvm":
        if machine != os.uname().machine:
            raise GuestError(
                f"the program is for {machine}, but KVM runs only {os.uname().machine}",
                remedy="use --engine emulate",
            )  # fmt: skip
        return made.KvmCpu(memory, frames, deadline, kvm)  # type: ignore[no-any-return]
    return made.UnicornCpu(memory, machine, deadline)  # type: ignore[no-any-return]


def load(engine: str) -> Any:
    """The module of an engine. Raises UsageError, and HostError for one that is not installed."""
    if engine == "kvm":
        from . import cpu_kvm

        return cpu_kvm
    if engine == "emulate":
        import threading  # noqa: F401  # for the engine, which finds it loaded in the jail

        from . import cpu_unicorn

        return cpu_unicorn
    raise UsageError("is not kvm or emulate", at="engine", value=engine)
