"""The image as a Vagrant box, and the lifecycle of a machine that Vagrant creates from it."""

import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

from . import cache, image, qemu, recipe
from .errors import LabError
from .progress import SELDOM, Step, say, seconds
from .shell import bound, call, need

LIMIT = 600.0
"""Seconds to build the box; it takes some 20 on two idle cores."""

CYCLE_LIMIT = 1200.0
"""Seconds for adding the box, up, tests, halt and destroy."""

SPACE = 5.0
"""GiB for the box, Vagrant's copy of it and libvirt's copy together."""

NAMES = ("vmlinuz", "initrd.gz", "key")

TESTS = ("tests/lab/test_machine.py", "tests/lab/test_limits.py")


def box(built: image.Image) -> Path:
    """The image as a box for Vagrant's libvirt provider; built unless it exists."""
    if built.box.exists():
        return built.box
    need("qemu-img")
    cache.need_space(built.folder, SPACE, "building the box")
    work = built.folder / "box"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        with Step("building the box", LIMIT) as step:
            _fill(built, work, step)
            _tar(work, built.box)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return built.box


def _fill(built: image.Image, work: Path, step: Step) -> None:
    convert = ["qemu-img", "convert", "-f", "raw", "-O", "qcow2"]
    call([*convert, str(built.disk), str(work / "box.img")], step)
    gibibytes = built.disk.stat().st_size >> 30
    metadata = {"provider": "libvirt", "format": "qcow2", "virtual_size": gibibytes}
    (work / "metadata.json").write_text(json.dumps(metadata), encoding="utf-8")
    template = (recipe.HERE / "box.Vagrantfile").read_text(encoding="utf-8")
    filled = template.replace("@CMDLINE@", qemu.CMDLINE)
    (work / "Vagrantfile").write_text(filled, encoding="utf-8")
    for name in NAMES:
        shutil.copy2(built.folder / name, work)


def _tar(work: Path, target: Path) -> None:
    half = target.with_suffix(".half")
    with tarfile.open(half, "w") as tar:
        for path in sorted(work.iterdir()):
            tar.add(path, arcname=path.name)
    half.rename(target)


def add() -> None:
    """Build the box and add it to the user's Vagrant."""
    need("vagrant")
    with cache.lock(), Step("adding the box", LIMIT) as step:
        path = box(image.ensure())
        call(["vagrant", "box", "add", "--force", "--name", "pycontain/debian", str(path)], step)
    say("the box is pycontain/debian: cd vagrant && vagrant up --provider libvirt")


def cycle(arguments: Sequence[str]) -> int:
    """
    Run a machine's whole lifecycle with Vagrant; returns the first failed command's status, or 0.

    Uses the host's libvirtd if it is running, and otherwise a private one, which requires root.
    Vagrant's files are kept in a folder of the cache that is removed at the end.
    """
    need("vagrant", "unshare", "setpriv")
    with cache.lock():
        path = box(image.ensure())
        work = cache.folder() / "vagrant"
        shutil.rmtree(work, ignore_errors=True)
        cache.need_space(cache.folder(), SPACE, "a Vagrant machine")
        try:
            return _cycle(path, work, arguments or TESTS)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _cycle(path: Path, work: Path, arguments: Sequence[str]) -> int:
    command = [str(recipe.HERE / "cycle.sh"), str(path), *arguments]
    if not libvirt_runs():
        if os.geteuid():
            raise LabError("libvirtd is not running, and a private one requires root: run as root")
        need("libvirtd", "virsh", "dnsmasq", "ip")
        command = [str(recipe.HERE / "private-libvirt.sh"), str(work / "libvirt"), *command]
        spaces = ["-m", "-n", "-p", "-f", "--kill-child", "--mount-proc"]
        command = ["unshare", *spaces, *command]
    environment = {
        **os.environ,
        "VAGRANT_HOME": str(work / "home"),
        "VAGRANT_DOTFILE_PATH": str(work / "machine"),
        "VAGRANT_CHECKPOINT_DISABLE": "1",
    }
    work.mkdir()
    with Step("the lifecycle of a Vagrant machine", CYCLE_LIMIT, every=SELDOM) as step:
        process = subprocess.Popen(
            bound(command), stdin=subprocess.DEVNULL, env=environment, start_new_session=True
        )
        try:
            return process.wait(timeout=step.left)
        except subprocess.TimeoutExpired:
            raise LabError(f"Vagrant did not finish within {seconds(CYCLE_LIMIT)}") from None
        finally:
            process.kill()
            process.wait()


def libvirt_runs() -> bool:
    """Whether the host's own libvirtd answers."""
    probe = ["virsh", "-q", "-c", "qemu:///system", "version"]
    try:
        done = subprocess.run(probe, check=False, capture_output=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
