"""Runs a static ELF program in a virtual machine: address space, stack, personality, engine."""

from __future__ import annotations

import os
import struct

from ..errors import GuestError, UsageError
from ..lean.record import Record
from . import loader
from .deadline import Deadline
from .frames import Frames, OutOfFrames, pages
from .linux.ending import ProgramEnding
from .linux.files import Files
from .linux.linux import Linux
from .memory import PAGE, Memory
from .owned import Owned
from .paging import READ, WRITE
from .space import HIGHEST, LOWEST, MapError, Space
from .trace import Stats, clock
from .view import View

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from .devices.serial import Sink
    from .program_kvm import KvmProgram
    from .program_unicorn import UnicornProgram
    from .trace import Trace
    from .view import Volume

    Runner = KvmProgram | UnicornProgram

MIB = 1 << 20
MEMORY = 256 * MIB
_STACK = 8 * MIB
_ARGUMENTS_MAX = 128 << 10

# the auxiliary vector: getauxval(3)
_AT_PHDR, _AT_PHENT, _AT_PHNUM, _AT_PAGESZ, _AT_ENTRY = 3, 4, 5, 6, 9
_AT_UID, _AT_EUID, _AT_GID, _AT_EGID, _AT_HWCAP, _AT_CLKTCK = 11, 12, 13, 14, 16, 17
_AT_SECURE, _AT_RANDOM, _AT_EXECFN = 23, 25, 31
_HWCAP = {"x86_64": 0, "aarch64": 3}  # aarch64: floating point and SIMD; x86 uses CPUID
_PROGRAM_HEADER_SIZE = 56


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
    trace: Trace | None = None,
    stats: Stats | None = None,
) -> ProgramResult:
    """
    Run a static ELF program; arguments[0] is its path in the root or a volume, or on this host.

    A program that is killed by a signal is a result, not an error.

    Raises GuestError for a file that cannot be run or insufficient memory, Timeout after `timeout`
    seconds, UsageError for invalid arguments, HostError for what the host does not provide.
    """
    if not arguments:
        raise UsageError("is missing", at="program")
    world = world or World()
    began = clock()
    stats = stats or Stats()
    with Deadline(timeout, "the program") as deadline, Owned() as owned:
        view = owned.keep(View(world.root, world.volumes))
        file = owned.keep_fd(view.open_program(arguments[0], world.cwd))
        program = loader.read(file, arguments[0])
        memory = owned.keep(Memory(world.memory))
        frames = Frames(LOWEST, memory.size)
        try:
            runner = owned.keep(_runner(engine, program.machine, memory, frames))
            space = Space(memory, frames, runner.tables)
            heap = _load(space, file, program)
            stack = _build_stack(space, program, arguments, environment)
            files = Files(program.machine, space, deadline, view, os.fsencode(world.cwd))
            owned.defer(files.close_all)
            if not trace:  # a trace shows every read
                files.window = runner.window(frames)
        except (OutOfFrames, MapError):
            raise GuestError(
                "is too small for the program", at="memory", value=f"{world.memory // MIB} MiB",
                remedy="raise --mem",
            ) from None  # fmt: skip
        linux = Linux(program.machine, space, files, deadline, heap, runner.set_thread_pointer)
        for stream in (world.stdin, world.stdout, world.stderr):
            files.add_stream(stream)
        runner.start(program.entry, stack)
        runner.run(linux, deadline, stats, trace)
    assert linux.ending
    return ProgramResult(
        engine=engine, ending=linux.ending, unserved=linux.unserved,
        seconds=clock() - began, stats=stats,
    )  # fmt: skip


def _runner(engine: str, machine: str, memory: Memory, frames: Frames) -> Runner:
    if engine == "kvm":
        if machine != os.uname().machine:
            raise GuestError(
                f"the program is for {machine}, but KVM runs only {os.uname().machine}",
                remedy="use --engine emulate",
            )  # fmt: skip
        from .program_kvm import KvmProgram

        return KvmProgram(memory, frames)
    if engine == "emulate":
        from .program_unicorn import UnicornProgram

        return UnicornProgram(memory, machine)
    raise UsageError("is not kvm or emulate", at="engine", value=engine)


def _load(space: Space, file: int, program: loader.Program) -> int:
    """Map the segments; the address where the heap may start."""
    heap = 0
    for segment in program.segments:
        start = segment.address // PAGE * PAGE
        length = pages(segment.address + segment.span - start)
        space.map(start, length, READ | WRITE, fixed=True)
        os.preadv(file, space.slices(segment.address, segment.size, WRITE), segment.offset)
        space.protect(start, length, segment.prot)
        heap = max(heap, start + length)
    return heap


def _build_stack(
    space: Space, program: loader.Program, arguments: Sequence[str], environment: Sequence[str]
) -> int:
    """Arguments, environment and auxiliary vector; the stack pointer (System V ABI, 3.4.1)."""
    top = HIGHEST - PAGE
    space.map(top - _STACK, _STACK, READ | WRITE, fixed=True)
    texts = [os.fsencode(text) + b"\0" for text in (*arguments, *environment)]
    strings = b"".join(texts)
    if len(strings) > _ARGUMENTS_MAX:
        raise UsageError("are longer than 128 KiB in total", at="arguments and environment")
    at = top - len(strings) - 16
    pointers = [at + 16 + sum(map(len, texts[:number])) for number in range(len(texts))]
    vector = _auxiliary(program, random=at, name=pointers[0])
    words = [
        len(arguments),
        *pointers[: len(arguments)],
        0,
        *pointers[len(arguments) :],
        0,
        *vector,
    ]
    stack = (at - 8 * len(words)) // 16 * 16
    space.write(stack, struct.pack(f"<{len(words)}Q", *words))
    space.write(at, os.urandom(16) + strings)
    return stack


def _auxiliary(program: loader.Program, random: int, name: int) -> list[int]:
    pairs = {
        _AT_PHDR: program.headers, _AT_PHENT: _PROGRAM_HEADER_SIZE,
        _AT_PHNUM: program.header_count, _AT_PAGESZ: PAGE, _AT_ENTRY: program.entry,
        _AT_UID: 0, _AT_EUID: 0, _AT_GID: 0, _AT_EGID: 0,  # as getuid() of linux/process.py
        _AT_HWCAP: _HWCAP[program.machine], _AT_CLKTCK: 100, _AT_SECURE: 0,
        _AT_RANDOM: random, _AT_EXECFN: name,
    }  # fmt: skip
    return [*(word for pair in pairs.items() for word in pair), 0, 0]
