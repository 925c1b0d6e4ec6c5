"""The 8250 UART, a PC's first serial port (National Semiconductor PC16550D data sheet)."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Sink = Callable[[bytes | memoryview], None]
    Line = Callable[[bool], None]  # an interrupt line: raised or lowered

COM1, PORTS, IRQ = 0x3F8, 8, 4

_IER_RECEIVED, _IER_EMPTY = 1, 2
_IIR_NONE, _IIR_EMPTY, _IIR_RECEIVED = 1, 2, 4
_LCR_DLAB = 0x80
_LSR_READY, _LSR_IDLE = 0x01, 0x60  # transmitter empty: always both bits, as output is instant
_MCR_LOOP = 0x10
_MSR_CONNECTED = 0xB0  # carrier, data set ready, clear to send


class Serial:
    """
    Eight registers; bytes go out through sink, and come in through receive().

    irq is called with the level of the interrupt line whenever it changes.
    """

    _INPUT_LIMIT = 65536  # typed faster than the guest reads: the rest is lost, as on the wire

    def __init__(self, sink: Sink, irq: Line | None = None) -> None:
        self._sink = sink
        self._irq = irq
        self._level = False
        self._input = bytearray()
        self._enabled = 0  # interrupt enable register
        self._empty_pending = False
        self._line_control = 0
        self._modem_control = 0
        self._scratch = 0
        self._divisor = [12, 0]  # 9600 baud

    def receive(self, data: bytes) -> None:
        """Bytes that arrive on the wire."""
        self._input += data[: self._INPUT_LIMIT - len(self._input)]
        self._signal()

    def read(self, offset: int, size: int) -> int:  # noqa: ARG002
        """One register; wider accesses see its byte."""
        if offset < 2 and self._line_control & _LCR_DLAB:
            return self._divisor[offset]
        return self._READ[offset](self)

    def write(self, offset: int, size: int, value: int) -> None:  # noqa: ARG002
        """One register, from the low byte of value."""
        value &= 0xFF
        if offset < 2 and self._line_control & _LCR_DLAB:
            self._divisor[offset] = value
        else:
            self._WRITE[offset](self, value)

    def _take(self) -> int:
        value = self._input.pop(0) if self._input else 0
        self._signal()
        return value

    def _send(self, value: int) -> None:
        if self._modem_control & _MCR_LOOP:
            self.receive(bytes((value,)))
        else:
            self._sink(bytes((value,)))
        self._empty_pending = True
        self._signal()

    def _cause(self) -> int:
        if self._input and self._enabled & _IER_RECEIVED:
            return _IIR_RECEIVED
        if self._empty_pending and self._enabled & _IER_EMPTY:
            return _IIR_EMPTY
        return _IIR_NONE

    def _identify(self) -> int:
        cause = self._cause()
        if cause == _IIR_EMPTY:  # reading it is the acknowledgement
            self._empty_pending = False
            self._signal()
        return cause

    def _enable(self, value: int) -> None:
        self._empty_pending |= bool(value & ~self._enabled & _IER_EMPTY)
        self._enabled = value & 0x0F
        self._signal()

    def _signal(self) -> None:
        level = self._cause() != _IIR_NONE
        if level != self._level:
            self._level = level
            if self._irq:
                self._irq(level)

    def _set_line_control(self, value: int) -> None:
        self._line_control = value

    def _set_modem_control(self, value: int) -> None:
        self._modem_control = value & 0x1F

    def _set_scratch(self, value: int) -> None:
        self._scratch = value

    def _ignore(self, value: int) -> None:
        """FIFO control, and the two status registers, which cannot be written."""

    def _modem_status(self) -> int:
        if not self._modem_control & _MCR_LOOP:
            return _MSR_CONNECTED
        control = self._modem_control  # RTS, DTR, OUT1, OUT2 appear as CTS, DSR, RI, DCD
        return (control & 2) << 3 | (control & 1) << 5 | (control & 4) << 4 | (control & 8) << 4

    _READ = (
        _take,
        lambda self: self._enabled,
        _identify,
        lambda self: self._line_control,
        lambda self: self._modem_control,
        lambda self: _LSR_IDLE | (_LSR_READY if self._input else 0),
        _modem_status,
        lambda self: self._scratch,
    )
    _WRITE = (
        _send, _enable, _ignore, _set_line_control, _set_modem_control, _ignore, _ignore,
        _set_scratch,
    )  # fmt: skip
