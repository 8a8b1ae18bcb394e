# amaranth: UnusedElaboratable=no
"""What is built in against soft errors: nothing by default; no false alarm; errors are noticed."""

import dataclasses

import numpy as np
import pytest
from amaranth.hdl import Fragment, Module, Signal, unsigned
from amaranth.sim import Simulator

from systolith.arch.config import MULTIPLIERS
from systolith.arch.presets import PRESETS
from systolith.gateware.accumulator import Accumulators
from systolith.gateware.array import make_array
from systolith.gateware.checker import ArrayChecker
from systolith.gateware.execute import ExecuteEngine
from systolith.gateware.local_memory import LocalMemory
from systolith.gateware.parity import Parity
from systolith.gateware.scratchpad import Scratchpad
from systolith.gateware.slices import FlowFifo
from systolith.golden.array_model import ArrayModel

FLIPS = 60
STEPS = 6
STATE = ("x", "q", "p", "active", "following")


def simulate(component, bench):
    sim = Simulator(component)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()


def make_cycles(rng, size, latency, *, depthwise):
    """Inputs of random steps, each with a new tile, and the cycles with a position."""
    rows, cols, feeds = size
    begins, at = [], 0
    for length in rng.integers(1, 2 * rows, STEPS):
        begins.append((at := at + rows, int(length)))
        at = max(at, at + int(length) + int(rng.integers(0, 3)) - rows)
    zero = np.zeros((feeds, max(rows, cols)), np.int64)
    cycles = [{"feed": zero} for _ in range(at + 2 * rows + latency + cols + 4)]
    positions = []
    for begin, length in begins:
        mode = depthwise and bool(rng.integers(0, 2))
        for row in range(rows):
            weights = rng.integers(-128, 128, cols)
            cycles[begin - 1 - row] |= {"w_en": True, "w_first": row == rows - 1, "w_row": weights}
        for cycle in range(begin, begin + length):
            cycles[cycle] |= {
                "feed": rng.integers(-128, 128, zero.shape),
                "first": cycle == begin,
                "switch": cycle == begin,
                "depthwise": mode,
            }
            positions.append(cycle)
    return cycles, set(positions)


def set_inputs(ctx, array, inputs, *, columns):
    for name in ("depthwise", "switch", "w_en", "w_first"):
        ctx.set(getattr(array, name), inputs.get(name, False))
    row = inputs.get("w_row", [0] * columns)
    for lane, value in zip(array.w_row, row, strict=True):
        ctx.set(lane, int(value))


@pytest.mark.parametrize("lanes", [1, 3])
def test_parity_of_every_lane_notices_every_single_bit(lanes, rng):
    m = Module()
    parity = Parity(8, enabled=True)
    word, change = Signal(8 * lanes), Signal(parity.width(8 * lanes))
    stored, broken = Signal.like(change), Signal(lanes)
    m.d.comb += [stored.eq(parity.encode(word) ^ change), broken.eq(parity.broken(stored))]
    back = Signal.like(word)
    m.d.comb += back.eq(parity.word(stored))

    async def bench(ctx):
        for _ in range(20):
            value = int(rng.integers(0, 1 << 8 * lanes))
            ctx.set(word, value)
            ctx.set(change, 0)
            assert (ctx.get(back), ctx.get(broken)) == (value, 0)
            for bit in range(len(change)):
                ctx.set(change, 1 << bit)
                assert ctx.get(broken) == 1 << bit // parity.granularity

    sim = Simulator(m)
    sim.add_testbench(bench)
    sim.run()


def test_parity_of_zeros_is_right_so_that_cleared_memories_are():
    m = Module()
    broken = Signal(unsigned(4))
    m.d.comb += broken.eq(Parity(8, enabled=True).broken(Signal(36, init=0)))

    async def bench(ctx):
        assert ctx.get(broken) == 0

    sim = Simulator(m)
    sim.add_testbench(bench)
    sim.run()


@pytest.mark.parametrize("multiplier", MULTIPLIERS)
@pytest.mark.parametrize(("rows", "cols", "feeds"), [(6, 5, 2), (2, 3, 1), (3, 8, 3)])
def test_array_random_steps_of_both_modes_raise_no_alarm(rows, cols, feeds, multiplier, rng):
    protected = not multiplier.startswith("pair")
    array = make_array(
        multiplier, rows=rows, cols=cols, feeds=feeds, checked=True, protected=protected
    )
    cycles, valid = make_cycles(rng, (rows, cols, feeds), array.latency, depthwise=True)

    async def bench(ctx):
        for number, inputs in enumerate(cycles):
            set_inputs(ctx, array, inputs, columns=cols)
            ctx.set(array.first, inputs.get("first", False))
            ctx.set(array.valid, number in valid)
            for feed, vector in zip(array.feed, inputs["feed"], strict=True):
                for lane, value in zip(feed, vector, strict=True):
                    ctx.set(lane, int(value))
            assert not ctx.get(array.sum_error), number
            assert not (protected and ctx.get(array.activation_error)), number
            await ctx.tick()

    simulate(array, bench)


def flipped_sums(rng, cycles, size):
    """Sums of an array in which one bit of a cell has changed, and where that was."""
    model = ArrayModel(*size)
    at = int(rng.integers(1, len(cycles)))
    name = STATE[int(rng.integers(len(STATE)))]
    row, col = int(rng.integers(size[0])), int(rng.integers(size[1]))
    bit = int(rng.integers(16 if name in ("q", "p") else 8))
    shown = []
    for number, inputs in enumerate(cycles):
        if number == at:
            getattr(model, name)[row, col] ^= 1 << bit
        shown.append(model.step(**inputs))
    return np.array(shown), (at, name, row, col, bit)


@pytest.mark.parametrize("size", [(4, 4, 1), (3, 2, 1)])
def test_checksum_notices_every_cell_whose_change_reaches_a_sum(size, rng):
    rows, cols, _ = size
    latency = rows + 2
    cycles, valid = make_cycles(rng, size, latency, depthwise=False)
    model = ArrayModel(*size)
    good = np.array([model.step(**inputs) for inputs in cycles])
    wrong = 0
    for _ in range(FLIPS):
        shown, where = flipped_sums(rng, cycles, size)
        corrupt = any(
            shown[cycle + latency + col, col] != good[cycle + latency + col, col]
            for cycle in valid
            for col in range(cols)
        )
        seen = []

        checker = ArrayChecker(rows=rows, cols=cols, latency=latency)

        async def bench(ctx, checker=checker, shown=shown, seen=seen):
            for number, inputs in enumerate(cycles):
                set_inputs(ctx, checker, inputs, columns=cols)
                ctx.set(checker.valid, number in valid)
                for row in range(rows):
                    ctx.set(checker.x[row], int(inputs["feed"][0][row]))
                for col in range(cols):
                    ctx.set(checker.sums[col], int(shown[number, col]))
                seen.append(ctx.get(checker.soft_error))
                await ctx.tick()

        simulate(checker, bench)
        assert any(seen) == corrupt, where
        wrong += corrupt
    assert wrong > FLIPS // 10


def alarms(component):
    """Names of the outputs of a component that say that an error was noticed."""
    Fragment.get(component, None)
    return {name for name in component.signature.members if name.endswith("error")}


def test_nothing_is_built_in_by_default():
    config = PRESETS["tiny-4x4"]
    for component in (
        Scratchpad(1 << 10, 8, 4, 1),
        LocalMemory(size_bytes=256, word_bytes=8, beat_bytes=8),
        Accumulators(cols=4, bank_rows=16, lanes=4),
        FlowFifo(8, 4, bypass=False),
        ExecuteEngine(config, read_latency=4),
        make_array("plain", rows=4, cols=4, feeds=1),
    ):
        assert not alarms(component)


def test_each_level_adds_alarms_of_execute():
    config = PRESETS["tiny-4x4"]
    expected = {
        "none": set(),
        "memory": {"queue_error"},
        "checksum": {"queue_error", "sum_error"},
        "full": {"queue_error", "sum_error", "activation_error"},
    }
    for level, names in expected.items():
        engine = ExecuteEngine(dataclasses.replace(config, protection=level), read_latency=4)
        assert alarms(engine) == names
