"""What the two engines have in common: a processor that runs one task of a program."""

from __future__ import annotations

from ..lean.record import Record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from .space import Tables
    from .window import Window

    class Handler(Protocol):
        """
        What a processor calls when it leaves the program; False ends run().

        failed() is called where an error cannot reach the caller of run(), and may return.
        """

        def call(self) -> bool: ...
        def fault(self, fault: Fault) -> bool: ...
        def kicked(self) -> bool: ...
        def failed(self, error: BaseException) -> None: ...

    class Cpu(Protocol):
        """
            One processor, whose program is in ring 3 (exception level 0).

            machine  "x86_64" or "aarch64"
            vdso     a shared object of one page with clocks for the program, or b""
        tables   what makes the areas of its address space visible
        """

        machine: str
        vdso: bytes

        @property
        def tables(self) -> Tables: ...

        def close(self) -> None:
            """Release what the host gave."""

        def window(self) -> Window | None:
            """Where files are read ahead, if that pays. Raises OutOfFrames."""

        def call(self) -> tuple[int, ...]:
            """The number and the six arguments of the system call it stopped at."""

        def answer(self, result: int) -> None:
            """The result of that call."""

        def registers(self) -> dict[str, int]:
            """All registers of the program, as ring 3 sees them, by their names."""

        def set_registers(self, values: dict[str, int]) -> None:
            """Continue with these registers, wherever the program was."""

        def thread_pointer(self) -> int:
            """The base of FS, or TPIDR_EL0."""

        def set_thread_pointer(self, value: int) -> None:
            """For arch_prctl(2) and clone(2)."""

        def extended(self) -> bytes:
            """The floating-point and vector registers in the format of XSAVE."""

        def set_extended(self, state: bytes) -> None:
            """Restore them; b"" resets them. Raises ValueError for what the processor refuses."""

        def start(self, entry: int, stack: int) -> None:
            """Begin a program: all other registers are zero."""

        def in_program(self) -> bool:
            """Whether it was stopped in the program, not in the monitor's pages."""

        def run(self, handler: Handler) -> None:
            """Run until a handler returns False. Raises GuestError, Timeout."""

        def show_clocks(self, zero: int) -> None:
            """For vdso: the program began at this time on this host's CLOCK_MONOTONIC_RAW."""

        def show_numbers(self, pid: int, tid: int) -> None:
            """Answer getpid(2) and gettid(2) with these, without a call; 0 for with one."""

        def sibling(self) -> Cpu | None:
            """
            Another processor of this address space, for a thread; set_registers() comes next.

            The rest of its state is the same. None where the engine has only one processor.
            Raises OutOfFrames, KernelError.
            """

        def leave(self) -> None:
            """Its thread has ended: a sibling may take its place."""

        def renew(self, registers: dict[str, int], extended: bytes) -> None:
            """In a forked process: make the processor anew, in this state."""


class Fault(Record):
    """
    An exception of the program.

    signal   the signal that a Unix sends for it, signal(7)
    code     its si_code, sigaction(2)
    what     what the program did, without "the program"
    where    the address of the instruction
    address  what it accessed, or where it was
    access   the permission of the page (paging.py) that it needed, 0 if that was not the reason
    """

    signal: int
    code: int
    what: str
    where: int
    address: int
    access: int = 0

    def sentence(self) -> str:
        """For the user."""
        return f"the program {self.what}, at instruction {self.where:#x}"
