"""
CVE-2022-21658 and its kind: what was checked is a path, and what is then removed is a path, too.

Another user, in whose directory our --root is, exchanges the root for a link in between. `delete`
then empties a directory of that user's choice.
"""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import stat
import struct
import tempfile
import time
from pathlib import Path

import pytest

from pycontain.errors import HostError, KernelError, StateError
from pycontain.kernel import ours
from pycontain.state.directory import StateDir, directories, ids
from pycontain.state.record import State
from tests.bundles import LIMIT
from tests.security.attack import in_a_child, mount_by_path, snapshot
from tests.security.test_mount_race import swap

pytestmark = pytest.mark.needs_root

ALICE, BOB = 12345, 12346
STATE = State(id="c1", ociVersion="1.2.0", bundle="/b", rootfs="/b/r")


@pytest.fixture
def folder():
    """A directory of root's that everybody can enter; that of pytest is closed to other users."""
    path = Path(tempfile.mkdtemp(dir="/tmp"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


def made(path, owner=0, mode=0o755):
    path.mkdir()
    os.chown(path, owner, owner)
    path.chmod(mode)
    return path


def reserve(root, id):
    """Create the directory of a container, and nothing in it."""
    directory = StateDir(str(root), id)
    directory.reserve()
    directory.close()


def as_user(uid, work):
    """Call `work` in a new process of this user; returns its result, passed on as JSON."""

    def become_and_work():
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
        return work()

    return in_a_child(become_and_work)


class Attacker:
    """A process of another user that does the same over and over."""

    def __init__(self, uid, work):
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.setgroups([])
                os.setresgid(uid, uid, uid)
                os.setresuid(uid, uid, uid)
                while True:
                    work()
                    time.sleep(20e-6)  # otherwise nobody else gets to use the directory
            finally:
                os._exit(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        assert os.waitpid(self.pid, os.WNOHANG) == (0, 0), "the attacker has failed"
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


def refusal(path, **how):
    """Why a directory is not ours: (the one that is to blame, the reason)."""
    with pytest.raises(HostError) as caught:
        ours.open_directory(str(path), **how)
    return caught.value.fault.at, caught.value.fault.why


# --- who may own and write to which directory ----------------------------------------------------

WRITABLE = "can be written to by other users"
BY_ALICE = f"belongs to user {ALICE}, not to root"


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o711, 0o1755])
def test_a_root_that_only_we_can_write_to_is_ours(folder, mode):
    made(folder / "root", 0, mode)
    reserve(folder / "root", "c1")
    assert ids(str(folder / "root")) == ["c1"]


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757, 0o1777, 0o1770, 0o2770])
def test_a_root_that_others_can_write_to_is_refused_sticky_or_not(folder, mode):
    root = made(folder / "root", 0, mode)
    assert refusal(root) == (str(root), WRITABLE)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_so_is_one_below_a_directory_that_others_can_write_to(folder, mode):
    above = made(folder / "above", 0, mode)
    made(above / "between", 0, 0o700)
    made(above / "between/root", 0, 0o700)
    assert refusal(above / "between/root") == (str(above), WRITABLE)


def test_below_a_sticky_directory_our_own_is_safe(folder):
    made(folder / "sticky", 0, 0o1777)
    made(folder / "sticky/root", 0, 0o700)
    assert ours.open_directory(str(folder / "sticky/root")).fd >= 0
    assert ours.open_directory("/tmp/../tmp/./" + folder.name).fd >= 0


def test_there_another_user_can_neither_rename_nor_remove_it(folder):
    """What the rule relies on; in a directory that is not sticky, both are possible."""
    made(folder / "sticky", 0, 0o1777)
    root = made(folder / "sticky/root", 0, 0o700)

    def attack():
        errors = []
        for change in (lambda: root.rename(f"{root}.old"), root.rmdir):
            try:
                change()
                errors.append(0)
            except OSError as error:
                errors.append(error.errno)
        return errors

    assert as_user(ALICE, attack) == [1, 1]
    (folder / "sticky").chmod(0o777)
    assert as_user(ALICE, attack)[0] == 0


@pytest.mark.parametrize("place", ["above", "above/between", "above/between/root"])
def test_each_directory_on_the_way_must_be_roots_or_ours(folder, place):
    for name in ("above", "above/between", "above/between/root"):
        made(folder / name, ALICE if name == place else 0, 0o700)
    assert refusal(folder / "above/between/root") == (str(folder / place), BY_ALICE)


def test_the_owner_of_a_sticky_directory_is_no_exception(folder):
    made(folder / "sticky", ALICE, 0o1777)
    made(folder / "sticky/root", 0, 0o700)
    assert refusal(folder / "sticky/root") == (str(folder / "sticky"), BY_ALICE)


def test_an_access_control_list_shows_in_the_bits_of_the_group(folder):
    root = made(folder / "root", 0, 0o700)
    # acl(5): version 2; owner rwx, user ALICE rwx, group ---, mask rwx, others ---
    none = 0xFFFF_FFFF
    entries = (1, 7, none), (2, 7, ALICE), (4, 0, none), (16, 7, none), (32, 0, none)
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(root, "system.posix_acl_access", packed)
    except OSError as error:
        pytest.skip(f"/tmp has no access control lists: {error}")
    as_user(ALICE, (root / "by-alice").mkdir)
    assert refusal(root) == (str(root), WRITABLE)


def test_what_is_missing_is_created_for_us_alone(folder):
    assert ours.open_directory(str(folder / "a/b/root"), create=True).fd >= 0
    for name in ("a", "a/b", "a/b/root"):
        found = (folder / name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o700, 0)
    with pytest.raises(KernelError, match=f"open: {folder}/other does not exist"):
        ours.open_directory(str(folder / "other/root"))


def test_a_file_is_no_directory(folder):
    (folder / "file").touch()
    with pytest.raises(KernelError, match=f"open: {folder}/file not a directory"):
        ours.open_directory(str(folder / "file/root"), create=True)


def test_a_relative_path_starts_in_the_working_directory(folder, monkeypatch):
    made(folder / "root", 0, 0o700)
    monkeypatch.chdir(folder)
    assert os.path.samestat(os.fstat(ours.open_directory("root").fd), os.stat("root"))
    os.chown(folder, ALICE, ALICE)
    assert refusal("root") == (str(folder), BY_ALICE)


# --- links on the way ----------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["there", "{}/there", "../{}/there", "./x/../there//"])
def test_a_link_that_only_we_can_have_made_is_followed(folder, target):
    """/var/run is such a link, and Docker's --root is below it."""
    made(folder / "there")
    made(folder / "there/root", 0, 0o700)
    made(folder / "x")
    absolute = target.startswith("{")
    (folder / "way").symlink_to(target.format(folder if absolute else folder.name))
    opened = ours.open_directory(str(folder / "way/root"))
    assert os.path.samestat(os.fstat(opened.fd), (folder / "there/root").stat())


def test_what_it_leads_to_is_checked_as_well(folder):
    made(folder / "alice", ALICE)
    made(folder / "alice/root", 0, 0o700)
    (folder / "way").symlink_to(folder / "alice/root")
    assert refusal(folder / "way") == (str(folder / "alice"), BY_ALICE)


def test_a_link_in_a_sticky_directory_is_refused_whoever_owns_it(folder):
    """A link of ours can be there under a name that another user chose (link(2))."""
    sticky = made(folder / "sticky", 0, 0o1777)
    (sticky / "root").symlink_to("/etc")
    why = "is a link in a directory that other users can write to"
    assert refusal(sticky / "root") == (str(sticky / "root"), why)
    assert os.stat(sticky / "root").st_uid == 0, "the naive check is satisfied"


def test_a_loop_of_links_ends(folder):
    (folder / "loop").symlink_to("loop")
    with pytest.raises(KernelError, match="too many levels of symbolic links"):
        ours.open_directory(str(folder / "loop/root"))


def test_a_file_system_mounted_in_a_sticky_directory_is_refused(folder):
    """With FUSE another user can have mounted it, and claim that root owns all that is in it."""
    sticky = made(folder / "sticky", 0, 0o1777)
    root = made(sticky / "root", ALICE, 0o755)

    def look():
        mount_by_path("tmpfs", root)
        root.chmod(0o700)
        found = root.stat()
        return [*refusal(root), found.st_uid, stat.S_IMODE(found.st_mode)]

    why = "is a file system mounted in a directory that other users can write to"
    assert in_a_child(look) == [str(root), why, 0, 0o700]


def test_one_mounted_where_only_we_can_mount_is_not(folder):
    root = made(folder / "root")

    def look():
        mount_by_path("tmpfs", root)
        root.chmod(0o700)
        return ours.open_directory(str(root)).fd >= 0

    assert in_a_child(look)


# --- other users as callers ----------------------------------------------------------------------


def test_another_user_has_a_root_of_their_own(folder):
    made(folder / "sticky", 0, 0o1777)
    root = folder / "sticky/of-alice"

    def work():
        reserve(root, "c1")
        return ids(str(root))

    assert as_user(ALICE, work) == ["c1"]
    assert root.stat().st_uid == ALICE
    why = f"belongs to user {ALICE}, not to root or user {BOB}"
    assert list(as_user(BOB, lambda: refusal(root))) == [str(root), why]
    assert refusal(root) == (str(root), BY_ALICE)


def test_for_them_directories_of_roots_are_safe_but_not_its_containers(folder):
    root = made(folder / "root")
    reserve(root, "of-root")

    def work():
        found = ids(str(root))
        try:
            StateDir.open(str(root), "of-root")
        except StateError as error:
            return [found, str(error)]

    found, said = as_user(ALICE, work)
    assert found == []
    assert f"belongs to user 0, not to user {ALICE}" in said


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


def test_no_command_uses_such_a_root_whatever_happens_meanwhile(runtime, bundle, race):
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
        monkeypatch.setattr(ours._Walk, name, lambda *_: None)


def test_what_is_open_already_is_used_whatever_its_path_leads_to(race, credulous):
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
def test_the_same_by_path_empties_the_other_directory(race):
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
                opened = ours.open_directory(str(root), create=True)
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


def test_the_containers_of_a_root_are_found_in_the_one_that_was_opened(folder):
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
            ours.open_directory,
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


def test_json_of_list_is_about_ours_alone(runtime, bundle):
    id = runtime.started(bundle("sleep 100"))
    made(runtime.root / "of-alice", ALICE)
    assert [one["id"] for one in json.loads(runtime.ok("list", "--format=json").out)] == [id]
    (runtime.root / "of-alice").rmdir()
