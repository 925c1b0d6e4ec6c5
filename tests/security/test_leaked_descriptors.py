"""
CVE-2024-21626: a descriptor of a host directory is inherited, and the working directory or the
program is named through it: /proc/self/fd/N.
"""

from __future__ import annotations

import os

import pytest

from tests.security.attack import bind_by_path, in_a_child, mount_by_path

pytestmark = pytest.mark.needs_root

# From a directory of the host, going up leads to the host's root.
SCRIPT = "cd ../../../../../../../../../../..; [ -e container ] && echo inside || echo OUTSIDE"


@pytest.fixture
def made(bundle):
    made = bundle(SCRIPT)
    (made.rootfs / "container").touch()
    (made.rootfs / "sub").mkdir()
    return made


@pytest.fixture
def leaks(made):
    """Directories of the host as descriptors 3 to 30 of a command, and nothing else."""
    places = ["/", "/proc", "/etc", str(made.path), str(made.rootfs), str(made.rootfs / "sub")]
    fds = [os.open(places[number % len(places)], os.O_RDONLY) for number in range(28)]
    highest = max(fds)

    def leak():
        for fd in fds:  # out of the way of 3 to 30
            os.dup2(fd, fd + highest, inheritable=False)
        for number, fd in enumerate(fds, 3):
            os.dup2(fd + highest, number, inheritable=True)

    yield {"preexec_fn": leak, "close_fds": False}
    for fd in fds:
        os.close(fd)


def is_harmless(done):
    """Refused, or inside the container."""
    return done.status != 0 or done.words[0] == "inside"


def test_no_inherited_descriptor_is_a_working_directory(runtime, made, leaks):
    for fd in range(3, 31):
        made.edit({"process.cwd": f"/proc/self/fd/{fd}"})
        done = runtime.run(made, **leaks)
        assert is_harmless(done), (fd, done)


def test_no_descriptor_that_exec_inherits_is_a_working_directory(runtime, made, leaks):
    made.edit({"process.args": ["sleep", "100"]})
    container = runtime.started(made, **leaks)
    for fd in range(3, 31, 3):
        done = runtime(
            "exec", "--cwd", f"/proc/self/fd/{fd}", container, "sh", "-c", SCRIPT, **leaks
        )
        assert is_harmless(done), (fd, done)


def test_a_link_in_the_image_reaches_no_inherited_descriptor(runtime, made, leaks):
    made.edit({"process.cwd": "/way"})
    for fd in (3, 4, 6, 7, 8):
        (made.rootfs / "way").unlink(missing_ok=True)
        (made.rootfs / "way").symlink_to(f"/proc/self/fd/{fd}")
        assert is_harmless(runtime.run(made, **leaks))


def test_a_preserved_descriptor_is_no_working_directory(runtime, made, leaks):
    """Not even one of the rootfs: from the host's view of it `..` leads on to the host."""
    for fd in range(3, 9):
        made.edit({"process.cwd": f"/proc/self/fd/{fd}"})
        error = runtime(
            "run", "--bundle", made.path, "--preserve-fds", "6", runtime.new_id(), **leaks
        )
        assert "leads outside of the container" in error.err, (fd, error)


def test_the_program_inherits_no_descriptor(runtime, made, leaks):
    """Its listing opens the directory, as descriptor 3."""
    made.edit({"process.args": ["ls", "/proc/self/fd"]})
    assert runtime.output(made, **leaks).words == ["0", "1", "2", "3"]
    made.edit({"process.args": ["sleep", "100"]})
    container = runtime.started(made, **leaks)
    assert runtime.ok("exec", container, "ls", "/proc/self/fd", **leaks).words == [
        "0",
        "1",
        "2",
        "3",
    ]


@pytest.mark.parametrize("path", ["/proc/self/fd/3/bin/sh", "/proc/self/cwd/bin/sh", "/way/bin/sh"])
def test_the_program_is_not_found_through_an_inherited_descriptor(runtime, made, leaks, path):
    (made.rootfs / "way").symlink_to("/proc/self/fd/3")
    made.edit({"process.args": [path, "-c", "true"]})
    assert runtime.run(made, **leaks).status != 0


def naive(made, directory):
    """What is visible two directories up, when a runtime checks with the C library's getcwd."""

    def run():
        fd = os.open(directory, os.O_RDONLY)
        root = made.path / "root"
        root.mkdir(exist_ok=True)
        bind_by_path(made.rootfs, root)
        mount_by_path("proc", root / "proc")
        os.chroot(root)
        os.chdir(f"/proc/self/fd/{fd}")
        try:
            assert os.getcwd().startswith("/")
        except FileNotFoundError:
            return "refused"
        return os.listdir("../..")

    return in_a_child(run)


@pytest.mark.control
def test_a_naive_check_of_the_working_directory_is_passed(made):
    assert naive(made, "/") == "refused"
    assert "config.json" in naive(made, made.rootfs / "sub")
