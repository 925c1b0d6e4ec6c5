"""The machine's serial console: read all the time, kept for errors, watched for the boot's end."""

import re
import subprocess
import threading
from collections import deque

READY = "pycontain-lab: ready"
"""What the image's last unit writes to the console."""

FAILURES = (
    "Kernel panic",
    "initrd:",
    "You are in emergency mode",
    "Cannot open access to console",
)
"""Lines after which the ready line can't come."""

KEPT = 200
"""Lines kept; error messages include the last of them."""

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>c]|[\x00-\x08\x0b-\x1f]")


class Console:
    """Collects a process's output in its own thread, so that the process never blocks."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._changed = threading.Condition()
        self._ready = False
        self._failed = False
        self._closed = False
        threading.Thread(target=self._read, daemon=True).start()

    def wait(self, limit: float) -> str:
        """Waits for the end of the boot: "ready", "failed", "closed" (QEMU exited) or "hang"."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._failed or self._closed, limit)
            if self._ready:
                return "ready"
            if self._failed:
                # the lines that follow explain it; QEMU exits by itself after a panic
                self._changed.wait_for(lambda: self._closed, 3.0)
                return "failed"
            return "closed" if self._closed else "hang"

    def settle(self, limit: float = 3.0) -> bool:
        """Waits briefly for QEMU to exit; true when it has."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, limit)

    def last(self) -> list[str]:
        """The kept lines, without escape sequences and blank lines."""
        with self._changed:
            return list(self._lines)

    def holds(self, text: str) -> bool:
        """Whether a kept line contains the text."""
        return any(text in line for line in self.last())

    def _read(self) -> None:
        assert self._process.stdout is not None
        for raw in self._process.stdout:
            self._take(_CONTROL.sub("", raw.decode("utf-8", "replace")).strip())
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _take(self, line: str) -> None:
        if not line:
            return
        with self._changed:
            self._lines.append(line)
            self._ready = self._ready or READY in line
            self._failed = self._failed or any(sign in line for sign in FAILURES)
            self._changed.notify_all()
