"""`linux.memoryPolicy` to a step. config-linux.md, Memory policy; set_mempolicy(2)."""

from __future__ import annotations

from ..spec.memory_rules import FLAGS, MODES
from ..spec.process_rules import cpus
from .steps.memory import SetMemoryPolicy

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..spec.records import MemoryPolicy


def policy_step(policy: MemoryPolicy) -> SetMemoryPolicy:
    """The step for a policy that was checked."""
    mode = MODES[policy.mode]
    for flag in policy.flags:
        mode |= FLAGS[flag]
    nodes = cpus(policy.nodes) if policy.nodes else ()
    return SetMemoryPolicy(mode=mode, nodes=nodes, why="linux.memoryPolicy")
