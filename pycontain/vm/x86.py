"""The x86 state a processor starts with, set through KVM's structures."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .kvm import CData, Vcpu

BOOT_SECTOR = 0x7C00  # where a PC's firmware has put the first sector of a disk since 1981

GENERAL = (
    "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rsp", "rbp",
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
)  # fmt: skip
REGISTERS = ("rip", "rflags", *GENERAL)


def start_real_mode(vcpu: Vcpu, address: int) -> None:
    """Real mode at this address below 64 KiB, segments 0, the stack right below the code."""
    sregs = vcpu.sregs()
    sregs.cs.base = sregs.cs.selector = 0
    vcpu.set_sregs(sregs)
    regs = vcpu.regs()
    regs.rip = regs.rsp = address
    regs.rflags = 2  # the bit that is always one
    vcpu.set_regs(regs)


def describe(vcpu: Vcpu) -> str:
    """Where a processor is, for an error message: `cs:rip 0:7c0a`."""
    return f"cs:rip {vcpu.sregs().cs.selector:x}:{vcpu.regs().rip:x}"


def registers(regs: CData) -> dict[str, int]:
    """The general registers by name, instruction pointer first."""
    return {name: getattr(regs, name) for name in REGISTERS}
