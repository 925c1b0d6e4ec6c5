# Real mode, as every x86 processor starts: 16-bit code, no protection, a serial port.
        .include "board.inc"
        .code16
        mov     $text, %si
        call    print
        hlt                             # nothing can wake it: the machine ends
print_routine
text:   .asciz  "hello from real mode\n"
