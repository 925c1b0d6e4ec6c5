"""Calls about memory. Files are read into it, unless the program shares one that it may write."""

from __future__ import annotations

import errno
import os

from ..frames import pages
from ..memory import PAGE
from ..open_file import OpenFile
from ..paging import EXECUTE, READ, WRITE
from ..space import MapError
from .layout import signed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .task import Task

_SHARED, _FIXED, _ANONYMOUS, _NOREPLACE = 1, 0x10, 0x20, 0x10_0000
_PROT = READ | WRITE | EXECUTE
_MAYMOVE, _MREMAP_FIXED = 1, 2
_DONTNEED, _FREE = 4, 8
_ADVICE = {0, 1, 2, 3, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21}


def mmap(task: Task, address: int, length: int, prot: int, flags: int, fd: int, offset: int) -> int:
    space = task.space
    prot &= _PROT
    fixed = bool(flags & (_FIXED | _NOREPLACE))
    if flags & _NOREPLACE and not space.is_free(address, length):
        raise MapError(errno.EEXIST)
    if flags & _ANONYMOUS:
        if flags & _SHARED and length:
            return _map_shared(task, address, length, prot, fixed)
        return space.map(address, length, prot, fixed=fixed)
    file = task.files.use(fd, os.O_RDONLY)
    if not file.regular:
        return _map_device(task, address, length, prot, fixed, file.made)
    if offset % PAGE:
        raise MapError(errno.EINVAL)
    if flags & _SHARED and file.is_for(os.O_WRONLY):
        return space.map(address, length, prot, fixed=fixed, share=(file.fd, offset))
    if flags & _SHARED and prot & WRITE:
        raise MapError(errno.EACCES)

    def fill(view: memoryview) -> None:
        os.preadv(file.fd, [view], signed(offset, 64))

    return space.map(address, length, prot, fixed=fixed, fill=fill)


def _map_device(task: Task, address: int, length: int, prot: int, fixed: bool, made: object) -> int:
    """/dev/zero is anonymous memory."""
    if getattr(made, "source", None) is not bytes:
        raise MapError(errno.ENODEV)
    return task.space.map(address, length, prot, fixed=fixed)


def _map_shared(task: Task, address: int, length: int, prot: int, fixed: bool) -> int:
    """Memory that forked processes share: pages of a file that nobody can truncate."""
    if length > task.process.memory:
        raise MapError(errno.ENOMEM)
    file = os.memfd_create("shared", os.MFD_CLOEXEC)
    try:
        os.ftruncate(file, pages(length))
        return task.space.map(address, length, prot, fixed=fixed, share=(file, 0))
    finally:
        os.close(file)


def munmap(task: Task, address: int, length: int) -> int:
    task.space.unmap(address, length)
    return 0


def mprotect(task: Task, address: int, length: int, prot: int) -> int:
    task.space.protect(address, length, prot & _PROT)
    return 0


def mremap(task: Task, old: int, old_length: int, length: int, flags: int, to: int) -> int:
    space = task.space
    if old % PAGE or not length or flags & ~3 or not old_length:
        raise MapError(errno.EINVAL)
    if flags & _MREMAP_FIXED:
        if not flags & _MAYMOVE:
            raise MapError(errno.EINVAL)
        return space.move(old, old_length, length, to=to)
    old_length, length = pages(old_length), pages(length)
    if length <= old_length:
        if length < old_length:
            space.unmap(old + length, old_length - length)
        return old
    if space.grow(old, old_length, length - old_length):
        return old
    if not flags & _MAYMOVE:
        raise MapError(errno.ENOMEM)
    return space.move(old, old_length, length)


def madvise(task: Task, address: int, length: int, advice: int) -> int:
    if address % PAGE:
        raise MapError(errno.EINVAL)
    if advice == _DONTNEED:
        task.space.drop(address, length)
    elif advice not in _ADVICE:
        raise MapError(errno.EINVAL)
    return 0


def msync(task: Task, address: int, length: int, flags: int) -> int:
    if address % PAGE or flags & ~7 or flags & 5 == 5:
        raise MapError(errno.EINVAL)
    if length and not task.space.is_mapped(address, length):
        raise MapError(errno.ENOMEM)
    if flags & 4:
        task.space.sync(address, length)
    return 0


def memfd_create(task: Task, name: int, flags: int) -> int:
    """Its bytes count together: all files in memory have no more than the program's memory."""
    if flags & ~(os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING):
        raise OSError(errno.EINVAL, "")
    text = task.space.text(name, 250)
    fd = os.memfd_create(os.fsdecode(text), flags | os.MFD_CLOEXEC)
    path = b"/memfd:" + text + b" (deleted)"
    file = OpenFile(fd, path, os.O_RDWR, regular=True)
    file.in_memory = True
    return task.files.add(file, closes=bool(flags & os.MFD_CLOEXEC))


def mincore(task: Task, address: int, length: int, vector: int) -> int:
    if address % PAGE:
        raise MapError(errno.EINVAL)
    if length and not task.space.is_mapped(address, length):
        raise MapError(errno.ENOMEM)
    for piece in task.space.slices(vector, pages(length) // PAGE, WRITE):
        piece[:] = b"\1" * len(piece)
    return 0


def brk(task: Task, address: int) -> int:
    process, space = task.process, task.space
    old, new = pages(process.brk), pages(address)
    if address < process.heap:
        return process.brk
    if new > old and not space.is_free(old, new - old):
        return process.brk
    try:
        if new > old:
            space.map(old, new - old, READ | WRITE, fixed=True)
        elif new < old:
            space.unmap(new, old - new)
    except MapError:
        return process.brk  # brk(2) reports no errno: it returns the unchanged break
    process.brk = address
    return address
