"""The devices at the level of their registers."""

from __future__ import annotations

import os

import pytest

from pycontain.errors import GuestError, HostError, Timeout, UsageError
from pycontain.vm.board import Board
from pycontain.vm.deadline import Deadline
from pycontain.vm.devices import ports
from pycontain.vm.devices.serial import Serial
from pycontain.vm.memory import Memory
from pycontain.vm.sink import Capture, Descriptor

RBR = THR = 0
IER, IIR, LCR, MCR, LSR, MSR, SCR = 1, 2, 3, 4, 5, 6, 7


@pytest.fixture
def memory():
    memory = Memory(1 << 20)
    yield memory
    memory.close()


@pytest.fixture
def board(memory):
    return Board(memory)


class Wire:
    """An interrupt line that remembers its changes."""

    def __init__(self):
        self.changes = []

    def __call__(self, level):
        self.changes.append(level)


# --- memory and bus ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "length"), [(0, (1 << 20) + 1), (1 << 20, 1), (-1, 1), (0, -1), (1 << 63, 8)]
)
def test_memory_refuses_ranges_not_entirely_inside(memory, address, length):
    with pytest.raises(GuestError, match=r"guest physical address.* is outside"):
        memory.slice(address, length)


def test_memory_discarded_reads_as_zero(memory):
    memory.write(8192, b"text")
    memory.discard(8192, 4096)
    assert memory.read(8192, 4) == bytes(4)


@pytest.mark.parametrize("size", [0, -4096, 4095])
def test_guest_memory_is_a_whole_number_of_pages(size):
    with pytest.raises(UsageError, match="positive number of whole pages"):
        Memory(size)


def test_memory_is_not_more_than_the_host_has():
    with pytest.raises(HostError, match=r"is more than the .* MiB of this host"):
        Memory(1 << 50)


def test_an_empty_bus_reads_as_ones_and_ignores_writes(board):
    board.port_write(0x1234, 2, 0xBEEF)
    board.memory_write(0xF000_0000, 8, 1)
    assert board.port_read(0x1234, 2) == 0xFFFF
    assert board.memory_read(0xF000_0000, 8) == (1 << 64) - 1


def test_an_access_across_the_end_of_a_window_reaches_no_device(board):
    board.plug_window(0xD000_0000, 0x1000, ports.DebugExit(board))
    board.memory_write(0xD000_0FFE, 4, 7)
    assert board.ending is None
    board.memory_write(0xD000_0FFC, 4, 7)
    assert board.ending.status == 7


# --- serial ------------------------------------------------------------------------------------


def test_serial_sends_bytes_and_is_always_ready():
    output = Capture()
    serial = Serial(output)
    for byte in b"ok\n":
        assert serial.read(LSR, 1) & 0x60 == 0x60
        serial.write(THR, 1, byte)
    assert output.data == b"ok\n"


def test_serial_receives_in_order_and_then_reads_zero():
    serial = Serial(Capture())
    assert serial.read(LSR, 1) & 1 == 0
    serial.receive(b"ab")
    assert serial.read(LSR, 1) & 1 == 1
    assert [serial.read(RBR, 1) for _ in range(3)] == [ord("a"), ord("b"), 0]
    assert serial.read(LSR, 1) & 1 == 0


def test_serial_keeps_no_more_input_than_its_limit():
    serial = Serial(Capture())
    serial.receive(bytes(1 << 20))
    serial.receive(b"more")
    taken = 0
    while serial.read(LSR, 1) & 1:
        serial.read(RBR, 1)
        taken += 1
    assert taken == 65536


def test_the_divisor_hides_data_and_interrupt_registers():
    output = Capture()
    serial = Serial(output)
    serial.write(LCR, 1, 0x83)
    serial.write(0, 1, 1)
    serial.write(1, 1, 2)
    assert (serial.read(0, 1), serial.read(1, 1)) == (1, 2)
    serial.write(LCR, 1, 0x03)
    assert serial.read(IER, 1) == 0
    assert output.data == b""


def test_a_received_byte_raises_the_line_until_it_is_read():
    wire = Wire()
    serial = Serial(Capture(), wire)
    serial.receive(b"x")
    assert wire.changes == []  # interrupts are not enabled yet
    serial.write(IER, 1, 1)
    assert wire.changes == [True]
    assert serial.read(IIR, 1) == 4
    serial.read(RBR, 1)
    assert wire.changes == [True, False]
    assert serial.read(IIR, 1) == 1


def test_an_empty_transmitter_interrupts_once_and_reading_the_cause_acknowledges():
    wire = Wire()
    serial = Serial(Capture(), wire)
    serial.write(IER, 1, 2)
    assert serial.read(IIR, 1) == 2
    assert wire.changes == [True, False]
    serial.write(THR, 1, ord("x"))
    assert wire.changes == [True, False, True]


def test_in_loopback_bytes_come_back_and_nothing_goes_out():
    output = Capture()
    serial = Serial(output)
    serial.write(MCR, 1, 0x1F)
    serial.write(THR, 1, 0x55)
    assert serial.read(RBR, 1) == 0x55
    assert serial.read(MSR, 1) == 0xF0
    assert output.data == b""


def test_the_scratch_register_keeps_a_byte():
    serial = Serial(Capture())
    serial.write(SCR, 2, 0x1A5)
    assert serial.read(SCR, 1) == 0xA5


# --- the small ports ---------------------------------------------------------------------------


def test_the_keyboard_controller_resets_on_0xfe_alone(board):
    i8042 = ports.I8042(board)
    i8042.write(0, 1, 0xFE)
    i8042.write(4, 1, 0xD1)
    assert board.ending is None
    assert i8042.read(4, 1) == 0
    i8042.write(4, 1, 0xFE)
    assert board.ending.why == "reset"


def test_only_the_first_ending_of_a_machine_counts(board):
    ports.DebugExit(board).write(0, 1, 0x103)
    ports.I8042(board).write(4, 1, 0xFE)
    assert (board.ending.why, board.ending.status) == ("exit", 3)


def request(memory, address, *words):
    for number, word in enumerate(words):
        memory.store(address + 4 * number, 4, word)


def test_a_hypercall_writes_the_buffer_and_returns_its_length(board, memory):
    output = Capture()
    memory.write(0x2000, b"hello")
    request(memory, 0x1000, 1, 0x2000, 5, 0)
    ports.Hypercall(board, output).write(0, 4, 0x1000)
    assert output.data == b"hello"
    assert memory.load(0x100C, 4) == 5


@pytest.mark.parametrize(
    "words", [(2, 0x2000, 5), (1, 0xFFFF_FFFF, 5), (1, 0x2000, 0xFFFF_FFFF), (1, 0xFFFFF, 2)]
)
def test_an_invalid_hypercall_returns_minus_one(board, memory, words):
    output = Capture()
    request(memory, 0x1000, *words, 0)
    ports.Hypercall(board, output).write(0, 4, 0x1000)
    assert memory.load(0x100C, 4) == 0xFFFF_FFFF
    assert output.data == b""


@pytest.mark.parametrize("address", [0xFFFF_FFFF, (1 << 20) - 15, (1 << 20) - 4])
def test_a_hypercall_outside_of_memory_is_ignored(board, address):
    output = Capture()
    ports.Hypercall(board, output).write(0, 4, address)
    assert output.data == b""


# --- sinks -------------------------------------------------------------------------------------


def test_captured_output_has_a_limit():
    output = Capture(limit=10)
    output(b"12345")
    with pytest.raises(GuestError, match="wrote more than the limit of 10 bytes"):
        output(b"1234567890")
    assert output.data == b"1234512345"


def test_a_descriptor_gets_every_byte():
    reader, writer = os.pipe()
    with Deadline() as deadline:
        Descriptor(writer, deadline)(memoryview(b"all of it"))
    assert os.read(reader, 100) == b"all of it"
    os.close(reader)
    os.close(writer)


def test_a_reader_that_does_not_read_blocks_nothing_past_the_deadline():
    reader, writer = os.pipe()
    with Deadline(0.2) as deadline, pytest.raises(Timeout):
        Descriptor(writer, deadline)(bytes(1 << 20))
    os.close(reader)
    os.close(writer)
