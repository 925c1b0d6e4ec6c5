# The job, hybrid: the guest drives an emulated machine, but its console is a ring in shared memory
# (virtio 1.2, 4.2 and 2.7). One exit passes the whole buffer to the monitor.
        .include "board.inc"
        .include "job.inc"
        .set QUEUE, 0x20000             # descriptors, then the two rings
        .set AVAILABLE, QUEUE + 0x1000
        .set USED, QUEUE + 0x2000
.macro set register, value
        movl    $\value, VIRTIO + \register
.endm
enter_protected
protected:
flat_segments
fill_job
        cmpl    $0x74726976, VIRTIO     # "virt"
        jne     missing
        cmpl    $3, VIRTIO + 0x08       # a console
        jne     missing
        set     0x70, 0                 # status: reset
        set     0x70, 1                 # acknowledge
        set     0x70, 3                 # driver
        set     0x24, 1                 # features, upper half: VIRTIO_F_VERSION_1
        set     0x20, 1
        set     0x70, 11                # features OK
        set     0x30, 1                 # queue 1: transmit
        set     0x38, 8                 # its size
        set     0x80, QUEUE
        set     0x90, AVAILABLE
        set     0xa0, USED
        set     0x44, 1                 # ready
        set     0x70, 15                # driver is up
        movl    $JOB, QUEUE             # descriptor 0: address, length, no flags
        movl    $JOB_SIZE, QUEUE + 8
        movw    $0, AVAILABLE + 4       # ring[0] is descriptor 0
        movw    $1, AVAILABLE + 2       # one is available
        set     0x50, 1                 # notify
1:      cmpw    $1, USED + 2
        jne     1b
        exit    0
missing:
        exit    1
gdt_table
