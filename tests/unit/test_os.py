"""Our part of `os` behaves like the standard library's."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.lean import os as ours

PATHS = st.text(st.sampled_from("/.ab\ud800é"), max_size=12)


@given(PATHS)
def test_paths_are_split_as_by_os(path):
    assert ours.path.split(path) == os.path.split(path)
    assert ours.path.dirname(path) == os.path.dirname(path)


@given(PATHS)
def test_paths_are_normalized_as_by_os(path):
    assert ours.path.normpath(path) == os.path.normpath(path)
    assert ours.path.abspath(path) == os.path.abspath(path)


@given(PATHS, st.lists(PATHS, max_size=3))
def test_paths_are_joined_as_by_os(path, more):
    assert ours.path.join(path, *more) == os.path.join(path, *more)


@given(st.binary(max_size=12))
def test_names_are_decoded_and_encoded_as_by_os(name):
    assert ours.fsdecode(name) == os.fsdecode(name)
    assert ours.fsencode(os.fsdecode(name)) == name


@pytest.mark.parametrize("name", ["folder", "file", "link", "broken", "missing", "nul\0"])
def test_files_are_found_as_by_os(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("folder")
    (tmp_path / "broken").symlink_to("missing")
    path = f"{tmp_path}/{name}"
    for function in ("exists", "lexists", "isdir"):
        assert getattr(ours.path, function)(path) == getattr(os.path, function)(path)


def test_a_link_is_the_same_file_as_its_target(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "other").touch()
    (tmp_path / "link").symlink_to("file")
    assert ours.path.samefile(f"{tmp_path}/file", f"{tmp_path}/link")
    assert not ours.path.samefile(f"{tmp_path}/file", f"{tmp_path}/other")


def test_missing_directories_are_created_with_their_parents(tmp_path):
    ours.makedirs(f"{tmp_path}/a/b/c", 0o700)
    ours.makedirs(f"{tmp_path}/a/b/c", 0o700)
    assert (tmp_path / "a" / "b" / "c").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a").is_dir()


def test_as_many_directories_are_created_as_a_path_can_name(tmp_path):
    """Half of PATH_MAX, more than Python can recurse."""
    deep = f"{tmp_path}{'/d' * 1900}"
    ours.makedirs(deep)
    assert os.path.isdir(deep)
    for end in range(1900, 0, -1):
        os.rmdir(f"{tmp_path}{'/d' * end}")


def test_nothing_is_created_below_a_directory_that_was_removed(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(FileNotFoundError):
        ours.makedirs("a/b")


def test_a_file_in_place_of_a_directory_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        ours.makedirs(f"{tmp_path}/file")
    with pytest.raises(NotADirectoryError):
        ours.makedirs(f"{tmp_path}/file/below")
