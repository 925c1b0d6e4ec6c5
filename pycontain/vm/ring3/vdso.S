# The clocks of a program, without a system call: a shared object that libraries of C look up in
# AT_SYSINFO_EHDR, vdso(7).
#
# KVM keeps struct pvclock_vcpu_time_info at 0x7000, and the monitor two numbers behind it, in a page
# that the program can only read. Linux, Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW.

        .set VERSION, 0x7000            # odd while KVM writes
        .set TSC, 0x7008                # when KVM wrote
        .set NANOSECONDS, 0x7010        # then, on KVM's clock
        .set MULTIPLIER, 0x7018         # nanoseconds of a tick, in units of 2^-32
        .set SHIFT, 0x701c              # of ticks, first
        .set FLAGS, 0x701d
        .set STABLE, 1                  # the counters of all processors agree
        .set UPTIME, 0x7080             # to add for clocks that started with the program,
        .set DATE, 0x7088               # and for the time of day

        .set SECOND, 1000000000
        .set CLOCKS, 0b11110011         # 0 to 7 without those of processor time
        .set DATES, 0b00100001          # CLOCK_REALTIME, CLOCK_REALTIME_COARSE

        .code64
        .text
        .macro  function name
        .globl  \name
        .type   \name, @function
\name:
        .endm

        .macro  in_seconds              # rax: nanoseconds -> seconds, and rdx: the rest
        xor     %edx, %edx
        mov     $SECOND, %ecx
        div     %rcx
        .endm

function __vdso_clock_gettime           # (clock, struct timespec *)
        cmp     $7, %edi
        ja      1f
        mov     $CLOCKS, %eax
        bt      %edi, %eax
        jnc     1f
        call    now
        jc      1f
        mov     $DATES, %ecx
        mov     UPTIME, %rdx
        bt      %edi, %ecx
        cmovc   DATE, %rdx
        add     %rdx, %rax
        in_seconds
        mov     %rax, (%rsi)
        mov     %rdx, 8(%rsi)
        xor     %eax, %eax
        ret
1:      mov     $228, %eax              # clock_gettime(2)
        syscall
        ret

function __vdso_gettimeofday            # (struct timeval *, struct timezone *)
        test    %rsi, %rsi
        jnz     1f
        test    %rdi, %rdi
        jz      1f
        call    now
        jc      1f
        add     DATE, %rax
        in_seconds
        mov     %rax, (%rdi)
        mov     %edx, %eax
        xor     %edx, %edx
        mov     $1000, %ecx
        div     %ecx
        mov     %rax, 8(%rdi)
        xor     %eax, %eax
        ret
1:      mov     $96, %eax               # gettimeofday(2)
        syscall
        ret

function __vdso_time                    # (time_t *)
        call    now
        jc      1f
        add     DATE, %rax
        in_seconds
        test    %rdi, %rdi
        jz      2f
        mov     %rax, (%rdi)
2:      ret
1:      mov     $201, %eax              # time(2)
        syscall
        ret

# RAX: nanoseconds on KVM's clock; with the carry flag, there are none.
now:    mov     VERSION, %r8d
        test    $1, %r8d
        jnz     2f
        testb   $STABLE, FLAGS
        jz      3f
        lfence
        rdtsc
        shl     $32, %rdx
        or      %rdx, %rax
        sub     TSC, %rax
        jb      2f
        mov     SHIFT, %cl
        test    %cl, %cl
        js      1f
        shl     %cl, %rax
        jmp     4f
1:      neg     %cl
        shr     %cl, %rax
4:      mov     MULTIPLIER, %edx
        mul     %rdx
        shrd    $32, %rdx, %rax
        add     NANOSECONDS, %rax
        cmp     VERSION, %r8d
        jne     now
        clc
        ret
2:      pause
        jmp     now
3:      stc
        ret
