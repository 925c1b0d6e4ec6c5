"""Users and groups by name, from the files of a root file system that may be hostile."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.errors import UsageError
from pycontain.image.accounts import Account, account

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
broken
huge:x:4294967295:0::/:/bin/sh
ann:x:1000:1001:Ann:/home/ann:/bin/sh
7:x:70:71:a name of digits:relative:/bin/sh
"""
GROUP = "root:x:0:\nstaff:x:1001:\nwheel:x:10:root,ann\nusers:x:100:ann\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "root/etc").mkdir(parents=True)
    (tmp_path / "root/etc/passwd").write_text(PASSWD)
    (tmp_path / "root/etc/group").write_text(GROUP)
    return tmp_path / "root"


@pytest.fixture
def root(folder: Path) -> Iterator[int]:
    fd = os.open(folder, os.O_PATH)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", Account(uid=0, gid=0, groups=(10,), home="/root")),
        ("root", Account(uid=0, gid=0, groups=(10,), home="/root")),
        ("ann", Account(uid=1000, gid=1001, groups=(10, 100), home="/home/ann")),
        ("1000", Account(uid=1000, gid=1001, groups=(10, 100), home="/home/ann")),
        ("ann:wheel", Account(uid=1000, gid=10, home="/home/ann")),
        ("ann:5", Account(uid=1000, gid=5, home="/home/ann")),
        ("ann:", Account(uid=1000, gid=1001, groups=(10, 100), home="/home/ann")),
        (":wheel", Account(uid=0, gid=10, home="/root")),
        ("55", Account(uid=55, gid=0)),
        ("55:66", Account(uid=55, gid=66)),
        ("7", Account(uid=70, gid=71)),
    ],
)
def test_an_account_is_found(root: int, text: str, expected: Account) -> None:
    assert account(root, text) == expected


@pytest.mark.parametrize("text", ["bob", "ann:nobodys", "huge", "4294967295", "-1", "１"])
def test_an_unknown_account_is_refused(root: int, text: str) -> None:
    with pytest.raises(UsageError, match="is not in /etc/"):
        account(root, text)


def test_without_account_files_numbers_are_accepted(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_PATH)
    assert account(fd, "") == Account()
    assert account(fd, "5:6") == Account(uid=5, gid=6)
    os.close(fd)


def test_a_link_in_place_of_an_account_file_stays_in_the_root(folder: Path, root: int) -> None:
    outside = folder.parent / "passwd"
    outside.write_text("bob:x:5:5::/:\n")
    (folder / "etc/passwd").unlink()
    (folder / "etc/passwd").symlink_to(outside)
    with pytest.raises(UsageError, match="user = bob is not in"):
        account(root, "bob")
    (folder / "etc/passwd").unlink()
    (folder / "etc/passwd").symlink_to("../../passwd")
    with pytest.raises(UsageError, match="user = bob is not in"):
        account(root, "bob")


@pytest.mark.control
def test_a_naive_path_follows_the_link_out_of_the_root(folder: Path) -> None:
    (folder.parent / "passwd").write_text("bob:x:5:5::/:\n")
    (folder / "etc/passwd").unlink()
    (folder / "etc/passwd").symlink_to("../../passwd")
    assert "bob" in (folder / "etc/passwd").read_text()


def test_an_account_file_that_is_not_a_regular_file_is_refused_at_once(
    folder: Path, root: int
) -> None:
    (folder / "etc/passwd").unlink()
    os.mkfifo(folder / "etc/passwd")
    with pytest.raises(UsageError, match="is not an ordinary file of at most 1 MiB"):
        account(root, "ann")
    (folder / "etc/passwd").unlink()
    with (folder / "etc/passwd").open("w") as file:
        file.truncate(2 << 20)
    with pytest.raises(UsageError, match="is not an ordinary file of at most 1 MiB"):
        account(root, "ann")
