"""What this host's KVM offers: the report of `pycontain vm caps`."""

from __future__ import annotations

import os

from ..errors import HostError
from ..lean.record import Record
from .kvm import Kvm

# KVM_CAP_* of <linux/kvm.h> that apply to x86
EXTENSIONS = {
    "IRQCHIP": 0, "HLT": 1, "USER_MEMORY": 3, "SET_TSS_ADDR": 4, "VAPIC": 6, "EXT_CPUID": 7,
    "CLOCKSOURCE": 8, "NR_VCPUS": 9, "NR_MEMSLOTS": 10, "NOP_IO_DELAY": 12, "MP_STATE": 14,
    "COALESCED_MMIO": 15, "SYNC_MMU": 16, "DESTROY_MEMORY_REGION_WORKS": 21, "USER_NMI": 22,
    "SET_GUEST_DEBUG": 23, "REINJECT_CONTROL": 24, "IRQ_ROUTING": 25, "MCE": 31, "IRQFD": 32,
    "PIT2": 33, "SET_BOOT_CPU_ID": 34, "PIT_STATE2": 35, "IOEVENTFD": 36,
    "SET_IDENTITY_MAP_ADDR": 37, "ADJUST_CLOCK": 39, "VCPU_EVENTS": 41, "HYPERV": 44,
    "INTR_SHADOW": 49, "DEBUGREGS": 50, "ENABLE_CAP": 54, "XSAVE": 55, "XCRS": 56,
    "ASYNC_PF": 59, "TSC_CONTROL": 60, "GET_TSC_KHZ": 61, "MAX_VCPUS": 66, "ONE_REG": 70,
    "TSC_DEADLINE_TIMER": 72, "SYNC_REGS": 74, "KVMCLOCK_CTRL": 76, "SIGNAL_MSI": 77,
    "READONLY_MEM": 81, "DEVICE_CTRL": 89, "EXT_EMUL_CPUID": 95, "CHECK_EXTENSION_VM": 105,
    "X86_SMM": 117, "MULTI_ADDRESS_SPACE": 118, "SPLIT_IRQCHIP": 121, "MAX_VCPU_ID": 128,
    "X2APIC_API": 129, "IMMEDIATE_EXIT": 136, "X86_DISABLE_EXITS": 143, "NESTED_STATE": 157,
    "COALESCED_PIO": 162, "EXCEPTION_PAYLOAD": 164, "PMU_EVENT_FILTER": 173, "HALT_POLL": 182,
    "STEAL_TIME": 187, "X86_USER_SPACE_MSR": 188, "X86_MSR_FILTER": 189, "DIRTY_LOG_RING": 192,
    "X86_BUS_LOCK_EXIT": 193, "SREGS2": 200, "EXIT_HYPERCALL": 201, "BINARY_STATS_FD": 203,
    "VM_GPA_BITS": 207, "XSAVE2": 208, "VM_TSC_CONTROL": 214, "X86_TRIPLE_FAULT_EVENT": 218,
    "X86_NOTIFY_VMEXIT": 219,
}  # fmt: skip

_MODULES = {"kvm_intel": "VT-x", "kvm_amd": "AMD-V", "kvm_pvm": "software PVM"}
_LIMITS = {"vcpus": "MAX_VCPUS", "recommended_vcpus": "NR_VCPUS", "memory_slots": "NR_MEMSLOTS"}


class Assistance(Record):
    """
    What /dev/kvm is based on.

    kind    "VT-x", "AMD-V", "software PVM" or "unknown"
    nested  whether this host is itself a virtual machine
    """

    kind: str
    nested: bool


class Capabilities(Record):
    """
    The report.

    extensions  name -> what KVM_CHECK_EXTENSION returns, 0 for absent
    limits      the maximum numbers of vCPUs and memory slots
    """

    device: str
    api_version: int
    assistance: Assistance
    extensions: dict[str, int]
    limits: dict[str, int]

    def record(self) -> dict[str, object]:
        """For JSON."""
        return {**self.fields(), "assistance": self.assistance.fields()}


def read(path: str = "/dev/kvm") -> Capabilities:
    """Query KVM. Raises HostError where there is none."""
    from .abi import API_VERSION

    with Kvm(path) as kvm:
        extensions = {name: kvm.check(number) for name, number in EXTENSIONS.items()}
    limits = {name: extensions[extension] for name, extension in _LIMITS.items()}
    return Capabilities(
        device=path, api_version=API_VERSION, assistance=assistance(),
        extensions=extensions, limits=limits,
    )  # fmt: skip


def assistance(root: str = "") -> Assistance:
    """The kind of assistance, from the modules and the processor's flags under root."""
    flags = _cpu_flags(root)
    nested = "hypervisor" in flags
    for module, kind in _MODULES.items():
        if os.path.isdir(f"{root}/sys/module/{module}"):
            return Assistance(kind=kind, nested=nested)
    # built into the kernel, without parameters in /sys: the processor's flags tell
    kind = "VT-x" if "vmx" in flags else "AMD-V" if "svm" in flags else "unknown"
    return Assistance(kind=kind, nested=nested)


def _cpu_flags(root: str) -> list[str]:
    try:
        with open(f"{root}/proc/cpuinfo") as file:
            for line in file:
                name, _, value = line.partition(":")
                if name.strip() == "flags":
                    return value.split()
    except OSError as error:
        raise HostError("cannot be read", at="/proc/cpuinfo", errno=error.errno or 0) from None
    return []
