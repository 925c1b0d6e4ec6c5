"""The tiny guests: flat binaries of a few hundred bytes, checked in beside their source."""

from __future__ import annotations

import os

from ...lean.record import Record


class TinyGuest(Record):
    """
    One guest of this folder: its source is <name>.S, its code <name>.bin.

    irqchip   it needs interrupt controllers and a timer, which only KVM provides
    emulated  the emulator can run it: it uses no interrupts, exception handlers or SYSCALL
    """

    name: str
    about: str
    cpus: int = 1
    irqchip: bool = False
    emulated: bool = True

    def image(self) -> bytes:
        """Its code."""
        with open(f"{os.path.dirname(__file__)}/{self.name}.bin", "rb") as file:
            return file.read()


GUESTS = {
    guest.name: guest
    for guest in (
        TinyGuest(name="tiny", about="ten bytes of real mode that print an exclamation mark"),
        TinyGuest(name="real", about="real mode: hello over a serial port"),
        TinyGuest(name="protected", about="32-bit protected mode"),
        TinyGuest(name="long", about="64-bit long mode, with its own page tables"),
        TinyGuest(name="ring3", about="a program in ring 3 and its system calls", emulated=False),
        TinyGuest(name="fault", about="a page fault that the guest handles", emulated=False),
        TinyGuest(name="timer", about="timer ticks that end HLT", irqchip=True, emulated=False),
        TinyGuest(name="smp", about="two processors", cpus=2, irqchip=True, emulated=False),
        TinyGuest(name="uart", about="4096 bytes, full virtualization: byte by byte"),
        TinyGuest(name="hypercall", about="4096 bytes, paravirtualization: one hypercall"),
        TinyGuest(name="virtio", about="4096 bytes, hybrid: a virtio-mmio console"),
    )
}
