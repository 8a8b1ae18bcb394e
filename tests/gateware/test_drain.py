"""Drain engine with a real scratchpad, against the golden model's reading of the instructions."""

import dataclasses

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Fault
from systolith.arch.presets import PRESETS
from systolith.gateware.drain import DrainEngine
from systolith.gateware.scratchpad import Scratchpad
from systolith.gateware.words import HEADER_BITS
from systolith.golden import drains
from systolith.golden.memory import Memories

ACC_READ_LATENCY = 3
CYCLE_LIMIT = 20_000

TINY = dataclasses.replace(PRESETS["tiny-4x4"], scratchpad_bytes=1024, acc_rows=16)
ODD = AcceleratorConfig(
    name="odd-5x6",
    rows=5,
    cols=6,
    lanes=3,
    feeds=1,
    banks=2,
    scratchpad_bytes=1024,
    weight_bytes=512,
    acc_rows=32,
    param_bytes=512,
    axi_data_bits=32,
)
CONFIGS = {
    "tiny": TINY,
    "lanes-3-of-6": ODD,
    "lanes-1-of-6": dataclasses.replace(ODD, lanes=1, banks=4, axi_data_bits=64),
    "cols-2": dataclasses.replace(TINY, cols=2, lanes=2, feeds=3, axi_data_bits=32),
}


class Bench:
    """Engine and scratchpad; accumulators, parameters and a sequencer played by the test."""

    def __init__(self, config, rng, *, feed_rate=0.0):
        self.config, self.rng, self.feed_rate = config, rng, feed_rate
        self.memories = Memories(config)
        self.memories.scratchpad[:] = rng.integers(0, 256, config.scratchpad_bytes)
        self.memories.params[:] = rng.integers(0, 256, self.memories.params.shape)
        self.memories.tables[:] = rng.integers(0, 256, self.memories.tables.shape)
        sums = rng.integers(-(1 << 31), 1 << 31, self.memories.acc.shape)
        self.memories.acc[:] = sums >> rng.integers(0, 24, sums.shape)
        self.state = drains.DrainState()
        self.pad = Scratchpad(
            config.scratchpad_bytes, config.word_bytes, config.banks, config.feeds
        )
        self.dut = DrainEngine(
            config,
            acc_read_latency=ACC_READ_LATENCY,
            read_latency=self.pad.read_latency,
            write_latency=self.pad.write_latency,
        )
        self.cycle = 0
        self.done_at = []
        self.writes_at = []
        self.fault = None
        self.counts = {"busy": 0, "wait_port": 0}
        self._sums = {}
        self._param = None

    def run(self, body):
        """Run `body(bench, ctx)` to its end."""
        m = Module()
        m.submodules.dut, m.submodules.pad = dut, pad = self.dut, self.pad
        wiring.connect(m, dut.read, pad.drain_read)
        wiring.connect(m, dut.write, pad.drain_write)
        m.d.comb += dut.data.eq(pad.drain_data)
        finished = []

        async def testbench(ctx):
            await self._fill(ctx)
            await body(self, ctx)
            finished.append(True)

        sim = Simulator(m)
        sim.add_clock(1e-6)
        sim.add_testbench(testbench)
        sim.run_until(1e-6 * CYCLE_LIMIT)
        assert finished, f"no end after {CYCLE_LIMIT} cycles"

    async def _fill(self, ctx):
        await self.fill_scratchpad(ctx)
        await self.fill_tables(ctx)

    async def fill_scratchpad(self, ctx):
        word, write = self.config.word_bytes, self.pad.load_write
        ctx.set(write.valid, 1)
        ctx.set(write.p.mask, (1 << word) - 1)
        for addr in range(0, self.config.scratchpad_bytes, word):
            ctx.set(write.p.addr, addr)
            ctx.set(write.p["data"], self.memories.scratchpad[addr : addr + word].tolist())
            await ctx.tick()
        ctx.set(write.valid, 0)

    async def fill_tables(self, ctx):
        beat, write = self.config.axi_bytes, self.dut.table_write
        flat = self.memories.tables.reshape(-1)
        ctx.set(write.valid, 1)
        ctx.set(write.p.mask, (1 << beat) - 1)
        for addr in range(0, flat.size, beat):
            ctx.set(write.p.addr, addr)
            ctx.set(write.p["data"], flat[addr : addr + beat].tolist())
            await ctx.tick().until(write.ready)
        ctx.set(write.valid, 0)

    async def step(self, ctx):
        """One cycle: play the surroundings, note what the engine does."""
        dut, rng = self.dut, self.rng
        for lane in range(self.config.lanes):
            ctx.set(dut.r_data[lane], self._sums.pop((self.cycle, lane), 0x55AA))
        if self._param is not None:
            ctx.set(dut.param_data, self._param)
        for feed in range(self.config.feeds if self.feed_rate else 0):
            ctx.set(self.pad.feed_en[feed], rng.random() < self.feed_rate / self.config.feeds)
            ctx.set(self.pad.feed_addr[feed], int(rng.integers(self.config.scratchpad_bytes)))
        await ctx.delay(1e-7)
        self._note(ctx)
        await ctx.tick()
        self.cycle += 1

    def _note(self, ctx):
        dut = self.dut
        if ctx.get(dut.r_en):
            row, group = ctx.get(dut.r_addr), ctx.get(dut.r_group)
            for lane in range(self.config.lanes):
                column = group * self.config.lanes + lane
                value = int(self.memories.acc[row, column])
                self._sums[self.cycle + ACC_READ_LATENCY + lane, lane] = value
        self._param = None
        if ctx.get(dut.param_en):
            self._param = self.memories.params[ctx.get(dut.param_addr)].tolist()
        if ctx.get(dut.done):
            self.done_at.append(self.cycle)
        if ctx.get(dut.write.valid):
            self.writes_at.append(self.cycle)
        if ctx.get(dut.fault_stb):
            assert self.fault is None, "a second fault"
            code, index, addr = (ctx.get(dut.fault[name]) for name in ("code", "index", "addr"))
            self.fault = (Fault(code), index, addr)
        for name in self.counts:
            self.counts[name] += ctx.get(getattr(dut, name))

    async def send(self, ctx, instruction, index):
        """Offer an instruction until it is taken."""
        command = self.dut.command
        word = instruction.encode()
        ctx.set(command.p.opcode, instruction.OPCODE)
        ctx.set(command.p.body, word >> HEADER_BITS)
        ctx.set(command.p.index, index)
        ctx.set(command.valid, 1)
        taken = False
        while not taken:
            await ctx.delay(1e-7)
            taken = ctx.get(command.ready)
            await self.step(ctx)
            if self.fault:
                break
        ctx.set(command.valid, 0)

    async def finish(self, ctx, count):
        """Wait until as many instructions are done."""
        while len(self.done_at) < count:
            await self.step(ctx)

    async def read_back(self, ctx):
        """Return the scratchpad's bytes."""
        word, pad = self.config.word_bytes, self.pad
        self.feed_rate = 0.0
        for feed in range(self.config.feeds):
            ctx.set(pad.feed_en[feed], 0)
        ctx.set(pad.store_read.valid, 1)
        result = []
        words = self.config.scratchpad_bytes // word
        for index in range(words + pad.read_latency):
            ctx.set(pad.store_read.p, index % words * word)
            if ctx.get(pad.store_data_valid) and len(result) < self.config.scratchpad_bytes:
                result += [ctx.get(pad.store_data[k]) for k in range(word)]
            await self.step(ctx)
        return np.array(result, np.uint8)

    def execute(self, instruction):
        """Let the golden model execute an instruction."""
        if isinstance(instruction, isa.Quantize):
            self.state.quantize = instruction
        elif isinstance(instruction, isa.Elementwise):
            self.state.elementwise = instruction
        elif isinstance(instruction, isa.Drain):
            drains.drain(instruction, self.state, self.memories, self.config)
        else:
            drains.vector(instruction, self.state, self.memories)

    def put_params(self, addr):
        """Write parameters with shifts that have a meaning; sums come out near int8."""
        config, rng = self.config, self.rng
        params = self.memories.params
        bias = rng.integers(-(1 << 16), 1 << 16, config.cols).astype("<i4")
        multiplier = rng.integers(1 << 30, 1 << 31, config.cols).astype("<i4")
        shift = rng.integers(-20, 4, config.cols).astype("<i1")
        for values, word in (
            (bias, addr),
            (multiplier, addr + config.bias_words),
            (shift, addr + 2 * config.bias_words),
        ):
            raw = values.view(np.uint8)
            params.reshape(-1)[word * config.weight_word_bytes :][: raw.size] = raw


def random_quantize(rng):
    return isa.Quantize(
        rounding=rng.choice([isa.Rounding.DOUBLE, isa.Rounding.SINGLE, isa.Rounding.AVERAGE]),
        per_channel=int(rng.integers(2)),
        multiplier=int(rng.integers(1 << 30, 1 << 31)),
        shift=int(rng.integers(-20, 4)),
        zero_point=int(rng.integers(-128, 128)),
        low=int(rng.integers(-128, -90)),
        high=int(rng.integers(90, 128)),
    )


def random_elementwise(rng):
    operands = {
        f"{side}_{field}": value
        for side in "ab"
        for field, value in (
            ("zero", int(rng.integers(-128, 128))),
            ("multiplier", int(rng.integers(1 << 30, 1 << 31))),
            ("shift", -int(rng.integers(4))),
        )
    }
    return isa.Elementwise(
        left_shift=20,
        out_multiplier=int(rng.integers(1 << 30, 1 << 31)),
        out_shift=-int(rng.integers(16, 20)),
        out_zero=int(rng.integers(-20, 20)),
        low=-128,
        high=int(rng.integers(100, 128)),
        **operands,
    )


def random_drain(rng, config, *, loaded):
    """A DRAIN that reads operands from the lower and writes to the upper half."""
    half = config.scratchpad_bytes // 2
    rows, cols = int(rng.integers(1, 4)), int(rng.integers(1, 5))
    reduce = int(rng.choice([1, 1, 1, 2]))
    lanes, lanes_last = (int(rng.integers(1, config.cols + 1)) for _ in range(2))
    steps = {
        "row_step": int(rng.integers(0, half // 4)),
        "col_step": int(rng.integers(0, 2 * config.cols)),
    }
    residual = {f"residual_{name}": int(rng.integers(0, 20)) for name in steps}
    reach = (rows - 1) * steps["row_step"] + (cols - 1) * steps["col_step"] + config.cols
    while reach > half:
        steps["row_step"] //= 2
        reach = (rows - 1) * steps["row_step"] + (cols - 1) * steps["col_step"] + config.cols
    modes = [isa.ParamMode.NONE, isa.ParamMode.LOAD, *([isa.ParamMode.KEEP] if loaded else [])]
    return isa.Drain(
        acc=int(rng.integers(0, 2 * config.acc_rows - rows * cols * reduce + 1)),
        rows=rows,
        cols=cols,
        reduce=reduce,
        lanes=lanes,
        lanes_last=lanes_last,
        params=rng.choice(modes),
        param_addr=int(rng.integers(0, 2)) * config.param_tile_words,
        use_table=int(rng.random() < 0.3),
        table=int(rng.integers(4)),
        use_residual=int(rng.random() < 0.4),
        addr=half + int(rng.integers(0, half - reach + 1)),
        **steps,
        residual=int(rng.integers(0, half - 150)),
        **residual,
    )


def random_vector(rng, config):
    half = config.scratchpad_bytes // 2
    rows, length = int(rng.integers(1, 4)), int(rng.integers(1, 5 * config.lanes))
    step = length + int(rng.integers(0, 9))
    last = half - (rows - 1) * step - length
    return isa.Vector(
        op=rng.choice(list(isa.VectorOp)),
        table=int(rng.integers(4)),
        rows=rows,
        length=length,
        addr=half + int(rng.integers(last + 1)),
        row_step=step,
        a=int(rng.integers(last + 1)),
        a_step=step,
        b=int(rng.integers(last + 1)),
        b_step=int(rng.integers(step + 1)),
    )


def random_program(rng, config, length):
    program = [random_quantize(rng), random_elementwise(rng)]
    loaded = False
    for _ in range(length):
        kind = rng.choice(["quantize", "elementwise", "drain", "vector"], p=[0.1, 0.05, 0.6, 0.25])
        if kind == "quantize":
            program.append(random_quantize(rng))
            # What was loaded may be without scales.
            loaded = False
        elif kind == "elementwise":
            program.append(random_elementwise(rng))
        elif kind == "vector":
            program.append(random_vector(rng, config))
        else:
            program.append(random_drain(rng, config, loaded=loaded))
            loaded |= program[-1].params == isa.ParamMode.LOAD
    return program


def check_program(bench, program, *, pause=0.0):
    got = []

    async def body(bench, ctx):
        for index, instruction in enumerate(program):
            while bench.rng.random() < pause:
                await bench.step(ctx)
            await bench.send(ctx, instruction, index)
        await bench.finish(ctx, len(program))
        got.append(await bench.read_back(ctx))
        assert ctx.get(bench.dut.idle)
        assert not ctx.get(bench.dut.busy)

    bench.run(body)
    for instruction in program:
        bench.execute(instruction)
    assert bench.fault is None
    assert len(bench.done_at) == len(program)
    wrong = np.flatnonzero(got[0] != bench.memories.scratchpad)
    assert not wrong.size, (wrong[:10], got[0][wrong[:10]], bench.memories.scratchpad[wrong[:10]])


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("feed_rate", [0.0, 0.7])
def test_random_programs(rng, name, feed_rate):
    bench = Bench(CONFIGS[name], rng, feed_rate=feed_rate)
    for tile in range(2):
        bench.put_params(tile * bench.config.param_tile_words)
    check_program(bench, random_program(rng, bench.config, 25), pause=0.2 if feed_rate else 0.0)
    assert bool(bench.counts["wait_port"]) == bool(feed_rate)
