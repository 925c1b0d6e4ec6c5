"""The objects for /dev/kvm, its errors, and the report of what it offers."""

from __future__ import annotations

import os

import pytest

from pycontain.errors import HostError, KernelError
from pycontain.vm import caps
from pycontain.vm.kvm import Kvm
from pycontain.vm.memory import Memory

pytestmark = pytest.mark.usefixtures("needs_kvm")


def descriptors():
    return sorted(os.listdir("/proc/self/fd"))


def test_a_closed_vm_leaves_no_descriptors():
    before = descriptors()
    with Kvm() as kvm, kvm.create_vm() as vm, vm.create_vcpu() as vcpu:
        assert vcpu.state.exit_reason == 0
        assert len(descriptors()) > len(before)
    assert descriptors() == before


def test_closing_a_vm_twice_is_harmless():
    kvm = Kvm()
    kvm.close()
    kvm.close()


def test_a_missing_device_names_the_emulator():
    with pytest.raises(HostError, match=r"/dev/nothing does not exist.*--engine emulate"):
        Kvm("/dev/nothing")


def test_another_device_is_not_taken_for_kvm():
    with pytest.raises(HostError, match="/dev/null is not a KVM device"):
        Kvm("/dev/null")


def test_a_refused_vcpu_names_the_ioctl_the_value_and_the_remedy():
    refused = pytest.raises(KernelError, match=r"ioctl KVM_CREATE_VCPU: 99999999.*vm caps")
    with Kvm() as kvm, kvm.create_vm() as vm, refused:
        vm.create_vcpu(99999999)


def test_a_refused_memory_slot_names_its_place():
    memory = Memory(4096)
    refused = pytest.raises(KernelError, match=r"SET_USER_MEMORY_REGION.*0x1000 bytes at 0x7b")
    with Kvm() as kvm, kvm.create_vm() as vm, refused:
        vm.set_memory(0, 123, 4096, memory.host)
    memory.close()


def test_a_refused_msr_is_named():
    refused = pytest.raises(HostError, match="MSR = 0x12345 is refused")
    with Kvm() as kvm, kvm.create_vm() as vm, vm.create_vcpu() as vcpu, refused:
        vcpu.set_msrs({0xC000_0081: 0, 0x12345: 1})


def test_a_missing_extension_is_named(monkeypatch):
    monkeypatch.setattr(Kvm, "check", lambda self, number: 0)
    refused = pytest.raises(HostError, match=r"KVM_CAP_PIT2 is not supported; use a newer kernel")
    with Kvm() as kvm, refused:
        kvm.require("PIT2")


def test_registers_are_set_and_read_back():
    with Kvm() as kvm, kvm.create_vm() as vm, vm.create_vcpu() as vcpu:
        regs = vcpu.regs()
        regs.rax, regs.r15, regs.rip = 1, 2**64 - 1, 0x1234
        vcpu.set_regs(regs)
        again = vcpu.regs()
        assert (again.rax, again.r15, again.rip) == (1, 2**64 - 1, 0x1234)


def test_the_report_names_extensions_limits_and_the_assistance():
    report = caps.read()
    assert report.api_version == 12
    assert report.extensions["USER_MEMORY"] == 1
    assert report.limits["vcpus"] >= report.limits["recommended_vcpus"] >= 1
    assert report.assistance.kind in {"VT-x", "AMD-V", "software PVM"}
    assert set(report.record()) == set(report.FIELDS)


def host(tmp_path, module, flags):
    if module:
        (tmp_path / "sys/module" / module).mkdir(parents=True)
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text(f"processor : 0\nflags\t\t: fpu {flags}\n")
    return str(tmp_path)


@pytest.mark.parametrize(
    ("module", "flags", "kind", "nested"),
    [
        ("kvm_intel", "vmx", "VT-x", False),
        ("kvm_intel", "vmx hypervisor", "VT-x", True),
        ("kvm_amd", "svm hypervisor", "AMD-V", True),
        ("kvm_pvm", "hypervisor", "software PVM", True),
        ("", "svm", "AMD-V", False),
        ("", "hypervisor", "unknown", True),
    ],
)
def test_the_assistance_is_read_from_modules_and_flags(tmp_path, module, flags, kind, nested):
    found = caps.assistance(host(tmp_path, module, flags))
    assert (found.kind, found.nested) == (kind, nested)
