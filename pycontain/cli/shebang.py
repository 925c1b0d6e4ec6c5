"""
The program in the launcher's first line: it executes the sealed interpreter, or the ordinary one.

The kernel opens the interpreter of a script with the rights of the user who runs the script, and
tries no other. So no single path leads root into a directory that others cannot enter, and the
others elsewhere. This program does: it executes the sealed interpreter, and if that fails, since
the caller is not root or nothing is sealed yet, the ordinary one. It is a hundred bytes of machine
code without a C library, so that it takes 0.1 ms; a second Python would take several.
"""

from __future__ import annotations

import os

from ..kernel import seal
from ..lean import archive
from .replacing import replacing

_DIRECTORY = os.path.join(os.path.dirname(__file__), "__pycache__")
_LINE_LIMIT = 255  # bytes of a script's first line that the kernel reads, execve(2)

# x86-64. A word in capitals is the distance from the next instruction to that text, in 4 bytes.
_CODE = (
    "48 8d 74 24 08",  # lea rsi, [rsp + 8]            the arguments
    "48 8b 04 24",  # mov rax, [rsp]                   their number
    "48 8d 54 c6 08",  # lea rdx, [rsi + rax * 8 + 8]  the environment
    "48 8d 3d ORDINARY",  # lea rdi, [ordinary]
    "48 89 3e",  # mov [rsi], rdi                      Python finds its standard library from it
    "48 8d 3d SEALED",  # lea rdi, [sealed]
    "b8 3b 00 00 00",  # mov eax, 59                   execve
    "0f 05",  # syscall
    "48 8d 3d ORDINARY",  # lea rdi, [ordinary]
    "b8 3b 00 00 00",  # mov eax, 59
    "0f 05",  # syscall
    "bf 02 00 00 00",  # mov edi, 2                    standard error
    "48 8d 35 FAILURE",  # lea rsi, [failure]
    "ba LENGTH",  # mov edx, length
    "b8 01 00 00 00",  # mov eax, 1                    write
    "0f 05",  # syscall
    "bf 7f 00 00 00",  # mov edi, 127
    "b8 e7 00 00 00",  # mov eax, 231                  exit_group
    "0f 05",  # syscall
)
_HEADERS = 64 + 56  # bytes: of the ELF file and of its only segment


def write(own: str) -> str:
    """
    The path to name in the first line for an interpreter (an absolute path without links).

    The program is written there. Where that is impossible, because it is for x86-64, the line would
    be too long or the directory belongs to another user, the path is the interpreter's own: root
    then starts it twice.
    """
    path = os.path.join(_DIRECTORY, os.path.basename(os.path.dirname(seal.place(own))))
    if os.uname().machine != "x86_64" or not _fits(path):
        return own
    try:
        _write(path, program(seal.place(own), own))
    except OSError:
        return own
    return path


def _write(path: str, made: bytes) -> None:
    if _read(path) == made:
        return
    os.makedirs(_DIRECTORY, exist_ok=True)
    with replacing(path, 0o755) as half, open(half, "wb") as file:
        file.write(made)


def _fits(path: str) -> bool:
    return len(f"#!{path} {archive.FLAGS}".encode()) < _LINE_LIMIT and not set(path) & set(" \t\n")


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""


def program(sealed: str, ordinary: str) -> bytes:
    """The ELF file of a program that executes the first of two programs that it can. elf(5)."""
    failure = f"pycontain: {ordinary} cannot be executed; install it, or pycontain once more\n"
    code = _assembled(
        {
            "SEALED": os.fsencode(sealed) + b"\0",
            "ORDINARY": os.fsencode(ordinary) + b"\0",
            "FAILURE": os.fsencode(failure),
        }
    )
    size = _HEADERS + len(code)
    load, readable_and_executable, page = 1, 5, 0x1000
    shared, x86_64 = 3, 62
    return b"".join(
        (
            b"\x7fELF" + bytes((2, 1, 1)) + bytes(9),
            _numbers(2, shared, x86_64),
            _numbers(4, 1),
            _numbers(8, _HEADERS, 64, 0),
            _numbers(4, 0),
            _numbers(2, 64, 56, 1, 0, 0, 0),
            _numbers(4, load, readable_and_executable),
            _numbers(8, 0, 0, 0, size, size, page),
            code,
        )
    )


def _numbers(size: int, *values: int) -> bytes:
    return b"".join(value.to_bytes(size, "little") for value in values)


def _assembled(texts: dict[str, bytes]) -> bytes:
    """The code, followed by the texts that it refers to."""
    words = " ".join(_CODE).split()
    starts = {}
    end = sum(4 if word.isupper() else 1 for word in words)
    for name, text in texts.items():
        starts[name] = end
        end += len(text)
    code = b""
    for word in words:
        if word in starts:
            code += (starts[word] - len(code) - 4).to_bytes(4, "little", signed=True)
        elif word == "LENGTH":
            code += len(texts["FAILURE"]).to_bytes(4, "little")
        else:
            code += bytes.fromhex(word)
    return code + b"".join(texts.values())
