# The smallest guest with something to say.
        .include "board.inc"
        .code16
        mov     $COM1, %dx
        mov     $'!', %al
        out     %al, (%dx)
        mov     $'\n', %al
        out     %al, (%dx)
        hlt
