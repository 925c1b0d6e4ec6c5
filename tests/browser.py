"""
A headless browser: Debian's chromium-headless-shell, driven through its DevTools pipe.

The browser reads commands from descriptor 3 and answers on 4, JSON objects ended by a zero byte.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
from contextlib import contextmanager
from itertools import count
from pathlib import Path

PROGRAM = "chromium-headless-shell"
LIMIT = 60.0

LOOK = """
JSON.stringify({
    title: document.title,
    charts: [...document.querySelectorAll("svg")].map(e => {
        const box = e.getBoundingClientRect();
        return [Math.round(box.width), Math.round(box.height), e.querySelectorAll("path").length];
    }),
    tables: [...document.querySelectorAll("table")].map(e => e.innerText),
    overflows: document.documentElement.scrollWidth > document.documentElement.clientWidth,
    fetched: performance.getEntriesByType("resource").map(e => e.name),
})
"""


def look(page: Path, profile: Path) -> tuple[dict[str, object], bytes]:
    """What a page shows (LOOK, and the messages of its console), and a picture of it, a PNG."""
    with browser(profile) as tab:
        seen = tab.look(page)
        picture = tab.ask("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        return seen, base64.b64decode(picture)


class Tab:
    """One page of a browser."""

    def __init__(self, commands: int, answers: int, width: int) -> None:
        self.commands = commands
        self.answers = answers
        self.rest = b""
        self.events: list[str] = []
        self.session: dict[str, str] = {}
        self.numbers = count(1)
        target = self.ask("Target.createTarget", url="about:blank", width=width, height=2200)
        attached = self.ask("Target.attachToTarget", flatten=True, **target)
        self.session = {"sessionId": attached["sessionId"]}
        self.ask("Runtime.enable")
        self.ask("Page.enable")

    def look(self, page: Path) -> dict[str, object]:
        """What a page shows: LOOK, and the messages of its console."""
        self.events.clear()
        self.ask("Page.navigate", url=page.as_uri())
        self.wait("Page.loadEventFired")
        seen = json.loads(self.ask("Runtime.evaluate", expression=LOOK)["result"]["value"])
        seen["messages"] = [event for event in self.events if event == "Runtime.consoleAPICalled"]
        return seen

    def ask(self, method: str, **values: object) -> dict[str, object]:
        """The answer to a command."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": values, **self.session}
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def wait(self, event: str) -> None:
        """Wait for an event, unless it has already arrived."""
        while event not in self.events:
            self._next()

    def _next(self) -> dict[str, object]:
        while b"\0" not in self.rest:
            piece = os.read(self.answers, 1 << 16)
            assert piece, "the browser has ended"
            self.rest += piece
        text, _, self.rest = self.rest.partition(b"\0")
        message = json.loads(text)
        if "method" in message:
            self.events.append(message["method"])
        return message


@contextmanager
def browser(profile: Path, width: int = 1000):
    """A browser with one tab of this width; the profile is a folder of its own."""
    to_read, commands = os.pipe()
    answers, to_write = os.pipe()
    # two steps, because one of the pipes may be 3 or 4 itself
    shell = f'exec "$@" 13<&{to_read} 14>&{to_write} 3<&13 4>&14'
    words = [PROGRAM, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    words += ["--no-sandbox", "--disable-gpu"]  # root has no sandbox; the page is our own
    with (profile.parent / "browser.log").open("w") as log:
        process = subprocess.Popen(
            ["timeout", str(LIMIT), "bash", "-c", shell, "bash", *words],
            pass_fds=[to_read, to_write], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    os.close(to_read)
    os.close(to_write)
    try:
        yield Tab(commands, answers, width)
    finally:
        process.terminate()
        process.wait()
        os.close(commands)
        os.close(answers)
