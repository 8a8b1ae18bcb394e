"""The whole board in Verilator, through its UART pins, with the driver that people use."""

from pathlib import Path

import numpy as np
import pytest
import serial

from systolith.api import InferenceSession, compile_model
from systolith.arch import csr
from systolith.arch.errors import ProgramError
from systolith.arch.link import DEFAULT_BAUD
from systolith.bench.board import CLOCK_HZ, MEMORY_BYTES, SimulatedBoard
from systolith.boards import catalog
from systolith.driver.uart import UartTransport

pytestmark = pytest.mark.cosim


DIGITS = Path(__file__).parents[2] / "examples" / "digits"
ANSWER_SECONDS = 30.0
"""Longer than the simulation of a frame takes on a busy machine."""

SHORT_SECONDS = 0.25
LOSS, CORRUPTION = 0.01, 0.001
CHUNK = 16


def open_transport(board, **options):
    port = serial.Serial(board.port, DEFAULT_BAUD, timeout=0.01, exclusive=True)
    return UartTransport(port, board.port, baud=DEFAULT_BAUD, **options)


@pytest.fixture(scope="module")
def digits():
    """Images and the scores that TFLite Micro gives."""
    with np.load(DIGITS / "test_images.npz") as data:
        images = data["image"]
    with np.load(DIGITS / "expected_tflm.npz") as data:
        return images, data["scores"]


@pytest.fixture
def board(tiny):
    with SimulatedBoard(tiny) as board:
        yield board


def test_digits_through_the_pins_give_the_same_bytes(board, tiny, digits):
    images, scores = digits
    program = compile_model(DIGITS / "digits.tflite", tiny)
    transport = open_transport(board, answer_seconds=ANSWER_SECONDS)
    with InferenceSession(program, transport) as session:
        (got,) = session.run(None, {"image": images[:3]})
        assert session.profile().cycles is not None
    np.testing.assert_array_equal(got, scores[:3])
    assert transport.repeated == 0
    assert board.traffic.lost == board.traffic.corrupted == 0


def test_device_is_found_by_the_name_of_its_port(board, tiny, edge):
    program = compile_model(DIGITS / "digits.tflite", edge)
    with pytest.raises(ProgramError, match=f"{edge.digest:016x}.*{tiny.digest:016x}"):
        InferenceSession(program, f"uart:{board.port}")
    # The port was given back, so that it can be opened again.
    transport = open_transport(board, answer_seconds=ANSWER_SECONDS)
    assert transport.memory_size == MEMORY_BYTES
    transport.close()


@pytest.mark.slow
def test_ulx3s_classifies_digits_with_its_own_array_clock_and_rate(digits):
    images, scores = digits
    ulx3s = catalog.find("ulx3s")
    config = catalog.board_config(ulx3s)
    program = compile_model(DIGITS / "digits.tflite", config)
    with SimulatedBoard(
        config, clock_hz=ulx3s.clock_hz, baud=ulx3s.baud, memory_bytes=ulx3s.memory_bytes
    ) as board:
        transport = open_transport(board, answer_seconds=60.0)
        assert transport.identity.clock_hz == ulx3s.clock_hz
        with InferenceSession(program, transport) as session:
            (got,) = session.run(None, {"image": images[:2]})
            cycles = session.profile().cycles
        print(f"\n{ulx3s.title}: {cycles} cycles per inference, {board.traffic}")
    np.testing.assert_array_equal(got, scores[:2])
    assert transport.repeated == 0


def exchange(config, seed, frames):
    """Exchange frames over a bad line; return traffic, and what the host saw of it."""
    rng = np.random.default_rng(seed)
    board = SimulatedBoard(config, loss=LOSS, corruption=CORRUPTION, seed=seed)
    with board:
        transport = open_transport(
            board, answer_seconds=SHORT_SECONDS, tries=200, chunk=CHUNK, sequence=seed
        )
        model = bytearray(MEMORY_BYTES)
        registers = {f"region{n}_{part}": 0 for n in range(8) for part in ("base_lo", "size")}
        wrong = 0
        while transport.requests < frames:
            kind = rng.integers(4)
            size = int(rng.integers(1, CHUNK + 1))
            addr = int(rng.integers(MEMORY_BYTES - size))
            name = rng.choice(list(registers))
            if kind == 0:
                model[addr : addr + size] = data = rng.bytes(size)
                transport.write_memory(addr, data)
            elif kind == 1:
                got = transport.read_memory(addr, size)
                wrong += sum(a != b for a, b in zip(got, model[addr : addr + size], strict=True))
            elif kind == 2:
                registers[name] = int(rng.integers(1 << 32))
                transport.write_register(csr.BY_NAME[name].addr, registers[name])
            else:
                got = transport.read_register(csr.BY_NAME[name].addr)
                wrong += got != registers[name]
        for addr in range(0, MEMORY_BYTES, MEMORY_BYTES // 64):
            wrong += transport.read_memory(addr, CHUNK) != model[addr : addr + CHUNK]
        repeated = transport.repeated
        transport.close()
        traffic = board.traffic
    return traffic, repeated, wrong


def check_exchange(config, seed, frames):
    traffic, repeated, wrong = exchange(config, seed, frames)
    assert wrong == 0
    total = traffic.to_device + traffic.to_host
    print(f"\n{frames} frames, seed {seed}: {traffic}, {repeated} requests repeated")
    # The line was as bad as it was meant to be.
    assert traffic.lost == pytest.approx(LOSS * total, rel=0.5)
    assert traffic.corrupted > 0
    assert repeated > frames / 20


def test_frames_over_a_bad_line_arrive_unharmed(tiny, seed):
    check_exchange(tiny, seed, 300)


@pytest.mark.slow
def test_ten_thousand_frames_over_a_bad_line_arrive_unharmed(tiny, seed):
    check_exchange(tiny, seed + 1, 10_000)


def test_simulated_clock_is_the_one_that_the_board_reports(board):
    transport = open_transport(board, answer_seconds=ANSWER_SECONDS)
    assert transport.identity.clock_hz == CLOCK_HZ
    transport.close()
