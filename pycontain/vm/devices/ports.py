"""The small devices behind ports: reset, exit with a status, and a hypercall with a buffer."""

from __future__ import annotations

from ...errors import GuestError

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
_LENGTH_MAX = 4 << 20  # keeps what one call can cost bounded


class I8042:
    """
    The keyboard controller, of which only the reset line is left.

    Kernels that know no better reset the machine through it: 0xfe to port 0x64.
    """

    def __init__(self, board: Board) -> None:
        self._board = board

    def read(self, offset: int, size: int) -> int:  # noqa: ARG002
        return 0  # no key waits, and commands are accepted

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
    A call of the monitor: the guest writes the physical address of a request of four words,
    {1, address, length, result}; the bytes are written out, and result is their number or -1.
    """

    def __init__(self, board: Board, sink: Sink) -> None:
        self._memory = board.memory
        self._sink = sink

    def read(self, offset: int, size: int) -> int:  # noqa: ARG002
        return _HYPERCALL_WRITE  # the highest call there is

    def write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        try:
            number, address, length = (self._memory.load(value + 4 * i, 4) for i in range(3))
            known = number == _HYPERCALL_WRITE and length <= _LENGTH_MAX
            if known:
                self._sink(self._memory.slice(address, length))
            done = length if known else _FAILED
        except GuestError:  # the address is the guest's mistake: it is told so
            done = _FAILED
        if value + 16 <= self._memory.size:
            self._memory.store(value + 12, 4, done)
