# Three ticks of the 8254 timer wake a processor that sleeps in HLT, through the 8259 controllers.
        .include "board.inc"
        .code16
        cli
        movw    $tick, 0x20 * 4         # interrupt vector 0x20
        movw    $0, 0x20 * 4 + 2
        mov     $0x11, %al              # ICW1: begin, ICW4 follows
        out     %al, $0x20
        mov     $0x20, %al              # ICW2: vectors from 0x20
        out     %al, $0x21
        mov     $0x04, %al              # ICW3: the second controller on line 2
        out     %al, $0x21
        mov     $0x01, %al              # ICW4: 8086 mode
        out     %al, $0x21
        mov     $0xfe, %al              # only line 0 is unmasked
        out     %al, $0x21
        mov     $0x34, %al              # counter 0, both bytes, rate generator
        out     %al, $0x43
        mov     $(11932 & 0xff), %al    # 1193182 Hz / 11932: every 10 ms
        out     %al, $0x40
        mov     $(11932 >> 8), %al
        out     %al, $0x40
        mov     $3, %cx
        sti
1:      hlt
        mov     $text, %si
        call    print
        loop    1b
        exit    0
tick:   push    %ax
        mov     $0x20, %al              # end of interrupt
        out     %al, $0x20
        pop     %ax
        iret
print_routine
text:   .asciz  "tick\n"
