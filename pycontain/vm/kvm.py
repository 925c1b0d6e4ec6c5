"""
/dev/kvm as three thin objects, one method per ioctl: Kvm creates a Vm, a Vm creates Vcpus.

Each object owns its descriptor and is a context manager that releases everything. A refused ioctl
raises KernelError, which names it; a feature that the host lacks raises HostError with a remedy.
Linux, Documentation/virt/kvm/api.rst.
"""

from __future__ import annotations

import errno
import mmap
import os

from ..errors import HostError, KernelError, reason
from ..kernel.descriptors import close_owned
from . import abi
from ._ffi import ffi

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Self

    CData = Any  # a structure of cffi, which has no types

_lib = ffi.dlopen(None)
_ioctl = _lib.ioctl
_KVM_RUN = abi.IOCTL["KVM_RUN"]
_MAX_CPUID_ENTRIES = 256
# FCW, and MXCSR with all exceptions masked: Intel SDM volume 1, 13.6
_INITIAL_STATE = b"\x7f\x03" + bytes(22) + b"\x80\x1f\0\0" + bytes(484 + 64)

_OPEN_REMEDIES = {
    errno.ENOENT: "load the kvm modules, or use --engine emulate",
    errno.EACCES: "join the group that owns it, or use --engine emulate",
    errno.ENODEV: "the processor or the firmware offers no virtualization: use --engine emulate",
}
_IOCTL_REMEDIES = {
    ("KVM_CREATE_VM", errno.EBUSY): "another hypervisor is using the processor: stop it",
    ("KVM_CREATE_VM", errno.ENOMEM): "free some memory of the host",
    ("KVM_CREATE_VCPU", errno.EINVAL): "see `pycontain vm caps` for the maximum number of vCPUs",
    ("KVM_SET_USER_MEMORY_REGION", errno.EINVAL): "addresses and sizes must be multiples of 4096",
}


def ioctl(fd: int, name: str, argument: object = 0, value: str = "") -> int:
    """
    One ioctl of KVM by its name; argument is cdata or an integer, value is shown in an error.

    Raises KernelError, with a remedy where one is known.
    """
    if isinstance(argument, int):
        value = value or str(argument)
        argument = ffi.cast("void *", argument)
    result = _ioctl(fd, abi.IOCTL[name], argument)
    if result < 0:
        number = ffi.errno
        error = KernelError.of(
            f"ioctl {name}", number, remedy=_IOCTL_REMEDIES.get((name, number), "")
        )
        error.fault.value = value
        raise error
    return result  # type: ignore[no-any-return]


class _Descriptor:
    """What the three objects share: a descriptor, closed once."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        close_owned(self, "fd")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Kvm(_Descriptor):
    """
    /dev/kvm itself.

    Raises HostError when the device is missing, forbidden, or not of API version 12.
    """

    __slots__ = ()

    def __init__(self, path: str = "/dev/kvm") -> None:
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            number = error.errno or 0
            remedy = _OPEN_REMEDIES.get(number, "use --engine emulate")
            raise HostError(reason(number), call="open", at=path, remedy=remedy) from None
        super().__init__(fd)
        try:
            self._check_version(path)
        except BaseException:
            self.close()
            raise

    def _check_version(self, path: str) -> None:
        try:
            version = ioctl(self.fd, "KVM_GET_API_VERSION")
        except KernelError:
            raise HostError("is not a KVM device", at=path) from None
        if version != abi.API_VERSION:
            raise HostError(
                f"is not API version {abi.API_VERSION}", at=path, value=str(version),
                remedy="use a kernel newer than 2.6.22",
            )  # fmt: skip

    def check(self, extension: int) -> int:
        """What KVM_CHECK_EXTENSION returns: 0 for absent, else 1 or a limit."""
        return ioctl(self.fd, "KVM_CHECK_EXTENSION", extension)

    def require(self, *names: str) -> None:
        """Raises HostError for an extension of abi.CAPABILITIES that is missing."""
        for name in names:
            if not self.check(abi.CAPABILITIES[name]):
                raise HostError(
                    "is not supported", at="/dev/kvm", value=f"KVM_CAP_{name}",
                    remedy="use a newer kernel, or --engine emulate",
                )  # fmt: skip

    def cpuid(self) -> CData:
        """The CPUID leaves this host can offer a guest: struct kvm_cpuid2; callers may edit it."""
        leaves = ffi.new("struct kvm_cpuid2 *", {"entries": _MAX_CPUID_ENTRIES})
        leaves.nent = _MAX_CPUID_ENTRIES
        ioctl(self.fd, "KVM_GET_SUPPORTED_CPUID", leaves)
        return leaves

    def create_vm(self) -> Vm:
        """A machine without memory or processors."""
        fd = ioctl(self.fd, "KVM_CREATE_VM")
        return Vm(fd, ioctl(self.fd, "KVM_GET_VCPU_MMAP_SIZE"))


class Vm(_Descriptor):
    """A virtual machine: memory slots, vCPUs, interrupt controllers."""

    __slots__ = ("_run_size",)

    def __init__(self, fd: int, run_size: int) -> None:
        super().__init__(fd)
        self._run_size = run_size

    def set_memory(self, slot: int, address: int, size: int, host: int, flags: int = 0) -> None:
        """Put size bytes of this process's memory at a guest physical address; size 0 removes."""
        region = ffi.new("struct kvm_userspace_memory_region *", (slot, flags, address, size, host))
        value = f"slot {slot}, {size:#x} bytes at {address:#x}"
        ioctl(self.fd, "KVM_SET_USER_MEMORY_REGION", region, value)

    def create_vcpu(self, number: int = 0) -> Vcpu:
        """The processor with this APIC id."""
        return Vcpu(ioctl(self.fd, "KVM_CREATE_VCPU", number), number, self._run_size)

    def set_tss_address(self, address: int = 0xFFFB_D000) -> None:
        """Three pages that real mode needs on older Intel hosts (api.rst, KVM_SET_TSS_ADDR)."""
        ioctl(self.fd, "KVM_SET_TSS_ADDR", address)

    def create_irqchip(self) -> None:
        """PIC, I/O APIC and local APICs in the kernel; before the first vCPU."""
        ioctl(self.fd, "KVM_CREATE_IRQCHIP")

    def create_pit(self) -> None:
        """An 8254 timer in the kernel; after the interrupt controllers."""
        ioctl(self.fd, "KVM_CREATE_PIT2", ffi.new("struct kvm_pit_config *"))

    def clock(self) -> int:
        """Nanoseconds on the machine's clock: the first word of struct kvm_clock_data."""
        data = ffi.new("uint64_t[6]")
        ioctl(self.fd, "KVM_GET_CLOCK", data)
        return data[0]  # type: ignore[no-any-return]

    def set_irq(self, line: int, level: bool) -> None:
        """Raise or lower an interrupt line of the in-kernel controllers."""
        ioctl(self.fd, "KVM_IRQ_LINE", ffi.new("struct kvm_irq_level *", (line, level)), str(line))


class Vcpu(_Descriptor):
    """
    A virtual processor, to be run by one thread at a time.

    state  the shared struct kvm_run
    """

    __slots__ = ("_map", "number", "state")

    def __init__(self, fd: int, number: int, run_size: int) -> None:
        super().__init__(fd)
        self.number = number
        self._map = mmap.mmap(fd, run_size)
        self.state: CData = ffi.from_buffer("struct kvm_run *", self._map)

    def close(self) -> None:
        """Unmap the shared page and close the descriptor."""
        if self.fd >= 0:
            ffi.release(self.state)
            self._map.close()
        super().close()

    def enter(self) -> bool:
        """
        Run the guest until its next exit; False when a signal or immediate_exit ended it.

        Raises KernelError when the processor cannot run.
        """
        if _ioctl(self.fd, _KVM_RUN, ffi.NULL) == 0:
            return True
        if ffi.errno in (errno.EINTR, errno.EAGAIN):
            return False
        raise KernelError.of("ioctl KVM_RUN", ffi.errno)

    def io_data(self) -> memoryview:
        """The bytes of a port exit: read them after OUT, fill them for IN."""
        io = self.state.io
        start = io.data_offset
        return memoryview(self._map)[start : start + io.size * io.count]

    def regs(self) -> CData:
        """The general registers: struct kvm_regs."""
        return self._get("KVM_GET_REGS", "struct kvm_regs *")

    def set_regs(self, regs: CData) -> None:
        """Set all general registers."""
        ioctl(self.fd, "KVM_SET_REGS", regs)

    def sregs(self) -> CData:
        """Segments, control registers and EFER: struct kvm_sregs."""
        return self._get("KVM_GET_SREGS", "struct kvm_sregs *")

    def set_sregs(self, sregs: CData) -> None:
        """Set segments, control registers and EFER."""
        ioctl(self.fd, "KVM_SET_SREGS", sregs)

    def _get(self, name: str, kind: str) -> CData:
        value = ffi.new(kind)
        ioctl(self.fd, name, value)
        return value

    def set_cpuid(self, leaves: CData) -> None:
        """Set what CPUID returns; before the first run."""
        ioctl(self.fd, "KVM_SET_CPUID2", leaves)

    def set_msrs(self, values: Mapping[int, int]) -> None:
        """
        Write model-specific registers, by number.

        Raises HostError naming the first one that KVM refused: the ioctl returns how many it set.
        """
        entries = [{"index": index, "data": data} for index, data in values.items()]
        block = ffi.new("struct kvm_msrs *", {"nmsrs": len(entries), "entries": entries})
        done = ioctl(self.fd, "KVM_SET_MSRS", block)
        if done < len(entries):
            refused = list(values)[done]
            raise HostError(
                "is refused", call="ioctl KVM_SET_MSRS", at="MSR", value=f"{refused:#x}"
            )

    def set_xcr0(self, value: int) -> None:
        """Which extended states (x87, SSE, AVX...) the guest may use."""
        xcrs = ffi.new("struct kvm_xcrs *", {"nr_xcrs": 1, "xcrs": [{"xcr": 0, "value": value}]})
        ioctl(self.fd, "KVM_SET_XCRS", xcrs, f"{value:#x}")

    def xsave(self) -> bytes:
        """The extended state in the format of XSAVE: struct kvm_xsave."""
        return bytes(ffi.buffer(self._get("KVM_GET_XSAVE", "struct kvm_xsave *")))

    def set_xsave(self, state: bytes) -> None:
        """Restore it; b"" is the state of a processor after FNINIT. Raises ValueError."""
        block = ffi.new("struct kvm_xsave *")
        ffi.memmove(block, state or _INITIAL_STATE, len(state or _INITIAL_STATE))
        try:
            ioctl(self.fd, "KVM_SET_XSAVE", block)
        except KernelError as error:
            raise ValueError(str(error)) from None

    def set_signal_mask(self, blocked: bytes) -> None:
        """
        Which signals are blocked while the guest runs: 8 bytes, bit 0 is signal 1.

        A signal that the thread blocks and this mask does not ends KVM_RUN without a handler.
        """
        mask = ffi.new("struct kvm_signal_mask *", {"len": 8, "sigset": list(blocked)})
        ioctl(self.fd, "KVM_SET_SIGNAL_MASK", mask)
