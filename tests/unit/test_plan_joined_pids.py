"""The plan of a program that enters a pid namespace which others are in."""

from __future__ import annotations

from typing import Any

import pytest

from pycontain.plan import steps
from tests.unit.plans import FULL, HOOK, PROCESS, config, find, joined, names, plan_of
from tests.unit.spec_configs import edited

PIDS = [{"type": "pid", "path": "/ns/pid"}, {"type": "mount"}, {"type": "uts"}]
AFTER = ("wait for start", "seccomp", "container hooks", "rlimits", "execve")
PRIVATE = ("bounding set", "user", "capabilities", "no new privileges", "cwd", "session")


def test_the_program_enters_a_joined_pid_namespace_as_late_as_possible():
    made = {**FULL, "linux": {**FULL["linux"], "namespaces": PIDS}}
    found = names(plan_of(made))
    entered = found.index("enter")
    assert all(found.index(name) < entered for name in (*PRIVATE, "find program", "terminal"))
    assert found[entered + 1 : entered + 3] == ["take over", "scheduler"]
    assert set(found[entered + 4 :]) - {"created"} <= set(AFTER)
    assert found[entered + 3] == "record"


def test_the_program_of_exec_enters_joined_pids_as_late_as_possible():
    found = [step.name for step in joined(FULL["process"], pid_file="/p")]
    assert found.index("join") < found.index("user") < found.index("enter")
    assert found[found.index("enter") + 1 :] == ["take over", "scheduler", "pid file", "execve"]


def test_hooks_with_the_hosts_root_run_before_children_enter_joined_pids():
    made = edited(config(namespaces=PIDS), "hooks", {"createContainer": HOOK})
    found = names(plan_of(made))
    assert found.index("container hooks") < found.index("join pids") < found.index("pivot")


def test_a_new_pid_namespace_needs_no_steps_for_joined_pids():
    found = names(plan_of(FULL))
    assert not {"enter", "take over", "join pids"} & set(found)


CLONE = {"names": ["clone"], "action": "SCMP_ACT_ERRNO"}
FLAGS = 0x108000  # CLONE_PARENT, CLONE_PARENT_SETTID


def argument(value: int, operator: str, second: int = 0, index: int = 0) -> dict[str, Any]:
    given = {"index": index, "value": value, "op": f"SCMP_CMP_{operator}", "valueTwo": second}
    return {**CLONE, "args": [given]}


PASSING = [
    ({"syscalls": []}, True),
    ({"syscalls": [CLONE]}, False),
    ({"syscalls": [argument(0x20000000, "MASKED_EQ", 0x20000000)]}, True),
    ({"syscalls": [argument(0x8000, "MASKED_EQ", 0x8000)]}, False),
    ({"syscalls": [argument(FLAGS, "EQ")]}, False),
    ({"syscalls": [argument(FLAGS, "NE")]}, True),
    ({"syscalls": [argument(FLAGS, "LT")]}, True),
    ({"syscalls": [argument(FLAGS, "LE")]}, False),
    ({"syscalls": [argument(FLAGS, "GT")]}, True),
    ({"syscalls": [argument(FLAGS, "GE")]}, False),
    ({"syscalls": [argument(0, "EQ", index=3)]}, False),
    ({"syscalls": [{**CLONE, "names": ["setsid"]}]}, False),
    ({"syscalls": [{**CLONE, "names": ["ioctl"]}]}, True),
    ({"defaultAction": "SCMP_ACT_ERRNO"}, False),
    (
        {
            "defaultAction": "SCMP_ACT_ERRNO",
            "syscalls": [
                {**argument(0x7E020000, "MASKED_EQ"), "action": "SCMP_ACT_ALLOW"},
                {"names": ["madvise", "close_range", "setsid"], "action": "SCMP_ACT_ALLOW"},
            ],
        },
        True,
    ),
]


@pytest.mark.parametrize(("seccomp", "passes"), PASSING, ids=str)
def test_a_filter_that_forbids_entering_is_loaded_after_it(seccomp, passes):
    """That needs CAP_SYS_ADMIN there, until it is loaded; not with noNewPrivileges."""
    linux = {"seccomp": {"defaultAction": "SCMP_ACT_ALLOW", **seccomp}, "namespaces": PIDS}
    made = edited(config(**linux), "process", {**PROCESS["process"], "capabilities": {}})
    plan = plan_of(made)
    enter, capabilities = find(plan, steps.EnterPids), find(plan, steps.SetCapabilities)
    assert (enter.filter_ is None) == (enter.capabilities is None) == passes
    assert ("seccomp" in names(plan)) == passes
    admin = 1 << 21
    assert (capabilities.permitted, capabilities.effective) == (
        (0, 0) if passes else (admin, admin)
    )
    if not passes:
        assert enter.capabilities.permitted == 0
    later = plan_of(edited(made, "process.noNewPrivileges", True))
    assert find(later, steps.EnterPids).filter_ is None
    assert names(later).index("enter") < names(later).index("seccomp")


def test_a_terminal_becomes_the_controlling_one_in_the_joined_namespace():
    made = edited(config(namespaces=PIDS), "process.terminal", True)
    plan = plan_of(made)
    assert not find(plan, steps.OpenTerminal).control
    assert find(plan, steps.EnterPids).terminal
