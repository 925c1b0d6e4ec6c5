"""The small devices on I/O ports: reset, exit with a status, and a hypercall with a buffer."""

from __future__ import annotations

from ..memory import OutsideMemory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..board import Board
    from .serial import Sink

KEYBOARD, KEYBOARD_PORTS = 0x60, 5  # data at 0x60, command and status at 0x64
DEBUG_EXIT = 0xF4
HYPERCALL = 0x510

_PULSE_RESET = 0xFE
_HYPERCALL_WRITE = 1
_FAILED = 0xFFFF_FFFF
_LENGTH_MAX = 4 << 20  # bounds the cost of one call


class I8042:
    """
    The keyboard controller, reduced to its reset line.

    Kernels without a better way reset the machine through it: 0xfe to port 0x64.
    """

    def __init__(self, board: Board) -> None:
        self._board = board

    def read(self, offset: int, size: int) -> int:  # noqa: ARG002
        return 0  # no key is pending, and commands are accepted

    def write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        if offset == 4 and value & 0xFF == _PULSE_RESET:
            self._board.end("reset")


class DebugExit:
    """A port that ends the machine; the byte written is the exit status."""

    def __init__(self, board: Board) -> None:
        self._board = board

    def read(self, offset: int, size: int) -> int:  # noqa: ARG002
        return 0

    def write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        self._board.end("exit", value & 0xFF)


class Hypercall:
    """
    A call to the monitor: the guest writes the physical address of a request of four words,
    {1, address, length, result}; the bytes are written out, and result is their number or -1.
    """

    def __init__(self, board: Board, sink: Sink) -> None:
        self._memory = board.memory
        self._sink = sink

    def read(self, offset: int, size: int) -> int:  # noqa: ARG002
        return _HYPERCALL_WRITE  # the highest call number

    def write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        text = self._text(value)
        if text is not None:
            self._sink(text)
        if value + 16 <= self._memory.size:
            self._memory.store(value + 12, 4, _FAILED if text is None else len(text))

    def _text(self, request: int) -> memoryview | None:
        """What a request asks to write, or None for one that fails."""
        try:
            number, address, length = (self._memory.load(request + 4 * i, 4) for i in range(3))
            if number != _HYPERCALL_WRITE or length > _LENGTH_MAX:
                return None
            return self._memory.slice(address, length)
        except OutsideMemory:
            return None
