"""
An address space against a reference model, step by step, whatever is mapped, refused or exhausted.

The model is a dictionary of single pages. After each step it is compared with the space's areas,
with what the page tables say, with the frames, and with what the monitor reads. By default the
steps are the same each time; PYCONTAIN_EXAMPLES=2000 tries that many random sequences.
"""

from __future__ import annotations

import errno
import os
import tempfile
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from pycontain.vm import space as spaces
from pycontain.vm import window as windows
from pycontain.vm.frames import Frames, OutOfFrames, pages
from pycontain.vm.linux import memory as calls
from pycontain.vm.memory import PAGE, Memory
from pycontain.vm.open_file import OpenFile
from pycontain.vm.paging import EXECUTE, READ, WRITE, PageTables
from pycontain.vm.space import HIGHEST, LOWEST, Area, BadAddress, MapError, Space
from pycontain.vm.window import Window

EXAMPLES = int(os.environ.get("PYCONTAIN_EXAMPLES", "0"))
RW = READ | WRITE
SIZE = LOWEST + 256 * PAGE
WINDOW = 16 * PAGE
HOME = 0x40_0000 - 12 * PAGE  # pages on both sides of the border between two tables
HEAP = 0x5000_0000
BASES = (HOME, HOME, HOME, LOWEST, 0x1234_5678_9000, HIGHEST - 8 * PAGE)
TABLES_MAX = 6  # for one call: three levels at each end

where = st.tuples(st.sampled_from(BASES), st.integers(0, 23)).map(lambda p: p[0] + p[1] * PAGE)
counts = st.integers(1, 9)
prots = st.sampled_from([0, READ, RW, RW, READ | EXECUTE])
stamps = st.integers(1, 255)


class Page:
    """What the model knows of one page; its content, or None for zeros."""

    def __init__(self, prot, content=None):
        self.prot = prot
        self.content = content

    def bytes(self):
        return bytes(self.content) if self.content else bytes(PAGE)


class SpaceMachine(RuleBasedStateMachine):
    make_space, make_tables = Space, PageTables

    def __init__(self):
        super().__init__()
        self.memory = Memory(SIZE)
        self.frames = Frames(LOWEST, SIZE)
        self.tables = self.make_tables(self.memory, self.frames)
        self.space = self.make_space(self.memory, self.frames, self.tables)
        self.window = Window(self.memory, self.frames, self.tables)
        self.task = SimpleNamespace(space=self.space, process=SimpleNamespace(heap=HEAP, brk=HEAP))
        self.heap = HEAP
        self.model = {}
        self.file = tempfile.TemporaryFile()
        self.file.write(bytes(range(1, 251)) * 400)
        self.file.flush()

    def teardown(self):
        self.tables.close()
        self.memory.close()
        self.file.close()

    # --- steps -----------------------------------------------------------------------------------

    def attempt(self, call, after, need=0, refused=0):
        """A call that changes the model to `after`, or is refused and changes nothing."""
        free, error = self.frames.free, 0
        try:
            call()
        except MapError as refusal:
            error = refusal.errno
        except OSError:
            error = errno.EIO
        if error:
            assert self.frames.free == free
            assert error == refused or (error == errno.ENOMEM and self.is_tight(need))
        else:
            assert not refused
            self.model = after
        return not error

    def is_tight(self, need):
        """Whether a call that needs this many pages may be refused for lack of room."""
        longest = max((end - start for start, end in self.frames._runs), default=0)
        many = len(self.space._areas) + 2 > spaces._AREAS_MAX
        return many or longest < (need + TABLES_MAX) * PAGE

    def span(self, address, count):
        return range(address, address + count * PAGE, PAGE)

    def outside(self, address, count):
        end = address + count * PAGE
        return address < LOWEST or end > HIGHEST

    def mapped(self, address, count, prot, content=b""):
        new = {}
        for number, page in enumerate(self.span(address, count)):
            part = content[number * PAGE :][:PAGE].ljust(PAGE, b"\0") if content else None
            new[page] = Page(prot, bytearray(part) if part else None)
        return {**self.model, **new}

    @rule(address=where, count=counts, prot=prots)
    def map_at(self, address, count, prot):
        self.attempt(
            lambda: self.space.map(address, count * PAGE, prot, fixed=True),
            self.mapped(address, count, prot),
            count if prot else 0,
            errno.ENOMEM if self.outside(address, count) else 0,
        )

    @rule(hint=st.just(0) | where, count=counts, prot=prots)
    def map_anywhere(self, hint, count, prot):
        self.map_new(hint, count, prot)

    def map_new(self, hint, count, prot):
        found = []
        before = dict(self.model)
        done = self.attempt(
            lambda: found.append(self.space.map(hint, count * PAGE, prot)), before, count
        )
        if done:
            pages = self.span(found[0], count)
            assert not self.outside(found[0], count)
            assert not any(page in before for page in pages)
            self.model = self.mapped(found[0], count, prot)
        return done

    @rule(address=where, count=counts, prot=prots, stamp=stamps, fails=st.booleans())
    def map_file(self, address, count, prot, stamp, fails):
        content = bytes((stamp,)) * (count * PAGE - 1000)

        def fill(view):
            view[: len(content)] = content
            if fails:
                raise OSError(errno.EIO, "")

        self.attempt(
            lambda: self.space.map(address, count * PAGE, prot, fixed=True, fill=fill),
            self.mapped(address, count, prot, content),
            count,
            errno.ENOMEM if self.outside(address, count) else errno.EIO if fails else 0,
        )

    @rule(address=where, count=counts)
    def unmap(self, address, count):
        kept = {
            page: is_ for page, is_ in self.model.items() if page not in self.span(address, count)
        }
        end = address + count * PAGE
        self.attempt(
            lambda: self.space.unmap(address, count * PAGE),
            kept,
            refused=errno.EINVAL if end > HIGHEST else 0,
        )

    @precondition(lambda self: self.model)
    @rule(data=st.data(), count=st.integers(1, 40))
    def unmap_what_is_there(self, data, count):
        self.unmap(data.draw(st.sampled_from(sorted(self.model))), count)

    @rule(address=where, prot=prots)
    def punch_holes(self, address, prot):
        self.map_at(address, 9, prot)
        for number in (1, 3, 5, 7):
            self.unmap(address + number * PAGE, 1)

    @rule(address=where, count=counts, prot=prots)
    def protect(self, address, count, prot):
        span = self.span(address, count)
        whole = all(page in self.model for page in span)
        changed = dict(self.model)
        if whole:
            changed.update({page: Page(prot, self.model[page].content) for page in span})
        self.attempt(
            lambda: self.space.protect(address, count * PAGE, prot),
            changed,
            count,
            0 if whole else errno.ENOMEM,
        )

    @precondition(lambda self: self.model)
    @rule(data=st.data(), count=st.integers(1, 3), prot=prots)
    def protect_what_is_there(self, data, count, prot):
        self.protect(data.draw(st.sampled_from(sorted(self.model))), count, prot)

    @rule(address=where, count=counts, prot=st.sampled_from([READ, RW]), skip=st.integers(0, 1))
    def reserve_and_use(self, address, count, prot, skip):
        self.map_at(address, count, 0)
        self.protect(address + skip * PAGE, count - skip, prot)

    @rule(by=st.integers(-9 * PAGE, 9 * PAGE))
    def grow_the_heap(self, by):
        wanted = max(HEAP, self.heap + by)
        result = calls.brk(self.task, wanted)
        assert result in (wanted, self.heap)
        old, new = pages(self.heap), pages(wanted)
        if result != wanted:
            blocked = any(page in self.model for page in range(old, new, PAGE))
            assert blocked or self.is_tight((new - old) // PAGE)
            return
        if new > old:
            self.model = self.mapped(old, (new - old) // PAGE, RW)
        for page in range(new, old, PAGE):
            self.model.pop(page, None)
        self.heap = wanted

    @rule(leave=st.integers(0, 9))
    def exhaust(self, leave):
        for count in (64, 16, 4, 1):
            while self.frames.free > leave * PAGE + count * PAGE and self.map_new(0, count, RW):
                pass

    @rule(leave=st.integers(0, 5), slot=st.integers(1, 9), count=st.integers(1, 2))
    def exhaust_and_map_far_away(self, leave, slot, count):
        """Where three tables are needed as well."""
        self.exhaust(leave)
        self.map_at(slot << 39, count, RW)

    @rule(address=where, prot=st.sampled_from([RW | EXECUTE, WRITE | EXECUTE]))
    def ask_for_both_write_and_execute(self, address, prot):
        map_, protect = self.space.map, self.space.protect
        self.attempt(lambda: map_(address, PAGE, prot), self.model, refused=errno.EACCES)
        self.attempt(lambda: protect(address, PAGE, prot), self.model, refused=errno.EACCES)

    @rule(address=where, odd=st.integers(1, PAGE - 1))
    def ask_for_half_pages(self, address, odd):
        at, refused = address + odd, errno.EINVAL
        self.attempt(lambda: self.space.unmap(at, PAGE), self.model, refused=refused)
        self.attempt(lambda: self.space.protect(at, PAGE, RW), self.model, refused=refused)
        self.attempt(lambda: self.space.map(at, PAGE, RW, fixed=True), self.model, refused=refused)
        self.attempt(lambda: self.space.map(address, 0, RW), self.model, refused=refused)

    # --- access ----------------------------------------------------------------------------------

    def may(self, address, length, need):
        touched = range(address // PAGE * PAGE, address + length, PAGE)
        return all(page in self.model and not need & ~self.model[page].prot for page in touched)

    def put(self, address, data):
        for number, byte in enumerate(data):
            page = self.model[(address + number) // PAGE * PAGE]
            page.content = page.content or bytearray(PAGE)
            page.content[(address + number) % PAGE] = byte

    @rule(address=where, offset=st.integers(0, PAGE - 1), data=st.binary(min_size=1, max_size=300))
    def write(self, address, offset, data):
        if self.may(address + offset, len(data), WRITE):
            self.space.write(address + offset, data)
            self.put(address + offset, data)
        else:
            with pytest.raises(BadAddress):
                self.space.write(address + offset, data)

    @rule(address=where, length=st.integers(1, 3 * PAGE), times=st.integers(1, 3))
    def read_a_file(self, address, length, times):
        """The second time in a row goes through the window, which reads ahead."""
        if not self.may(address, length, WRITE):
            return
        os.lseek(self.file.fileno(), 0, os.SEEK_SET)
        file = OpenFile(self.file.fileno(), regular=True)
        for number in range(times):
            got = self.window.read(file, 3, self.space.slices(address, length, WRITE))
            expected = os.pread(self.file.fileno(), length, number * length)
            assert got == len(expected)
            self.put(address, expected)
        self.window.pause()

    # --- what must hold --------------------------------------------------------------------------

    @invariant()
    def the_areas_are_those_of_the_model(self):
        areas = self.space._areas
        assert self.space._starts == [area.start for area in areas]
        assert len(areas) <= spaces._AREAS_MAX
        assert all(area.frame is not None or not area.prot for area in areas)
        assert not any(b.continues(a) for a, b in pairwise(areas))
        found = {page: a.prot for a in areas for page in range(a.start, a.end, PAGE)}
        assert found == {page: is_.prot for page, is_ in self.model.items()}

    @invariant()
    def the_page_tables_agree_and_each_frame_has_one_owner(self):
        leaves, tables = self.look()
        window = {HIGHEST + at: (self.window._frame + at, READ) for at in range(0, WINDOW, PAGE)}
        shown, owned = dict(window), [frame for frame, _ in window.values()]
        for area in self.space._areas:
            if area.frame is None:
                continue
            for at in range(0, area.end - area.start, PAGE):
                owned.append(area.frame + at)
                if area.prot:
                    shown[area.start + at] = (area.frame + at, area.prot)
        assert leaves == shown
        free = [page for start, end in self.frames._runs for page in range(start, end, PAGE)]
        assert self.frames.free == len(free) * PAGE
        assert sorted(owned + tables + free) == list(range(LOWEST, SIZE, PAGE))

    def look(self):
        """What the processor sees: {virtual: (physical, permissions)}, and all tables."""
        return walk(self.memory, self.tables.root)

    @invariant()
    def free_frames_are_zero_and_others_contain_what_was_written(self):
        for start, end in self.frames._runs:
            assert self.memory.read(start, end - start) == bytes(end - start)
        for area in self.space._areas:
            if area.frame is not None:
                span = range(area.start, area.end, PAGE)
                content = b"".join(self.model[page].bytes() for page in span)
                assert self.memory.read(area.frame, len(content)) == content

    @invariant()
    def the_monitor_reads_what_the_program_may_read(self):
        near = {page + step for page in self.model for step in (-PAGE, 0, PAGE)}
        for page in near | {*BASES, HEAP, 0, HIGHEST}:
            for need in (READ, WRITE):
                if self.may(page, PAGE, need):
                    (piece,) = self.space.slices(page, PAGE, need)
                    assert piece == self.model[page].bytes()
                else:
                    assert self.is_refused(page, need)

    def is_refused(self, address, need):
        try:
            self.space.slices(address, 1, need)
        except BadAddress:
            return True
        return False


def walk(memory, root):
    """What a processor would find."""
    found, tables = {}, []

    def below(table, level, virtual):
        tables.append(table)
        entries = memory.slice(table, PAGE).cast("Q")
        for index, entry in enumerate(entries):
            if not entry:
                continue
            assert entry & 1
            at = virtual | index << 12 + 9 * level
            to = entry & 0x000F_FFFF_FFFF_F000
            if level:
                below(to, level - 1, at)
            else:
                assert entry & 4  # of ring 3
                prot = READ | (entry & 2) | (0 if entry >> 63 else EXECUTE)
                found[at] = (to, prot)

    below(root, 3, 0)
    return found, tables


# --- variants that are wrong -------------------------------------------------------------------


class PermissionsFirst(Space):
    """An area gets its permissions before its frames, and keeps them if there are none."""

    def protect(self, address, length, prot):
        for area in self._inside(address, address + length):
            self._replace(area.start, area.end, [Area(area.start, area.end, prot, area.frame)])
        super().protect(address, length, prot)


class KeepsWhatItGaveBack(Space):
    """Frames that a refused call has given back are still those of the area."""

    def protect(self, address, length, prot):
        for area in self._inside(address, address + length):
            if area.frame is None and prot:
                try:
                    area.frame = self._frames.take(area.end - area.start)
                except OutOfFrames:
                    raise MapError(errno.ENOMEM) from None
                self._replace(area.start, area.end, [area])
                self._frames.give(area.frame, area.end - area.start)
        super().protect(address, length, prot)


class UnmapsFirst(Space):
    """What a mapping replaces is gone, even if the mapping is refused."""

    def map(self, address, length, prot, *, fixed=False, fill=None):
        if fixed and address % PAGE == 0 and length and address + length <= HIGHEST:
            self.unmap(address, length)
        return super().map(address, length, prot, fixed=fixed, fill=fill)


class ReturnsFramesAsTheyAre(Space):
    """Frames are not zeroed when they are given back."""

    def _empty(self, area):
        pass


class LeavesPagesInTheTables(Space):
    """Pages that are unmapped stay present."""

    def _hide(self, area):
        pass


class SplitsWithoutEnd(Space):
    """The number of areas is not limited."""

    def _check_room(self, start, end, count):
        pass


class TakesTablesForNothing(PageTables):
    """Tables for a mapping that is then refused stay."""

    def reserve(self, virtual, length):
        for at in range(virtual, virtual + length, PAGE):
            if at // (512 * PAGE) not in self._leaves:
                self._leaves[at // (512 * PAGE)] = self._leaf(at, [])


WRONG = [
    PermissionsFirst, KeepsWhatItGaveBack, UnmapsFirst, ReturnsFramesAsTheyAre,
    LeavesPagesInTheTables, SplitsWithoutEnd, TakesTablesForNothing,
]  # fmt: skip


@pytest.fixture(autouse=True)
def small_window(monkeypatch):
    monkeypatch.setattr(windows, "_SIZE", WINDOW)
    monkeypatch.setattr(windows, "_FIRST_FILL", WINDOW // 4)


def run(machine, examples, **more):
    how = settings(
        max_examples=examples, stateful_step_count=40, deadline=None, database=None,
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False, **more,
    )  # fmt: skip
    run_state_machine_as_test(machine, settings=how)


@pytest.mark.parametrize("areas", [5, 65530])
def test_a_space_agrees_with_a_model_after_every_step(monkeypatch, areas):
    monkeypatch.setattr(spaces, "_AREAS_MAX", areas)
    run(SpaceMachine, EXAMPLES or 25, derandomize=not EXAMPLES)


@pytest.mark.parametrize("wrong", WRONG)
def test_the_model_finds_a_space_that_is_wrong(monkeypatch, wrong):
    if wrong is SplitsWithoutEnd:
        monkeypatch.setattr(spaces, "_AREAS_MAX", 5)
    part = "make_tables" if issubclass(wrong, PageTables) else "make_space"
    machine = type(wrong.__name__, (SpaceMachine,), {part: wrong})
    with pytest.raises(AssertionError):
        run(machine, 200, derandomize=True, phases=[Phase.generate])
