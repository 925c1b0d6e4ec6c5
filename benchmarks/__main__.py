"""
Compare pycontain with its peers: `python -m benchmarks`, as root.

All subjects of a workload take turns, so that load on the host affects each of them, and ratios
are those of neighbouring runs. Times are not checked against the budgets unless --check is given,
which needs an idle machine.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

from rich.progress import track

from . import report, snippets, subjects, vm, workloads
from .measure import TIME, Sample, Subject
from .report import Results, Series


def main() -> int:
    """Measure and report; returns the exit status."""
    options = _options()
    if os.geteuid() != 0:
        print("benchmarks: needs root, because containers do", file=sys.stderr)
        return 2
    subjects.enter_usual_host()
    skipped = dict.fromkeys(subjects.missing(), "is not installed")
    if TIME is None:
        skipped["peak memory"] = "time(1) is not installed"
    with tempfile.TemporaryDirectory(prefix="pycontain-bench.") as folder:
        results = _measure(folder, options.runs, skipped)
    report.show(results, skipped)
    for path in report.save(results, skipped):
        print(path)
    missed = report.missed(results) if options.check else []
    for budget in missed:
        print(f"over budget: {budget.workload}: {budget.what}, {budget.measure}", file=sys.stderr)
    return 1 if missed else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=main.__doc__)
    parser.add_argument("--runs", type=int, default=60, help="rounds of each workload (60)")
    parser.add_argument("--check", action="store_true", help="exit 1 when a budget is exceeded")
    return parser.parse_args()


def _measure(folder: str, runs: int, skipped: dict[str, str]) -> Results:
    root = workloads.rootfs()
    args = workloads.PROGRAM
    small = workloads.write(f"{folder}/small", workloads.small(root, args))
    large = f"{folder}/large"
    workloads.write(large, workloads.podmans(root, large, args))
    isolated = [*subjects.runs(small), *subjects.bubblewrap(root), *subjects.library(small)]
    results = {
        "small": _take_turns("small", [subjects.bare(), *isolated], runs, skipped),
        "as Podman's": _take_turns("as Podman's", subjects.runs(large), runs, skipped),
    }
    with subjects.Verbs(small) as verbs:
        results["verbs"] = _take_turns("verbs", [subjects.bare(), *verbs], runs, skipped)
    asleep = workloads.write(f"{folder}/asleep", workloads.small(root, ["/bin/sleep", "3600"]))
    with subjects.Inside(asleep) as programs:
        results["exec"] = _take_turns("exec", programs, runs, skipped)
    with snippets.Snippets() as kinds:
        results["snippet"] = _take_turns("snippet", kinds, runs, skipped)
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        skipped["virtual machines"] = "/dev/kvm is not accessible"
        return results
    fewer = max(3, runs // 8)  # an emulated loop takes seconds
    for workload, wanted in vm.subjects(folder).items():
        results[workload] = _take_turns(workload, wanted, fewer, skipped)
    return results


def _take_turns(
    workload: str, wanted: list[Subject], runs: int, skipped: dict[str, str]
) -> dict[str, Series]:
    """Run the subjects that work here in turn; the others are added to skipped, with the reason."""
    usable = []
    for subject in wanted:
        if failure := subject.failure():
            skipped[f"{subject.name} ({workload})"] = failure
        else:
            usable.append(subject)
    samples: dict[str, list[Sample]] = {subject.name: [] for subject in usable}
    for _ in track(range(runs), description=workload, transient=True):
        for subject in usable:
            samples[subject.name].append(subject.sample())
    return {
        subject.name: Series(samples[subject.name], subject.peak_memory()) for subject in usable
    }


if __name__ == "__main__":
    sys.exit(main())
