"""
pycontain: containers and virtual machines in Python.

    import pycontain

    result = pycontain.run("bundle", ["echo", "hello"])
    print(result.status, result.stdout)

Importing this package costs nothing; its parts are loaded on first use.
"""

from __future__ import annotations

from _thread import RLock
from posix import register_at_fork

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .errors import (
        Fault,
        GuestError,
        HookError,
        HostError,
        Interrupted,
        KernelError,
        ProgramError,
        PycontainError,
        SpecError,
        StateError,
        StepError,
        Timeout,
        UsageError,
    )
    from .library.container import Container, close
    from .library.run import run, run_async, stream
    from .library.stream import Stream
    from .options import Options
    from .result import Result
    from .sandbox.pool import Pool
    from .sandbox.result import SandboxResult
    from .sandbox.sandbox import Sandbox
    from .sandbox.session import Session

__version__ = "0.1.0"

_HOMES = {
    "Container": "library.container",
    "Result": "result",
    "close": "library.container",
    "run": "library.run",
    "run_async": "library.run",
    "stream": "library.run",
    "Stream": "library.stream",
    "Options": "options",
    "Pool": "sandbox.pool",
    "Sandbox": "sandbox.sandbox",
    "SandboxResult": "sandbox.result",
    "Session": "sandbox.session",
    "Fault": "errors",
    "GuestError": "errors",
    "HookError": "errors",
    "HostError": "errors",
    "Interrupted": "errors",
    "KernelError": "errors",
    "ProgramError": "errors",
    "PycontainError": "errors",
    "SpecError": "errors",
    "StateError": "errors",
    "StepError": "errors",
    "Timeout": "errors",
    "UsageError": "errors",
}

__all__ = [
    "Container",
    "Fault",
    "GuestError",
    "HookError",
    "HostError",
    "Interrupted",
    "KernelError",
    "Options",
    "Pool",
    "ProgramError",
    "PycontainError",
    "Result",
    "Sandbox",
    "SandboxResult",
    "Session",
    "SpecError",
    "StateError",
    "StepError",
    "Stream",
    "Timeout",
    "UsageError",
    "__version__",
    "close",
    "run",
    "run_async",
    "stream",
]

# Held where no other thread must fork: the child would wait for ever for a module that is just
# imported, and would share what `library.forks` is about to register. Made here, since a fork that
# has begun calls half of the handlers that are added meanwhile.
_no_fork = RLock()
register_at_fork(
    before=_no_fork.acquire,
    after_in_parent=_no_fork.release,
    after_in_child=_no_fork.release,
)


def __getattr__(name: str) -> object:
    """Load a name on first use (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    with _no_fork:
        from importlib import import_module

        value: object = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return __all__
