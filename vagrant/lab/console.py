"""The machine's serial console: always read, kept for messages, watched for the end of a wait."""

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
"""Lines that mean that the ready line won't come."""

KEPT = 200
"""Lines kept; the last of them go into messages."""

_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>c]|[\x00-\x08\x0b-\x1f]")


class Console:
    """Collects what a process writes, in a thread of its own, so that it never blocks."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process
        self._lines: deque[str] = deque(maxlen=KEPT)
        self._changed = threading.Condition()
        self._ready = False
        self._failed = False
        self._closed = False
        threading.Thread(target=self._read, daemon=True).start()

    def wait(self, limit: float) -> str:
        """Waits for the end of the boot: "ready", "failed", "closed" (QEMU ended) or "hang"."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._failed or self._closed, limit)
            if self._ready:
                return "ready"
            if self._failed:
                # the lines that follow say why; QEMU ends by itself after a panic
                self._changed.wait_for(lambda: self._closed, 3.0)
                return "failed"
            return "closed" if self._closed else "hang"

    def settle(self, limit: float = 3.0) -> bool:
        """Waits for QEMU's end for a moment; true when it ended."""
        with self._changed:
            return self._changed.wait_for(lambda: self._closed, limit)

    def last(self) -> list[str]:
        """The console's lines so far, without escape sequences and blanks."""
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
