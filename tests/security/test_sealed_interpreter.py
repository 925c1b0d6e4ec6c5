"""
The sealed interpreter keeps nothing that the host has replaced or disarmed, and is root's alone.

The naive seal is an overlay of the interpreter's whole directory, mounted once a boot at a place
that everybody can enter.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from pycontain.cli import launcher, shebang
from pycontain.errors import KernelError
from pycontain.kernel import const as c
from pycontain.kernel import seal, sealed_copy
from pycontain.kernel.mounts import Tree
from tests.security.attack import PYTHON, effective_uid_program, mount_by_path
from tests.security.seals import (
    AS_NOBODY,
    NOBODY,
    elsewhere,
    lines_of,
    naive_seal,
    run,
    sealed_mounts,
    size_of_the_running,
    upgrade,
)

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_overlay]
x86_64 = pytest.mark.skipif(platform.machine() != "x86_64", reason="needs x86-64: machine code")

# --- an upgrade ----------------------------------------------------------------------------------


def test_an_interpreter_that_was_replaced_is_sealed_anew(victim):
    def work():
        old = size_of_the_running(seal.mounted(str(victim)))
        upgrade(victim)
        return size_of_the_running(seal.mounted(str(victim))) - old, len(sealed_mounts())

    assert elsewhere(work) == [1, 1]


@pytest.mark.control
def test_a_naive_seal_keeps_the_interpreter_that_was_replaced(victim):
    def work():
        sealed = naive_seal(victim)
        old = size_of_the_running(sealed)
        upgrade(victim)
        return size_of_the_running(sealed) - old

    assert elsewhere(work) == 0


def other_device(path):
    """The same in another file system, where it even gets the same inode."""
    found, content = path.stat(), path.read_bytes()
    mount_by_path("tmpfs", path.parent)
    path.write_bytes(content)
    path.chmod(found.st_mode)
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def other_inode(path):
    copy = path.with_suffix(".new")
    shutil.copy2(path, copy)
    copy.replace(path)


def other_size(path):
    found = path.stat()
    with path.open("ab") as file:
        file.write(b"\0")
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def other_time(path):
    os.utime(path, ns=(0, 1))


CHANGES = {
    "st_dev": other_device,
    "st_ino": other_inode,
    "st_size": other_size,
    "st_mtime_ns": other_time,
}


@pytest.mark.parametrize("field", CHANGES)
def test_any_change_of_the_interpreter_is_noticed(field):
    def work():
        mount_by_path("tmpfs", "/mnt")
        path = Path("/mnt/python3")
        shutil.copy(PYTHON, path)
        sealed = os.path.dirname(seal.mounted(str(path)))
        assert seal.is_current(sealed)
        before = path.stat()
        CHANGES[field](path)
        after = path.stat()
        changed = [name for name in CHANGES if getattr(before, name) != getattr(after, name)]
        outdated = not seal.is_current(sealed)
        seal.mounted(str(path))
        return changed, outdated, seal.is_current(sealed)

    assert elsewhere(work) == [[field], True, True]


def program(victim, folder, monkeypatch):
    """The program file that the launcher writes for this interpreter."""
    monkeypatch.setattr(seal, "own", lambda: str(victim))
    monkeypatch.setattr(shebang, "_DIRECTORY", str(folder))
    path = folder / "pycontain"
    path.write_text(launcher.text())
    path.chmod(0o755)
    return path


def test_the_next_container_is_created_by_the_new_interpreter(victim, folder, bundle, monkeypatch):
    made = bundle("true")
    hook = made.script("hook.sh", f"stat -L -c %s /proc/$PPID/exe >>{folder}/seen")
    made.edit({"hooks": {"createRuntime": [{"path": str(hook)}]}})

    def work():
        path = program(victim, folder, monkeypatch)
        how = ("--root", str(folder / "state"), "--cgroup-manager", "disabled")
        mounts = []
        for change in (None, upgrade, None):
            if change:
                change(victim)
            name = f"upgraded-{os.getpid()}"
            done = run(path, *how, "run", "--bundle", str(made.path), name)
            assert (done.returncode, done.stderr) == (0, "")
            mounts.append([line for line in lines_of("/proc/self/mountinfo") if seal.BASE in line])
        return mounts

    size = victim.stat().st_size
    first, second, third = elsewhere(work)
    assert [int(line) - size for line in lines_of(folder / "seen")] == [0, 1, 1]
    assert len(first) == len(second) == 1
    assert first != second == third  # a seal that is current is used again


def test_a_source_that_keeps_changing_is_copied_into_memory(victim, monkeypatch):
    def unstable(path, target, copy=sealed_copy._copy):
        made = copy(path, target)
        os.utime(path)
        return made

    def work():
        monkeypatch.setattr(sealed_copy, "_copy", unstable)
        monkeypatch.setattr(seal, "own", lambda: str(victim))
        with pytest.raises(KernelError, match="keeps changing"):
            seal.mounted(str(victim))
        return os.readlink(seal.interpreter()), sealed_mounts()

    assert elsewhere(work) == ["/memfd:pycontain (deleted)", []]


# --- a revoked right -----------------------------------------------------------------------------


@pytest.fixture
def helper(victim):
    """A setuid program beside the interpreter, which exits with its effective user id."""
    path = victim.parent / "helper"
    path.write_bytes(effective_uid_program())
    path.chmod(0o4755)
    if os.statvfs(path).f_flag & os.ST_NOSUID:
        pytest.skip("needs a temporary directory without nosuid")
    return path


def status_for_nobody(path):
    try:
        return run(path, **AS_NOBODY).returncode
    except PermissionError:
        return "refused"


@x86_64
def test_a_setuid_program_that_was_disarmed_has_no_rights_through_the_seal(victim, helper):
    def work():
        sealed = Path(seal.mounted(str(victim)))
        armed = status_for_nobody(helper)
        helper.chmod(0o755)
        found = [status_for_nobody(path) for path in (helper, sealed.parent / helper.name)]
        return armed, found, sorted(os.listdir(sealed.parent))

    assert elsewhere(work) == [0, [NOBODY & 0xFF, "refused"], ["pycontain", "sources"]]


@pytest.mark.control
@x86_64
def test_a_naive_seal_keeps_the_right_of_a_setuid_program(victim, helper):
    def work():
        through = naive_seal(victim).parent / helper.name
        assert status_for_nobody(through) == 0
        helper.chmod(0o755)
        return [status_for_nobody(path) for path in (helper, through)]

    assert elsewhere(work) == [NOBODY & 0xFF, 0]


def test_the_seal_is_read_only_without_setuid_programs_and_devices(victim):
    victim.chmod(0o6755)

    def work():
        path = seal.mounted(str(victim))
        return os.statvfs(path).f_flag, os.stat(path).st_mode

    flags, mode = elsewhere(work)
    needed = os.ST_RDONLY | os.ST_NOSUID | os.ST_NODEV
    assert flags & needed == needed
    assert stat.S_IMODE(mode) == 0o500


@pytest.mark.parametrize("flag", [c.MOUNT_ATTR_NOSUID, c.MOUNT_ATTR_NODEV])
def test_a_seal_that_has_lost_a_flag_is_made_anew(victim, flag):
    def work():
        place = os.path.dirname(seal.mounted(str(victim)))
        fd = os.open(place, os.O_PATH)
        Tree(fd).set(0, flag)
        lost = not seal.is_current(place)
        seal.mounted(str(victim))
        return lost, seal.is_current(place), len(sealed_mounts())

    assert elsewhere(work) == [True, True, 1]


# --- other users ---------------------------------------------------------------------------------

REACH = """
import posix, sys
for path in sys.argv[1:]:
    for way in (posix.stat, posix.listdir, lambda path: posix.open(path, posix.O_RDONLY),
                lambda path: posix.open(path, posix.O_PATH), lambda path: posix.execv(path, [path])):
        try:
            way(path)
            print("reached", path, flush=True)
        except PermissionError:
            pass
        except NotADirectoryError:
            print("reached", path, flush=True)
"""


def reached_by_nobody(*paths):
    """Which of these paths an unprivileged user can open, list, examine or execute."""
    done = run(PYTHON, "-ISc", REACH, *map(str, paths), stdin=subprocess.DEVNULL, **AS_NOBODY)
    assert done.stderr == ""
    return sorted({line.split()[1] for line in done.stdout.splitlines()})


def test_another_user_cannot_reach_the_seal(victim):
    def work():
        sealed = Path(seal.mounted(str(victim)))
        paths = (sealed.parent, sealed, sealed.parent / seal.RECORD)
        return reached_by_nobody(*paths), stat.S_IMODE(os.stat(seal.BASE).st_mode)

    assert elsewhere(work) == [[], 0o700]


def test_a_directory_that_others_could_enter_is_closed(victim):
    def work():
        os.makedirs(seal.BASE, 0o755)
        reached = reached_by_nobody(seal.mounted(str(victim)))
        return reached, stat.S_IMODE(os.stat(seal.BASE).st_mode)

    assert elsewhere(work) == [[], 0o700]


@pytest.mark.control
def test_another_user_reaches_a_naive_seal(victim):
    def work():
        sealed = naive_seal(victim)
        return reached_by_nobody(sealed) == [str(sealed)]

    assert elsewhere(work)


SHOW = """
import posix, sys
print(posix.readlink("/proc/self/exe"), sys.executable, *sys.argv[1:])
"""


@x86_64
def test_root_starts_the_sealed_interpreter_and_others_the_ordinary_one(
    victim, folder, monkeypatch
):
    def work():
        path = program(victim, folder, monkeypatch)
        first, _ = path.read_text().split("\n", 1)
        path.write_text(f"{first}\n{SHOW}")
        return [run(path, "a", "b c", **how).stdout.split() for how in ({}, AS_NOBODY)]

    of_root, of_nobody = elsewhere(work)
    assert of_root == [seal.place(str(victim)), str(victim), "a", "b", "c"]
    assert of_nobody == [str(victim), str(victim), "a", "b", "c"]


@x86_64
def test_an_interpreter_that_is_gone_is_named(folder):
    path = folder / "chooser"
    path.write_bytes(shebang.program("/nowhere/sealed", "/nowhere/python3"))
    path.chmod(0o755)
    done = run(path, "a")
    assert done.returncode == 127
    assert done.stderr.startswith("pycontain: /nowhere/python3 cannot be executed; ")
    assert done.stderr.endswith("\n")


@x86_64
def test_without_a_directory_for_the_seal_the_first_line_names_the_interpreter(monkeypatch):
    monkeypatch.setattr(shebang, "_DIRECTORY", "/proc/nowhere")
    assert shebang.write("/usr/bin/python3") == "/usr/bin/python3"


@x86_64
@pytest.mark.parametrize("name", ["with space", "x" * 200])
def test_a_first_line_that_the_kernel_cannot_read_is_not_written(name, folder, monkeypatch):
    monkeypatch.setattr(shebang, "_DIRECTORY", f"{folder}/{name}")
    assert shebang.write("/usr/bin/python3") == "/usr/bin/python3"
