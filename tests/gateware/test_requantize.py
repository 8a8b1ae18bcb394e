"""Requantizer lane against `arch.numerics`."""

import itertools

import numpy as np
import pytest
from amaranth.sim import Simulator

from systolith.arch import numerics
from systolith.arch.isa import Rounding
from systolith.gateware.requantize import Requantizer

INT32_MIN, INT32_MAX = numerics.INT32_MIN, numerics.INT32_MAX
ROUNDINGS = (Rounding.DOUBLE, Rounding.SINGLE, Rounding.AVERAGE)

SUMS = (
    INT32_MIN,
    INT32_MIN + 1,
    -(1 << 30),
    -65536,
    -129,
    -3,
    -2,
    -1,
    0,
    1,
    2,
    3,
    127,
    65535,
    (1 << 30) - 1,
    1 << 30,
    INT32_MAX,
)
MULTIPLIERS = (
    INT32_MIN,
    -(1 << 30),
    -3,
    -1,
    0,
    1,
    2,
    1 << 15,
    1 << 16,
    1 << 30,
    (1 << 30) + 1,
    1431655765,
    INT32_MAX - 1,
    INT32_MAX,
)
SHIFTS = (-31, -30, -17, -8, -7, -2, -1, 0, 1, 2, 7, 16, 29, 30)


def expected(sums, bias, multiplier, shift, rounding, zero_point, low, high):
    total = numerics.wrap_int32(sums + bias)
    scaled = numerics.requantize(total, multiplier, shift, rounding)
    return np.clip(scaled + zero_point, low, high)


def run(rounding, rows, *, zero_point=0, low=-128, high=127):
    """Send (sum, bias, multiplier, shift, start), None for a gap; return the value behind each."""
    dut = Requantizer()
    values = []

    async def testbench(ctx):
        ctx.set(dut.rounding, rounding)
        ctx.set(dut.zero_point, zero_point)
        ctx.set(dut.low, low)
        ctx.set(dut.high, high)
        for cycle in range(len(rows) + dut.latency):
            row = rows[cycle] if cycle < len(rows) else None
            ctx.set(dut.valid, row is not None)
            if row is not None:
                total, bias, multiplier, shift, start = row
                ctx.set(dut.sum, total)
                ctx.set(dut.bias, bias)
                ctx.set(dut.multiplier, multiplier)
                ctx.set(dut.shift, shift)
                ctx.set(dut.start, start)
            if cycle >= dut.latency:
                values.append(ctx.get(dut.value))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run_until(1e-6 * (len(rows) + dut.latency + 2))
    return np.array(values)


def check(rounding, rows, **limits):
    sums, biases, multipliers, shifts = np.array(rows, np.int64).T
    got = run(rounding, [(*row, 1) for row in np.array(rows).tolist()], **limits)
    limits = {"zero_point": 0, "low": -128, "high": 127} | limits
    want = expected(sums, biases, multipliers, shifts, rounding, **limits)
    assert len(got) == len(rows)
    wrong = np.flatnonzero(got != want)
    assert not wrong.size, [(rows[k], got[k], want[k]) for k in wrong[:5]]


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda r: r.name)
def test_edge_values(rounding):
    check(rounding, [(s, 0, m, e) for s, m, e in itertools.product(SUMS, MULTIPLIERS, SHIFTS)])


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda r: r.name)
@pytest.mark.parametrize(
    ("zero_point", "low", "high"), [(-128, -128, 127), (127, -128, 127), (3, -100, 5), (0, 9, -9)]
)
def test_random_values(rng, rounding, zero_point, low, high):
    """Products that land near int8, so that every rounding and limit is met."""
    shift = rng.integers(-31, 31, 400)
    multiplier = rng.integers(1 << 30, 1 << 31, 400) * rng.choice([1, 1, 1, -1], 400)
    size = np.clip(8 - shift + rng.integers(-4, 3, 400), 1, 31)
    total = np.clip(rng.integers(-(1 << size), 1 << size), INT32_MIN, INT32_MAX)
    bias = rng.integers(INT32_MIN, INT32_MAX, 400)
    rows = np.stack([numerics.wrap_int32(total - bias), bias, multiplier, shift], axis=1)
    check(rounding, rows, zero_point=zero_point, low=low, high=high)


@pytest.mark.parametrize("rounding", ROUNDINGS, ids=lambda r: r.name)
def test_ties(rng, rounding):
    """Halves of both signs, and their neighbors, at every shift to the right."""
    rows = []
    for exponent in range(31):
        for odd, offset in itertools.product((-3, -1, 1, 3), (-1, 0, 1)):
            total = (odd << exponent) // 2 + offset if exponent else odd
            rows += [(total, 0, 1 << 30, 1 - exponent), (total, 0, INT32_MAX, -exponent)]
    check(rounding, rows)


def test_average_is_exact():
    """Every sum of up to 8 int8 values, by its count."""
    rows = [
        (total, 0, numerics.average_multiplier(count), 0)
        for count in range(1, 9)
        for total in range(-128 * count, 127 * count + 1)
    ]
    check(Rounding.AVERAGE, rows)


def test_groups_are_added_up(rng):
    rows, want = [], []
    for length in (1, 2, 1, 5, 3, 1, 1, 9):
        sums = rng.integers(INT32_MIN, INT32_MAX, length)
        sums[0] -= sums.sum() - rng.integers(-100, 100)
        bias, multiplier = int(rng.integers(-20, 20)), int(rng.integers(1 << 30, 1 << 31))
        for k, value in enumerate(numerics.wrap_int32(sums).tolist()):
            last = k == length - 1
            # Cycles without a sum add nothing; only the first bias and the last multiplier count.
            gaps = int(rng.integers(3))
            rows += [None] * gaps
            want += [None] * gaps
            rows.append((value, bias if k == 0 else 77, multiplier if last else 5, 0, k == 0))
            want.append(
                int(expected(sums.sum(), bias, multiplier, 0, Rounding.DOUBLE, 0, -128, 127))
                if last
                else None
            )
    got = run(Rounding.DOUBLE, rows)
    assert [g for g, w in zip(got, want, strict=True) if w is not None] == [
        w for w in want if w is not None
    ]
