"""
All faults: `python -m tests.faults`, or `make faults`.

The tests of this folder, and those elsewhere that kill, run in full, in several processes at once: one for each test and verb, and
one for each module without verbs. At the end there is a table of the faults that have happened, and
the exit status is 1 if a test has failed. `--jobs` is how many processes run at once, by default
two for each processor, since many wait for the kernel; `-k` chooses tests, as in pytest.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from tests.faults import figures
from tests.faults.verbs import LAUNCHES, VERBS

FOLDER = Path(__file__).parent
PLACES = (
    FOLDER,
    FOLDER.parent / "image/test_killed_image_commands.py",
    FOLDER.parent / "packaging/test_killed_setup.py",
    FOLDER.parent / "sandbox/test_killed_programs.py",
)
PYTEST = (sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider")

Jobs = dict[str, list[str]]


def main() -> int:
    """Run them all, and print what has happened."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults")
    parser.add_argument("--jobs", type=int, default=2 * (os.cpu_count() or 1))
    parser.add_argument("-k", dest="chosen", default="", help="which tests, as in pytest")
    chosen = parser.parse_args()
    began, failed = time.monotonic(), []
    with tempfile.TemporaryDirectory(prefix="pycontain-faults.") as folder:
        path = Path(folder, "figures")
        path.touch()
        jobs = divided(collected(chosen.chosen))
        print(f"{sum(map(len, jobs.values()))} tests in {len(jobs)} processes", flush=True)
        with ThreadPoolExecutor(chosen.jobs) as pool:
            waiting = {pool.submit(ran, jobs[name], path): name for name in jobs}
            for done in as_completed(waiting):
                status, seconds, said = done.result()
                print(f"{waiting[done]:64} {last_line(said)}", flush=True)
                if status:
                    failed.append(waiting[done])
                    print(said, flush=True)
        print(figures.table(path))
    minutes = (time.monotonic() - began) / 60
    print(f"{len(jobs)} processes in {minutes:.1f} minutes, {len(failed)} failed: {failed}")
    return int(bool(failed) or not jobs)


def collected(chosen: str) -> list[str]:
    """The names of the tests, as pytest takes them."""
    words = [*PYTEST, "--collect-only", *map(str, PLACES), *(["-k", chosen] if chosen else [])]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    return [line for line in done.stdout.splitlines() if "::" in line]


def divided(tests: list[str]) -> Jobs:
    """The tests of each process; those that take long come first."""
    jobs: Jobs = {}
    for test in tests:
        module, _, name = test.partition("::")
        verb = verb_of(test)
        job = f"{name.partition('[')[0]} [{verb}]" if verb else Path(module).name
        jobs.setdefault(job, []).append(test)
    order = ("", *LAUNCHES, *VERBS)
    return dict(sorted(jobs.items(), key=lambda job: order.index(verb_of(job[1][0]))))


def verb_of(test: str) -> str:
    """The verb whose calls a test tries, "" for the tests of a module without verbs."""
    if not test.partition("::")[0].endswith(("test_calls.py", "test_killed.py")):
        return ""
    parameters = test.partition("[")[2].rstrip("]")
    return next(verb for verb in VERBS if f"{parameters}-".startswith(f"{verb}-"))


def ran(tests: list[str], path: Path) -> tuple[int, float, str]:
    """(exit status, seconds, output) of these tests in a process."""
    began = time.monotonic()
    environment = {**os.environ, "PYCONTAIN_FAULTS": "full", figures.VARIABLE: str(path)}
    done = subprocess.run(
        [*PYTEST, *tests],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    return done.returncode, time.monotonic() - began, done.stdout


def last_line(output: str) -> str:
    """The last line of an output that has one."""
    return next((line for line in reversed(output.splitlines()) if line.strip()), "")


if __name__ == "__main__":
    sys.exit(main())
