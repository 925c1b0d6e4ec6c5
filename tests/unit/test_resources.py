from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.errors import SpecError
from pycontain.plan.resources import files, of_version, weight_of_shares
from pycontain.spec import parse, records

GIGABYTE = 2**30


def resources(**parts: object) -> records.Resources:
    return parse.read(records.Resources, parts, "linux.resources")


def writes(**parts: object) -> list[tuple[str, str]]:
    return [(setting.file, setting.value) for setting in files(resources(**parts))]


@pytest.mark.property(
    "linux.resources.memory",
    "linux.resources.memory.limit",
    "linux.resources.memory.reservation",
    "linux.resources.memory.swap",
    "linux.resources.memory.kernel",
    "linux.resources.cpu*",
    "linux.resources.pids*",
    "linux.resources.blockIO*",
    "linux.resources.hugepageLimits*",
    "linux.resources.rdma*",
    "linux.resources.unified",
)
@pytest.mark.parametrize(
    ("limits", "written"),
    [
        ({"memory": {"limit": GIGABYTE}}, [("memory.max", "1073741824")]),
        (
            {"memory": {"limit": -1}},
            [("memory.max", "max"), ("memory.swap.max", "max")],
        ),
        (
            {"memory": {"limit": GIGABYTE, "swap": 3 * GIGABYTE}},
            [("memory.max", "1073741824"), ("memory.swap.max", "2147483648")],
        ),
        (
            {"memory": {"limit": GIGABYTE, "swap": GIGABYTE}},
            [("memory.max", "1073741824"), ("memory.swap.max", "0")],
        ),
        (
            {"memory": {"limit": GIGABYTE, "swap": -1}},
            [("memory.max", "1073741824"), ("memory.swap.max", "max")],
        ),
        (
            {"memory": {"limit": -1, "swap": GIGABYTE}},
            [("memory.max", "max"), ("memory.swap.max", "1073741824")],
        ),
        ({"memory": {"swap": -1}}, [("memory.swap.max", "max")]),
        ({"memory": {"reservation": 4096}}, [("memory.low", "4096")]),
        ({"memory": {"limit": 0, "swap": 0, "reservation": 0}}, []),
        ({"memory": {"kernel": 4096}}, []),
        (
            {"memory": {"disableOOMKiller": False, "useHierarchy": True, "kernelTCP": -1}},
            [],
        ),
        ({"cpu": {"shares": 1024}}, [("cpu.weight", "100")]),
        ({"cpu": {"shares": 0, "quota": 0, "period": 0}}, []),
        ({"cpu": {"quota": 50_000}}, [("cpu.max", "50000 100000")]),
        ({"cpu": {"quota": 50_000, "period": 20_000}}, [("cpu.max", "50000 20000")]),
        ({"cpu": {"quota": -1, "period": 20_000}}, [("cpu.max", "max 20000")]),
        ({"cpu": {"period": 20_000}}, [("cpu.max", "max 20000")]),
        ({"cpu": {"burst": 10}}, [("cpu.max.burst", "10")]),
        ({"cpu": {"idle": 1, "shares": 1024}}, [("cpu.idle", "1")]),
        ({"cpu": {"idle": 0, "shares": 2}}, [("cpu.idle", "0"), ("cpu.weight", "1")]),
        (
            {"cpu": {"cpus": "0-1", "mems": "0"}},
            [("cpuset.cpus", "0-1"), ("cpuset.mems", "0")],
        ),
        ({"cpu": {"cpus": "", "mems": ""}}, []),
        ({"pids": {"limit": 10}}, [("pids.max", "10")]),
        ({"pids": {"limit": 0}}, [("pids.max", "0")]),
        ({"pids": {"limit": -1}}, [("pids.max", "max")]),
        (
            {
                "blockIO": {
                    "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 600}],
                    "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 0}],
                    "throttleReadIOPSDevice": [{"major": 8, "minor": 1, "rate": 3}],
                    "throttleWriteIOPSDevice": [{"major": 8, "minor": 2, "rate": 4}],
                }
            },
            [
                ("io.max", "8:0 rbps=600"),
                ("io.max", "8:0 wbps=max"),
                ("io.max", "8:1 riops=3"),
                ("io.max", "8:2 wiops=4"),
            ],
        ),
        (
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]},
            [("hugetlb.2MB.max", "4194304"), ("hugetlb.2MB.rsvd.max", "4194304")],
        ),
        (
            {"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 0}, "rxe3": {"hcaObjects": 9}}},
            [("rdma.max", "mlx5_1 hca_handle=3 hca_object=0"), ("rdma.max", "rxe3 hca_object=9")],
        ),
        (
            {"unified": {"io.max": "8:0 rbps=1\n8:16 rbps=2\n", "cgroup.max.depth": "3"}},
            [("io.max", "8:0 rbps=1"), ("io.max", "8:16 rbps=2"), ("cgroup.max.depth", "3")],
        ),
        ({}, []),
    ],
    ids=str,
)
def test_limits_become_files_of_the_cgroup(
    limits: dict[str, object], written: list[tuple[str, str]]
) -> None:
    assert writes(**limits) == written


@pytest.mark.property(
    "linux.resources.memory.kernelTCP",
    "linux.resources.memory.swappiness",
    "linux.resources.memory.disableOOMKiller",
    "linux.resources.memory.useHierarchy",
    "linux.resources.cpu.realtime*",
    "linux.resources.blockIO.leafWeight",
    "linux.resources.blockIO.weightDevice[].leafWeight",
    "linux.resources.network*",
)
@pytest.mark.parametrize(
    ("limits", "at"),
    [
        ({"memory": {"kernelTCP": 4096}}, "linux.resources.memory.kernelTCP"),
        ({"memory": {"swappiness": 60}}, "linux.resources.memory.swappiness"),
        ({"memory": {"swappiness": 0}}, "linux.resources.memory.swappiness"),
        ({"memory": {"disableOOMKiller": True}}, "linux.resources.memory.disableOOMKiller"),
        ({"memory": {"useHierarchy": False}}, "linux.resources.memory.useHierarchy"),
        ({"memory": {"swap": 4096}}, "linux.resources.memory.swap"),
        ({"memory": {"limit": 8192, "swap": 4096}}, "linux.resources.memory.swap"),
        ({"memory": {"limit": 8192, "swap": -2}}, "linux.resources.memory.swap"),
        ({"memory": {"limit": -2}}, "linux.resources.memory.limit"),
        ({"cpu": {"realtimeRuntime": 1}}, "linux.resources.cpu.realtimeRuntime"),
        ({"cpu": {"realtimePeriod": 1}}, "linux.resources.cpu.realtimePeriod"),
        ({"pids": {"limit": -2}}, "linux.resources.pids.limit"),
        ({"blockIO": {"leafWeight": 10}}, "linux.resources.blockIO.leafWeight"),
        (
            {"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "leafWeight": 10}]}},
            "linux.resources.blockIO.weightDevice[0].leafWeight",
        ),
        ({"network": {"classID": 1}}, "linux.resources.network.classID"),
        (
            {"network": {"priorities": [{"name": "eth0", "priority": 1}]}},
            "linux.resources.network.priorities",
        ),
        ({"rdma": {"mlx5_1": {}}}, "linux.resources.rdma[mlx5_1]"),
        (
            {"hugepageLimits": [{"pageSize": "/../../x/2MB", "limit": 1}]},
            "linux.resources.hugepageLimits[0].pageSize",
        ),
        ({"unified": {"../memory.max": "1"}}, "linux.resources.unified[../memory.max]"),
        ({"unified": {"memory": "1"}}, "linux.resources.unified[memory]"),
        ({"unified": {"..": "1"}}, "linux.resources.unified[..]"),
    ],
    ids=str,
)
def test_a_limit_that_cannot_be_converted_is_refused_by_name(
    limits: dict[str, object], at: str
) -> None:
    with pytest.raises(SpecError) as caught:
        files(resources(**limits))
    assert caught.value.fault.at == at


def test_each_write_knows_its_json_path_and_controller() -> None:
    settings = files(
        resources(
            memory={"limit": 4096},
            cpu={"quota": 1000, "cpus": "0"},
            blockIO={"weightDevice": [{"major": 8, "minor": 0, "weight": 500}]},
            unified={"memory.high": "1"},
        )
    )
    assert [(setting.at, setting.controller) for setting in settings] == [
        ("linux.resources.memory.limit", "memory"),
        ("linux.resources.cpu.quota", "cpu"),
        ("linux.resources.cpu.cpus", "cpuset"),
        ("linux.resources.blockIO.weightDevice[0]", "io"),
        ("linux.resources.unified[memory.high]", "memory"),
    ]


def test_block_io_weights_fall_back_to_the_scale_of_io_weight() -> None:
    weight, device = files(
        resources(
            blockIO={"weight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 1000}]}
        )
    )
    assert (weight.file, weight.value) == ("io.bfq.weight", "10")
    assert weight.otherwise is not None
    assert (weight.otherwise.file, weight.otherwise.value) == ("io.weight", "1")
    assert device.value == "8:0 1000"
    assert device.otherwise is not None
    assert device.otherwise.value == "8:0 10000"


def test_only_limits_without_effect_are_optional() -> None:
    def optional(**parts: object) -> list[bool]:
        return [setting.optional for setting in files(resources(**parts))]

    assert optional(memory={"limit": 4096, "swap": 4096}) == [False, True]
    assert optional(memory={"limit": 4096, "swap": 8192}) == [False, False]
    assert optional(memory={"limit": -1}, pids={"limit": -1}) == [True, True, True]
    assert optional(cpu={"quota": -1}) == [True]
    assert optional(cpu={"quota": -1, "period": 20_000, "burst": 0}) == [True, True, True]
    assert optional(cpu={"period": 20_000}) == [True]
    assert optional(cpu={"quota": 5000, "burst": 10}) == [True, False, False]
    assert optional(unified={"memory.max": "max"}) == [False]


@given(st.integers(0, 2**64 - 1))
def test_cpu_weights_are_in_range_and_rise_with_shares(shares: int) -> None:
    assert 1 <= weight_of_shares(shares) <= weight_of_shares(shares + 1) <= 10_000


def test_the_curve_of_weights_meets_the_ends_and_the_default() -> None:
    assert [weight_of_shares(shares) for shares in (2, 1024, 262_144)] == [1, 100, 10_000]


@given(
    old_quota=st.integers(1000, 10**6) | st.just(-1),
    old_burst=st.integers(0, 10**6),
    quota=st.integers(1000, 10**6) | st.just(-1),
    burst=st.integers(0, 10**6),
)
def test_the_kernel_accepts_quota_and_burst_in_their_order(
    old_quota: int, old_burst: int, quota: int, burst: int
) -> None:
    """The kernel's rule after each write: burst <= quota, unless there is no quota."""
    held = {"quota": old_quota, "burst": min(old_burst, old_quota) if old_quota > 0 else old_burst}
    wanted = {"quota": quota, "burst": min(burst, quota) if quota > 0 else burst}
    for file, value in writes(cpu=wanted):
        word = value.split()[0]
        held["burst" if file == "cpu.max.burst" else "quota"] = -1 if word == "max" else int(word)
        assert held["quota"] < 0 or held["burst"] <= held["quota"]
    assert held == wanted


@pytest.mark.parametrize(
    ("version", "limit", "written"),
    [
        ("1.0.2-dev", 0, "max"), ("1.2.1", 0, "max"), ("1.3.0", 0, "1"), ("1.10.0", 0, "1"),
        ("1.0.2", 5, "5"), ("1.3.0", -1, "max"),
    ],
)  # fmt: skip
def test_a_pids_limit_of_0_means_what_the_bundles_version_says(version, limit, written):
    """Before 1.3.0 it meant none; Podman 4 writes it for that."""
    [setting] = files(of_version(resources(pids={"limit": limit}), version))
    assert (setting.file, setting.value) == ("pids.max", written)


def test_other_resources_are_the_same_in_every_version():
    assert of_version(resources(memory={"limit": 4096}), "1.0.0") == resources(
        memory={"limit": 4096}
    )
