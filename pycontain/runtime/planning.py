"""plan: what would be done, without doing it."""

from __future__ import annotations

from ..plan.plan import Request
from .bundle import Bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .options import Options


def steps(options: Options, id: str, bundle: str) -> list[dict[str, str]]:
    """The steps that `create` and `start` would take: side, name, what and why."""
    loaded = Bundle(bundle)
    request = Request(id=id, bundle=loaded.path, cgroup=options.cgroup_manager != "disabled")
    return loaded.plan(request).describe()
