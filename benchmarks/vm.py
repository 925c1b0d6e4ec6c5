"""Virtual machines and their alternatives: native, container, KVM, emulator, qemu-user."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator

from pycontain import vm
from pycontain.compare.environments import walls

from .measure import Subject
from .subjects import BARE, PYCONTAIN

BUSYBOX = shutil.which("busybox") or "/bin/busybox"
_RUN = [PYCONTAIN, "vm", "run", "--engine"]

HELLO = '#include <unistd.h>\nint main(void) { write(1, "hello\\n", 6); return 0; }\n'
# Programs that time a part of themselves and print the milliseconds.
_MEASURED = """
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include <sys/syscall.h>
int main(void) {
    struct timespec a, b;
    unsigned y = 1;
    clock_gettime(CLOCK_MONOTONIC, &a);
    %s
    clock_gettime(CLOCK_MONOTONIC, &b);
    printf("%%.9f\\n", ((b.tv_sec - a.tv_sec) * 1e3 + (b.tv_nsec - a.tv_nsec) / 1e6) / %d);
    return 0;
}
"""
CALLS = _MEASURED % ("for (int i = 0; i < 2000; i++) syscall(SYS_getppid);", 2000)
LOOP = _MEASURED % (
    'for (long i = 0; i < 300000000; i++) { y = y * 1103515245 + 12345; asm("" : "+r"(y)); }',
    1,
)


def subjects(folder: str) -> dict[str, list[Subject]]:
    """The workloads; folder is for their files. Needs gcc and a static busybox."""
    hello = _compiled(folder, "hello", HELLO)
    calls = _compiled(folder, "calls", CALLS)
    loop = _compiled(folder, "loop", LOOP)
    data = f"{folder}/data"
    with open(data, "wb") as file:
        file.write(os.urandom(30_000_000))
    return {
        "VM, fresh process": list(_fresh(hello)),
        "VM, warm process": list(_warm(hello)),
        "hello": list(_each(folder, hello)),
        "one system call": [_self_timed(subject) for subject in _each(folder, calls)],
        "loop": [_self_timed(subject) for subject in _each(folder, loop)],
        "sha256sum of 30 MB": list(_each(folder, BUSYBOX, "sha256sum", data)),
    }


def _fresh(hello: str) -> Iterator[Subject]:
    """From the start of Python to its exit."""
    yield Subject("python3 -c pass", [BARE, "-c", "pass"])
    for engine in _engines():
        yield Subject(f"tiny, {engine}", [*_RUN, engine, "tiny"])
    yield Subject("hello, kvm", [*_RUN, "kvm", "--", hello])


def _warm(hello: str) -> Iterator[Subject]:
    """Created, run and closed in this process."""
    tiny = vm.GUESTS["tiny"].image()
    yield Subject("tiny, kvm", act=lambda: vm.run_flat(tiny, vm.Capture(), vm.Hardware()))
    world = vm.World(stdout=vm.Capture(64))
    yield Subject("hello, kvm", act=lambda: vm.run_program([hello], world=world, engine="kvm"))


def _each(folder: str, *command: str) -> Iterator[Subject]:
    """The same program with each kind of isolation, in fresh processes; folder is for a bundle."""
    yield Subject("native", command)
    for wall in walls(tempfile.mkdtemp(dir=folder)):
        if wall.name == "container" and not wall.missing:
            yield Subject("container", wall.command(command))
    for engine in _engines():
        yield Subject(engine, [*_RUN, engine, "--root", "/", "--", *command])
    qemu = shutil.which("qemu-x86_64") or shutil.which("qemu-x86_64-static")
    if qemu:
        yield Subject("qemu-user", [qemu, *command])


def _self_timed(subject: Subject) -> Subject:
    """The milliseconds that a program prints, instead of those that it took."""
    return Subject(subject.name, act=_printed(list(subject.command)))


def _printed(command: list[str]) -> Callable[[], float]:
    return lambda: float(subprocess.run(command, check=True, capture_output=True).stdout)


def _engines() -> list[str]:
    try:
        import unicorn  # noqa: F401
    except ImportError:
        return ["kvm"]
    return ["kvm", "emulate"]


def _compiled(folder: str, name: str, text: str) -> str:
    path = f"{folder}/{name}"
    with open(f"{path}.c", "w") as file:
        file.write(text)
    subprocess.run(["gcc", "-O2", "-static", "-o", path, f"{path}.c"], check=True)
    return path
