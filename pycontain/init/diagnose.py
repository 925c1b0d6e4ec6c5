"""
Why a program cannot be executed, and what to do about it.

execve(2) fails with ENOENT for a script whose interpreter is missing, and with EACCES on a file
system mounted noexec; users then look for the wrong problem. The phrases "no such file or
directory", "executable file not found" and "permission denied" are those that engines look for.
"""

from __future__ import annotations

import errno

from ..errors import KernelError, ProgramError
from ..kernel import elf
from ..lean import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..kernel.root import Root

_NOT_FOUND, _NOT_EXECUTABLE = 127, 126
_EXPLAINED = (errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.ELOOP, errno.ENOEXEC)
_ANY = 0  # in place of an errno


def refusal(program: str, number: int, root: Root | None = None) -> ProgramError:
    """
    The error for a program that cannot be executed, for the errno of the failure.

    root is given when the errno is execve's own; then the program file itself is examined.
    """
    return _refusal(program, number, _examine(program, root) if root is not None else {})


def refusals(program: str, root: Root) -> dict[int, ProgramError]:
    """The same for each errno of execve that needs an explanation, before it is known."""
    details = _examine(program, root)
    return {number: _refusal(program, number, details) for number in _EXPLAINED}


def _refusal(program: str, number: int, details: dict[int, tuple[str, str]]) -> ProgramError:
    status = _NOT_FOUND if number in (errno.ENOENT, errno.ENOTDIR) else _NOT_EXECUTABLE
    explanation = details.get(number) or details.get(_ANY)
    if explanation is not None:
        detail, remedy = explanation
        named = errno.ENOENT if number == errno.ENOTDIR else number
        why = f"exec {program}: {os.strerror(named).lower()}: {detail}"
    else:
        detail, remedy = _reason(program, number)
        why = f'exec: "{program}": {detail}'
    return ProgramError(why, remedy=remedy, errno=number, status=status)


def _reason(program: str, number: int) -> tuple[str, str]:
    """(reason, remedy)."""
    if number in (errno.ENOENT, errno.ENOTDIR):
        return f"stat {program}: no such file or directory", ""
    if number == errno.EISDIR:
        return "is a directory: permission denied", ""
    if number == errno.ELOOP:
        return "is a link into /proc: permission denied", "name the program by its own path"
    if number == errno.EACCES:
        return "permission denied", f"chmod +x {program}, in the rootfs"
    return os.strerror(number).lower(), ""


def _examine(program: str, root: Root) -> dict[int, tuple[str, str]]:
    """What is wrong with the program's file: errno, or _ANY -> (detail, remedy)."""
    try:
        file = root.open(os.path.join(os.getcwd(), program), os.O_RDONLY | os.O_NONBLOCK)
    except KernelError:
        return {}
    details: dict[int, tuple[str, str]] = {}
    try:
        if os.fstatvfs(file).f_flag & os.ST_NOEXEC:
            details[errno.EACCES] = "its file system is mounted noexec", "mount it exec"
        explanation: tuple[str, str] | None = None
        head = os.pread(file, 4096, 0)
        if head.startswith(b"#!"):
            explanation = _script(head, root)
        elif elf.is_elf(head) and len(head) >= elf.HEADER_SIZE:
            explanation = _elf(file, head, root)
        else:
            details[errno.ENOEXEC] = "it is neither ELF nor a script with #!", "add a #! line"
        if explanation is not None:
            details[_ANY] = explanation
    except (KernelError, OSError, OverflowError):
        pass  # a directory, an ELF header with bad offsets, an interpreter behind a loop of links
    finally:
        os.close(file)
    return details


def _script(head: bytes, root: Root) -> tuple[str, str] | None:
    line = head[2:].split(b"\n", 1)[0]
    words = line.split()
    interpreter = words[0].decode(errors="replace") if words else ""
    if line.endswith(b"\r"):
        return (
            f"its first line names {interpreter}\\r, which does not exist",
            "convert its line endings, for example with dos2unix",
        )
    if root.find(interpreter) is None:
        return (
            f"it is a script for {interpreter}, which does not exist",
            "add the interpreter to the rootfs",
        )
    return None


def _elf(file: int, head: bytes, root: Root) -> tuple[str, str] | None:
    header = elf.Header(head)
    own = os.uname().machine
    if header.machine != own and not (own == "x86_64" and header.machine == "i386"):
        return (
            f"it is a program for {header.machine}, and this is {own}",
            "use an image for this architecture",
        )
    loader = elf.interpreter(file, header)
    if loader and root.find(loader) is None:
        return (
            f"it needs the loader {loader}, which does not exist",
            "add the loader and its libraries to the rootfs, or link the program statically",
        )
    return None
