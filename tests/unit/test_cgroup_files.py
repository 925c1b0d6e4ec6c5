"""What is written to and read from a cgroup's files, with plain directories as cgroups."""

from __future__ import annotations

from pathlib import Path

import pytest

from pycontain.cgroup import controllers, restore
from pycontain.cgroup.disabled import NoCgroup
from pycontain.cgroup.restore import Restorable
from pycontain.cgroup.stats import stats
from pycontain.cgroup.tree import Cgroup
from pycontain.cgroup.update import merge, update
from pycontain.errors import HostError, KernelError, StateError
from pycontain.options import Options
from pycontain.plan.resources import files
from pycontain.spec import parse, records

V1 = "33 31 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"


def resources(**parts: object) -> records.Resources:
    return parse.read(records.Resources, parts, "linux.resources")


def populate(directory: Path, passed_on: str = "", **more: str) -> None:
    """Write the files of a cgroup into a directory; "__" stands for the dot in their names."""
    files_ = {"cgroup.subtree_control": passed_on, "cgroup.procs": ""}
    files_ |= {name.replace("__", "."): text for name, text in more.items()}
    for name, text in files_.items():
        (directory / name).write_text(text)


@pytest.fixture
def mount(tmp_path: Path) -> Path:
    """A mount point with one cgroup, /a/b, that has the memory controller."""
    populate(tmp_path, "cpu memory", cgroup__controllers="cpu io memory pids")
    (tmp_path / "a/b").mkdir(parents=True)
    populate(tmp_path / "a", "memory", cgroup__controllers="cpu memory")
    populate(tmp_path / "a/b", cgroup__controllers="memory")
    return tmp_path


@pytest.fixture
def cgroup(mount: Path) -> Cgroup:
    return Cgroup(str(mount), "/a/b")


def test_limits_are_written_to_their_files(cgroup: Cgroup) -> None:
    populate(Path(cgroup.directory), memory__max="", memory__low="")
    cgroup.write(files(resources(memory={"limit": 4096, "reservation": 2048})))
    assert cgroup.read("memory.max") == "4096"
    assert cgroup.read("memory.low") == "2048"


def test_a_missing_file_of_a_limit_without_effect_is_ignored(cgroup: Cgroup) -> None:
    populate(Path(cgroup.directory), memory__max="")
    cgroup.write(files(resources(memory={"limit": 4096, "swap": 4096}, pids={"limit": -1})))
    assert cgroup.read("memory.max") == "4096"
    assert "memory.swap.max" not in cgroup.files()


def test_a_controller_is_enabled_from_the_top_down_for_a_limit(mount: Path, cgroup: Cgroup) -> None:
    setting = files(resources(pids={"limit": 5}))[0]
    controllers.provide(str(mount), "/a/b", setting)
    assert (mount / "cgroup.subtree_control").read_text() == "+pids"
    assert (mount / "a/cgroup.subtree_control").read_text() == "+pids"
    assert (mount / "a/b/cgroup.subtree_control").read_text() == ""


def test_a_controller_that_v1_holds_is_named_with_its_hierarchy(
    mount: Path, cgroup: Cgroup, tmp_path: Path
) -> None:
    populate(mount, cgroup__controllers="hugetlb")
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(V1)
    setting = files(resources(memory={"limit": 4096}))[0]
    error = controllers.absence(str(mount), setting, str(mountinfo))
    assert str(error) == (
        "linux.resources.memory.limit = 4096 cannot be applied: the memory controller belongs to"
        " the cgroup v1 hierarchy at /sys/fs/cgroup/memory; boot with cgroup_no_v1=all, remove the"
        " limit, or run without it: --cgroup-missing warn"
    )


def test_the_controller_io_is_named_blkio_in_v1(mount: Path, tmp_path: Path) -> None:
    populate(mount, cgroup__controllers="")
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(V1.replace("memory", "blkio"))
    setting = files(resources(blockIO={"weight": 100}))[0]
    error = controllers.absence(str(mount), setting, str(mountinfo))
    assert "the io controller belongs to the cgroup v1 hierarchy at /sys/fs/cgroup/blkio" in str(
        error
    )


def test_an_unknown_controller_is_named(cgroup: Cgroup) -> None:
    with pytest.raises(HostError, match="cgroup v2 has no nonsense controller") as caught:
        cgroup.write(files(resources(unified={"nonsense.max": "1"})))
    assert caught.value.fault.at == "linux.resources.unified[nonsense.max]"


def test_a_missing_controller_can_be_a_warning_and_other_limits_are_written(cgroup: Cgroup) -> None:
    populate(Path(cgroup.directory), memory__max="")
    warnings: list[str] = []
    options = Options(cgroup_missing="warn", warn=warnings.append)
    limits = files(resources(memory={"limit": 4096}, unified={"nonsense.max": "1", "x.max": "2"}))
    cgroup.write(limits, options.without_limit)
    assert cgroup.read("memory.max") == "4096"
    assert warnings == [
        f"linux.resources.unified[{name}.max] = {value} cannot be applied: cgroup v2 has no {name}"
        " controller on this kernel; the container runs without this limit"
        for name, value in (("nonsense", 1), ("x", 2))
    ]


def test_a_file_that_the_kernel_lacks_is_an_error_even_if_controllers_may_be_missing(
    cgroup: Cgroup,
) -> None:
    options = Options(cgroup_missing="warn")
    with pytest.raises(HostError, match=r"this kernel has no .*/memory.high"):
        cgroup.write(files(resources(unified={"memory.high": "1"})), options.without_limit)


def test_a_cgroup_that_refuses_to_enable_a_controller_is_named(mount: Path, cgroup: Cgroup) -> None:
    (mount / "a/cgroup.subtree_control").unlink()
    (mount / "a/cgroup.subtree_control").symlink_to("/proc/version")  # which cannot be written
    setting = files(resources(memory={"limit": 4096}))[0]
    with pytest.raises(
        HostError, match=f"{mount}/a/cgroup.subtree_control does not accept .memory"
    ):
        controllers.provide(str(mount), "/a/b", setting)


def test_a_file_that_the_kernel_lacks_is_named(cgroup: Cgroup) -> None:
    with pytest.raises(HostError, match=f"this kernel has no {cgroup.directory}/memory.high"):
        cgroup.write(files(resources(unified={"memory.high": "1"})))


def test_an_unknown_file_of_the_core_needs_no_controller(cgroup: Cgroup) -> None:
    with pytest.raises(HostError, match=r"this kernel has no .*/cgroup.new"):
        cgroup.write(files(resources(unified={"cgroup.new": "1"})))


@pytest.mark.parametrize("there", ["io.bfq.weight", "io.weight"])
def test_the_weight_goes_where_the_scheduler_in_use_reads_it(
    mount: Path, cgroup: Cgroup, there: str
) -> None:
    (mount / "a/b" / there).touch()
    cgroup.write(files(resources(blockIO={"weight": 1000})))
    assert cgroup.read(there) == {"io.bfq.weight": "1000", "io.weight": "10000"}[there]


def test_without_a_cgroup_every_limit_is_refused_by_name() -> None:
    NoCgroup().write(())
    with pytest.raises(HostError, match=r"pids.limit = 5 cannot be applied: .* disabled"):
        NoCgroup().write(files(resources(pids={"limit": 5})))


# --- update ------------------------------------------------------------------------------------


def test_an_update_keeps_the_limits_that_it_does_not_name() -> None:
    old = resources(
        memory={"limit": 8192, "reservation": 1024},
        cpu={"quota": 50_000, "period": 20_000},
        hugepageLimits=[{"pageSize": "2MB", "limit": 0}, {"pageSize": "1GB", "limit": 0}],
        rdma={"a": {"hcaHandles": 1}},
    )
    new = resources(
        memory={"limit": 4096},
        cpu={"quota": 10_000},
        pids={"limit": 7},
        hugepageLimits=[{"pageSize": "2MB", "limit": 9}],
        rdma={"b": {"hcaHandles": 2}},
    )
    assert [(setting.file, setting.value) for setting in files(merge(old, new))] == [
        ("memory.max", "4096"),
        ("memory.low", "1024"),
        ("cpu.max", "10000 20000"),
        ("pids.max", "7"),
        ("hugetlb.2MB.max", "9"),
        ("hugetlb.2MB.rsvd.max", "9"),
        ("hugetlb.1GB.max", "0"),
        ("hugetlb.1GB.rsvd.max", "0"),
        ("rdma.max", "a hca_handle=1"),
        ("rdma.max", "b hca_handle=2"),
    ]


def test_a_newer_limit_replaces_an_older_unified_one() -> None:
    old = resources(memory={"limit": 8192}, unified={"memory.max": "1", "memory.high": "2"})
    assert merge(old, resources(pids={"limit": 1})).unified == old.unified
    assert merge(old, resources(memory={"limit": 4096})).unified == {"memory.high": "2"}
    both = resources(memory={"limit": 4096}, unified={"memory.max": "3"})
    assert merge(old, both).unified == {"memory.high": "2", "memory.max": "3"}


def test_an_update_writes_and_returns_the_merged_limits(cgroup: Cgroup) -> None:
    populate(Path(cgroup.directory), memory__max="", memory__current="5000\n")
    old = resources(memory={"limit": 8192})
    assert update(Restorable(cgroup), old, resources(memory={"limit": 6000})) == resources(
        memory={"limit": 6000}
    )
    assert cgroup.read("memory.max") == "6000"


@pytest.mark.property("linux.resources.memory.checkBeforeUpdate")
@pytest.mark.parametrize("limits", [{"limit": 5000}, {"limit": 4000, "swap": 4000}])
def test_a_limit_that_usage_has_reached_is_refused_with_check_before_update(
    cgroup: Cgroup, limits: dict[str, int]
) -> None:
    populate(Path(cgroup.directory), memory__max="8192", memory__current="5000\n")
    new = resources(memory={**limits, "checkBeforeUpdate": True})
    with pytest.raises(StateError, match=r"limit = .* is not above the 5000 bytes in use"):
        update(Restorable(cgroup), resources(), new)
    assert cgroup.read("memory.max") == "8192"


# --- statistics --------------------------------------------------------------------------------


PRESSURE = "some avg10=0.50 avg60=0.00 avg300=0.00 total=7\n"
FILES_OF_COUNTERS = {
    "cpu.stat": "usage_usec 30\nuser_usec 20\nsystem_usec 10\n"
    "nr_periods 4\nnr_throttled 3\nthrottled_usec 2\n",
    "cpu.pressure": PRESSURE,
    "memory.stat": "anon 4096\nfile 8192\n",
    "memory.current": "12288\n",
    "memory.max": "max\n",
    "memory.peak": "16384\n",
    "memory.swap.current": "4096\n",
    "memory.swap.max": "8192\n",
    "memory.events": "low 0\noom 1\noom_kill 2\n",
    "pids.current": "3\n",
    "pids.max": "max\n",
    "io.stat": "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n253:0 \n",
    "rdma.max": "mlx4_0 hca_handle=2 hca_object=max\n",
    "misc.current": "sev 3\nsev_es 0\n",
    "misc.events": "sev.max 5\n",
    "hugetlb.2MB.current": "5",
    "hugetlb.2MB.rsvd.current": "2097152\n",
    "hugetlb.2MB.events": "max 6\n",
}
EVENTS_OF_RUNC = {
    "cpu": {
        "usage": {"total": 30_000, "kernel": 10_000, "user": 20_000},
        "throttling": {"periods": 4, "throttledPeriods": 3, "throttledTime": 2000},
        "psi": {"some": {"avg10": 0.5, "avg60": 0.0, "avg300": 0.0, "total": 7}},
    },
    "memory": {
        "cache": 8192,
        "usage": {"usage": 12288, "limit": 2**64 - 1, "failcnt": 0, "max": 16384},
        "swap": {"usage": 16384, "limit": 2**64 - 1, "failcnt": 0},
        "raw": {"anon": 4096, "file": 8192},
    },
    "pids": {"current": 3, "limit": 0},
    "blkio": {
        "ioServiceBytesRecursive": [
            {"major": 8, "minor": 0, "op": "Read", "value": 1},
            {"major": 8, "minor": 0, "op": "Write", "value": 2},
        ],
        "ioServicedRecursive": [
            {"major": 8, "minor": 0, "op": "Read", "value": 3},
            {"major": 8, "minor": 0, "op": "Write", "value": 4},
        ],
    },
    "hugetlb": {"2MB": {"usage": 2097152, "failcnt": 6}},
    "rdma": {"limit": [{"device": "mlx4_0", "hca_handles": 2, "hca_objects": 2**32 - 1}]},
    "misc": {"sev": {"usage": 3, "events": 5}, "sev_es": {"usage": 0, "events": 0}},
    "cpuset": {},
    "intel_rdt": {},
    "network_interfaces": None,
}


def test_statistics_have_the_format_of_runcs_events(cgroup: Cgroup) -> None:
    for name, text in FILES_OF_COUNTERS.items():
        (Path(cgroup.directory) / name).write_text(text)
    assert stats(cgroup) == EVENTS_OF_RUNC
    assert cgroup.oom_kills() == 2


def test_a_cgroup_without_controllers_has_statistics_of_the_cpu_alone(cgroup: Cgroup) -> None:
    found = stats(cgroup)
    assert [name for name, part in found.items() if part] == ["cpu"]
    assert found.keys() >= {"memory", "pids", "blkio", "hugetlb"}, "runc's parts, though empty"
    assert cgroup.oom_kills() is None


# --- all or nothing ------------------------------------------------------------------------------


def test_refused_limits_leave_the_old_values(cgroup: Cgroup) -> None:
    files_ = {
        "memory__max": "8192\n", "cpu__max": "max 100000\n", "cpuset__cpus": "\n",
        "pids__max": "7\n", "cpu__max__burst": "0\n",
    }  # fmt: skip
    populate(Path(cgroup.directory), **files_)
    (Path(cgroup.directory) / "io.bfq.weight").mkdir()
    restorable = Restorable(cgroup)
    wanted = resources(
        memory={"limit": 4096}, cpu={"quota": 10000, "burst": 5, "cpus": "0"}, pids={"limit": 3},
        blockIO={"weight": 20},
    )  # fmt: skip
    with pytest.raises(KernelError):
        update(restorable, resources(), wanted)
    assert cgroup.read("memory.max").strip() == "4096"
    restorable.restore()
    for name, text in files_.items():
        # these files, unlike the kernel's, keep the end of something longer
        assert cgroup.read(name.replace("__", ".")).startswith(text.strip()), name


def test_an_entry_of_a_device_that_had_none_is_unset_again() -> None:
    old = "8:0 rbps=max wbps=5 riops=max wiops=max\n"
    now = "8:0 rbps=max wbps=9 riops=max wiops=max\n8:16 rbps=4 wbps=max riops=max wiops=max\n"
    assert restore.lines("io.max", old, now) == [
        "8:16 rbps=max wbps=max riops=max wiops=max",
        "8:0 rbps=max wbps=5 riops=max wiops=max",
    ]
    assert restore.lines("io.weight", "default 100\n", "default 50\n8:0 7\n") == [
        "8:0 default", "default 100",
    ]  # fmt: skip
    assert restore.lines("cpuset.cpus", "\n", "0\n") == ["\n"]
    assert restore.lines("cpu.max", "max 100000\n", "5 6\n") == ["max 100000"]
