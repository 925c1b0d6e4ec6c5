"""What is said of a mount that fails: which it is, from where to where, and what is in the way."""

from __future__ import annotations

import pytest

from tests.bundles import MOUNTS


@pytest.fixture
def made(bundle, tmp_path):
    """A bundle with a file and a directory in the rootfs, and with others outside of it."""
    made = bundle("true")
    for folder in (tmp_path, made.rootfs):
        (folder / "file").write_text("x" * 10_000)
        (folder / "folder/file").mkdir(parents=True)
    return made


def fails(runtime, made, mount):
    made.edit({"mounts": [*MOUNTS, mount]})
    line = runtime.fails(made)
    assert "no such file or directory" not in line.lower()
    return line


def bind(source, destination, *options):
    return {"destination": destination, "source": str(source), "options": ["bind", *options]}


WRONG_KINDS = [
    ("file", "/folder", "/file is a file, not a directory like its destination /folder"),
    ("folder", "/file", "/folder is a directory, but its destination /file is a file, not a directory"),
    ("file", "/file/below", "/file not a directory"),
    ("folder", "/file/below", "/file/below not a directory"),
    ("file", "/", "/file is a file, not a directory, and cannot become the root"),
]  # fmt: skip


@pytest.mark.parametrize(("source", "destination", "words"), WRONG_KINDS)
def test_the_error_of_a_file_on_a_directory_or_the_reverse_names_both(
    runtime, made, tmp_path, source, destination, words
):
    line = fails(runtime, made, bind(tmp_path / source, destination))
    assert line.startswith(f"pycontain: bind: mounts[4], {tmp_path / source} on {destination}: ")
    assert words in line
    assert "not a directory" in line


@pytest.mark.parametrize("mount", [{"type": "tmpfs"}, {"type": "mqueue", "source": "queue"}])
@pytest.mark.parametrize("destination", ["/file", "/file/below"])
def test_the_error_of_a_file_system_on_a_file_names_the_mount(runtime, made, mount, destination):
    line = fails(runtime, made, {**mount, "destination": destination})
    source = mount.get("source", "tmpfs")
    assert line.startswith(f"pycontain: mount: mounts[4], {source} on {destination}: ")
    assert f"{destination} " in line
    assert "not a directory" in line


def test_the_error_of_a_missing_source_names_source_and_remedy(runtime, made):
    line = fails(runtime, made, bind("/does/not/exist", "/folder"))
    assert line == (
        "pycontain: bind: mounts[4], /does/not/exist on /folder: open: "
        "/does/not/exist does not exist; create it on the host first\n"
    )


@pytest.mark.parametrize(
    ("mount", "place", "words"),
    [
        ({"type": "nofs", "source": "x"}, "mount: mounts[4], x on /folder", "nofs is not a file system"),
        ({"type": "tmpfs", "options": ["sise=1"]}, "mount: mounts[4], tmpfs on /folder", "sise"),
        ({"type": "tmpfs", "options": ["uid=x"]}, "mount: mounts[4], tmpfs on /folder", "uid"),
        ({"type": "ext4", "source": "/no/disk"}, "mount: mounts[4], /no/disk on /folder", "fsconfig"),
        ({"options": ["remount", "ro"]}, "remount: mounts[4], on /folder", "invalid argument"),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_the_error_of_a_mount_that_the_kernel_refuses_names_the_mount(
    runtime, made, mount, place, words
):
    line = fails(runtime, made, {**mount, "destination": "/folder"})
    assert line.startswith(f"pycontain: {place}: ")
    assert words in line


def test_the_error_of_a_copy_that_does_not_fit_names_the_mount(runtime, made):
    (made.rootfs / "folder/deep").mkdir()
    (made.rootfs / "folder/deep/large").write_bytes(bytes(100_000))
    options = ["tmpcopyup", "size=16k"]
    mount = {"destination": "/folder", "type": "tmpfs", "source": "here", "options": options}
    line = fails(runtime, made, mount)
    assert line == (
        "pycontain: mount: mounts[4], here on /folder: copy: deep/large no space left on device\n"
    )


def test_the_error_of_a_mount_point_on_a_read_only_mount_names_the_mount(runtime, made, tmp_path):
    """The mount point is missing, and cannot be made."""
    fixed = bind(tmp_path / "folder", "/fixed", "ro")
    made.edit({"mounts": [*MOUNTS, fixed, {"destination": "/fixed/new", "type": "tmpfs"}]})
    line = runtime.fails(made)
    assert line.startswith("pycontain: mount: mounts[5], tmpfs on /fixed/new: mkdir: /fixed/new ")
    assert "read-only file system" in line


def test_the_error_of_a_busy_mount_that_should_become_read_only_names_the_mount(runtime, made):
    """A hook has left a process that writes there."""
    text = f"exec 9>{made.rootfs}/fixed/file; sleep 100 >/dev/null 2>&1 </dev/null &"
    hook = made.script("hook", text)
    made.edit({"hooks.createContainer": [{"path": str(hook), "env": ["PATH=/bin"]}]})
    line = fails(runtime, made, {"destination": "/fixed", "type": "tmpfs", "options": ["ro"]})
    assert line == (
        "pycontain: read-only: mounts[4], tmpfs on /fixed: mount_setattr: /fixed device or resource"
        " busy\n"
    )


def test_the_error_of_a_cgroup_mounted_on_a_file_names_the_mount(runtime, made):
    line = fails(runtime, made, {"destination": "/file", "type": "cgroup"})
    assert line.startswith("pycontain: bind cgroup: mounts[4], ")
    assert "on /file" in line
    assert "not a directory" in line


def test_the_error_of_a_link_in_place_of_proc_is_that_of_runc(runtime, made):
    """Engines look for it."""
    made.edit({"mounts": MOUNTS[1:]})
    (made.rootfs / "proc").rmdir()
    (made.rootfs / "proc").symlink_to("tmp")
    made.edit({"mounts": MOUNTS})
    line = runtime.fails(made)
    assert "mounts[0], proc on /proc" in line
    assert "/proc is not a directory: it must be mounted on ordinary directory" in line


def test_a_configuration_error_of_a_mount_names_the_mount(runtime, made):
    line = fails(runtime, made, {"destination": "/folder", "source": "here"})
    assert "mounts[4] = here on /folder has no file system type" in line
