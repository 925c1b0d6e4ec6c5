"""Frames, page tables and address spaces; test_space_model.py compares them with a model."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pycontain.vm.frames import Frames, OutOfFrames
from pycontain.vm.memory import PAGE, Memory
from pycontain.vm.paging import EXECUTE, READ, WRITE, PageTables
from pycontain.vm.space import HIGHEST, LOWEST, BadAddress, MapError, Space

MIB = 1 << 20
RW = READ | WRITE
HOME = 0x10_0000


@pytest.fixture
def memory():
    memory = Memory(8 * MIB)
    yield memory
    memory.close()


@pytest.fixture
def parts(memory):
    frames = Frames(LOWEST, memory.size)
    tables = PageTables(memory, frames)
    yield Space(memory, frames, tables), tables, frames
    tables.close()


@pytest.fixture
def space(parts):
    return parts[0]


def walk(memory, root, virtual):
    """What a processor finds: (physical, writable, user, executable), or None."""
    table = root
    for shift in (39, 30, 21, 12):
        entry = memory.load(table + 8 * (virtual >> shift & 511), 8)
        if not entry & 1:
            return None
        table = entry & 0x000F_FFFF_FFFF_F000
    return table, bool(entry & 2), bool(entry & 4), not entry >> 63


def error_of(call, *arguments, **named):
    with pytest.raises(MapError) as caught:
        call(*arguments, **named)
    return caught.value.errno


# --- frames ------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 9)), max_size=60))
def test_frames_are_handed_out_once_and_can_be_returned(steps):
    frames = Frames(0, 64 * PAGE)
    held = []
    for take, size in steps:
        if take:
            try:
                start = (frames.take if size % 3 else frames.take_last)(size * PAGE)
            except OutOfFrames:
                continue
            assert all(start + size * PAGE <= a or a + n <= start for a, n in held)
            held.append((start, size * PAGE))
        elif held:
            frames.give(*held.pop(size % len(held)))
        assert frames.free == 64 * PAGE - sum(length for _, length in held)
    for run in held:
        frames.give(*run)
    assert frames.take(64 * PAGE) == 0


# --- page tables -------------------------------------------------------------------------------


def test_the_tables_contain_what_was_mapped(memory, parts):
    _, tables, _ = parts
    tables.map(0x7F12_3456_7000, 0x40_0000, 3 * PAGE, READ)
    tables.map(0x1F_F000, 0x50_0000, 2 * PAGE, RW)  # across two last-level tables
    tables.map(0x8000, 0x8000, PAGE, READ | EXECUTE, user=False)
    assert walk(memory, tables.root, 0x7F12_3456_9000) == (0x40_2000, False, True, False)
    assert walk(memory, tables.root, 0x7F12_3456_A000) is None
    assert walk(memory, tables.root, 0x1F_F000) == (0x50_0000, True, True, False)
    assert walk(memory, tables.root, 0x20_0000) == (0x50_1000, True, True, False)
    assert walk(memory, tables.root, 0x8000) == (0x8000, False, False, True)
    tables.unmap(0x1F_F000, PAGE)
    assert walk(memory, tables.root, 0x1F_F000) is None
    assert walk(memory, tables.root, 0x20_0000) is not None


# --- spaces ------------------------------------------------------------------------------------


def test_a_mapping_is_zero_and_belongs_to_the_program(space):
    address = space.map(0, 5000, RW)
    assert address % PAGE == 0
    assert space.read(address, 8192) == bytes(8192)
    with pytest.raises(BadAddress):
        space.read(address + 8191, 2)


def test_mappings_without_an_address_never_overlap(space):
    space.map(0x7000_0000_0000 - PAGE, 3 * PAGE, RW, fixed=True)
    taken = sorted(space.map(0, (1 + n % 3) * PAGE, RW) for n in range(30))
    assert len(set(taken)) == 30
    assert min(taken) == 0x7000_0000_0000 + 2 * PAGE
    for start in taken:
        space.write(start, start.to_bytes(8, "little"))
    assert all(space.read(start, 8) == start.to_bytes(8, "little") for start in taken)


def test_reused_memory_is_zero(space, parts):
    free = parts[2].free
    for _ in range(20):
        address = space.map(0, 4 * MIB, RW)
        assert space.read(address, 100) == bytes(100)
        space.write(address, b"secret" * 10)
        space.unmap(address, 4 * MIB)
    assert free - parts[2].free < 16 * PAGE  # a few tables stay


def test_pages_are_never_writable_and_executable(space):
    assert error_of(space.map, 0, PAGE, RW | EXECUTE) == errno.EACCES
    address = space.map(0, PAGE, RW)
    assert error_of(space.protect, address, PAGE, RW | EXECUTE) == errno.EACCES
    space.protect(address, PAGE, READ | EXECUTE)


def test_permissions_are_enforced(space):
    address = space.map(0, 3 * PAGE, RW)
    space.protect(address + PAGE, PAGE, READ)
    space.write(address, b"x" * PAGE)
    with pytest.raises(BadAddress):
        space.write(address + PAGE - 1, b"xx")
    space.protect(address + PAGE, PAGE, 0)
    with pytest.raises(BadAddress):
        space.read(address, 3 * PAGE)


@pytest.mark.parametrize("address", [0, PAGE, LOWEST - PAGE, HIGHEST - PAGE + PAGE, 1 << 63])
def test_no_program_maps_outside_its_address_range(space, address):
    assert error_of(space.map, address, 2 * PAGE, RW, fixed=True) == errno.ENOMEM


@pytest.mark.parametrize("address", [-1, -PAGE, 1, HIGHEST, (1 << 64) - 1, (1 << 64) - PAGE])
def test_no_access_reaches_what_is_not_mapped(space, address):
    with pytest.raises(BadAddress):
        space.slices(address, 8)


def test_exhausted_memory_is_enomem(space):
    taken = [space.map(0, 64 << 10, RW) for _ in range(100)]
    assert error_of(space.map, 0, 4 * MIB, RW) == errno.ENOMEM
    for address in taken:
        space.unmap(address, 64 << 10)
    space.map(0, 4 * MIB, RW)


def test_reserved_pages_take_no_memory_until_they_are_used(space):
    address = space.map(0, 1 << 40, 0)
    space.protect(address + (1 << 39), PAGE, RW)
    space.write(address + (1 << 39), b"here")
    assert error_of(space.protect, address, 1 << 39, RW) == errno.ENOMEM


def test_equal_neighbours_merge_so_that_endless_reserving_is_bounded(space):
    for _ in range(1000):
        space.map(0, PAGE, 0)
    assert len(space._areas) == 1
    space.unmap(space._areas[0].start + 10 * PAGE, PAGE)
    assert len(space._areas) == 2


def test_the_number_of_areas_of_a_space_is_limited(space, monkeypatch):
    monkeypatch.setattr("pycontain.vm.space._AREAS_MAX", 10)
    for number in range(10):
        space.map(HOME + 2 * number * PAGE, PAGE, 0, fixed=True)
    assert error_of(space.map, 0, PAGE, 0) == errno.ENOMEM


def test_a_string_ends_at_its_zero_even_at_the_end_of_memory(space):
    address = space.map(0, PAGE, RW)
    space.write(address + PAGE - 4, b"end\0")
    assert space.text(address + PAGE - 4) == b"end"
    space.write(address + PAGE - 4, b"end!")
    with pytest.raises(BadAddress):
        space.text(address + PAGE - 4)
    space.write(address, b"x" * 20)
    assert error_of(space.text, address, 10) == errno.ENAMETOOLONG
