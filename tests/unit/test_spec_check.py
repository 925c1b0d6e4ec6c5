"""Each rule of the semantic checks: a value, the JSON path and the words of the error."""

from __future__ import annotations

import json

import pytest

from pycontain.errors import SpecError
from pycontain.spec import check, parse, records
from tests.unit.spec_configs import FULL, MINIMAL, edited, without


def problems_of(config) -> list[SpecError]:
    return check.problems(parse.parse(json.dumps(config)))


# path that is edited, value, path that the error names ("" for the same), words in the error
RULES = [
    # versions
    ("ociVersion", "invalid", "", "semantic version"),
    ("ociVersion", "+", "", "semantic version"),
    ("ociVersion", "1.0", "", "semantic version"),
    ("ociVersion", "1.0.0.0", "", "semantic version"),
    ("ociVersion", "v1.0.0", "", "semantic version"),
    ("ociVersion", "01.0.0", "", "semantic version"),
    ("ociVersion", "1.0.-1", "", "semantic version"),
    ("ociVersion", "1.0.0-", "", "semantic version"),
    ("ociVersion", "1.0.0-rc.01", "", "semantic version"),
    ("ociVersion", "1.0.0+", "", "semantic version"),
    ("ociVersion", "1.0.0+a+b", "", "semantic version"),
    ("ociVersion", "1.0.0\n", "", "semantic version"),
    ("ociVersion", "1.٣.0", "", "semantic version"),
    ("ociVersion", "0.9.0", "", "not supported; use 1.0.0 to 1.3.0, or a later 1.x"),
    ("ociVersion", "2.0.0", "", "not supported"),
    ("ociVersion", "10.0.0", "", "not supported"),
    # root and names
    ("root", None, "", "required but missing"),
    ("hostname", "h" * 65, "", "longer than 64 bytes"),
    ("hostname", "é" * 33, "", "longer than 64 bytes"),
    ("domainname", "d" * 65, "", "longer than 64 bytes"),
    ("annotations[]", "value", "annotations[]", "empty name"),
    # mounts
    ("mounts[1].source", None, "", "missing from a bind mount"),
    ("mounts[1].source", "", "", "missing from a bind mount"),
    ("mounts[2].options[0]", "bind", "mounts[2].source", "set it to the path to bind"),
    # process
    ("process.args", [], "", "names no program"),
    ("process.args", None, "", "names no program"),
    ("process.cwd", "tmp", "", "absolute path; begin it with /"),
    ("process.cwd", " /", "", "absolute path"),
    ("process.env[0]", "PATH", "", "has no =; write it as NAME=value"),
    ("process.env[0]", "", "", "has no ="),
    ("process.env[2]", "=x", "", "no name"),
    ("process.user.umask", 0o1000, "", "between 0 and 511"),
    ("process.rlimits[0].type", "RLIMIT_FILES", "", "unknown; use one of RLIMIT_CPU"),
    ("process.rlimits[0].type", "nofile", "", "unknown"),
    ("process.rlimits[1].type", "RLIMIT_NOFILE", "", "already set by process.rlimits[0]"),
    ("process.rlimits[0].soft", 4097, "", "above the hard limit, 4096"),
    ("process.oomScoreAdj", 1001, "", "between -1000 and 1000"),
    ("process.oomScoreAdj", -1001, "", "between -1000 and 1000"),
    ("process.ioPriority.priority", 8, "", "between 0 and 7"),
    ("process.ioPriority.priority", -1, "", "between 0 and 7"),
    ("process.execCPUAffinity.initial", "zero", "", "list of CPUs"),
    ("process.execCPUAffinity.initial", "0-:", "", "list of CPUs"),
    ("process.execCPUAffinity.initial", "3-1", "", "list of CPUs"),
    ("process.execCPUAffinity.final", "0,", "", "list of CPUs"),
    ("process.execCPUAffinity.final", "0-65536", "", "list of CPUs below 65536"),
    ("process.execCPUAffinity.final", "0;1", "", "list of CPUs"),
    # scheduler
    ("process.scheduler", {"policy": "SCHED_OTHER", "nice": 20}, "process.scheduler.nice",
        "between -20 and 19"),
    ("process.scheduler", {"policy": "SCHED_OTHER", "nice": -21}, "process.scheduler.nice", "-20"),
    ("process.scheduler", {"policy": "SCHED_BATCH", "priority": 1}, "process.scheduler.priority",
        "no meaning for SCHED_BATCH"),
    ("process.scheduler", {"policy": "SCHED_FIFO"}, "process.scheduler.priority", "1 and 99"),
    ("process.scheduler", {"policy": "SCHED_RR", "priority": 100}, "process.scheduler.priority",
        "between 1 and 99"),
    ("process.scheduler", {"policy": "SCHED_ISO"}, "process.scheduler.policy", "reserved"),
    ("process.scheduler", {"policy": "SCHED_OTHER", "runtime": 1}, "process.scheduler.runtime",
        "no meaning for SCHED_OTHER"),
    ("process.scheduler", {"policy": "SCHED_IDLE", "period": 1}, "process.scheduler.period",
        "use SCHED_DEADLINE"),
    ("process.scheduler.flags[0]", "SCHED_FLAG_FAST", "", "unknown; use one of SCHED_FLAG_RESET"),
    ("process.scheduler.runtime", 1023, "", "between 1024"),
    ("process.scheduler.runtime", 20001, "", "longer than the deadline, 20000"),
    ("process.scheduler.deadline", 2**63, "", "between 1024"),
    ("process.scheduler.period", 19999, "", "between 20000"),
    ("process.scheduler.priority", 1, "", "no meaning for SCHED_DEADLINE"),
    # hooks
    ("hooks.prestart[0].path", "true", "", "absolute path"),
    ("hooks.poststop[0].timeout", 0, "", "not greater than 0"),
    ("hooks.createContainer[0].timeout", -1, "", "not greater than 0"),
    ("hooks.startContainer[0].env[1]", "B", "", "has no ="),
    # namespaces
    ("linux.namespaces[7]", {"type": "pid"}, "linux.namespaces[7].type",
        "same as that of linux.namespaces[0]; keep one"),
    ("linux.namespaces[1].path", "netns/a", "", "absolute path"),
    ("linux.timeOffsets.realtime", {"secs": 1}, "linux.timeOffsets[realtime]",
        "can offset; use monotonic or boottime"),
    ("linux.timeOffsets.boottime", {"nanosecs": 10**9}, "linux.timeOffsets[boottime].nanosecs",
        "between 0 and 999999999"),
    ("linux.namespaces[6].path", "/run/time", "linux.timeOffsets", "in a new time namespace"),
    ("linux.namespaces", [], "linux.timeOffsets", "in a new time namespace"),
    # devices
    ("linux.devices[0].path", "fuse", "", "absolute path"),
    ("linux.devices[0].major", None, "", "required but missing"),
    ("linux.devices[2].minor", None, "", "required but missing"),
    ("linux.devices[0].major", 4096, "", "between 0 and 4095"),
    ("linux.devices[0].minor", -1, "", "between 0 and 1048575"),
    ("linux.devices[0].fileMode", 0o200000, "", "between 0 and 65535"),
    ("linux.devices[1].path", "/dev/fuse", "", "a different device in linux.devices[0]"),
    ("linux.devices[2].path", "/dev/fuse", "", "a different device in linux.devices[0]"),
    # Intel RDT
    ("linux.intelRdt", {"closID": "a/b"}, "linux.intelRdt.closID", "class of service"),
    ("linux.intelRdt", {"closID": ".."}, "linux.intelRdt.closID", "without /"),
    ("linux.intelRdt", {"schemata": ["L3"]}, "linux.intelRdt.schemata[0]", "L3:0=ff"),
    # network devices
    ("linux.netDevices[a/b]", {}, "linux.netDevices[a/b]", "not the name of a network device"),
    ("linux.netDevices[a%db]", {}, "linux.netDevices[a%db]", "not the name of a network device"),
    ("linux.netDevices[pcve0]", {"name": "x y"}, "linux.netDevices[pcve0].name", "without spaces"),
    ("linux.netDevices[pcve0]", {"name": "a" * 16}, "linux.netDevices[pcve0].name", "at most 15"),
    ("linux.netDevices[pcve0]", {"name": "a%s"}, "linux.netDevices[pcve0].name", "one %d"),
    ("linux.netDevices", {"pcve0": {"name": "x"}, "pcve1": {"name": "x"}},
        "linux.netDevices[pcve1].name", "the new name of pcve0, too"),
    # memory policy
    ("linux.memoryPolicy", {"mode": "MPOL_BIND"}, "linux.memoryPolicy.nodes", "needed by"),
    ("linux.memoryPolicy", {"mode": "MPOL_BIND", "nodes": "x"}, "linux.memoryPolicy.nodes",
        "not a list of nodes"),
    ("linux.memoryPolicy", {"mode": "MPOL_LOCAL", "nodes": "0"}, "linux.memoryPolicy.nodes",
        "no meaning for MPOL_LOCAL"),
    ("linux.memoryPolicy", {"mode": "MPOL_LOCAL", "flags": ["MPOL_F"]},
        "linux.memoryPolicy.flags[0]", "unknown"),
    ("linux.memoryPolicy",
        {"mode": "MPOL_LOCAL", "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"]},
        "linux.memoryPolicy.flags", "keep one"),
    # control groups
    ("linux.cgroupsPath", "/a/../b", "", "contains .."),
    ("linux.cgroupsPath", "..", "", "contains .."),
    ("linux.resources.devices[0].access", "rx", "", "has other letters than r, w and m"),
    ("linux.resources.devices[1].major", -2, "", "between -1 and 4095"),
    ("linux.resources.devices[1].minor", 2**20, "", "between -1 and 1048575"),
    ("linux.resources.memory.limit", -2, "", "between -1 and"),
    ("linux.resources.memory.swap", 1048575, "", "below the memory limit, 1048576"),
    ("linux.resources.memory.limit", None, "linux.resources.memory.swap", "needs a memory limit"),
    ("linux.resources.memory.limit", 0, "linux.resources.memory.swap", "needs a memory limit"),
    ("linux.resources.memory.reservation", -9, "", "between -1 and"),
    ("linux.resources.memory.swappiness", 101, "", "between 0 and 100"),
    ("linux.resources.cpu.period", 999, "", "between 1000 and 1000000"),
    ("linux.resources.cpu.period", 1000001, "", "between 1000 and 1000000"),
    ("linux.resources.cpu.quota", 999, "", "between 1000"),
    ("linux.resources.cpu.burst", 50001, "", "between 0 and 50000"),
    ("linux.resources.cpu.idle", 2, "", "between 0 and 1"),
    ("linux.resources.cpu.cpus", "0-3,x", "", "list of numbers; write it as 0-3,7"),
    ("linux.resources.cpu.mems", "all", "", "list of numbers"),
    ("linux.resources.pids.limit", -2, "", "between -1 and"),
    ("linux.resources.blockIO.weight", 9, "", "between 10 and 1000"),
    ("linux.resources.blockIO.leafWeight", 1001, "", "between 10 and 1000"),
    ("linux.resources.blockIO.weightDevice[0].weight", 1, "", "between 10 and 1000"),
    ("linux.resources.blockIO.weightDevice[0].weight", None,
        "linux.resources.blockIO.weightDevice[0]", "neither weight nor leafWeight"),
    ("linux.resources.hugepageLimits[0].pageSize", "2M", "", "page size; write it as 64KB"),
    ("linux.resources.hugepageLimits[0].pageSize", "02MB", "", "page size"),
    ("linux.resources.hugepageLimits[0].pageSize", "MB", "", "page size"),
    ("linux.resources.hugepageLimits[0].pageSize", "2TB", "", "page size"),
    ("linux.resources.hugepageLimits[0].pageSize", "../2MB", "", "page size"),
    ("linux.resources.rdma.mlx4_0", {}, "linux.resources.rdma[mlx4_0]", "limits nothing"),
    ("linux.resources.unified[a/b.c]", "1", "", "not a plain file name"),
    ("linux.resources.unified[../b.c]", "1", "", "not a plain file name"),
    ("linux.resources.unified[memory]", "1", "", "names no controller"),
    ("linux.resources.unified[.]", "1", "", "names no controller"),
    ("linux.resources.unified[..]", "1", "", "names no controller"),
    ("linux.resources.unified[.high]", "1", "", "names no controller"),
    ("linux.resources.unified[memory.]", "1", "", "names no controller"),
    # seccomp
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_NOTIFY"}, "linux.seccomp.listenerPath",
        "needed by SCMP_ACT_NOTIFY"),
    ("linux.seccomp.syscalls[0].action", "SCMP_ACT_NOTIFY", "linux.seccomp.listenerPath",
        "set it to the socket of the agent"),
    ("linux.seccomp.listenerMetadata", "text", "", "set without listenerPath"),
    ("linux.seccomp.flags[0]", "SECCOMP_FILTER_FLAG_NEW_LISTENER", "", "unknown"),
    ("linux.seccomp.architectures[0]", "amd64", "", "unknown; use one of SCMP_ARCH_X86,"),
    ("linux.seccomp.defaultErrnoRet", 4095, "", "between 0 and 4094"),
    ("linux.seccomp.defaultAction", "SCMP_ACT_KILL", "linux.seccomp.defaultErrnoRet",
        "no meaning for SCMP_ACT_KILL; remove it, or use SCMP_ACT_ERRNO or SCMP_ACT_TRACE"),
    ("linux.seccomp.syscalls[0].errnoRet", 1, "", "no meaning for SCMP_ACT_ALLOW"),
    ("linux.seccomp.syscalls[1].errnoRet", 65536, "", "between 0 and 65535"),
    ("linux.seccomp.syscalls[0].names", [], "", "names no system call"),
    ("linux.seccomp.syscalls[0].args[0].index", 6, "", "between 0 and 5"),
    # paths and personality
    ("linux.maskedPaths[0]", "proc/kcore", "", "absolute path"),
    ("linux.readonlyPaths[0]", "", "", "absolute path"),
    ("linux.personality.flags[0]", "ADDR_NO_RANDOMIZE", "", "defines no flags"),
]  # fmt: skip


@pytest.mark.property("linux.personality.flags", "life-cycle 21")
@pytest.mark.parametrize(
    ("path", "value", "named", "words"),
    RULES,
    ids=[f"{path}={json.dumps(value)[:40]}" for path, value, _, _ in RULES],
)
def test_an_error_has_the_path_the_problem_and_a_remedy(path, value, named, words) -> None:
    found = {error.fault.at: error for error in problems_of(edited(FULL, path, value))}
    assert (named or path) in found, list(map(str, found.values()))
    error = found[named or path]
    assert words in str(error)
    assert error.fault.why
    assert error.fault.remedy
    assert "\n" not in str(error)


def test_a_configuration_with_everything_has_no_problem() -> None:
    assert problems_of(FULL) == []


def test_a_minimal_configuration_has_no_problem() -> None:
    assert problems_of(MINIMAL) == []


ALLOWED = [
    ("ociVersion", "1.0.0"),
    ("ociVersion", "1.0.2-dev"),
    ("ociVersion", "1.0.0-rc5"),
    ("ociVersion", "1.1.0+dev"),
    ("ociVersion", "1.2.0-rc.1-x+a.b-c.007"),
    ("ociVersion", "1.99.0"),
    ("hostname", "h" * 64),
    ("hostname", ""),
    ("process", None),
    ("process.scheduler", {"policy": "SCHED_RR", "priority": 99}),
    ("process.scheduler", {"policy": "SCHED_OTHER", "nice": -20}),
    ("process.scheduler.period", 0),
    ("process.capabilities.bounding", ["CAP_NEW"]),
    ("process.terminal", False),
    ("hooks", None),
    ("linux.cgroupsPath", "system.slice:docker:abc"),
    ("linux.devices[3]", {"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229}),
    ("linux.devices[0].fileMode", 0o20666),
    ("linux.resources.memory.swap", -1),
    ("linux.resources.memory.limit", -1),
    ("linux.resources.memory.swap", 0),
    ("linux.resources.memory.swappiness", 2**64 - 1),
    ("linux.resources.cpu", {"quota": -1, "period": 0, "burst": 1000000, "cpus": ""}),
    ("linux.resources.pids.limit", -1),
    ("linux.resources.blockIO.weight", 0),
    ("linux.seccomp.flags", ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
    ("linux.seccomp.flags", None),
    ("linux.seccomp.listenerPath", ""),
    ("linux.seccomp.listenerPath", "/run/agent"),
    ("linux.timeOffsets", {}),
    ("linux.netDevices", {}),
    ("linux.uidMappings", []),
]


@pytest.mark.parametrize(("path", "value"), ALLOWED, ids=[f"{p}={v!r}"[:60] for p, v in ALLOWED])
def test_values_that_engines_write_and_the_kernel_accepts_are_allowed(path, value) -> None:
    assert problems_of(edited(FULL, path, value)) == []


NEEDS_MOUNT = [
    ("root.readonly", True),
    ("mounts", [{"destination": "/proc", "type": "proc"}]),
    ("linux.rootfsPropagation", "shared"),
]


@pytest.mark.parametrize(
    ("path", "value", "kind"),
    [
        ("hostname", "box", "uts"),
        ("domainname", "org", "uts"),
        *((path, value, "mount") for path, value in NEEDS_MOUNT),
    ],
)
def test_a_property_that_would_change_the_host_needs_its_namespace(path, value, kind) -> None:
    config = edited(MINIMAL, path, value)
    (error,) = problems_of(config)
    assert error.fault.at == path
    assert f'add {{"type": "{kind}"}} to linux.namespaces' in error.fault.remedy
    assert problems_of(edited(config, "linux.namespaces[0]", {"type": kind})) == []
    joined = {"type": kind, "path": f"/proc/1/ns/{kind}"}
    assert problems_of(edited(config, "linux.namespaces[0]", joined)) == []


def test_check_raises_the_first_of_all_problems() -> None:
    config = edited(edited(FULL, "process.cwd", "tmp"), "linux.namespaces[7]", {"type": "pid"})
    spec = parse.parse(json.dumps(config))
    paths = [error.fault.at for error in check.problems(spec)]
    assert paths == ["process.cwd", "linux.namespaces[7].type"]
    with pytest.raises(SpecError, match=r"^process\.cwd = \"tmp\" is not an absolute path"):
        check.check(spec)


def test_check_accepts_a_configuration_without_problems() -> None:
    check.check(parse.parse(json.dumps(FULL)))


def test_a_process_is_checked_alone_for_exec() -> None:
    process = parse.read_text(records.Process, '{"cwd": "/", "args": ["ls"]}', "process")
    check.check_process(process)
    broken = parse.read_text(records.Process, '{"cwd": "/", "env": ["A"]}', "process")
    with pytest.raises(SpecError) as caught:
        check.check_process(broken)
    assert caught.value.fault.at == "process.args"


def test_limits_are_checked_alone_for_update() -> None:
    check.check_resources(parse.read_text(records.Resources, '{"pids": {"limit": 5}}', ""))
    broken = parse.read_text(records.Resources, '{"memory": {"limit": 8, "swap": 7}}', "")
    with pytest.raises(SpecError, match=r"^memory\.swap = 7 is below the memory limit, 8"):
        check.check_resources(broken)


def test_unknown_capabilities_are_listed_once_and_in_order() -> None:
    sets = {"bounding": ["CAP_KILL", "CAP_NEW"], "ambient": ["kill", "CAP_NEW"]}
    config = edited(FULL, "process.capabilities", sets)
    process = parse.parse(json.dumps(config)).process
    assert check.unknown_capabilities(process) == ["CAP_NEW", "kill"]
    assert check.unknown_capabilities(process.replace(capabilities=None)) == []


def test_every_problem_of_a_hopeless_configuration_is_found() -> None:
    hopeless = without(edited(MINIMAL, "ociVersion", "x"), "root")
    hopeless = edited(hopeless, "process", {"cwd": ".", "env": ["=", "x"]})
    assert len(problems_of(hopeless)) == 6
