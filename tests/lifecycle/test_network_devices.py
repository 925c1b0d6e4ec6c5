"""
Network devices that a bundle takes from the host. config-linux.md, Network devices.

Every test is in a network namespace of its own, with devices that no host has: a mistake cannot
reach the host's.
"""

from __future__ import annotations

import json
import os
import re
import subprocess

import pytest

from pycontain.kernel import calls
from pycontain.kernel import const as c
from tests.idmap import bundle_with_user

pytestmark = pytest.mark.needs_root

DEVICE = "pcdev0"


@pytest.fixture(autouse=True)
def network():
    """The host's network namespace is left before any device is named."""
    before = os.open("/proc/self/ns/net", os.O_RDONLY)
    own = os.readlink("/proc/self/ns/net")
    calls.unshare(c.CLONE_NEWNET)
    assert os.readlink("/proc/self/ns/net") != own
    assert devices() == {"lo"}
    yield
    calls.setns(before, c.CLONE_NEWNET)
    os.close(before)


@pytest.fixture
def device(network):
    """A device with addresses that is up, and one that is down."""
    ip_does("link add pcdev0 address 02:00:00:00:00:07 type veth peer name pcdev1")
    ip_does("link set pcdev0 mtu 1400")
    ip_does("addr add 10.99.0.1/24 dev pcdev0")
    ip_does("addr add 10.99.0.7/24 broadcast 10.99.0.255 dev pcdev0")
    ip_does("addr add 10.98.0.1 peer 10.98.0.2/32 dev pcdev0")
    ip_does("addr add fd99::1/64 nodad dev pcdev0")
    ip_does("link set pcdev0 up")
    return DEVICE


def ip_does(line):
    subprocess.run(["ip", *line.split()], check=True)


def ip(what="addr", pid=None):
    """What ip(8) shows, in the network namespace of a process."""
    enter = ["nsenter", f"--net=/proc/{pid}/ns/net"] if pid else []
    done = subprocess.run([*enter, "ip", "--json", what], check=True, stdout=subprocess.PIPE)
    return json.loads(done.stdout or "[]")


def devices():
    """The names of the devices."""
    return {link["ifname"] for link in ip("link")}


def described(links=None):
    """Index, MTU, address, whether it is up, and global IP addresses of each device."""
    return {
        link["ifname"]: (
            link["ifindex"], link["mtu"], link["address"], "UP" in link["flags"],
            sorted(
                (found["local"], found["prefixlen"], found.get("address", ""), found.get("broadcast", ""))
                for found in link["addr_info"] if found["scope"] == "global"
            ),
        )
        for link in links or ip()
    }  # fmt: skip


def taking(name=DEVICE, new=None):
    return {"linux.netDevices": {name: {"name": new} if new else {}}}


@pytest.mark.property("linux.netDevices*", "life-cycle 32")
@pytest.mark.parametrize("new", [None, "eth7"])
def test_a_device_of_the_host_is_the_containers_with_its_addresses(runtime, bundle, device, new):
    made = bundle("cat /proc/net/dev; ifconfig -a; sleep 0", taking(new=new))
    shown = runtime.output(made).out
    name = new or device
    assert f"{name}:" in shown
    assert "UP" in shown.split(name, 2)[2].split("\n\n")[0]
    for part in (
        "10.99.0.1",
        "fd99::1/64",
        "MTU:1400",
        "02:00:00:00:00:07",
    ):
        assert part in shown
    if new:
        assert device not in shown


@pytest.mark.property("life-cycle 32")
def test_a_created_containers_device_is_gone_from_the_host_and_stays_gone(runtime, bundle, device):
    container = runtime.create(bundle("sleep 100", taking()))
    pid = runtime.state(container)["pid"]
    assert devices() == {"lo", "pcdev1"}
    shown = ip(pid=pid)
    inside = described(shown)[device]
    assert inside[1:4] == (1400, "02:00:00:00:00:07", True)
    assert inside[4] == [
        ("10.98.0.1", 32, "10.98.0.2", ""),
        ("10.99.0.1", 24, "", ""),
        ("10.99.0.7", 24, "", "10.99.0.255"),
        ("fd99::1", 64, "", ""),
    ]
    runtime.ok("delete", "--force", container)
    assert device not in devices()


@pytest.mark.property("linux.netDevices{*}.name", "life-cycle 32")
def test_a_template_gives_the_device_a_free_name(runtime, bundle, device):
    ip_does("link add net0 type veth peer name pcdev3")
    config = {"linux.netDevices": {device: {"name": "net%d"}, "net0": {"name": "net%d"}}}
    out = runtime.output(bundle("cat /proc/net/dev", config)).out
    names = [line.split(":")[0].strip() for line in out.splitlines()[2:]]
    assert len(names) == 3
    assert [name for name in names if not re.fullmatch(r"net[0-9]", name)] == ["lo"]


def test_a_joined_network_namespace_gets_the_device(runtime, bundle, device, tmp_path):
    with subprocess.Popen(
        ["unshare", "--net", "sh", "-c", "echo up; exec cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as keeper:
        assert keeper.stdout.readline() == b"up\n"
        kinds = [{"type": kind} for kind in ("pid", "mount", "uts", "ipc")]
        config = taking() | {
            "linux.namespaces": [*kinds, {"type": "network", "path": f"/proc/{keeper.pid}/ns/net"}]
        }
        made = bundle("cat /proc/net/dev", config)
        assert "pcdev0:" in runtime.output(made).out
        assert device not in devices()
        ip_does("link add pcdev0 type veth peer name pcdev5")  # the name is taken there by now
        error = runtime.fails(made)
        assert "linux.netDevices[pcdev0].name = pcdev0" in error
        assert "has already" in error
        assert device in devices()
        config["linux.netDevices"] = {device: {"name": "other0"}}  # and its index, perhaps
        assert "other0:" in runtime.output(bundle("cat /proc/net/dev", config)).out
        keeper.stdin.close()


@pytest.mark.parametrize("state", ["up", "down"])
@pytest.mark.parametrize("user", [False, True], ids=["", "user namespace"])
def test_a_device_returns_as_it_was_if_the_container_cannot_be_created(
    runtime, bundle, device, state, user
):
    ip_does(f"link set {device} {state}")
    ip_does(f"addr replace fd99::1/64 nodad dev {device}")
    before = described()
    changes = taking(new="eth7") | {"process.args": ["/nowhere"]}
    runtime.fails(bundle_with_user(bundle, "", changes) if user else bundle("", changes))
    assert described() == before


def test_a_failing_hook_returns_the_device(runtime, bundle, device):
    before = described()
    made = bundle("sleep 100", taking())
    made.edit({"hooks": {"createRuntime": [{"path": "/bin/false"}]}})
    runtime.fails(made)
    assert described() == before


def test_a_second_device_that_does_not_exist_leaves_the_first_where_it_was(runtime, bundle, device):
    before = described()
    made = bundle("true", {"linux.netDevices": {device: {}, "pcgone0": {}}})
    error = runtime.fails(made)
    assert "linux.netDevices[pcgone0] does not exist" in error
    assert described() == before


def test_a_device_that_cannot_be_moved_is_an_error(runtime, bundle, device):
    before = described()
    error = runtime.fails(bundle("true", {"linux.netDevices": {device: {}, "lo": {"name": "lo9"}}}))
    assert "linux.netDevices[lo]" in error
    assert "cannot be moved" in error
    assert described() == before


def test_moving_devices_into_the_hosts_own_namespace_is_refused(runtime, bundle, device):
    kinds = [{"type": kind} for kind in ("pid", "mount", "uts", "ipc")]
    own = {"type": "network", "path": f"/proc/{os.getpid()}/ns/net"}
    error = runtime.fails(bundle("true", taking() | {"linux.namespaces": [*kinds, own]}))
    assert "netDevices" in error
    error = runtime.fails(bundle("true", taking() | {"linux.namespaces": kinds}))
    assert "linux.netDevices" in error
    assert "network" in error


@pytest.mark.needs_userns
def test_a_container_with_a_user_namespace_gets_a_device(runtime, bundle, device):
    made = bundle_with_user(bundle, "cat /proc/net/dev", taking())
    assert "pcdev0:" in runtime.output(made).out
