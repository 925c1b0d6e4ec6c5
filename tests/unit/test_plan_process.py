"""The plan for the process: its capabilities, and when each limit is set. No kernel, no root."""

from __future__ import annotations

from typing import Any

import pytest

from pycontain.plan import steps
from pycontain.plan.facts import Facts
from pycontain.plan.plan import Plan
from tests.unit.plans import HOOK, config, find, names, plan_of
from tests.unit.spec_configs import edited

# --- capabilities --------------------------------------------------------------------------------


def test_only_capabilities_of_the_host_are_granted_and_others_are_a_warning():
    facts = Facts(last_capability=40, permitted=1 << 5, bounding=1 << 5)
    names = ["CAP_KILL", "CAP_CHOWN", "CAP_NEW"]
    sets = dict.fromkeys(("bounding", "permitted", "effective"), names)
    plan = plan_of(edited(config(), "process.capabilities", sets), facts)
    found = find(plan, steps.SetCapabilities)
    assert (found.effective, found.permitted, found.inheritable, found.ambient) == (32, 32, 0, 0)
    assert find(plan, steps.BoundCapabilities).keep == 32
    assert [line.split(": ")[1].split()[0] for line in plan.warnings] == ["CAP_NEW", "CAP_CHOWN"]


def test_ambient_capabilities_must_be_permitted_and_inheritable():
    sets = {"permitted": ["CAP_KILL"], "ambient": ["CAP_KILL", "CAP_CHOWN"]}
    plan = plan_of(edited(config(), "process.capabilities", sets))
    assert find(plan, steps.SetCapabilities).ambient == 0


def test_inheritable_capabilities_must_be_in_the_bounding_set():
    sets = {"bounding": ["CAP_KILL"], "inheritable": ["CAP_KILL", "CAP_CHOWN"]}
    plan = plan_of(edited(config(), "process.capabilities", sets))
    assert find(plan, steps.SetCapabilities).inheritable == 32
    assert len(plan.warnings) == 1
    assert "CAP_CHOWN is requested as inheritable, but not as bounding" in plan.warnings[0]


@pytest.mark.parametrize("kind", ["bounding", "permitted", "inheritable", "effective", "ambient"])
def test_a_capability_in_several_sets_has_one_warning(kind):
    for kinds in ([kind], ["bounding", "permitted", "inheritable", "effective", "ambient"]):
        sets = dict.fromkeys(kinds, ["CAP_CHOWN", "CAP_NEW"])
        plan = plan_of(
            edited(config(), "process.capabilities", sets),
            Facts(last_capability=40, permitted=0, bounding=0),
        )
        found = [line.split(": ")[1].split()[0] for line in plan.warnings]
        assert found == ["CAP_NEW", "CAP_CHOWN"], kinds
        assert "CAP_CHOWN cannot be granted on this host" in plan.warnings[1]


# --- limits --------------------------------------------------------------------------------------

LIMITS = [
    {"type": f"RLIMIT_{name}", "soft": 1 << 20, "hard": 1 << 21}
    for name in ("AS", "NOFILE", "DATA", "FSIZE")
]
PRLIMIT = {"names": ["read", "prlimit64"]}


def limits_set(plan: Plan) -> list[tuple[str, list[str], str]]:
    """(the step before, the limits, the step after) of each step that sets limits."""
    return [
        (before.name, step.what().removeprefix("set ").split(", "), after.name)
        for before, step, after in zip(plan.steps, plan.steps[1:], plan.steps[2:], strict=False)
        if isinstance(step, steps.SetRlimits)
    ]


def limited(**changes: Any) -> Plan:
    made = edited(config(), "process.rlimits", LIMITS)
    made["hooks"] = {"startContainer": HOOK}
    for path, value in changes.items():
        made = edited(made, path.replace("__", "."), value)
    return plan_of(made)


def test_limits_that_would_stop_the_runtime_are_set_last():
    plan = limited()
    early, late = limits_set(plan)
    assert early == ("cwd", ["RLIMIT_NOFILE 1048576:2097152"], "hard limits")
    raised = [(name, hard) for name, _, hard, _ in find(plan, steps.RaiseRlimits).limits]
    assert raised == [(f"RLIMIT_{name}", 2097152) for name in ("AS", "DATA", "FSIZE")]
    set_last = [f"RLIMIT_{name} 1048576:2097152" for name in ("AS", "DATA", "FSIZE")]
    assert late == ("container hooks", set_last, "execve")


FILTERS = [
    ({"defaultAction": "SCMP_ACT_ALLOW"}, True),
    ({"defaultAction": "SCMP_ACT_LOG"}, True),
    ({"defaultAction": "SCMP_ACT_ERRNO"}, False),
    (
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [{**PRLIMIT, "action": "SCMP_ACT_ALLOW"}],
        },
        True,
    ),
    (
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [
                {
                    **PRLIMIT,
                    "action": "SCMP_ACT_ALLOW",
                    "args": [{"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}],
                }
            ],
        },
        False,
    ),
    (
        {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{**PRLIMIT, "action": "SCMP_ACT_KILL"}]},
        False,
    ),
]


@pytest.mark.parametrize(("seccomp", "passes"), FILTERS)
@pytest.mark.parametrize("early", [True, False], ids=["before the user", "at the end"])
def test_no_limit_comes_after_a_filter_that_may_forbid_it(seccomp, passes, early):
    plan = limited(linux__seccomp=seccomp, process__noNewPrivileges=not early)
    found = limits_set(plan)
    assert len(found) == (2 if passes else 1)
    if not passes:
        assert [what.split()[0] for what in found[0][1]] == [limit["type"] for limit in LIMITS]
        assert names(plan).index("rlimits") < names(plan).index("seccomp")
