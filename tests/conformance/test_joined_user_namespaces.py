"""config-linux.md, Namespaces: user namespaces that exist, joined with others of theirs."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.idmap import FIRST, KINDS, MAPPING, Mapped, bundle_with_user

pytestmark = pytest.mark.needs_userns


@pytest.fixture
def mapped(bundle) -> Mapped:
    return lambda script="", changes=None: bundle_with_user(bundle, script, changes)


@pytest.fixture
def first(runtime, mapped) -> str:
    """The folder in /proc with the namespaces of a container that runs."""
    return f"/proc/{runtime.state(runtime.started(mapped('sleep 100')))['pid']}/ns"


def joined(folder: str, *kinds: str) -> list[dict[str, str]]:
    """A list of namespaces, of which these are joined and the others new."""
    names = {"network": "net", "mount": "mnt"}
    return [
        {"type": kind, "path": f"{folder}/{names.get(kind, kind)}"} if kind in kinds
        else {"type": kind}
        for kind in (*KINDS, "user")
    ]  # fmt: skip


def test_a_user_namespace_is_joined_with_others_and_a_new_mount_namespace(runtime, mapped, first):
    script = "id; for n in user net mnt; do readlink /proc/self/ns/$n; done; hostname"
    changes = {"linux.namespaces": joined(first, "user", "network", "ipc"), "hostname": "second"}
    id, user, network, mount, name = runtime.output(mapped(script, changes)).lines
    assert id == "uid=0 gid=0"
    assert [user, network] == [os.readlink(f"{first}/{name}") for name in ("user", "net")]
    assert mount != os.readlink(f"{first}/mnt")
    assert name == "second"


def test_mappings_need_not_be_repeated_but_must_not_differ(runtime, mapped, first):
    listed = {"linux.namespaces": joined(first, "user")}
    assert runtime.output(mapped("id", listed | {"linux.uidMappings": [], "linux.gidMappings": []}))
    other = {"linux.uidMappings": [MAPPING | {"hostID": 1}]}
    line = runtime.fails(mapped("id", listed | other))
    assert f"differ from those of the user namespace, which maps uids 0-65535 as {FIRST}-" in line


def test_a_pid_namespace_is_joined_together_with_its_user_namespace(runtime, mapped, first):
    listed = joined(first, "user", "pid")
    made = mapped("ps | grep 'sleep 10[0]'; id", {"linux.namespaces": listed})
    lines = runtime.output(made).lines
    assert "sleep 100" in lines[0]
    assert lines[1] == "uid=0 gid=0"


def test_a_mount_namespace_is_joined_together_with_its_user_namespace(runtime, mapped, first):
    listed = joined(first, "user", "mount")
    made = mapped("id; ls /", {"linux.namespaces": listed, "root.path": "/", "mounts": []})
    id, *names = runtime.output(made).words[1:]
    assert id == "gid=0"
    assert "bin" in names


def test_a_network_namespace_of_the_host_is_joined_from_a_new_user_namespace(runtime, mapped):
    keeper = subprocess.Popen(["unshare", "-n", "sh", "-c", "echo up; exec sleep 100"],
                              stdout=subprocess.PIPE)  # fmt: skip
    assert keeper.stdout
    assert keeper.stdout.readline() == b"up\n"
    listed = joined(f"/proc/{keeper.pid}/ns", "network")
    made = mapped("readlink /proc/self/ns/net; id", {"linux.namespaces": listed})
    assert runtime.output(made).lines == [os.readlink(f"/proc/{keeper.pid}/ns/net"), "uid=0 gid=0"]
    keeper.kill()
    keeper.wait()
    keeper.stdout.close()


def test_exec_into_a_container_with_a_joined_user_namespace(runtime, mapped, first):
    listed = joined(first, "user", "network", "pid")
    id = runtime.started(mapped("sleep 100", {"linux.namespaces": listed}))
    done = runtime.ok("exec", id, "sh", "-c", "id; readlink /proc/self/ns/user")
    assert done.lines == ["uid=0 gid=0", os.readlink(f"{first}/user")]


def test_the_runtimes_own_user_namespace_is_refused(runtime, mapped):
    listed = joined("/proc/self/ns", "user")
    line = runtime.fails(mapped("", {"linux.namespaces": listed}))
    assert "is the runtime's own user namespace" in line
    assert "leave it out" in line
