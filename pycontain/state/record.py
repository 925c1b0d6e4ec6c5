"""The record of a container, and what callers see of it."""

from __future__ import annotations

from ..lean.record import Record


class State(Record):
    """
    What the files of a container say.

    phase       "creating" until everything but the program is set up, then "created"
    pid         0 before the child exists
    start_time  the child's, in clock ticks since boot
    created     RFC 3339, UTC
    mount       where cgroup2 is mounted, "" when the container has no cgroup
    cgroup      the cgroup's path below that
    made        the cgroups that this container made, outermost first
    poststop    whether it has poststop hooks
    shares_pids whether its pid namespace is not its own, so that others outlive the first process
    """

    id: str
    ociVersion: str
    bundle: str
    rootfs: str
    phase: str = "creating"
    pid: int = 0
    start_time: int = 0
    created: str = ""
    owner: int = 0
    annotations: dict[str, str] = {}
    mount: str = ""
    cgroup: str = ""
    made: tuple[str, ...] = ()
    poststop: bool = False
    shares_pids: bool = False


def state_of(fields: object) -> State:
    """The state whose fields came as JSON. Raises TypeError, KeyError for what are none."""
    if not isinstance(fields, dict):
        raise TypeError("is no JSON object")
    return State(**{**fields, "made": tuple(fields["made"])})


def public_state(state: State, status: str, pid: int) -> dict[str, object]:
    """What hooks and callers are told of a container. runtime.md, State."""
    shown: dict[str, object] = {
        "ociVersion": state.ociVersion,
        "id": state.id,
        "pid": pid,
        "status": status,
        "bundle": state.bundle,
    }
    if state.annotations:
        shown["annotations"] = state.annotations
    return shown
