"""
Helpers that the attacks share.

Each file in this folder tests one class of attacks, each attack also in a naive variant: the same
exploit against a few lines that get it wrong. If the exploit no longer works there, the test of
pycontain proves nothing either.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import prctl

from pycontain.kernel import calls
from pycontain.kernel import const as c
from pycontain.kernel.mounts import Tree
from tests.bundles import Bundle

PYTHON = os.path.realpath(sys.executable)


def in_a_child(work: Callable[[], Any]) -> Any:
    """
    Call `work` in a new process and mount namespace; returns its result, passed on as JSON.

    Mounts that it makes are invisible to others and end with it.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        answer = {"error": "ended without an answer"}
        try:
            own_mounts()
            answer = {"value": work()}
        except BaseException as error:
            answer = {"error": repr(error)}
        finally:
            os.write(writer, json.dumps(answer).encode())
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as stream:
        answer = json.loads(stream.read())
    os.waitpid(pid, 0)
    assert "value" in answer, answer["error"]
    return answer["value"]


def own_mounts() -> None:
    """Enter a new mount namespace that nothing propagates out of."""
    calls.unshare(c.CLONE_NEWNS)
    slash = os.open("/", os.O_PATH)
    Tree(slash).propagate(c.MS_PRIVATE, recursive=True)
    os.close(slash)


def mount_by_path(kind: str, path: str | Path) -> None:
    """Mount a new file system as mount(2) with a path does: links are followed."""
    target = os.open(path, os.O_PATH)
    tree = Tree.new(kind)
    tree.attach(target)
    os.close(target)
    os.close(tree.fd)


def bind_by_path(source: str | Path, path: str | Path) -> None:
    """Bind-mount as mount(2) with two paths does: links are followed."""
    fds = os.open(source, os.O_PATH), os.open(path, os.O_PATH)
    tree = Tree.clone(fds[0])
    tree.attach(fds[1])
    for fd in (*fds, tree.fd):
        os.close(fd)


def filesystem_at(path: str | Path) -> int:
    """The type of the file system that a path is on."""
    fd = os.open(path, os.O_PATH)
    try:
        return calls.filesystem_type(fd)
    finally:
        os.close(fd)


def snapshot(folder: Path) -> dict[str, object]:
    """Everything below a folder: path -> (mode, owner, link number, content or link target)."""
    found: dict[str, object] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        info = path.lstat()
        text = os.readlink(path) if path.is_symlink() else ""
        text = path.read_text() if path.is_file() and not path.is_symlink() else text
        found[str(path)] = (info.st_mode, info.st_uid, info.st_nlink, info.st_ino, text)
    return found


def mount_points() -> list[str]:
    """The mount points that this process sees."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line.split(" ")[4] for line in lines]


# --- programs that attack from inside ------------------------------------------------------------


def give_python(bundle: Bundle) -> None:
    """Bind the host's Python into a bundle, read-only: an image could contain it."""
    mounts = bundle.config["mounts"]
    for folder in dict.fromkeys((sys.base_prefix, "/lib", "/lib64", "/usr/lib")):
        if os.path.isdir(folder):
            options = ["rbind", "ro"]
            mounts.append({"destination": folder, "source": folder, "options": options})
    bundle.edit({"mounts": mounts})


def python(code: str) -> list[str]:
    """The arguments that run this code where `give_python` put the interpreter."""
    return [PYTHON, "-ISu", "-c", code]


def drop_from_bounding_set(capability: int) -> None:
    """Deny a capability to everything that this process executes."""
    prctl.capbset_drop(capability)


def elf(code: bytes) -> bytes:
    """A position-independent x86-64 ELF file of this machine code; its start is the entry point."""
    headers = 64 + 56
    size = headers + len(code)
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)
    head = struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    # writable, too: before Linux 6.10 the kernel zeroes what follows a loader in its last page
    load = struct.pack("<IIQQQQQQ", 1, 7, 0, 0, 0, size, size, 0x1000)
    return ident + head + load + code


class Code:
    """Machine code with references to strings after it."""

    def __init__(self) -> None:
        self.bytes = b""
        self.texts: list[tuple[int, bytes]] = []

    def add(self, code: str) -> Code:
        """Instructions, in hexadecimal."""
        self.bytes += bytes.fromhex(code)
        return self

    def refer(self, lea: str, text: bytes) -> Code:
        """`lea REGISTER, [rip + text]`, its opcode in hexadecimal."""
        self.add(lea)
        self.texts.append((len(self.bytes), text))
        return self.add("00000000")

    def program(self) -> bytes:
        """The ELF file."""
        code, data = bytearray(self.bytes), b""
        for place, text in self.texts:
            code[place : place + 4] = struct.pack("<i", len(code) + len(data) - (place + 4))
            data += text + b"\0"
        return elf(bytes(code) + data)


def effective_uid_program() -> bytes:
    """A program that exits with the lowest byte of its effective user id."""
    # geteuid; exit(it)
    return Code().add("b86b000000 0f05 89c7 b83c000000 0f05").program()


def loader_that_keeps_the_executable(script: str) -> bytes:
    """A dynamic loader that opens /proc/self/exe as descriptor 8 and becomes `/bin/sh script`."""
    code = Code()
    code.refer("488d3d", b"/proc/self/exe").add("31f6 b802000000 0f05")  # open(…, O_RDONLY)
    code.add("89c7 be08000000 b821000000 0f05")  # dup2(it, 8)
    code.refer("488d3d", b"/bin/sh").refer("488d05", script.encode())
    code.add("6a00 50 57 4889e6 31d2 b83b000000 0f05")  # execve(…, [/bin/sh, script], NULL)
    code.add("bf63000000 b83c000000 0f05")  # exit(99)
    return code.program()
