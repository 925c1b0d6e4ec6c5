"""The record of a container, and the part that callers see."""

from __future__ import annotations

from ..lean.jsontext import fits
from ..lean.record import Record


class State(Record):
    """
    The content of a container's files.

    phase       "creating" until everything but the program is set up, then "created"
    pid         0 before the child exists
    start_time  the child's, in clock ticks since boot
    created     RFC 3339, UTC
    mount       where cgroup2 is mounted, "" when the container has no cgroup
    cgroup      the cgroup's path below that
    made        the cgroups that were created for this container, outermost first
    unit        the unit of systemd that the cgroup belongs to, "" if to none
    user_unit   whether the user's systemd has that unit
    process     whether it has a program to start
    poststart   whether it may have poststart hooks
    poststop    whether it has poststop hooks
    shares_pids whether it has no pid namespace of its own: processes outlive the first one
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
    unit: str = ""
    user_unit: bool = False
    process: bool = True
    poststart: bool = True
    poststop: bool = False
    shares_pids: bool = False


_SHAPES = {str: str, int: int, bool: bool, dict: {str: str}, tuple: [str]}


def state_of(fields: object) -> State:
    """The state with these fields, from JSON. Raises TypeError and ValueError for wrong ones."""
    if not isinstance(fields, dict):
        raise TypeError("is not a JSON object")
    for name, value in fields.items():
        if not fits(value, _SHAPES[type(State.DEFAULTS.get(name, ""))]):
            raise ValueError(f"{name} is {value!r}")
    return State(**{**fields, "made": tuple(fields.get("made", ()))})


def public_state(state: State, status: str, pid: int) -> dict[str, object]:
    """A container's state as hooks and callers get it. runtime.md, State."""
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
