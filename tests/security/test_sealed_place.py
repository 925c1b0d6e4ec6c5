"""
The place of the sealed interpreters: what is planted there is refused, what is stale is removed.

The naive seal follows any path.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from pycontain.errors import HostError
from pycontain.kernel import const as c
from pycontain.kernel import seal
from pycontain.kernel.mounts import Tree
from tests.security.attack import mount_points
from tests.security.seals import (
    HOME,
    NOBODY,
    elsewhere,
    naive_seal,
    run,
    sealed_mounts,
    upgrade,
)

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_overlay]

# --- what was planted ----------------------------------------------------------------------------


def link_instead_of_the_base(folder, _):
    HOME.mkdir()
    os.symlink(folder, seal.BASE)


def link_instead_of_the_home(folder, _):
    os.symlink(folder, HOME)


def link_instead_of_the_mount_point(folder, victim):
    os.makedirs(seal.BASE)
    os.symlink(folder, os.path.dirname(seal.place(str(victim))))


def base_of_another_user(folder, _):
    os.makedirs(seal.BASE, 0o700)
    os.chown(seal.BASE, NOBODY, NOBODY)


def home_that_others_write_to(folder, _):
    HOME.mkdir()
    HOME.chmod(0o777)


PLANTED = [
    link_instead_of_the_base,
    link_instead_of_the_home,
    link_instead_of_the_mount_point,
    base_of_another_user,
    home_that_others_write_to,
]


@pytest.mark.parametrize("plant", PLANTED)
def test_a_planted_directory_or_link_is_refused(victim, folder, plant, monkeypatch):
    def work():
        plant(folder, victim)
        before = mount_points()
        with pytest.raises(HostError) as caught:
            seal.mounted(str(victim))
        monkeypatch.setattr(seal, "own", lambda: str(victim))
        found = os.readlink(seal.interpreter())
        return str(caught.value), found, mount_points() == before

    error, found, unchanged = elsewhere(work)
    assert error.startswith("/var/lib/pycontain")
    assert error.endswith("remove it")
    assert found == "/memfd:pycontain (deleted)"
    assert unchanged
    assert sorted(os.listdir(folder)) == ["bin"]


@pytest.mark.control
def test_a_naive_seal_follows_a_planted_link(victim, folder):
    (folder / "naive").mkdir()

    def work():
        os.symlink(folder, HOME)
        (HOME / "naive").rmdir()
        naive_seal(victim)
        return mount_points()

    assert str(folder / "naive") in elsewhere(work)


# --- what is stale -------------------------------------------------------------------------------


def test_the_seal_of_a_deleted_interpreter_is_removed_while_it_runs(victim):
    other = victim.with_name("python4")
    shutil.copy(victim, other)

    def work():
        seal.mounted(str(victim))
        with subprocess.Popen(
            [seal.mounted(str(other)), "-ISc", "print(input())"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as running:  # fmt: skip
            other.unlink()
            upgrade(victim)
            seal.mounted(str(victim))
            left = os.listdir(seal.BASE), sealed_mounts()
            return *left, running.communicate("still here\n")[0]

    key = os.path.dirname(seal.place(str(victim)))
    assert elsewhere(work) == [[os.path.basename(key)], [key], "still here\n"]


REPORT = f"""
import sys
sys.path[:] = {sys.path!r}
from pycontain.kernel import seal
input()
print(seal.is_sealed(), seal.interpreter())
"""


def test_a_process_whose_seal_was_detached_finds_the_new_one(victim):
    def work():
        with subprocess.Popen(
            [victim, "-IS", "-c", REPORT], executable=seal.mounted(str(victim)),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        ) as running:  # fmt: skip
            upgrade(victim)
            seal.mounted(str(victim))
            printed, _ = running.communicate("\n")
        return printed.split(), len(sealed_mounts())

    assert elsewhere(work) == [["False", seal.place(str(victim))], 1]


def test_an_interpreter_behind_a_script_is_sealed_itself(victim, folder):
    """Some distributions put a script around Python, which passes its own name on to it."""
    script = folder / "python"
    script.write_text(f'#!/bin/bash\nexec -a "$0" {victim} "$@"\n')
    script.chmod(0o755)

    def work():
        done = run(script, "-ISc", REPORT, input="\n")
        assert done.stderr == ""
        return done.stdout.split()

    assert elsewhere(work) == ["False", seal.place(str(victim))]


def former_seal(victim):
    """What versions before this one have left: an overlay above a link to the interpreter."""
    place = HOME / "python" / str(victim.parent).replace("/", "%")
    place.mkdir(parents=True)
    (place / victim.name).symlink_to(victim)
    tree = Tree.new("overlay", (f"lowerdir={victim.parent}:/mnt",), c.MOUNT_ATTR_RDONLY)
    target = os.open(place, os.O_PATH)
    tree.attach(target)
    return place / victim.name


def test_the_overlay_of_a_former_version_is_detached_and_its_program_files_work(victim):
    def work():
        former = former_seal(victim)
        done = run(former, "-ISc", REPORT, input="\n")
        assert done.stderr == ""
        return done.stdout.split(), sealed_mounts(), str(former.resolve()), mount_points()

    printed, sealed, leads_to, mounts = elsewhere(work)
    place = seal.place(str(victim))
    assert printed == ["False", place]
    assert sealed == [os.path.dirname(place)]
    assert leads_to == str(victim)
    assert not [path for path in mounts if path.startswith(f"{HOME}/python")]


def test_concurrent_first_invocations_mount_once(victim):
    def work():
        children = []
        for _ in range(4):
            pid = os.fork()
            if pid == 0:
                seal.mounted(str(victim))
                os._exit(0)
            children.append(pid)
        statuses = [os.waitpid(pid, 0)[1] for pid in children]
        return statuses, len(sealed_mounts())

    assert elsewhere(work) == [[0] * 4, 1]


@pytest.mark.parametrize("path", ["/usr/bin/python3", "/a/%b", "/a%/b", "/%2F", "/a%25/2F"])
def test_each_interpreter_has_its_own_place(path):
    assert seal.source(seal.place(path)) == path
    assert seal.place(path).count("/") == seal.BASE.count("/") + 2
