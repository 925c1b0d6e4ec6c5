"""Every hostile snippet ends with its reason, in a sandbox and in a pool; the page lists them."""

from __future__ import annotations

import time

import pytest

import pycontain
from tests.sandbox.conftest import processes
from tests.sandbox.snippets import PAGE, SNIPPETS, Snippet, page

pytestmark = pytest.mark.needs_root

every_snippet = pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.name)


def check(snippet: Snippet, result: pycontain.SandboxResult) -> None:
    assert result.reason in snippet.reasons, result
    assert len(result.stdout) + len(result.stderr) <= 1 << 20
    if result.reason not in ("exit", "signal"):
        assert result.reason in result.hits
    end = time.monotonic() + 5
    while (left := processes()) and time.monotonic() < end:
        time.sleep(0.02)
    assert not left, "a process has survived"


@every_snippet
def test_a_hostile_snippet_is_contained_in_a_sandbox(snippet: Snippet) -> None:
    with pycontain.Sandbox(**{"timeout": 20, **snippet.limits}) as box:
        check(snippet, box.run_python(snippet.code))
        assert box.run_python("1 + 1", timeout=20).value == 2 or "disk" in snippet.reasons


@every_snippet
def test_a_hostile_snippet_is_contained_in_a_pool(snippet: Snippet) -> None:
    with pycontain.Pool(1, **{"timeout": 20, **snippet.limits}) as pool:
        result = pool.run(snippet.code)
        assert pool.run("1 + 1", timeout=20).value == 2, "the next run is not affected"
    check(snippet, result)


def test_the_page_is_current() -> None:
    assert PAGE.read_text() == page(), "run python -m tests.sandbox.snippets"
