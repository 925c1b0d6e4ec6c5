"""
The engine that runs a board on an emulated processor (unicorn, an optional extra).

The same board, the same guests, no /dev/kvm. Unicorn provides no interrupt controllers, no second
processor, and no delivery of exceptions to the guest's own handlers.
"""

from __future__ import annotations

import _thread
import ctypes

from ..errors import GuestError, HostError, UsageError
from .trace import clock

try:
    import unicorn
    from unicorn import arm64_const, x86_const
except ImportError:
    raise HostError(
        "is not installed", at="unicorn", remedy="pip install 'pycontain[emulate]'"
    ) from None

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .board import Board, Ending
    from .deadline import Deadline
    from .memory import Memory
    from .trace import Stats, Trace

uc: Any = unicorn  # it is untyped
ux: Any = x86_const
ua: Any = arm64_const

_NEVER = 0xFFFF_FFFF  # an address where emulation would end; no guest gets there
_SHOWN = {
    name: getattr(ux, f"UC_X86_REG_{name.upper()}")
    for name in ("eflags", "eax", "ebx", "ecx", "edx", "esi", "edi", "esp", "ebp")
}  # a processor that starts in real mode shows no 64-bit register


class UnicornEngine:
    """
    A software x86 processor over this memory.

    Raises UsageError for hardware it does not provide.
    """

    def __init__(self, memory: Memory, cpus: int = 1, *, irqchip: bool = False) -> None:
        if cpus > 1 or irqchip:
            raise UsageError(
                "needs interrupt controllers, which the emulator does not provide",
                at="guest", remedy="use --engine kvm",
            )  # fmt: skip
        self.lock = _thread.allocate_lock()
        self._uc = uc.Uc(uc.UC_ARCH_X86, uc.UC_MODE_16)
        self._uc.mem_map_ptr(0, memory.size, uc.UC_PROT_ALL, ctypes.c_void_p(memory.host))

    def close(self) -> None:
        """Drop the processor; its memory belongs to the caller."""
        del self._uc

    def set_irq(self, line: int, level: bool) -> None:
        """Never called: without interrupt controllers devices have no lines."""
        raise NotImplementedError

    def stop(self) -> None:
        """Make the processor check whether the board has ended; callable from any thread."""
        self._uc.emu_stop()

    def run(
        self, board: Board, start: int, deadline: Deadline, stats: Stats, trace: Trace | None = None
    ) -> Ending:
        """See KvmEngine.run()."""
        self._board, self._stats, self._trace = board, stats, trace
        self._error: BaseException | None = None
        cpu = self._uc
        cpu.hook_add(uc.UC_HOOK_INSN, self._in, aux1=ux.UC_X86_INS_IN)
        cpu.hook_add(uc.UC_HOOK_INSN, self._out, aux1=ux.UC_X86_INS_OUT)
        for address, size, _ in board.windows:
            cpu.mmio_map(address, size, self._load, address, self._store, address)
        cpu.reg_write(ux.UC_X86_REG_SP, start)
        self._emulate(start, deadline)
        assert board.ending
        return board.ending

    def _emulate(self, start: int, deadline: Deadline) -> None:
        """Run until HLT, until a device ends the machine, or until the deadline."""
        self._entered = clock()
        problem = ""

        def body() -> None:
            nonlocal problem
            problem = emulate(self._uc, start, _NEVER, deadline)

        in_thread(body, self.stop)
        deadline.check()
        if self._error:
            raise self._error
        if problem:
            raise GuestError(
                f"the emulator cannot continue: {problem}", at=f"cpu 0 at {self._where():x}"
            )
        if self._board.ending is None:  # nothing else makes it return
            self._exit("hlt", "hlt")
            self._board.end("halt")

    def _where(self) -> int:
        return self._uc.reg_read(ux.UC_X86_REG_EIP)  # type: ignore[no-any-return]

    def _exit(self, name: str, what: str) -> None:
        """Count one exit; hooks run inside the emulation, so all time counts as the guest's."""
        now = clock()
        self._stats.add(name, now - self._entered, 0.0)
        self._entered = now
        if self._trace:
            where = self._where()
            values = {name: self._uc.reg_read(register) for name, register in _SHOWN.items()}
            code = bytes(self._board.memory.view[where : where + 15])
            self._trace.exit(f"cpu0 {what}", {"eip": where, **values}, code)

    def _guard(self, access: Callable[[], int | None]) -> int:
        """A device's exception cannot cross unicorn's C code: it is saved for _emulate()."""
        try:
            with self.lock:
                return access() or 0
        except BaseException as error:
            self._error = self._error or error
            self.stop()
            return 0
        finally:
            if self._board.ending:
                self.stop()

    def _in(self, _uc: object, port: int, size: int, _data: object) -> int:
        value = self._guard(lambda: self._board.port_read(port, size))
        self._exit("in", f"in {port:#x} -> {value:#x}")
        return value

    def _out(self, _uc: object, port: int, size: int, value: int, _data: object) -> None:
        self._exit("out", f"out {port:#x} <- {value:#x}")
        self._guard(lambda: self._board.port_write(port, size, value))

    def _load(self, _uc: object, offset: int, size: int, window: int) -> int:
        address = window + offset
        value = self._guard(lambda: self._board.memory_read(address, size))
        self._exit("mmio read", f"load {address:#x} -> {value:#x}")
        return value

    def _store(self, _uc: object, offset: int, size: int, value: int, window: int) -> None:
        address = window + offset
        self._exit("mmio write", f"store {address:#x} <- {value:#x}")
        self._guard(lambda: self._board.memory_write(address, size, value))


def in_thread(body: Callable[[], None], stop: Callable[[], None]) -> None:
    """Run an emulation in a thread of its own, so that Ctrl-C reaches this one, and stops it."""
    import threading

    thread = threading.Thread(target=body, name="emulator")
    thread.start()
    try:
        thread.join()
    except BaseException:
        stop()
        thread.join()
        raise


def emulate(cpu: Any, start: int, until: int, deadline: Deadline) -> str:
    """Run an emulated processor until it stops; returns unicorn's error message, or ""."""
    left = deadline.left()
    try:
        cpu.emu_start(start, until, timeout=0 if left is None else int(left * 1e6) + 1)
    except uc.UcError as error:
        return str(error)
    return ""
