"""What a container states about itself is not trusted and cannot make the runtime fail or hang."""

from __future__ import annotations

import errno
import os
import struct

import pytest

from pycontain.init import diagnose
from pycontain.kernel.root import Root
from tests.security.attack import Code, in_a_child

pytestmark = pytest.mark.needs_root


def renamed(name):
    """A shell line that gives its process a name: any 15 bytes."""
    return (
        f"printf '{name}' > /proc/self/comm; printf '{name}' > /proc/$$/comm; echo named; sleep 100"
    )


NAMES = {
    "not UTF-8": "\\377\\376",
    "a closing parenthesis": ") Z 1 (",
    "a line feed": "a\\nb) X",
    "a state and numbers": ") X 0 0 0",
}


@pytest.mark.parametrize("name", NAMES)
def test_whatever_a_process_calls_itself_it_can_be_killed(runtime, bundle, name):
    container = runtime.started(bundle(renamed(NAMES[name])))
    runtime.wait_for_text(container, "named")
    assert runtime.state(container)["status"] == "running"
    runtime.ok("kill", container, "KILL")
    runtime.wait_for_status(container, "stopped")
    runtime.ok("delete", container)


@pytest.mark.control
def test_a_naive_reading_of_stat_fails():
    def run():
        with open("/proc/self/comm", "wb") as file:
            file.write(b"\xff) Z")
        with open("/proc/self/stat") as file:
            try:
                return file.read().split()[2]
            except UnicodeDecodeError:
                return "fails"

    assert in_a_child(run) == "fails"


PASSWD = {
    "a folder": lambda path: path.mkdir(),
    "a pipe": os.mkfifo,
    "a link to itself": lambda path: path.symlink_to("passwd"),
    "endless": lambda path: path.symlink_to("/dev/zero"),
    "not text": lambda path: path.write_bytes(b"\xff\0:x:0:0::\n:::::::\n0:0:0"),
    "a NUL in a home": lambda path: path.write_bytes(b"root:x:0:0:r:/ro\0ot:/bin/sh\n"),
    "of the host": lambda path: path.symlink_to("/proc/1/root/etc/passwd"),
}


@pytest.mark.parametrize("kind", PASSWD)
def test_a_strange_passwd_is_no_reason_to_fail(runtime, bundle, kind):
    made = bundle("echo $HOME")
    PASSWD[kind](made.rootfs / "etc/passwd")
    assert runtime.output(made).out == "/\n"


def lying(place, size, value):
    """A program whose ELF header has an impossible value."""
    text = bytearray(Code().program())
    text[place : place + size] = value.to_bytes(size, "little")
    text[18:20] = struct.pack("<H", 62)
    return bytes(text)


PROGRAMS = {
    "only a magic number": b"\x7fELF",
    "half a header": lying(0, 1, 0x7F)[:40],
    "a table beyond all files": lying(32, 8, 2**64 - 1),
    "very many entries": lying(56, 2, 2**16 - 1),
    "an interpreter of two exabytes": lying(96, 8, 2**61)[:64]
    + struct.pack("<IIQQQQQQ", 3, 4, 0, 0, 0, 2**61, 2**61, 1),
    "an interpreter before the file": lying(64, 4, 3)[:64]
    + struct.pack("<IIQQQQQQ", 3, 4, 2**64 - 1, 0, 0, 8, 8, 1),
    "a script for nothing": b"#!\n",
    "a script for bytes": b"#!/\xff\xfe\n",
    "an endless first line": b"#!" + b"/" * 5000,
}


def test_a_malformed_program_is_refused_with_a_message(runtime, bundle):
    made = bundle("")
    path = made.rootfs / "prog"
    for name, text in PROGRAMS.items():
        path.write_bytes(text)
        path.chmod(0o755)
        made.edit({"process.args": ["/prog"]})
        said = runtime.fails(made)
        assert "/prog" in said, (name, said)
        assert "Error:" not in said, (name, said)


def bomb(entry, count):
    """A program with `count` program headers of `entry` bytes each, all of them in the file."""
    header = bytearray(lying(32, 8, 64)[:64])
    header[54:58] = struct.pack("<HH", entry, count)
    return bytes(header) + bytes(entry * count)


@pytest.mark.parametrize("text", [bomb(65535, 300), bomb(56, 65535), *PROGRAMS.values()])
def test_a_malformed_program_costs_no_time(tmp_path, monkeypatch, text):
    """What is read is counted: the kernel itself looks at no more than 64 KiB of headers."""
    read = []

    def counted(fd, size, offset):
        read.append(pread(fd, size, offset))
        return read[-1]

    pread = diagnose.os.pread
    monkeypatch.setattr(diagnose.os, "pread", counted)
    (tmp_path / "prog").write_bytes(text)
    fd = os.open(tmp_path, os.O_PATH)
    assert "/prog" in str(diagnose.refusal("/prog", errno.ENOEXEC, Root(fd)))
    os.close(fd)
    assert len(read) <= 3
    assert sum(map(len, read)) <= 1 << 17
