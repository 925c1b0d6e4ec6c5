"""
What the KVM module needs from /dev/kvm and libc, declared in C.

`python -m pycontain.vm.ffi_source` writes `_ffi.py` beside this file: an out-of-line ABI module of
cffi, which needs no compiler where it runs. Parsing the same text at run time would cost 80 ms.
A test regenerates the file and compares, and checks each structure against <linux/kvm.h>.
"""

from __future__ import annotations

LIBC = """
int ioctl(int fd, unsigned long request, void *argument);                      /* ioctl(2) */
long syscall(long number, long a, long b, long c, long d, long e, long f);   /* syscall(2) */
void *mmap(void *address, size_t length, int protection, int flags, int fd, long offset);
int signalfd(int fd, const void *mask, int flags);                         /* signalfd(2) */
int timer_create(int clock, struct sigevent *event, void **timer);       /* timer_create(2) */
int timer_settime(void *timer, int flags, const struct itimerspec *new_value, void *old_value);
int timer_delete(void *timer);
int mprotect(void *address, size_t length, int protection);                   /* mprotect(2) */
long getdents64(int directory, void *buffer, size_t length);                /* getdents64(2) */
int tgkill(int process, int thread, int signal);                                /* tgkill(2) */

struct sigevent {                       /* signal.h, with the thread's id of SIGEV_THREAD_ID */
    uint64_t sigev_value;
    int sigev_signo, sigev_notify, thread_id;
    int padding[11];
};
struct itimerspec { long interval_s, interval_ns, value_s, value_ns; };
"""

KVM = """
struct kvm_userspace_memory_region {
    uint32_t slot, flags;
    uint64_t guest_phys_addr, memory_size, userspace_addr;
};

struct kvm_regs {
    uint64_t rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp;
    uint64_t r8, r9, r10, r11, r12, r13, r14, r15;
    uint64_t rip, rflags;
};
struct kvm_segment {
    uint64_t base;
    uint32_t limit;
    uint16_t selector;
    uint8_t type, present, dpl, db, s, l, g, avl, unusable, padding;
};
struct kvm_dtable { uint64_t base; uint16_t limit; uint16_t padding[3]; };
struct kvm_sregs {
    struct kvm_segment cs, ds, es, fs, gs, ss, tr, ldt;
    struct kvm_dtable gdt, idt;
    uint64_t cr0, cr2, cr3, cr4, cr8, efer, apic_base;
    uint64_t interrupt_bitmap[4];
};
struct kvm_sync_regs {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    uint64_t events[8];                 /* struct kvm_vcpu_events */
};

struct kvm_run {
    uint8_t request_interrupt_window, immediate_exit;
    uint8_t padding1[6];
    uint32_t exit_reason;
    uint8_t ready_for_interrupt_injection, if_flag;
    uint16_t flags;
    uint64_t cr8, apic_base;
    union {
        struct { uint64_t hardware_exit_reason; } hw;
        struct { uint64_t hardware_entry_failure_reason; uint32_t cpu; } fail_entry;
        struct { uint8_t direction, size; uint16_t port; uint32_t count; uint64_t data_offset; } io;
        struct { uint64_t phys_addr; uint8_t data[8]; uint32_t len; uint8_t is_write; } mmio;
        struct { uint32_t suberror, ndata; uint64_t data[16]; } internal;
        struct { uint32_t type, ndata; uint64_t data[16]; } system_event;
        char padding[256];
    };
    uint64_t kvm_valid_regs, kvm_dirty_regs;
    union { struct kvm_sync_regs regs; char padding[2048]; } s;
};

struct kvm_pit_config { uint32_t flags; uint32_t pad[15]; };
struct kvm_irq_level { uint32_t irq, level; };
struct kvm_signal_mask { uint32_t len; uint8_t sigset[]; };
struct kvm_cpuid_entry2 {
    uint32_t function, index, flags, eax, ebx, ecx, edx;
    uint32_t padding[3];
};
struct kvm_cpuid2 { uint32_t nent, padding; struct kvm_cpuid_entry2 entries[]; };
struct kvm_msr_entry { uint32_t index, reserved; uint64_t data; };
struct kvm_msrs { uint32_t nmsrs, pad; struct kvm_msr_entry entries[]; };
struct kvm_xsave { uint32_t region[1024]; };
struct kvm_xcr { uint32_t xcr, reserved; uint64_t value; };
struct kvm_xcrs { uint32_t nr_xcrs, flags; struct kvm_xcr xcrs[16]; uint64_t padding[16]; };
"""


def generate(path: str) -> None:
    """Write the binding module to this path."""
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(LIBC + KVM)
    ffi.set_source("pycontain.vm._ffi", None)
    ffi.emit_python_code(path)


if __name__ == "__main__":
    generate(__file__.replace("ffi_source", "_ffi"))
