"""Guests that run with hardware virtualization and not with software PVM."""

from __future__ import annotations

from pathlib import Path

import pytest

from pycontain.vm import cpu_kvm, ring3
from pycontain.vm.guests import GUESTS
from tests.vm.conftest import GUESTS as FOLDER
from tests.vm.programs import compile_c
from tests.vm.programs import run as run_program
from tests.vm.test_machine import run

__all__ = ["compile_c"]  # a fixture

PAGED = """
        .include "board.inc"
enter_protected
protected:
flat_segments
        mov     $0x10000, %edi          # the page directory
        movl    $0x83, (%edi)           # 0 to 4 MiB identity-mapped, in one page
        movl    $0x83, 4(%edi)          # and again from 4 MiB on
        mov     %edi, %cr3
        mov     %cr4, %eax
        or      $0x10, %eax             # CR4.PSE
        mov     %eax, %cr4
        mov     %cr0, %eax
        or      $0x80000000, %eax       # CR0.PG
        mov     %eax, %cr0
        mov     $(text + 0x400000), %esi
        call    print
        exit    5
print_routine
text:   .asciz  "through a page of 32 bits\\n"
gdt_table
"""


@pytest.mark.parametrize(
    "engine", [pytest.param("kvm", marks=pytest.mark.needs_svm), "emulate"], indirect=True
)
def test_a_guest_runs_with_32_bit_paging(assemble, engine):
    result, output = run(assemble(PAGED), engine)
    assert (result.ending.status, output) == (5, b"through a page of 32 bits\n")


@pytest.mark.needs_svm
def test_the_instruction_syscall_arrives_in_ring_0_of_the_guest(assemble):
    """The handler of the guest ring3 also reads and writes a control register here."""
    text = (FOLDER / "ring3.S").read_text()
    assert "\nservice:" in text
    privileged = "\nservice:\n        mov %cr3, %rax\n        mov %rax, %cr3\n"
    result, output = run(assemble(text.replace("\nservice:", privileged)))
    expected, said = run(GUESTS["ring3"].image())
    assert (result.ending.status, output) == (expected.ending.status, said)
    assert b"ring 3: hello by SYSCALL" in output


# The first system call of this program is none: it jumps to where one leaves the machine, as if
# SYSCALL had stayed in ring 3. Then it makes one, and looks in which ring it is afterwards.
PRETENDS = r"""
asm(".globl _start\n"
    "_start: pushfq\n pop %r11\n lea 1f(%rip), %rcx\n"
    "mov $39, %eax\n mov $LEAVE, %edx\n jmp *%rdx\n"
    "1: mov $39, %eax\n syscall\n"
    "mov %cs, %ecx\n xor %edi, %edi\n mov $66, %edx\n test $3, %cl\n cmovz %edx, %edi\n"
    "mov $231, %eax\n syscall\n");
"""


class WithBitmap(cpu_kvm.KvmCpu):
    """QEMU's emulation looks into the I/O bitmap only of a task state segment that is not busy."""

    def _enter_ring_3(self, registers):
        arrived = super()._enter_ring_3(registers)
        sregs = self._vcpu.sregs()
        sregs.tr.type = 9
        self._vcpu.set_sregs(sregs)
        return arrived


class AsksTheProgram(WithBitmap):
    """The old way: the program's first system call shows in which ring SYSCALL arrives."""

    def start(self, entry, stack):
        super().start(entry, stack)
        self._enter_ring_3(self._begin)
        self._arrives_in_ring_0 = False
        self._asked = False

    def answer(self, result):
        if not self._asked:
            self._arrives_in_ring_0 = self._vcpu.sregs().cs.dpl == 0
            self._asked = True
        super().answer(result)


@pytest.fixture
def pretender(compile_c):
    code = (Path(ring3.__file__).parent / "entry.bin").read_bytes()
    leave = ring3.ENTRY + code.index(bytes((0xE6, ring3.SYSCALL_PORT)))
    return compile_c(PRETENDS.replace("LEAVE", hex(leave)), "-static", "-nostdlib")


def test_no_program_chooses_the_ring_in_which_it_continues(pretender, needs_kvm):
    assert run_program(pretender)[0] in {0, 139}  # 139: SYSRET faults in ring 3


@pytest.mark.needs_svm
def test_a_naive_monitor_that_trusts_the_program_continues_it_in_ring_0(pretender, monkeypatch):
    monkeypatch.setattr(cpu_kvm, "KvmCpu", WithBitmap)
    assert run_program(pretender)[0] == 139
    monkeypatch.setattr(cpu_kvm, "KvmCpu", AsksTheProgram)
    assert run_program(pretender)[0] == 66
