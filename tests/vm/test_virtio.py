"""Virtio at the level of registers and rings, driven as by a guest, then as by a hostile one."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pycontain.errors import HostError
from pycontain.vm.devices.block import VirtioBlock
from pycontain.vm.devices.console import VirtioConsole
from pycontain.vm.memory import Memory
from pycontain.vm.sink import Capture

SIZE = 1 << 20
TABLE, AVAILABLE, USED, DATA = 0x1000, 0x2000, 0x3000, 0x10000
NEXT, WRITE, INDIRECT = 1, 2, 4
NEEDS_RESET = 64


class Driver:
    """The guest's side of a device: negotiates, fills descriptors, notifies."""

    def __init__(self, device, memory, size=8):
        self.device, self.memory, self.size = device, memory, size
        self.available = dict.fromkeys(range(2), 0)
        for status in (0, 1, 3):
            self.set(0x70, status)
        self.set(0x24, 1)
        self.set(0x20, 1)
        self.set(0x70, 11)
        assert self.get(0x70) == 11
        self.set(0x70, 15)

    def get(self, register):
        return self.device.read(register, 4)

    def set(self, register, value):
        self.device.write(register, 4, value)

    def queue(self, number, table=TABLE, available=AVAILABLE, used=USED):
        for register, value in (
            (0x30, number), (0x38, self.size), (0x80, table & 0xFFFF_FFFF), (0x84, table >> 32),
            (0x90, available & 0xFFFF_FFFF), (0x94, available >> 32), (0xA0, used & 0xFFFF_FFFF),
            (0xA4, used >> 32), (0x44, 1),
        ):  # fmt: skip
            self.set(register, value)

    def descriptor(self, number, address, length, flags=0, follow=0):
        at = TABLE + 16 * number
        self.memory.store(at, 8, address)
        self.memory.store(at + 8, 4, length)
        self.memory.store(at + 12, 2, flags)
        self.memory.store(at + 14, 2, follow)

    def offer(self, queue, head=0):
        index = self.available[queue]
        self.memory.store(AVAILABLE + 4 + index % self.size * 2, 2, head)
        self.available[queue] = index + 1
        self.memory.store(AVAILABLE + 2, 2, index + 1 & 0xFFFF)
        self.set(0x50, queue)

    def used(self):
        """How many requests came back, and the last one's head and length."""
        index = self.memory.load(USED + 2, 2)
        entry = USED + 4 + (index - 1) % self.size * 8
        return index, self.memory.load(entry, 4), self.memory.load(entry + 4, 4)


@pytest.fixture
def memory():
    memory = Memory(SIZE)
    yield memory
    memory.close()


@pytest.fixture
def lines():
    return []


@pytest.fixture
def console(memory, lines):
    device = VirtioConsole(memory, Capture(), lines.append)
    return device, Driver(device, memory)


@pytest.fixture
def disk(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(b"".join(bytes((sector % 256,)) * 512 for sector in range(2048)) + b"rest")
    fd = os.open(path, os.O_RDWR)
    yield fd
    os.close(fd)


# --- registers ---------------------------------------------------------------------------------


def test_the_window_shows_magic_version_and_kind(console):
    _, driver = console
    assert [driver.get(register) for register in (0, 4, 8)] == [0x7472_6976, 2, 3]
    driver.set(0x14, 1)
    assert driver.get(0x10) & 1  # VIRTIO_F_VERSION_1
    driver.set(0x14, 7)
    assert driver.get(0x10) == 0


def test_features_that_were_not_offered_are_rejected(memory):
    device = VirtioConsole(memory, Capture())
    for register, value in ((0x70, 3), (0x24, 0), (0x20, 1 << 30), (0x24, 1), (0x20, 1)):
        device.write(register, 4, value)
    device.write(0x70, 4, 11)
    assert device.read(0x70, 4) == 3


def test_a_driver_older_than_version_1_is_rejected(memory):
    device = VirtioConsole(memory, Capture())
    device.write(0x70, 4, 11)
    assert device.read(0x70, 4) == 3


def test_only_queues_that_exist_have_a_size(console):
    _, driver = console
    driver.set(0x30, 1)
    assert driver.get(0x34) == 256
    driver.set(0x30, 2)
    assert driver.get(0x34) == 0


@pytest.mark.parametrize("size", [0, 3, 257, 512, 0xFFFF_FFFF])
def test_a_queue_with_an_invalid_size_does_not_become_ready(console, size):
    _, driver = console
    driver.size = size
    driver.queue(1)
    assert driver.get(0x44) == 0


def test_writing_zero_to_status_resets_everything(console, lines):
    _, driver = console
    driver.queue(1)
    driver.descriptor(0, DATA, 1)
    driver.offer(1)
    driver.set(0x70, 0)
    driver.set(0x30, 1)
    assert (driver.get(0x70), driver.get(0x60), driver.get(0x44)) == (0, 0, 0)
    assert lines == [True, False]


# --- console -----------------------------------------------------------------------------------


def test_the_console_writes_out_all_parts_and_interrupts(console, memory, lines):
    device, driver = console
    driver.queue(1)
    memory.write(DATA, b"hello world")
    driver.descriptor(0, DATA, 6, NEXT, 3)
    driver.descriptor(3, DATA + 6, 5)
    driver.offer(1)
    assert device._sink.data == b"hello world"
    assert driver.used() == (1, 0, 0)
    assert driver.get(0x60) == 1
    driver.set(0x64, 1)
    assert lines == [True, False]


def test_the_rings_wrap_at_their_size_and_at_65536(console, memory):
    device, driver = console
    memory.store(AVAILABLE + 2, 2, 65530)
    driver.queue(1)
    device.queues[1]._seen = driver.available[1] = 65530
    memory.write(DATA, b"x")
    driver.descriptor(0, DATA, 1)
    for _ in range(20):
        driver.offer(1)
    assert device._sink.data == b"x" * 20
    assert driver.used()[0] == 20


def test_input_waits_for_a_buffer_and_fills_no_more_than_it(console, memory):
    device, driver = console
    device.receive(b"typed early")
    driver.queue(0)
    driver.descriptor(0, DATA, 5, WRITE)
    driver.offer(0)
    assert memory.read(DATA, 6) == b"typed\0"
    assert driver.used() == (1, 0, 5)
    driver.descriptor(1, DATA + 16, 100, WRITE)
    driver.offer(0, head=1)
    assert memory.read(DATA + 16, 7) == b" early\0"
    assert driver.used() == (2, 1, 6)


# --- block -------------------------------------------------------------------------------------

HEADER, STATUS = 0x8000, 0x9000


def block_request(driver, kind, sector, length, *, flags=WRITE):
    driver.memory.store(HEADER, 4, kind)
    driver.memory.store(HEADER + 8, 8, sector)
    driver.memory.store(STATUS, 1, 0xEE)
    driver.descriptor(0, HEADER, 16, NEXT, 1 if length else 2)
    driver.descriptor(1, DATA, length, flags | NEXT, 2)
    driver.descriptor(2, STATUS, 1, WRITE)
    driver.offer(0)
    return driver.memory.load(STATUS, 1)


@pytest.fixture
def block(memory, disk):
    device = VirtioBlock(memory, disk)
    driver = Driver(device, memory)
    driver.queue(0)
    return driver


def test_the_disk_reports_capacity_geometry_and_block_size(block):
    def config(offset, size):
        return block.device.read(0x100 + offset, size)

    assert config(0, 8) == 2048
    assert (config(16, 2), config(18, 1), config(19, 1)) == (2, 16, 63)
    assert config(20, 4) == 512
    assert config(0x1000, 4) == 0
    assert block.get(0x10) == 1 << 2 | 1 << 4 | 1 << 6 | 1 << 9


def test_the_disk_reads_sectors_into_memory(block, memory):
    assert block_request(block, 0, 3, 1024) == 0
    assert memory.read(DATA, 1024) == b"\x03" * 512 + b"\x04" * 512
    assert block.used() == (1, 0, 1025)


def test_the_disk_writes_sectors_and_flushes(block, memory, disk):
    memory.write(DATA, b"W" * 512)
    assert block_request(block, 1, 9, 512, flags=0) == 0
    assert os.pread(disk, 512, 9 * 512) == b"W" * 512
    assert block_request(block, 4, 0, 0) == 0


def test_the_disk_has_a_name(block, memory):
    assert block_request(block, 8, 0, 20) == 0
    assert memory.read(DATA, 10) == b"pycontain\0"


@pytest.mark.parametrize(
    ("kind", "sector", "length"),
    [(0, 2048, 512), (0, 2047, 1024), (0, 1 << 63, 512), (1, 2048, 512), (0, 0, 100)],
)
def test_access_beyond_the_disk_is_an_io_error(block, disk, kind, sector, length):
    before = os.fstat(disk).st_size
    assert block_request(block, kind, sector, length, flags=WRITE if kind == 0 else 0) == 1
    assert os.fstat(disk).st_size == before


def test_an_unknown_request_is_unsupported(block):
    assert block_request(block, 99, 0, 512) == 2


def test_a_read_only_disk_refuses_writes(memory, disk):
    device = VirtioBlock(memory, disk, read_only=True)
    driver = Driver(device, memory)
    driver.queue(0)
    assert driver.get(0x10) & 1 << 5
    assert block_request(driver, 1, 0, 512, flags=0) == 1


def test_a_disk_smaller_than_a_sector_is_refused(memory, tmp_path):
    (tmp_path / "small").write_bytes(b"x" * 511)
    fd = os.open(tmp_path / "small", os.O_RDONLY)
    with pytest.raises(HostError, match="smaller than a sector"):
        VirtioBlock(memory, fd)
    os.close(fd)


# --- hostile rings -----------------------------------------------------------------------------


def outside(driver):
    driver.descriptor(0, SIZE - 1, 2)


def wrapping(driver):
    driver.descriptor(0, (1 << 64) - 1, 2)


def loop(driver):
    driver.descriptor(0, DATA, 1, NEXT, 1)
    driver.descriptor(1, DATA, 1, NEXT, 0)


def next_beyond(driver):
    driver.descriptor(0, DATA, 1, NEXT, 8)


def indirect(driver):
    driver.descriptor(0, DATA, 16, INDIRECT)


def endless(driver):
    for number in range(8):
        driver.descriptor(number, 0, SIZE, NEXT, number + 1)


@pytest.mark.parametrize("attack", [outside, wrapping, loop, next_beyond, indirect, endless])
def test_a_broken_chain_stops_the_device_and_notifies_the_driver(console, attack):
    device, driver = console
    driver.queue(1)
    attack(driver)
    driver.offer(1)
    assert driver.get(0x70) & NEEDS_RESET
    assert driver.get(0x60) & 2
    assert device._sink.data == b""
    driver.descriptor(0, DATA, 1)
    driver.offer(1)  # nothing is served until the driver resets it
    assert device._sink.data == b""


def test_a_head_beyond_the_table_stops_the_device(console):
    _, driver = console
    driver.queue(1)
    driver.offer(1, head=0xFFFF)
    assert driver.get(0x70) & NEEDS_RESET


def test_more_requests_than_the_ring_holds_stop_the_device(console):
    _, driver = console
    driver.queue(1)
    driver.available[1] = 100
    driver.offer(1)
    assert driver.get(0x70) & NEEDS_RESET


@pytest.mark.parametrize("where", [{"table": SIZE}, {"available": 1 << 40}, {"used": SIZE - 4}])
def test_rings_outside_of_memory_stop_the_device(console, where):
    _, driver = console
    driver.queue(1, **where)
    driver.descriptor(0, DATA, 1)
    driver.offer(1)
    assert driver.get(0x70) & NEEDS_RESET


def test_a_device_that_is_not_up_ignores_notifications(memory):
    device = VirtioConsole(memory, Capture())
    driver = Driver(device, memory)
    driver.set(0x70, 0)
    driver.queue(1)
    driver.descriptor(0, DATA, 1)
    driver.offer(1)
    assert device._sink.data == b""


@settings(max_examples=300, deadline=None)
@given(
    writes=st.lists(
        st.tuples(
            st.sampled_from([*range(0x10, 0xB0, 4), 0x100]),
            st.integers(0, 0xFFFF_FFFF) | st.sampled_from([0, 1, 3, 8, 15, TABLE, AVAILABLE, USED]),
        ),
        max_size=40,
    ),
    junk=st.binary(max_size=400),
)
def test_no_sequence_of_register_writes_breaks_the_monitor(writes, junk):
    memory = Memory(64 << 10)
    device = VirtioConsole(memory, Capture())
    driver = Driver(device, memory)
    driver.queue(1)
    memory.write(TABLE, junk)
    memory.write(AVAILABLE, junk)
    for register, value in writes:
        driver.set(register, value)
        device.read(register, 4)
    memory.close()
