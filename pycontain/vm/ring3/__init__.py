"""
What replaces a kernel in the guest: descriptor tables, a task state segment, stubs.

It takes seven pages below the lowest address a program may use, identity-mapped, and one for each
further processor. Programs start and stay in ring 3; system calls and faults leave the virtual
machine through a port that the monitor serves. Intel SDM volume 3, chapters 3, 6 and 8.
"""

from __future__ import annotations

import os
import struct

from ..abi import (  # fmt: skip
    CR0_ET,
    CR0_MP,
    CR0_NE,
    CR0_PE,
    CR0_PG,
    CR0_WP,
    CR4_OSFXSR,
    CR4_OSXMMEXCPT,
    CR4_OSXSAVE,
    CR4_PAE,
    EFER_LMA,
    EFER_LME,
    EFER_NXE,
    EFER_SCE,
    MSR_LSTAR,
    MSR_SFMASK,
    MSR_STAR,
)
from ..frames import OutOfFrames
from ..memory import PAGE
from ..paging import EXECUTE, READ, WRITE
from ..space import HIGHEST

TYPE_CHECKING = False
if TYPE_CHECKING:
    from ..frames import Frames
    from ..kvm import CData
    from ..memory import Memory
    from ..paging import PageTables

SYSCALL_PORT, FAULT_PORT = 0x80, 0x81

_GDT, _IDT, _FAULTS, ENTRY, DATA, STACK, CLOCK = range(0x1000, 0x8000, 0x1000)
STACK_TOP = STACK + PAGE
FRAME = PAGE - 40  # RIP, CS, RFLAGS, RSP, SS; some exceptions put an error code below
_STACKS = HIGHEST + (1 << 20)  # of further processors, above the window
PROCESSORS_MAX = 255
_PAGES = (
    # address, permissions, for ring 3
    (_GDT, READ, False),
    (_IDT, READ, False),
    (_FAULTS, READ | EXECUTE, False),
    (ENTRY, READ | EXECUTE, True),
    (DATA, READ | WRITE, True),
    (STACK, READ | WRITE, False),
    (CLOCK, READ, True),
)

# selectors, in the order that SYSCALL and SYSRET require
_KERNEL_CODE, _KERNEL_DATA, _USER_DATA, _USER_CODE, _TSS_SELECTOR = 0x08, 0x10, 0x23, 0x2B, 0x30
_DESCRIPTORS = (
    0,
    0x00AF_9B00_0000_FFFF,  # kernel code, 64-bit
    0x00CF_9300_0000_FFFF,  # kernel data
    0x00CF_FB00_0000_FFFF,  # user code, 32-bit: never used, but the base of SYSRET's selectors
    0x00CF_F300_0000_FFFF,  # user data
    0x00AF_FB00_0000_FFFF,  # user code, 64-bit
)

_TSS_SIZE = 0x68
_BITMAP = bytes(0xFF if port // 8 != SYSCALL_PORT // 8 else 0xFE for port in range(0, 0x90, 8))
_TSS_LIMIT = _TSS_SIZE + len(_BITMAP)  # and the byte of ones that must follow the bitmap
_VECTORS, _STUB = 32, 8
_BREAKPOINT = 3
_TRAP_FLAG, _DIRECTION_FLAG = 0x100, 0x400

# Labels of entry.S: where it copies, and the system call of the monitor's own
COPY, PROBE = ENTRY + 0x6A, ENTRY + 0x104
# where it saves registers before it copies
SAVED_RDI, SAVED_RSI, SAVED_RCX = DATA + 0x18, DATA + 0x20, DATA + 0x28
# what it answers getpid(2) and gettid(2) with, unless it is 0
PID, TID = DATA + 0x38, DATA + 0x40
# what vdso.S adds to KVM's clock: for the time since the program began, and of day
UPTIME, DATE = CLOCK + 0x80, CLOCK + 0x88


def blob(name: str) -> bytes:
    """What a source of this folder assembles to."""
    with open(f"{os.path.dirname(__file__)}/{name}.bin", "rb") as file:
        return file.read()


_CODE, VDSO = blob("entry"), blob("vdso")  # now: in a container the files are out of reach


def build(memory: Memory, tables: PageTables) -> None:
    """Write the pages and map them."""
    memory.write(_GDT, struct.pack("<6Q", *_DESCRIPTORS) + _tss_descriptor())
    memory.write(_IDT, b"".join(_gate(vector) for vector in range(_VECTORS)))
    memory.write(_FAULTS, bytes((0xE6, FAULT_PORT, 0xF4, 0, 0, 0, 0, 0)) * _VECTORS)  # out; hlt
    memory.write(ENTRY, _CODE)
    memory.store(DATA, 8, (1 << 64) - 1)  # no file is in the window
    for address, prot, user in _PAGES:
        tables.map(address, address, PAGE, prot, user=user)
    memory.write(STACK, _tss(STACK))


def add_processor(memory: Memory, frames: Frames, tables: PageTables, number: int) -> int:
    """The physical address of the page of a further processor. Raises OutOfFrames."""
    frame, address = frames.take_last(PAGE), stack_of(number)
    try:
        tables.map(address, frame, PAGE, READ | WRITE, user=False)
    except OutOfFrames:
        frames.give(frame, PAGE)
        raise
    memory.write(frame, _tss(address))
    return frame


def stack_of(number: int) -> int:
    """
    The address of the page of a processor, with its task state segment and its stack for faults.

    They differ since two processors can fault at once.
    """
    return _STACKS + (number - 1) * PAGE if number else STACK


def _tss_descriptor() -> bytes:
    return struct.pack("<HHBBBBII", _TSS_LIMIT, STACK & 0xFFFF, 0, 0x89, 0, 0, 0, 0)


def _tss(page: int) -> bytes:
    """Stacks for ring 0 and for all gates, and an I/O bitmap that opens one port to ring 3."""
    stacks = struct.pack("<IQQQQQ", 0, page + PAGE, 0, 0, 0, page + PAGE)
    head = stacks.ljust(0x66, b"\0") + struct.pack("<H", _TSS_SIZE)
    return head + _BITMAP + b"\xff"


def _gate(vector: int) -> bytes:
    """An interrupt gate on IST1, a stack in the TSS, so that no fault uses the program's stack."""
    offset = _FAULTS + vector * _STUB
    access = 0xEE if vector == _BREAKPOINT else 0x8E  # programs may execute INT3
    return struct.pack("<HHBBHII", offset & 0xFFFF, _KERNEL_CODE, 1, access, 0, 0, 0)


def vector_of(rip: int) -> int | None:
    """Which exception the stub at this address stands for, if it is in one."""
    vector = (rip - _FAULTS) // _STUB
    return vector if 0 <= vector < _VECTORS else None


def msrs() -> dict[int, int]:
    """The model-specific registers of SYSCALL."""
    return {
        MSR_STAR: (0x18 | 3) << 48 | _KERNEL_CODE << 32,
        MSR_LSTAR: ENTRY,
        MSR_SFMASK: _TRAP_FLAG | _DIRECTION_FLAG,
    }


def enter(sregs: CData, root: int, stack: int, thread_pointer: int, *, xsave: bool) -> None:
    """Fill in struct kvm_sregs for ring 3, with these page tables and page of a processor."""
    data = {
        "base": 0, "limit": 0xFFFF_FFFF, "selector": _USER_DATA, "type": 3, "present": 1,
        "dpl": 3, "db": 1, "s": 1, "l": 0, "g": 1,
    }  # fmt: skip
    for segment in (sregs.ds, sregs.es, sregs.fs, sregs.gs, sregs.ss, sregs.cs):
        _fill(segment, data)
    _fill(sregs.cs, {"selector": _USER_CODE, "type": 11, "db": 0, "l": 1})
    sregs.fs.base = thread_pointer
    _fill(
        sregs.tr,
        {"base": stack, "limit": _TSS_LIMIT, "selector": _TSS_SELECTOR, "type": 11, "present": 1,
         "dpl": 0, "s": 0, "g": 0},
    )  # fmt: skip
    sregs.gdt.base, sregs.gdt.limit = _GDT, 8 * len(_DESCRIPTORS) + 15
    sregs.idt.base, sregs.idt.limit = _IDT, 16 * _VECTORS - 1
    sregs.cr0 = CR0_PE | CR0_MP | CR0_ET | CR0_NE | CR0_WP | CR0_PG
    sregs.cr4 = CR4_PAE | CR4_OSFXSR | CR4_OSXMMEXCPT | (CR4_OSXSAVE if xsave else 0)
    sregs.efer = EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE
    sregs.cr3 = root


def _fill(target: CData, values: dict[str, int]) -> None:
    for name, value in values.items():
        setattr(target, name, value)
