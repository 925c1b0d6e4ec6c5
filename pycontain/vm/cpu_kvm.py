"""A processor in ring 3 of a KVM virtual machine."""

from __future__ import annotations

from ..errors import KernelError
from . import abi, ring3
from ._ffi import ffi
from .cpu import Fault
from .engine_kvm import crash, stuck
from .kvm import Kvm
from .owned import Owned
from .paging import PageTables
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
_SIGSEGV, _SI_KERNEL = 11, 0x80
_EXCEPTIONS = {
    0: (8, 1, "divided by zero"), 1: (5, 2, "hit a trap"), 3: (5, 0x80, "hit a breakpoint"),
    6: (4, 2, "ran an illegal instruction"), 13: (11, 0x80, "caused a general protection fault"),
    14: (11, 1, "accessed memory"), 16: (8, 7, "made a floating-point error"),
    17: (7, 1, "made a misaligned memory access"), 19: (8, 7, "made a floating-point error"),
}  # fmt: skip


class KvmCpu:
    """
    A virtual machine with one processor, for one task; kvm is /dev/kvm if that is open already.

    Raises HostError without /dev/kvm, KernelError when KVM refuses.
    """

    machine = "x86_64"

    def __init__(
        self, memory: Memory, frames: Frames, deadline: Deadline, kvm: Kvm | None = None
    ) -> None:
        self._memory = memory
        self._frames = frames
        self._deadline = deadline
        self._kvm = kvm or Kvm()  # kept: in the jail of a forked process it cannot be opened
        self._owned = Owned()
        self._arrives_in_ring_0: bool | None = None  # SYSCALL; None before the program begins
        self._fault: tuple[int, int, int] | None = None  # RIP, RFLAGS, RSP of the program
        self._fs = 0
        self._vcpu: Vcpu
        try:
            self.tables = PageTables(memory, frames)
            ring3.build(memory, self.tables)
            self._assemble()
        except BaseException:
            self.close()
            raise

    def _assemble(self) -> None:
        kvm = self._kvm
        kvm.require("SYNC_REGS")
        vm = self._owned.keep(kvm.create_vm())
        vm.set_memory(0, 0, self._memory.size, self._memory.host)
        self._vcpu = vcpu = self._owned.keep(vm.create_vcpu())
        leaves = kvm.cpuid()
        vcpu.set_cpuid(leaves)
        vcpu.set_msrs(ring3.msrs())
        vcpu.set_signal_mask(self._deadline.mask)
        vcpu.state.kvm_valid_regs = abi.SYNC_X86_REGS  # each exit leaves the registers there
        self._regs = vcpu.state.s.regs.regs
        self._xcr0 = _extended_states(leaves)

    def close(self) -> None:
        """Release all kernel resources."""
        self._owned.close()
        self._kvm.close()
        if hasattr(self, "tables"):
            self.tables.close()

    def window(self) -> Window:
        """A window to read files ahead into. Raises OutOfFrames."""
        return Window(self._memory, self._frames, self.tables)

    # --- state ---------------------------------------------------------------------------------

    def start(self, entry: int, stack: int) -> None:
        """Set where the program begins; the first time after the monitor's own system call."""
        self._begin = {"rip": entry, "rsp": stack, "rflags": _FLAGS}
        if self._arrives_in_ring_0 is None:
            if self._xcr0:
                self._vcpu.set_xcr0(self._xcr0)
            self._enter_ring_3({"rip": ring3.PROBE, "rsp": stack, "rflags": 2})
        else:
            self.set_thread_pointer(0)
            self.set_extended(b"")
            self.set_registers(self._begin)

    def _enter_ring_3(self, registers: dict[str, int]) -> bool:
        """Put the processor into ring 3; returns whether it was in ring 0."""
        sregs = self._vcpu.sregs()
        was_ring_0 = bool(sregs.cs.dpl == 0)
        ring3.enter(sregs, self.tables.root, self._fs, xsave=bool(self._xcr0))
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
        """See Cpu. KVM refuses the old virtual machine to all but the process that created it."""
        self._owned.close()
        self._assemble()
        if self._xcr0:
            self._vcpu.set_xcr0(self._xcr0)
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
        if not vcpu.enter():
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
        vector, frame = ring3.vector_of(regs.rip), ring3.FAULT_FRAME
        if vector is None or regs.rsp not in (frame, frame - 8):
            raise crash(self._vcpu)  # the program has reached ring 0
        load = self._memory.load
        error = load(frame - 8, 8) if regs.rsp < frame else 0
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
    if address is not None:  # a page fault: bits of the error code, Intel SDM volume 3, 4.7
        verb = "ran code at" if error & 16 else "wrote to" if error & 2 else "read"
        why = "whose permissions forbid it" if error & 1 else "where nothing is mapped"
        what, code = f"{verb} {address:#x}, {why}", 2 if error & 1 else 1
    return Fault(
        signal=signal, code=code, what=what, where=rip,
        address=rip if address is None else address,
    )  # fmt: skip
