"""Is the memory policy of a configuration valid? config-linux.md, Memory policy; mempolicy(7)."""

from __future__ import annotations

from .problem import each, known, problem, under
from .process_rules import cpus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .problem import Problems
    from .records import MemoryPolicy

# <linux/mempolicy.h>
MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}
_WITHOUT_NODES = ("MPOL_DEFAULT", "MPOL_LOCAL")
_WITH_OR_WITHOUT = "MPOL_PREFERRED"


def problems(policy: MemoryPolicy) -> Problems:
    """Everything that is wrong with a memory policy."""
    at = under(policy, "nodes")
    if policy.nodes:
        try:
            cpus(policy.nodes)
        except ValueError:
            yield problem(at, "is not a list of nodes", "write it as 0-3,7", policy.nodes)
        if policy.mode in _WITHOUT_NODES:
            yield problem(at, f"has no meaning for {policy.mode}", "remove it", policy.nodes)
    elif policy.mode not in (*_WITHOUT_NODES, _WITH_OR_WITHOUT):
        yield problem(at, f"is needed by {policy.mode}, but missing", "name the nodes, as in 0-3,7")
    for path, flag in each(policy, "flags"):
        yield from known(path, flag, FLAGS)
    if {"MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"} <= {*policy.flags}:
        why = "has both MPOL_F_RELATIVE_NODES and MPOL_F_STATIC_NODES"
        yield problem(under(policy, "flags"), why, "keep one of them")
