# Two processors: the first wakes the second with INIT and SIPI through its local APIC.
        .include "board.inc"
        .set ICR, 0xfee00300            # interrupt command register, low half
        .set SPURIOUS, 0xfee000f0
        .set FLAG, 0x9000
enter_protected
protected:
flat_segments
        movl    $0, FLAG
        mov     $second, %esi           # SIPI starts at a page: put the code at 0x8000
        mov     $0x8000, %edi
        mov     $(second_end - second), %ecx
        rep movsb
        movl    $0x1ff, SPURIOUS        # the APIC is on
        movl    $0xc4500, ICR           # INIT to all but self
        movl    $0xc4608, ICR           # start at page 8
1:      pause
        cmpl    $2, FLAG
        jne     1b
        mov     $text, %esi
        call    print
        exit    0
print_routine
        .code16
second: mov     $0x800, %ax
        mov     %ax, %ds
        movb    $2, FLAG - 0x8000
1:      cli
        hlt
        jmp     1b
second_end:
text:   .asciz  "hello from two processors\n"
gdt_table
