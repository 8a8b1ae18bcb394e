"""Drain engine with a real scratchpad, against the golden model's reading of the instructions."""

import dataclasses
import gc
import warnings

import numpy as np
import pytest
from amaranth.hdl import Module, UnusedElaboratable
from amaranth.lib import wiring
from amaranth.sim import Simulator

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Fault
from systolith.arch.presets import PRESETS
from systolith.gateware.drain import DrainEngine
from systolith.gateware.drain_lanes import DrainLanes
from systolith.gateware.scratchpad import Scratchpad
from systolith.gateware.tables import TableWriter
from systolith.gateware.words import HEADER_BITS
from systolith.golden import drains
from systolith.golden.memory import Memories, Trap

ACC_READ_LATENCY = 3
CYCLE_LIMIT = 5_000

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

        async def testbench(ctx):
            await self._fill(ctx)
            await body(self, ctx)

        sim = Simulator(m)
        sim.add_clock(1e-6)
        sim.add_testbench(testbench)
        sim.run()

    async def _fill(self, ctx):
        """Write scratchpad and tables, at the same time."""
        pad, table = self.pad.load_write, self.dut.table_write
        contents = {pad: self.memories.scratchpad, table: self.memories.tables.reshape(-1)}
        position = dict.fromkeys(contents, 0)
        for port in contents:
            ctx.set(port.p.mask, (1 << len(port.p["data"])) - 1)
        while position:
            for port in list(position):
                addr, step = position[port], len(port.p["data"])
                ctx.set(port.valid, addr < contents[port].size)
                if addr >= contents[port].size:
                    del position[port]
                    continue
                ctx.set(port.p.addr, addr)
                ctx.set(port.p["data"], contents[port][addr : addr + step].tolist())
                position[port] += step * ctx.get(port.ready)
            await ctx.tick()

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
        assert self.cycle < CYCLE_LIMIT, "no end in sight"

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
        ctx.set(command.p.even, not instruction.OPCODE & 1)
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

    async def send_nothing(self, ctx, instruction):
        """Offer an instruction that must not be taken, for longer than the pipeline is."""
        ctx.set(self.dut.command.p.opcode, instruction.OPCODE)
        ctx.set(self.dut.command.p.even, not instruction.OPCODE & 1)
        ctx.set(self.dut.command.valid, 1)
        for _ in range(2 * self.dut.latency):
            assert not ctx.get(self.dut.command.ready)
            await self.step(ctx)
        ctx.set(self.dut.command.valid, 0)

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
        rounding=rng.choice(list(isa.Rounding)),
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
    check_program(bench, random_program(rng, bench.config, 18), pause=0.2 if feed_rate else 0.0)
    assert bool(bench.counts["wait_port"]) == bool(feed_rate)


PLAIN = isa.Quantize(multiplier=1 << 30, shift=-3, low=-128, high=127)
COPY_ROWS = 16


def plain_drain(config, **changes):
    fields = {
        "rows": 1,
        "cols": COPY_ROWS,
        "lanes": config.cols,
        "lanes_last": config.cols,
        "addr": 512,
        "col_step": config.cols,
    }
    return isa.Drain(**(fields | changes))


def observe(bench, program, *, count=None):
    """Run a program to its end; return the cycles of its writes."""

    async def body(bench, ctx):
        for index, instruction in enumerate(program):
            await bench.send(ctx, instruction, index)
        await bench.finish(ctx, len(program) if count is None else count)

    bench.run(body)
    return bench.writes_at


def test_two_bits_tell_the_opcodes_of_this_engine_apart():
    opcodes = (
        isa.Opcode.QUANTIZE,
        isa.Opcode.ELEMENTWISE,
        isa.Opcode.DRAIN,
        isa.Opcode.VECTOR,
    )
    assert [code & 3 for code in opcodes] == [0, 1, 2, 3]


def test_latency_and_full_rate(rng):
    bench = Bench(TINY, rng)
    issued = []

    async def body(bench, ctx):
        await bench.send(ctx, PLAIN, 0)
        await bench.send(ctx, plain_drain(TINY), 1)
        while len(bench.done_at) < 2:
            await ctx.delay(1e-7)
            if ctx.get(bench.dut.r_en):
                issued.append(bench.cycle)
            await bench.step(ctx)

    bench.run(body)
    assert issued == list(range(issued[0], issued[0] + COPY_ROWS))
    assert bench.writes_at == [cycle + bench.dut.plain_latency for cycle in issued]
    assert bench.done_at[-1] == bench.writes_at[-1] + bench.pad.write_latency


def test_rows_on_the_short_way_follow_at_once_and_never_overtake(rng):
    bench = Bench(TINY, rng)
    plain, residual = plain_drain(TINY), plain_drain(TINY, use_residual=1, addr=768)
    writes = np.array(observe(bench, [PLAIN, plain, residual, plain, plain]))
    gaps = np.diff(writes)[COPY_ROWS - 1 :: COPY_ROWS]
    ahead = bench.dut.latency - bench.dut.plain_latency
    # From short to long: the instruction, the grant of the read, and the longer way itself.
    assert gaps.tolist() == [2 + ahead, 1, 2]


def test_rows_with_two_operands_take_two_cycles(rng):
    drain = plain_drain(TINY, use_residual=1)
    vector = isa.Vector(op=isa.VectorOp.ELEMENTWISE, length=8 * TINY.lanes, addr=512, b=100)
    writes = observe(Bench(TINY, rng), [PLAIN, drain, vector])
    # Behind the drain: a cycle for the next instruction, and the read of the first operand.
    assert np.diff(writes).tolist() == [2] * (COPY_ROWS - 1) + [3] + [2] * 7


def test_residual_rows_that_are_added_up_keep_the_rate(rng):
    drain = plain_drain(TINY, use_residual=1, reduce=2)
    assert np.diff(observe(Bench(TINY, rng), [PLAIN, drain])).tolist() == [2] * (COPY_ROWS - 1)


@pytest.mark.parametrize("op", [isa.VectorOp.COPY, isa.VectorOp.TABLE])
def test_single_operands_take_one_cycle(rng, op):
    vector = isa.Vector(op=op, length=8 * TINY.lanes, addr=512)
    assert np.diff(observe(Bench(TINY, rng), [vector])).tolist() == [1] * 7


@pytest.mark.parametrize("mode", isa.ParamMode)
def test_drains_follow_each_other_after_one_cycle(rng, mode):
    """Parameters are loaded while the rows of the drain before are issued."""
    quantize = dataclasses.replace(PLAIN, per_channel=1)
    first = plain_drain(TINY, params=isa.ParamMode.LOAD)
    others = [plain_drain(TINY, params=mode, param_addr=8) for _ in range(3)]
    writes = np.array(observe(Bench(TINY, rng), [quantize, first, *others]))
    gaps = np.diff(writes)
    assert gaps[gaps > 1].tolist() == [2, 2, 2]
    assert len(writes) == 4 * COPY_ROWS


def test_parameter_sets_do_not_disturb_rows_on_their_way(rng):
    """Short drains that all load: scales and biases of several are in the pipeline at once."""
    bench = Bench(TINY, rng)
    program = []
    for tile in range(6):
        if tile in (0, 2, 3):
            program.append(dataclasses.replace(random_quantize(rng), per_channel=int(tile != 2)))
        for short in range(3):
            program.append(
                plain_drain(
                    TINY,
                    cols=1 + short,
                    params=isa.ParamMode.LOAD,
                    param_addr=(tile + short) % 4 * TINY.param_tile_words,
                    addr=512 + 64 * tile + 16 * short,
                )
            )
    for tile in range(4):
        bench.put_params(tile * TINY.param_tile_words)
    check_program(bench, program)


def test_scales_outlive_loads_of_biases_alone(rng):
    """KEEP means the last biases and the last scales, of different loads if need be."""
    bench = Bench(TINY, rng)
    for tile in range(2):
        bench.put_params(tile * TINY.param_tile_words)
    per_tensor, per_channel = (
        dataclasses.replace(random_quantize(rng), per_channel=value) for value in range(2)
    )
    load, keep = isa.ParamMode.LOAD, isa.ParamMode.KEEP
    program = [
        per_channel,
        plain_drain(TINY, params=load),
        per_tensor,
        plain_drain(TINY, params=load, param_addr=TINY.param_tile_words, addr=600),
        per_channel,
        plain_drain(TINY, params=keep, addr=700),
        plain_drain(TINY, params=isa.ParamMode.NONE, addr=800),
    ]
    check_program(bench, program)


def test_parameters_that_were_never_loaded_are_zero(rng):
    keep = isa.ParamMode.KEEP
    program = [
        PLAIN,
        plain_drain(TINY, params=keep),
        dataclasses.replace(PLAIN, per_channel=1),
        plain_drain(TINY, params=keep, addr=700),
        plain_drain(TINY, params=isa.ParamMode.NONE, addr=800),
    ]
    check_program(Bench(TINY, rng), program)


def test_settings_are_zero_at_first(rng):
    vector = isa.Vector(op=isa.VectorOp.ELEMENTWISE, length=9, addr=600, b=100)
    check_program(Bench(TINY, rng), [plain_drain(TINY), vector])


def test_result_may_replace_an_operand(rng):
    program = [
        random_elementwise(rng),
        isa.Vector(
            op=isa.VectorOp.ELEMENTWISE,
            rows=3,
            length=13,
            addr=101,
            row_step=20,
            a=101,
            a_step=20,
            b=301,
            b_step=13,
        ),
        isa.Vector(
            op=isa.VectorOp.TABLE, table=2, rows=2, length=9, addr=7, row_step=11, a=7, a_step=11
        ),
    ]
    check_program(Bench(TINY, rng, feed_rate=0.5), program)


def test_last_byte_is_visible_after_done(rng):
    bench = Bench(TINY, rng)
    drain = plain_drain(TINY, cols=1)
    got = []

    async def body(bench, ctx):
        await bench.send(ctx, PLAIN, 0)
        await bench.send(ctx, drain, 1)
        await bench.finish(ctx, 2)
        # This is the cycle after `done`.
        ctx.set(bench.pad.store_read.valid, 1)
        ctx.set(bench.pad.store_read.p, drain.addr)
        await bench.step(ctx)
        ctx.set(bench.pad.store_read.valid, 0)
        while not ctx.get(bench.pad.store_data_valid):
            await bench.step(ctx)
        got.extend(ctx.get(bench.pad.store_data[k]) for k in range(TINY.cols))

    bench.run(body)
    for instruction in (PLAIN, drain):
        bench.execute(instruction)
    assert got == bench.memories.scratchpad[drain.addr :][: TINY.cols].tolist()


SIZE = TINY.scratchpad_bytes
OUTSIDE = {
    # changes of a legal drain, and the first address outside
    "accumulators": ({"acc": 2 * TINY.acc_rows - 3}, 2 * TINY.acc_rows),
    "accumulators, added up": ({"reduce": 3}, 2 * TINY.acc_rows),
    "first byte": ({"addr": SIZE}, SIZE),
    "far away": ({"addr": (1 << 22) - 1, "col_step": 65535}, (1 << 22) - 1),
    "last byte": ({"addr": SIZE - TINY.cols + 1, "cols": 1}, SIZE),
    "some byte": ({"addr": 900, "col_step": 31}, SIZE),
    "some row": ({"rows": 2, "cols": 2, "row_step": 600}, 512 + 600),
    "huge row step": ({"rows": 2, "cols": 2, "row_step": (1 << 22) - 1}, 512 + (1 << 22) - 1),
    "residual": ({"use_residual": 1, "residual": 1000, "residual_col_step": 4}, SIZE),
    "residual, last byte": ({"use_residual": 1, "residual": 1022}, SIZE),
    "parameters": (
        {"params": isa.ParamMode.LOAD, "param_addr": TINY.param_words - 1},
        TINY.param_words,
    ),
    "parameters, far": ({"params": isa.ParamMode.LOAD, "param_addr": 4095}, 4095),
}


def check_fault(bench, instruction, addr):
    """Run into a fault at `addr`, behind a legal instruction; return the rows that were written."""
    with pytest.raises(Trap) as trap:
        bench.execute(instruction)
    legal = plain_drain(TINY, cols=2)
    program = [PLAIN, legal, instruction]
    done = []

    async def body(bench, ctx):
        for index, item in enumerate(program):
            await bench.send(ctx, item, index + 40)
        while not bench.fault:
            await bench.step(ctx)
        # The sequencer would now stop everything; a command that waits must stay where it is.
        await bench.send_nothing(ctx, plain_drain(TINY))
        done.append(ctx.get(bench.dut.idle))

    bench.run(body)
    assert bench.fault == (trap.value.code, 42, addr)
    assert len(bench.done_at) == 2, "instructions before the fault complete, it does not"
    assert done == [1]
    return len(bench.writes_at)


@pytest.mark.parametrize("name", OUTSIDE)
def test_drain_outside_a_memory(rng, name):
    change, addr = OUTSIDE[name]
    drain = plain_drain(TINY, **change)
    writes = check_fault(Bench(TINY, rng), drain, addr)
    assert writes < 2 + drain.rows * drain.cols


@pytest.mark.parametrize(
    ("change", "addr", "rows"),
    [
        ({"addr": 1020}, SIZE, 1),
        ({"a": 1000, "a_step": 20, "rows": 3}, SIZE, 4),
        ({"op": isa.VectorOp.ELEMENTWISE, "b": 1024 - 10}, SIZE, 2),
        ({"addr": (1 << 22) - 1, "length": 1 << 18}, (1 << 22) - 1, 0),
    ],
)
def test_vector_outside_the_scratchpad(rng, change, addr, rows):
    fields = {"length": 11, "addr": 512} | change
    assert check_fault(Bench(TINY, rng), isa.Vector(**fields), addr) == 2 + rows


def test_stop_ends_the_issue_of_rows(rng):
    bench = Bench(TINY, rng)
    last = []

    async def body(bench, ctx):
        await bench.send(ctx, PLAIN, 0)
        await bench.send(ctx, plain_drain(TINY), 1)
        for _ in range(4):
            await bench.step(ctx)
        ctx.set(bench.dut.stop, 1)
        await bench.send_nothing(ctx, plain_drain(TINY))
        last.append(ctx.get(bench.dut.idle))

    bench.run(body)
    assert last == [1]
    # What was issued before is written, with the row of the cycle in which `stop` rose.
    assert len(bench.writes_at) == 5
    assert len(bench.done_at) == 1
    assert bench.fault is None


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: lanes_of(lanes=4), "Lanes must divide the columns (6), not be 4"),
        (
            lambda: lanes_of(operand_latency=15),
            "operand_latency must be at most 14 with an acc_lat",
        ),
        (lambda: TableWriter(beat_bytes=2), "Beat must be at least 4 bytes wide, not 2"),
    ],
)
def test_bad_parameters_are_refused(make, message):
    text = ""
    with warnings.catch_warnings():
        # A component that refused its parameters is never elaborated.
        warnings.simplefilter("ignore", UnusedElaboratable)
        try:
            make()
        except ValueError as error:
            text = str(error)
        gc.collect()
    assert message in text


def lanes_of(**changes):
    fields = {"cols": 6, "lanes": 3, "word_bytes": 8, "acc_latency": 3, "operand_latency": 4}
    return DrainLanes(**(fields | changes))
