"""Numbers of <linux/kvm.h>, which a test compares with the header, and of the x86 architecture."""

from __future__ import annotations

API_VERSION = 12  # the only one since Linux 2.6.22

IOCTL = {
    # on /dev/kvm
    "KVM_GET_API_VERSION": 0xAE00,
    "KVM_CREATE_VM": 0xAE01,
    "KVM_CHECK_EXTENSION": 0xAE03,
    "KVM_GET_VCPU_MMAP_SIZE": 0xAE04,
    "KVM_GET_SUPPORTED_CPUID": 0xC008_AE05,
    # on a VM
    "KVM_CREATE_VCPU": 0xAE41,
    "KVM_SET_USER_MEMORY_REGION": 0x4020_AE46,
    "KVM_SET_TSS_ADDR": 0xAE47,
    "KVM_CREATE_IRQCHIP": 0xAE60,
    "KVM_IRQ_LINE": 0x4008_AE61,
    "KVM_CREATE_PIT2": 0x4040_AE77,
    "KVM_GET_CLOCK": 0x8030_AE7C,
    # on a vCPU
    "KVM_RUN": 0xAE80,
    "KVM_GET_REGS": 0x8090_AE81,
    "KVM_SET_REGS": 0x4090_AE82,
    "KVM_GET_SREGS": 0x8138_AE83,
    "KVM_SET_SREGS": 0x4138_AE84,
    "KVM_SET_MSRS": 0x4008_AE89,
    "KVM_SET_SIGNAL_MASK": 0x4004_AE8B,
    "KVM_SET_CPUID2": 0x4008_AE90,
    "KVM_GET_XSAVE": 0x9000_AEA4,
    "KVM_SET_XSAVE": 0x5000_AEA5,
    "KVM_SET_XCRS": 0x4188_AEA7,
}

# required extensions, by their names without KVM_CAP_
CAPABILITIES = {"IRQCHIP": 0, "PIT2": 33, "SYNC_REGS": 74}
SYNC_X86_REGS = 1

EXIT_IO = 2
EXIT_HLT = 5
EXIT_MMIO = 6
EXIT_SHUTDOWN = 8
EXIT_FAIL_ENTRY = 9
EXIT_INTERNAL_ERROR = 17
EXIT_NAMES = {
    0: "unknown", 1: "exception", 2: "io", 3: "hypercall", 4: "debug", 5: "hlt", 6: "mmio",
    7: "irq window", 8: "shutdown", 9: "fail entry", 10: "intr", 17: "internal error",
    24: "system event", 29: "rdmsr", 30: "wrmsr", 31: "dirty ring full", 33: "bus lock",
    37: "notify",
}  # fmt: skip
IO_OUT = 1
INTERNAL_ERRORS = {
    1: "emulation",
    2: "simultaneous exceptions",
    3: "delivery of an event",
    4: "unexpected exit",
}

# control registers and EFER: Intel SDM volume 3, 2.5 and 2.2.1
CR0_PE, CR0_MP, CR0_ET, CR0_NE, CR0_WP, CR0_PG = 1, 1 << 1, 1 << 4, 1 << 5, 1 << 16, 1 << 31
CR4_PAE, CR4_OSFXSR, CR4_OSXMMEXCPT, CR4_OSXSAVE = 1 << 5, 1 << 9, 1 << 10, 1 << 18
EFER_SCE, EFER_LME, EFER_LMA, EFER_NXE = 1, 1 << 8, 1 << 10, 1 << 11
MSR_KVM_CLOCK = 0x4B56_4D01  # MSR_KVM_SYSTEM_TIME_NEW
MSR_STAR, MSR_LSTAR, MSR_SFMASK = 0xC000_0081, 0xC000_0082, 0xC000_0084
