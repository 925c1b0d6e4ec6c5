"""The cache of compiled profiles: what it trusts, what it refuses, what it compiles again."""

from __future__ import annotations

import itertools
import os
import struct
from pathlib import Path

import pytest

from pycontain.errors import HostError
from pycontain.kernel import safe_path, seccomp
from pycontain.plan import seccomp as plan
from tests.kernel.seccomp_profiles import (
    ALLOW,
    arg,
    dockers_size,
    profile,
    rule,
)


class Cache:
    """A cache whose compilations are counted."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.compilations = 0
        self._compile = seccomp.to_bpf
        monkeypatch.setattr(seccomp, "to_bpf", self._counted)

    def _counted(self, policy: seccomp.Profile) -> bytes:
        self.compilations += 1
        return self._compile(policy)

    def program(self, policy: plan.Profile) -> bytes:
        parent = safe_path.open_directory(str(self.directory.parent))
        return seccomp.compiled(policy, plan.key(policy), str(self.directory), parent)

    def file(self) -> Path:
        (only,) = self.directory.iterdir()
        return only


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    return Cache(tmp_path / "seccomp", monkeypatch)


def test_a_profile_is_compiled_once(cache: Cache) -> None:
    policy = dockers_size()
    programs = {cache.program(policy), cache.program(policy), seccomp.to_bpf(policy)}
    assert len(programs) == 1
    assert cache.compilations == 2  # one of them by this test itself
    assert cache.directory.stat().st_mode & 0o7777 == 0o700
    assert cache.file().stat().st_mode & 0o7777 == 0o600


def test_a_hit_in_the_cache_does_not_load_libseccomp(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = profile(rule("read"))
    program = cache.program(policy)
    monkeypatch.setattr(seccomp, "_LIBRARY", "libseccomp.so.0")
    assert cache.program(policy) == program
    with pytest.raises(HostError, match="cannot be loaded"):
        cache.program(profile(rule("write")))


def test_a_damaged_file_of_the_cache_is_replaced(cache: Cache) -> None:
    policy = profile(rule("read"))
    program = cache.program(policy)
    whole = cache.file().read_bytes()
    damages = [b"", whole[:-8], whole + bytes(8), whole[:-1] + bytes([whole[-1] ^ 1]), bytes(400)]
    for damaged in damages:
        cache.file().write_bytes(damaged)
        assert cache.program(policy) == program
        assert cache.file().read_bytes() == whole
    assert cache.compilations == 1 + len(damages)


def test_a_valid_file_of_another_user_is_not_trusted(cache: Cache) -> None:
    policy = profile(rule("read"))
    program = cache.program(policy)
    lax = struct.pack("=HBBI", 6, 0, 0, ALLOW)
    stamp = cache.file().read_bytes()[32:].partition(b"\n")[0]
    rest = stamp + b"\n" + lax
    cache.file().write_bytes(seccomp._digest(plan.key(policy), rest) + rest)
    assert cache.program(policy) == lax  # a file of ours is trusted

    os.chown(cache.file(), 65534, 65534)
    assert cache.program(policy) == program
    assert cache.file().stat().st_uid == os.geteuid()

    cache.file().write_bytes(seccomp._digest(plan.key(policy), rest) + rest)
    cache.file().chmod(0o620)
    assert cache.program(policy) == program
    assert cache.compilations == 3


@pytest.mark.parametrize("mode", [0o770, 0o707])
def test_a_directory_that_others_can_write_to_is_refused(cache: Cache, mode: int) -> None:
    cache.directory.mkdir()
    cache.directory.chmod(mode)
    with pytest.raises(HostError, match="belongs to another user, or others can write to it"):
        cache.program(profile(rule("read")))


def test_a_directory_of_another_user_is_refused(cache: Cache) -> None:
    cache.directory.mkdir(0o700)
    os.chown(cache.directory, 65534, 65534)
    with pytest.raises(HostError, match="remove it: a new one will be created"):
        cache.program(profile(rule("read")))


def test_a_symbolic_link_is_not_followed(cache: Cache, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(0o700)
    cache.directory.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="Not a directory"):
        cache.program(profile(rule("read")))


def test_another_version_of_libseccomp_compiles_the_program_again(
    cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = profile(rule("read"))
    path = tmp_path / "libseccomp.so.2"
    path.write_bytes(b"one build")
    monkeypatch.setattr(seccomp, "_library_path", lambda: os.fsencode(path))
    cache.program(policy)
    cache.program(policy)
    assert cache.compilations == 1
    path.write_bytes(b"the next build")
    cache.program(policy)
    cache.program(policy)
    assert cache.compilations == 2
    path.rename(tmp_path / "moved")
    monkeypatch.setattr(seccomp, "_library_path", lambda: os.fsencode(tmp_path / "moved"))
    cache.program(policy)
    cache.program(policy)
    assert cache.compilations == 3


def test_profiles_that_share_a_file_name_replace_each_other(cache: Cache) -> None:
    places: dict[str, plan.Profile] = {}
    for number in itertools.count():
        second = profile(rule("read", args=[arg(0, "EQ", number)]))
        first = places.setdefault(plan.key(second).hex()[:3], second)
        if first is not second:
            break
    for policy in (first, second, first):
        assert cache.program(policy) == seccomp.to_bpf(policy)
    assert cache.compilations == 6  # three of them by this test itself
    assert cache.file().is_file()


def test_two_writers_leave_one_whole_file(cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = profile(rule("read"))
    unlink = seccomp.os.unlink

    def overtaken(path: str, *, dir_fd: int) -> None:
        monkeypatch.setattr(seccomp.os, "unlink", unlink)
        cache.program(policy)
        raise FileNotFoundError

    monkeypatch.setattr(seccomp.os, "unlink", overtaken)
    assert cache.program(policy) == seccomp.to_bpf(policy)
    assert cache.compilations == 3
    assert cache.program(policy) == seccomp.to_bpf(policy)
    assert cache.compilations == 4
    assert cache.file().is_file()
