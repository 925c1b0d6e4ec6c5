"""
How the command becomes fast at its first use, or by `pycontain setup`, and stays up to date.

A command that loads the archive needs no source: where the tests want to know whether one does,
they take away its ordinary code.
"""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
import zipfile
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from pycontain.cli import table
from tests.packaging.conftest import PIP, Environment, call, privately

pytestmark = pytest.mark.needs_root

VERSION = f"pycontain version {table.VERSION}"
NOBODY = pwd.getpwnam("nobody").pw_uid


def first_line(text):
    return text.splitlines()[0]


def break_ordinary_code(made):
    """Let every import fail that does not come from the archive: others cannot read the source."""
    for path in made.site.glob("pycontain/cli/fast.py"):
        path.chmod(0)
    for path in made.site.glob("pycontain/cli/__pycache__/fast.*"):
        path.unlink()


def as_nobody(made, *words, home, check=True):
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(home)}
    return subprocess.run(
        [made.command, *words], user=NOBODY, group=NOBODY, extra_groups=[], env=environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=check,
    )  # fmt: skip


@pytest.fixture
def home():
    """The home of somebody else."""
    with TemporaryDirectory() as name:
        os.chown(name, NOBODY, NOBODY)
        yield Path(name)


# --- the first use -------------------------------------------------------------------------------


def test_many_first_uses_at_once_do_not_disturb_each_other(installed):
    commands = [
        subprocess.Popen([installed.command, "--version"], stdout=subprocess.PIPE, text=True)
        for _ in range(8)
    ]
    printed = {process.communicate(timeout=60)[0] for process in commands}
    assert [process.returncode for process in commands] == [0] * 8
    assert {first_line(text) for text in printed} == {VERSION}
    assert installed.is_fast
    installed.assert_listed()


def test_setup_waits_for_others_that_do_the_same(installed):
    commands = [
        subprocess.Popen([installed.command, "setup"], stdout=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    for process in commands:
        printed, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert f"wrote {installed.archives[0]}" in printed
    assert installed.is_fast
    installed.assert_listed()


def test_an_archive_of_a_killed_first_use_is_not_used(installed):
    killed = subprocess.Popen([installed.command, "--version"], stdout=subprocess.DEVNULL)
    while not installed.archives and killed.poll() is None:
        pass  # the archive is half written
    killed.kill()
    killed.wait()
    assert first_line(call(installed.command, "--version")) == VERSION
    call(installed.command, "setup")
    assert first_line(call(installed.command, "--version")) == VERSION
    assert installed.is_fast


def test_the_commands_of_a_changed_program_are_left_alone(installed):
    text = installed.command.read_text() + "\n# changed by the administrator\n"
    installed.command.write_text(text)
    call(installed.command, "setup")
    assert installed.command.read_text() == text
    assert installed.archives


# --- upgrades ------------------------------------------------------------------------------------


def later(wheel, folder):
    """The same wheel with a later version, which has the same sizes and times of files."""
    old, new = table.VERSION, table.VERSION[:-1] + "9"
    path = folder / wheel.name.replace(old, new)
    with zipfile.ZipFile(wheel) as source, zipfile.ZipFile(path, "w") as made:
        for info in source.infolist():
            content = source.read(info).replace(old.encode(), new.encode())
            if info.filename.endswith("RECORD"):
                content = b"\n".join(line.split(b",")[0] + b",," for line in content.splitlines())
            info.filename = info.filename.replace(old, new)
            made.writestr(info, content)
    return path, f"pycontain version {new}"


def test_after_an_upgrade_and_a_downgrade_no_old_archive_is_used(installed, wheel, tmp_path):
    call(installed.command, "setup")
    after, version = later(wheel, tmp_path)
    for file, expected in ((after, version), (wheel, VERSION)):
        installed.pip("install", "-qq", "--no-deps", "--force-reinstall", file)
        assert installed.archives == []
        for _ in range(2):
            assert first_line(call(installed.command, "--version")) == expected
        assert installed.is_fast


# --- what belongs to somebody else ---------------------------------------------------------------


def test_another_user_gets_an_archive_of_their_own(installed, home):
    before = installed.command.read_text()
    assert first_line(as_nobody(installed, "--version", home=home).stdout) == VERSION
    assert installed.command.read_text() == before
    assert installed.archives == []
    [found] = home.glob(".cache/pycontain/code/**/archive-*")
    break_ordinary_code(installed)
    assert first_line(as_nobody(installed, "--version", home=home).stdout) == VERSION
    found.unlink()
    assert as_nobody(installed, "--version", home=home, check=False).returncode != 0


def test_no_archive_is_written_to_or_read_from_a_directory_open_to_others(installed, home):
    as_nobody(installed, "--version", home=home)
    [found] = home.glob(".cache/pycontain/code/**/archive-*")
    found.parent.chmod(0o777)
    said = as_nobody(installed, "setup", home=home, check=False)
    assert said.returncode != 0
    assert "can be written to by other users" in said.stderr
    break_ordinary_code(installed)
    assert as_nobody(installed, "--version", home=home, check=False).returncode != 0


def test_setup_names_the_program_that_it_may_not_change(installed, home):
    printed = as_nobody(installed, "setup", home=home).stdout
    assert f"left {installed.command} as it is: it belongs to another user" in printed


def test_root_leaves_nothing_in_a_users_environment(installed):
    def give(owner):
        call("chown", "-hR", owner, installed.path)

    give(NOBODY)
    try:
        before = installed.files
        printed = privately(
            'mount -t tmpfs none /var/cache; "$1" --version; "$1" --version; find /var/cache -type f',
            installed.command,
        )  # fmt: skip
        assert installed.files == before
        assert not [path for path in installed.path.rglob("*") if path.lstat().st_uid == 0]
    finally:
        give(0)
    assert printed.count(VERSION) == 2
    assert "/var/cache/pycontain/code/" in printed


def test_the_program_works_on_a_read_only_file_system(installed):
    printed = privately(
        'mount --bind "$1" "$1"; mount -o remount,ro,bind "$1"; mount -t tmpfs none /var/cache;'
        '"$2" --version; "$2" setup; mount -o remount,ro /var/cache; "$2" --version',
        installed.path, installed.command,
    )  # fmt: skip
    assert printed.count(VERSION) == 2
    assert "wrote /var/cache/pycontain/code/" in printed
    assert installed.archives == []


# --- places --------------------------------------------------------------------------------------

SYSTEM = Path("/usr/bin/python3")


def install_elsewhere(wheel, where, *flags, **environment):
    pip = (sys.executable, "-m", "pip", "--python", SYSTEM, "install", "-qq", *flags, wheel)
    call(*pip, env={**PIP, "PIP_CACHE_DIR": str(Path.home() / ".cache/pip"), **environment})
    [package] = where.glob("**/*-packages/pycontain")
    return Environment(where, package.parent)


def test_the_program_works_in_a_users_own_packages(wheel, tmp_path):
    own = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    made = install_elsewhere(wheel, tmp_path / ".local", "--user", **own)
    for _ in range(2):
        assert first_line(call(made.command, "--version", env=own)) == VERSION
    assert made.is_fast
    made.assert_listed()


def test_the_program_works_when_installed_for_the_whole_system(wheel):
    printed = privately(
        'mount -t tmpfs none /usr/local; PIP_BREAK_SYSTEM_PACKAGES=1 "$@" >/dev/null;'
        "cd /; for each in 1 2; do /usr/local/bin/pycontain --version; done;"
        "head -n 1 /usr/local/bin/pycontain; find /usr/local -name 'archive-*'",
        sys.executable, "-m", "pip", "--cache-dir", Path.home() / ".cache/pip",
        "--python", SYSTEM, "install", "-qq", "--root-user-action=ignore", wheel,
    )  # fmt: skip
    assert printed.count(VERSION) == 2
    *_, line, packed = printed.splitlines()
    assert line.endswith(" -BISXutf8")
    assert packed.startswith("/usr/local/lib/python3")
