"""Containers of a user without root privileges, and of root in a user namespace, as below Podman."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

import pytest

from pycontain.cgroup.place import find_mount
from pycontain.cli import launcher
from pycontain.kernel import calls
from pycontain.kernel import const as c
from pycontain.kernel.mounts import Tree
from tests.bundles import COMMAND, LIMIT, TOKEN, Done, fill_rootfs, wait_until
from tests.systemd import StandIn

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_userns]

USER = 12345
FIRST, SIZE = 200_000, 1000
PASSWD = f"root:x:0:0::/:/bin/sh\nalice:x:{USER}:{USER}::/:/bin/sh\n"


def text_of(file: IO[bytes]) -> str:
    """What a file has, without moving the offset that its writers share."""
    return os.pread(file.fileno(), os.fstat(file.fileno()).st_size, 0).decode()


class Session:
    """A user with a bundle and an XDG_RUNTIME_DIR; `before` are words before the command."""

    def __init__(self, folder: Path, before: tuple[str, ...] = ()) -> None:
        self.bundle = folder / "bundle"
        self.runtime = folder / "run"
        self.before = before

    def __call__(self, *words: str, **how: object) -> Done:
        # Files, since a container keeps pipes open; of this call alone, since it may go on writing.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            done = subprocess.run(
                [*self.before, *COMMAND, *words], user=USER, group=USER, extra_groups=[],
                cwd=self.bundle, stdin=subprocess.DEVNULL, stdout=out, stderr=err,
                timeout=LIMIT, check=False,
                env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(self.runtime), "USER": "alice"},
            )  # fmt: skip
            return Done(done.returncode, text_of(out), text_of(err))

    def ok(self, *words: str) -> str:
        done = self(*words)
        assert done.status == 0, done
        return done.out

    def fails(self, *words: str) -> str:
        done = self(*words)
        assert done.status != 0, done
        assert done.err.count("\n") == 1, done.err
        return done.err

    def configure(self, script: str, **linux: object) -> None:
        """The sample for users, with a script and some values of `linux` changed."""
        (self.bundle / "config.json").unlink(missing_ok=True)
        self.ok("spec", "--rootless")
        config = json.loads((self.bundle / "config.json").read_text())
        config["process"] |= {"terminal": False, "args": ["sh", "-c", script]}
        config["linux"] |= linux
        self.write(config)

    def edit(self, part: str, **values: object) -> None:
        config = json.loads((self.bundle / "config.json").read_text())
        config[part] |= values
        self.write(config)

    def write(self, config: dict[str, object]) -> None:
        (self.bundle / "config.json").write_text(json.dumps(config))


@pytest.fixture
def alice(shared_mounts):
    """An ordinary user."""
    folder = Path(tempfile.mkdtemp(prefix="pct", dir="/tmp"))
    (folder / "bundle").mkdir()
    (folder / "run").mkdir(mode=0o700)
    fill_rootfs(folder / "bundle/rootfs")
    folder.chmod(0o755)
    for path in (folder, *folder.rglob("*")):
        os.chown(path, USER, USER, follow_symlinks=False)
    made = Session(folder)
    if made("features").status:
        pytest.skip(f"needs a checkout that other users can read: {launcher.directories()}")
    yield made
    for id in made.ok("list", "--quiet").split():
        made.ok("delete", "--force", id)
    shutil.rmtree(folder)


@pytest.fixture
def with_subids(alice, tmp_path):
    """The user has subordinate ids, until the test is over."""
    if shutil.which("newuidmap") is None:
        pytest.skip("needs newuidmap (not installed)")
    files = {
        "passwd": PASSWD,
        "subuid": f"alice:{FIRST}:{SIZE}\n",
        "subgid": f"{USER}:{FIRST}:{SIZE}\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
        tree = Tree.clone(os.open(tmp_path / name, os.O_PATH), at=name)
        tree.attach(os.open(f"/etc/{name}", os.O_PATH), name)
    yield alice
    for name in files:
        calls.umount2(f"/etc/{name}", c.MNT_DETACH)


def test_the_user_is_root_in_a_rootless_container_and_itself_on_the_host(alice):
    alice.configure("id; cat /proc/self/uid_map /proc/self/setgroups; sleep 100")
    assert alice("create", "c").status == 0
    pid = json.loads(alice.ok("state", "c"))["pid"]
    alice.ok("start", "c")
    status = Path(f"/proc/{pid}/status").read_text()
    assert f"Uid:\t{USER}\t{USER}\t{USER}\t{USER}" in status
    assert alice.ok("exec", "c", "id") == "uid=0 gid=0\n"
    assert alice.ok("exec", "c", "cat", "/proc/self/uid_map").split() == ["0", str(USER), "1"]


def test_a_rootless_container_has_the_life_of_every_container(alice):
    alice.configure("trap 'exit 3' TERM; while :; do sleep 0.1; done")
    alice.ok("create", "c")
    assert json.loads(alice.ok("state", "c"))["status"] == "created"
    alice.ok("start", "c")
    assert alice.ok("list", "--quiet") == "c\n"
    assert alice("exec", "c", "sh", "-c", "exit 5").status == 5
    alice.ok("kill", "c", "KILL")
    wait_until(lambda: json.loads(alice.ok("state", "c"))["status"] == "stopped", "stopped")
    alice.ok("delete", "c")
    assert alice.ok("list", "--quiet") == ""


def test_the_state_of_a_rootless_container_is_the_users_own(alice):
    alice.configure("sleep 100")
    alice.ok("run", "--detach", "c")
    root = alice.runtime / "pycontain"
    assert sorted(path.name for path in root.iterdir() if path.name[0] != ".") == ["c"]
    assert (root.stat().st_uid, root.stat().st_mode & 0o777) == (USER, 0o700)


def test_a_rootless_container_has_a_user_namespace_even_if_none_is_configured(alice):
    alice.configure("cat /proc/self/uid_map", namespaces=[{"type": "pid"}, {"type": "mount"}])
    alice.edit("linux", uidMappings=[], gidMappings=[])
    config = json.loads((alice.bundle / "config.json").read_text())
    del config["hostname"]
    config["mounts"] = config["mounts"][:1]
    alice.write(config)
    assert alice.ok("run", "c").split() == ["0", str(USER), "1"]


def test_devices_of_a_rootless_container_are_the_hosts_and_work(alice):
    alice.configure("head -c 3 /dev/zero | od -An -tx1; echo x > /dev/null && echo written")
    assert alice.ok("run", "c").split() == ["00", "00", "00", "written"]


def test_a_device_that_the_host_has_not_is_refused_by_name(alice):
    device = {"path": "/dev/odd", "type": "c", "major": 1, "minor": 3}
    alice.configure("true", devices=[device])
    assert "host devices: /dev/odd is not the host's c 1:3" in alice.fails("run", "c")
    alice.configure("true", devices=[{**device, "path": "/dev/zero"}])
    assert "/dev/zero is not the host's c 1:3" in alice.fails("run", "c")


def test_a_limit_without_a_delegated_cgroup_is_refused_by_name(alice):
    alice.configure("echo runs", resources={"pids": {"limit": 9}})
    error = alice.fails("run", "c")
    assert "linux.resources.pids.limit = 9 cannot be applied: no cgroup is delegated" in error
    assert "--systemd-cgroup" in error
    done = alice("--cgroup-missing", "warn", "run", "c")
    assert (done.status, done.out) == (0, "runs\n")
    assert "pids.limit = 9 cannot be applied" in done.err


def test_groups_cannot_be_set_where_one_id_is_mapped(alice):
    alice.configure("true")
    alice.edit("process", user={"uid": 0, "gid": 0, "additionalGids": [0]})
    assert "process.user.additionalGids = 0 cannot be set" in alice.fails("run", "c")


def test_a_mapping_without_the_users_own_id_is_refused(alice):
    alice.configure("true", uidMappings=[{"containerID": 0, "hostID": USER + 1, "size": 1}])
    assert f"linux.uidMappings does not map {USER}" in alice.fails("run", "c")


def test_ids_that_the_user_does_not_have_are_refused_with_the_remedy(alice):
    mapping = [{"containerID": 0, "hostID": USER, "size": 1},
               {"containerID": 1, "hostID": FIRST, "size": 5}]  # fmt: skip
    alice.configure("true", uidMappings=mapping)
    error = alice.fails("run", "c")
    assert "linux.uidMappings" in error
    assert "newuidmap" in error


def test_a_lower_oom_score_is_a_warning(alice):
    alice.configure("cat /proc/self/oom_score_adj")
    alice.edit("process", oomScoreAdj=-500)
    done = alice("run", "c")
    assert (done.status, done.out) == (0, "0\n")
    assert "process.oomScoreAdj = -500" in done.err


def test_subordinate_ids_are_mapped_by_newuidmap(with_subids):
    mapping = [{"containerID": 0, "hostID": USER, "size": 1},
               {"containerID": 1, "hostID": FIRST, "size": SIZE}]  # fmt: skip
    with_subids.configure("id; sleep 100", uidMappings=mapping, gidMappings=mapping)
    with_subids.edit("process", user={"uid": 5, "gid": 6, "additionalGids": [7]})
    with_subids.ok("run", "--detach", "c")
    pid = json.loads(with_subids.ok("state", "c"))["pid"]
    outside = FIRST + 4
    assert f"Uid:\t{outside}\t" in Path(f"/proc/{pid}/status").read_text()
    assert with_subids.ok("exec", "c", "id").startswith("uid=5 gid=6 groups=")
    with_subids.ok("kill", "c", "KILL")  # of another uid than the user's
    wait_until(lambda: json.loads(with_subids.ok("state", "c"))["status"] == "stopped", "stopped")


def test_without_mappings_every_id_of_the_user_is_mapped(with_subids):
    with_subids.configure("cat /proc/self/uid_map")
    config = json.loads((with_subids.bundle / "config.json").read_text())
    del config["linux"]["uidMappings"], config["linux"]["gidMappings"]
    config["linux"]["namespaces"] = [{"type": kind} for kind in ("pid", "mount", "uts", "ipc")]
    config["mounts"] = config["mounts"][:1]
    with_subids.write(config)
    words = with_subids.ok("run", "c").split()
    assert words == ["0", str(USER), "1", "1", str(FIRST), str(SIZE)]


@pytest.fixture
def session(alice):
    """A stand-in for the user's systemd; what it makes belongs to root."""
    made = StandIn(alice.runtime, find_mount(), f"/{TOKEN}-alice")
    (alice.runtime / "systemd/private").chmod(0o777)
    yield made
    for id in alice.ok("list", "--quiet").split():
        alice.ok("--systemd-cgroup", "delete", "--force", id)
    made.close()
    shutil.rmtree(alice.runtime / "systemd")


def test_systemd_moves_a_process_that_the_user_may_not_move(alice, session):
    alice.configure("sleep 100")
    assert alice("--systemd-cgroup", "run", "--detach", "c").status == 0
    # exec has a child create the program's process: both have to be inside
    assert alice.ok("exec", "c", "cat", "/proc/self/cgroup").splitlines()[-1] == "0::/"
    assert "AttachProcessesToUnit" in session.calls


LIBRARY = """\
import os, pycontain
print(pycontain.Container(".").options.root)
for _ in range(2):
    print(pycontain.run(".", ["id"]).stdout.decode(), end="")
"""


def test_the_library_runs_containers_of_the_user(alice):
    alice.configure("true")
    done = subprocess.run(
        [sys.executable, "-c", LIBRARY], user=USER, group=USER, extra_groups=[], cwd=alice.bundle,
        env={"XDG_RUNTIME_DIR": str(alice.runtime), "PYTHONPATH": ":".join(launcher.directories())},
        capture_output=True, text=True, timeout=LIMIT, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == (f"{alice.runtime}/pycontain\n" + "uid=0 gid=0\n" * 2, "")


# --- root of a user namespace: what Podman calls the runtime as -----------------------------------


@pytest.fixture
def nested(alice):
    """The same user, root of a user namespace that somebody else has made."""
    alice.before = ("unshare", "--user", "--map-root-user", "--mount")
    return alice


def test_root_of_a_user_namespace_needs_no_user_namespace_of_the_container(nested):
    nested.configure("id; head -c 1 /dev/zero | od -An -tx1")
    config = json.loads((nested.bundle / "config.json").read_text())
    del config["linux"]["uidMappings"], config["linux"]["gidMappings"]
    config["linux"]["namespaces"] = [
        each for each in config["linux"]["namespaces"] if each["type"] != "user"
    ]
    nested.write(config)
    assert nested.ok("run", "c").split() == ["uid=0", "gid=0", "00"]


def test_root_of_a_user_namespace_can_create_a_container_with_another(nested):
    mapping = [{"containerID": 0, "hostID": 0, "size": 1}]
    nested.configure(
        "id; head -c 1 /dev/zero | od -An -tx1", uidMappings=mapping, gidMappings=mapping
    )
    assert nested.ok("run", "c").split() == ["uid=0", "gid=0", "00"]
