"""
Which directories are ours: nobody else can change what is in them, or what their path leads to.

A state root, and whatever else root fills and empties, must be one (`kernel/safe_path.py`).
"""

from __future__ import annotations

import os
import stat
import struct

import pytest

from pycontain.errors import HostError, KernelError, StateError
from pycontain.kernel import safe_path
from pycontain.state.directory import StateDir, ids
from tests.security.attack import bind_by_path, in_a_child, mount_by_path, own_mounts
from tests.security.users import ALICE, BOB, BY_ALICE, as_user, made, refusal, reserve

pytestmark = pytest.mark.needs_root

# --- who may own and write to which directory ----------------------------------------------------

WRITABLE = "can be written to by other users"


def permit(path, uid):
    """Let another user write to a directory, by an access control list."""
    # acl(5): version 2; owner rwx, the user rwx, group ---, mask rwx, others ---
    none = 0xFFFF_FFFF
    entries = (1, 7, none), (2, 7, uid), (4, 0, none), (16, 7, none), (32, 0, none)
    packed = struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)
    try:
        os.setxattr(path, "system.posix_acl_access", packed)
    except OSError as error:
        pytest.skip(f"/tmp has no access control lists: {error}")


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o711, 0o1755])
def test_a_root_that_only_we_can_write_to_is_ours(folder, mode):
    made(folder / "root", 0, mode)
    reserve(folder / "root", "c1")
    assert ids(str(folder / "root")) == ["c1"]


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757, 0o1777, 0o1770, 0o2770])
def test_a_root_that_others_can_write_to_is_refused_even_if_it_is_sticky(folder, mode):
    root = made(folder / "root", 0, mode)
    assert refusal(root) == (str(root), WRITABLE)


@pytest.mark.parametrize("mode", [0o777, 0o775, 0o757])
def test_a_root_below_a_directory_that_others_can_write_to_is_refused(folder, mode):
    above = made(folder / "above", 0, mode)
    made(above / "between", 0, 0o700)
    made(above / "between/root", 0, 0o700)
    assert refusal(above / "between/root") == (str(above), WRITABLE)


def test_a_root_of_ours_in_a_sticky_directory_is_safe(folder):
    made(folder / "sticky", 0, 0o1777)
    made(folder / "sticky/root", 0, 0o700)
    assert safe_path.open_directory(str(folder / "sticky/root")).fd >= 0
    around = f"{folder.parent}/../{folder.parent.name}/./{folder.name}"
    assert safe_path.open_directory(around).fd >= 0


def test_another_user_cannot_rename_or_remove_a_root_in_a_sticky_directory(folder):
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
def test_each_directory_above_a_root_must_belong_to_root_or_to_us(folder, place):
    for name in ("above", "above/between", "above/between/root"):
        made(folder / name, ALICE if name == place else 0, 0o700)
    assert refusal(folder / "above/between/root") == (str(folder / place), BY_ALICE)


def test_a_sticky_directory_of_another_user_is_refused(folder):
    made(folder / "sticky", ALICE, 0o1777)
    made(folder / "sticky/root", 0, 0o700)
    assert refusal(folder / "sticky/root") == (str(folder / "sticky"), BY_ALICE)


def test_an_access_control_list_shows_in_the_bits_of_the_group(folder):
    root = made(folder / "root", 0, 0o700)
    permit(root, ALICE)
    as_user(ALICE, (root / "by-alice").mkdir)
    assert refusal(root) == (str(root), WRITABLE)


def test_missing_directories_are_created_for_us_alone(folder):
    assert safe_path.open_directory(str(folder / "a/b/root"), create=True).fd >= 0
    for name in ("a", "a/b", "a/b/root"):
        found = (folder / name).stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o700, 0)
    with pytest.raises(KernelError, match=f"open: {folder}/other does not exist"):
        safe_path.open_directory(str(folder / "other/root"))


def test_a_file_is_no_directory(folder):
    (folder / "file").touch()
    with pytest.raises(KernelError, match=f"open: {folder}/file not a directory"):
        safe_path.open_directory(str(folder / "file/root"), create=True)


def test_a_relative_path_starts_in_the_working_directory(folder, monkeypatch):
    made(folder / "root", 0, 0o700)
    monkeypatch.chdir(folder)
    assert os.path.samestat(os.fstat(safe_path.open_directory("root").fd), os.stat("root"))
    os.chown(folder, ALICE, ALICE)
    assert refusal("root") == (str(folder), BY_ALICE)


# --- a group that has no other member ------------------------------------------------------------

# passwd(5) and group(5) -> whether what the group of Alice's number may write is hers alone
HOSTS = {
    "her own group": (f"alice:x:{ALICE}:{ALICE}:", f"alice:x:{ALICE}:", True),
    "it lists herself": (f"alice:x:{ALICE}:{ALICE}:", f"alice:x:{ALICE}:alice", True),
    "known elsewhere": ("+", "+", True),
    "it lists another": (f"alice:x:{ALICE}:{ALICE}:", f"alice:x:{ALICE}:alice,bob", False),
    "another's first": (f"alice:x:{ALICE}:{ALICE}:\nbob:x:{BOB}:{ALICE}:", "", False),
}


def seen_by_alice(folder, root, passwd="", group="", gid=ALICE):
    """Why a directory is not hers, on a host with these users and groups; None if it is."""
    (folder / "passwd").write_text(f"{passwd}\n")
    (folder / "group").write_text(f"{group}\n")

    def look():
        own_mounts()
        for name in ("passwd", "group"):
            bind_by_path(folder / name, f"/etc/{name}")
        os.setgroups([])
        os.setresgid(gid, gid, gid)
        os.setresuid(ALICE, ALICE, ALICE)
        try:
            safe_path.open_directory(str(root))
        except HostError as error:
            return str(error)

    return in_a_child(look)


@pytest.mark.parametrize("host", HOSTS)
def test_a_users_own_group_may_write_only_if_it_has_no_other_members(folder, host):
    """A system that gives each user a group sets the umask to 002."""
    passwd, group, is_hers = HOSTS[host]
    above = made(folder / "above", ALICE, 0o775)
    root = made(above / "root", ALICE, 0o2775)
    why = seen_by_alice(folder, root, passwd, group)
    assert (why is None) == is_hers
    assert is_hers or f"{above} {WRITABLE}" in why


@pytest.mark.control
def test_a_member_of_the_group_can_replace_a_root_below_a_directory_that_it_may_write_to(folder):
    root = made(made(folder / "above", ALICE, 0o775) / "root", ALICE, 0o700)

    def attack():
        os.setgroups([ALICE])
        os.setresuid(BOB, BOB, BOB)
        root.rename(f"{root}.old")
        root.mkdir()

    in_a_child(attack)
    assert root.stat().st_uid == BOB


@pytest.mark.parametrize(("group", "gid"), [(BOB, ALICE), (BOB, BOB), (0, 0), (ALICE, BOB)])
def test_no_other_group_may_write_even_if_it_has_no_members(folder, group, gid):
    root = made(folder / "root", ALICE, 0o700)
    os.chown(root, ALICE, group)
    root.chmod(0o775)
    assert WRITABLE in seen_by_alice(folder, root, gid=gid)


def test_a_root_that_everybody_can_write_to_is_refused_to_its_owner(folder):
    assert WRITABLE in seen_by_alice(folder, made(folder / "root", ALICE, 0o777))


def test_a_root_that_an_access_control_list_opens_to_others_is_refused(folder):
    root = made(folder / "root", ALICE, 0o700)
    permit(root, BOB)
    as_user(BOB, (root / "by-bob").mkdir)
    assert WRITABLE in seen_by_alice(folder, root)


def test_the_error_names_the_chmod_that_makes_a_root_safe(folder, runtime):
    runtime.root = made(folder / "root", 0, 0o775)
    said = runtime.refuses("list")
    assert f"{runtime.root} {WRITABLE}" in said
    assert f"chmod go-w {runtime.root}" in said
    runtime.root.chmod(0o755)
    runtime.ok("list")


# --- links on the way ----------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["there", "{}/there", "../{}/there", "./x/../there//"])
def test_a_link_that_only_we_can_have_made_is_followed(folder, target):
    """/var/run is such a link, and Docker's --root is below it."""
    made(folder / "there")
    made(folder / "there/root", 0, 0o700)
    made(folder / "x")
    absolute = target.startswith("{")
    (folder / "way").symlink_to(target.format(folder if absolute else folder.name))
    opened = safe_path.open_directory(str(folder / "way/root"))
    assert os.path.samestat(os.fstat(opened.fd), (folder / "there/root").stat())


def test_the_directories_to_which_a_link_leads_are_checked(folder):
    made(folder / "alice", ALICE)
    made(folder / "alice/root", 0, 0o700)
    (folder / "way").symlink_to(folder / "alice/root")
    assert refusal(folder / "way") == (str(folder / "alice"), BY_ALICE)


def test_a_link_in_a_sticky_directory_is_refused_whoever_owns_the_link(folder):
    """A link of ours can be there under a name that another user chose (link(2))."""
    sticky = made(folder / "sticky", 0, 0o1777)
    (sticky / "root").symlink_to("/etc")
    why = "is a link in a directory that other users can write to"
    assert refusal(sticky / "root") == (str(sticky / "root"), why)
    assert os.stat(sticky / "root").st_uid == 0, "the naive check is satisfied"


def test_a_loop_of_links_in_the_path_of_a_root_is_an_error(folder):
    (folder / "loop").symlink_to("loop")
    with pytest.raises(KernelError, match="too many levels of symbolic links"):
        safe_path.open_directory(str(folder / "loop/root"))


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


def test_a_file_system_mounted_in_a_mount_namespace_of_ours_is_accepted(folder):
    root = made(folder / "root")

    def look():
        mount_by_path("tmpfs", root)
        root.chmod(0o700)
        return safe_path.open_directory(str(root)).fd >= 0

    assert in_a_child(look)


# --- other users as callers ----------------------------------------------------------------------


def test_another_user_can_have_a_root_of_their_own(folder):
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


def test_another_user_may_read_a_directory_of_root_but_sees_no_containers(folder):
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
