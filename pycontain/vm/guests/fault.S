# A page fault that the guest itself handles: its own interrupt descriptor table, CR2, error code.
        .include "board.inc"
enter_protected
protected:
flat_segments
enter_long
        .code64
long:   mov     $idt + 14 * 16, %edi    # vector 14: a 64-bit interrupt gate
        mov     $caught, %eax
        mov     %ax, (%rdi)
        movw    $CODE64, 2(%rdi)
        movw    $0x8e00, 4(%rdi)
        lidt    idt_pointer
        mov     $starting, %esi
        call    print
        mov     $0x40000000, %ebx       # just past the gigabyte that is mapped
        mov     (%rbx), %eax
        exit    1                       # not reached
caught: pop     %rax                    # error code
        mov     %cr2, %rcx
        cmp     %rbx, %rcx
        jne     wrong
        mov     $text, %esi
        call    print
        exit    14
wrong:  exit    2
print_routine
starting:       .asciz "reading where nothing is mapped\n"
text:           .asciz "page fault caught by the guest: CR2 is right\n"
gdt_table
idt_pointer:
        .word   15 * 16 - 1
        .quad   idt
        .balign 16
idt:    .fill   15 * 16, 1, 0
