"""
What ran: to the logger "pycontain", and on request as lines of JSON in a file.

    {"time": "2026-01-31T12:00:00+00:00", "kind": "pool", "what": "print(1)", "status": 0,
     "reason": "exit", "signal": 0, "wall": 0.002, "cpu_time": 0.001, "memory_peak": 9000000,
     "hits": [], "stdout": 2, "stderr": 0, "error": ""}

The outputs are counted, not kept; `what` is the code or the command, up to a thousand characters.
"""

from __future__ import annotations

import datetime
import json
import logging
import os

from ..errors import Interrupted, KernelError
from ..kernel import safe_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .result import SandboxResult

LOGGER = logging.getLogger("pycontain")
LOGGER.addHandler(logging.NullHandler())
_SHOWN = 1000  # characters
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK | os.O_NOCTTY


def noted(
    kind: str, what: bytes, result: SandboxResult, file: str | os.PathLike[str] | None
) -> SandboxResult:
    """
    Log a run; text from the sandbox is quoted, so that it cannot forge lines.

    Raises Interrupted instead of returning the result if the caller had it ended.
    """
    LOGGER.info("%s ended: %s, status %d, %.3f s", kind, result.reason, result.status, result.wall)
    if file is not None:
        _append(kind, what, result, file)
    if result.reason == "cancelled":
        raise Interrupted("was cancelled", at="the run")
    return result


def _append(kind: str, what: bytes, result: SandboxResult, file: str | os.PathLike[str]) -> None:
    entry = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(),
        "kind": kind,
        "what": what[: 4 * _SHOWN].decode(errors="replace")[:_SHOWN],
        **{
            name: getattr(result, name)
            for name in (
                "status",
                "reason",
                "signal",
                "wall",
                "cpu_time",
                "memory_peak",
                "hits",
                "error",
            )
        },
        "stdout": len(result.stdout),
        "stderr": len(result.stderr),
    }
    line = json.dumps(entry) + "\n"
    try:
        fd = safe_path.open_named(os.path.abspath(file), _FLAGS, 0o600)
    except OSError as error:
        raise KernelError.of("open", error.errno or 0, at=f"record {os.fspath(file)}") from None
    try:
        os.write(fd, line.encode())  # in one call: lines of several threads do not mix
    except BlockingIOError:
        pass  # a FIFO whose reader is too slow
    finally:
        os.close(fd)
