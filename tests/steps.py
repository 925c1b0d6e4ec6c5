"""All steps, and the functions that perform them: launches import only those that they need."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from pycontain import init, launch
from pycontain.plan import steps


def import_all():
    """Import every module that has steps or performs some."""
    for package in (steps, init, launch):
        for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
            import_module(module.name)
