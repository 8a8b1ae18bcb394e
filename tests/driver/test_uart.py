"""Driver over a serial port: retries, stale answers, what is never believed, and its errors."""

import builtins
import errno
import time

import numpy as np
import pytest
import serial

from systolith.api import InferenceSession, open_transport
from systolith.arch import csr, link
from systolith.arch.errors import DeviceBusy, DeviceError, DeviceTimeout, InputError, ToolchainError
from systolith.arch.link import Command, Frame, Status
from systolith.driver import uart
from systolith.driver.uart import UartTransport
from systolith.golden.device import GoldenDevice

START = csr.pack("control", start=1)
CONTROL = csr.BY_NAME["control"].addr
MEMORY_BASE = 0x4000
MEMORY_BYTES = 1 << 16


class Board:
    """A board as the link sees it, around a golden device; and the port to it.

    Faults are functions from bytes to bytes, on the way to the board (`there`) and back (`back`).
    """

    def __init__(self, config, *, there=None, back=None):
        self.device = GoldenDevice(config)
        self.identity = link.Identity(link.VERSION, 64, 1000, MEMORY_BYTES, MEMORY_BASE)
        self.there, self.back = there or bytes, back or bytes
        self.decoder = link.Decoder()
        self.pending = b""
        self.last, self.executed = None, []
        self.session = self.closed = False
        self.level = 0

    @property
    def in_waiting(self):
        return len(self.pending)

    def read(self, size):
        data, self.pending = self.pending[:size], self.pending[size:]
        return data

    def write(self, data):
        damaged = self.decoder.damaged
        for frame in self.decoder.feed(self.there(data)):
            answer = Frame(frame.sequence, frame.command | link.ANSWER, self.execute(frame))
            self.pending += self.back(answer.to_bytes())
        if self.decoder.damaged > damaged:
            self.pending += Frame(0, link.NAK, bytes([Status.DAMAGED])).to_bytes()

    def reset_input_buffer(self):
        self.pending = b""

    def close(self):
        self.closed = True

    def execute(self, frame):
        if frame.command == Command.IDENTIFY:
            self.session = True
            return self.identity.to_bytes() + bytes([Status.OK])
        if not self.session:
            return bytes([Status.SESSION])
        repeated, self.last = frame.sequence == self.last, frame.sequence
        if repeated and frame.command == Command.WRITE_REGISTERS:
            return bytes([Status.OK])
        self.executed.append(frame)
        return getattr(self, Command(frame.command).name.lower())(frame.payload) + bytes(
            [Status.OK]
        )

    def read_registers(self, payload):
        addresses = np.frombuffer(payload, "<u2").tolist()
        return b"".join(link.REGISTER_VALUE.pack(self.device.read_register(a)) for a in addresses)

    def write_registers(self, payload):
        for addr, value in link.WRITE_REGISTER.iter_unpack(payload):
            self.device.write_register(addr, value)
        return b""

    def read_memory(self, payload):
        offset, size = link.READ_MEMORY.unpack(payload)
        return self.device.read_memory(self.device.memory_base + offset, size)

    def write_memory(self, payload):
        (offset,) = link.WRITE_MEMORY.unpack_from(payload)
        self.device.write_memory(self.device.memory_base + offset, payload[4:])
        return b""

    def wait(self, payload):
        return bytes([self.level])


def opened(board, **options):
    options = {"answer_seconds": 0.01, "tries": 5, "sequence": 100} | options
    return UartTransport(board, "port", **options)


class Script:
    """Applies the next function of a list to each thing that passes, then lets all pass."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def __call__(self, data):
        return self.steps.pop(0)(data) if self.steps else data


def lose(_):
    return b""


def damage(data):
    return data[:3] + bytes([data[3] ^ 0x40]) + data[4:]


def cut(data):
    return data[:-1]


def test_memory_and_registers_reach_the_device(tiny, rng):
    board = Board(tiny)
    transport = opened(board)
    assert (transport.memory_base, transport.memory_size) == (MEMORY_BASE, MEMORY_BYTES)
    data = rng.bytes(300)
    transport.write_memory(MEMORY_BASE + 5, data)
    assert transport.read_memory(MEMORY_BASE + 5, 300) == data
    # As many frames as the board's own limit asks for.
    kinds = [frame.command for frame in board.executed]
    assert kinds == [Command.WRITE_MEMORY] * 5 + [Command.READ_MEMORY] * 5
    assert transport.read_register(csr.BY_NAME["id"].addr) == csr.ID_VALUE
    transport.close()
    assert board.closed


def test_register_writes_share_a_frame_and_keep_their_order(tiny):
    board = Board(tiny)
    transport = opened(board)
    addr = csr.BY_NAME["watchdog"].addr
    for value in range(12):
        transport.write_register(addr, value)
    assert transport.read_register(addr) == 11
    kinds = [frame.command for frame in board.executed]
    assert kinds == [Command.WRITE_REGISTERS] * 2 + [Command.READ_REGISTERS]
    transport.write_register(addr, 77)
    transport.close()
    assert board.device.read_register(addr) == 77


@pytest.mark.parametrize("fault", [lose, damage, cut])
@pytest.mark.parametrize("way", ["there", "back"])
def test_register_write_is_executed_once_whatever_is_lost(tiny, fault, way):
    board = Board(tiny)
    transport = opened(board)
    setattr(board, way, Script(fault, fault))
    transport.write_register(csr.BY_NAME["watchdog"].addr, 5)
    transport.write_register(csr.BY_NAME["program_count"].addr, 6)
    assert transport.read_register(csr.BY_NAME["watchdog"].addr) == 5
    assert transport.repeated > 0
    writes = [frame for frame in board.executed if frame.command == Command.WRITE_REGISTERS]
    assert len(writes) == 1


def test_late_answers_to_earlier_requests_are_not_believed(tiny):
    board = Board(tiny)
    transport = opened(board)
    transport.write_register(csr.BY_NAME["watchdog"].addr, 5)
    board.back = Script(lambda data: data + data)
    assert transport.read_register(csr.BY_NAME["watchdog"].addr) == 5
    # The second copy of that answer is still in the port.
    transport.write_register(csr.BY_NAME["watchdog"].addr, 6)
    assert transport.read_register(csr.BY_NAME["watchdog"].addr) == 6


def test_answer_with_our_number_to_another_command_is_not_believed(tiny):
    board = Board(tiny)
    transport = opened(board)
    wrong = Frame(101 + 1, Command.WAIT | link.ANSWER, b"\1\0").to_bytes()
    board.back = Script(lambda data: wrong + data)
    assert transport.read_register(csr.BY_NAME["id"].addr) == csr.ID_VALUE


def test_nothing_damaged_is_believed_in_a_thousand_accesses(tiny, rng):
    def channel(data):
        kept = bytearray()
        for byte in data:
            chance = rng.random()
            if chance < 0.002:
                continue
            kept.append(byte ^ int(rng.integers(1, 256)) if chance < 0.01 else byte)
        return bytes(kept)

    board = Board(tiny)
    transport = opened(board, tries=200, answer_seconds=0.002)
    board.there = board.back = channel
    expected = bytearray(64)
    for _ in range(1000):
        at = int(rng.integers(60))
        if rng.integers(2):
            expected[at : at + 4] = data = rng.bytes(4)
            transport.write_memory(MEMORY_BASE + at, data)
        else:
            assert transport.read_memory(MEMORY_BASE + at, 4) == expected[at : at + 4]
    assert transport.repeated > 100


def test_wait_asks_again_until_the_time_is_over(tiny):
    board = Board(tiny)
    transport = opened(board)
    with pytest.raises(DeviceTimeout, match='at "port" must rise within 0.25 s'):
        transport.wait_interrupt(0.25)
    cycles = [link.WAIT.unpack(frame.payload)[0] for frame in board.executed]
    # At the board's clock of 1 kHz, no request takes longer than a tenth of a second.
    assert cycles
    assert max(cycles) == 100
    board.level = 1
    transport.wait_interrupt(1.0)


def test_silent_port_is_given_up_by_name(tiny):
    with pytest.raises(DeviceTimeout, match='"port" must answer IDENTIFY.*in 5 tries.*baud'):
        opened(Board(tiny, there=lose))


def test_other_protocol_is_refused(tiny):
    board = Board(tiny)
    board.identity = link.Identity(9, 64, 1000, 4096, 0)
    with pytest.raises(DeviceError, match="version 1 of the host link, not version 9"):
        opened(board)


def test_reset_of_the_board_is_noticed(tiny):
    board = Board(tiny)
    transport = opened(board)
    board.session = False
    with pytest.raises(DeviceError, match="was reset while it was in use"):
        transport.read_register(0)


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (bytes([Status.BUS]), "READ_REGISTERS: it has a register"),
        (bytes([77]), "answered with status 77"),
        (b"", "answered with status None"),
        (b"\1\2\0", "with 4 bytes, not 2"),
    ],
)
def test_refusals_are_named(tiny, answer, text):
    board = Board(tiny)
    transport = opened(board)
    board.execute = lambda frame: answer
    with pytest.raises(DeviceError, match=text):
        transport.read_register(0)


def test_port_that_breaks_down_is_named(tiny):
    board = Board(tiny)
    transport = opened(board)

    def fail(data):
        raise serial.SerialException("device reports readiness but returned no data")

    board.write = fail
    with pytest.raises(DeviceError, match='"port" failed: device reports readiness'):
        transport.read_register(0)


@pytest.mark.parametrize(("addr", "size"), [(-1, 1), (0, MEMORY_BYTES + 1), (MEMORY_BYTES, 1)])
def test_access_outside_the_memory_is_refused(tiny, addr, size):
    transport = opened(Board(tiny))
    with pytest.raises(DeviceError, match="must be inside 0x4000 to 0x13fff"):
        transport.read_memory(MEMORY_BASE + addr, size)
    with pytest.raises(DeviceError, match="must be inside"):
        transport.write_memory(MEMORY_BASE + addr, bytes(size))


# Opening


def test_absent_port_is_named_with_those_that_exist(tiny, copy_program, monkeypatch):
    ports = [type("Port", (), {"device": name}) for name in ("/dev/ttyUSB7", "/dev/ttyUSB3")]
    monkeypatch.setattr("serial.tools.list_ports.comports", lambda: ports)
    text = 'port "/dev/ttyNone" must exist; this machine has: /dev/ttyUSB3, /dev/ttyUSB7'
    with pytest.raises(DeviceError, match=text):
        InferenceSession(copy_program(), "uart:/dev/ttyNone")
    monkeypatch.setattr("serial.tools.list_ports.comports", list)
    with pytest.raises(DeviceError, match="this machine has: none"):
        open_transport("uart:/dev/ttyNone", tiny)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EACCES, 'must be readable and writable by you.*"sudo usermod -aG dialout'),
        (errno.EIO, "cannot be opened at 1000000 baud: .*busy"),
    ],
)
def test_port_that_cannot_be_used_is_explained(tiny, monkeypatch, number, text):
    def refuse(*arguments, **options):
        raise serial.SerialException(number, "busy")

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(DeviceError, match=text):
        open_transport("uart:/dev/ttyUSB0", tiny)


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.EBUSY])
def test_port_of_another_session_is_waited_for(tiny, monkeypatch, number):
    tries = []

    def refuse(*arguments, **options):
        tries.append(time.monotonic())
        raise serial.SerialException(number, "locked")

    monkeypatch.setattr(serial, "Serial", refuse)
    with pytest.raises(DeviceBusy, match='"/dev/ttyUSB0" must have one session.*and is used'):
        open_transport("uart:/dev/ttyUSB0", tiny)
    assert len(tries) == 1
    with pytest.raises(DeviceBusy, match=r"after 0\.12 s of waiting, is used by another") as info:
        open_transport("uart:/dev/ttyUSB0", tiny, wait_s=0.12)
    assert (info.value.device, info.value.holder, info.value.waited_s) == (
        "/dev/ttyUSB0",
        None,
        0.12,
    )
    assert tries[-1] - tries[1] >= 0.12


def test_missing_package_is_named_with_the_command(tiny, monkeypatch):
    original = builtins.__import__

    def refuse(name, *arguments):
        if name.startswith("serial"):
            raise ImportError("No module named 'serial'")
        return original(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ToolchainError, match='"pyserial".*run "pip install pyserial"'):
        open_transport("uart:/dev/ttyUSB0", tiny)


@pytest.mark.parametrize("place", ["", "@9600", "/dev/ttyUSB0@fast", "/dev/ttyUSB0@0"])
def test_text_that_names_no_port_is_refused(tiny, place):
    with pytest.raises(InputError, match=f'"uart:{place}" must name a serial port'):
        open_transport(f"uart:{place}", tiny)


def test_port_is_opened_with_its_rate_and_closed_when_nobody_answers(tiny, monkeypatch):
    opened_with = []
    board = Board(tiny, there=lose)

    def make(name, baud, **options):
        opened_with.append((name, baud))
        return board

    monkeypatch.setattr(serial, "Serial", make)
    monkeypatch.setattr(
        uart.UartTransport.__init__,
        "__kwdefaults__",
        {
            **uart.UartTransport.__init__.__kwdefaults__,
            "tries": 1,
            "answer_seconds": 0.001,
        },
    )
    with pytest.raises(DeviceTimeout):
        open_transport("uart:/dev/ttyUSB0@9600", tiny)
    assert opened_with == [("/dev/ttyUSB0", 9600)]
    assert board.closed
