"""Plans of made-up configurations, for tests."""

from __future__ import annotations

import json
from typing import Any

from pycontain.plan import joining, steps
from pycontain.plan import plan as planning
from pycontain.plan.facts import Facts
from pycontain.plan.plan import Plan
from pycontain.plan.request import ExecRequest, Request
from pycontain.spec.parse import parse
from tests.unit import spec_configs
from tests.unit.spec_configs import MINIMAL, edited

# without the limits that only cgroup v1 has
FULL = edited(spec_configs.FULL, "linux.resources", {"unified": {"memory.high": "max"}})
ALL = (1 << 41) - 1
FACTS = Facts(last_capability=40, permitted=ALL, bounding=ALL)
PROCESS = {"process": {"cwd": "/", "args": ["sh"]}}
HOOK = [{"path": "/bin/true"}]


def plan_of(config: dict[str, Any], facts: Facts = FACTS, **request: Any) -> Plan:
    request.setdefault("id", "c")
    request.setdefault("bundle", "/b")
    return planning.build(parse(json.dumps(config)), Request(**request), facts)


def names(plan: Plan) -> list[str]:
    return [step.name for step in plan.steps]


def config(**linux: Any) -> dict[str, Any]:
    kinds = ("pid", "mount", "uts", "ipc", "network")
    return {
        **MINIMAL,
        **PROCESS,
        "linux": {"namespaces": [{"type": kind} for kind in kinds], **linux},
    }


def find(plan: Plan, kind: type[steps.Step]) -> Any:
    [found] = [step for step in plan.steps if isinstance(step, kind)]
    return found


def joined(process: dict[str, Any], **request: Any) -> list[steps.Step]:
    spec = parse(json.dumps({**config(), "process": {"cwd": "/", "args": ["x"], **process}}))
    assert spec.process
    assert spec.linux
    turns = joining.build(spec.process, spec.linux, "/r", ExecRequest(id="x", **request), FACTS)
    return [step for turn in turns for step in turn.steps]
