"""The model of test_space_model.py against the emulator's own memory map."""

from __future__ import annotations

import pytest
from hypothesis import Phase

pytest.importorskip("unicorn")

from pycontain.errors import GuestError
from pycontain.vm.cpu_unicorn import UnicornCpu
from pycontain.vm.deadline import Deadline
from pycontain.vm.memory import PAGE
from tests.vm.test_space_model import (
    EXAMPLES,
    HIGHEST,
    LeavesPagesInTheTables,
    SpaceMachine,
    run,
    small_window,
)

__all__ = ["small_window"]  # a fixture of every test


class Map:
    """The map of an emulator that runs nothing."""

    def __init__(self, memory, frames):
        self.program = UnicornCpu(memory, "x86_64", Deadline())
        self.reserve, self.map = self.program.tables.reserve, self.program.tables.map
        self.unmap, self.close = self.program.tables.unmap, self.program.close


class EmulatedMachine(SpaceMachine):
    make_tables = Map

    def look(self):
        """The emulator shows no physical addresses, so the contents are compared."""
        cpu, found = self.tables.program._cpu, {}
        for start, last, prot in cpu.mem_regions():
            for page in range(start, last + 1, PAGE):
                frame = self.frame_of(page)
                assert cpu.mem_read(page, PAGE) == self.memory.read(frame, PAGE)
                found[page] = (frame, prot)
        return found, []

    def frame_of(self, page):
        if page >= HIGHEST:
            return self.window._frame + page - HIGHEST
        (area,) = self.space._inside(page, page + PAGE)
        return area.frame


def test_an_emulated_space_agrees_with_the_model_after_every_step():
    run(EmulatedMachine, EXAMPLES or 12, derandomize=not EXAMPLES)


def test_the_model_finds_what_stays_in_the_emulator_s_map():
    machine = type("Wrong", (EmulatedMachine,), {"make_space": LeavesPagesInTheTables})
    with pytest.raises((AssertionError, GuestError, ValueError)):
        run(machine, 100, derandomize=True, phases=[Phase.generate])
