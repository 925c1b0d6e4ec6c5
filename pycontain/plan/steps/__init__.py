"""
The steps of a container's life, as data: what `plan` decides and the two processes carry out.

Each class is one kind of step. `side` says who carries it out: "parent" is the runtime on the
host, "child" the container's own first process. `what()` says what this very step does; `why` says
what asks for it, a JSON path of config.json or a rule.
"""

from __future__ import annotations

from .base import *  # noqa: F403
from .child import *  # noqa: F403
from .parent import *  # noqa: F403
