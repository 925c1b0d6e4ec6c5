# The only kernel code that is mapped for ring 3: the page that SYSCALL enters, at 0x4000.
#
# A system call leaves the virtual machine by OUT and is served by the monitor. Served here are a
# read() whose bytes are already in the window, so that a program that reads a file in small pieces
# does not pay an exit for each; getpid(); and gettid() and sched_yield() of the only thread.
#
# Software PVM enters here in ring 3, hardware in ring 0; both may execute the page. So nothing is
# trusted: the program can write the words at 0x5000, and the monitor checks them.

        .set NULL_GUARD, 0x10000        # the monitor's pages are below: no buffer
        .set FD, 0x5000                 # whose bytes are in the window, or -1
        .set POSITION, 0x5008           # address of the next byte
        .set LEFT, 0x5010               # bytes from there on
        .set SAVED_RDI, 0x5018
        .set SAVED_RSI, 0x5020
        .set SAVED_RCX, 0x5028
        .set SAVED_CS, 0x5030
        .set PID, 0x5038                # the process, or 0
        .set TID, 0x5040                # its only thread, or 0

        .code64
entry:  test    %rax, %rax              # read()?
        jnz     others
        cmp     %rdi, FD
        jne     leave
        cmp     %rdx, LEFT              # are enough bytes left?
        jb      leave
        cmp     $NULL_GUARD, %rsi
        jb      leave
        cmpq    $NULL_GUARD, POSITION
        jb      leave

        mov     %rdi, SAVED_RDI
        mov     %rsi, SAVED_RSI
        mov     %rcx, SAVED_RCX
        mov     %rsi, %rdi
        mov     POSITION, %rsi
        mov     %rdx, %rcx
copy:   rep movsb                       # a fault here makes the monitor serve the call
        mov     %rsi, POSITION
        sub     %rdx, LEFT
        mov     %rdx, %rax
        mov     SAVED_RDI, %rdi
        mov     SAVED_RSI, %rsi
        mov     SAVED_RCX, %rcx
        shl     $17, %rcx               # another thread may have changed it: SYSRET to an address
        shr     $17, %rcx               # that is not canonical faults in ring 0, CVE-2012-0217
done:   movw    %cs, SAVED_CS
        testb   $3, SAVED_CS
        jz      return
        jmp     *%rcx                   # PVM: still in ring 3

others: cmp     $39, %rax               # getpid()?
        je      getpid
        cmp     $186, %rax              # gettid()?
        je      gettid
        cmp     $24, %rax               # sched_yield()?
        jne     leave
        cmpq    $0, TID
        je      leave
        xor     %eax, %eax
        jmp     done
getpid: cmpq    $0, PID
        je      leave
        mov     PID, %rax
        jmp     done
gettid: cmpq    $0, TID
        je      leave
        mov     TID, %rax
        jmp     done

leave:  out     %al, $0x80              # the monitor puts the result into RAX
return: sysretq

# The monitor makes the first system call itself, before the program runs: it shows which ring
# SYSCALL enters. A program could pretend, by a jump to `leave`, that the processor stays in ring 3.
probe:  syscall
