"""What a processor's own virtualization runs and software PVM does not."""

from __future__ import annotations

import pytest

from pycontain.vm.guests import GUESTS
from tests.vm.conftest import GUESTS as FOLDER
from tests.vm.test_machine import run

PAGED = """
        .include "board.inc"
enter_protected
protected:
flat_segments
        mov     $0x10000, %edi          # the page directory
        movl    $0x83, (%edi)           # 0 to 4 MiB as they are, in one page
        movl    $0x83, 4(%edi)          # and once more from 4 MiB on
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
def test_paging_of_32_bits(assemble, engine):
    result, output = run(assemble(PAGED), engine)
    assert (result.ending.status, output) == (5, b"through a page of 32 bits\n")


@pytest.mark.needs_svm
def test_syscall_arrives_in_ring_0(assemble):
    """Its handler, of the guest ring3, reads and writes a control register besides."""
    text = (FOLDER / "ring3.S").read_text()
    assert "\nservice:" in text
    privileged = "\nservice:\n        mov %cr3, %rax\n        mov %rax, %cr3\n"
    result, output = run(assemble(text.replace("\nservice:", privileged)))
    expected, said = run(GUESTS["ring3"].image())
    assert (result.ending.status, output) == (expected.ending.status, said)
    assert b"ring 3: hello by SYSCALL" in output
