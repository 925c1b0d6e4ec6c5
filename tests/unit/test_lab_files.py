"""The lab's files: the recipe's key, the packed tree, the RAM disk, the cache."""

import gzip
import os
import stat
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from vagrant.lab import build, cache, image, initrd, recipe, tree
from vagrant.lab.errors import LabError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder for the test."""
    monkeypatch.setenv("PYCONTAIN_CACHE", str(tmp_path))
    return cache.folder()


class TestRecipe:
    """What the image consists of."""

    def test_comments_and_blank_lines_are_not_packages(self) -> None:
        packages = recipe.packages()
        assert "systemd" in packages
        assert all(name.replace("-", "").replace(".", "").isalnum() for name in packages)

    def test_the_projects_version_bounds_apply_to_the_machine(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "pyproject.toml").write_text(
            '[project]\ndependencies = ["cffi>=2"]\n'
            '[project.optional-dependencies]\ndev = ["PyTest>=8", "mypy>=1"]\n'
        )
        monkeypatch.setattr(recipe, "PROJECT", tmp_path)
        required = recipe.requirements()
        assert {"PyTest>=8", "cffi>=2", "hypothesis"} <= set(required)
        assert not {"pytest", "mypy>=1"} & set(required)

    def test_the_key_follows_the_requirements(self, monkeypatch: pytest.MonkeyPatch) -> None:
        before = recipe.key()
        assert before == recipe.key()
        monkeypatch.setattr(recipe, "requirements", lambda: ["another"])
        assert recipe.key() != before


class TestTree:
    """The source tree as a disk."""

    def make(self, root: Path) -> None:
        """A small tree with files that must be packed and files that must not."""
        for name in ("a.py", "pkg/b.py", ".ci/run", ".git/config", ".venv/lib/c.py"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(name)
        (root / "pkg/__pycache__").mkdir()
        (root / "pkg/__pycache__/b.pyc").write_text("")
        (root / ".ci/run").chmod(0o755)
        (root / "link").symlink_to("a.py")

    def test_only_source_is_packed(self, tmp_path: Path) -> None:
        self.make(tmp_path)
        names = {str(path.relative_to(tmp_path)) for path in tree.files(tmp_path)}
        assert names == {"a.py", "pkg/b.py", ".ci/run", "link"}

    def test_the_disk_is_a_read_only_tar_of_files_owned_by_root(self, tmp_path: Path) -> None:
        self.make(tmp_path)
        handle = tree.packed(tmp_path)
        with os.fdopen(handle, "rb") as file, tarfile.open(fileobj=file) as tar:
            found = {member.name: member for member in tar}
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.write(handle, b"x")
        assert found["link"].issym()
        assert found[".ci/run"].mode == 0o755
        assert {member.uid for member in found.values()} == {0}

    def test_a_tree_too_large_for_source_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.make(tmp_path)
        monkeypatch.setattr(tree, "LIMIT", 100)
        before = os.listdir("/proc/self/fd")
        with pytest.raises(LabError, match="of source"):
            tree.packed(tmp_path)
        assert os.listdir("/proc/self/fd") == before


def entries(archive: bytes) -> dict[str, tuple[int, bytes]]:
    """The names of a cpio archive with their modes and contents."""
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        fields = [int(archive[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = archive[at + 110 : at + 109 + fields[11]].decode()
        if name == "TRAILER!!!":
            return found
        data = at + (110 + fields[11] + 3) // 4 * 4
        found[name] = (fields[1], archive[data : data + fields[6]])
        at = (data + fields[6] + 3) // 4 * 4


def test_the_ram_disk_loads_modules_after_their_dependencies(tmp_path: Path) -> None:
    modules = tmp_path / "lib/modules/6.1"
    modules.mkdir(parents=True)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/busybox").write_bytes(b"box")
    (tmp_path / "init").write_bytes(b"#!/bin/busybox sh\n")
    for name in ("ext4", "jbd2", "virtio-blk", "unused"):
        (modules / f"{name}.ko").write_bytes(name.encode())
    (modules / "modules.dep").write_text("ext4.ko: jbd2.ko\njbd2.ko:\nvirtio-blk.ko:\nunused.ko:\n")
    found = entries(gzip.decompress(initrd.archive(tmp_path, tmp_path / "init")))
    assert found["init"] == (stat.S_IFREG | 0o755, b"#!/bin/busybox sh\n")
    assert found["modules/order"][1] == b"virtio_blk.ko\njbd2.ko\next4.ko\n"
    assert found["modules/jbd2.ko"][1] == b"jbd2"
    assert "modules/unused.ko" not in found


class TestCache:
    """The cache folder and its lock."""

    def test_the_lock_keeps_others_out_and_leaves_no_file(self, folder: Path) -> None:
        script = "from vagrant.lab import cache\nwith cache.lock(0.2): print('in')"
        command = [sys.executable, "-c", script]
        with cache.lock():
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            assert "another run held the lab" in done.stderr
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        assert done.stdout == "in\n"
        assert list(folder.iterdir()) == []

    def test_a_full_disk_is_noticed_beforehand(self, folder: Path) -> None:
        with pytest.raises(LabError, match=r"GiB free, but the test needs 1e\+06 GiB"):
            cache.need_space(folder, 1e6, "the test")

    @pytest.mark.needs_root
    def test_a_failed_build_leaves_nothing(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(new: Path, _step: object) -> None:
            new.mkdir()
            (new / "tree").mkdir()
            raise LabError("no mirror")

        monkeypatch.setattr(build, "build", fail)
        monkeypatch.setattr(image, "need", lambda *_: None)
        (folder / "new-1").mkdir()
        with pytest.raises(LabError, match="no mirror"):
            image.ensure()
        assert list(folder.iterdir()) == []

    @pytest.mark.needs_root
    def test_an_image_is_built_once_and_the_last_two_are_kept(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def make(new: Path, _step: object) -> None:
            new.mkdir()
            (new / "root.img").touch()

        monkeypatch.setattr(build, "build", make)
        monkeypatch.setattr(image, "need", lambda *_: None)
        for age, key in enumerate(("one", "two", "three")):
            monkeypatch.setattr(recipe, "key", lambda key=key: key)
            made = image.ensure()
            os.utime(made.folder, (age, age))
        monkeypatch.setattr(build, "build", None)
        assert image.ensure().folder.name == "three"
        assert sorted(path.name for path in folder.iterdir()) == ["three", "two"]
