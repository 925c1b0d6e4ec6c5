"""What `pycontain compare` measures, interleaved, and what a program sees in each environment."""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile

from ..errors import HostError, ProgramError, UsageError
from ..lean.record import Record
from ..vm.caps import assistance
from . import calls
from .environments import alone, walls
from .measure import run

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .environments import Wall
    from .measure import Run

    Progress = Callable[[int, int, str], object]

_FILE_SIZE = 4_000_000
_CALLS = 2000  # of each, read() and write()
_TURNS = 60_000  # of a loop in awk
_REACHES = "host's kernel is asked for"


class Figure(Record):
    """
    One quantity in one environment: the median of the runs.

    spread  the range from minimum to maximum, as a fraction of the median
    """

    median: float
    spread: float


class Column(Record):
    """
    One environment.

    figures  quantity -> its measurement, in the unit from QUANTITIES
    sees     question -> what the program sees
    missing  why there are no figures, or ""
    calls    system calls of the host's kernel on behalf of the program -> how often; with strace
    allowed  how many of them the environment lets through
    """

    name: str
    figures: dict[str, Figure]
    sees: dict[str, str]
    missing: str = ""
    calls: dict[str, int] = {}
    allowed: int = 0


class Comparison(Record):
    """The whole table. engine is what /dev/kvm is based on."""

    program: tuple[str, ...]
    runs: int
    engine: str
    columns: tuple[Column, ...]

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {
            **self.fields(),
            "program": list(self.program),
            "units": dict(QUANTITIES),
            "columns": [
                {
                    **column.fields(),
                    "figures": {name: each.fields() for name, each in column.figures.items()},
                }
                for column in self.columns
            ],
        }


# what is measured -> its unit
QUANTITIES = {
    "first output": "ms",
    "exit": "ms",
    "CPU-bound loop": "ms",
    "system call": "us",
    "memory": "MiB",
    "of it the program": "MiB",
}


def compare(
    program: Sequence[str] = (), runs: int = 5, progress: Progress | None = None
) -> Comparison:
    """
    Run a static program in every environment, `runs` times, interleaved.

    Without a program, busybox computes the SHA-256 of a file of 4 MB. progress is called with the
    number of finished runs, their total number, and what comes next.

    Raises UsageError for an invalid number of runs, HostError without busybox, which the small
    measurements need, ProgramError when the program cannot be run natively or behaves differently
    in another environment.
    """
    if not 1 <= runs <= 1000:
        raise UsageError("is not 1 to 1000", at="--runs", value=str(runs))
    busybox = shutil.which("busybox")
    if not busybox:
        raise HostError("is not installed", at="busybox", remedy="apt install busybox-static")
    with tempfile.TemporaryDirectory(prefix="pycontain-compare-") as directory:
        bundle = f"{directory}/bundle"
        os.mkdir(bundle)
        program = list(program) or _default(busybox, directory)
        ways = walls(bundle)
        samples = _measure(ways, _jobs(busybox, program), runs, progress or _silent)
        columns = tuple(_column(way, samples.get(way.name), busybox, program) for way in ways)
    return Comparison(program=tuple(program), runs=runs, engine=assistance().kind, columns=columns)


def _silent(done: int, total: int, what: str) -> None:
    pass


def _default(busybox: str, directory: str) -> list[str]:
    path = f"{directory}/data"
    with open(path, "wb") as file:
        file.write(os.urandom(_FILE_SIZE))
    return [busybox, "sha256sum", path]


def _jobs(busybox: str, program: Sequence[str]) -> dict[str, Sequence[str]]:
    """What is run in each environment: the program, and three small ones for the costs."""
    dd = [busybox, "dd", "if=/dev/zero", "bs=1", f"count={_CALLS}"]
    loop = f"BEGIN {{ for (i = 0; i < {_TURNS}; i++) sum += i; print sum }}"
    return {
        "program": program,
        "nothing": [busybox, "true"],
        "calls": dd,
        "loop": [busybox, "awk", loop],
    }


def _measure(
    ways: Sequence[Wall], jobs: dict[str, Sequence[str]], runs: int, progress: Progress
) -> dict[str, dict[str, list[Run]]]:
    """Environment -> job -> its runs; interleaved, so that load on the host affects all alike."""
    present = [way for way in ways if not way.missing]
    samples: dict[str, dict[str, list[Run]]] = {
        way.name: {job: [] for job in jobs} for way in present
    }
    total, done = runs * len(present) * len(jobs), 0
    for _ in range(runs):
        for job, program in jobs.items():
            for way in present:
                progress(done, total, f"{way.name}: {job}")
                samples[way.name][job].append(_sample(way, job, program, samples))
                done += 1
    progress(total, total, "")
    return samples


def _sample(
    way: Wall, job: str, program: Sequence[str], samples: dict[str, dict[str, list[Run]]]
) -> Run:
    result = run(way.command(program), program)
    reference = samples["native"][job][0] if samples["native"][job] else result
    same = result.output == reference.output or job == "calls"  # dd prints its speed
    if result.status != reference.status or not same:
        shown = result.output[-200:].decode(errors="replace").strip().replace("\n", " | ")
        raise ProgramError(
            f"behaves differently than natively: status {result.status}, output {shown}",
            at=f"{program[0]} ({way.name})",
        )
    return result


def _column(
    way: Wall, jobs: dict[str, list[Run]] | None, busybox: str, program: Sequence[str]
) -> Column:
    if jobs is None:
        return Column(name=way.name, figures={}, sees={}, missing=way.missing)
    base = statistics.median(one.seconds for one in jobs["nothing"])
    main = jobs["program"]
    values = {
        "first output": [one.first_output * 1e3 for one in main],
        "exit": [one.seconds * 1e3 for one in main],
        "CPU-bound loop": [max(one.seconds - base, 0) * 1e3 for one in jobs["loop"]],
        "system call": [max(one.seconds - base, 0) * 1e6 / 2 / _CALLS for one in jobs["calls"]],
        "memory": [one.memory / 2**20 for one in main],
        "of it the program": [one.program / 2**20 for one in main],
    }
    figures = {name: _figure(samples) for name, samples in values.items()}
    engine = {"vm": "kvm", "emulated": "emulate"}.get(way.name, "")
    made = calls.made(alone(engine, program) if engine else program, monitored=bool(engine))
    allowed = calls.allowed(monitored=bool(engine))
    total = f"{len(made)} kinds, {sum(made.values())} calls" if made else "not counted"
    sees = {**_sees(way, busybox), _REACHES: f"{total}; {allowed} kinds allowed"}
    return Column(name=way.name, figures=figures, sees=sees, calls=made, allowed=allowed)


def _figure(values: list[float]) -> Figure:
    middle = statistics.median(values)
    spread = (max(values) - min(values)) / middle if middle else 0.0
    return Figure(median=round(middle, 3), spread=round(spread, 3))


def _sees(way: Wall, busybox: str) -> dict[str, str]:
    """What busybox finds out in an environment."""

    def ask(*words: str) -> str:
        return run(way.command([busybox, *words]), [busybox]).output.decode(errors="replace")

    processor = ask("grep", "-m1", "model name", "/proc/cpuinfo")
    mounts = ask("cat", "/proc/mounts")
    return {
        "kernel": ask("uname", "-sr").strip(),
        "pid": ask("sh", "-c", "echo $$").strip(),
        "mounts": str(mounts.count("\n")) if mounts.startswith(("/", "proc", "none")) else "none",
        "CPU": processor.partition(":")[2].strip() if "\t: " in processor else "hidden",
    }
