"""A sysctl is allowed where a namespace of the container owns it, however its name is written."""

from __future__ import annotations

import json

import pytest

from pycontain.spec import check, parse, sysctl
from tests.unit.spec_configs import MINIMAL, edited


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
        ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
        ("net.ipv4.conf.eno2/100.rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
        ("net/ipv4/conf/eno2.100/rp_filter", "net/ipv4/conf/eno2.100/rp_filter"),
        ("plain", "plain"),
        ("", ""),
    ],
)
def test_the_first_separator_decides_how_a_name_is_read(name, path) -> None:
    assert sysctl.path(name) == path


OWNERS = {
    "kernel.msgmax": "ipc",
    "kernel.msgmnb": "ipc",
    "kernel.msgmni": "ipc",
    "kernel.sem": "ipc",
    "kernel.shmall": "ipc",
    "kernel.shmmax": "ipc",
    "kernel.shmmni": "ipc",
    "kernel.shm_rmid_forced": "ipc",
    "fs.mqueue.msg_max": "ipc",
    "net.core.somaxconn": "network",
    "net/ipv4/conf/eth0.100/forwarding": "network",
    "kernel.domainname": "uts",
    "kernel/domainname": "uts",
    "user.max_user_namespaces": "user",
}


def errors(name, kinds):
    return errors_of({name: "1"}, kinds)


def errors_of(sysctls, kinds, **names):
    namespaces = [{"type": kind} for kind in kinds]
    config = edited({**MINIMAL, **names}, "linux.namespaces", namespaces)
    config = edited(config, "linux.sysctl", sysctls)
    found = check.problems(parse.parse(json.dumps(config)))
    return [error for error in found if error.fault.at.startswith("linux.sysctl")]


@pytest.mark.parametrize(("name", "owner"), OWNERS.items())
def test_a_sysctl_is_allowed_with_its_namespace_and_with_no_other(name, owner) -> None:
    others = [kind for kind in ("pid", "network", "mount", "ipc", "uts", "user") if kind != owner]
    assert errors(name, [owner]) == []
    (error,) = errors(name, others)
    assert error.fault.at == f"linux.sysctl[{name}]"
    assert f'add {{"type": "{owner}"}}' in error.fault.remedy


@pytest.mark.parametrize(
    "name",
    ["kernel.pid_max", "vm.swappiness", "kernel.core_pattern", "fs.file-max", "kernel.msgmaxx",
     "network.x", "net", "fs.mqueue", "kernel"],
)  # fmt: skip
def test_a_sysctl_of_the_host_is_refused(name) -> None:
    (error,) = errors(name, ["network", "ipc", "uts", "user"])
    assert "belongs to the host" in str(error)


def test_the_host_name_as_a_sysctl_is_refused() -> None:
    (error,) = errors("kernel.hostname", ["uts"])
    assert 'set "hostname" instead' in str(error)


@pytest.mark.parametrize("key", ["hostname", "domainname"])
@pytest.mark.parametrize("separator", "./")
def test_a_sysctl_that_contradicts_its_property_is_an_error_that_shows_both(key, separator) -> None:
    name = f"kernel{separator}{key}"
    (error,) = errors_of({name: "a"}, ["uts"], **{key: "b"})
    assert str(error) == (f'linux.sysctl[{name}] = "a" contradicts {key} = "b"; keep one of them')
    assert errors_of({name: "a"}, ["uts"], **{key: "a"}) == []


def test_a_domain_name_can_be_set_by_its_sysctl_alone() -> None:
    assert errors_of({"kernel.domainname": "a"}, ["uts"], domainname="", hostname="b") == []


def test_two_names_of_one_sysctl_must_not_contradict_each_other() -> None:
    twice = {"net.ipv4.ip_forward": "1", "net/ipv4/ip_forward": "0"}
    (error,) = errors_of(twice, ["network"])
    assert str(error) == (
        'linux.sysctl[net/ipv4/ip_forward] = "0" contradicts '
        'linux.sysctl[net.ipv4.ip_forward] = "1"; keep one of them'
    )
    assert errors_of(dict.fromkeys(twice, "1"), ["network"]) == []


# As a path each of these is /proc/sys/kernel/core_pattern, which runs programs on the host.
@pytest.mark.parametrize(
    "name",
    ["net/../kernel/core_pattern", "net.//.kernel.core_pattern", "net/./../kernel/core_pattern",
     "fs/mqueue/../../kernel/core_pattern", "user/../kernel/core_pattern"],
)  # fmt: skip
def test_the_name_of_a_sysctl_cannot_leave_its_namespace(name) -> None:
    (error,) = errors(name, ["network", "ipc", "user"])
    assert "not the name of a sysctl" in str(error)


@pytest.mark.parametrize("name", ["", ".", "/", "net.", "net..x", "/net/x", "net//x", "net/."])
def test_a_sysctl_with_an_empty_part_in_its_name_is_refused(name) -> None:
    (error,) = errors(name, ["network"])
    assert "not the name of a sysctl" in str(error)
