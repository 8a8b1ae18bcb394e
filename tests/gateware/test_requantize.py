"""Requantizer lane against `arch.numerics`."""

import itertools

import numpy as np
import pytest
from amaranth.sim import Simulator

from systolith.arch import float32, numerics
from systolith.arch.isa import Rounding
from systolith.gateware.requantize import Requantizer

INT32_MIN, INT32_MAX = numerics.INT32_MIN, numerics.INT32_MAX
ROUNDINGS = tuple(Rounding)

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
LONG_SUMS = (
    (1 << 24) - 1,
    1 << 24,
    (1 << 24) + 1,
    (1 << 24) + 3,
    (1 << 25) - 1,
    (1 << 25) + 2,
    (1 << 25) + 6,
    (1 << 30) + 64,
    (1 << 30) + 65,
    (1 << 30) + 192,
    INT32_MAX - 63,
    INT32_MAX - 64,
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
        await ctx.tick()
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
    sim.run_until(1e-6 * (len(rows) + dut.latency + 3))
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
    if rounding == Rounding.FLOAT32:
        real = multiplier * 2.0 ** (shift - 31.0)
        multiplier = np.abs(real).astype(np.float32).view(np.int32).astype(np.int64)
    bias = rng.integers(INT32_MIN, INT32_MAX, 400)
    rows = np.stack([numerics.wrap_int32(total - bias), bias, multiplier, shift], axis=1)
    check(rounding, rows, zero_point=zero_point, low=low, high=high)


def test_float32_edges():
    """Sums that need more than 24 bits, powers of two, and factors at the ends of the range."""
    sums = [*SUMS, *(sign * v for sign in (-1, 1) for v in LONG_SUMS)]
    reals = (2**-126, 2**-32, 2**-31, 2**-25, 2**-24, 1e-7, 0.1, 0.5, 1.0, 1.5, 3e38)
    factors = [float32.to_bits(real) for real in reals]
    # Neighbors of powers of two, and bits that are no positive normal number.
    factors += [f + step for f in factors for step in (-1, 1)]
    factors += [0, 1, (1 << 23) - 1, 255 << 23, INT32_MAX, -1, INT32_MIN, INT32_MIN + (127 << 23)]
    rows = [(s, 0, f, e) for s, f in itertools.product(sums, factors) for e in (-31, 3)]
    check(Rounding.FLOAT32, rows)


def test_float32_near_ties(rng):
    """Products of which the rounding to 24 bits decides whether they are a tie."""
    rows = []
    for _ in range(600):
        real = rng.uniform(1, 2) * 2.0 ** -int(rng.integers(1, 31))
        factor = float32.to_bits(real)
        target = (2 * int(rng.integers(-130, 130)) + 1) / 2
        total = round(target / float(np.array(factor, np.uint32).view(np.float32)))
        for near in range(-1, 2):
            if INT32_MIN <= total + near <= INT32_MAX:
                rows.append((total + near, 0, factor, 0))
    rows += [
        (total, 0, float32.to_bits(2.0**-exponent), 0)
        for exponent in range(1, 31)
        for odd, near in itertools.product((-5, -3, -1, 1, 3, 5), (-2, -1, 0, 1, 2))
        if abs(total := (odd << (exponent - 1)) + near) <= INT32_MAX
    ]
    check(Rounding.FLOAT32, rows)


def test_float32_ties_of_both_roundings():
    """Products of 25 bits, one off a tie: halfway between that and the next one of 24 bits."""
    rows = []
    for k, off in itertools.product(range(0, 100, 2), (-1, 1)):
        place = 25 - (2 * k + 1).bit_length()
        product = ((2 * k + 1) << place) + off
        for total in (d for d in range(3, 1200, 2) if product % d == 0):
            factor = float32.to_bits(product // total * 2.0 ** -(place + 1))
            rows += [(sign * total, 0, factor, 0) for sign in (-1, 1)]
    assert len(rows) > 400
    check(Rounding.FLOAT32, rows)


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
