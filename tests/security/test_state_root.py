"""
CVE-2022-21658 and its kind: what was checked is a path, and what is then removed is a path, too.

Another user, in whose directory our --root is, exchanges the root for a link in between. `delete`
then empties a directory of that user's choice.
"""

from __future__ import annotations

import gc
import json
import os
import stat
import time

import pytest

from pycontain.errors import HostError, KernelError, StateError
from pycontain.kernel import safe_path
from pycontain.state.directory import StateDir, directories, ids
from pycontain.state.record import State
from tests.bundles import LIMIT
from tests.security.attack import snapshot
from tests.security.test_mount_race import swap
from tests.security.users import ALICE, BY_ALICE, Attacker, made, reserve

pytestmark = pytest.mark.needs_root

STATE = State(id="c1", ociVersion="1.2.0", bundle="/b", rootfs="/b/r", pid=7, start_time=1)


# --- the race ------------------------------------------------------------------------------------


class Race:
    """
    Alice's directory, and in it root's state and a link that alice can exchange it for.

    victim  a directory that root has elsewhere, with a subdirectory of a container's name
    """

    def __init__(self, folder):
        self.folder = made(folder / "alice", ALICE)
        self.root = made(self.folder / "state", 0, 0o700)
        self.victim = made(folder / "victim", 0, 0o700)
        (self.victim / "c1").mkdir()
        (self.victim / "c1/precious").write_text("of root\n")
        self.link = self.folder / "link"
        self.link.symlink_to(self.victim)
        os.chown(self.link, ALICE, ALICE, follow_symlinks=False)
        self.state = os.open(self.root, os.O_RDONLY)

    def exchange(self):
        swap(self.root, self.link)

    def fill(self):
        """Put a container into the state, wherever that is now."""
        try:
            os.mkdir("c1", dir_fd=self.state)
        except FileExistsError:
            pass
        flags = os.O_WRONLY | os.O_CREAT
        os.close(os.open("c1/config.json", flags, 0o600, dir_fd=self.state))


@pytest.fixture
def race(folder):
    race = Race(folder)
    yield race
    os.close(race.state)


def remove_by_path(root, id):
    """As it was before: what is checked and what is removed are found by their paths."""
    found = os.lstat(root)
    assert stat.S_ISDIR(found.st_mode)
    assert found.st_uid == os.geteuid()
    path = os.path.join(root, id)
    for name in os.listdir(path):
        os.unlink(os.path.join(path, name))
    os.rmdir(path)


@pytest.mark.control
def test_a_naive_remove_loses_the_race(race):
    end = time.monotonic() + LIMIT
    with Attacker(ALICE, race.exchange):
        while (race.victim / "c1/precious").exists():
            assert time.monotonic() < end, "the exploit does not work here"
            race.fill()
            try:
                remove_by_path(race.root, "c1")
            except (AssertionError, OSError):
                continue


def test_no_command_uses_a_root_that_others_can_exchange_while_it_runs(runtime, bundle, race):
    runtime.root = race.root
    before = snapshot(race.victim)
    run = ["run", "--bundle", str(bundle("true").path), "c2"]
    verbs = [run, ["delete", "--force", "c1"], ["delete", "c1"], ["state", "c1"], ["list"]]
    with Attacker(ALICE, race.exchange):
        for number in range(25):
            race.fill()
            said = runtime.refuses(*verbs[number % len(verbs)])
            assert f"{race.folder} {BY_ALICE}" in said
            assert "choose a --root that no other user can write to or replace" in said
    assert snapshot(race.victim) == before
    assert os.listdir(race.state) == ["c1"]
    runtime.root = runtime.folder / "state"  # to clean up


@pytest.fixture
def credulous(monkeypatch):
    """Without the check: what is left is that everything is done below a descriptor."""
    for name in ("check", "end"):
        monkeypatch.setattr(safe_path._Walk, name, lambda *_: None)


def test_an_open_state_directory_is_used_wherever_its_path_leads(race, credulous):
    race.fill()
    directory = StateDir.open(str(race.root), "c1")
    before = snapshot(race.victim)
    race.exchange()
    directory.lock()
    directory.save(STATE)
    directory.open_process()
    directory.save_process(STATE)
    directory.save_config("{}")
    for fd in directory.make_fifos():
        os.close(fd)
    assert directory.load().id == "c1"
    assert directory.awaits_start
    directory.remove_fifos()
    directory.remove()
    assert snapshot(race.victim) == before
    assert os.listdir(race.state) == []
    with pytest.raises(AssertionError):
        remove_by_path(race.root, "c1")


@pytest.mark.control
def test_a_naive_removal_by_path_empties_the_exchanged_directory(race):
    race.fill()
    race.exchange()
    path = race.root / "c1"  # was checked before
    for name in os.listdir(path):
        os.unlink(path / name)
    assert not (race.victim / "c1/precious").exists()


def make_by_path(path):
    """As it was before."""
    os.makedirs(path, 0o700, exist_ok=True)
    return os.open(path, os.O_PATH | os.O_DIRECTORY)


def test_a_root_created_in_a_race_is_ours_or_refused(folder):
    """In a sticky directory another user tries to be there first, with a directory or a link."""
    sticky = made(folder / "sticky", 0, 0o1777)
    root = sticky / "root"

    def squat():
        try:
            root.mkdir()
            root.rmdir()
            root.symlink_to("/etc")
            root.unlink()
        except OSError:  # root was faster
            pass

    outcomes = {"ours": 0, "refused": 0}
    fooled, end = False, time.monotonic() + LIMIT
    with Attacker(ALICE, squat):
        while not (fooled and all(outcomes.values())):
            assert time.monotonic() < end, (fooled, outcomes)
            try:
                opened = safe_path.open_directory(str(root), create=True)
                found, usual = os.fstat(opened.fd), os.stat("/etc")
                assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (0, 0o700)
                assert not os.path.samestat(found, usual)
                outcomes["ours"] += 1
                root.rmdir()
            except HostError:
                outcomes["refused"] += 1
            except KernelError:  # it came and went while it was opened
                continue
            try:
                naive = make_by_path(root)
            except OSError:
                continue
            fooled |= os.fstat(naive).st_uid == ALICE or os.path.samestat(os.fstat(naive), usual)
            os.close(naive)
            try:
                root.rmdir()
            except OSError:
                continue


# --- the directory of a container, once it is open ------------------------------------------------


def test_a_directory_whose_id_was_reused_is_not_taken_for_the_old_one(folder):
    """A `run` in the foreground releases the lock, and cleans up after its program's end."""
    first = StateDir(str(folder / "root"), "c1")
    first.reserve()
    first.release()
    with StateDir.open(str(folder / "root"), "c1") as other:
        other.remove()
    second = StateDir(str(folder / "root"), "c1")
    second.reserve()
    second.save(STATE)
    second.close()
    with pytest.raises(StateError, match="does not exist"):
        first.lock()
    with pytest.raises(StateError, match="does not exist"):
        first.remove()
    assert StateDir.open(str(folder / "root"), "c1").load().id == "c1"


def test_containers_are_listed_from_the_root_that_was_opened(folder):
    root = folder / "root"
    for name in ("c1", "c2"):
        reserve(root, name)
    found = directories(str(root))
    assert next(found).id == "c1"
    root.rename(folder / "old")
    made(root, 0, 0o700)
    assert [directory.id for directory in found] == ["c2"]


def test_descriptors_are_closed_with_the_object(folder):
    gc.collect()  # what other tests left
    before = os.listdir("/proc/self/fd")
    for name in ("c1", "c2"):
        directory = StateDir(str(folder / "root"), name)
        directory.reserve()
        directory.open_process()
        directory.release()
    del directory
    list(directories(str(folder / "root")))
    assert os.listdir("/proc/self/fd") == before


def test_an_error_that_is_kept_keeps_nothing_open(folder):
    """Its traceback refers to what was open."""
    gc.collect()
    before, errors = os.listdir("/proc/self/fd"), []
    reserve(folder / "root", "c1")
    made(folder / "alice", ALICE)
    made(folder / "sticky", 0, 0o1777)
    (folder / "sticky/link").symlink_to("/etc")
    (folder / "file").touch()
    roots = ["root", "alice", "sticky", "sticky/link", "file", "missing"]
    for root in roots:
        for use in (
            lambda path: StateDir.open(path, "c3"),
            lambda path: StateDir(path, "c3").lock(),
            ids,
            safe_path.open_directory,
        ):
            try:
                use(str(folder / root))
            except (HostError, KernelError, StateError) as error:
                errors.append(error)
        try:
            reserve(folder / root, "c1")
        except (HostError, KernelError, StateError) as error:
            errors.append(error)
    assert len(errors) == 26
    assert os.listdir("/proc/self/fd") == before


def test_list_as_json_shows_our_containers_alone(runtime, bundle):
    id = runtime.started(bundle("sleep 100"))
    made(runtime.root / "of-alice", ALICE)
    assert [one["id"] for one in json.loads(runtime.ok("list", "--format=json").out)] == [id]
    (runtime.root / "of-alice").rmdir()
