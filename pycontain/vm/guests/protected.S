# 32-bit protected mode: segments with a limit and a privilege, no paging.
        .include "board.inc"
enter_protected
protected:
flat_segments
        mov     $text, %esi
        call    print
        exit    0
print_routine
text:   .asciz  "hello from protected mode\n"
gdt_table
