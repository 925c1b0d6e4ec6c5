"""The virtio console (virtio 1.2, 5.3): one port, bytes in and out."""

from __future__ import annotations

from .virtio import VirtioDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..memory import Memory
    from .serial import Line, Sink
    from .virtio import Queue

_RECEIVE, _TRANSMIT = 0, 1


class VirtioConsole(VirtioDevice):
    """Whole buffers go out through sink; input waits until the driver provides a buffer for it."""

    ID = 3
    QUEUES = 2
    _INPUT_LIMIT = 65536

    def __init__(self, memory: Memory, sink: Sink, irq: Line | None = None) -> None:
        super().__init__(memory, irq)
        self._sink = sink
        self._input = bytearray()

    def receive(self, data: bytes) -> None:
        """Bytes for the guest."""
        self._input += data[: self._INPUT_LIMIT - len(self._input)]
        self._kick(_RECEIVE)

    def notify(self, queue: Queue, number: int) -> None:
        """Write out the buffers of the driver, or fill them with input."""
        if number == _TRANSMIT:
            self._transmit(queue)
        else:
            self._deliver(queue)

    def _transmit(self, queue: Queue) -> None:
        for chain in queue.take():
            for part in chain.readable:
                self._sink(part)
            queue.give(chain, 0)
            self.interrupt()

    def _deliver(self, queue: Queue) -> None:
        if not self._input:
            return
        for chain in queue.take():
            written = 0
            for part in chain.writable:
                piece = self._input[: len(part)]
                part[: len(piece)] = piece
                del self._input[: len(piece)]
                written += len(piece)
            queue.give(chain, written)
            self.interrupt()
            if not self._input:
                return
