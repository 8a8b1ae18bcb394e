"""Roundings against their exact definitions: integers of any size and fractions."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from systolith.arch import float32, numerics
from systolith.arch.isa import Rounding

# The same cases in every run; no time limit, as the host may be busy.
FIXED = settings(derandomize=True, deadline=None)
INT32 = st.integers(numerics.INT32_MIN, numerics.INT32_MAX)
EDGES = sorted(
    {
        sign * ((1 << exponent) + nudge)
        for sign in (-1, 1)
        for exponent in (0, 1, 7, 15, 16, 29, 30, 31)
        for nudge in (-1, 0, 1)
        if numerics.INT32_MIN <= sign * ((1 << exponent) + nudge) <= numerics.INT32_MAX
    }
)


def half_away(value):
    """Nearest integer of a fraction, ties away from zero."""
    return -half_up(-value) if value < 0 else half_up(value)


def half_up(value):
    """Nearest integer of a fraction, ties towards positive infinity."""
    return (value + Fraction(1, 2)).__floor__()


def wrap(value):
    return (value + (1 << 31)) % (1 << 32) - (1 << 31)


def exact_doubling_high_mul(a, b):
    return min(half_up(Fraction(a * b, 1 << 31)), numerics.INT32_MAX)


def exact_rescale_double(value, multiplier, shift):
    high = exact_doubling_high_mul(wrap(value << max(shift, 0)), multiplier)
    return half_away(Fraction(high, 1 << max(-shift, 0)))


def exact_rescale_single(value, multiplier, shift):
    exact = half_away(Fraction(value * multiplier, 1 << 31) * Fraction(2) ** shift)
    return min(max(exact, numerics.INT32_MIN), numerics.INT32_MAX)


@FIXED
@given(st.integers(-(1 << 62), 1 << 62))
def test_wrap_int32_is_modulo(value):
    assert int(numerics.wrap_int32(value)) == wrap(value)


def test_doubling_high_mul_on_all_pairs_of_edges():
    a, b = np.meshgrid(EDGES, EDGES)
    expected = [[exact_doubling_high_mul(x, y) for x in EDGES] for y in EDGES]
    assert numerics.doubling_high_mul(a, b).tolist() == expected


@FIXED
@given(INT32, INT32)
def test_doubling_high_mul(a, b):
    assert int(numerics.doubling_high_mul(a, b)) == exact_doubling_high_mul(a, b)


def test_doubling_high_mul_ties_go_up():
    assert numerics.doubling_high_mul(1 << 30, np.array([1, -1, 3, -3])).tolist() == [1, 0, 2, -1]


def test_doubling_high_mul_saturates_its_one_overflow():
    lowest = numerics.INT32_MIN
    assert int(numerics.doubling_high_mul(lowest, lowest)) == numerics.INT32_MAX


@pytest.mark.parametrize("exponent", range(32))
def test_rounding_shift_on_edges_and_ties(exponent):
    ties = [sign * odd * (1 << exponent) // 2 for sign in (-1, 1) for odd in (1, 3, 5)]
    values = EDGES + [v for v in ties if numerics.INT32_MIN <= v <= numerics.INT32_MAX]
    expected = [half_away(Fraction(value, 1 << exponent)) for value in values]
    assert numerics.rounding_shift(values, exponent).tolist() == expected


@pytest.mark.parametrize("shift", range(-31, 32))
def test_rescale_double_on_edges(shift):
    values, multipliers = np.meshgrid(EDGES, EDGES)
    expected = [[exact_rescale_double(v, m, shift) for v in EDGES] for m in EDGES]
    assert numerics.rescale_double(values, multipliers, shift).tolist() == expected


@FIXED
@given(INT32, INT32, st.integers(-31, 31))
def test_rescale_double(value, multiplier, shift):
    result = int(numerics.rescale_double(value, multiplier, shift))
    assert result == exact_rescale_double(value, multiplier, shift)


@pytest.mark.parametrize("shift", range(-31, 31))
def test_rescale_single_on_edges(shift):
    values, multipliers = np.meshgrid(EDGES, EDGES)
    expected = [[exact_rescale_single(v, m, shift) for v in EDGES] for m in EDGES]
    assert numerics.rescale_single(values, multipliers, shift).tolist() == expected


@FIXED
@given(INT32, INT32, st.integers(-31, 30))
def test_rescale_single(value, multiplier, shift):
    result = int(numerics.rescale_single(value, multiplier, shift))
    assert result == exact_rescale_single(value, multiplier, shift)


def test_roundings_broadcast_over_columns():
    values = np.arange(-6, 6).reshape(4, 3) << 20
    multipliers, shifts = np.array([1 << 30, 3 << 29, 5]), np.array([-3, 0, 4])
    for rounding, exact in (
        (Rounding.DOUBLE, exact_rescale_double),
        (Rounding.SINGLE, exact_rescale_single),
    ):
        expected = [
            [
                exact(int(v), int(m), int(s))
                for v, m, s in zip(row, multipliers, shifts, strict=True)
            ]
            for row in values
        ]
        assert numerics.requantize(values, multipliers, shifts, rounding).tolist() == expected


def exact_average(sums, count):
    """Nearest integers of `sums / count`, ties away from zero, without any multiplier."""
    magnitude = (2 * np.abs(sums) + count) // (2 * count)
    return np.where(sums < 0, -magnitude, magnitude)


@pytest.mark.parametrize("counts", [range(1, 65), (96, 100, 127, 144, 196, 225, 256, 512, 1024)])
def test_average_is_exact_for_every_sum(counts):
    for count in counts:
        sums = np.arange(-128 * count, 127 * count + 1)
        result = numerics.average(sums, numerics.average_multiplier(count))
        assert (result == exact_average(sums, count)).all(), count


def test_average_is_exact_around_every_tie_of_every_count():
    for count in range(1, 1025):
        # Where the quotient changes: the sums next to (q + 1/2) * count for every result q.
        ties = (2 * np.arange(-128, 128) + 1) * count // 2
        sums = np.unique(np.clip(ties[:, None] + np.arange(-2, 3), -128 * count, 127 * count))
        result = numerics.average(sums, numerics.average_multiplier(count))
        assert (result == exact_average(sums, count)).all(), count


@pytest.mark.parametrize("count", [0, 1025, -1])
def test_average_multiplier_refuses_counts_out_of_range(count):
    with pytest.raises(ValueError, match=f"Count of an average must be in 1..1024, not {count}"):
        numerics.average_multiplier(count)


def test_requantize_names_average_and_float32():
    assert numerics.requantize(-7, numerics.average_multiplier(2), 0, Rounding.AVERAGE) == -4
    half = float32.to_bits(0.5)
    values = numerics.requantize(np.array([-5, -3, 3, 5]), half, 7, Rounding.FLOAT32)
    assert values.tolist() == [-2, -2, 2, 2]


def exact_quantize_multiplier(real):
    """Multiplier and shift of a positive factor, from its exact value."""
    fraction, shift = Fraction(real), 0
    while fraction >= 1:
        fraction, shift = fraction / 2, shift + 1
    while fraction < Fraction(1, 2):
        fraction, shift = fraction * 2, shift - 1
    multiplier = half_up(fraction * (1 << 31))
    if multiplier == 1 << 31:
        multiplier, shift = 1 << 30, shift + 1
    return (multiplier, shift) if shift >= -31 else (0, 0)


@FIXED
@given(st.floats(min_value=1e-12, max_value=2.0**30, exclude_max=True))
def test_quantize_multiplier(real):
    expected = exact_quantize_multiplier(real)
    if expected[1] > 30:
        with pytest.raises(ValueError, match="must be below"):
            numerics.quantize_multiplier(real)
    else:
        assert numerics.quantize_multiplier(real) == expected


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0.0, (0, 0)),
        (1.0, (1 << 30, 1)),
        (0.5, (1 << 30, 0)),
        (0.75, (3 << 29, 0)),
        (1.0 - 2.0**-40, (1 << 30, 1)),
        (2.0**-32, (1 << 30, -31)),
        (2.0**-33, (0, 0)),
        (2.0**29, (1 << 30, 30)),
    ],
)
def test_quantize_multiplier_of_special_factors(real, expected):
    assert numerics.quantize_multiplier(real) == expected


@pytest.mark.parametrize("real", [-1.0, float("nan"), float("inf")])
def test_quantize_multiplier_refuses_what_is_no_factor(real):
    with pytest.raises(ValueError, match=f"Factor must be finite and not negative, not {real}"):
        numerics.quantize_multiplier(real)


@pytest.mark.parametrize("real", [2.0**30, 2.0**30 - 2.0**-10])
def test_quantize_multiplier_refuses_factors_that_overflow(real):
    with pytest.raises(ValueError, match=r"Factor must be below 2\^30"):
        numerics.quantize_multiplier(real)


def test_add_is_exact_for_all_pairs_of_bytes(rng):
    a, b = np.meshgrid(np.arange(-128, 128), np.arange(-128, 128))
    for left_shift in (0, 7, 20):
        multiplier = [int(m) for m in rng.integers(1 << 30, 1 << 31, 3)]
        zero = [int(z) for z in rng.integers(-128, 128, 3)]
        shift = [-1, -2, -left_shift]
        result = numerics.add(
            a, b, left_shift=left_shift,
            a_zero=zero[0], a_multiplier=multiplier[0], a_shift=shift[0],
            b_zero=zero[1], b_multiplier=multiplier[1], b_shift=shift[1],
            out_zero=zero[2], out_multiplier=multiplier[2], out_shift=shift[2], low=-100, high=90,
        )  # fmt: skip
        scaled = [
            [
                exact_rescale_double((x - zero[n]) << left_shift, multiplier[n], shift[n])
                for x in range(-128, 128)
            ]
            for n in range(2)
        ]
        for y in range(0, 256, 5):
            totals = [wrap(x + scaled[1][y]) for x in scaled[0]]
            values = [exact_rescale_double(t, multiplier[2], shift[2]) + zero[2] for t in totals]
            assert result[y].tolist() == [min(max(value, -100), 90) for value in values]
