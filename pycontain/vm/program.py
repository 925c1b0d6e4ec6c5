"""Runs a Linux program in a virtual machine: memory, processor, files."""

from __future__ import annotations

import os

from ..errors import GuestError, KernelError, ProgramError, UsageError
from ..lean.record import Record
from . import loader
from .deadline import Deadline
from .frames import Frames, OutOfFrames
from .linux import execute, family
from .linux.files import Files
from .linux.pids import Pids
from .linux.task import Process, Task
from .memory import Memory
from .owned import Owned
from .serve import Serve
from .space import LOWEST, MapError, Space
from .strace import Strace
from .trace import Stats, clock
from .view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .cpu import Cpu
    from .devices.serial import Sink
    from .linux.ending import ProgramEnding
    from .view import Volume

MIB = 1 << 20
MEMORY = 256 * MIB
_ARGUMENTS_MAX = 128 << 10


class World(Record):
    """
    What a program is given.

    root    a directory of this host that is its `/`, read-only; "" for the program alone
    volumes  files of this host that it finds at other paths
    cwd     its working directory, as it sees it
    stdin, stdout, stderr  descriptors, or functions that take what is written
    memory  bytes of guest physical memory, page tables and window included
    """

    root: str = ""
    volumes: tuple[Volume, ...] = ()
    cwd: str = "/"
    stdin: int = 0
    stdout: int | Sink = 1
    stderr: int | Sink = 2
    memory: int = MEMORY


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
    with Deadline(timeout, "the program") as deadline, Owned() as owned:
        task = _prepare(arguments, world, deadline, engine, owned, traced=bool(trace))
        _start(task, arguments, environment, world)
        process = task.process
        try:
            Serve(task, stats, Strace(trace) if trace else None).run()
        finally:
            family.end_all(process)
            process.files.close_all()
        process.files.finish_pumps()
    assert process.ending
    return ProgramResult(
        engine=engine, ending=process.ending, unserved=process.unserved,
        seconds=clock() - began, stats=stats,
    )  # fmt: skip


def _prepare(
    arguments: Sequence[str], world: World, deadline: Deadline, engine: str, owned: Owned,
    *, traced: bool,
) -> Task:  # fmt: skip
    """Everything that the program needs, before it is loaded."""
    view = owned.keep(View(world.root, world.volumes))
    file = owned.keep_fd(view.open_program(arguments[0], world.cwd))
    machine = _machine(file, arguments[0])
    memory = owned.keep(Memory(world.memory))
    frames = Frames(LOWEST, memory.size)
    files = Files(os.fsencode(world.cwd))
    owned.defer(files.close_all)
    try:
        cpu = owned.keep(_cpu(engine, machine, memory, frames, deadline))
        if not traced:  # a trace shows every read
            files.window = cpu.window()
    except (OutOfFrames, MapError):
        raise _too_small(world) from None
    pids = owned.keep(Pids())
    process = Process(machine, Space(memory, frames, cpu.tables), files, view, pids, deadline)
    process.memory = world.memory
    owned.defer(process.bell.close)
    owned.defer(process.timers.close)
    for stream in (world.stdin, world.stdout, world.stderr):
        files.add_stream(stream)
    return Task(process, cpu)


def _too_small(world: World) -> GuestError:
    return GuestError(
        "is too small for the program", at="memory", value=f"{world.memory // MIB} MiB",
        remedy="raise --mem",
    )  # fmt: skip


def _machine(file: int, name: str) -> str:
    """What the first program is for; a script's interpreter is for this host."""
    return os.uname().machine if os.pread(file, 2, 0) == b"#!" else loader.read(file, name).machine


def _start(task: Task, arguments: Sequence[str], environment: Sequence[str], world: World) -> None:
    """Load the first program. Raises GuestError, ProgramError."""
    name = os.fsencode(arguments[0])
    where = name if name.startswith(b"/") else task.files.cwd + b"/" + name
    texts = tuple(map(os.fsencode, arguments))
    try:
        image = execute.look(task, where, texts)
    except (OSError, KernelError) as error:
        raise ProgramError(
            f"cannot start: {os.strerror(error.errno or 0).lower()}", at=arguments[0],
            errno=error.errno or 0,
        ) from None  # fmt: skip
    try:
        execute.begin(task, image, tuple(map(os.fsencode, environment)), name)
    except MapError:
        raise _too_small(world) from None
    finally:
        image.close()


def _cpu(engine: str, machine: str, memory: Memory, frames: Frames, deadline: Deadline) -> Cpu:
    if engine == "kvm":
        if machine != os.uname().machine:
            raise GuestError(
                f"the program is for {machine}, but KVM runs only {os.uname().machine}",
                remedy="use --engine emulate",
            )  # fmt: skip
        from .cpu_kvm import KvmCpu

        return KvmCpu(memory, frames, deadline)
    if engine == "emulate":
        from .cpu_unicorn import UnicornCpu

        return UnicornCpu(memory, machine, deadline)
    raise UsageError("is not kvm or emulate", at="engine", value=engine)
