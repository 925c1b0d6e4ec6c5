"""list: the containers of a state root."""

from __future__ import annotations

from ..errors import StateError
from ..state.directory import directories
from .handle import Handle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Options


def list_containers(options: Options) -> list[dict[str, object]]:
    """The states of all containers by id, without incomplete ones and those just deleted."""
    containers = []
    for directory in directories(options.root):
        try:
            container = Handle(options, directory.id, directory=directory)
            containers.append({**container.public(), "owner": _user(container.state.owner)})
        except StateError:
            continue
    return containers


def _user(uid: int) -> str:
    """A user's name, or the number if it has none."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
