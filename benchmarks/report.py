"""The results as a table, as JSON and as a chart."""

from __future__ import annotations

import json
import os
import platform
import statistics
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from .measure import Sample

FOLDER = Path("build/bench")
_COLUMNS = ("workload", "what", "against", "measure", "at most", "ratio")


class Budget(NamedTuple):
    """
    An upper limit on the ratio of the measure of `what` to that of its peer.

    Without a peer the limit is in milliseconds.
    """

    workload: str
    what: str
    peer: str
    measure: str
    limit: float


BUDGETS = (
    Budget("small", "library, to exit", "crun run", "wall", 0.5),
    Budget("small", "pycontain run", "runc run", "cpu", 0.85),
    Budget("small", "pycontain run", "runc run", "wall", 0.85),
    Budget("small", "pycontain run", "runc run", "memory", 1.0),
    Budget("as Podman's", "pycontain run", "runc run", "cpu", 1.0),
    Budget("as Podman's", "pycontain run", "runc run", "wall", 1.0),
    *(
        Budget("verbs", verb, "bare python3", measure, 1.5)
        for verb in ("state", "kill", "delete")
        for measure in ("cpu", "wall")
    ),
    Budget("snippet", "Pool", "python3 -c pass", "wall", 0.3),
    Budget("snippet", "Sandbox, cold", "python3 -c pass", "wall", 1.5),
    Budget("exec", "pycontain exec", "runc exec", "wall", 1.0),
    Budget("VM, fresh process", "tiny, kvm", "python3 -c pass", "wall", 1.8),
    Budget("VM, fresh process", "hello, kvm", "python3 -c pass", "wall", 3.5),
    Budget("VM, warm process", "tiny, kvm", "", "wall", 5),
    Budget("loop", "kvm", "native", "wall", 1.05),
    Budget("sha256sum of 30 MB", "kvm", "native", "wall", 1.5),
)


class Series:
    """All runs of one subject; memory is its peak in KiB, None where it is not measured."""

    def __init__(self, samples: list[Sample], memory: int | None) -> None:
        self.samples = samples
        self.memory = memory

    def values(self, measure: str) -> list[float]:
        """Milliseconds in the order of the runs, or the one number of KiB."""
        if measure == "memory":
            return [self.memory] if self.memory else []
        return [getattr(sample, measure) for sample in self.samples]

    def summary(self) -> dict[str, object]:
        """Of both times median, minimum, quartiles and p99; the runs and the peak memory."""
        parts = {name: _summary(self.values(name)) for name in ("wall", "cpu")}
        return {"runs": len(self.samples), "memory_kib": self.memory, **parts}


Results = dict[str, dict[str, Series]]  # workload -> subject -> its runs


def _summary(values: list[float]) -> dict[str, float]:
    low, middle, high = statistics.quantiles(values, n=4)
    late = sorted(values)[-1 - len(values) // 100]  # the largest of fewer than a hundred
    return {
        "median": middle, "minimum": min(values), "quartile1": low, "quartile3": high, "p99": late,
    }  # fmt: skip


def ratio(results: Results, budget: Budget) -> float | None:
    """The median of the ratios of neighbouring runs, None when one side was not measured."""
    subjects = results.get(budget.workload, {})
    if budget.what not in subjects or budget.peer not in {*subjects, ""}:
        return None
    ours = subjects[budget.what].values(budget.measure)
    if not budget.peer:
        return statistics.median(ours)
    theirs = subjects[budget.peer].values(budget.measure)
    pairs = [mine / other for mine, other in zip(ours, theirs, strict=False)]
    return statistics.median(pairs) if pairs else None


def show(results: Results, skipped: dict[str, str]) -> None:
    """Print the tables."""
    console = Console()
    for workload, subjects in results.items():
        table = Table(title=f"{workload}, medians (quartiles) in ms", title_justify="left")
        for heading in ("", "runs", "wall", "p99", "CPU", "peak memory, KiB"):
            table.add_column(heading, justify="right" if heading else "left")
        for name, series in subjects.items():
            wall, cpu = (_summary(series.values(measure)) for measure in ("wall", "cpu"))
            times = _shown(wall), f"{wall['p99']:.4g}", _shown(cpu)
            table.add_row(name, str(len(series.samples)), *times, str(series.memory or "-"))
        console.print(table)
    table = Table(title="budgets: ratios of neighbouring runs, medians", title_justify="left")
    for heading in _COLUMNS:
        table.add_column(heading)
    for budget in BUDGETS:
        found = ratio(results, budget)
        colour = "dim" if found is None else "green" if found <= budget.limit else "red"
        value = f"[{colour}]{'-' if found is None else f'{found:.2f}'}[/]"
        table.add_row(*budget[:4], f"{budget.limit:g}", value)
    console.print(table)
    for name, why in skipped.items():
        console.print(f"skipped: {name}: {why}", markup=False, highlight=False)


def _shown(summary: dict[str, float]) -> str:
    low, high = summary["quartile1"], summary["quartile3"]
    return f"{summary['median']:.4g} ({low:.4g} to {high:.4g})"


def missed(results: Results) -> list[Budget]:
    """The budgets that were measured and exceeded."""
    found = ((budget, ratio(results, budget)) for budget in BUDGETS)
    return [budget for budget, value in found if value is not None and value > budget.limit]


def save(results: Results, skipped: dict[str, str]) -> list[Path]:
    """Write results.json and chart.svg; returns their paths."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    record = {
        "host": {"kernel": platform.release(), "cpus": os.cpu_count(), "load": os.getloadavg()},
        "results": {
            workload: {name: series.summary() for name, series in subjects.items()}
            for workload, subjects in results.items()
        },
        "budgets": [
            dict(zip(_COLUMNS, (*budget, ratio(results, budget)), strict=True))
            for budget in BUDGETS
        ],
        "skipped": skipped,
    }
    (FOLDER / "results.json").write_text(json.dumps(record, indent=2) + "\n")
    _draw(results, FOLDER / "chart.svg")
    return [FOLDER / "results.json", FOLDER / "chart.svg"]


def _draw(results: Results, path: Path) -> None:
    """A bar for each subject: the medians of its wall and CPU time, and their quartiles."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    figure, rows = pyplot.subplots(len(results), 2, figsize=(10, 2.6 * len(results)), squeeze=False)
    for (workload, subjects), row in zip(results.items(), rows, strict=True):
        for axes, measure in zip(row, ("wall", "cpu"), strict=True):
            found = [_summary(series.values(measure)) for series in subjects.values()]
            medians = [one["median"] for one in found]
            below = [one["median"] - one["quartile1"] for one in found]
            above = [one["quartile3"] - one["median"] for one in found]
            axes.barh(list(subjects), medians, xerr=(below, above), capsize=3)
            axes.invert_yaxis()
            axes.set_title(f"{workload}: {'CPU' if measure == 'cpu' else measure} time, ms")
    figure.tight_layout()
    figure.savefig(path)
