"""plan: show what would be done, without doing it."""

from __future__ import annotations

from ..kernel.rights import systemd_of
from ..plan.request import Request
from .bundle import Bundle

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..options import Options


def steps(
    options: Options, id: str, bundle: str, *, verb: str, isolation: str = ""
) -> list[dict[str, str]]:
    """The steps of "run", or of "create" and a later `start`, as text."""
    loaded = Bundle(bundle)
    request = Request(
        id=id,
        bundle=loaded.path,
        isolation=isolation,
        separate_start=verb == "create",
        cgroup=options.cgroup_manager != "disabled",
        systemd=systemd_of(options.cgroup_manager, options.rootless),
    )
    return loaded.plan(request).describe()
