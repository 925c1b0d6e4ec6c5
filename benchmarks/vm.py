"""
The VM module beside the alternatives: native, container, KVM, emulator, qemu-user.

    python -m benchmarks.vm [--runs N]

All variants of a row run interleaved in the same loop, so that a busy moment of the host hits
each of them; medians are compared as ratios. Needs gcc and a static busybox.
"""

from __future__ import annotations

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from pycontain import vm
from pycontain.compare.walls import walls

PYTHON = sys.executable
BUSYBOX = shutil.which("busybox") or "/bin/busybox"

HELLO = '#include <unistd.h>\nint main(void) { write(1, "hello\\n", 6); return 0; }\n'
CALLS = """
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
int main(void) {
    struct timespec a, b;
    clock_gettime(CLOCK_MONOTONIC, &a);
    for (int i = 0; i < 2000; i++) syscall(SYS_getppid);
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%.9f\\n", ((b.tv_sec - a.tv_sec) + (b.tv_nsec - a.tv_nsec) / 1e9) / 2000);
    return 0;
}
"""
LOOP = """
int main(void) {
    unsigned y = 1;
    for (long i = 0; i < 300000000; i++) { y = y * 1103515245 + 12345; asm("" : "+r"(y)); }
    return y == 0;
}
"""
TINY = """
from pycontain.vm.machine import Hardware, run_flat
from pycontain.vm.guests import GUESTS
run_flat(GUESTS["tiny"].image(), 1, Hardware(), engine="%s")
"""
PROGRAM = """
import sys
from pycontain.vm.program import run_program
sys.exit(run_program(sys.argv[2:], engine=sys.argv[1]).ending.status)
"""

Row = dict[str, Callable[[], object]]


def compile_c(folder: str, name: str, text: str) -> str:
    path = f"{folder}/{name}"
    with open(f"{path}.c", "w") as file:
        file.write(text)
    subprocess.run(["gcc", "-O2", "-static", "-o", path, f"{path}.c"], check=True)
    return path


def spawn(*command: str) -> Callable[[], object]:
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    return lambda: subprocess.run(command, check=True, capture_output=True, env=environment)


def told(action: Callable[[], object]) -> Callable[[], object]:
    """The seconds that a program prints, in the place of those that it took."""
    return lambda: float(action().stdout)


def inside(engine: str, *command: str) -> Callable[[], object]:
    """A run in this warm process."""
    return lambda: vm.run_program(
        command, world=vm.World(stdout=vm.Capture(64 << 20)), engine=engine
    )


def each(folder: str, *command: str) -> Row:
    """The same program behind each wall, in fresh processes; folder is for the bundle."""
    row = {"native": spawn(*command)}
    bundle = tempfile.mkdtemp(dir=folder)
    for wall in walls(bundle):
        if wall.name == "container" and not wall.missing:
            row["container"] = spawn(*wall.command(command))
    for engine in engines():
        row[engine] = spawn(PYTHON, "-c", PROGRAM, engine, *command)
    qemu = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if qemu:
        row["qemu-user"] = spawn(qemu, *command)
    return row


def engines() -> list[str]:
    try:
        import unicorn  # noqa: F401
    except ImportError:
        return ["kvm"]
    return ["kvm", "emulate"]


def measure(row: Row, runs: int) -> dict[str, list[float]]:
    """Seconds of each variant, interleaved, after one warm-up."""
    times: dict[str, list[float]] = {name: [] for name in row}
    for turn in range(runs + 1):
        for name, action in row.items():
            began = time.perf_counter()
            answer = action()
            seconds = answer if isinstance(answer, float) else time.perf_counter() - began
            if turn:
                times[name].append(seconds)
    return times


def show(title: str, times: dict[str, list[float]]) -> None:
    base = statistics.median(next(iter(times.values())))
    print(f"\n{title}")
    for name, values in times.items():
        middle = statistics.median(values)
        spread = (max(values) - min(values)) / middle
        unit = f"{middle * 1e6:12.2f} us" if base < 1e-4 else f"{middle * 1e3:12.2f} ms"
        print(f"  {name:14}{unit}   x {middle / base:7.2f}   spread {spread:4.0%}")


def rows(folder: str) -> list[tuple[str, Row]]:
    hello = compile_c(folder, "hello", HELLO)
    calls = compile_c(folder, "calls", CALLS)
    loop = compile_c(folder, "loop", LOOP)
    data = f"{folder}/data"
    with open(data, "wb") as file:
        file.write(os.urandom(30_000_000))
    tiny = vm.GUESTS["tiny"].image()
    start: Row = {"python -c pass": spawn(PYTHON, "-c", "pass")}
    start.update({f"tiny, {name}": spawn(PYTHON, "-c", TINY % name) for name in engines()})
    start["hello, kvm"] = spawn(PYTHON, "-c", PROGRAM, "kvm", hello)
    create: Row = {"tiny, kvm": lambda: vm.run_flat(tiny, vm.Capture(), vm.Hardware())}
    create["hello, kvm"] = inside("kvm", hello)
    return [
        ("fresh process to exit", start),
        ("create, run and close in a warm process", create),
        ("hello, static", each(folder, hello)),
        ("one system call", {name: told(call) for name, call in each(folder, calls).items()}),
        ("a loop of registers", each(folder, loop)),
        ("busybox sha256sum of 30 MB", each(folder, BUSYBOX, "sha256sum", data)),
    ]


def resident(engine: str) -> float:
    """Greatest resident memory of a fresh process that runs the tiny guest, in MiB."""
    code = (
        TINY % engine
        + """
import sys
for line in open("/proc/self/status"):
    if line.startswith("VmHWM"):
        print(line.split()[1], file=sys.stderr)
"""
    )
    done = subprocess.run(
        [PYTHON, "-c", code], check=True, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    return int(done.stderr) / 1024


def main() -> None:
    runs = int(sys.argv[sys.argv.index("--runs") + 1]) if "--runs" in sys.argv else 7
    kind = vm.capabilities().assistance.kind
    print(f"/dev/kvm: {kind}; {os.cpu_count()} processors; {runs} runs each, medians")
    with tempfile.TemporaryDirectory() as folder:
        for title, row in rows(folder):
            show(title, measure(row, runs))
    print("\nmemory of a virtual machine with its monitor")
    for engine in engines():
        print(f"  {engine:14}{resident(engine):12.1f} MiB")


if __name__ == "__main__":
    main()
