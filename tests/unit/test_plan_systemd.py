"""Units: names, limits as properties, annotations. systemd.resource-control(5)."""

from __future__ import annotations

import pytest

from pycontain.errors import SpecError
from pycontain.plan import steps, systemd
from pycontain.plan.resources import files
from pycontain.plan.steps.unit import FindUnit, StartUnit
from pycontain.spec.parse import read
from pycontain.spec.records import Resources
from tests.unit.plans import config, find, names, plan_of

UNLIMITED = 2**64 - 1


def limits(**resources):
    return dict(systemd.limits(files(read(Resources, resources, "linux.resources"))))


@pytest.mark.parametrize(
    ("path", "name", "path_of_cgroup"),
    [
        ("system.slice:pod:a", "pod-a.scope", "/system.slice/pod-a.scope"),
        ("a-b.slice:pod:x", "pod-x.scope", "/a.slice/a-b.slice/pod-x.scope"),
        ("-.slice:pod:x", "pod-x.scope", "/pod-x.scope"),
        (":pod:x", "pod-x.scope", "/system.slice/pod-x.scope"),
        ("a.slice::x", "x.scope", "/a.slice/x.scope"),
        ("a.slice:ignored:b-c.slice", "b-c.slice", "/b.slice/b-c.slice"),
        (None, "pycontain-id\\x2b1.scope", "/system.slice/pycontain-id\\x2b1.scope"),
    ],
)
def test_the_name_and_the_cgroup_of_a_unit(path, name, path_of_cgroup):
    unit = systemd.unit_of(path, "id+1", user=False)
    assert (unit.name, unit.path) == (name, path_of_cgroup)


def test_a_users_units_are_in_another_slice():
    assert systemd.unit_of(None, "id", user=True).slice == "user.slice"


@pytest.mark.parametrize(
    "path",
    ["/a", "a", "a:b", "a:b:c:d", "a.slice:b:", "a:b:c", "a/b.slice:c:d", "a--b.slice:c:d",
     ".slice:a:b", "a.slice:b/c:d", "a.slice:b:\n", "a.slice:b:" + "c" * 260],
)  # fmt: skip
def test_what_names_no_unit_is_refused(path):
    with pytest.raises(SpecError, match=r"linux\.cgroupsPath"):
        systemd.unit_of(path, "id", user=False)


def test_memory_and_processes():
    found = limits(
        memory={"limit": 1 << 20, "reservation": 4096, "swap": 3 << 20}, pids={"limit": 7}
    )
    assert found == {
        "MemoryMax": ("t", 1 << 20),
        "MemorySwapMax": ("t", 2 << 20),
        "MemoryLow": ("t", 4096),
        "TasksMax": ("t", 7),
    }


def test_no_limit_is_infinity():
    assert limits(pids={"limit": -1}) == {"TasksMax": ("t", UNLIMITED)}
    assert limits(unified={"memory.high": "max"}) == {"MemoryHigh": ("t", UNLIMITED)}


def test_no_process_at_all_is_one_for_systemd_which_refuses_0():
    assert limits(pids={"limit": 0}) == {"TasksMax": ("t", 1)}


@pytest.mark.parametrize(
    ("cpu", "quota", "period"),
    [
        ({"quota": 50_000, "period": 100_000}, 500_000, 100_000),
        ({"quota": 2_000}, 20_000, 100_000),
        ({"quota": 1_234}, 20_000, 100_000),
        ({"quota": 20_001, "period": 10_000}, 2_010_000, 10_000),
        ({"period": 5_000}, UNLIMITED, 5_000),
    ],
)
def test_cpu_time_is_rounded_up_to_percents(cpu, quota, period):
    assert limits(cpu=cpu) == {
        "CPUQuotaPeriodUSec": ("t", period),
        "CPUQuotaPerSecUSec": ("t", quota),
    }


def test_cpu_shares_and_sets():
    assert limits(cpu={"shares": 1024, "cpus": "0-2,9", "mems": "0"}) == {
        "CPUWeight": ("t", 100),
        "AllowedCPUs": ("ay", b"\x07\x02"),
        "AllowedMemoryNodes": ("ay", b"\x01"),
    }


def test_limits_of_block_io_become_properties_of_the_scope():
    found = limits(
        blockIO={
            "weight": 10,
            "weightDevice": [{"major": 8, "minor": 0, "weight": 1000}],
            "throttleReadBpsDevice": [
                {"major": 8, "minor": 0, "rate": 5},
                {"major": 8, "minor": 16, "rate": 0},
            ],
            "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 6}],
        }
    )
    assert found == {
        "IOWeight": ("t", 1),
        "IODeviceWeight": ("a(st)", [("/dev/block/8:0", 10_000)]),
        "IOReadBandwidthMax": (
            "a(st)", [("/dev/block/8:0", 5), ("/dev/block/8:16", UNLIMITED)],
        ),
        "IOWriteIOPSMax": ("a(st)", [("/dev/block/8:0", 6)]),
    }  # fmt: skip


def test_what_systemd_does_not_have_is_left_to_the_files():
    assert limits(hugepageLimits=[{"pageSize": "2MB", "limit": 0}], cpu={"idle": 1}) == {}


@pytest.mark.parametrize(
    "unified", [{"memory.max": "4M"}, {"cpuset.cpus": "a"}, {"cpuset.cpus": "3-1"}]
)
def test_a_value_that_cannot_be_converted_is_an_error_that_names_it(unified):
    with pytest.raises(SpecError, match=r"linux\.resources\.unified"):
        limits(unified=unified)


# --- annotations ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "wanted"),
    [
        ("TimeoutStopUSec", "uint64 5", ("TimeoutStopUSec", ("t", 5))),
        ("TimeoutStopSec", "5", ("TimeoutStopUSec", ("t", 5_000_000))),
        ("TimeoutStopSec", "1.5", ("TimeoutStopUSec", ("t", 1_500_000))),
        ("CollectMode", "'inactive'", ("CollectMode", ("s", "inactive"))),
        ("CollectMode", '"inactive"', ("CollectMode", ("s", "inactive"))),
        ("DefaultDependencies", "false", ("DefaultDependencies", ("b", False))),
        ("After", "['a.service', 'b.service']", ("After", ("as", ["a.service", "b.service"]))),
        ("OOMScoreAdjust", "-5", ("OOMScoreAdjust", ("i", -5))),
    ],
)
def test_annotations_become_properties(name, text, wanted):
    assert systemd.annotated({f"org.systemd.property.{name}": text, "other": "x"}) == [wanted]


@pytest.mark.parametrize(
    ("name", "text"),
    [("A", "text"), ("A", "['a', b]"), ("A", "'"), ("A", "uint9 5"), ("", "1"), ("a-b", "1"),
     ("lower", "1")],
)  # fmt: skip
def test_a_bad_annotation_is_an_error_that_names_it(name, text):
    with pytest.raises(SpecError, match=r"annotations\[org\.systemd\.property"):
        systemd.annotated({f"org.systemd.property.{name}": text})


# --- the plan ------------------------------------------------------------------------------------


def test_the_unit_is_started_once_there_is_a_child_and_limited_before_it_continues():
    made = plan_of(config(resources={"pids": {"limit": 5}}), systemd="system")
    order = names(made)
    wanted = ["unit", "spawn", "record", "start unit", "limits", "device filter", "guard"]
    assert [name for name in order if name in wanted][: len(wanted)] == wanted
    assert "cgroup" not in order
    assert find(made, StartUnit).properties == (("TasksMax", ("t", 5)),)
    assert not find(made, FindUnit).user


def test_a_cgroup_that_is_to_be_mounted_early_needs_a_namespace():
    mapping = [{"containerID": 0, "hostID": 100_000, "size": 65_536}]
    kinds = [{"type": kind} for kind in ("pid", "mount", "user")]
    wanted = config(namespaces=kinds, uidMappings=mapping, gidMappings=mapping)
    wanted["mounts"] = [{"destination": "/c", "type": "cgroup"}]
    with pytest.raises(SpecError, match="needs a cgroup namespace"):
        plan_of(wanted, systemd="system")
    wanted["linux"]["namespaces"] = [*kinds, {"type": "cgroup"}]
    assert isinstance(find(plan_of(wanted, systemd="system"), StartUnit), steps.ParentStep)
