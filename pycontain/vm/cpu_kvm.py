"""A processor in ring 3 of a KVM virtual machine."""

from __future__ import annotations

import errno
import time

from ..errors import HostError, KernelError
from . import abi, ring3
from ._ffi import ffi
from .cpu import Fault
from .engine_kvm import crash, stuck
from .frames import OutOfFrames
from .kvm import Kvm
from .owned import Owned
from .paging import EXECUTE, READ, WRITE, PageTables
from .space import LOWEST
from .window import Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .cpu import Handler
    from .deadline import Deadline
    from .frames import Frames
    from .kvm import CData, Vcpu
    from .memory import Memory

_XSAVE_BIT = 1 << 26  # CPUID leaf 1, ECX
_XCR0_SUPPORTED = 0xE7  # x87, SSE, AVX and the three parts of AVX-512
_READ = 0
_MASK = (1 << 64) - 1
_FLAGS = 0x202  # RFLAGS: interrupts enabled, and the bit that is always set
_FLAGS_OF_PROGRAMS = 0x24_0DD5  # arithmetic flags, TF, DF, AC, ID: what sigreturn(2) restores
NAMES = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rip", "rflags",
)  # fmt: skip

# vector -> signal, si_code, what the program did: signal(7), sigaction(2)
_SIGBUS, _SIGSEGV, _SI_KERNEL = 7, 11, 0x80
_EXCEPTIONS = {
    0: (8, 1, "divided by zero"), 1: (5, 2, "hit a trap"), 3: (5, 0x80, "hit a breakpoint"),
    6: (4, 2, "ran an illegal instruction"), 13: (11, 0x80, "caused a general protection fault"),
    14: (11, 1, "accessed memory"), 16: (8, 7, "made a floating-point error"),
    17: (7, 1, "made a misaligned memory access"), 19: (8, 7, "made a floating-point error"),
}  # fmt: skip


class _Machine:
    """What the processors of an address space share: the virtual machine, its memory and tables."""

    def __init__(self, memory: Memory, frames: Frames, deadline: Deadline, kvm: Kvm | None) -> None:
        self.memory = memory
        self.frames = frames
        self._mask = deadline.mask
        self._kvm = kvm or Kvm()  # kept: in the jail of a forked process it cannot be opened
        self._owned = Owned()
        self._pages = [ring3.STACK]  # physical, of each processor
        self._made = 0
        self.idle: list[tuple[Vcpu, int]] = []  # KVM keeps a vCPU until the machine is closed
        try:
            self._kvm.require("SYNC_REGS")
            self._leaves = self._kvm.cpuid()
            self.xcr0 = _extended_states(self._leaves)
            self.tables = PageTables(memory, frames)
            ring3.build(memory, self.tables)
            self.assemble()
        except BaseException:
            self.close()
            raise

    def assemble(self) -> None:
        """Make the virtual machine; again in a forked process, which KVM refuses the old one to."""
        self._owned.close()
        self._made = 0
        self.idle.clear()
        self._vm = self._owned.keep(self._kvm.create_vm())
        self._vm.set_memory(0, 0, self.memory.size, self.memory.host)

    def show_clocks(self, zero: int) -> None:
        """Tell vdso.S what KVM's clock is ahead of those of the program."""
        least, uptime, date = 1 << 62, 0, 0
        for _ in range(3):
            before, now = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW), self._vm.clock()
            after, day = time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW), time.time_ns()
            if after - before < least:
                least, uptime, date = after - before, (before + after) // 2 - now, day - now
        for address, ahead in ((ring3.UPTIME, uptime - zero), (ring3.DATE, date)):
            self.memory.store(address, 8, ahead & _MASK)

    def processor(self) -> tuple[Vcpu, int]:
        """
        A processor and the physical address of its page.

        Raises OutOfFrames, KernelError when KVM refuses.
        """
        if self.idle:
            return self.idle.pop()
        number = self._made
        if number >= ring3.PROCESSORS_MAX:
            raise OutOfFrames
        if number == len(self._pages):
            page = ring3.add_processor(self.memory, self.frames, self.tables, number)
            self._pages.append(page)
        vcpu = self._owned.keep(self._vm.create_vcpu(number))
        self._made += 1
        vcpu.set_cpuid(self._leaves)
        vcpu.set_msrs(ring3.msrs())
        vcpu.set_signal_mask(self._mask)
        if not number:
            try:
                vcpu.set_msrs({abi.MSR_KVM_CLOCK: ring3.CLOCK | 1})
            except HostError:
                pass  # then the program asks the monitor for the time
        if self.xcr0:
            vcpu.set_xcr0(self.xcr0)
        vcpu.state.kvm_valid_regs = abi.SYNC_X86_REGS  # each exit leaves the registers there
        return vcpu, self._pages[number]

    def close(self) -> None:
        """Release all kernel resources."""
        self._owned.close()
        self._kvm.close()
        if hasattr(self, "tables"):
            self.tables.close()


class KvmCpu:
    """
    A processor of a virtual machine, for one task; kvm is /dev/kvm if that is open already.

    Raises HostError without /dev/kvm, KernelError when KVM refuses.
    """

    machine = "x86_64"

    def __init__(
        self, memory: Memory, frames: Frames, deadline: Deadline, kvm: Kvm | None = None
    ) -> None:
        self._memory = memory
        self.vdso = ring3.VDSO
        self._machine = _Machine(memory, frames, deadline, kvm)
        self._arrives_in_ring_0: bool | None = None  # SYSCALL; None before the program begins
        self._take_processor()

    def _take_processor(self) -> None:
        self._vcpu, self._page = self._machine.processor()
        self._regs = self._vcpu.state.s.regs.regs
        self._fault: tuple[int, int, int] | None = None  # RIP, RFLAGS, RSP of the program
        self._fs = 0

    @property
    def tables(self) -> PageTables:
        """See Cpu."""
        return self._machine.tables

    def show_clocks(self, zero: int) -> None:
        """See Cpu."""
        self._machine.show_clocks(zero)

    def show_numbers(self, pid: int, tid: int) -> None:
        """See Cpu."""
        self._memory.store(ring3.PID, 8, pid)
        self._memory.store(ring3.TID, 8, tid)

    def close(self) -> None:
        """Release all kernel resources, those of its siblings too."""
        self._machine.close()

    def sibling(self) -> KvmCpu:
        """See Cpu."""
        made = object.__new__(type(self))
        made.vdso = self.vdso
        made._memory, made._machine = self._memory, self._machine
        made._arrives_in_ring_0 = self._arrives_in_ring_0
        made._take_processor()
        made._fs = self._fs
        made.set_extended(self.extended())
        return made

    def leave(self) -> None:
        """See Cpu."""
        self._machine.idle.append((self._vcpu, self._page))

    def window(self) -> Window:
        """A window to read files ahead into. Raises OutOfFrames."""
        return Window(self._memory, self._machine.frames, self.tables)

    # --- state ---------------------------------------------------------------------------------

    def start(self, entry: int, stack: int) -> None:
        """Set where the program begins; the first time after the monitor's own system call."""
        self._begin = {"rip": entry, "rsp": stack, "rflags": _FLAGS}
        if self._arrives_in_ring_0 is None:
            self._enter_ring_3({"rip": ring3.PROBE, "rsp": stack, "rflags": 2})
        else:
            self.set_thread_pointer(0)
            self.set_extended(b"")
            self.set_registers(self._begin)

    def _enter_ring_3(self, registers: dict[str, int]) -> bool:
        """Put the processor into ring 3; returns whether it was in ring 0."""
        sregs = self._vcpu.sregs()
        was_ring_0 = bool(sregs.cs.dpl == 0)
        stack = ring3.stack_of(self._vcpu.number)
        ring3.enter(sregs, self.tables.root, stack, self._fs, xsave=bool(self._machine.xcr0))
        self._vcpu.set_sregs(sregs)
        # all others are 0: RDX of a new vCPU is not, and the program would call it at exit
        self._vcpu.set_regs(ffi.new("struct kvm_regs *", registers))
        self._vcpu.state.kvm_dirty_regs = 0
        self._fault = None
        return was_ring_0

    def registers(self) -> dict[str, int]:
        """See Cpu."""
        values = {name: getattr(self._regs, name) for name in NAMES}
        if self._fault:
            values["rip"], values["rflags"], values["rsp"] = self._fault
        elif not self.in_program():  # in the stub, SYSCALL left the program's here
            values["rip"], values["rflags"] = values["rcx"], values["r11"]
        return values

    def set_registers(self, values: dict[str, int]) -> None:
        """See Cpu."""
        known = {name: values.get(name, 0) & _MASK for name in NAMES}
        known["rflags"] = known["rflags"] & _FLAGS_OF_PROGRAMS | _FLAGS
        self._enter_ring_3(known)
        for name, value in known.items():
            setattr(self._regs, name, value)

    def thread_pointer(self) -> int:
        """See Cpu."""
        return self._fs

    def set_thread_pointer(self, value: int) -> None:
        """See Cpu."""
        self._fs = value
        sregs = self._vcpu.sregs()
        sregs.fs.base = value
        self._vcpu.set_sregs(sregs)

    def extended(self) -> bytes:
        """See Cpu."""
        return self._vcpu.xsave()

    def set_extended(self, state: bytes) -> None:
        """See Cpu."""
        self._vcpu.set_xsave(state)

    def in_program(self) -> bool:
        """See Cpu."""
        return bool(self._regs.rip >= LOWEST)

    def renew(self, registers: dict[str, int], extended: bytes) -> None:
        """See Cpu."""
        pointer = self._fs
        self._machine.assemble()
        self._take_processor()
        self._fs = pointer
        self._vcpu.set_xsave(extended)
        self.set_registers(registers)

    # --- running -------------------------------------------------------------------------------

    def run(self, handler: Handler) -> None:
        """See Cpu."""
        try:
            while self._step(handler):
                pass
        except KernelError as error:
            raise stuck(self._vcpu, error) from None

    def _step(self, handler: Handler) -> bool:
        vcpu = self._vcpu
        try:
            stopped = not vcpu.enter()
        except KernelError as error:
            if error.errno != errno.EFAULT:
                raise
            return handler.fault(self._bus_error())
        if stopped:
            return handler.kicked()
        state = vcpu.state
        if state.exit_reason != abi.EXIT_IO:
            raise crash(vcpu)
        port = state.io.port
        if port == ring3.SYSCALL_PORT:
            if self._arrives_in_ring_0 is None:
                self._arrives_in_ring_0 = self._enter_ring_3(self._begin)
                return True
            return handler.call()
        if port == ring3.FAULT_PORT:
            return self._on_fault(handler)
        raise crash(vcpu)

    def _bus_error(self) -> Fault:
        """The host has no page there: a file that is mapped has become shorter."""
        rip = self.registers()["rip"]
        what = "accessed memory beyond the end of a file"
        return Fault(signal=_SIGBUS, code=2, what=what, where=rip, address=0)

    def call(self) -> tuple[int, ...]:
        """See Cpu."""
        regs = self._regs
        return regs.rax, regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9

    def answer(self, result: int) -> None:
        """See Cpu."""
        regs = self._regs
        regs.rax = result & _MASK
        if self._fault:
            self.set_registers(self.registers())
            return
        if not self._arrives_in_ring_0:  # software PVM stays in ring 3, where SYSRET faults
            regs.rip, regs.rflags = regs.rcx, regs.r11
        self._vcpu.state.kvm_dirty_regs = abi.SYNC_X86_REGS

    def _on_fault(self, handler: Handler) -> bool:
        """An exception, whose frame each gate puts at the top of ring 0's stack."""
        regs = self._regs
        vector = ring3.vector_of(regs.rip)
        top = ring3.stack_of(self._vcpu.number) + ring3.FRAME
        if vector is None or regs.rsp not in (top, top - 8):
            raise crash(self._vcpu)  # the program has reached ring 0
        load, frame = self._memory.load, self._page + ring3.FRAME
        error = load(frame - 8, 8) if regs.rsp < top else 0
        self._fault = rip, _, rsp = load(frame, 8), load(frame + 16, 8), load(frame + 24, 8)
        if rip == ring3.COPY:
            return self._serve_copy(handler, rsp)
        address = self._vcpu.sregs().cr2 if vector == 14 else None
        return handler.fault(describe_fault(vector, error, address, rip))

    def _serve_copy(self, handler: Handler, rsp: int) -> bool:
        """The read() that entry.S began cannot write to its buffer: serve it from here."""
        load, regs = self._memory.load, self._regs
        regs.rax, regs.rdi, regs.rsi = _READ, load(ring3.SAVED_RDI, 8), load(ring3.SAVED_RSI, 8)
        self._fault = load(ring3.SAVED_RCX, 8), _FLAGS, rsp
        return handler.call()


def _extended_states(leaves: CData) -> int:
    """The XCR0 that these CPUID leaves allow, 0 without XSAVE."""
    found = {(leaf.function, leaf.index): leaf for leaf in leaves.entries[0 : leaves.nent]}
    if not found[1, 0].ecx & _XSAVE_BIT or (0xD, 0) not in found:
        return 0
    return found[0xD, 0].eax & _XCR0_SUPPORTED  # type: ignore[no-any-return]


def describe_fault(vector: int, error: int, address: int | None, rip: int) -> Fault:
    """What a Unix makes of an exception."""
    unknown = _SIGSEGV, _SI_KERNEL, f"raised exception {vector}"
    signal, code, what = _EXCEPTIONS.get(vector, unknown)
    access = 0
    if address is not None:  # a page fault: bits of the error code, Intel SDM volume 3, 4.7
        verb = "ran code at" if error & 16 else "wrote to" if error & 2 else "read"
        why = "whose permissions forbid it" if error & 1 else "where nothing is mapped"
        access = EXECUTE if error & 16 else WRITE if error & 2 else READ
        what, code = f"{verb} {address:#x}, {why}", 2 if error & 1 else 1
    return Fault(
        signal=signal, code=code, what=what, where=rip,
        address=rip if address is None else address, access=access,
    )  # fmt: skip
