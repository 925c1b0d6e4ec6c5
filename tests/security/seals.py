"""Helpers of the tests that seal an interpreter."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from pycontain.kernel import calls, seal
from pycontain.kernel import const as c
from pycontain.kernel.mounts import Tree
from tests.security.attack import in_a_child, mount_by_path, mount_points

NOBODY = 65534
AS_NOBODY = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
HOME = Path("/var/lib/pycontain")


def elsewhere(work):
    """Call `work` where nothing is sealed yet and no other process sees what is; its result."""

    def run():
        for path in mount_points():
            if path.startswith(f"{HOME}/"):
                calls.umount2(path, c.MNT_DETACH)
        mount_by_path("tmpfs", "/var/lib")
        os.chmod("/var/lib", 0o755)
        return work()

    return in_a_child(run)


def naive_seal(victim):
    """The path of an interpreter in an overlay of its whole directory."""
    place = HOME / "naive"
    place.mkdir(parents=True)
    tree = Tree.new("overlay", (f"lowerdir={victim.parent}:/mnt",), c.MOUNT_ATTR_RDONLY)
    target = os.open(place, os.O_PATH)
    tree.attach(target)
    return place / victim.name


def run(*command, **how):
    return subprocess.run(command, capture_output=True, text=True, check=False, **how)


def size_of_the_running(interpreter):
    code = "import posix; print(posix.stat('/proc/self/exe').st_size)"
    return int(run(interpreter, "-ISc", code).stdout)


def upgrade(path):
    """Replace a program as package managers do: a new file gets the name of the old one."""
    new = path.with_suffix(".new")
    new.write_bytes(path.read_bytes() + b"\0")  # what follows the last section is ignored
    new.chmod(0o755)
    new.replace(path)


def sealed_mounts():
    return [path for path in mount_points() if path.startswith(seal.BASE)]


def lines_of(path):
    return Path(path).read_text().splitlines()
