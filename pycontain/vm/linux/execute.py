"""
execve(2): which file runs, what is loaded where, and the first stack.

A script names its interpreter (`#!`), a dynamic program its loader (PT_INTERP); both are looked up
in the view, like all that a program opens.
"""

from __future__ import annotations

import errno
import os
import stat
import struct

from ...errors import GuestError, KernelError
from ...lean.record import Record
from .. import loader
from ..frames import pages
from ..memory import PAGE
from ..paging import EXECUTE, READ, WRITE
from ..space import HIGHEST, MapError
from . import pids, threads
from .paths import AT_FDCWD, absolute, find

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..space import Space
    from .task import Task

_STACK = 8 << 20
_ARGUMENTS_MAX = 1 << 20
_LOADER_BASE, _VDSO = 0x7FFF_F000_0000, 0x7FFF_FF00_0000
_SCRIPTS_MAX = 4  # interpreters that are scripts themselves, as in Linux
_LINE = 256
_SIGKILL = 9

# the auxiliary vector: getauxval(3)
_AT_PHDR, _AT_PHENT, _AT_PHNUM, _AT_PAGESZ, _AT_BASE, _AT_ENTRY = 3, 4, 5, 6, 7, 9
_AT_UID, _AT_EUID, _AT_GID, _AT_EGID, _AT_HWCAP, _AT_CLKTCK = 11, 12, 13, 14, 16, 17
_AT_SECURE, _AT_RANDOM, _AT_EXECFN, _AT_SYSINFO_EHDR = 23, 25, 31, 33
_HWCAP = {"x86_64": 0, "aarch64": 3}  # aarch64: floating point and SIMD; x86 uses CPUID
_PROGRAM_HEADER_SIZE = 56


class Image(Record):
    """
    What execve(2) will run.

    file       a descriptor of the program, and linker one of its loader, or -1
    path       of the program in the view
    arguments  with those that scripts have added
    """

    file: int
    program: loader.Program
    linker: int
    linker_program: loader.Program | None
    path: bytes
    arguments: tuple[bytes, ...]

    def close(self) -> None:
        """Close its files."""
        for fd in (self.file, self.linker):
            if fd >= 0:
                os.close(fd)


def execve(task: Task, path: int, arguments: int, environment: int) -> int:
    return execveat(task, AT_FDCWD, path, arguments, environment, 0)


def execveat(
    task: Task, directory: int, path: int, arguments: int, environment: int, flags: int
) -> int:
    name = task.space.text(path)
    if flags & 0x1000 and not name:  # AT_EMPTY_PATH: fexecve(3)
        where = task.files.get(directory).path
    else:
        where = absolute(task, directory, name)
    texts = _strings(task, arguments), _strings(task, environment)
    if sum(len(text) + 1 for part in texts for text in part) > _ARGUMENTS_MAX:
        raise OSError(errno.E2BIG, "")
    try:
        image = look(task, where, texts[0] or (b"",))
    except GuestError as error:
        raise OSError(error.fault.errno or errno.ENOEXEC, "") from None
    try:
        replace(task, image, texts[1], where)
    finally:
        image.close()
    return 0


def _strings(task: Task, address: int) -> tuple[bytes, ...]:
    """The strings of an array that ends with NULL."""
    found: list[bytes] = []
    while address:
        pointer = int.from_bytes(task.space.read(address, 8), "little")
        if not pointer:
            break
        found.append(task.space.text(pointer, 1 << 17))
        if len(found) > 1 << 14:
            raise OSError(errno.E2BIG, "")
        address += 8
    return tuple(found)


def look(task: Task, where: bytes, arguments: tuple[bytes, ...]) -> Image:
    """
    Open a program and what it needs.

    Raises OSError or KernelError for what cannot be opened, GuestError for what is no program.
    """
    for _ in range(_SCRIPTS_MAX + 1):
        file = _open_program(task, where)
        try:
            script = _interpreter_of(file, where, arguments)
            if not script:
                return _image(task, file, where, arguments)
        except BaseException:
            os.close(file)
            raise
        os.close(file)
        arguments = script
        where = absolute(task, AT_FDCWD, arguments[0])
    raise OSError(errno.ELOOP, "")


def _open_program(task: Task, where: bytes) -> int:
    with find(task, where) as found:
        if not stat.S_ISREG(found.info.st_mode) or not found.info.st_mode & 0o111:
            raise OSError(errno.EACCES, "")
        return found.open(os.O_RDONLY)


def _interpreter_of(
    file: int, where: bytes, arguments: tuple[bytes, ...]
) -> tuple[bytes, ...] | None:
    """The arguments that run a script, or None for another file. execve(2), "#!"."""
    start = os.pread(file, _LINE, 0)
    if start[:2] != b"#!":
        return None
    line = start[2:].split(b"\n", 1)[0].strip(b" \t")
    if not line:
        raise OSError(errno.ENOEXEC, "")
    program, _, argument = line.partition(b" ") if b" " in line else line.partition(b"\t")
    extra = (argument.strip(b" \t"),) if argument.strip(b" \t") else ()
    return (program, *extra, where, *arguments[1:])


def _image(task: Task, file: int, where: bytes, arguments: tuple[bytes, ...]) -> Image:
    program = loader.read(file, os.fsdecode(where))
    if program.machine != task.process.machine:
        raise OSError(errno.ENOEXEC, "")
    linker, linker_program = -1, None
    if program.loader:
        linker = _open_loader(task, program.loader, where)
        try:
            linker_program = loader.read(linker, program.loader, _LOADER_BASE)
        except BaseException:
            os.close(linker)
            raise
    return Image(
        file=file, program=program, linker=linker, linker_program=linker_program,
        path=where, arguments=arguments,
    )  # fmt: skip


def _open_loader(task: Task, path: str, program: bytes) -> int:
    try:
        return _open_program(task, os.fsencode(path))
    except (OSError, KernelError) as error:
        raise GuestError(
            f"is dynamically linked, and its loader {path} is not among the files it is shown",
            at=os.fsdecode(program), remedy="give it a root, such as --root /",
            errno=error.errno or errno.ENOENT,
        ) from None  # fmt: skip


def replace(task: Task, image: Image, environment: Sequence[bytes], name: bytes) -> None:
    """The new program takes the place of the old one, which cannot come back."""
    process = task.process
    threads.stop_others(task)
    task.space.clear()
    try:
        begin(task, image, environment, name)
    except MapError:
        process.kill(_SIGKILL, "the memory is too small for the program: raise --mem")
        return
    process.actions.reset()
    process.files.close_on_exec()
    task.stack = (0, 2, 0)
    task.clear_child_tid = task.robust = 0
    task.jumped = True
    if process.lent:
        process.lent.keep()
        process.lent = None
    table = process.pids
    table.set(process.pids.own, pids.EXECUTED, 1)
    parent = table.get(task.pid, pids.PARENT)
    if parent:
        table.kick(parent)  # it may wait in vfork(2)


def begin(task: Task, image: Image, environment: Sequence[bytes], name: bytes) -> None:
    """Load a program into an empty space, and put the processor at its start. Raises MapError."""
    process, space, program = task.process, task.space, image.program
    process.heap = process.brk = _load(space, image.file, program)
    entry, base = program.entry, 0
    if image.linker_program:
        _load(space, image.linker, image.linker_program)
        entry, base = image.linker_program.entry, _LOADER_BASE
    if task.cpu.vdso:
        _map_vdso(space, task.cpu.vdso)
    user = (process.user.uid, process.user.gid)
    stack = _build_stack(space, program, base, image.arguments, environment, name, user)
    process.name = os.path.basename(name)[:15]
    process.executable = os.path.normpath(image.path)
    process.arguments = image.arguments
    task.cpu.start(entry, stack)


def _map_vdso(space: Space, image: bytes) -> None:
    def fill(view: memoryview) -> None:
        view[: len(image)] = image

    space.map(_VDSO, len(image), READ | EXECUTE, fixed=True, fill=fill)


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
    space: Space, program: loader.Program, base: int, arguments: Sequence[bytes],
    environment: Sequence[bytes], name: bytes, user: tuple[int, int],
) -> int:  # fmt: skip
    """Arguments, environment and auxiliary vector; the stack pointer (System V ABI, 3.4.1)."""
    top = HIGHEST - PAGE
    space.map(top - _STACK, _STACK, READ | WRITE, fixed=True)
    texts = [text + b"\0" for text in (*arguments, *environment, name)]
    strings = b"".join(texts)
    at = top - len(strings) - 16
    pointers, address = [], at + 16
    for text in texts:
        pointers.append(address)
        address += len(text)
    count = len(arguments)
    vdso = _VDSO if space.area_at(_VDSO) else 0
    vector = _auxiliary(program, base, at, pointers[-1], user, vdso)
    words = [count, *pointers[:count], 0, *pointers[count:-1], 0, *vector]
    stack = (at - 8 * len(words)) // 16 * 16
    space.write(stack, struct.pack(f"<{len(words)}Q", *words))
    space.write(at, os.urandom(16) + strings)
    return stack


def _auxiliary(
    program: loader.Program, base: int, random: int, name: int, user: tuple[int, int], vdso: int
) -> list[int]:
    uid, gid = user
    pairs = {
        _AT_PHDR: program.headers, _AT_PHENT: _PROGRAM_HEADER_SIZE,
        _AT_PHNUM: program.header_count, _AT_PAGESZ: PAGE, _AT_BASE: base,
        _AT_ENTRY: program.entry,
        _AT_UID: uid, _AT_EUID: uid, _AT_GID: gid, _AT_EGID: gid,
        _AT_HWCAP: _HWCAP[program.machine], _AT_CLKTCK: 100, _AT_SECURE: 0,
        _AT_RANDOM: random, _AT_EXECFN: name,
    }  # fmt: skip
    if vdso:
        pairs[_AT_SYSINFO_EHDR] = vdso
    return [*(word for pair in pairs.items() for word in pair), 0, 0]
