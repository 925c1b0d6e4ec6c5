# A 64-bit kernel that starts a program in ring 3 and serves its SYSCALL.
#
# Software PVM enters the SYSCALL handler at LSTAR without leaving ring 3. The handler checks CS
# and returns by a jump in ring 3, otherwise by SYSRET; the task state segment opens the two ports
# it uses to ring 3, since IOPL is not honoured either.
        .include "board.inc"
enter_protected
protected:
flat_segments
enter_long
        .code64
long:   lea     tss_descriptor, %rdi    # available 64-bit TSS: limit, base, type 0x89
        mov     $(tss_end - tss - 1), %ax
        mov     %ax, (%rdi)
        mov     $tss, %eax
        mov     %ax, 2(%rdi)
        movw    $0x8900, 4(%rdi)
        mov     $TSS, %ax
        ltr     %ax

        mov     $0xc0000081, %ecx       # STAR: kernel selectors, then the base of SYSRET's
        xor     %eax, %eax
        mov     $((USER_DATA - 8 + 3) << 16 | CODE64), %edx
        wrmsr
        inc     %ecx                    # LSTAR
        mov     $service, %eax
        xor     %edx, %edx
        wrmsr
        add     $2, %ecx                # SFMASK: nothing is masked
        xor     %eax, %eax
        wrmsr

        mov     $in_kernel, %esi
        call    print
        push    $(USER_DATA + 3)
        push    $0x7000
        push    $2                      # RFLAGS
        push    $(USER_CODE + 3)
        push    $user
        iretq

service:                                # SYSCALL put the return address into RCX, flags into R11
        call    print                   # call 0 prints RSI
        cmp     $1, %edi                # call 1 ends
        je      stop
        mov     %cs, %eax
        test    $3, %al
        jz      1f
        jmp     *%rcx
1:      sysretq
stop:   exit    3
print_routine

user:   mov     %cs, %eax
        and     $3, %al
        add     $'0', %al
        mov     %al, digit
        mov     $in_user, %esi
        xor     %edi, %edi
        syscall
        mov     $in_user_again, %esi
        mov     $1, %edi
        syscall
        ud2

in_kernel:      .asciz "ring 0: starting a program\n"
in_user:        .ascii "ring "
digit:          .asciz "?: hello by SYSCALL\n"
in_user_again:  .asciz "ring 3: back again, goodbye\n"
gdt_table
        .balign 8
tss:    .long   0
        .quad   0x7000                  # RSP0
        .fill   (0x66 - 12), 1, 0
        .word   bitmap - tss
bitmap: .fill   0x1e, 1, 0xff
        .byte   0xef                    # port 0xf4 is open
        .fill   (0x7f - 0x1f), 1, 0xff
        .byte   0                       # ports 0x3f8 to 0x3ff are open
        .byte   0xff
tss_end:
