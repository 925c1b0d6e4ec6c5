# 64-bit long mode, with page tables the guest builds itself.
        .include "board.inc"
enter_protected
protected:
flat_segments
enter_long
        .code64
long:   mov     $text, %esi
        call    print
        exit    0
print_routine
text:   .asciz  "hello from long mode\n"
gdt_table
