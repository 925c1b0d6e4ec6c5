"""
What is fuzzed: each target takes bytes, feeds them to one reader, and returns or raises.

A reader may refuse its input with a PycontainError, of one line and with an exit status; everything
else that it raises is a fault.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pycontain.cli import fast, limits, table
from pycontain.errors import PycontainError
from pycontain.library import messages
from pycontain.plan import joining, resources
from pycontain.plan import plan as planning
from pycontain.plan.device_filter import DEFAULT_RULES, program
from pycontain.plan.facts import Facts
from pycontain.plan.request import ExecRequest, Request
from pycontain.spec import records
from pycontain.spec.check import check_process, check_resources, problems
from pycontain.spec.parse import parse, read, read_text
from pycontain.state.directory import StateDir
from pycontain.wire import sync
from tests.bundles import CONFIG
from tests.unit.spec_configs import FULL as COMPLETE
from tests.unit.spec_configs import without

Target = Callable[[bytes], None]

FULL = without(COMPLETE, "linux.resources.memory.swappiness")  # cgroup v2 has none
_ALL = (1 << 41) - 1
_FACTS = Facts(last_capability=40, permitted=_ALL, bounding=_ALL)
_SHAPES = (*messages.REQUESTS, *messages.REPLIES)
_LONGEST = 1 << 16  # bytes of an input, so that a pipe takes it


def refused(error: PycontainError) -> None:
    """Check that an error can be reported: one line, and an exit status."""
    assert len(str(error).splitlines()) == 1, error
    assert type(error.fault.status) is int, error
    assert 1 <= error.fault.status <= 255, error
    assert error.fault.why, error


def _text(data: bytes) -> str:
    """As the file would be read: anything but UTF-8 is refused before."""
    return data.decode(errors="replace")


def config(data: bytes) -> None:
    """config.json: parsed, checked, planned for create, run and run in the foreground."""
    try:
        spec = parse(_text(data))
        found = list(problems(spec))
        for error in found:
            refused(error)
        if found:
            return
        for separate in (True, False):
            request = Request(id="x", bundle="/b", separate_start=separate, console_socket="/s")
            planning.build(spec, request, _FACTS)
    except PycontainError as error:
        refused(error)


def process(data: bytes) -> None:
    """process.json, for exec: parsed, checked, planned."""
    try:
        wanted = read_text(records.Process, _text(data), "process")
        check_process(wanted)
        linux = parse(json.dumps(FULL)).linux
        assert linux is not None
        joining.build(wanted, linux, "/rootfs", ExecRequest(id="x"), _FACTS)
    except PycontainError as error:
        refused(error)


def limit(data: bytes) -> None:
    """resources, for update: parsed, checked, converted to files and a device filter."""
    try:
        new = read(records.Resources, limits.read(_text(data), "FILE"), "linux.resources")
        check_resources(new)
        resources.files(new)
        program((*new.devices, *DEFAULT_RULES))
    except PycontainError as error:
        refused(error)


@contextmanager
def _fed(data: bytes) -> Iterator[sync.Channel]:
    """The end of a channel whose other end has written this and then closed."""
    reader, writer = os.pipe()
    unread, end = os.pipe()
    os.write(writer, data[:_LONGEST])
    os.close(writer)
    channel = sync.Channel(reader, end, os.eventfd(0, os.EFD_NONBLOCK))
    try:
        yield channel
    finally:
        channel.close()
        os.close(unread)


def child_message(data: bytes) -> None:
    """What the parent reads from the child."""
    with _fed(data) as channel:
        try:
            while True:
                word, times = sync.await_child(channel)
                assert word in ("done", "exec", "end")
                assert all(type(name) is str and type(spent) is int for name, spent in times)
                if word == "end":
                    return
        except PycontainError as error:
            refused(error)


def parent_message(data: bytes) -> None:
    """What the child reads from its parent: a message, until the end of file."""
    with _fed(data) as channel:
        try:
            while channel.receive() is not None:
                pass
        except PycontainError as error:
            refused(error)


def library_message(data: bytes) -> None:
    """What a program and its worker read from each other."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data[:_LONGEST])
        theirs.shutdown(socket.SHUT_WR)
        try:
            while messages.receive(ours, _SHAPES, 3)[0] is not None:
                pass
        except ConnectionResetError:
            pass  # in the middle of a message
        except PycontainError as error:
            refused(error)


def command_line(data: bytes) -> None:
    """The command line, as words between NULs; no command is called."""
    words = [word.decode(errors="surrogateescape") for word in data.split(b"\0")]
    try:
        settings = fast.defaults(table.GLOBALS)
        rest = fast.take_flags(table.GLOBALS, words, settings, prefix=True)
        if rest:
            fast.parse(fast.find(rest[0]), rest[1:])
    except PycontainError as error:
        refused(error)


class State:
    """The files of a state directory, which is in memory."""

    def __init__(self) -> None:
        self.root = f"/dev/shm/pycontain-fuzz-{os.getpid()}"
        self.folder = f"{self.root}/x"

    def __call__(self, data: bytes) -> None:
        """state.json, process and config.json, one after the other between NULs."""
        os.makedirs(self.folder, mode=0o700, exist_ok=True)
        texts = [*data.split(b"\0", 2), b"", b""]
        for name, text in zip(("state.json", "process", "config.json"), texts, strict=False):
            with open(f"{self.folder}/{name}", "wb") as file:
                file.write(text)
        for action in (_load, _load_config):
            try:
                action(StateDir.open(self.root, "x"))
            except PycontainError as error:
                refused(error)

    def close(self) -> None:
        import shutil

        shutil.rmtree(self.root, ignore_errors=True)


def _load(directory: StateDir) -> None:
    state = directory.load()
    for name in ("pid", "start_time", "owner"):
        assert type(getattr(state, name)) is int, name
    for name in ("id", "bundle", "phase", "mount", "cgroup"):
        assert type(getattr(state, name)) is str, name


def _load_config(directory: StateDir) -> None:
    parse(directory.load_config())


state = State()

TARGETS: dict[str, Target] = {
    "config": config,
    "process": process,
    "resources": limit,
    "child-message": child_message,
    "parent-message": parent_message,
    "library-message": library_message,
    "command-line": command_line,
    "state": state,
}


def _packed(message: dict[str, Any]) -> bytes:
    data = json.dumps(message).encode()
    return len(data).to_bytes(4, "little") + data


_FAULT = {"why": "is wrong", "step": "mount", "kind": "KernelError", "errno": 2, "status": 1}
_STATE = {
    "id": "x", "ociVersion": "1.2.0", "bundle": "/b", "rootfs": "/b/rootfs", "made": ["/x"],
    "mount": "/sys/fs/cgroup", "cgroup": "/x", "annotations": {"a": "b"}, "poststop": True,
    "created": "2026-01-01T00:00:00.000000Z", "owner": 0, "shares_pids": False,
}  # fmt: skip

_WHERE = {"id": "x", "root": "/r", "cgroup_manager": "cgroupfs", "cgroup_missing": "error"}

SEEDS: dict[str, tuple[bytes, ...]] = {
    "config": tuple(json.dumps(each).encode() for each in (FULL, CONFIG)),
    "process": (json.dumps(FULL["process"]).encode(),),
    "resources": (
        json.dumps(FULL["linux"]["resources"]).encode(),
        b'{"memory":{"limit":9,"swap":9},"pids":{"limit":3},"devices":[{"allow":true}]}',
    ),
    "child-message": (
        b'{"done":[["mount",5]]}\n{"exec":[]}\n',
        b'{"fault":{"why":"","kind":"HookError"},"errno":"00256","hook":true}\n',
        json.dumps({"fault": _FAULT}).encode() + b"\n",
    ),
    "parent-message": (b'{"go":true}\n', b'{"alive":true}\n'),
    "library-message": (
        _packed(
            {
                **_WHERE,
                "verb": "run",
                "bundle": "/b",
                "config": "",
                "isolation": "",
                "seconds": None,
            }
        ),
        _packed(
            {**_WHERE, "verb": "exec", "args": ["a"], "env": [], "cwd": "", "user": "", "tty": []}
            | {"seconds": 1.5}
        ),
        _packed({**_WHERE, "verb": "adopt"}),
        _packed({"fault": _FAULT, "ended": [], "warnings": ["w"]}),
        _packed(
            {
                "pid": 7,
                "times": [["child", "mount", 5]],
                "state": None,
                "ended": [8],
                "warnings": [],
            }
        ),
    ),
    "command-line": tuple(
        line.replace(" ", "\0").encode()
        for line in (
            "--root /r --log=l --log-format json run -b b --detach --preserve-fds 3 x",
            "exec -e A=b --user 1:2 --cap CAP_KILL x sh -c true",
            "update --memory 5M --cpu-quota=-1 x",
            "kill --all x 9",
        )
    ),
    "state": (
        json.dumps(_STATE).encode() + b"\0" + b"12 34 created\0" + json.dumps(CONFIG).encode(),
    ),
}
"""Inputs that each reader accepts, to start from."""

_TOKENS = (
    '"', "{", "}", "[", "]", ":", ",", "null", "true", "-1", "0", "1e999", "18446744073709551616",
    "\\ud800", "\\u0000", "..", "/", "4294967295", "--", "=", "fault", "done", "exec", "errno", "go",
)  # fmt: skip


def words(name: str) -> list[str]:
    """Words that occur in a target's inputs, for a mutator that knows nothing of its format."""
    found = {word for text in SEEDS[name] for word in _words_in(text)}
    return sorted(found | set(_TOKENS))


def _words_in(text: bytes) -> list[str]:
    cleaned = "".join(each if each.isalnum() or each in "_-./" else " " for each in _text(text))
    return [word for word in cleaned.split() if 1 < len(word) < 40]
