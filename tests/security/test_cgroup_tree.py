"""
Control groups as a way out of a container.

CVE-2022-0492: a cgroup v1 hierarchy names a program that the kernel runs, as root and outside of
every container, when one of its cgroups becomes empty. CVE-2023-25809: without a cgroup namespace,
the host's whole tree was in the container, and writable although /sys was mounted read-only.
"""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

from pycontain.cgroup.place import find_mount
from pycontain.spec.sample import sample
from tests.bundles import wait_until
from tests.security.attack import give_python, in_a_child, python

pytestmark = pytest.mark.needs_root

SYS = {"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "ro"]}
SYS_OF_THE_HOST = {"destination": "/sys", "source": "/sys", "options": ["rbind", "nosuid", "ro"]}
CGROUP = {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["nosuid", "ro"]}
KINDS = ("pid", "network", "ipc", "uts", "mount")


def capabilities(*more):
    """Those of the sample configuration, and these."""
    sets = sample()["process"]["capabilities"]
    return {"process.capabilities": {kind: [*names, *more] for kind, names in sets.items()}}


# --- CVE-2022-0492 -------------------------------------------------------------------------------

HIERARCHY = f"hierarchy{os.getpid()}"
MOUNT = f"mount -t cgroup -o none,name={HIERARCHY} none"

ATTACK = f"""
mkdir -p /tmp/v1
{MOUNT} /tmp/v1 && echo mounted || exec echo tried
mkdir /tmp/v1/x
echo 1 > /tmp/v1/x/notify_on_release
echo AGENT > /tmp/v1/release_agent && echo written
sh -c 'echo 0 > /tmp/v1/x/cgroup.procs'
echo tried
"""  # the last shell ends at once, which leaves its cgroup empty


@pytest.fixture
def agent(tmp_path):
    """A program of the host that leaves a file; it must not run."""
    path = tmp_path / "agent"
    path.write_text(f"#!/bin/sh\nid -u > {tmp_path}/half && mv {tmp_path}/half {tmp_path}/ran\n")
    path.chmod(0o755)
    yield path
    wait_until(is_gone, "the hierarchy is gone")


MAKE = f"{MOUNT} /mnt && mkdir -p /mnt/x && umount /mnt"
REMOVE = f"{MOUNT} /mnt && {{ rmdir /mnt/x; umount /mnt; }}"


def is_gone():
    """
    Whether the kernel does not know the hierarchy, after an attempt to remove it.

    It ends after its last unmounting, unless a cgroup in it has not quite ended: then, and not
    sooner, it must be mounted again.
    """
    if exists():
        in_a_child(lambda: subprocess.run(["sh", "-c", REMOVE], check=False).returncode)
    for _ in range(100):
        if not exists():
            return True
        time.sleep(0.01)
    return False


def exists():
    return f"name={HIERARCHY}:" in Path("/proc/self/cgroup").read_text()


def test_with_the_samples_capabilities_no_hierarchy_can_be_mounted(runtime, bundle, agent):
    made = bundle(ATTACK.replace("AGENT", str(agent)), capabilities("CAP_DAC_OVERRIDE"))
    done = runtime.run(made)
    assert (done.out, done.err.count("permission denied")) == ("tried\n", 1)
    assert not agent.with_name("ran").exists()


@pytest.mark.control
def test_a_container_that_may_mount_a_hierarchy_runs_a_program_on_the_host(runtime, bundle, agent):
    """CAP_SYS_ADMIN without a user namespace: nothing holds such a container."""
    more = capabilities("CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN")
    made = bundle(ATTACK.replace("AGENT", str(agent)), more)
    assert runtime.output(made).words == ["mounted", "written", "tried"]
    ran = agent.with_name("ran")
    wait_until(ran.exists, "the kernel has run the agent")
    assert ran.read_text() == "0\n"


IN_A_USER_NAMESPACE = """
import ctypes, os
unshared = ctypes.CDLL(None).unshare(0x12020000)  # CLONE_NEWUSER | CLONE_NEWCGROUP | CLONE_NEWNS
for name, text in ("setgroups", "deny"), ("uid_map", "0 0 1"), ("gid_map", "0 0 1"):
    with open("/proc/self/" + name, "w") as file:
        file.write(text)
print(unshared, flush=True)
os.execv("/bin/sh", ["sh", "-c", {attack!r}])
"""


@pytest.mark.needs_userns
def test_a_user_namespace_of_the_program_mounts_no_hierarchy(runtime, bundle, agent):
    """There the hierarchy can be mounted if it exists, but its program cannot be set."""
    in_a_child(lambda: subprocess.run(["sh", "-c", MAKE], check=True).returncode)
    attack = ATTACK.replace("AGENT", str(agent))
    code = IN_A_USER_NAMESPACE.format(attack=attack)
    more = capabilities("CAP_DAC_OVERRIDE", "CAP_SETFCAP")  # the latter to be root in it
    made = bundle("", {"process.args": python(code), **more})
    give_python(made)
    done = runtime.run(made)
    assert done.words == ["0", "mounted", "tried"]
    assert "write error: Operation not permitted" in done.err
    assert not agent.with_name("ran").exists()


FIND = "find /sys /proc -name release_agent; ls -d /sys/fs/cgroup/cgroup.procs"


@pytest.mark.parametrize("own", [True, False])
def test_no_program_of_a_hierarchy_can_be_reached(runtime, bundle, own):
    kinds = [*KINDS, "cgroup"] if own else KINDS
    made = bundle(FIND)
    made.edit({"mounts": [*made.config["mounts"], SYS, CGROUP]})
    made.edit({"linux.namespaces": [{"type": kind} for kind in kinds]})
    assert runtime.run(made).words == ["/sys/fs/cgroup/cgroup.procs"]


@pytest.mark.control
def test_a_naive_bind_of_a_hierarchy_shows_its_release_agent(runtime, bundle, agent, tmp_path):
    hierarchy = tmp_path / "v1"
    hierarchy.mkdir()
    subprocess.run([*MOUNT.split(), hierarchy], check=True)
    try:
        bind = {"destination": "/sys", "source": str(hierarchy), "options": ["bind", "ro"]}
        made = bundle(FIND)
        made.edit({"mounts": [*made.config["mounts"], bind]})
        assert runtime.run(made).words[0] == "/sys/release_agent"
    finally:
        subprocess.run(["umount", hierarchy], check=True)


# --- CVE-2023-25809 ------------------------------------------------------------------------------

# The container's own cgroup, wherever it is in the tree, is the only one that is tried.
WRITE = """
own=$(sed -n s/^0:://p /proc/self/cgroup)
for folder in /sys/fs/cgroup /sys/fs/cgroup$own /sys/fs/cgroup/*$own; do
    grep -qx $$ $folder/cgroup.procs && echo found || continue
    mkdir $folder/planted && rmdir $folder/planted && echo made
    echo 0 > $folder/cgroup.procs && echo written
done 2>/dev/null
[ ! -e /sys/fs/cgroup/cgroup.procs ] || ls -d /sys/fs/cgroup/*/
echo tried
"""
SHARED = {"linux.namespaces": [{"type": kind} for kind in KINDS], **capabilities()}


def with_mounts(bundle, *mounts):
    made = bundle(WRITE, SHARED)
    made.edit({"mounts": [*made.config["mounts"], *mounts]})
    return made


@pytest.mark.parametrize("sys", [SYS, SYS_OF_THE_HOST], ids=["new", "bound"])
def test_without_a_cgroup_namespace_the_tree_is_the_containers_own_and_read_only(
    runtime, bundle, sys
):
    made = with_mounts(bundle, sys, CGROUP)
    assert runtime.run(made).words == ["found", "tried"]
    made.edit({"process.args": ["sleep", "100"]})
    container = runtime.started(made)
    assert runtime("exec", container, "sh", "-c", WRITE).words == ["found", "tried"]


@pytest.mark.control
def test_a_naive_read_only_sys_leaves_the_hosts_tree_writable(runtime, bundle):
    """`ro` is of one mount, not of those below it, which rbind brings along."""
    done = runtime.run(with_mounts(bundle, SYS_OF_THE_HOST))
    assert done.words[:3] == ["found", "made", "written"]


IN_A_NAMESPACE = ["unshare", "--user", "--map-root-user", "--mount"]


@pytest.mark.needs_userns
@pytest.mark.parametrize("flags", [(), ("--cgroup-manager", "disabled")], ids=["own", "disabled"])
def test_a_runtime_that_is_root_only_in_a_user_namespace_gives_no_access(runtime, bundle, flags):
    """Where runc could not mount the cgroup file system and bound the host's, writable."""
    made = with_mounts(bundle, CGROUP)
    made.edit({"mounts": [made.config["mounts"][0], CGROUP]})
    command = runtime.command(*flags, "run", "--bundle", made.path, runtime.new_id())
    done = subprocess.run([*IN_A_NAMESPACE, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    words = done.stdout.split()
    assert (words[0], words[-1]) == ("found", "tried")
    assert not {"made", "written"} & {*words}


@pytest.mark.control
@pytest.mark.needs_userns
def test_a_naive_runtime_in_a_user_namespace_writes_to_the_hosts_tree(runtime, bundle):
    pid = runtime.state(runtime.started(bundle("sleep 100")))["pid"]
    own = Path(f"/proc/{pid}/cgroup").read_text().split("0::")[1].strip()
    planted = f"{find_mount()}{own}/planted"
    subprocess.run([*IN_A_NAMESPACE, "mkdir", planted], check=True)
    os.rmdir(planted)
