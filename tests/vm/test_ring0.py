"""
Guests in ring 0 that present garbage in every register to every way out of the machine.

Whatever they do, the run has an ending, or fails with a GuestError or Timeout of one line.
"""

from __future__ import annotations

import os
import random
import time
from contextlib import ExitStack
from functools import partial

import pytest

from pycontain.errors import GuestError, Timeout
from pycontain.vm import ring3
from pycontain.vm.cpu_kvm import KvmCpu
from pycontain.vm.deadline import Deadline
from pycontain.vm.devices import ports, virtio
from pycontain.vm.frames import Frames
from pycontain.vm.machine import Hardware, run_flat
from pycontain.vm.memory import PAGE, Memory
from pycontain.vm.paging import EXECUTE, READ, WRITE
from pycontain.vm.program import MIB
from pycontain.vm.sink import Capture
from pycontain.vm.space import LOWEST, Space
from pycontain.vm.trace import Trace

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
OTHERS = (RBX, RBP, *range(8, 16))
LIMIT = 5.0  # seconds for one run; it may end a little later
SLACK = 20.0  # on a busy host

ODD = (
    0, 1, 2, 3, 4, 8, 11, 15, 0x40, 0x7F, 0x80, 0xFF, 0x100, 0x200, 0xFFF, 0x1000, 0x20_0000,
    0x20_0FFF, 0xFF_FFF0, 0xFF_FFF4, 0xFF_FFFC, 0xFF_FFFF, 0x100_0000, 0x7FFF_FFFF, 0x8000_0000,
    0xD000_0000, 0xD000_0050, 0xFFFF_FFF0, 0xFFFF_FFFF, 1 << 32, 1 << 47, 1 << 63, (1 << 64) - 1,
)  # fmt: skip


def mov(register, value):
    """mov $value, %register"""
    value &= (1 << 64) - 1
    return bytes((0x48 | register >> 3, 0xB8 | register & 7)) + value.to_bytes(8, "little")


def garbage(chance, registers=(RAX, RCX, RDX, RSI, RDI, *OTHERS)):
    """Something odd in each register."""
    return b"".join(mov(register, odd(chance)) for register in registers)


def odd(chance, *usual):
    """Mostly one of the usual values, if there are any; else a special or a random one."""
    if usual and chance.random() < 0.75:
        return chance.choice(usual)
    return chance.choice(ODD) if chance.random() < 0.8 else chance.getrandbits(64)


def ending(call):
    """How a run ended, or its error; nothing else may happen, and not much later."""
    began = time.monotonic()
    try:
        return call()
    except (GuestError, Timeout) as error:
        line = str(error)
    assert line
    assert "\n" not in line
    assert time.monotonic() - began < LIMIT + SLACK
    return line


# --- machines ----------------------------------------------------------------------------------

# The first and the fourth gigabyte, where the devices are, are identity-mapped.
LONG_MODE = """
        .include "board.inc"
enter_protected
protected:
flat_segments
enter_long
        .code64
long:   movl    $0x4007, 0x2018
        mov     $0x4000, %edi
        mov     $0xc0000087, %eax
1:      mov     %rax, (%rdi)
        add     $0x200000, %rax
        add     $8, %rdi
        cmp     $0x5000, %edi
        jne     1b
        jmp     code
gdt_table
        .balign 16
code:
"""
QUIT = b"\xb0\x2a\xe6\xf4\xf4"  # mov $42, %al; out %al, $0xf4; hlt
SCRATCH = 0x30_0000
PORTS = (
    *range(0x3F8, 0x401), 0x5F, *range(0x60, 0x64), 0x65, 0x80, 0x81, 0xF3, 0xF5,
    *range(0x50F, 0x515), 0xCF8, 0xFFFF,
)  # fmt: skip
PLAIN = (b"\xee", b"\xef", b"\x66\xef", b"\xec", b"\xed", b"\x66\xed")  # out, in: 1, 4, 2 bytes
STRINGS = (b"\x6e", b"\x6f", b"\x66\x6f", b"\x6c", b"\x6d", b"\x66\x6d")  # outs, ins
STORES = (b"\x88\x07", b"\x66\x89\x07", b"\x89\x07", b"\x48\x89\x07")  # %rax to (%rdi), 1 to 8
LOADS = (b"\x8a\x07", b"\x66\x8b\x07", b"\x8b\x07", b"\x48\x8b\x07")
CONSOLE, DISK = 0xD000_0000, 0xD000_1000
NEXT, DEVICE_WRITES = 1, 2
REGISTERS = (*range(0, 0x110, 4), 0x01, 0x13, 0x51, 0x72, 0x118, 0x200, 0xFF8)


def each_port(chance):
    """IN and OUT of each size, single and repeated, at each port but those that end the machine."""
    for port in PORTS:
        for access in PLAIN:
            yield garbage(chance) + mov(RDX, port) + access
        for access in STRINGS:
            count = chance.choice((0, 1, 3, 40))
            where = mov(RSI, SCRATCH) + mov(RDI, SCRATCH) + mov(RCX, count)
            yield garbage(chance) + mov(RDX, port) + where + b"\xf3" + access


def each_register(chance):
    """Loads and stores of each size at each register of the devices, which come up in between."""
    for device in (CONSOLE, DISK):
        for register in REGISTERS:
            for access in (*STORES, *LOADS):
                yield garbage(chance) + mov(RDI, device + register) + access
        for _ in range(150):
            yield bring_up(device, chance) + request(chance)
            yield (
                garbage(chance)
                + mov(RAX, chance.choice((0, 1)))
                + mov(RDI, device + 0x50)
                + STORES[2]
            )


def each_hypercall(chance):
    """Requests of garbage words, at good addresses and at others."""
    for _ in range(300):
        words = odd(chance, 1), odd(chance, SCRATCH), odd(chance, 0, 5, 4096, 5 << 20), 0
        write = b"".join(
            mov(RDI, SCRATCH + 4 * number) + mov(RAX, word) + STORES[2]
            for number, word in enumerate(words)
        )
        at = odd(chance, SCRATCH)
        yield write + garbage(chance) + mov(RAX, at) + mov(RDX, 0x510) + b"\xef"


def bring_up(device, chance):
    """Negotiate, and put a queue where ring() writes."""
    steps = (
        (0x70, 0), (0x70, 3), (0x24, 1), (0x20, 1), (0x70, 11),
        (0x30, chance.randrange(2) if device == CONSOLE else 0),
        (0x38, 8), (0x80, SCRATCH), (0x90, SCRATCH + 0x1000), (0xA0, SCRATCH + 0x2000), (0x44, 1),
        (0x70, 15),
    )  # fmt: skip
    return b"".join(
        mov(RDI, device + register) + mov(RAX, value) + STORES[2] for register, value in steps
    )


def request(chance):
    """A request of three descriptors as a disk expects it, but for a few words."""
    header, data, status = SCRATCH + 0x3000, SCRATCH + 0x4000, SCRATCH + 0x5000
    table = [
        [header, 16, NEXT, 1],
        [data, 512, NEXT | chance.choice((0, DEVICE_WRITES)), 2],
        [status, 1, DEVICE_WRITES, 0],
    ]
    for _ in range(chance.randrange(3)):
        entry, field = chance.randrange(3), chance.randrange(4)
        values = ODD, (0, 1, 15, 513, 0xFFFF_FFFF), range(5), (0, 1, 3, 8, 0xFFFF)
        table[entry][field] = chance.choice(values[field])
    out = store(header, odd(chance, 0, 1, 4, 8))
    out += store(header + 8, odd(chance, 0, 3, 127, 128))
    for number, (address, length, flags, follow) in enumerate(table):
        at = SCRATCH + 16 * number
        out += store(at, address) + store(at + 8, length | flags << 32 | follow << 48)
    pending = chance.choice((1, 1, 1, 1, 0, 8, 9, 0xFFFF))
    head = chance.choice((0, 0, 0, 1, 7, 8, 0xFFFF))
    return out + store(SCRATCH + 0x1000, pending << 16 | head << 32) + store(SCRATCH + 0x1008, 0)


def store(address, value):
    return mov(RDI, address) + mov(RAX, value) + STORES[3]


@pytest.fixture
def disk(tmp_path):
    (tmp_path / "disk").write_bytes(os.urandom(1 << 16))
    fd = os.open(tmp_path / "disk", os.O_RDWR)
    yield fd
    os.close(fd)


def machine(code, disk=-1, timeout=LIMIT, **how):
    """Run a flat guest; returns how it ended."""
    hardware = Hardware(disk=disk, memory=16 * MIB)
    return run_flat(code, Capture(), hardware, timeout=timeout, **how)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("ways", [each_port, each_register, each_hypercall])
def test_no_garbage_at_a_device_breaks_the_monitor(assemble, engine, disk, ways, seed):
    steps = list(ways(random.Random(seed)))
    result = machine(assemble(LONG_MODE) + b"".join(steps) + QUIT, disk, engine=engine)
    assert (result.ending.why, result.ending.status) == ("exit", 42)  # it survived them all
    assert result.stats.total() >= len(steps)


@pytest.mark.parametrize(("module", "ways"), [(ports, each_hypercall), (virtio, each_register)])
def test_a_device_that_lets_bad_addresses_through_does_not_survive_it(
    assemble, needs_kvm, disk, monkeypatch, module, ways
):
    monkeypatch.setattr(module, "OutsideMemory", KeyError)
    image = assemble(LONG_MODE) + b"".join(ways(random.Random(0))) + QUIT
    with pytest.raises(GuestError, match="guest physical address"):
        machine(image, disk)


JUMP, CALL = b"\xff\xe0", b"\xff\xd0"
ENDINGS = {
    "halts": b"\xf4",
    "resets": b"\xb0\xfe\xe6\x64",
    "runs the registers of a device": mov(RAX, CONSOLE) + JUMP,
    "runs where nothing is": mov(RAX, 0xE000_0000) + JUMP,
    "runs nothing that is canonical": mov(RAX, 1 << 63) + JUMP,
    "has its stack in a device": mov(RSP, CONSOLE + 0x70) + mov(RAX, 0x7C00) + CALL,
    "has its page tables in a device": mov(RAX, CONSOLE) + b"\x0f\x22\xd8",
    "has its page tables outside of memory": mov(RAX, 0xFF_FFFF_F000) + b"\x0f\x22\xd8",
    "sets every bit of CR0": mov(RAX, -1) + b"\x0f\x22\xc0",
    "clears CR0": mov(RAX, 0) + b"\x0f\x22\xc0",
    "sets every bit of CR4": mov(RAX, -1) + b"\x0f\x22\xe0",
    "clears EFER": mov(RCX, 0xC000_0080) + mov(RAX, 0) + mov(RDX, 0) + b"\x0f\x30",
    "sets every bit of EFER": mov(RCX, 0xC000_0080) + mov(RAX, -1) + mov(RDX, -1) + b"\x0f\x30",
    "sets flags": mov(RAX, -1) + b"\x50\x9d\x90\xf4",
    "saves its state to a device": mov(RAX, CONSOLE) + b"\x0f\xae\x00",
    "loads its descriptors from a device": mov(RAX, CONSOLE) + b"\x0f\x01\x10\x8e\xd8",
    "loads its interrupt table from a device": mov(RAX, CONSOLE) + b"\x0f\x01\x18\x0f\x0b",
    "returns to garbage": mov(RSP, SCRATCH) + b"\x48\xcf",
    "returns to a program": b"\x48\x0f\x07",
    "is interrupted without a handler": b"\xcd\x80",
    "calls a hypervisor": b"\x0f\x01\xc1\xf4",
    "calls another hypervisor": b"\x0f\x01\xd9\xf4",
    "waits for ever": b"\xfa\xeb\xfe",
    "overwrites itself": mov(RDI, 0x7C00) + mov(RCX, 0x10000) + b"\xf3\xaa",
    "overwrites all memory": mov(RDI, 0) + mov(RCX, 0xFF_FFFF) + b"\xf3\xaa",
}


@pytest.mark.needs_bare_kvm  # most are a triple fault
@pytest.mark.parametrize("name", ENDINGS)
def test_a_guest_in_ring_0_ends_or_is_ended(assemble, engine, name):
    image = assemble(LONG_MODE) + garbage(random.Random(name)) + ENDINGS[name]
    for cut in (image, image + QUIT):
        ending(partial(machine, cut, engine=engine, trace=Trace(len), timeout=0.5))


@pytest.mark.needs_bare_kvm
@pytest.mark.parametrize("seed", range(12))
def test_random_accesses_and_endings_have_an_end(assemble, engine, disk, seed):
    chance = random.Random(seed)
    steps = [*each_port(chance), *each_register(chance), *each_hypercall(chance)]
    picked = chance.sample(steps, 50) + [chance.choice(sorted(ENDINGS.values()))]
    code = assemble(LONG_MODE) + b"".join(picked) + bytes(chance.getrandbits(8) for _ in range(999))
    ending(lambda: machine(code, disk, engine=engine, timeout=1))


# --- programs that have reached ring 0 ---------------------------------------------------------
# There is no way to get there (test_space_attacks.py); the monitor does not rely on it.

CODE, DATA = 0x40_0000, 0x60_0000
SYSCALL, FAULT = ring3.SYSCALL_PORT, ring3.FAULT_PORT


class Ring0(KvmCpu):
    """Begins in ring 0."""

    def _enter_ring_3(self, registers):
        arrived = super()._enter_ring_3(registers)
        if registers["rip"] != ring3.PROBE:
            sregs = self._vcpu.sregs()
            for segment, selector in ((sregs.cs, 8), (sregs.ss, 16), (sregs.ds, 16)):
                segment.selector, segment.dpl = selector, 0
            self._vcpu.set_sregs(sregs)
        return arrived


class ReadsTheStack(Ring0):
    """The old way: a fault's frame is what is between the stack pointer and the top."""

    def _on_fault(self, handler):
        start = self._regs.rsp
        words = [self._memory.load(at, 8) for at in range(start, ring3.STACK_TOP, 8)]
        return bool(words[-5])


class Served:
    """Answers every call with garbage, as far as the engine can tell."""

    def __init__(self, chance):
        self._chance = chance
        self.cpu = None
        self.deadline = None
        self.ending = None
        self.left = 1000

    def call(self):
        assert all(0 <= value < 1 << 64 for value in self.cpu.call())
        self.left -= 1
        self.cpu.answer(odd(self._chance) - (1 << 63))
        if not self.left:
            self.ending = "exit"
        return bool(self.left)

    def fault(self, fault):
        self.ending = fault.sentence()
        return False

    def kicked(self):
        self.deadline.check()
        return True


def program(code, kind=Ring0, served=None):
    """Run code as a program of this kind; returns its ending."""
    memory = Memory(2 * MIB)
    runner, owned = None, ExitStack()
    try:
        frames = Frames(LOWEST, memory.size)
        served = served or Served(random.Random(len(code)))
        served.deadline = owned.enter_context(Deadline(LIMIT, "the program"))
        runner = served.cpu = kind(memory, frames, served.deadline)
        space = Space(memory, frames, runner.tables)
        space.map(CODE, len(code), READ | EXECUTE, fixed=True, fill=lambda view: put(view, code))
        space.map(DATA, 16 * PAGE, READ | WRITE, fixed=True)
        runner.start(CODE, DATA + 8 * PAGE)
        runner.run(served)
        return served.ending
    finally:
        if runner:
            runner.close()
        owned.close()
        memory.close()


def put(view, code):
    view[: len(code)] = code


def system_calls(chance):
    """OUT and IN of each size at the port of system calls, with garbage in all registers."""
    code = b""
    for access in (b"\xe6", b"\xe7", b"\x66\xe7", b"\xe4", b"\xe5", b"\x66\xe5") * 20:
        code += garbage(chance)
        follow = CODE + len(code) + 2 * len(mov(RCX, 0)) + len(access) + 1
        code += mov(RCX, follow) + mov(11, 2) + access + bytes((SYSCALL,))  # where SYSRET returns
    return code + b"\xf4"


def test_garbage_in_the_registers_of_a_system_call_is_only_passed_on(needs_kvm):
    served = Served(random.Random(0))
    line = ending(lambda: program(system_calls(random.Random(0)), served=served))
    assert "unexpected exit, hlt" in line
    assert served.left == 1000 - 120


STACKS = (
    0, 1, 8, 0x1000, 0x5000, 0x6000, 0x6FC8, 0x6FD0, 0x6FD8, 0x6FE0, 0x6FF8, 0x6FFF, 0x7000,
    0x7001, DATA, 1 << 47, 1 << 63, (1 << 64) - 8,
)  # fmt: skip


@pytest.mark.parametrize("access", [b"\xe6", b"\xe7", b"\xe4", b"\xe5"])
def test_a_fault_that_ring_0_forges_is_not_taken_for_one(needs_kvm, access):
    for stack in STACKS:
        code = garbage(random.Random(stack)) + mov(RSP, stack) + access + bytes((FAULT,))
        assert "unexpected exit, io" in ending(partial(program, code))


def test_a_naive_monitor_that_trusts_the_stack_pointer_fails(needs_kvm):
    code = mov(RSP, ring3.STACK_TOP) + b"\xe6" + bytes((FAULT,))
    with pytest.raises(IndexError):
        program(code, ReadsTheStack)


def test_registers_saved_by_the_entry_code_may_be_forged_too(needs_kvm):
    """A jump to where it copies, with garbage in the words that the program can write."""
    for seed in range(100):
        chance = random.Random(seed)
        words = range(ring3.DATA, ring3.DATA + 0x30, 8)
        code = b"".join(store(at, odd(chance)) for at in words) + garbage(chance)
        code += mov(RSP, odd(chance, DATA)) + mov(RCX, odd(chance)) + mov(RAX, ring3.COPY) + JUMP
        ending(partial(program, code, KvmCpu))
