"""The plan for a container in a user namespace: what the parent prepares, and the order of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pycontain.errors import StepError
from pycontain.kernel import const as c
from pycontain.plan import joining, steps
from pycontain.plan.facts import Facts
from pycontain.plan.ids import Ids
from pycontain.plan.plan import Plan, build
from pycontain.plan.request import ExecRequest, Request
from pycontain.plan.steps import idmap
from pycontain.spec.parse import parse
from tests.unit.spec_configs import edited
from tests.unit.test_spec_mappings import BOTH, CONFIG

NO_RIGHTS = Facts(last_capability=40, permitted=0, bounding=0)
LIMIT = {"type": "RLIMIT_NOFILE", "soft": 10, "hard": 20}
PIDS = "/proc/7/ns/pid"


def plan_of(config: dict[str, Any], **request: Any) -> Plan:
    made = Request(id="a", bundle="/b", separate_start=True, **request)
    return build(parse(json.dumps(config)), made, NO_RIGHTS)


def names(plan: Plan) -> list[str]:
    return [step.name for step in plan.steps]


def the(plan: Plan, kind: type[steps.Step]) -> Any:
    (step,) = (step for step in plan.steps if isinstance(step, kind))
    return step


def test_everything_that_needs_the_host_is_prepared_before_the_child_exists():
    found = names(plan_of(CONFIG))
    spawn = found.index("spawn")
    for name in ("user namespace", "sources", "streams", "device files"):
        assert found.index(name) < spawn
    assert found.index("device names") > found.index("devices")


def test_the_child_is_born_in_the_user_namespace_with_the_namespaces_that_belong_to_it():
    spawn = the(plan_of(CONFIG), steps.Spawn)
    assert spawn.enters == (c.CLONE_NEWUSER,)
    assert spawn.flags == c.CLONE_NEWNS | c.CLONE_NEWPID
    assert "as root of the user namespace" in spawn.what()


def test_namespaces_to_join_are_entered_before_the_user_namespace():
    config = edited(CONFIG, "linux.namespaces[3]", {"type": "network", "path": "/n"})
    plan = plan_of(config)
    assert the(plan, steps.Spawn).enters == (c.CLONE_NEWNET, c.CLONE_NEWUSER)
    assert "join namespaces" not in names(plan)


def test_a_pid_namespace_is_joined_from_within_its_user_namespace():
    config = edited(CONFIG, "linux.namespaces[0].path", "/proc/7/ns/user")
    plan = plan_of(edited(config, "linux.namespaces[2].path", PIDS))
    assert the(plan, steps.Spawn).enters == (c.CLONE_NEWUSER,)
    assert names(plan).index("spawn") < names(plan).index("join pids")


def test_the_mappings_of_a_namespace_to_join_are_read_and_compared():
    plan = plan_of(edited(CONFIG, "linux.namespaces[0].path", "/proc/7/ns/user"))
    line = (0, 100_000, 1000)
    assert the(plan, idmap.ReadMappings).wanted == Ids(uids=(line,), gids=(line,))
    assert "user namespace" not in names(plan)


def test_capabilities_are_those_of_the_namespace_whatever_the_runtime_has():
    sets = dict.fromkeys(("bounding", "permitted", "effective"), ["CAP_SYS_ADMIN"])
    plan = plan_of(edited(CONFIG, "process.capabilities", sets))
    assert the(plan, steps.SetCapabilities).effective == 1 << 21
    assert plan.warnings == ()


def test_devices_are_bound_but_fifos_are_created():
    fifo = {"path": "/dev/f", "type": "p"}
    plan = plan_of(edited(CONFIG, "linux.devices[1]", fifo))
    prepared = {node.path for node in the(plan, idmap.PrepareDevices).nodes}
    wanted = {node.path for node in the(plan, steps.MakeDevices).nodes}
    assert wanted - prepared == {"/dev/f"}
    assert the(plan, steps.MakeDevices).bound
    assert the(plan, idmap.RemoveDevices).count == len(prepared)


def test_hard_limits_and_scheduling_are_the_parents():
    config = edited(CONFIG, "process.rlimits", [LIMIT])
    config = edited(config, "process.scheduler", {"policy": "SCHED_FIFO", "priority": 1})
    plan = plan_of(config)
    assert the(plan, idmap.RaiseRlimitsOutside).limits[0][0] == "RLIMIT_NOFILE"
    assert the(plan, steps.SetSchedulerOutside)
    assert names(plan).index("hard limits") < names(plan).index("guard")


def test_the_cgroup_belongs_to_the_mapped_user_even_if_that_is_root():
    config = edited(CONFIG, "process.user.uid", 0)
    config = edited(config, "linux.namespaces[3]", {"type": "cgroup"})
    cgroup = {"destination": "/sys/fs/cgroup", "type": "cgroup"}
    assert the(plan_of(edited(config, "mounts[2]", cgroup)), steps.GiveCgroup).uid == 0
    assert "cgroup owner" not in names(plan_of(config))


def test_without_a_user_namespace_only_mounts_that_map_ids_are_prepared():
    config = edited(CONFIG, "linux", {"namespaces": [{"type": "mount"}]})
    assert "sources" not in names(plan_of(config))
    plan = plan_of(edited(config, "mounts[1]", {**config["mounts"][1], **BOTH}))
    prepared = the(plan, idmap.PrepareMounts)
    assert (prepared.rootfs, [step.target for step in prepared.mounts]) == ("", ["/data"])
    assert "ids mapped: uids 0-999 as 100000-100999" in prepared.mounts[0].what()


@pytest.mark.parametrize(
    ("options", "mappings", "maps"),
    [
        (["rbind"], BOTH, "idmap"),
        (["rbind", "idmap"], {}, "idmap"),
        (["rbind", "ridmap"], BOTH, "ridmap"),
        (["rbind"], {}, ""),
    ],
)
def test_a_mount_maps_ids_according_to_its_options_and_mappings(options, mappings, maps):
    mount = {"destination": "/data", "source": "/srv", "options": options, **mappings}
    bind = the(plan_of(edited(CONFIG, "mounts[1]", mount)), steps.MountBind)
    assert (bind.maps, bind.ids is not None) == (maps, bool(mappings))


def test_exec_reads_the_mappings_and_raises_limits_from_outside():
    spec = parse(json.dumps(edited(CONFIG, "process.rlimits", [LIMIT])))
    assert spec.process is not None
    assert spec.linux is not None
    turns = joining.build(spec.process, spec.linux, "/r", ExecRequest(id="a"), NO_RIGHTS)
    found = [step.name for turn in turns for step in turn.steps]
    assert found.index("mappings") < found.index("streams") < found.index("spawn")
    assert found.index("spawn") < found.index("hard limits") < found.index("join")


def test_ids_are_translated_or_refused():
    ids = Ids(uids=((0, 100, 10), (20, 500, 1)), gids=((0, 7, 1),))
    assert [ids.uid(id) for id in (0, 9, 20)] == [100, 109, 500]
    assert ids.gid(0) == 7
    assert ids.has(20, 0)
    assert not ids.has(20, 1)
    with pytest.raises(StepError, match="uid = 10 is not mapped into the user namespace"):
        ids.uid(10)
