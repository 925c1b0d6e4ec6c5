"""
Seal an interpreter: copy it, and mount the copy so that nobody can write to it.

The files of an interpreter are its program and, where that is dynamic, libpython; nothing else is
copied, so nothing else keeps rights or content that the host has taken back. They are copied to a
new tmpfs, which then is the lower layer of an overlay and reachable through that alone.

    /var/lib/pycontain/sealed     root's alone, mode 0700
        %2Fusr%2Fbin%2Fpython3    a mount for each interpreter: read-only, nosuid, nodev
            pycontain             the interpreter
            lib                   its libpython, if it has one
            sources               a link: the files that these were copied from, as `seal.entry`
"""

from __future__ import annotations

import errno

from ..errors import HostError, KernelError
from ..lean import os
from . import calls, elf, safe_path
from . import const as c
from .descriptors import close_locked, open_lock
from .mounts import Tree
from .safe_path import Directory
from .seal import BASE, PROGRAM, RECORD, entry, is_current, is_overlay, place, source

_HOME = os.path.dirname(BASE)
_FORMER = f"{_HOME}/python"  # where overlays of whole directories were mounted before
_LIBRARY = "lib"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OTHERS, _STICKY = 0o077, 0o1000
_ATTRIBUTES = c.MOUNT_ATTR_NOSUID | c.MOUNT_ATTR_NODEV
_DETACH = c.MNT_DETACH | c.UMOUNT_NOFOLLOW  # what runs from there keeps it
_PIECE = 1 << 20


def mounted(path: str) -> str:
    """As `seal.mounted`."""
    home = _below(safe_path.open_directory(os.path.dirname(_HOME)), _HOME, 0o755)
    base = _below(home, BASE, 0o700)
    if os.fstat(base.fd).st_mode & _OTHERS:
        os.fchmod(base.fd, 0o700)
    lock = open_lock(".", _DIRECTORY, dir_fd=base.fd)  # an error's traceback would keep `base` open
    try:
        calls.lock(lock)  # only one of two concurrent first invocations mounts
        _detach_former(home)
        own = _real(path)
        sealed = place(own)
        if not is_current(os.path.dirname(sealed)):
            _remove_stale(base)
            _mount(own, base, os.path.dirname(sealed))
    finally:
        close_locked(lock)
    return sealed


def in_memory(path: str) -> int:
    """A sealed copy of an interpreter in memory, by descriptor. Raises HostError, OSError."""
    import fcntl

    own = _real(path)
    try:
        fd = os.memfd_create("pycontain", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    except OSError as error:
        raise HostError(
            f"cannot be sealed: {os.strerror(error.errno or 0).lower()}",
            at=own,
            remedy="run a kernel with overlayfs or memfd_create",
        ) from None
    _copy(own, fd)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    os.fchmod(fd, 0o755)
    return fd


def _real(path: str) -> str:
    """An interpreter's path without links; that of its source if it is sealed."""
    from os.path import realpath

    return source(path) if path.startswith(f"{BASE}/") else realpath(path)


# --- the directories ---------------------------------------------------------------------------


def _below(parent: Directory, path: str, mode: int) -> Directory:
    """A directory of ours, created if missing. Raises HostError, OSError."""
    try:
        os.mkdir(os.path.split(path)[1], mode, dir_fd=parent.fd)
    except FileExistsError:
        pass
    return _open(parent, path)


def _open(parent: Directory, path: str) -> Directory:
    """
    A directory of ours, which must belong to root: its owner decides what root runs.

    Raises HostError, OSError.
    """
    try:
        directory = Directory(os.open(os.path.split(path)[1], _DIRECTORY, dir_fd=parent.fd))
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise
        raise HostError("is not a directory", at=path, remedy="remove it") from None
    status = os.fstat(directory.fd)
    replaceable = safe_path.writable_by_others(status) and not status.st_mode & _STICKY
    if status.st_uid != 0 or replaceable:
        raise HostError("can be changed by others than root", at=path, remedy="remove it")
    return directory


def _detach_former(home: Directory) -> None:
    """
    Detach the overlays of earlier versions: each has a whole directory, setuid programs included.

    The directories stay, with a link to the interpreter below each mount: program files that were
    written by such a version name it.
    """
    try:
        former = _open(home, _FORMER)
    except FileNotFoundError:
        return
    for name in os.listdir(former.fd):
        while _is_ours(former, name):
            calls.umount2(f"{_FORMER}/{name}", _DETACH)


def _remove_stale(base: Directory) -> None:
    """Detach the copies of files that have changed, and forget interpreters that are gone."""
    for name in os.listdir(base.fd):
        directory = f"{BASE}/{name}"
        while _is_ours(base, name) and not is_current(directory):
            calls.umount2(directory, _DETACH)
        if not os.path.exists(source(f"{directory}/{PROGRAM}")):
            try:
                os.rmdir(name, dir_fd=base.fd)
            except OSError:
                pass  # not a directory of ours


def _is_ours(parent: Directory, name: str) -> bool:
    """Whether an overlay of ours is mounted at this file of a directory."""
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    file = Directory(os.open(name, flags, dir_fd=parent.fd))
    return is_overlay(file.fd) and calls.mount_id(file.fd) != calls.mount_id(parent.fd)


# --- the mount ---------------------------------------------------------------------------------


def _mount(own: str, base: Directory, path: str) -> None:
    """Mount a new copy of an interpreter. Raises KernelError, HostError, OSError."""
    target = _below(base, path, 0o700)
    overlay = _overlay(own, target.fd, path)
    try:
        overlay.attach(target.fd, path)
    finally:
        os.close(overlay.fd)
    if not is_current(path):  # the process that is started from here would seal it again for ever
        calls.umount2(path, _DETACH)
        raise KernelError("keeps changing", at=own)


def _overlay(own: str, target: int, path: str) -> Tree:
    """A read-only overlay of a copy of the interpreter's files; the target is free again."""
    files = _memory()
    try:
        files.attach(target, path)  # before Linux 6.15 a layer must be in the mount namespace
        try:
            _fill(files.fd, own)
            # without an upper layer overlayfs requires two lower ones
            at = f"/proc/self/fd/{files.fd}"
            layers = f"lowerdir={at}/files:{at}/empty"
            return Tree.new("overlay", (layers,), _ATTRIBUTES | c.MOUNT_ATTR_RDONLY, "pycontain")
        finally:
            calls.umount2(path, _DETACH)
    finally:
        os.close(files.fd)


def _memory() -> Tree:
    """A new tmpfs; with huge pages a start takes no more page faults than from a disk's cache."""
    try:
        return Tree.new("tmpfs", ("mode=0700", "huge=within_size"), _ATTRIBUTES)
    except KernelError:  # CONFIG_TRANSPARENT_HUGEPAGE is not set
        return Tree.new("tmpfs", ("mode=0700",), _ATTRIBUTES)


def _fill(tree: int, own: str) -> None:
    """Create the two layers in a new file system."""
    os.mkdir("empty", 0o700, dir_fd=tree)
    os.mkdir("files", 0o700, dir_fd=tree)
    directory = Directory(os.open("files", _DIRECTORY, dir_fd=tree))
    program = _create(directory, PROGRAM)
    try:
        entries = [_copy(own, program)]
        name, offset = _needed_library(own)
        if name:
            entries.append(_add_library(directory, _find_library(own, name)))
            redirected = f"$ORIGIN/{_LIBRARY}".encode()
            os.pwrite(program, redirected.ljust(len(name), b"\0"), offset)
    finally:
        os.close(program)
    os.symlink("//".join(entries), RECORD, dir_fd=directory.fd)


def _create(directory: Directory, name: str) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    return os.open(name, flags, 0o500, dir_fd=directory.fd)


def _copy(path: str, target: int) -> str:
    """Copy a file to a descriptor; returns its entry in the record. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        status = os.fstat(fd)
        while os.sendfile(target, fd, None, _PIECE):
            pass
    finally:
        os.close(fd)
    return entry(path, status)


# --- a dynamic interpreter ---------------------------------------------------------------------


def _needed_library(own: str) -> tuple[str, int]:
    """The name of the libpython that an interpreter needs, and where in its file; "" if none."""
    fd = os.open(own, os.O_RDONLY | os.O_CLOEXEC)
    try:
        start = os.read(fd, elf.HEADER_SIZE)
        if elf.is_elf(start):
            header = elf.Header(start)
            for name, offset in elf.needed(fd, header):
                # musl's loader does not know $ORIGIN in the name of a library
                if name.startswith("libpython") and "musl" not in elf.interpreter(fd, header):
                    return name, offset
        return "", 0
    finally:
        os.close(fd)


def _find_library(own: str, name: str) -> str:
    """Where the loader finds a library of a program. Raises KernelError."""
    import subprocess
    from os.path import realpath

    listed = subprocess.run(  # as ldd(1) does
        (own,), env={"LD_TRACE_LOADED_OBJECTS": "1"}, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, check=False,
    ).stdout  # fmt: skip
    for line in listed.splitlines():
        library, _, where = line.strip().partition(" => ")
        if library == name and where.startswith("/"):
            return realpath(where.rpartition(" (")[0])
    raise KernelError(f"needs {name}, which the loader does not find", at=own)


def _add_library(directory: Directory, path: str) -> str:
    fd = _create(directory, _LIBRARY)
    try:
        return _copy(path, fd)
    finally:
        os.close(fd)
