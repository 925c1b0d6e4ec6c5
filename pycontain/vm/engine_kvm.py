"""The engine that runs a board on KVM: one thread per processor, exits served one at a time."""

from __future__ import annotations

import _thread

from ..errors import GuestError, KernelError
from . import abi, x86
from .deadline import drain, kick
from .kvm import Kvm
from .owned import Owned
from .trace import clock

TYPE_CHECKING = False
if TYPE_CHECKING:
    import threading

    from .board import Board, Ending
    from .deadline import Deadline
    from .kvm import Vcpu
    from .memory import Memory
    from .trace import Stats, Trace


class KvmEngine:
    """
    A virtual machine of KVM over this memory.

    With irqchip the interrupt controllers and the timer of a PC are in the kernel, which several
    processors need; HLT then waits for an interrupt instead of ending the guest.

    lock  held while an exit is served; any other thread must take it to use a device

    Raises HostError without /dev/kvm, KernelError when KVM refuses.
    """

    def __init__(self, memory: Memory, cpus: int = 1, *, irqchip: bool = False) -> None:
        self._owned = Owned()
        self._vcpus: list[Vcpu] = []
        self.lock = _thread.allocate_lock()
        self._threads: list[threading.Thread] = []
        self._runners: list[int] = []  # native ids
        self._error: BaseException | None = None
        try:
            self._assemble(memory, cpus, irqchip)
        except BaseException:
            self.close()
            raise

    def _assemble(self, memory: Memory, cpus: int, irqchip: bool) -> None:
        kvm = self._owned.keep(Kvm())
        self._vm = self._owned.keep(kvm.create_vm())
        self._vm.set_tss_address()
        if irqchip:
            kvm.require("IRQCHIP", "PIT2")
            self._vm.create_irqchip()
            self._vm.create_pit()
        self._vm.set_memory(0, 0, memory.size, memory.host)
        leaves = kvm.cpuid()
        for number in range(cpus):
            vcpu = self._owned.keep(self._vm.create_vcpu(number))
            self._vcpus.append(vcpu)
            vcpu.set_cpuid(leaves)

    def close(self) -> None:
        """Release all kernel resources."""
        self._owned.close()

    def set_irq(self, line: int, level: bool) -> None:
        """Raise or lower an interrupt line of the board."""
        self._vm.set_irq(line, level)

    def run(
        self, board: Board, start: int, deadline: Deadline, stats: Stats, trace: Trace | None = None
    ) -> Ending:
        """
        Start the first processor in real mode at this address and run until the board ends.

        Raises GuestError for a guest that crashed, Timeout at the deadline.
        """
        self._board, self._deadline, self._stats, self._trace = board, deadline, stats, trace
        x86.start_real_mode(self._vcpus[0], start)
        for vcpu in self._vcpus[1:]:
            self._spawn(vcpu)
        self._run(self._vcpus[0])
        for thread in self._threads:
            thread.join()
        if self._error:
            raise self._error
        assert board.ending
        return board.ending

    def _spawn(self, vcpu: Vcpu) -> None:
        import threading  # takes 2 ms, which a guest of one processor can avoid

        thread = threading.Thread(target=self._run, args=(vcpu,), name=f"vcpu {vcpu.number}")
        self._threads.append(thread)
        thread.start()  # it inherits the signal mask, with STOP blocked

    def _run(self, vcpu: Vcpu) -> None:
        """Run one processor to its end, then stop all others."""
        self._runners.append(_thread.get_native_id())
        try:
            self._loop(vcpu)
        except KernelError as error:
            self._error = self._error or stuck(vcpu, error)
        except BaseException as error:
            self._error = self._error or error
        self.stop()

    def stop(self) -> None:
        """Make every processor check whether the board has ended; callable from any thread."""
        for vcpu in self._vcpus:
            vcpu.state.immediate_exit = 1
        for thread in self._runners:
            if thread != _thread.get_native_id():
                kick(thread)

    def _loop(self, vcpu: Vcpu) -> None:
        board, stats, enter = self._board, self._stats, vcpu.enter
        vcpu.set_signal_mask(self._deadline.mask)
        while board.ending is None and self._error is None:
            began = clock()
            if not enter():
                drain()
                self._deadline.check()
                continue
            left = clock()
            with self.lock:
                name = self._serve(vcpu)
                stats.add(name, left - began, clock() - left)

    def _serve(self, vcpu: Vcpu) -> str:
        """Serve one exit; returns its name for the statistics."""
        reason = vcpu.state.exit_reason
        if reason == abi.EXIT_IO:
            return self._port(vcpu)
        if reason == abi.EXIT_MMIO:
            return self._window(vcpu)
        self._note(vcpu, abi.EXIT_NAMES.get(reason, str(reason)))
        if reason == abi.EXIT_HLT:
            self._board.end("halt")
            return "hlt"
        raise crash(vcpu)

    def _port(self, vcpu: Vcpu) -> str:
        io = vcpu.state.io
        port, size = io.port, io.size
        # a copy, as the traceback of a device's error would keep a view of the vCPU
        data = bytearray(vcpu.io_data())
        if io.direction == abi.IO_OUT:
            for at in range(0, len(data), size):  # one for OUT, several for REP OUTS
                value = int.from_bytes(data[at : at + size], "little")
                self._note(vcpu, f"out {port:#x} <- {value:#x}")
                self._board.port_write(port, size, value)
            return "out"
        for at in range(0, len(data), size):
            value = self._board.port_read(port, size)
            self._note(vcpu, f"in {port:#x} -> {value:#x}")
            data[at : at + size] = value.to_bytes(size, "little")
        vcpu.io_data()[:] = data
        return "in"

    def _window(self, vcpu: Vcpu) -> str:
        mmio = vcpu.state.mmio
        address, size = mmio.phys_addr, mmio.len
        if mmio.is_write:
            value = int.from_bytes(bytes(mmio.data[0:size]), "little")
            self._note(vcpu, f"store {address:#x} <- {value:#x}")
            self._board.memory_write(address, size, value)
            return "mmio write"
        value = self._board.memory_read(address, size)
        self._note(vcpu, f"load {address:#x} -> {value:#x}")
        mmio.data[0:size] = list(value.to_bytes(size, "little"))
        return "mmio read"

    def _note(self, vcpu: Vcpu, what: str) -> None:
        if self._trace:
            regs = vcpu.regs()
            where = vcpu.sregs().cs.base + regs.rip
            code = bytes(self._board.memory.view[where : where + 15])
            self._trace.exit(f"cpu{vcpu.number} {what}", x86.registers(regs), code)


def stuck(vcpu: Vcpu, error: KernelError) -> GuestError:
    """The error for an ioctl that KVM refused while the guest was running."""
    return GuestError(f"KVM cannot continue: {error}", at=f"cpu {vcpu.number}", errno=error.errno)


def crash(vcpu: Vcpu) -> GuestError:
    """The error for an exit that means that the guest has crashed."""
    state, where = vcpu.state, x86.describe(vcpu)
    reason = state.exit_reason
    if reason == abi.EXIT_SHUTDOWN:
        why = "triple fault: an exception during the handling of a double fault"
    elif reason == abi.EXIT_INTERNAL_ERROR:
        kind = abi.INTERNAL_ERRORS.get(state.internal.suberror, str(state.internal.suberror))
        why = f"KVM internal error: {kind}"
    elif reason == abi.EXIT_FAIL_ENTRY:
        number = state.fail_entry.hardware_entry_failure_reason
        why = f"the processor refused to enter the guest, reason {number:#x}"
    else:
        why = f"unexpected exit, {abi.EXIT_NAMES.get(reason, 'reason')} {reason}"
    return GuestError(why, at=f"cpu {vcpu.number} at {where}")
