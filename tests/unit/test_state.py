"""The state directory: what is kept of a container from one command to the next."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.errors import StateError
from pycontain.kernel.files import read_text, start_time
from pycontain.state.directory import StateDir, check_id, ids
from pycontain.state.record import State

STATE = State(
    id="c", ociVersion="1.2.0", bundle="/b", rootfs="/b/r", pid=5, start_time=6, made=("/a", "/a/c"),
    annotations={"a": "ä\n"},
)  # fmt: skip


def reserved(root: str, id: str) -> StateDir:
    directory = StateDir(root, id)
    directory.reserve()
    return directory


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[StateDir]:
    made = reserved(str(tmp_path / "root"), "c")
    yield made
    made.close()


def test_a_state_is_read_as_it_was_written(directory):
    directory.save(STATE)
    assert directory.load() == STATE
    assert os.listdir(directory.path) == ["state.json"]


def test_later_changes_are_added_to_a_state(directory):
    directory.save(STATE.replace(pid=0, start_time=0))
    assert directory.load() == STATE.replace(pid=0, start_time=0)
    directory.open_process()
    assert directory.load() == STATE.replace(pid=0, start_time=0)
    directory.save_process(STATE)
    assert directory.load() == STATE
    directory.announce()
    assert directory.load() == STATE.replace(phase="created")
    assert sorted(os.listdir(directory.path)) == ["process", "state.json"]
    assert directory.tells_of(STATE)
    assert not directory.tells_of(STATE.replace(start_time=STATE.start_time + 1))


def test_an_id_can_be_reserved_only_once(directory, tmp_path):
    with pytest.raises(StateError, match="exists already"):
        reserved(str(tmp_path / "root"), "c")


def test_only_the_owner_has_access_to_a_state(directory, tmp_path):
    directory.save(STATE)
    modes = [
        path.stat().st_mode & 0o777
        for path in (tmp_path / "root", Path(directory.path), Path(directory.file("state.json")))
    ]
    assert modes == [0o700, 0o700, 0o600]


def test_a_configuration_is_stored_unchanged(directory):
    text = '{"x": "ä \\ud83d\\ude00"}\n'
    directory.save_config(text)
    assert directory.load_config() == text


def test_a_missing_state_is_an_error_with_a_remedy(directory):
    with pytest.raises(StateError, match="was not created completely") as caught:
        directory.load()
    assert "--force" in caught.value.fault.remedy


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"id": "c", "made": 3}', '{"made": [], "x": 1}']
)
def test_a_broken_state_is_named(directory, text):
    Path(directory.file("state.json")).write_text(text)
    with pytest.raises(StateError, match="is broken"):
        directory.load()


@pytest.mark.parametrize(
    ("name", "value"),
    [("owner", "x"), ("pid", True), ("made", ["/a", 1]), ("annotations", {"a": 1}), ("id", None)],
)
def test_a_state_of_wrong_types_is_broken(directory, name, value):
    text = json.dumps({**STATE.fields(), name: value})
    Path(directory.file("state.json")).write_text(text)
    with pytest.raises(StateError, match=f"is broken: {name} is"):
        directory.load()


@pytest.mark.parametrize("text", ["", "5", "five 6", "5 6 7", "0 6", "-5 6", "9999999 6"])
def test_a_broken_process_file_is_named(directory, text):
    directory.save(STATE)
    Path(directory.file("process")).write_text(text)
    with pytest.raises(StateError, match="is broken"):
        directory.load()


def test_remove_deletes_the_state_and_releases_the_lock(directory, tmp_path):
    directory.save(STATE)
    directory.save_config("{}")
    for fd in directory.make_fifos():
        os.close(fd)
    directory.remove()
    assert os.listdir(tmp_path / "root") == []
    reserved(str(tmp_path / "root"), "c").unlock()


def test_the_lock_of_a_state_is_exclusive(directory, tmp_path):
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.write(writer, b"asking ")
        with StateDir.open(str(tmp_path / "root"), "c"):
            os.write(writer, b"in")
        os._exit(0)
    os.close(writer)
    assert os.read(reader, 7) == b"asking "
    assert select.select([reader], [], [], 0.05)[0] == []
    directory.unlock()
    assert os.read(reader, 2) == b"in"
    os.waitpid(pid, 0)
    os.close(reader)


def test_a_child_that_the_program_has_forked_does_not_keep_the_lock(directory, tmp_path):
    """It has a copy of the descriptor, and may know nothing of it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.read(reader, 1)
        os._exit(0)
    directory.unlock()
    assert StateDir.open(str(tmp_path / "root"), "c").lock(wait=False)
    os.write(writer, b"x")
    os.waitpid(pid, 0)
    os.close(reader)
    os.close(writer)


def test_locking_a_directory_that_was_deleted_meanwhile_is_an_error(directory, tmp_path):
    other = StateDir.open(str(tmp_path / "root"), "c")
    directory.remove()
    with pytest.raises(StateError, match="does not exist"), other:
        pass


def test_lock_without_waiting_returns_whether_it_was_acquired(directory, tmp_path):
    other = StateDir.open(str(tmp_path / "root"), "c")
    assert not other.lock(wait=False)
    directory.unlock()
    assert other.lock(wait=False)
    assert other.lock(wait=False), "a second time does nothing"
    assert StateDir.open(str(tmp_path / "root"), "c").is_locked
    other.unlock()


def test_a_directory_of_another_user_is_not_trusted(directory, tmp_path, monkeypatch):
    directory.save(STATE)
    directory.unlock()
    us, them = os.geteuid() + 1, os.geteuid()
    monkeypatch.setattr("pycontain.lean.os.geteuid", lambda: us)
    before = os.listdir("/proc/self/fd")
    for look in (lambda: StateDir.open(str(tmp_path / "root"), "c"), directory.lock):
        with pytest.raises(StateError, match=f"belongs to user {them}, not to user {us}") as e:
            look()
        assert e.value.fault.at == directory.path
        assert "--root" in e.value.fault.remedy
    assert os.listdir("/proc/self/fd") == before


def test_a_link_is_not_accepted_as_a_directory(directory, tmp_path):
    directory.unlock()
    (tmp_path / "root/link").symlink_to("c")
    with pytest.raises(StateError, match="does not exist"):
        StateDir.open(str(tmp_path / "root"), "link")
    with pytest.raises(StateError, match="does not exist"):
        StateDir(str(tmp_path / "root"), "link").lock()


def test_the_fifos_connect_the_child_and_start(directory):
    child_in, child_out = directory.make_fifos()
    assert directory.awaits_start
    start_in, start_out = directory.open_fifos()
    os.write(start_out, b"go")
    assert os.read(child_in, 2) == b"go"
    os.write(child_out, b"done")
    assert os.read(start_in, 4) == b"done"
    directory.remove_fifos()
    assert not directory.awaits_start
    os.close(child_out)
    assert os.read(start_in, 1) == b"", "the child's exit is the end of file"
    for fd in (child_in, start_in, start_out):
        os.close(fd)


def test_the_ids_of_a_root_are_its_directories(tmp_path):
    assert ids(str(tmp_path / "nothing")) == []
    for name in ("b", "a", ".seccomp"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("a")
    assert ids(str(tmp_path)) == ["a", "b"]


@pytest.mark.parametrize("id", ["a", "A.b", "_", "+x", "-x", "0" * 255])
def test_a_valid_id_is_accepted(id):
    check_id(id)


@pytest.mark.parametrize(
    "id", ["", ".", "..", ".x", "a/b", "a b", "a\n", "ä", "a\0", "a" * 256, "a%"]
)
def test_an_invalid_id_is_refused(id):
    with pytest.raises(StateError, match="id"):
        check_id(id)


def test_the_start_time_of_a_process_is_constant_until_it_exits():
    child = subprocess.Popen(["sleep", "100"])
    before = start_time(child.pid)
    assert before > 0
    assert start_time(child.pid) == before
    child.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert start_time(child.pid) == 0, "a zombie has exited"
    child.wait()
    assert start_time(child.pid) == 0


def test_the_start_time_is_found_after_a_name_with_brackets_and_spaces(tmp_path):
    program = tmp_path / "a) R 1 (b"
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "100"]) as child:
        assert start_time(child.pid) > 0
        child.kill()


def test_a_file_of_the_state_that_is_not_text_is_an_error(tmp_path):
    (tmp_path / "x").write_bytes(b"\xff")
    with pytest.raises(Exception, match="is not UTF-8 text"):
        read_text(str(tmp_path / "x"))
