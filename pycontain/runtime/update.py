"""update: change the limits of a container."""

from __future__ import annotations

from ..cgroup import update as limits
from ..cgroup.devices import attach
from ..cgroup.restore import Restorable
from ..errors import PycontainError, StateError, fault_of
from ..lean import jsontext
from ..lean.record import Record
from ..plan.device_filter import DEFAULT_RULES, program
from ..plan.resources import of_version
from ..spec.check import check_resources
from ..spec.parse import document, parse, read
from ..spec.records import IntelRdt, Linux, Resources
from .handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from ..cgroup.tree import Cgroup
    from ..options import Options


def update(
    options: Options,
    id: str,
    resources: dict[str, object],
    rdt: dict[str, object] | None = None,
) -> None:
    """
    Apply resources, in the format of `linux.resources`, on top of the current ones.

    rdt has the new schemata of its class of service, in the format of `linux.intelRdt`.

    Either all of it is applied or nothing. Raises SpecError for invalid resources,
    StateError for a container that is stopped or has no cgroup, HostError for a limit that this
    host cannot enforce.
    """
    new = read(Resources, resources, "linux.resources")
    check_resources(new)
    container = Handle(options, id, lock=True)
    with container.directory:
        container.require("created", "running", "paused")
        undo = _limit(options, container, new) if resources or not rdt else None
        try:
            if rdt:
                _update_rdt(container, rdt)
        except BaseException:
            if undo is not None:
                undo()
            raise


def _limit(options: Options, container: Handle, new: Resources) -> Callable[[], None]:
    """Change the limits, and store them; returns how to undo it. Has no effect if it raises."""
    cgroup = container.cgroup
    if cgroup is None:
        raise StateError("has no cgroup to limit", at="container", value=container.state.id)
    spec = parse(container.directory.load_config())
    linux = spec.linux or Linux(at="linux")
    old = of_version(linux.resources or Resources(at="linux.resources"), spec.ociVersion)
    new = of_version(new, spec.ociVersion)
    restorable = Restorable(cgroup)

    done: list[Callable[[], None]] = [lambda: limits.restore(restorable, old)]

    def undo() -> None:
        for restore in reversed(done):
            try:
                restore()
            except (PycontainError, OSError) as error:
                options.warn(f"cannot be undone: {fault_of(error).line()}")

    try:
        merged = limits.update(restorable, old, new, options.without_limit)
        if new.devices:
            done.append(lambda: _filter(cgroup, old))
            _filter(cgroup, new)
        _remember(container, merged)
        done.append(lambda: _remember(container, old))
    except BaseException:
        undo()
        raise
    return undo


def _filter(cgroup: Cgroup, resources: Resources) -> None:
    attach(cgroup.fd, program((*resources.devices, *DEFAULT_RULES)))


def _update_rdt(container: Handle, changes: dict[str, object]) -> None:
    """Write schemata to the class of the container, and store them."""
    from ..cgroup.rdt import Group
    from ..plan.rdt import lines_of

    config = document(container.directory.load_config())
    linux = config["linux"]
    if not (isinstance(linux, dict) and isinstance(linux.get("intelRdt"), dict)):
        raise StateError("has no class of service", at="linux.intelRdt", value=container.state.id)
    changed = read(IntelRdt, changes, "linux.intelRdt")
    linux["intelRdt"] |= changes
    whole = read(IntelRdt, linux["intelRdt"], "linux.intelRdt")
    group = Group(whole.closID or "", container.state.id, monitored=False)
    group.write(lines_of(changed))
    container.directory.save_config(jsontext.dumps(config))


def _remember(container: Handle, merged: Resources) -> None:
    """Store the merged limits: the next update starts from them, not from the original ones."""
    config = document(container.directory.load_config())
    linux = config["linux"] = config.get("linux") or {}  # null means that there is none
    assert isinstance(linux, dict), "it was parsed"
    linux["resources"] = _json(merged)
    container.directory.save_config(jsontext.dumps(config))


def _json(value: object) -> object:
    """A record as the JSON it was read from."""
    if isinstance(value, Record):
        fields = value.fields().items()
        return {
            name.rstrip("_"): _json(inner)
            for name, inner in fields
            if name != "at" and inner not in (None, (), {})
        }
    if isinstance(value, tuple):
        return [_json(inner) for inner in value]
    if isinstance(value, dict):
        return {key: _json(inner) for key, inner in value.items()}
    return value
