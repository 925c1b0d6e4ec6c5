"""Running flat guests: endings, timeouts, traces, input, and hostile guests."""

from __future__ import annotations

import errno
import os
import pty
import threading
import time

import pytest

from pycontain.errors import GuestError, HostError, KernelError, Timeout, UsageError
from pycontain.vm import engine_kvm
from pycontain.vm.deadline import STOP, Deadline
from pycontain.vm.devices import virtio
from pycontain.vm.guests import GUESTS
from pycontain.vm.kvm import Vcpu
from pycontain.vm.machine import MIB, Hardware, run_flat
from pycontain.vm.sink import Capture
from pycontain.vm.trace import Trace

SPIN = b"\xeb\xfe"  # jmp .
PRINTS = b"\xba\xf8\x03\xee\xeb\xfd"  # mov $0x3f8, %dx; 1: out %al, (%dx); jmp 1b


def run(image, engine="kvm", *, timeout=20.0, trace=None, **hardware):
    output = Capture(limit=1 << 20)
    result = run_flat(
        image, output, Hardware(**hardware), timeout=timeout, engine=engine, trace=trace
    )
    return result, bytes(output.data)


# --- endings -----------------------------------------------------------------------------------


def test_hlt_ends_a_machine_that_nothing_can_wake(engine):
    result, _ = run(b"\xf4", engine)
    assert (result.ending.why, result.ending.status) == ("halt", 0)


def test_the_debug_exit_port_gives_the_machine_its_status(engine):
    result, _ = run(b"\xb0\x2a\xe6\xf4\xf4", engine)  # mov $42, %al; out %al, $0xf4; hlt
    assert (result.ending.why, result.ending.status) == ("exit", 42)


def test_writing_to_the_keyboard_controller_resets_the_machine(engine):
    result, _ = run(b"\xb0\xfe\xe6\x64\xf4", engine)
    assert result.ending.why == "reset"


def test_a_string_of_outs_reaches_the_port_whole(engine, assemble):
    image = assemble("""
        .code16
        mov $text, %si
        mov $5, %cx
        mov $0x3f8, %dx
        rep outsb
        hlt
text:   .ascii "whole"
    """)
    assert run(image, engine)[1] == b"whole"


def test_statistics_count_exits_by_reason(needs_kvm):
    result, _ = run(b"\xe4\x60\xe4\x60\xe6\x80\xf4")  # in, in, out, hlt
    assert result.stats.count == {"in": 2, "out": 1, "hlt": 1}
    record = result.stats.record()
    assert record["exits"] == 4
    assert [row["reason"] for row in record["by_reason"]] == ["in", "out", "hlt"]
    assert 0 < record["monitor_seconds"] < result.seconds


def test_a_trace_shows_each_exit_with_registers_and_code(engine):
    lines = []
    run(b"\xb0\x21\xe6\x80\xe4\x64\xf4", engine, trace=Trace(lines.append))
    assert [line.split("cpu0 ")[1].split("  ")[0] for line in lines] == [
        "out 0x80 <- 0x21",
        "in 0x64 -> 0x0",
        "hlt",
    ]
    assert "ax=" in lines[0]
    assert "21" in lines[0]


# --- the limits of a guest ---------------------------------------------------------------------


def test_a_guest_that_spins_is_stopped_at_its_deadline(engine):
    began = time.monotonic()
    with pytest.raises(Timeout, match=r"the guest did not end within 0.2 s; raise --timeout"):
        run(SPIN, engine, timeout=0.2)
    assert time.monotonic() - began < 10


def test_a_spinning_guest_with_three_processors_is_stopped(needs_kvm):
    with pytest.raises(Timeout, match=r"the guest did not end within 0.2 s; raise --timeout"):
        run(SPIN, timeout=0.2, cpus=3)


def test_the_emulator_has_one_processor():
    pytest.importorskip("unicorn")
    with pytest.raises(UsageError, match="which the emulator does not provide; use --engine kvm"):
        run(SPIN, "emulate", cpus=3)


def test_a_guest_that_sleeps_for_ever_is_stopped(needs_kvm):
    with pytest.raises(Timeout):
        run(b"\xfa\xf4", timeout=0.2, irqchip=True)  # cli; hlt


def test_a_guest_that_writes_to_every_port_for_ever_is_stopped(engine, assemble):
    image = assemble("""
        .code16
next:   inc %dx
        cmp $0xf4, %dx
        je next
        cmp $0x64, %dx
        je next
        out %al, (%dx)
        in (%dx), %eax
        jmp next
    """)
    with pytest.raises(Timeout):
        run(image, engine, timeout=0.3)


def test_a_guest_that_prints_for_ever_is_stopped(engine, assemble):
    image = assemble(".code16\n mov $0x3f8, %dx\n1: outsb\n jmp 1b\n")
    with pytest.raises((Timeout, GuestError)):
        run(image, engine, timeout=0.5)


@pytest.mark.parametrize("name", ["uart", "hypercall", "virtio"])
def test_output_beyond_the_limit_ends_the_machine(engine, name):
    """Also when a device passes it on, which serves what is wrong in a request itself."""
    with pytest.raises(GuestError, match="wrote more than the limit of 100 bytes"):
        run_flat(GUESTS[name].image(), Capture(100), Hardware(), timeout=20, engine=engine)


def test_a_naive_device_that_blames_the_guest_for_every_error_loses_the_limit(engine, monkeypatch):
    monkeypatch.setattr(virtio, "BrokenRing", GuestError)
    with pytest.raises(Timeout):
        run_flat(GUESTS["virtio"].image(), Capture(100), Hardware(), timeout=0.5, engine=engine)


def test_a_reader_that_does_not_read_stops_no_machine_past_its_deadline(engine):
    reader, writer = os.pipe()
    with pytest.raises(Timeout):
        run_flat(PRINTS, writer, Hardware(), timeout=0.5, engine=engine)
    os.close(reader)
    os.close(writer)


def test_a_naive_error_that_keeps_a_view_of_the_processor_is_a_buffer_error(needs_kvm, monkeypatch):
    monkeypatch.setattr(engine_kvm, "bytearray", lambda view: view, raising=False)
    with pytest.raises(BufferError):
        run_flat(PRINTS, Capture(100), Hardware(), timeout=20)


def refuse(vcpu):
    raise KernelError.of("ioctl KVM_RUN", errno.EFAULT)


def test_a_guest_that_kvm_cannot_run_any_further_is_an_error_of_the_guest(needs_kvm, monkeypatch):
    monkeypatch.setattr(Vcpu, "enter", refuse)
    with pytest.raises(GuestError, match="^cpu 0 KVM cannot continue: ioctl KVM_RUN: bad address$"):
        run(SPIN)
    with pytest.raises(GuestError, match="KVM cannot continue"):
        run(SPIN, cpus=2)
    monkeypatch.setattr(engine_kvm, "stuck", lambda vcpu, error: error)
    with pytest.raises(KernelError):
        run(SPIN)


@pytest.mark.needs_bare_kvm
def test_a_triple_fault_is_one_clear_line(needs_kvm, assemble):
    image = assemble("""
        .include "board.inc"
        enter_protected
protected:
        flat_segments
        lidt none
        ud2
none:   .word 0
        .long 0
        gdt_table
    """)
    with pytest.raises(GuestError, match=r"^cpu 0 at cs:rip 8:7c[0-9a-f]+ triple fault"):
        run(image)


@pytest.mark.needs_bare_kvm  # it may well end in a triple fault
def test_a_guest_that_rewrites_its_page_tables_hurts_only_itself(needs_kvm, assemble):
    image = assemble("""
        .include "board.inc"
        enter_protected
protected:
        flat_segments
        enter_long
        .code64
long:   mov $0x1000, %edi
1:      rdtsc
        mov %eax, (%rdi)
        add $4, %edi
        cmp $0x4000, %edi
        jne 1b
        mov %cr3, %rax
        mov %rax, %cr3
        jmp long
        gdt_table
    """)
    with pytest.raises((GuestError, Timeout)):
        run(image, timeout=1)


def test_random_code_ends_within_its_time(engine):
    complaints = []
    for seed in range(8):
        junk = bytes((seed * 37 + i * i * 11 + (i >> 3) * seed) & 0xFF for i in range(4096))
        try:
            run(junk, engine, timeout=0.2)
        except (GuestError, Timeout) as error:
            complaints.append(str(error))
    assert not any("\n" in line for line in complaints)


@pytest.mark.parametrize(
    ("hardware", "error", "words"),
    [
        ({"memory": 0}, UsageError, "memory = 0 bytes is not a positive number"),
        ({"memory": 1 << 20, "cpus": 0}, UsageError, "cpus = 0 is not 1 to 64"),
        ({"cpus": 65}, UsageError, "cpus = 65"),
        ({"memory": 4 << 30}, UsageError, "4096 MiB is more than the 3072 MiB"),
    ],
)
def test_impossible_hardware_is_refused(hardware, error, words):
    with pytest.raises(error, match=words):
        run(SPIN, **hardware)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (b"", "guest image is empty"),
        (bytes(1 << 20), "does not fit into the .* bytes of memory above 0x7c00; raise --mem"),
        (bytes(0x202) + b"HdrS" + bytes(100), "is a Linux kernel"),
    ],
)
def test_an_image_that_cannot_run_is_refused(image, words):
    with pytest.raises(GuestError, match=words):
        run(image, memory=MIB)


def test_an_unknown_engine_is_refused():
    with pytest.raises(UsageError, match="engine = abacus is not kvm or emulate"):
        run(SPIN, "abacus")


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf")])
def test_an_invalid_timeout_is_refused(seconds):
    with pytest.raises(UsageError, match="timeout"):
        Deadline(seconds)


# --- as a library ------------------------------------------------------------------------------


def test_a_run_restores_the_signals_and_timers_of_the_thread(engine):
    import signal

    with pytest.raises(Timeout):
        run(SPIN, engine, timeout=0.05)
    assert STOP not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    assert STOP not in signal.sigpending()
    with open("/proc/self/timers") as file:
        assert file.read() == ""


def test_guests_run_in_many_threads_at_once(engine):
    endings = []

    def body(number):
        image = bytes((0xB0, number, 0xE6, 0xF4, 0xF4))
        endings.append(run(image, engine)[0].ending.status)

    threads = [threading.Thread(target=body, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(endings) == list(range(8))


def mappings():
    with open("/proc/self/maps") as file:
        return [line for line in file if "kvm" in line]


def test_one_hundred_machines_one_after_another_leave_nothing(needs_kvm):
    run(b"\xf4")
    before = sorted(os.listdir("/proc/self/fd"))
    size = resident()
    for _ in range(100):
        run(b"\xf4")
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert mappings() == []
    assert resident() - size < 8 << 20


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


def test_twenty_machines_at_once_leave_nothing(needs_kvm):
    before = sorted(os.listdir("/proc/self/fd"))
    problems = []

    def body():
        try:
            run(SPIN, timeout=0.5)
        except Timeout:
            return
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=body) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert sorted(os.listdir("/proc/self/fd")) == before
    assert mappings() == []
    assert threading.active_count() == 1


def test_a_machine_that_cannot_be_created_leaves_nothing(needs_kvm, monkeypatch):
    from pycontain.vm.kvm import Vm

    def refuse(self, number):
        raise HostError("no more")

    monkeypatch.setattr(Vm, "create_vcpu", refuse)
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(HostError, match="no more"):
        run(SPIN)
    assert sorted(os.listdir("/proc/self/fd")) == before


# --- a user at the terminal --------------------------------------------------------------------

ECHO = """
        .code16
1:      mov $0x3fd, %dx
        in (%dx), %al
        test $1, %al
        jz 1b
        mov $0x3f8, %dx
        in (%dx), %al
        inc %al
        out %al, (%dx)
        jmp 1b
"""


def test_what_is_typed_reaches_the_guest_and_the_quit_key_ends_it(engine, assemble, monkeypatch):
    from pycontain.vm import terminal

    user, line = pty.openpty()
    monkeypatch.setattr(terminal.Terminal.__init__, "__defaults__", (line,))
    output = Capture()
    results = []

    def guest():
        image = assemble(ECHO)
        hardware = Hardware(interactive=True)
        results.append(run_flat(image, output, hardware, timeout=60, engine=engine))

    thread = threading.Thread(target=guest)
    thread.start()
    os.write(user, b"HAL")
    while output.data != b"IBM" and thread.is_alive():
        time.sleep(0.01)
    os.write(user, b"\x1d")
    thread.join()
    os.close(user)
    os.close(line)
    assert results[0].ending.why == "quit"
