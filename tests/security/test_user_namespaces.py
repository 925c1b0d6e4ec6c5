"""
Root of a user namespace is not the host's root, and nothing enters one with the host's rights.

A process that is still being set up in it, as by exec, would otherwise give them to the others there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pycontain.kernel import calls
from pycontain.kernel import const as c
from pycontain.kernel.mounts import Tree
from pycontain.spec.names import CAPABILITIES
from tests.bundles import MOUNTS
from tests.idmap import FIRST, NAMESPACES, Mapped, bundle_with_user
from tests.security.attack import PYTHON, in_a_child
from tests.security.test_first_process_is_closed import half_made

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_userns]

ALL = {
    "process.capabilities": dict.fromkeys(
        ("bounding", "effective", "permitted", "inheritable"), list(CAPABILITIES)
    )
}
SHARED_PIDS = {"linux.namespaces": [entry for entry in NAMESPACES if entry["type"] != "pid"]}
HOSTS_PROC = [
    {"destination": "/proc", "source": "/proc", "options": ["rbind"]},
    *(mount for mount in MOUNTS if mount["type"] != "proc"),
]


@pytest.fixture
def mapped(bundle) -> Mapped:
    return lambda script="", changes=None: bundle_with_user(bundle, script, ALL | (changes or {}))


# --- the host's root -----------------------------------------------------------------------------

MKNOD = "mknod /tmp/disk b 8 0 2>/dev/null && echo made || echo refused"


def test_no_device_file_can_be_created(runtime, mapped):
    assert runtime.output(mapped(MKNOD)).words == ["refused"]


@pytest.mark.control
def test_without_a_user_namespace_a_device_file_can_be_created(runtime, bundle):
    assert runtime.run(bundle(MKNOD, ALL)).words == ["made"]


READ = """
cat /data/secret 2>/dev/null || echo refused; echo x 2>/dev/null >>/data/secret || echo refused
chown 0 /data/secret 2>/dev/null || echo refused; chmod 777 /data 2>/dev/null || echo refused
"""


@pytest.fixture
def secret(tmp_path) -> dict[str, list[dict[str, object]]]:
    """The mounts of a container that has a folder with a file of the host's root."""
    folder = tmp_path / "data"
    folder.mkdir(mode=0o755)
    (folder / "secret").write_text("secret\n")
    (folder / "secret").chmod(0o600)
    bind = {"destination": "/data", "source": str(folder), "options": ["bind"]}
    return {"mounts": [*MOUNTS, bind]}


def test_a_file_of_the_hosts_root_can_be_neither_read_nor_changed(runtime, mapped, secret):
    assert runtime.output(mapped(READ, secret)).words == ["refused"] * 4


@pytest.mark.control
def test_without_a_user_namespace_a_file_of_the_hosts_root_can_be_read(runtime, bundle, secret):
    assert runtime.run(bundle(READ, ALL | secret)).words == ["secret"]


@pytest.fixture
def victim() -> Iterator[int]:
    """A process of the host's root."""
    with subprocess.Popen(["sleep", "1000"]) as process:
        yield process.pid
        process.kill()


def attacks(pid: int) -> str:
    """A script that signals, inspects and changes a process of the host."""
    return f"""
    kill -0 {pid} 2>/dev/null && echo signalled
    readlink /proc/{pid}/root >/dev/null 2>&1 && echo inspected
    echo 5 2>/dev/null >/proc/{pid}/oom_score_adj && echo changed; true
    """


def test_a_process_of_the_hosts_root_can_be_neither_signalled_nor_inspected(
    runtime, mapped, victim
):
    made = mapped(attacks(victim), SHARED_PIDS | {"mounts": HOSTS_PROC})
    assert runtime.output(made).words == []


@pytest.mark.control
def test_without_a_user_namespace_a_process_of_the_hosts_root_can_be_inspected(
    runtime, bundle, victim
):
    kinds = [entry for entry in SHARED_PIDS["linux.namespaces"] if entry["type"] != "user"]
    made = bundle(attacks(victim), ALL | {"linux.namespaces": kinds, "mounts": HOSTS_PROC})
    assert runtime.run(made).words == ["signalled", "inspected", "changed"]


# --- what restricts a mount ----------------------------------------------------------------------

UNLOCK = "mount -o remount,bind,rw,suid,dev,exec /data 2>/dev/null && echo unlocked || echo locked"


@pytest.mark.parametrize("options", [["bind", "ro"], ["rbind", "ro", "nosuid", "nodev", "noexec"]])
def test_the_restrictions_of_a_bind_mount_cannot_be_removed(runtime, mapped, tmp_path, options):
    bind = {"destination": "/data", "source": str(tmp_path), "options": options}
    assert runtime.output(mapped(UNLOCK, {"mounts": [*MOUNTS, bind]})).words == ["locked"]


def test_a_submount_cannot_be_removed_to_see_what_it_covers(runtime, mapped, tmp_path):
    outer = tmp_path / "outer"
    (outer / "inner").mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "x", outer / "inner"], check=True)
    bind = {"destination": "/data", "source": str(outer), "options": ["rbind"]}
    made = mapped("umount /data/inner 2>/dev/null || echo locked", {"mounts": [*MOUNTS, bind]})
    assert runtime.output(made).words == ["locked"]
    subprocess.run(["umount", outer / "inner"], check=True)


@pytest.mark.control
def test_the_restrictions_of_a_detached_mount_can_be_removed(tmp_path):
    """So do runtimes that hand such mounts over to the container."""

    def unlocks() -> bool:
        tree = Tree.clone(os.open(tmp_path, os.O_PATH))
        tree.set(c.MOUNT_ATTR_RDONLY, 0)
        calls.unshare(c.CLONE_NEWUSER | c.CLONE_NEWNS)
        tree.attach(os.open("/mnt", os.O_PATH))
        tree.set(0, c.MOUNT_ATTR_RDONLY)
        return not os.statvfs(tree.fd).f_flag & os.ST_RDONLY

    assert in_a_child(unlocks)


# --- who enters ----------------------------------------------------------------------------------

NEW_USER = "CLONE_NEWUSER"


def entered_as_root(trace: str) -> list[str]:
    """The processes that entered a user namespace before they gave up the host's uid 0."""
    changed, found = set(), []
    for line in trace.splitlines():
        pid, call = line.split(maxsplit=1)
        if match := re.match(r"setresuid\((\d+), \1, \1\) += 0", call):
            if match[1] != "0":
                changed.add(pid)
        elif call.startswith("setns(") and NEW_USER in call and pid not in changed:
            found.append(line)
    return found


def traced(command: list[str], file: Path) -> str:
    calls_ = "trace=setns,setresuid,setuid,clone,clone3,fork,vfork"
    subprocess.run(["strace", "-f", "-qq", "-e", calls_, "-o", file, *command], check=True,
                   stdout=subprocess.DEVNULL, timeout=60)  # fmt: skip
    return file.read_text()


@pytest.mark.needs_strace
@pytest.mark.parametrize("verb", ["exec", "run", "joined"])
def test_nothing_enters_a_user_namespace_as_the_hosts_root(runtime, mapped, tmp_path, verb):
    id = runtime.started(mapped("sleep 100"))
    made = mapped("true")
    if verb == "joined":
        path = f"/proc/{runtime.state(id)['pid']}/ns/user"
        kinds = [*NAMESPACES[:-1], {"type": "user", "path": path}]
        made.edit({"linux.namespaces": kinds})
    words = ["exec", id, "true"] if verb == "exec" else ["run", "-b", made.path, runtime.new_id()]
    trace = traced(runtime.command(*words), tmp_path / "trace")
    assert NEW_USER in trace
    assert f"setresuid({FIRST}, {FIRST}, {FIRST}) = 0" in trace
    assert entered_as_root(trace) == []


@pytest.mark.control
@pytest.mark.needs_strace
def test_nsenter_enters_as_the_hosts_root(runtime, mapped, tmp_path):
    pid = runtime.state(runtime.started(mapped("sleep 100")))["pid"]
    trace = traced(["nsenter", "--user", "--target", str(pid), "true"], tmp_path / "trace")
    assert entered_as_root(trace) != []


def inside(pid: int, *command: str) -> subprocess.CompletedProcess[str]:
    """Run a command as root of a process's user namespace, with every capability there."""
    words = ["nsenter", "--user", "--target", str(pid), *command]
    return subprocess.run(words, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("shares_pids", [True, False])
def test_a_process_in_the_namespace_cannot_inspect_the_child_at_its_setup(
    runtime, mapped, shares_pids
):
    changes = SHARED_PIDS | {"mounts": MOUNTS[1:]} if shares_pids else {}
    id = runtime.started(mapped("sleep 100", changes))
    with half_made(runtime, "exec", id, "true") as (_, child):
        status = Path(f"/proc/{child}/status").read_text()
        assert f"Uid:\t{FIRST}\t{FIRST}\t{FIRST}\t{FIRST}\n" in status
        assert f"Gid:\t{FIRST}\t{FIRST}\t{FIRST}\t{FIRST}\n" in status
        assert "Groups:\t \n" in status
        for name in ("root", "exe", "cwd", "fd/0"):
            assert inside(child, "readlink", f"/proc/{child}/{name}").returncode
        assert inside(child, "cat", f"/proc/{child}/environ").returncode


NAIVE = """
import os, sys, ctypes
libc = ctypes.CDLL(None)
assert libc.setns(os.open(sys.argv[1], os.O_RDONLY), 0x10000000) == 0
os.setresgid(0, 0, 0), os.setresuid(0, 0, 0)
libc.prctl(4, 1)  # PR_SET_DUMPABLE, as it is without a change of user
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.control
def test_a_process_in_the_namespace_can_inspect_a_naive_child(runtime, mapped):
    pid = runtime.state(runtime.started(mapped("sleep 100")))["pid"]
    pipe = subprocess.PIPE
    command = [PYTHON, "-ISc", NAIVE, f"/proc/{pid}/ns/user"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as naive:
        assert naive.stdout
        assert naive.stdin
        naive.stdout.readline()
        found = inside(pid, "readlink", f"/proc/{naive.pid}/root").stdout
        naive.stdin.close()
    assert found == "/\n"


# --- whom the namespace belongs to ---------------------------------------------------------------

OWNER = """
import array, fcntl, os, sys
owner = array.array("I", [0])
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0xB704, owner)  # NS_GET_OWNER_UID: ioctl_ns(2)
print(owner[0])
"""


def owner_of(path: str) -> int:
    command = [sys.executable, "-ISc", OWNER, path]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


def test_the_namespace_is_the_hosts_roots(runtime, mapped):
    """Its owner has every capability in it, from outside: user_namespaces(7)."""
    pid = runtime.state(runtime.started(mapped("sleep 100")))["pid"]
    assert owner_of(f"/proc/{pid}/ns/user") == 0


@pytest.mark.control
def test_a_namespace_that_the_mapped_root_creates_is_its_own():
    command = ["setpriv", "--reuid", str(FIRST), "--clear-groups", "unshare", "--user"]
    script = ["sh", "-c", "echo up; exec cat"]
    pipe = subprocess.PIPE
    with subprocess.Popen([*command, *script], stdin=pipe, stdout=pipe) as process:
        assert process.stdout
        assert process.stdin
        process.stdout.readline()
        owner = owner_of(f"/proc/{process.pid}/ns/user")
        process.stdin.close()
    assert owner == FIRST
