"""
The steps of bringing up a container, as data: `plan` decides them, two processes carry them out.

Each class is one kind of step. `side` is the process that carries it out: "parent" is the runtime
on the host, "child" the container's first process. `what()` describes what the step does; `why`
names its reason, a JSON path of config.json or a rule.
"""

from __future__ import annotations

from .base import *  # noqa: F403
from .child import *  # noqa: F403
from .filesystem import *  # noqa: F403
from .parent import *  # noqa: F403
