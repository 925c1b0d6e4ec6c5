"""How much is tried: a part that is chosen by a seed, or with PYCONTAIN_FAULTS=full everything."""

from __future__ import annotations

import os
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

FULL = os.environ.get("PYCONTAIN_FAULTS") == "full"
SEED = int(os.environ.get("PYCONTAIN_SEED", "0"))


def sample(moments: Sequence[T], most: int, name: str) -> list[T]:
    """So many of these moments, in their order: the same ones for the same seed and name."""
    if FULL or len(moments) <= most:
        return [*moments]
    chosen = random.Random(f"{SEED}/{name}").sample(range(len(moments)), most)
    return [moments[index] for index in sorted(chosen)]


def enough(happened: int, tried: int) -> bool:
    """Whether so many faults have happened: a command may make fewer calls than the time before."""
    return happened >= tried * 0.9 - 1
