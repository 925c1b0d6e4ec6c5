"""
Building an image: a Debian tree, a kernel with its RAM disk, a disk file.

This module is part of the recipe: changing it causes a new image to be built.
"""

import os
import shutil
import sys
from pathlib import Path

from . import initrd, recipe
from .progress import Step
from .shell import as_root, call

LIMIT = 1200.0
"""Seconds that a build may take; with two cores and a nearby mirror it takes about 120."""

SIZE = "6G"
"""The root disk's size; the file is sparse, so only the used part takes space."""

PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

SOURCE_ONLY = ("python-prctl",)
"""Packages without wheels: downloaded as source, compiled inside the image."""


def build(new: Path, step: Step) -> None:
    """
    Creates the files of an image in the folder `new`, which must not exist yet.

    Raises LabError when a command of the recipe fails; the caller must then remove the folder.
    """
    new.mkdir()
    log = new / "build.log"
    source = new / "recipe"
    source.mkdir()
    for name in recipe.FILES:
        shutil.copy2(recipe.HERE / name, source)
    (source / "python.txt").write_text("\n".join([*recipe.requirements(), ""]), encoding="utf-8")
    _fetch(source / "wheels", step, log)
    _keys(new, source, step)
    tree = new / "tree"
    _bootstrap(tree, source, step, log)
    step.note = "packing"
    (new / "initrd.gz").write_bytes(initrd.archive(tree, recipe.HERE / "init"))
    shutil.copyfile(next((tree / "boot").glob("vmlinuz-*")), new / "vmlinuz")
    _disk(tree, new / "root.img", step, log)
    call(as_root(["rm", "-rf", "--one-file-system", str(tree)]), step)
    shutil.rmtree(source)


def _fetch(wheels: Path, step: Step, log: Path) -> None:
    wanted = recipe.requirements()
    binary = [line for line in wanted if not line.startswith(SOURCE_ONLY)]
    pip = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check"]
    pip += ["--no-color", "--progress-bar=off", "-d", str(wheels)]
    target = ["--only-binary=:all:", f"--python-version={recipe.PYTHON}", "--implementation=cp"]
    target += [f"--platform={name}" for name in PLATFORMS]
    call([*pip, *target, "setuptools", "wheel", *binary], step, log=log)
    source = [line for line in wanted if line.startswith(SOURCE_ONLY)]
    if source:
        call([*pip, "--no-deps", "--no-binary=:all:", *source], step, log=log)


def _keys(new: Path, source: Path, step: Step) -> None:
    for name in ("key", "host_key"):
        comment = f"pycontain-lab-{name}"
        kind = ["-q", "-t", "ed25519", "-N", "", "-C", comment]
        call(["ssh-keygen", *kind, "-f", str(new / name)], step)
    for name in ("key.pub", "host_key", "host_key.pub"):
        shutil.copy2(new / name, source)
    public = (new / "host_key.pub").read_text(encoding="ascii")
    (new / "known_hosts").write_text(f"lab {public}", encoding="ascii")
    (new / "host_key").unlink()


def _bootstrap(tree: Path, source: Path, step: Step, log: Path) -> None:
    command = ["mmdebstrap", "--mode=root", "--variant=minbase", "--format=directory"]
    command += [f"--include={','.join(recipe.packages())}"]
    for folder in ("man", "doc", "locale", "info"):
        command.append(f"--dpkgopt=path-exclude=/usr/share/{folder}/*")
    command += [f"--customize-hook={source / 'image.sh'}", recipe.SUITE, str(tree)]
    # in its own namespaces: killing the first process ends all others and removes the mounts
    spaces = ["unshare", "-m", "-p", "-f", "--kill-child", "--mount-proc"]
    call(as_root([*spaces, *command]), step, log=log)


def _disk(tree: Path, disk: Path, step: Step, log: Path) -> None:
    call(as_root(["chmod", "755", str(tree)]), step)
    options = ["-q", "-F", "-L", "lab", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1"]
    call(as_root(["mkfs.ext4", *options, "-d", str(tree), str(disk), SIZE]), step, log=log)
    if os.geteuid():
        call(as_root(["chown", f"{os.getuid()}:{os.getgid()}", str(disk)]), step)
