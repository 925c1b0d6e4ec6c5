"""Runs a flat guest on a board: memory, devices, an engine, and the time it may take."""

from __future__ import annotations

from ..errors import GuestError, UsageError
from ..record import Record
from .board import Board, Ending
from .deadline import Deadline
from .devices import ports, serial
from .memory import Memory
from .watch import Stats, Trace, clock
from .x86 import BOOT_SECTOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .devices.serial import Sink
    from .engine_kvm import KvmEngine
    from .engine_unicorn import UnicornEngine

MIB = 1 << 20
MEMORY_MAX = 3 << 30  # the window of the devices begins above it
CPUS_MAX = 64


class Hardware(Record):
    """
    What a machine is made of.

    memory       bytes, whole pages
    cpus         more than one bring interrupt controllers
    irqchip      interrupt controllers and a timer
    disk         a descriptor of a raw disk image, or -1
    interactive  bytes typed at the terminal go to the serial port
    """

    memory: int = 16 * MIB
    cpus: int = 1
    irqchip: bool = False
    disk: int = -1
    interactive: bool = False


class GuestResult(Record):
    """
    How a guest ended, and what it cost.

    seconds  from the creation of the machine to its end
    """

    engine: str
    ending: Ending
    seconds: float
    stats: Stats


def run_flat(
    image: bytes,
    sink: Sink,
    hardware: Hardware,
    *,
    timeout: float | None = None,
    engine: str = "kvm",
    trace: Trace | None = None,
    stats: Stats | None = None,
) -> GuestResult:
    """
    Run a flat binary: loaded at 0x7c00 and started there in real mode.

    Everything the guest prints goes to sink; the machine is gone when this returns.

    Raises GuestError for a crash or for code that does not fit, Timeout after `timeout` seconds,
    UsageError and HostError for hardware that cannot be.
    """
    began = clock()
    stats = stats or Stats()
    _check(image, hardware)
    with Deadline(timeout) as deadline:
        memory = Memory(hardware.memory)
        try:
            memory.write(BOOT_SECTOR, image)
            machine = _engine(engine, memory, hardware)
            try:
                board = _board(memory, machine, sink, hardware)
                ending = machine.run(board, BOOT_SECTOR, deadline, stats, trace)
            finally:
                machine.close()
        finally:
            memory.close()
    return GuestResult(engine=engine, ending=ending, seconds=clock() - began, stats=stats)


def _check(image: bytes, hardware: Hardware) -> None:
    room = hardware.memory - BOOT_SECTOR
    if hardware.memory > MEMORY_MAX:
        raise UsageError(
            "is more than the 3072 MiB below the devices", at="memory",
            value=f"{hardware.memory // MIB} MiB",
        )  # fmt: skip
    if not 1 <= hardware.cpus <= CPUS_MAX:
        raise UsageError(f"is not 1 to {CPUS_MAX}", at="cpus", value=str(hardware.cpus))
    if not image:
        raise GuestError("is empty", at="guest image")
    if image[0x202:0x206] == b"HdrS":
        raise GuestError("is a Linux kernel (bzImage), not a flat binary", at="guest image")
    if len(image) > room:
        raise GuestError(
            f"does not fit into the {max(room, 0)} bytes of memory above 0x7c00",
            at="guest image", value=f"{len(image)} bytes", remedy="raise --mem",
        )  # fmt: skip


def _engine(name: str, memory: Memory, hardware: Hardware) -> KvmEngine | UnicornEngine:
    irqchip = hardware.irqchip or hardware.cpus > 1
    if name == "kvm":
        from .engine_kvm import KvmEngine

        return KvmEngine(memory, hardware.cpus, irqchip=irqchip)
    if name == "emulate":
        from .engine_unicorn import UnicornEngine

        return UnicornEngine(memory, hardware.cpus, irqchip=irqchip)
    raise UsageError("is not kvm or emulate", at="engine", value=name)


def _board(
    memory: Memory, machine: KvmEngine | UnicornEngine, sink: Sink, hardware: Hardware
) -> Board:
    """Plug the devices in."""
    from .devices import virtio
    from .devices.console import VirtioConsole

    board = Board(memory)
    irqchip = hardware.irqchip or hardware.cpus > 1

    def line(number: int) -> serial.Line | None:
        return (lambda level: machine.set_irq(number, level)) if irqchip else None

    board.plug(serial.COM1, serial.PORTS, serial.Serial(sink, line(serial.IRQ)))
    board.plug(ports.KEYBOARD, ports.KEYBOARD_PORTS, ports.I8042(board))
    board.plug(ports.DEBUG_EXIT, 1, ports.DebugExit(board))
    board.plug(ports.HYPERCALL, 4, ports.Hypercall(board, sink))
    devices: list[virtio.VirtioDevice] = [VirtioConsole(memory, sink, line(virtio.FIRST_IRQ))]
    if hardware.disk >= 0:
        from .devices.block import VirtioBlock

        devices.append(VirtioBlock(memory, hardware.disk, line(virtio.FIRST_IRQ + 1)))
    for number, device in enumerate(devices):
        board.plug_window(virtio.WINDOW + number * virtio.SIZE, virtio.SIZE, device)
    return board
