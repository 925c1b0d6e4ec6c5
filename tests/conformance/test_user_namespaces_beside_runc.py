"""What runc's containers have in a user namespace, pycontain's have, too."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.bundles import LIMIT, MOUNTS, TOKEN
from tests.idmap import MAPPINGS, NAMESPACES, bundle_with_user, give

pytestmark = [pytest.mark.needs_userns, pytest.mark.needs_runc]

# runc 1.1 cannot have a cgroup namespace on a hybrid host
KINDS = [entry for entry in NAMESPACES if entry["type"] != "cgroup"]
SYSFS = {
    "destination": "/sys",
    "type": "sysfs",
    "source": "sysfs",
    "options": ["ro", "nosuid", "nodev", "noexec"],
}

SCRIPTS = {
    "ids": "id; cat /proc/self/uid_map /proc/self/gid_map /proc/self/setgroups",
    "devices": "cd /dev; stat -c '%n %F %t:%T %a' null zero full random urandom tty ptmx",
    "links": "cd /dev; for i in fd stdin stdout stderr ptmx; do readlink $i; done",
    # devices are mounted from where each runtime has made them
    "mounts": "awk '$2 !~ \"^/dev/(null|zero|full|u?random|tty)$\" {print $2, $3}' /proc/mounts",
    "owners": "stat -c '%n %u:%g %a' / /dev /dev/pts /dev/shm /proc /sys",
    "capabilities": "grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status",
    "names": "hostname; ls /sys/class/net",
    "denied": "mknod /x c 1 3 2>/dev/null || echo denied; echo 1 2>/dev/null >/proc/sys/kernel/panic"
    " || echo denied",
    "mounting": "mount -t tmpfs x /tmp && echo mounted; mount -t proc x /tmp && echo proc; true",
}


@pytest.mark.parametrize("what", SCRIPTS)
def test_the_program_finds_the_same_in_a_user_namespace_of_runc(runtime, bundle, tmp_path, what):
    with_sysfs = {"linux.namespaces": KINDS, **MAPPINGS, "mounts": [*MOUNTS, SYSFS]}
    made = bundle_with_user(bundle, SCRIPTS[what], with_sysfs)
    ours = runtime.output(made).lines
    assert sorted(of_runc(made.path)) == sorted(ours)


def of_runc(bundle: Path) -> list[str]:
    """What runc's container prints; runc needs a bundle that the mapped root can reach."""
    folder = Path(tempfile.mkdtemp())  # that of a test is root's alone
    folder.chmod(0o755)
    try:
        copy = folder / "bundle"
        shutil.copytree(bundle, copy, symlinks=True)
        give(copy / "rootfs")
        words = ["runc", "--root", folder / "state", "run", "--bundle", copy, f"{TOKEN}-runc"]
        done = subprocess.run(words, capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=LIMIT, check=True)  # fmt: skip
    finally:
        shutil.rmtree(folder)
    return done.stdout.splitlines()
