"""`run --rootfs`, `run IMAGE` and `spec --rootfs` of a user without root privileges."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bundles import COMMAND, LIMIT, Done
from tests.image.conftest import Made

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_userns]

USER = 12345


class User:
    """An ordinary user with a home, a runtime directory and a root file system."""

    def __init__(self, directory: Path) -> None:
        self.home, self.runtime, self.root = (directory / name for name in ("home", "run", "root"))

    def __call__(self, *words: str) -> Done:
        done = subprocess.run(
            [*COMMAND, *words], user=USER, group=USER, extra_groups=[], stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=LIMIT, check=False, cwd=self.home,
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.home), "USER": "alice",
                 "XDG_RUNTIME_DIR": str(self.runtime)},
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    def ok(self, *words: str) -> str:
        done = self(*words)
        assert (done.status, done.err) == (0, ""), done
        return done.out

    @property
    def left(self) -> list[Path]:
        """What containers have left in the home."""
        return list((self.home / ".local/share/pycontain/containers").iterdir())


@pytest.fixture
def alice(shared_mounts: None, busybox_root: Path) -> Iterator[User]:
    directory = Path(tempfile.mkdtemp(prefix="pct", dir="/tmp"))
    directory.chmod(0o755)
    user = User(directory)
    user.home.mkdir()
    user.runtime.mkdir(mode=0o700)
    shutil.copytree(busybox_root, user.root, symlinks=True)
    subprocess.run(["chown", "-R", "-h", f"{USER}:{USER}", directory], check=True)
    yield user
    shutil.rmtree(directory)


def test_a_user_runs_a_root_file_system_as_its_root(alice: User) -> None:
    script = "id -u; hostname; touch /written; cat /proc/self/uid_map"
    out = alice.ok("run", "--rootfs", str(alice.root), "--hostname", "box", "sh", "-c", script)
    assert out.split() == ["0", "box", "0", str(USER), "1"]
    assert (alice.root / "written").stat().st_uid == USER
    assert alice.left == []


def test_the_host_is_not_changed_by_a_users_container(alice: User) -> None:
    escape = "mount -t tmpfs x /mnt || echo refused; echo x > /proc/sys/kernel/hostname || echo no"
    done = alice("run", "--rootfs", str(alice.root), "sh", "-c", escape)
    assert done.out.split() == ["refused", "no"]


def test_the_network_of_the_host_can_be_shared_by_a_user(alice: User) -> None:
    show = "ls /sys >/dev/null && readlink /proc/self/ns/net"
    out = alice.ok("run", "--rootfs", str(alice.root), "--network", "host", "sh", "-c", show)
    assert out == subprocess.run(
        ["readlink", "/proc/self/ns/net"], capture_output=True, text=True, check=True
    ).stdout  # fmt: skip


def test_spec_hides_nothing_of_a_users_container(alice: User) -> None:
    config = json.loads(alice.ok("spec", "--rootfs", str(alice.root), "id"))
    assert config["linux"]["namespaces"][0] == {"type": "user"}
    assert config["linux"]["uidMappings"] == [{"containerID": 0, "hostID": USER, "size": 1}]
    bundle = alice.home / "bundle"
    bundle.mkdir()
    (bundle / "config.json").write_text(json.dumps(config))
    assert "uid=0" in alice.ok("run", "--bundle", str(bundle), "one")


def test_a_root_file_system_of_another_user_can_be_read(alice: User, busybox_root: Path) -> None:
    """Its /dev belongs to somebody who is not mapped."""
    shared = alice.home.parent / "shared"
    shutil.copytree(busybox_root, shared, symlinks=True)
    for name in ("run", "tmp", "var/tmp"):
        (shared / name).mkdir(parents=True, exist_ok=True)
    assert "uid=0" in alice.ok("run", "--rootfs", str(shared), "--read-only", "id")


def test_a_detached_container_of_a_user_can_be_entered_and_deleted(alice: User) -> None:
    done = alice("run", "-d", "--name", "web", "--rootfs", str(alice.root), "sleep", "100")
    assert (done.status, done.out) == (0, "web\n"), done
    assert "uid=0" in alice.ok("exec", "web", "id")
    (listed,) = json.loads(alice.ok("list", "--format", "json"))
    assert listed["owner"] == str(USER), "not root, which this user is inside"
    alice.ok("delete", "--force", "web")
    assert alice.left == []


def test_a_user_runs_an_image_that_stays_as_it_is(alice: User, image: Made) -> None:
    name = image(volume="/data")
    path = name.partition(":")[2].rpartition(":")[0]
    subprocess.run(["chmod", "-R", "a+rX", path], check=True)
    open_to_all(Path(path))
    change = "rm /bin/ls; echo x >/etc/passwd; echo y >/data/new; cat /etc/passwd /data/given"
    for _ in range(2):
        assert alice.ok("run", name, "sh", "-c", change) == "x\nfrom the image\n"
    assert alice.left == []


def open_to_all(path: Path) -> None:
    """Let everybody search the directories above, which pytest makes for one user."""
    for parent in path.parents:
        if parent.stat().st_mode & 0o005 != 0o005:
            parent.chmod(parent.stat().st_mode | 0o055)
