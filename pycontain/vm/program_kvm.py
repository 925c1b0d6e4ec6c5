"""Runs a program in ring 3 of a KVM virtual machine; its system calls are served here."""

from __future__ import annotations

from ..errors import KernelError
from . import abi, ring3, x86
from ._ffi import ffi
from .deadline import drain
from .engine_kvm import crash, stuck
from .kvm import Kvm
from .owned import Owned
from .paging import PageTables
from .trace import clock
from .window import Window

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .deadline import Deadline
    from .frames import Frames
    from .kvm import CData
    from .linux.linux import Linux
    from .memory import Memory
    from .trace import Stats, Trace

_XSAVE_BIT = 1 << 26  # CPUID leaf 1, ECX
_XCR0_SUPPORTED = 0xE7  # x87, SSE, AVX and the three parts of AVX-512
_READ = 0

# vector -> signal, what the program did: signal(7), and arch/x86 of any Unix
_SIGSEGV = 11
_EXCEPTIONS = {
    0: (8, "divided by zero"), 1: (5, "hit a trap"), 3: (5, "hit a breakpoint"),
    6: (4, "ran an illegal instruction"), 13: (11, "caused a general protection fault"),
    14: (11, "accessed memory"), 16: (8, "made a floating-point error"),
    17: (7, "made a misaligned memory access"), 19: (8, "made a floating-point error"),
}  # fmt: skip


class KvmProgram:
    """
    A virtual machine for one program.

    tables  its page tables, to build the address space with

    Raises HostError without /dev/kvm, KernelError when KVM refuses.
    """

    machine = "x86_64"

    def __init__(self, memory: Memory, frames: Frames) -> None:
        self._memory = memory
        self._owned = Owned()
        self._arrives_in_ring_0: bool | None = None  # SYSCALL; None before the program begins
        self.tables = self._owned.keep(PageTables(memory, frames))
        try:
            self._assemble()
        except BaseException:
            self.close()
            raise

    def _assemble(self) -> None:
        ring3.build(self._memory, self.tables)
        kvm = self._owned.keep(Kvm())
        kvm.require("SYNC_REGS")
        vm = self._owned.keep(kvm.create_vm())
        vm.set_memory(0, 0, self._memory.size, self._memory.host)
        self._vcpu = self._owned.keep(vm.create_vcpu())
        leaves = kvm.cpuid()
        self._vcpu.set_cpuid(leaves)
        self._vcpu.set_msrs(ring3.msrs())
        self._xcr0 = _extended_states(leaves)

    def close(self) -> None:
        """Release all kernel resources."""
        self._owned.close()

    def window(self, frames: Frames) -> Window:
        """A window to read files ahead into. Raises OutOfFrames."""
        return Window(self._memory, frames, self.tables)

    def start(self, entry: int, stack: int) -> None:
        """Set where the program begins, after the monitor's own system call."""
        self._begin = entry, stack
        self._enter_ring_3(ring3.PROBE, stack)
        if self._xcr0:
            self._vcpu.set_xcr0(self._xcr0)

    def _enter_ring_3(self, rip: int, rsp: int) -> bool:
        """Put the processor into ring 3; returns whether it was in ring 0."""
        sregs = self._vcpu.sregs()
        was_ring_0 = bool(sregs.cs.dpl == 0)
        ring3.enter(sregs, self.tables.root, 0, xsave=bool(self._xcr0))
        self._vcpu.set_sregs(sregs)
        # all others are 0: RDX of a new vCPU is not, and the program would call it at exit
        self._vcpu.set_regs(ffi.new("struct kvm_regs *", {"rip": rip, "rsp": rsp, "rflags": 2}))
        return was_ring_0

    def set_thread_pointer(self, value: int) -> None:
        """Set the base of FS, for arch_prctl(2)."""
        sregs = self._vcpu.sregs()
        sregs.fs.base = value
        self._vcpu.set_sregs(sregs)

    def run(
        self, linux: Linux, deadline: Deadline, stats: Stats, trace: Trace | None = None
    ) -> None:
        """
        Run until the program has ended.

        Raises GuestError when the virtual machine fails, Timeout at the deadline.
        """
        try:
            self._run(linux, deadline, stats, trace)
        except KernelError as error:
            raise stuck(self._vcpu, error) from None

    def _run(self, linux: Linux, deadline: Deadline, stats: Stats, trace: Trace | None) -> None:
        vcpu, state = self._vcpu, self._vcpu.state
        enter, io = vcpu.enter, state.io
        vcpu.set_signal_mask(deadline.mask)
        state.kvm_valid_regs = abi.SYNC_X86_REGS  # each exit leaves the registers in `state`
        regs = state.s.regs.regs
        while linux.ending is None:
            began = clock()
            if not enter():
                drain()
                deadline.check()
                continue
            left = clock()
            if state.exit_reason != abi.EXIT_IO:
                raise crash(vcpu)
            if io.port == ring3.SYSCALL_PORT:
                if self._arrives_in_ring_0 is None:
                    self._arrives_in_ring_0 = self._enter_ring_3(*self._begin)
                    continue
                name = self._system_call(linux, regs, trace)
            elif io.port == ring3.FAULT_PORT:
                name = self._fault(linux, regs)
            else:
                raise crash(vcpu)
            stats.add(name, left - began, clock() - left)

    def _system_call(self, linux: Linux, regs: CData, trace: Trace | None) -> str:
        name, result = linux.call(
            regs.rax, regs.rdi, regs.rsi, regs.rdx, regs.r10, regs.r8, regs.r9
        )
        if trace:
            trace.exit(f"{name} = {result}", x86.registers(regs), b"")
        regs.rax = result & 0xFFFF_FFFF_FFFF_FFFF
        if not self._arrives_in_ring_0:  # software PVM stays in ring 3, where SYSRET faults
            regs.rip, regs.rflags = regs.rcx, regs.r11
        self._vcpu.state.kvm_dirty_regs = abi.SYNC_X86_REGS
        return name

    def _fault(self, linux: Linux, regs: CData) -> str:
        """An exception, whose frame each gate puts at the top of ring 0's stack."""
        vector, frame = ring3.vector_of(regs.rip), ring3.FAULT_FRAME
        if vector is None or regs.rsp not in (frame, frame - 8):
            raise crash(self._vcpu)  # the program has reached ring 0
        load = self._memory.load
        error = load(frame - 8, 8) if regs.rsp < frame else 0
        rip, rsp = load(frame, 8), load(frame + 24, 8)
        if rip == ring3.COPY:
            return self._serve_copy(linux, regs, rsp)
        address = self._vcpu.sregs().cr2 if vector == 14 else None
        linux.kill(*describe_fault(vector, error, address, rip))
        return "fault"

    def _serve_copy(self, linux: Linux, regs: CData, rsp: int) -> str:
        """The read() that entry.S began cannot write to its buffer: serve it from here."""
        load = self._memory.load
        regs.rax, regs.rdi, regs.rsi = _READ, load(ring3.SAVED_RDI, 8), load(ring3.SAVED_RSI, 8)
        name, result = linux.call(_READ, regs.rdi, regs.rsi, regs.rdx, 0, 0, 0)
        regs.rax = result & 0xFFFF_FFFF_FFFF_FFFF
        regs.rip = regs.rcx = load(ring3.SAVED_RCX, 8)
        regs.rsp, regs.rflags = rsp, 0x202
        self._vcpu.state.kvm_dirty_regs = abi.SYNC_X86_REGS
        sregs = self._vcpu.sregs()
        ring3.enter(sregs, self.tables.root, sregs.fs.base, xsave=bool(self._xcr0))
        self._vcpu.set_sregs(sregs)
        return name


def _extended_states(leaves: CData) -> int:
    """The XCR0 that these CPUID leaves allow, 0 without XSAVE."""
    found = {(leaf.function, leaf.index): leaf for leaf in leaves.entries[0 : leaves.nent]}
    if not found[1, 0].ecx & _XSAVE_BIT or (0xD, 0) not in found:
        return 0
    return found[0xD, 0].eax & _XCR0_SUPPORTED  # type: ignore[no-any-return]


def describe_fault(vector: int, error: int, address: int | None, rip: int) -> tuple[int, str]:
    """The signal a Unix sends for an exception, and a sentence that describes it."""
    signal, what = _EXCEPTIONS.get(vector, (_SIGSEGV, f"raised exception {vector}"))
    if address is not None:  # a page fault: bits of the error code, Intel SDM volume 3, 4.7
        verb = "ran code at" if error & 16 else "wrote to" if error & 2 else "read"
        why = "whose permissions forbid it" if error & 1 else "where nothing is mapped"
        what = f"{verb} {address:#x}, {why}"
    return signal, f"the program {what}, at instruction {rip:#x}"
