"""The files of a sandbox from outside, whose content a hostile program has made."""

from __future__ import annotations

import os

import pytest

import pycontain
from pycontain.errors import KernelError, StateError, UsageError

pytestmark = pytest.mark.needs_root


def test_files_can_be_written_and_read() -> None:
    with pycontain.Sandbox(files={"in.csv": b"b\na\n", "deep/er/x": b"1"}) as box:
        assert (
            box.run(["python3", "-c", "print(sorted(open('in.csv')))"]).text == "['a\\n', 'b\\n']\n"
        )
        assert box.run_python("open('out', 'w').write(open('deep/er/x').read() * 3)").ok
        assert box.read("out") == b"111"
        assert box.read("/work/out") == b"111"
        box.write("/tmp/given", b"2")
        assert box.run_python("open('/tmp/given').read()").value == "2"
        assert [(entry.name, entry.kind, entry.size) for entry in box.list()] == [
            ("deep", "directory", 60), ("in.csv", "file", 4), ("out", "file", 3),
        ]  # fmt: skip


def test_a_written_file_belongs_to_the_program(box: pycontain.Sandbox) -> None:
    box.write("mine/file", b"1")
    result = box.run_python(
        "import os\nopen('mine/file', 'a').write('2'); os.remove('mine/file'); os.rmdir('mine')"
    )
    assert result.ok, result.stderr


def test_a_file_is_replaced_at_once(box: pycontain.Sandbox) -> None:
    box.write("replaced", b"long content")
    box.write("replaced", b"short")
    assert box.read("replaced") == b"short"
    assert not [entry for entry in box.list() if entry.name.startswith(".pycontain")]


@pytest.mark.parametrize(
    "path", ["../x", "/etc/passwd", "/work/../etc/x", "/", "", "/dev/shm/x", "a/../../x"]
)
def test_a_path_outside_of_the_sandboxs_files_is_refused(box: pycontain.Sandbox, path: str) -> None:
    with pytest.raises(UsageError):
        box.write(path, b"")
    with pytest.raises((UsageError, StateError)):
        box.read(path)


LINKS = {
    "a link out": "os.symlink('/etc/passwd', 'LINK')",
    "a link up": "os.symlink('../../../../../etc/passwd', 'LINK')",
    "a link to a magic link": "os.symlink('/proc/self/root/etc/passwd', 'LINK')",
}


@pytest.mark.parametrize("link", LINKS)
def test_a_link_of_the_program_is_not_followed(box: pycontain.Sandbox, link: str) -> None:
    name = link.replace(" ", "-")
    assert box.run_python(f"import os\n{LINKS[link]}".replace("LINK", name)).ok
    with pytest.raises(KernelError):
        box.read(name)
    box.write(name, b"replaced")  # the link itself
    assert box.read(name) == b"replaced"


@pytest.mark.control
def test_a_naive_reader_follows_a_link(tmp_path) -> None:
    os.symlink("/etc/passwd", tmp_path / "l")
    assert b"root" in (tmp_path / "l").read_bytes()


def test_a_directory_that_is_a_link_is_not_followed(box: pycontain.Sandbox) -> None:
    assert box.run_python("import os\nos.symlink('/etc', 'd'); os.symlink('/tmp', 't')").ok
    with pytest.raises(KernelError):
        box.read("d/passwd")
    with pytest.raises(KernelError):
        box.write("d/x", b"")
    with pytest.raises(KernelError):
        box.list("d")
    box.write("t/inside", b"1")  # a link to another place of the sandbox is good
    assert box.read("/tmp/inside") == b"1"


def test_only_regular_files_are_opened(box: pycontain.Sandbox) -> None:
    code = "import os, socket\nos.mkfifo('fifo')\nsocket.socket(socket.AF_UNIX).bind('socket')\nos.mkdir('folder')"
    assert box.run_python(code).ok
    for name in ("fifo", "socket", "folder"):
        with pytest.raises(StateError):
            box.read(name)
    kinds = {entry.name: entry.kind for entry in box.list()}
    assert (kinds["fifo"], kinds["socket"], kinds["folder"]) == ("other", "other", "directory")
    box.write("fifo", b"replaced, without a wait for a reader")


def test_a_file_that_is_too_long_is_not_read(box: pycontain.Sandbox) -> None:
    assert box.run_python("with open('hole', 'wb') as file: file.truncate(1 << 40)").ok
    with pytest.raises(StateError):
        box.read("hole")
    with pytest.raises(StateError):
        box.read("hole", limit=100)


def test_a_directory_with_too_much_is_not_listed() -> None:
    with pycontain.Sandbox() as box:
        assert box.run_python("for n in range(10001): open(str(n), 'w').close()").ok
        with pytest.raises(StateError):
            box.list()


def test_a_file_that_does_not_fit_is_an_error_and_leaves_nothing() -> None:
    with pycontain.Sandbox(disk="1M") as box:
        with pytest.raises(KernelError):
            box.write("big", bytes(2 << 20))
        assert box.list() == []


def test_the_host_has_no_mount_of_a_sandbox(box: pycontain.Sandbox) -> None:
    box.run_python("1")
    with open("/proc/self/mountinfo") as file:
        assert "sandbox" not in [line.split(" - ")[1].split()[1] for line in file]


def test_a_closed_sandbox_has_no_files() -> None:
    box = pycontain.Sandbox()
    box.close()
    box.close()
    with pytest.raises(StateError):
        box.read("x")
    with pytest.raises(StateError):
        box.run_python("1")
