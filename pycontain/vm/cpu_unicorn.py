"""An emulated processor in ring 3 (exception level 0), x86-64 or aarch64."""

from __future__ import annotations

import _signal
import atexit  # noqa: F401  # weakref would load it too late
import ctypes
import struct

from unicorn.unicorn_py3.arch import arm64, intel  # noqa: F401  # a Uc would load them too late

from ..errors import GuestError
from ..lean.record import Record
from .cpu import Fault
from .cpu_kvm import NAMES
from .engine_unicorn import emulate, in_thread, ua, uc, ux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .cpu import Handler
    from .deadline import Deadline
    from .memory import Memory

_read_batch = uc.unicorn_py3.unicorn.uclib.uc_reg_read_batch
_SIGILL, _SIGTRAP, _SIGFPE, _SIGSEGV = 4, 5, 8, 11
_NEVER = 0xFFFF_FFFF_FFFF_FFF0
_FLOATING_POINT = 3 << 20  # CPACR_EL1.FPEN
_MASK = (1 << 64) - 1


class Unit(Record):
    """
    How one kind of processor is set up and read, in unicorn's constants.

    registers   those of a program, by name
    call        registers of a system call: number, then arguments
    exceptions  interrupt number -> signal
    """

    architecture: int
    mode: int
    registers: dict[str, int]
    ip: str
    sp: str
    result: int
    thread: int
    call: tuple[int, ...]
    exceptions: dict[int, int]


_X86_64 = Unit(
    architecture=uc.UC_ARCH_X86, mode=uc.UC_MODE_64,
    registers={name: getattr(ux, f"UC_X86_REG_{name.upper()}") for name in NAMES},
    ip="rip", sp="rsp", result=ux.UC_X86_REG_RAX, thread=ux.UC_X86_REG_FS_BASE,
    call=(
        ux.UC_X86_REG_RAX, ux.UC_X86_REG_RDI, ux.UC_X86_REG_RSI, ux.UC_X86_REG_RDX,
        ux.UC_X86_REG_R10, ux.UC_X86_REG_R8, ux.UC_X86_REG_R9,
    ),
    exceptions={0: _SIGFPE, 1: _SIGTRAP, 3: _SIGTRAP, 6: _SIGILL, 16: _SIGFPE, 19: _SIGFPE},
)  # fmt: skip
_AARCH64 = Unit(
    architecture=uc.UC_ARCH_ARM64, mode=uc.UC_MODE_ARM,
    registers={
        name: getattr(ua, f"UC_ARM64_REG_{name.upper()}")
        for name in (*(f"x{number}" for number in range(31)), "sp", "pc", "nzcv")
    },
    ip="pc", sp="sp", result=ua.UC_ARM64_REG_X0, thread=ua.UC_ARM64_REG_TPIDR_EL0,
    call=(
        ua.UC_ARM64_REG_X8, ua.UC_ARM64_REG_X0, ua.UC_ARM64_REG_X1, ua.UC_ARM64_REG_X2,
        ua.UC_ARM64_REG_X3, ua.UC_ARM64_REG_X4, ua.UC_ARM64_REG_X5,
    ),
    exceptions={1: _SIGILL, 7: _SIGTRAP},
)  # fmt: skip
_UNITS = {"x86_64": _X86_64, "aarch64": _AARCH64}
_ARM_SVC = 2
_FXSAVE = 512  # bytes; the vector registers are at 160, Intel SDM volume 1, 10.5.1
_XMM = [getattr(ux, f"UC_X86_REG_XMM{number}") for number in range(16)]


class _Map:
    """The emulator's own memory map, instead of page tables."""

    def __init__(self, cpu: Any, memory: Memory) -> None:
        self._cpu = cpu
        self._host = memory.host

    def reserve(self, virtual: int, length: int) -> None:
        """Nothing: the emulator's map is not in the guest's memory."""

    def map(self, virtual: int, physical: int, length: int, prot: int) -> None:
        # unicorn's permissions have the bits of PROT_*
        host = ctypes.c_void_p(self._host + physical)
        _require(self._cpu.mem_map_ptr, virtual, length, prot, host)

    def unmap(self, virtual: int, length: int) -> None:
        _require(self._cpu.mem_unmap, virtual, length)


def _require(call: Callable[..., None], virtual: int, *rest: object) -> None:
    """A change of the map whose refusal ends the run, since the address space relies on it."""
    try:
        call(virtual, *rest)
    except uc.UcError as error:
        raise GuestError(
            f"the emulator cannot change its memory map: {error}", at=f"address {virtual:#x}"
        ) from None


class _CallRegisters:
    """Registers that are read at each system call: Uc.reg_read_batch() takes 25 us, this one."""

    def __init__(self, cpu: Any, registers: tuple[int, ...]) -> None:
        count = len(registers)
        self._values = (ctypes.c_uint64 * count)()
        first = ctypes.addressof(self._values)
        places = (ctypes.c_void_p * count)(*range(first, first + 8 * count, 8))
        handle = cpu._uch  # noqa: SLF001  # there is no other way to the C function
        self._arguments = handle, (ctypes.c_int * count)(*registers), places, count

    def read(self) -> tuple[int, ...]:
        """Their values."""
        _read_batch(*self._arguments)
        return tuple(self._values)


class UnicornCpu:
    """An emulated processor for one task; system calls are served inside unicorn's hooks."""

    def __init__(self, memory: Memory, machine: str, deadline: Deadline) -> None:
        self.machine = machine
        self.vdso = b""
        self._deadline = deadline
        self._unit = unit = _UNITS[machine]
        self._cpu = uc.Uc(unit.architecture, unit.mode)
        if unit is _AARCH64:
            # the default processor lacks the atomics of ARMv8.1, which glibc uses without checking
            self._cpu.ctl_set_cpu_model(ua.UC_CPU_ARM64_MAX)
            self._cpu.reg_write(ua.UC_ARM64_REG_CPACR_EL1, _FLOATING_POINT)
        else:
            self._cpu.hook_add(uc.UC_HOOK_INSN, self._on_syscall, aux1=ux.UC_X86_INS_SYSCALL)
        self._cpu.hook_add(uc.UC_HOOK_INTR, self._on_interrupt)
        self._cpu.hook_add(uc.UC_HOOK_MEM_INVALID, self._on_bad_access)
        self.tables = _Map(self._cpu, memory)
        self._call_registers = _CallRegisters(self._cpu, unit.call)
        self._handler: Handler
        self._error: BaseException | None = None
        self._complaint: tuple[str, int, int] | None = None  # what, address, si_code
        self._jump: dict[str, int] | None = None  # registers to continue with
        self._calling = False
        self._done = False

    def close(self) -> None:
        """Drop the processor; its memory belongs to the caller."""
        del self._cpu, self.tables, self._call_registers

    def window(self) -> None:
        """None: a system call is too cheap here for reading ahead to pay."""

    # --- state ---------------------------------------------------------------------------------

    def start(self, entry: int, stack: int) -> None:
        """See Cpu."""
        self.set_thread_pointer(0)
        self.set_registers({self._unit.ip: entry, self._unit.sp: stack})

    def registers(self) -> dict[str, int]:
        """See Cpu."""
        if self._jump is not None:
            return dict(self._jump)
        values = {name: self._cpu.reg_read(number) for name, number in self._unit.registers.items()}
        if self._calling and self.machine == "x86_64":
            values["rip"] += _SYSCALL_SIZE  # the hook runs before the instruction has ended
        return values

    def set_registers(self, values: dict[str, int]) -> None:
        """See Cpu. A hook must not change the instruction pointer: run() does it."""
        self._jump = {name: values.get(name, 0) & _MASK for name in self._unit.registers}
        self._cpu.emu_stop()

    def thread_pointer(self) -> int:
        """See Cpu."""
        return self._cpu.reg_read(self._unit.thread)  # type: ignore[no-any-return]

    def set_thread_pointer(self, value: int) -> None:
        """See Cpu."""
        self._cpu.reg_write(self._unit.thread, value)

    def extended(self) -> bytes:
        """See Cpu: SSE's registers; unicorn offers no others in this format."""
        if self.machine != "x86_64":
            return b""
        read = self._cpu.reg_read
        head = struct.pack("<H22xI4x", read(ux.UC_X86_REG_FPCW), read(ux.UC_X86_REG_MXCSR))
        vectors = b"".join(read(number).to_bytes(16, "little") for number in _XMM)
        return (head.ljust(160, b"\0") + vectors).ljust(_FXSAVE, b"\0")

    def set_extended(self, state: bytes) -> None:
        """See Cpu."""
        if self.machine != "x86_64":
            return
        write = self._cpu.reg_write
        write(ux.UC_X86_REG_FPCW, int.from_bytes(state[:2], "little") if state else 0x37F)
        write(ux.UC_X86_REG_MXCSR, int.from_bytes(state[24:28], "little") if state else 0x1F80)
        for at, number in enumerate(_XMM):
            write(number, int.from_bytes(state[160 + 16 * at : 176 + 16 * at], "little"))

    def in_program(self) -> bool:
        """See Cpu."""
        return True

    def show_clocks(self, zero: int) -> None:
        """Nothing: there is no vdso."""

    def show_numbers(self, pid: int, tid: int) -> None:
        """Nothing: a call is cheap."""

    def sibling(self) -> None:
        """None: it runs one thread."""

    def leave(self) -> None:
        """Nothing: there are no siblings."""

    def renew(self, registers: dict[str, int], extended: bytes) -> None:
        """Nothing: a forked process has its own copy of the emulator."""

    # --- running -------------------------------------------------------------------------------

    def run(self, handler: Handler) -> None:
        """See Cpu."""
        self._handler = handler
        in_thread(self._loop, self._cpu.emu_stop)
        if self._error:
            raise self._error

    def _loop(self) -> None:
        """In a thread of its own, the only one that a forked process has."""
        try:
            while not self._done:
                self._go_on()
                problem = emulate(self._cpu, self._where(), _NEVER, self._deadline)
                if not self._done and self._jump is None:
                    self._deadline.check()
                    self._died(problem)
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        """Save an error, which can cross neither unicorn's C code nor threads, for run()."""
        self._handler.failed(error)
        self._error = self._error or error
        self._done = True
        self._cpu.emu_stop()

    def _go_on(self) -> None:
        """Put in the registers that a handler has set."""
        if self._jump is not None:
            for name, value in self._jump.items():
                self._cpu.reg_write(self._unit.registers[name], value)
            self._jump = None

    def _died(self, problem: str) -> None:
        where = self._where()
        if self._complaint:
            what, address, code = self._complaint
            self._complaint = None
            fault = _fault(_SIGSEGV, what, where, address=address, code=code)
        elif "INSN_INVALID" in problem:
            fault = _fault(_SIGILL, "ran an illegal instruction", where)
        else:
            why = f"the emulator cannot continue: {problem or 'halted'}"
            raise GuestError(why, at=f"at instruction {where:#x}")
        self._done = not self._handler.fault(fault)

    def _where(self) -> int:
        return self._cpu.reg_read(self._unit.registers[self._unit.ip])  # type: ignore[no-any-return]

    def call(self) -> tuple[int, ...]:
        """See Cpu."""
        return self._call_registers.read()

    def answer(self, result: int) -> None:
        """See Cpu."""
        self._cpu.reg_write(self._unit.result, result & _MASK)

    def _on_syscall(self, *_: object) -> None:
        self._calling = True
        self._serve(self._handler.call)
        if not self._done and not self._deadline.signals.isdisjoint(_signal.sigpending()):
            self._serve(self._handler.kicked)
        self._calling = False

    def _serve(self, handler: Callable[[], bool]) -> None:
        try:
            if not handler():
                self._done = True
                self._cpu.emu_stop()
        except BaseException as error:
            self._fail(error)

    def _on_interrupt(self, _cpu: object, number: int, _data: object) -> None:
        if self._unit is _AARCH64 and number == _ARM_SVC:
            self._on_syscall()
            return
        signal = self._unit.exceptions.get(number, _SIGSEGV)
        fault = _fault(signal, f"raised exception {number}", self._where())
        self._serve(lambda: self._handler.fault(fault))

    def _on_bad_access(
        self, _cpu: object, access: int, address: int, _size: int, _value: int, _data: object
    ) -> bool:
        verb, why, code = _ACCESSES.get(access, ("accessed", "where nothing is mapped", 1))
        self._complaint = f"{verb} {address:#x}, {why}", address, code
        return False


def _fault(
    signal: int, what: str, where: int, *, address: int | None = None, code: int = 0x80
) -> Fault:
    at = where if address is None else address
    return Fault(signal=signal, code=code, what=what, where=where, address=at)


_SYSCALL_SIZE = 2
_ACCESSES = {
    uc.UC_MEM_READ_UNMAPPED: ("read", "where nothing is mapped", 1),
    uc.UC_MEM_WRITE_UNMAPPED: ("wrote to", "where nothing is mapped", 1),
    uc.UC_MEM_FETCH_UNMAPPED: ("ran code at", "where nothing is mapped", 1),
    uc.UC_MEM_READ_PROT: ("read", "whose permissions forbid it", 2),
    uc.UC_MEM_WRITE_PROT: ("wrote to", "whose permissions forbid it", 2),
    uc.UC_MEM_FETCH_PROT: ("ran code at", "whose permissions forbid it", 2),
}
