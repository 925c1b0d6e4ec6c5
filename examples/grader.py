"""
Grade student programs: each reads a case from standard input and prints an answer.

    python examples/grader.py submissions/ cases.json report.html

submissions/ has one Python file for each student; cases.json is a list of {"input", "expected"}.
Every program runs once for each case, in an interpreter of its own: what one does, loops, forks,
floods or fills, concerns no other, and the report says which limit ended it.
"""

from __future__ import annotations

import html
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pycontain

AT_ONCE = 2  # runs
PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Grades</title>
<style>
  body {{ font: 1rem/1.5 system-ui; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }}
  table {{ border-collapse: collapse; width: 100%; }}
  td, th {{ border-bottom: 1px solid #ccc; padding: .3rem; text-align: left; }}
  td:last-child {{ overflow-wrap: anywhere; }}
</style>
<h1>Grades</h1>
<p>{summary}</p>
<table><tr><th>program</th><th>passed</th><th>first failure</th></tr>
{rows}
</table></html>
"""


class Grade(NamedTuple):
    """How a program did."""

    name: str
    passed: int
    cases: int
    failure: str


def grade(pool: pycontain.Pool, program: Path, cases: list[dict[str, str]]) -> Grade:
    """Run a program with the input of each case."""
    code = program.read_bytes()
    passed, failure = 0, ""
    for number, case in enumerate(cases, 1):
        result = pool.run(code, stdin=case["input"].encode())
        answer = result.text.strip()
        if result.ok and answer == case["expected"].strip():
            passed += 1
        elif not failure:
            failure = f"case {number}: {_why(result, answer)}"
    return Grade(program.stem, passed, len(cases), failure)


def _why(result: pycontain.SandboxResult, answer: str) -> str:
    if result.reason != "exit":
        return f"ended by {result.reason}"
    return result.error or (f"printed {answer[:80]!r}" if result.ok else f"status {result.status}")


def report(grades: list[Grade], seconds: float) -> str:
    """The page with all grades."""
    rows = "\n".join(
        f"<tr><td>{html.escape(each.name)}</td><td>{each.passed}/{each.cases}</td>"
        f"<td>{html.escape(each.failure)}</td></tr>"
        for each in grades
    )
    runs = sum(each.cases for each in grades)
    summary = f"{len(grades)} programs, {runs} runs, {seconds:.1f} s"
    return PAGE.format(summary=summary, rows=rows)


def main(submissions: str, cases: str, page: str) -> None:
    """Grade every program of a directory, and write the report."""
    began = time.monotonic()
    wanted = json.loads(Path(cases).read_text())
    programs = sorted(Path(submissions).glob("*.py"))
    limits = {"memory": "128M", "pids": 16, "disk": "8M", "timeout": 2, "output": "64K"}
    with pycontain.Pool(AT_ONCE, **limits) as pool, ThreadPoolExecutor(AT_ONCE) as threads:
        grades = list(threads.map(lambda program: grade(pool, program, wanted), programs))
    Path(page).write_text(report(grades, time.monotonic() - began))
    right = sum(each.passed == each.cases for each in grades)
    print(f"{right} of {len(grades)} programs passed every case: {page}")


if __name__ == "__main__":
    main(*sys.argv[1:])
