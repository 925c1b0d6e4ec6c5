"""Root: no path leads out of it, whatever it contains."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.errors import KernelError
from pycontain.kernel import calls
from pycontain.kernel._ffi import ffi
from pycontain.kernel.root import Root, is_directory


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder for the root, beside one that must not be reached."""
    (tmp_path / "root").mkdir()
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/secret").write_text("secret")
    return tmp_path


@pytest.fixture
def root(place: Path) -> Iterator[Root]:
    made = Root(os.open(place / "root", os.O_PATH | os.O_DIRECTORY))
    yield made
    os.close(made.fd)


def where(fd: int) -> str:
    """The path of a descriptor; closes it."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


@pytest.mark.parametrize("path", ["/a/b", "a/b", "./a//b", "/../../a/b", "a/../a/b", "a/b/."])
def test_all_spellings_of_a_path_open_the_same_file(root, place, path):
    (place / "root/a/b").mkdir(parents=True)
    assert where(root.open(path)) == f"{place}/root/a/b"


@pytest.mark.parametrize("path", ["", "/", ".", "..", "/../.."])
def test_all_spellings_of_the_root_open_the_root(root, place, path):
    assert where(root.open(path)) == f"{place}/root"


LINKS = {
    "absolute": "{outside}",
    "relative": "../outside",
    "far": "../../../../../../../../{outside}",
    "chain": "relative",
    "magic": "/proc/self/root/{outside}",
}


@pytest.mark.parametrize("name", LINKS)
def test_a_link_out_of_the_root_does_not_lead_out(root, place, name):
    for link, target in LINKS.items():
        (place / "root" / link).symlink_to(target.format(outside=place / "outside"))
    assert root.find(f"{name}/secret") is None
    made = where(root.make_directory(f"{name}/made"))
    assert made.startswith(f"{place}/root/")
    os.close(root.make_file(f"{name}/file"))
    assert sorted(os.listdir(place / "outside")) == ["secret"]


def test_an_absolute_link_starts_at_the_root(root, place):
    (place / "root/real").mkdir()
    (place / "root/link").symlink_to("/real")
    assert where(root.open("/link")) == f"{place}/root/real"


def test_magic_links_are_not_followed(root, place):
    """/proc/self/root or /proc/self/fd/N inside a rootfs would be the host's."""
    proc = Root(os.open("/proc", os.O_PATH | os.O_DIRECTORY))
    for path in ("self/root", "self/cwd", "self/exe", f"self/fd/{root.fd}"):
        with pytest.raises(KernelError):
            proc.open(path)
    os.close(proc.fd)


def test_find_returns_none_for_a_missing_file(root, place):
    (place / "root/file").touch()
    assert root.find("nothing") is None
    assert root.find("file/below") is None
    assert root.find("file", os.O_PATH | os.O_DIRECTORY) is None


def test_errors_of_a_lookup_have_the_path(root, place):
    (place / "root/loop").symlink_to("loop")
    with pytest.raises(KernelError) as caught:
        root.find("loop")
    assert "loop" in str(caught.value)


def test_make_directory_creates_what_is_missing(root, place):
    old = os.umask(0o077)
    try:
        assert where(root.make_directory("/a/b/c")) == f"{place}/root/a/b/c"
        os.close(root.make_file("/d/file"))
        (place / "naive").mkdir()
        assert os.umask(0o077) == 0o077
    finally:
        os.umask(old)
    assert where(root.make_directory("a/b/c")) == f"{place}/root/a/b/c"
    modes = {name: (place / name).stat().st_mode & 0o777 for name in ("naive", "root/a", "root/d")}
    assert modes == {"naive": 0o700, "root/a": 0o755, "root/d": 0o755}
    assert (place / "root/a/b/c").stat().st_mode & 0o777 == 0o755
    assert (place / "root/d/file").stat().st_mode & 0o777 == 0o644


def test_the_target_of_a_dangling_link_is_created_in_the_root(root, place):
    (place / "root/var").mkdir()
    (place / "root/var/run").symlink_to("../run")
    (place / "root/abs").symlink_to("/made/here")
    assert where(root.make_directory("/var/run/lock")) == f"{place}/root/run/lock"
    assert where(root.make_directory("/abs")) == f"{place}/root/made/here"


def test_a_loop_of_dangling_links_is_an_error(root, place):
    (place / "root/one").symlink_to("two")
    (place / "root/two").symlink_to("one")
    with pytest.raises(KernelError) as caught:
        root.make_directory("one/x")
    assert caught.value.errno
    (place / "root/grows").symlink_to("grows/x")
    with pytest.raises(KernelError):
        root.make_directory("grows")


def test_an_error_on_the_way_names_the_requested_path(root, place):
    (place / "root/file").touch()
    with pytest.raises(KernelError) as caught:
        root.make_directory("/file/below")
    assert caught.value.fault.at == "/file/below"


def test_make_file_creates_a_file_and_its_directories_once(root, place):
    fd = root.make_file("/a/file")
    assert not is_directory(fd)
    assert where(fd) == f"{place}/root/a/file"
    assert (place / "root/a/file").stat().st_mode & 0o777 == 0o644
    (place / "root/a/file").write_text("kept")
    os.close(root.make_file("/a/file"))
    assert (place / "root/a/file").read_text() == "kept"
    assert where(root.make_file("/a")) == f"{place}/root/a"


def test_make_file_follows_a_dangling_link_in_the_root(root, place):
    (place / "root/link").symlink_to(place / "outside/new")
    made = root.make_file("/link")
    assert where(made) == f"{place}/root{place}/outside/new"
    assert not (place / "outside/new").exists()


def test_parent_creates_the_directory_and_returns_the_last_name(root, place):
    fd, name = root.parent("/x/y/z/")
    assert (where(fd), name) == (f"{place}/root/x/y", "z")
    fd, name = root.parent("/z")
    assert (where(fd), name) == (f"{place}/root", "z")


def test_a_failed_lookup_leaves_no_descriptor_open(root, place):
    (place / "root/link").symlink_to("/a/b")
    before = sorted(os.listdir("/proc/self/fd"))
    os.close(root.make_directory("/link/c/d"))
    os.close(root.make_file("/link/e/f"))
    os.close(root.parent("/link/g/h")[0])
    root.find("/nothing")
    with pytest.raises(KernelError):
        root.make_directory("/link/e/f/g")
    assert sorted(os.listdir("/proc/self/fd")) == before


# --- mounts that are remembered ------------------------------------------------------------------


@pytest.fixture
def mount(root, place) -> Iterator[int]:
    """A folder beside the root that acts as a mount on /m, where the root has a decoy."""
    (place / "mount/sub").mkdir(parents=True)
    (place / "root/m/sub").mkdir(parents=True)
    made = os.open(place / "mount", os.O_PATH | os.O_DIRECTORY)
    yield made
    os.close(made)


def test_a_path_into_a_trusted_mount_is_looked_up_in_that_mount(root, place, mount):
    root.remember("/m", mount, trusted=True)
    for path in ("/m/sub", "m/sub", "//m/./sub/"):
        assert where(root.open(path)) == f"{place}/mount/sub"
    assert where(root.open("/m")) == f"{place}/mount"
    assert where(root.make_directory("/m/new/er")) == f"{place}/mount/new/er"
    assert where(root.make_file("/m/file")) == f"{place}/mount/file"
    assert root.find("/m/missing") is None
    assert not (place / "root/m/new").exists()


def test_other_mounts_are_known_by_their_path_alone(root, place, mount):
    root.remember("/m", mount)
    assert root.mount("/m/") == mount
    assert where(root.open("/m/sub")) == f"{place}/root/m/sub"
    assert where(root.mount("/m/sub")) == f"{place}/root/m/sub"


def test_a_link_that_leads_out_of_a_trusted_mount_is_followed_from_the_root(root, place, mount):
    (place / "mount/absolute").symlink_to("/m/../target")
    (place / "mount/up").symlink_to("../target")
    (place / "root/target").mkdir()
    (place / "root/m/up").symlink_to("../target")
    (place / "root/m/absolute").symlink_to("/target")
    root.remember("/m", mount, trusted=True)
    for name in ("absolute", "up"):
        assert where(root.open(f"/m/{name}")) == f"{place}/root/target"


def test_dots_in_a_path_are_resolved_by_the_kernel(root, place, mount):
    root.remember("/m", mount, trusted=True)
    (place / "root/a").mkdir()
    assert where(root.open("/a/../m/sub")) == f"{place}/root/m/sub"


@pytest.mark.parametrize("path", ["/m", "/", "/m/"])
def test_a_later_mount_covers_those_below(root, place, mount, path):
    root.remember("/m", mount, trusted=True)
    root.remember("/m/sub", mount, trusted=True)
    root.remember("/mm", mount, trusted=True)
    other = root.open("/")
    root.remember(path, other)
    assert where(root.open("/m/sub")) == f"{place}/root/m/sub"
    assert ("/mm" in root.mounts) == (path != "/")


# --- a host on which files are constantly renamed ------------------------------------------------


def test_a_path_that_keeps_changing_is_given_up(root, monkeypatch):
    tries = []

    def interrupted(*arguments):
        tries.append(arguments)
        ffi.errno = errno.EAGAIN
        return -1

    monkeypatch.setattr(calls, "_openat2", interrupted)
    for look in (root.open, root.find, root.make_directory, root.make_file):
        tries.clear()
        with pytest.raises(KernelError, match="/a/../b keeps changing") as caught:
            look("/a/../b")
        assert caught.value.errno == errno.EAGAIN
        assert len(tries) == 128


def test_a_path_that_changed_once_is_looked_up_again(root, place, monkeypatch):
    (place / "root/a").mkdir()
    real, tries = calls._openat2, []

    def interrupted_once(*arguments):
        tries.append(arguments)
        if len(tries) > 1:
            return real(*arguments)
        ffi.errno = errno.EAGAIN
        return -1

    monkeypatch.setattr(calls, "_openat2", interrupted_once)
    assert where(root.open("/a")) == f"{place}/root/a"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EINTR])
def test_an_error_of_a_lookup_does_not_count_as_a_missing_file(
    root, place, mount, monkeypatch, number
):
    """A path would otherwise stay unmasked where something covers a trusted mount."""
    root.remember("/m", mount, trusted=True)
    real = calls.try_openat2

    def fail_from_the_root(fd, *rest):
        return -number if fd == root.fd else real(fd, *rest)

    monkeypatch.setattr(calls, "try_openat2", fail_from_the_root)
    with pytest.raises(KernelError) as caught:
        root.everywhere("/m/file")
    assert caught.value.errno == number
