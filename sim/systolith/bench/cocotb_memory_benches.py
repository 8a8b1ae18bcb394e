"""Benches of the memory port's blocks: LOAD with its read master, STORE with its write master, fetch.

A bench works in rounds until the cycles of its run are used up. What moves is random, and the golden
machine says which bytes must have arrived.
"""

import cocotb
import numpy as np
from cocotb.triggers import RisingEdge

from systolith.arch import csr, isa
from systolith.arch.config import AcceleratorConfig
from systolith.bench.axi_checker import Window
from systolith.bench.cocotb_bench import LIMIT_CYCLES, Bench
from systolith.bench.cocotb_blocks import REGION_BYTES, pattern, region_base, region_size
from systolith.bench.cocotb_bus import MEMORY_SIZE, known, pauses
from systolith.bench.cocotb_moves import draw_move
from systolith.bench.cocotb_points import CLIENT
from systolith.gateware.words import HEADER_BITS
from systolith.golden.machine import Machine, Region


def block_windows(*, read: bool) -> list[Window]:
    """Return the regions of the standalone blocks, as the checker wants them."""
    return [
        Window(region_base(n), region_size(n), read=read, write=not read)
        for n in range(isa.REGION_COUNT)
    ]


async def _give(bench: Bench, item: isa.Instruction) -> None:
    """Offer a command until it is taken."""
    dut = bench.dut
    dut.command_body.value = item.encode() >> HEADER_BITS
    dut.command_valid.value = 1
    await bench.wait(lambda: dut.command_ready.value, "room for a command")
    dut.command_valid.value = 0


class _Observer:
    """Counts instructions, and takes what the load engine writes."""

    def __init__(self, bench: Bench, port: str, machine: Machine | None = None) -> None:
        self.done = 0
        self.machine = machine
        self._bench, self._port = bench, port
        cocotb.start_soon(self._run())

    async def _run(self) -> None:
        bench, dut = self._bench, self._bench.dut
        stalls = pauses(bench.point.stalls.get(CLIENT, 0.0), bench.point.seed + 2)
        ready = getattr(dut, f"{self._port}ready")
        granted = 0
        edge = RisingEdge(dut.ap_clk)
        while True:
            await edge
            if not known(dut.ap_rst_n):
                continue
            self.done += int(dut.done.value)
            assert not dut.fault_stb.value, f"fault {int(dut.fault_code.value)}"
            if self.machine is not None and granted and dut.write_valid.value:
                self._write(self.machine)
            granted = not next(stalls)
            ready.value = granted

    async def wait(self, count: int) -> None:
        """Wait until so many instructions are done, and nothing is in flight."""
        idle = self._bench.dut.bus_idle
        await self._bench.wait(lambda: self.done == count and idle.value, "end")

    def _write(self, machine: Machine) -> None:
        dut = self._bench.dut
        space = isa.Space(int(dut.write_space.value))
        memory = machine.scratchpad if space == isa.Space.SCRATCHPAD else machine.weights
        flat = memory.reshape(-1)
        addr, mask = int(dut.write_addr.value), int(dut.write_mask.value)
        data = int(dut.write_data.value).to_bytes(self._bench.beat_bytes, "little")
        for lane, byte in enumerate(data):
            if mask >> lane & 1:
                flat[(addr + lane) % (1 << isa.LOCAL_ADDR_BITS)] = byte


def _golden(config: AcceleratorConfig, images: list[bytes]) -> Machine:
    """Return a golden machine with regions of its own."""
    machine = Machine(config)
    machine.regions = [Region(np.frombuffer(d, np.uint8).copy()) for d in images]
    return machine


def _fill(bench: Bench) -> list[bytes]:
    """Fill the regions with random bytes and return them."""
    images = [bench.rng.randbytes(region_size(n)) for n in range(isa.REGION_COUNT)]
    for number, image in enumerate(images):
        bench.memory.write(region_base(number) % MEMORY_SIZE, image)
    return images


async def read(bench: Bench) -> None:
    """Load random moves; every byte of both memories must be the golden machine's after each round."""
    images = _fill(bench)
    bench.dut.command_valid.value = bench.dut.command_body.value = 0
    bench.permit(block_windows(read=True))
    golden, seen = _golden(bench.config, images), Machine(bench.config)
    observer = _Observer(bench, "write_", seen)
    await bench.start()
    given = 0
    while bench.goes_on:
        for _ in range(bench.rng.randint(1, 3 if bench.point.slow else 12)):
            region = bench.rng.randrange(isa.REGION_COUNT)
            weights = bench.rng.random() < 0.3
            size = bench.config.weight_bytes if weights else bench.config.scratchpad_bytes
            item = draw_move(
                bench.rng,
                isa.Load,
                region=region,
                region_bytes=region_size(region),
                local=range(size),
                most=40 if bench.point.slow else 250,
                space=isa.Space.WEIGHTS if weights else isa.Space.SCRATCHPAD,
                unit=bench.beat_bytes if weights else 1,
            )
            golden.execute(item)
            await _give(bench, item)
            given += 1
        await observer.wait(given)
        np.testing.assert_array_equal(seen.scratchpad, golden.scratchpad)
        np.testing.assert_array_equal(seen.weights, golden.weights)


async def write(bench: Bench) -> None:
    """Store random moves; every byte of the regions must be the golden machine's after each round."""
    images = _fill(bench)
    bench.dut.command_valid.value = bench.dut.command_body.value = 0
    bench.permit(block_windows(read=False))
    golden = _golden(bench.config, images)
    size = bench.config.scratchpad_bytes
    golden.scratchpad.view(np.uint8)[:] = [pattern(addr) for addr in range(size)]
    observer = _Observer(bench, "read_")
    await bench.start()
    given = 0
    while bench.goes_on:
        for _ in range(bench.rng.randint(1, 3 if bench.point.slow else 12)):
            region = bench.rng.randrange(isa.REGION_COUNT)
            item = draw_move(
                bench.rng,
                isa.Store,
                region=region,
                region_bytes=region_size(region),
                local=range(size),
                most=40 if bench.point.slow else 250,
            )
            golden.execute(item)
            await _give(bench, item)
            given += 1
        await observer.wait(given)
        for number, region_data in enumerate(golden.regions):
            got = bench.memory.read(region_base(number) % MEMORY_SIZE, region_size(number))
            expected = region_data.data.tobytes()
            assert bytes(got) == expected, f"region {number} differs"


async def fetch(bench: Bench) -> None:
    """Fetch programs from random places; every word must come in order, then one REGION_BOUNDS."""
    dut, beat = bench.dut, bench.beat_bytes
    image = _fill(bench)[0]
    for pin in (dut.enable, dut.restart, dut.offset, dut.count, dut.o_ready):
        pin.value = 0
    bench.permit([Window(region_base(0), region_size(0), read=True, write=False)])
    await bench.start()
    stalls = pauses(bench.point.stalls.get(CLIENT, 0.0), bench.point.seed + 2)
    while bench.goes_on:
        offset = bench.rng.randrange(0, REGION_BYTES // beat) * beat
        count = bench.rng.randint(0, 20 if bench.point.slow else 120)
        words = min(count, (len(image) - offset) // isa.INSTRUCTION_BYTES)
        # Both are constant from the cycle before `enable` on.
        dut.offset.value, dut.count.value = offset, count
        await RisingEdge(dut.ap_clk)
        dut.restart.value, dut.enable.value = 0, 1
        index, granted = 0, 0
        for _ in range(LIMIT_CYCLES):
            await RisingEdge(dut.ap_clk)
            if granted and dut.o_valid.value:
                begin = offset + index * isa.INSTRUCTION_BYTES
                expected = image[begin : begin + isa.INSTRUCTION_BYTES]
                word = int(dut.o_word.value).to_bytes(isa.INSTRUCTION_BYTES, "little")
                assert word == expected, f"instruction {index} of {count} at {offset}"
                assert int(dut.o_index.value) == index
                index += 1
            elif dut.fault_stb.value and dut.bus_idle.value:
                break
            granted = not next(stalls)
            dut.o_ready.value = granted
        else:
            raise AssertionError(f"{index} of {words} instructions in {LIMIT_CYCLES} cycles")
        assert index == words, f"{index} of {words} instructions came"
        assert int(dut.fault_code.value) == csr.Fault.REGION_BOUNDS
        assert int(dut.fault_index.value) == words
        dut.enable.value, dut.o_ready.value, dut.restart.value = 0, 0, 1
