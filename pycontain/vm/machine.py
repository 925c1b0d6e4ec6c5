"""Runs a flat guest on a board: memory, devices, an engine, and a time limit."""

from __future__ import annotations

from ..errors import GuestError, UsageError
from ..lean.record import Record
from .board import Board, Ending
from .deadline import Deadline
from .devices import ports, serial
from .memory import Memory
from .owned import Owned
from .sink import Descriptor
from .trace import Stats, clock
from .x86 import BOOT_SECTOR

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .devices.serial import Sink
    from .engine_kvm import KvmEngine
    from .engine_unicorn import UnicornEngine
    from .terminal import Terminal
    from .trace import Trace

MIB = 1 << 20
MEMORY = 16 * MIB
MEMORY_MAX = 3 << 30  # the window of the devices begins above it
CPUS_MAX = 64


class Hardware(Record):
    """
    What a machine is made of.

    memory       bytes, whole pages
    cpus         more than one implies irqchip
    irqchip      interrupt controllers and a timer
    disk         a descriptor of a raw disk image, or -1
    interactive  bytes typed at the terminal go to the serial port
    """

    memory: int = MEMORY
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
    output: int | Sink,
    hardware: Hardware,
    *,
    timeout: float | None = None,
    engine: str = "kvm",
    trace: Trace | None = None,
    stats: Stats | None = None,
) -> GuestResult:
    """
    Run a flat binary: loaded at 0x7c00 and started there in real mode.

    What the guest prints goes to output, a descriptor or a function that takes it; the machine
    no longer exists when this returns.

    Raises GuestError for a crash or for code that does not fit, Timeout after `timeout` seconds,
    UsageError and HostError for hardware that is not possible.
    """
    began = clock()
    stats = stats or Stats()
    _check_hardware(hardware)
    with Deadline(timeout) as deadline, Owned() as owned:
        memory = owned.keep(Memory(hardware.memory))
        _load(memory, image)
        machine = owned.keep(_engine(engine, memory, hardware))
        board = Board(memory)
        sink = _counted(output, deadline, stats)
        uart = _plug(board, machine, sink, hardware)
        with _terminal(board, machine, uart, hardware):
            ending = machine.run(board, BOOT_SECTOR, deadline, stats, trace)
    return GuestResult(engine=engine, ending=ending, seconds=clock() - began, stats=stats)


def _counted(output: int | Sink, deadline: Deadline, stats: Stats) -> Sink:
    sink = Descriptor(output, deadline) if isinstance(output, int) else output

    def count(data: bytes | memoryview) -> None:
        stats.output += len(data)
        sink(data)

    return count


def _check_hardware(hardware: Hardware) -> None:
    if hardware.memory > MEMORY_MAX:
        raise UsageError(
            "is more than the 3072 MiB below the devices", at="memory",
            value=f"{hardware.memory // MIB} MiB",
        )  # fmt: skip
    if not 1 <= hardware.cpus <= CPUS_MAX:
        raise UsageError(f"is not 1 to {CPUS_MAX}", at="cpus", value=str(hardware.cpus))


def _load(memory: Memory, image: bytes) -> None:
    room = max(memory.size - BOOT_SECTOR, 0)
    if not image:
        raise GuestError("is empty", at="guest image")
    if image[0x202:0x206] == b"HdrS":
        raise GuestError("is a Linux kernel (bzImage), not a flat binary", at="guest image")
    if len(image) > room:
        raise GuestError(
            f"does not fit into the {room} bytes of memory above 0x7c00",
            at="guest image", value=f"{len(image)} bytes", remedy="raise --mem",
        )  # fmt: skip
    memory.write(BOOT_SECTOR, image)


def _engine(name: str, memory: Memory, hardware: Hardware) -> KvmEngine | UnicornEngine:
    irqchip = hardware.irqchip or hardware.cpus > 1
    if name == "kvm":
        from .engine_kvm import KvmEngine

        return KvmEngine(memory, hardware.cpus, irqchip=irqchip)
    if name == "emulate":
        from .engine_unicorn import UnicornEngine

        return UnicornEngine(memory, hardware.cpus, irqchip=irqchip)
    raise UsageError("is not kvm or emulate", at="engine", value=name)


def _plug(
    board: Board, machine: KvmEngine | UnicornEngine, sink: Sink, hardware: Hardware
) -> serial.Serial:
    """Plug the devices in; returns the serial port, whose input is the user's."""
    from .devices import virtio
    from .devices.console import VirtioConsole

    memory = board.memory
    irqchip = hardware.irqchip or hardware.cpus > 1

    def line(number: int) -> serial.Line | None:
        return (lambda level: machine.set_irq(number, level)) if irqchip else None

    uart = serial.Serial(sink, line(serial.IRQ))
    board.plug(serial.COM1, serial.PORTS, uart)
    board.plug(ports.KEYBOARD, ports.KEYBOARD_PORTS, ports.I8042(board))
    board.plug(ports.DEBUG_EXIT, 1, ports.DebugExit(board))
    board.plug(ports.HYPERCALL, 4, ports.Hypercall(board, sink))
    devices: list[virtio.VirtioDevice] = [VirtioConsole(memory, sink, line(virtio.FIRST_IRQ))]
    if hardware.disk >= 0:
        from .devices.block import VirtioBlock

        devices.append(VirtioBlock(memory, hardware.disk, line(virtio.FIRST_IRQ + 1)))
    for number, device in enumerate(devices):
        board.plug_window(virtio.WINDOW + number * virtio.SIZE, virtio.SIZE, device)
    return uart


def _terminal(
    board: Board, machine: KvmEngine | UnicornEngine, uart: serial.Serial, hardware: Hardware
) -> Terminal | Owned:
    """The terminal on the serial port, while the guest runs."""
    if not hardware.interactive:
        return Owned()  # of no resources
    from .terminal import Terminal

    def quit_machine() -> None:
        board.end("quit")
        machine.stop()

    def receive(typed: bytes) -> None:
        with machine.lock:
            uart.receive(typed)

    return Terminal(receive, quit_machine)
