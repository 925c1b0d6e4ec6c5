"""
The frame of a signal handler on x86-64, and siginfo_t.

struct rt_sigframe of arch/x86/include/asm/sigframe.h: a return address, struct ucontext, siginfo_t;
above it the floating-point state. sigaction(2), sigreturn(2).
"""

from __future__ import annotations

import struct

from ..space import BadAddress

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..cpu import Fault
    from .signals import Action
    from .task import Task

_RED_ZONE = 128  # bytes below the stack pointer that leaf functions use, System V ABI 3.2.2
_ORDER = (
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rdi", "rsi", "rbp", "rbx", "rdx",
    "rax", "rcx", "rsp", "rip", "rflags",
)  # fmt: skip
_CONTEXT = struct.Struct("<QQQiiQ")  # uc_flags, uc_link, uc_stack
# registers, segments, err, trapno, oldmask, cr2, fpstate
_MACHINE = struct.Struct("<18Q4HQQQQQ64x")
_MASK = struct.Struct("<Q")
_INFORMATION = 128
_SIZE = 8 + _CONTEXT.size + _MACHINE.size + _MASK.size + _INFORMATION
_USER_CODE, _USER_DATA = 0x33, 0x2B  # the selectors that Linux has
_FLAGS = 0x7  # UC_FP_XSTATE, UC_SIGCONTEXT_SS, UC_STRICT_RESTORE_SS
_LEGACY, _EXTENDED = 512, 2688  # bytes: FXSAVE, and XSAVE up to AVX-512
_MAGIC1, _MAGIC2 = 0x4650_5853, 0x4650_5845
_XFEATURES = 0xE7
_TRAP_FLAG, _DIRECTION_FLAG = 0x100, 0x400
_ONSTACK, _DISABLE, _AUTODISARM = 1, 2, 1 << 31
_SA_ONSTACK = 0x0800_0000
_CLD_EXITED, _CLD_KILLED = 1, 2


def information(signal: int, code: int, sender: int, status: int = 0) -> bytes:
    """siginfo_t of a signal that a process or a timer sent."""
    if signal == 17 and code in (_CLD_EXITED, _CLD_KILLED):
        code = _CLD_KILLED if status & 0x7F else _CLD_EXITED
        status = status & 0x7F or status >> 8
    return struct.pack("<iiiiIIi", signal, 0, code, 0, sender, 0, status).ljust(_INFORMATION, b"\0")


def fault_information(fault: Fault) -> bytes:
    """siginfo_t of an exception."""
    head = struct.pack("<iiiiQ", fault.signal, 0, fault.code, 0, fault.address)
    return head.ljust(_INFORMATION, b"\0")


def push(task: Task, action: Action, signal: int, about: bytes, mask: int, address: int) -> None:
    """Write a frame and set the registers for the handler. Raises BadAddress."""
    registers = task.cpu.registers()
    base, flags, size = task.stack
    inside = base <= registers["rsp"] < base + size
    top = registers["rsp"] - _RED_ZONE
    if action.flags & _SA_ONSTACK and not flags & _DISABLE and not inside:
        top = base + size
    state = _saved_state(task.cpu.extended())
    floating = (top - len(state)) // 64 * 64
    start = (floating - _SIZE) // 16 * 16 - 8
    if start < 0:
        raise BadAddress
    on = _ONSTACK if inside and not flags & _DISABLE else flags & ~_AUTODISARM
    context = _CONTEXT.pack(_FLAGS, 0, base, on, 0, size)
    machine = _MACHINE.pack(
        *(registers[name] for name in _ORDER), _USER_CODE, 0, 0, _USER_DATA,
        0, 14 if address else 0, mask, address, floating,
    )  # fmt: skip
    frame = _MASK.pack(action.restorer) + context + machine + _MASK.pack(mask) + about
    task.space.write(floating, state)
    task.space.write(start, frame)
    task.cpu.set_registers({
        **registers, "rip": action.handler, "rsp": start, "rax": 0, "rdi": signal,
        "rsi": start + _SIZE - _INFORMATION, "rdx": start + 8,
        "rflags": registers["rflags"] & ~(_TRAP_FLAG | _DIRECTION_FLAG),
    })  # fmt: skip


def _saved_state(extended: bytes) -> bytes:
    """The floating-point state with the kernel's own words, struct _fpx_sw_bytes, in it."""
    if len(extended) <= _LEGACY:
        return extended
    own = struct.pack("<IIQI", _MAGIC1, _EXTENDED + 4, _XFEATURES, _EXTENDED).ljust(48, b"\0")
    return extended[:464] + own + extended[512:_EXTENDED] + struct.pack("<I", _MAGIC2)


def pop(task: Task) -> int:
    """
    Restore what the handler interrupted; returns the signal mask.

    Raises BadAddress or ValueError for a frame that is none.
    """
    start = task.cpu.registers()["rsp"] - 8  # the handler has returned to the restorer
    whole = task.space.read(start, _SIZE)
    _, _, base, flags, _, size = _CONTEXT.unpack_from(whole, 8)
    values = _MACHINE.unpack_from(whole, 8 + _CONTEXT.size)
    (mask,) = _MASK.unpack_from(whole, 8 + _CONTEXT.size + _MACHINE.size)
    registers = dict(zip(_ORDER, values, strict=False))
    floating = values[-1]
    size_of_state = min(len(task.cpu.extended()), _EXTENDED)
    if floating:
        task.cpu.set_extended(_checked_state(task.space.read(floating, size_of_state)))
    task.stack = base, flags & ~_ONSTACK, size
    task.cpu.set_registers(registers)
    return mask  # type: ignore[no-any-return]


def _checked_state(state: bytes) -> bytes:
    """A state that the processor accepts, without words of the kernel's own."""
    clean = state[:464] + bytes(48) + state[512:]
    if len(clean) <= _LEGACY:
        return clean
    features = int.from_bytes(clean[512:520], "little") & _XFEATURES
    mxcsr = int.from_bytes(clean[24:28], "little") & 0xFFFF
    clean = clean[:24] + mxcsr.to_bytes(4, "little") + clean[28:]
    return clean[:512] + features.to_bytes(8, "little") + bytes(56) + clean[576:]
