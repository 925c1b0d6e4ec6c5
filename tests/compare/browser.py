"""
A real browser without a screen: `python browser.py PAGE PICTURE` loads a page, prints what it
finds there as JSON, and takes a picture. Chromium, as QtWebEngine carries it.
"""

from __future__ import annotations

import json
import os
import sys

os.environ["QT_QPA_PLATFORM"] = "offscreen"
os.environ["QTWEBENGINE_DISABLE_SANDBOX"] = "1"  # root has none; the page is our own

from PyQt6.QtCore import QTimer, QUrl
from PyQt6.QtWebEngineCore import QWebEnginePage
from PyQt6.QtWebEngineWidgets import QWebEngineView
from PyQt6.QtWidgets import QApplication

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


class Page(QWebEnginePage):
    """A page that keeps what its console says."""

    messages: list[str] = []

    def javaScriptConsoleMessage(self, level, message, line, source):
        self.messages.append(message)


def main() -> None:
    application = QApplication(["browser"])
    view = QWebEngineView()
    page = Page(view)
    view.setPage(page)
    view.resize(1000, 2200)

    def report(answer: str) -> None:
        view.grab().save(sys.argv[2])
        sys.stdout.write(json.dumps({**json.loads(answer), "messages": page.messages}))
        application.quit()

    def loaded(_: bool) -> None:
        QTimer.singleShot(1000, lambda: page.runJavaScript(LOOK, report))

    view.loadFinished.connect(loaded)
    view.load(QUrl.fromLocalFile(os.path.abspath(sys.argv[1])))
    view.show()
    QTimer.singleShot(60_000, lambda: application.exit(1))
    sys.exit(application.exec())


if __name__ == "__main__":
    main()
