"""Runs a program on an emulated processor, x86-64 or aarch64; its system calls are served here."""

from __future__ import annotations

import ctypes

from ..errors import GuestError
from ..lean.record import Record
from .engine_unicorn import emulate, ua, uc, ux
from .trace import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .deadline import Deadline
    from .frames import Frames
    from .linux.linux import Linux
    from .memory import Memory
    from .trace import Stats, Trace

_SIGILL, _SIGTRAP, _SIGFPE, _SIGSEGV = 4, 5, 8, 11
_NEVER = 0xFFFF_FFFF_FFFF_FFF0
_FLOATING_POINT = 3 << 20  # CPACR_EL1.FPEN


class Unit(Record):
    """
    How one kind of processor is set up and read, in unicorn's constants.

    call        registers of a system call: number, then arguments
    exceptions  interrupt number -> signal
    """

    architecture: int
    mode: int
    ip: int
    sp: int
    result: int
    thread: int
    call: tuple[int, ...]
    exceptions: dict[int, int]


_X86_64 = Unit(
    architecture=uc.UC_ARCH_X86, mode=uc.UC_MODE_64,
    ip=ux.UC_X86_REG_RIP, sp=ux.UC_X86_REG_RSP, result=ux.UC_X86_REG_RAX,
    thread=ux.UC_X86_REG_FS_BASE,
    call=(
        ux.UC_X86_REG_RAX, ux.UC_X86_REG_RDI, ux.UC_X86_REG_RSI, ux.UC_X86_REG_RDX,
        ux.UC_X86_REG_R10, ux.UC_X86_REG_R8, ux.UC_X86_REG_R9,
    ),
    exceptions={0: _SIGFPE, 1: _SIGTRAP, 3: _SIGTRAP, 6: _SIGILL, 16: _SIGFPE, 19: _SIGFPE},
)  # fmt: skip
_AARCH64 = Unit(
    architecture=uc.UC_ARCH_ARM64, mode=uc.UC_MODE_ARM,
    ip=ua.UC_ARM64_REG_PC, sp=ua.UC_ARM64_REG_SP, result=ua.UC_ARM64_REG_X0,
    thread=ua.UC_ARM64_REG_TPIDR_EL0,
    call=(
        ua.UC_ARM64_REG_X8, ua.UC_ARM64_REG_X0, ua.UC_ARM64_REG_X1, ua.UC_ARM64_REG_X2,
        ua.UC_ARM64_REG_X3, ua.UC_ARM64_REG_X4, ua.UC_ARM64_REG_X5,
    ),
    exceptions={1: _SIGILL, 7: _SIGTRAP},
)  # fmt: skip
_UNITS = {"x86_64": _X86_64, "aarch64": _AARCH64}
_ARM_SVC = 2


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


class UnicornProgram:
    """
    An emulated processor for one program.

    tables  its memory map, to build the address space with
    """

    def __init__(self, memory: Memory, machine: str) -> None:
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
        self._error: BaseException | None = None
        self._complaint = ""

    def close(self) -> None:
        """Drop the processor; its memory belongs to the caller."""
        del self._cpu, self.tables

    def window(self, frames: Frames) -> None:
        """None: a system call is too cheap here for reading ahead to pay."""

    def start(self, entry: int, stack: int) -> None:
        """Set where the program begins."""
        self._entry = entry
        self._cpu.reg_write(self._unit.sp, stack)

    def set_thread_pointer(self, value: int) -> None:
        """Set the base of FS, or TPIDR_EL0."""
        self._cpu.reg_write(self._unit.thread, value)

    def run(
        self, linux: Linux, deadline: Deadline, stats: Stats, trace: Trace | None = None
    ) -> None:
        """See KvmProgram.run()."""
        self._linux, self._stats, self._trace = linux, stats, trace
        self._left = clock()
        problem = emulate(self._cpu, self._entry, _NEVER, deadline)
        if self._error:
            raise self._error
        if linux.ending is None:
            self._died(problem)

    def _died(self, problem: str) -> None:
        where = f"at instruction {self._where():#x}"
        if self._complaint:
            self._linux.kill(_SIGSEGV, f"the program {self._complaint}, {where}")
        elif "INSN_INVALID" in problem:
            self._linux.kill(_SIGILL, f"the program ran an illegal instruction, {where}")
        else:
            raise GuestError(f"the emulator cannot continue: {problem or 'halted'}", at=where)

    def _where(self) -> int:
        return self._cpu.reg_read(self._unit.ip)  # type: ignore[no-any-return]

    def _on_syscall(self, cpu: Any, _data: object) -> None:
        try:
            self._serve(cpu)
        except BaseException as error:  # it cannot cross unicorn's C code: saved for run()
            self._error = error
            cpu.emu_stop()

    def _serve(self, cpu: Any) -> None:
        entered = clock()
        name, result = self._linux.call(*cpu.reg_read_batch(self._unit.call))
        cpu.reg_write(self._unit.result, result & 0xFFFF_FFFF_FFFF_FFFF)
        if self._trace:
            self._trace.exit(f"{name} = {result}", {"ip": self._where()}, b"")
        if self._linux.ending:
            cpu.emu_stop()
        self._stats.add(name, entered - self._left, clock() - entered)
        self._left = clock()

    def _on_interrupt(self, cpu: Any, number: int, data: object) -> None:
        if self._unit is _AARCH64 and number == _ARM_SVC:
            self._on_syscall(cpu, data)
            return
        signal = self._unit.exceptions.get(number, _SIGSEGV)
        what = f"the program raised exception {number}, at instruction {self._where():#x}"
        self._linux.kill(signal, what)
        cpu.emu_stop()

    def _on_bad_access(
        self, _cpu: object, access: int, address: int, _size: int, _value: int, _data: object
    ) -> bool:
        verb, why = _ACCESSES.get(access, ("accessed", "where nothing is mapped"))
        self._complaint = f"{verb} {address:#x}, {why}"
        return False


_ACCESSES = {
    uc.UC_MEM_READ_UNMAPPED: ("read", "where nothing is mapped"),
    uc.UC_MEM_WRITE_UNMAPPED: ("wrote to", "where nothing is mapped"),
    uc.UC_MEM_FETCH_UNMAPPED: ("ran code at", "where nothing is mapped"),
    uc.UC_MEM_READ_PROT: ("read", "whose permissions forbid it"),
    uc.UC_MEM_WRITE_PROT: ("wrote to", "whose permissions forbid it"),
    uc.UC_MEM_FETCH_PROT: ("ran code at", "whose permissions forbid it"),
}
