"""What `pycontain vm` does, without the command line: typed entry points that return data."""

from __future__ import annotations

import os

from ..errors import UsageError
from ..lean.record import Record
from .guests import GUESTS
from .trace import Stats, Trace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .caps import Capabilities
    from .view import Volume

_STDOUT = 1
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"  # not the caller's


class GuestOptions(Record):
    """
    The options of `pycontain vm run`.

    memory, cpus  0 for the guest's default
    timeout       seconds, or None for no limit
    disk          a raw disk image, for guests that are machines
    root          a directory that is the `/` of a program; "" shows it nothing but itself
    volumes       further files that a program is shown
    network       of a program: none, loopback or host
    environment   NAME=VALUE, added to a program's PATH
    trace         where a line for each exit goes, or None
    stats         filled in while the guest runs, so that it can be shown after an error too
    """

    memory: int = 0
    cpus: int = 0
    timeout: float | None = None
    engine: str = "kvm"
    disk: str = ""
    interactive: bool = False
    root: str = ""
    volumes: tuple[Volume, ...] = ()
    network: str = "none"
    environment: tuple[str, ...] = ()
    trace: Callable[[str], object] | None = None
    stats: Stats | None = None


class Report(Record):
    """
    How a run ended.

    why       "exit", "halt", "reset", "quit" or "signal"
    message   one sentence for the user when the program was killed, else ""
    unserved  system calls of a program that were answered with ENOSYS
    """

    engine: str
    why: str
    status: int
    seconds: float
    stats: Stats
    message: str = ""
    unserved: Mapping[str, int] = {}

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {**self.fields(), "stats": self.stats.record(), "unserved": dict(self.unserved)}


def caps() -> Capabilities:
    """What this host's KVM offers. Raises HostError where there is none."""
    from .caps import read

    return read()


def run_guest(guest: str, options: GuestOptions) -> Report:
    """
    Run a tiny guest by its name, or a flat binary by its file; its output goes to descriptor 1.

    Raises UsageError for an unknown guest, and what machine.run_flat() raises.
    """
    from .machine import MEMORY, Hardware, run_flat

    known = GUESTS.get(guest)
    if known and not known.emulated and options.engine == "emulate":
        raise UsageError(
            "needs interrupts or SYSCALL, which the emulator does not provide", at="guest",
            value=guest, remedy="use --engine kvm",
        )  # fmt: skip
    disk = _open(options.disk, os.O_RDWR, "--disk") if options.disk else -1
    try:
        hardware = Hardware(
            memory=options.memory or MEMORY,
            cpus=options.cpus or (known.cpus if known else 1),
            irqchip=known.irqchip if known else False,
            disk=disk,
            interactive=options.interactive,
        )
        result = run_flat(
            known.image() if known else _image(guest), _STDOUT, hardware,
            timeout=options.timeout, engine=options.engine, stats=options.stats,
            trace=Trace(options.trace) if options.trace else None,
        )  # fmt: skip
    finally:
        if disk >= 0:
            os.close(disk)
    return Report(
        engine=result.engine, why=result.ending.why, status=result.ending.status,
        seconds=result.seconds, stats=result.stats,
    )  # fmt: skip


def run_program(arguments: Sequence[str], options: GuestOptions) -> Report:
    """
    Run a program with this process's standard descriptors.

    Raises what program.run_program() raises, and UsageError for an invalid environment.
    """
    from . import program

    world = program.World(
        root=options.root,
        volumes=options.volumes,
        network=options.network,
        memory=options.memory or program.MEMORY,
    )
    result = program.run_program(
        arguments, environment(options.environment), world,
        timeout=options.timeout, engine=options.engine, stats=options.stats, trace=options.trace,
    )  # fmt: skip
    ending = result.ending
    return Report(
        engine=result.engine, why="signal" if ending.signal else "exit", status=ending.status,
        seconds=result.seconds, stats=result.stats, message=ending.fault, unserved=result.unserved,
    )  # fmt: skip


def environment(pairs: Sequence[str] = ()) -> list[str]:
    """
    The environment of a program: a fixed PATH and these variables, the last of each name.

    Raises UsageError for one that is not NAME=VALUE.
    """
    found = {}
    for pair in (_PATH, *pairs):
        name, equals, _ = pair.partition("=")
        if not name or not equals or "\0" in pair:
            raise UsageError("is not NAME=VALUE", at="--env", value=pair)
        found[name] = pair
    return list(found.values())


def rows(stats: Stats) -> list[str]:
    """The statistics as lines of text: exits by reason, and a machine's output rate."""
    order = sorted(stats.count, key=lambda reason: -stats.count[reason])
    table = [f"{'exit':20} {'count':>8} {'us each':>10}"]
    for name in order:
        each = stats.seconds[name] / stats.count[name] * 1e6
        table.append(f"{name:20} {stats.count[name]:8} {each:10.1f}")
    if stats.output:
        speed = stats.output / stats.spent()
        table.append(f"{stats.output} bytes out, {speed:.0f} bytes/s, {stats.total()} exits")
    return table


def _image(path: str) -> bytes:
    if not os.path.exists(path):
        raise UsageError(
            "is neither a guest nor a file", at="guest", value=path,
            remedy=f"guests: {', '.join(GUESTS)}",
        )  # fmt: skip
    fd = _open(path, os.O_RDONLY, "guest")
    with open(fd, "rb") as file:
        image = file.read()
    if image[:4] == b"\x7fELF":
        raise UsageError(
            "is an ELF program, not a flat binary", at="guest", value=path,
            remedy=f"run it with: pycontain vm run -- {path}",
        )  # fmt: skip
    return image


def _open(path: str, flags: int, at: str) -> int:
    try:
        return os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        from ..errors import reason

        raise UsageError(reason(error.errno or 0), at=at, value=path) from None
