"""config.md, Mounts: `idmap`, `ridmap` and the mappings of a mount. mount_setattr(2)."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles import MOUNTS
from tests.idmap import FIRST, MAPPING, bundle_with_user

pytestmark = pytest.mark.needs_userns

SHIFT = 7_000_000
LIST = "stat -c '%n %u:%g' /data/*"
OWN = {key: [{**MAPPING, "hostID": SHIFT}] for key in ("uidMappings", "gidMappings")}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with files of several owners, and a mount of another file system in it."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, owner in (("root", 0), ("user", 1000), ("beyond", 70_000)):
        (folder / name).touch()
        os.chown(folder / name, owner, owner)
    return folder


@pytest.fixture
def deep(data: Path) -> Iterator[Path]:
    """The same with another mount in it; a tmpfs supports mappings since Linux 6.3 only."""
    inner, other = data / "inner", data.parent / "other"
    inner.mkdir()
    other.mkdir()
    (other / "file").touch()
    subprocess.run(["mount", "--bind", other, inner], check=True)
    yield data
    subprocess.run(["umount", inner], check=True)


def bind(source: Path, *options: str, **more: object) -> dict[str, object]:
    mount = {"destination": "/data", "source": str(source), "options": ["rbind", *options], **more}
    return {"mounts": [*MOUNTS, mount]}


@pytest.mark.property("mounts[].uidMappings*", "mounts[].gidMappings*", "life-cycle 29")
def test_the_mappings_of_a_mount_shift_its_owners(runtime, bundle, data):
    made = bundle(LIST, bind(data, **OWN))
    assert runtime.output(made).lines == [
        "/data/beyond 65534:65534", f"/data/root {SHIFT}:{SHIFT}",
        f"/data/user {SHIFT + 1000}:{SHIFT + 1000}",
    ]  # fmt: skip


def test_what_is_created_belongs_to_the_unmapped_owner(runtime, bundle, data):
    user = {"uid": SHIFT + 5, "gid": SHIFT + 6}
    data.chmod(0o777)
    made = bundle("touch /data/new; stat -c %u:%g /data/new",
                  {**bind(data, **OWN), "process.user": user})  # fmt: skip
    assert runtime.output(made).out == f"{SHIFT + 5}:{SHIFT + 6}\n"
    found = os.stat(data / "new")
    assert (found.st_uid, found.st_gid) == (5, 6)


@pytest.mark.property("life-cycle 29")
@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_a_mount_is_mapped_as_the_user_namespace(runtime, bundle, data, option):
    script = f"{LIST}; echo x >/data/root && touch /data/new"
    made = bundle_with_user(bundle, script, bind(data, option))
    assert runtime.output(made).lines == [
        "/data/beyond 65534:65534", "/data/root 0:0", "/data/user 1000:1000"
    ]  # fmt: skip
    assert os.stat(data / "new").st_uid == 0, "the source's owner, whoever root is outside"


def test_without_a_mapping_the_owners_are_nobody_in_a_user_namespace(runtime, bundle, data):
    made = bundle_with_user(bundle, LIST, bind(data))
    assert {line.split()[1] for line in runtime.output(made).lines} == {"65534:65534"}


def test_mappings_of_a_mount_differ_from_those_of_the_user_namespace(runtime, bundle, data):
    mappings = [{"containerID": 1000, "hostID": FIRST, "size": 1}]
    own = {"uidMappings": mappings, "gidMappings": mappings}
    made = bundle_with_user(bundle, "stat -c %u:%g /data/user", bind(data, **own))
    assert runtime.output(made).out == "0:0\n"


def test_ridmap_maps_submounts_and_idmap_does_not(runtime, bundle, deep):
    script = "stat -c %u /data/root /data/inner/file"
    assert runtime.output(bundle(script, bind(deep, "ridmap", **OWN))).words == [str(SHIFT)] * 2
    assert runtime.output(bundle(script, bind(deep, "idmap", **OWN))).words == [str(SHIFT), "0"]


def test_an_idmapped_mount_can_be_read_only_and_is_undone(runtime, bundle, data):
    script = "touch /data/new 2>/dev/null || echo read-only"
    assert runtime.output(bundle(script, bind(data, "ro", **OWN))).words == ["read-only"]
    assert os.stat(data / "root").st_uid == 0


def test_a_file_system_without_support_is_named(runtime, bundle):
    line = runtime.fails(bundle("", bind(Path("/sys/kernel"), **OWN)))
    assert "bind: mounts[4], /sys/kernel on /data" in line
    assert "is on sysfs, which does not support id-mapped mounts" in line


def test_a_mapping_that_the_kernel_refuses_is_named(runtime, bundle, data):
    """Nothing is known of the host's ids before the kernel is asked."""
    inner = ["unshare", "--user", "--map-root-user", "--mount", "--keep-caps"]
    made = bundle("", bind(data, **OWN))
    words = runtime.command("--cgroup-manager", "disabled", "run", "-b", made.path, "x")
    done = subprocess.run([*inner, *words], capture_output=True, text=True, check=False)
    assert done.returncode
    assert "mounts[4].uidMappings" in done.stderr


@pytest.mark.parametrize("verb", ["create", "run"])
def test_a_mapped_mount_works_with_fork_and_with_vfork(runtime, bundle, data, verb):
    made = bundle("stat -c %u /data/root", bind(data, **OWN))
    if verb == "run":
        assert runtime.output(made).out == f"{SHIFT}\n"
    else:
        id = runtime.started(made)
        runtime.wait_for_text(id, str(SHIFT))


def test_a_mapped_directory_can_become_the_root(runtime, bundle):
    made = bundle_with_user(bundle, "stat -c %u /bin")
    root = {"destination": "/", "source": str(made.rootfs), "options": ["rbind"], **OWN}
    own = [{"containerID": FIRST, "hostID": FIRST + 9, "size": 1}]
    root |= {"uidMappings": own, "gidMappings": own}
    made.edit({"mounts": [root, *MOUNTS]})
    assert runtime.output(made).out == "9\n"
