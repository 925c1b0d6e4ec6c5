"""
The steps of bringing up a container, as data: `plan` decides them, two processes carry them out.

Each class is one kind of step. `side` is the process that carries it out: "parent" is the runtime
on the host, "child" the container's first process. `what()` describes what the step does; `why`
names its reason, a JSON path of config.json or a rule.

Creating a class takes Python 15 microseconds, and a plan needs less than half of them. So the steps
that only some plans have are in modules of their own, which are imported when a plan has one: this
package finds them by name, and `launch.child` the modules of `init` and `launch` with the same
name, which perform them.
"""

from __future__ import annotations

import sys

from .base import *  # noqa: F403
from .child import *  # noqa: F403
from .parent import *  # noqa: F403

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .filesystem import *  # noqa: F403
    from .hooks import *  # noqa: F403
    from .host_mounts import *  # noqa: F403
    from .joined_pids import *  # noqa: F403
    from .joining import *  # noqa: F403
    from .scheduling import *  # noqa: F403
    from .terminal import *  # noqa: F403

_BY_MODULE = {
    "filesystem": (
        "BindRoot", "ChangeRoot", "DeviceNode", "LinkDevices", "MakeDevices", "MakePlaces",
        "MakeReadOnly", "MaskPaths", "MountBind", "MountCgroup", "MountFilesystem", "MountStep",
        "ProtectPaths", "Remount",
    ),
    "hooks": ("RunContainerHooks", "RunHooks"),
    "host_mounts": ("ChangeDirectoryRoot", "OpenRoot", "RequireMissing"),
    "joined_pids": ("EnterPids", "JoinPids", "TakeOver"),
    "joining": ("JoinNamespaces", "JoinProcess", "OpenNamespaces"),
    "scheduling": (
        "SetAffinity", "SetIoPriority", "SetPersonality", "SetScheduler", "SetSchedulerOutside",
    ),
    "terminal": ("ConnectConsole", "OpenTerminal"),
}  # fmt: skip
_MODULES = {name: module for module, names in _BY_MODULE.items() for name in names}


def __getattr__(name: str) -> type[object]:
    """The class of this name, from a module that was not imported yet. PEP 562."""
    if name not in _MODULES:
        raise AttributeError(f"there is no step {name}")
    module = f"{__name__}.{_MODULES[name]}"
    __import__(module)
    step: type[object] = getattr(sys.modules[module], name)
    globals()[name] = step
    return step
