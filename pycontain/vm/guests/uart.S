# The job, full virtualization: the driver of a real serial port, two exits for each byte.
        .include "board.inc"
        .include "job.inc"
enter_protected
protected:
flat_segments
fill_job
        mov     $JOB, %esi
        mov     $JOB_SIZE, %ecx
1:      mov     $COM1_STATUS, %dx
2:      in      (%dx), %al
        test    $0x20, %al              # transmitter empty
        jz      2b
        mov     $COM1, %dx
        lodsb
        out     %al, (%dx)
        loop    1b
        exit    0
gdt_table
