# The smallest guest that prints something.
        .include "board.inc"
        .code16
        mov     $COM1, %dx
        mov     $'!', %al
        out     %al, (%dx)
        mov     $'\n', %al
        out     %al, (%dx)
        hlt
