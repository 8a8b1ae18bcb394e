"""The integer definitions equal float32 arithmetic of NumPy, which is IEEE 754's."""

import numpy as np
import pytest

from systolith.arch import float32
from systolith.arch.numerics import INT32_MAX, INT32_MIN

EDGES = [0, 1, 2, 3, 127, 128, 255, 16_321, (1 << 24) - 1, 1 << 24, (1 << 24) + 1, (1 << 24) + 3]
EDGES += [(1 << 25) + 2, (1 << 25) + 6, (1 << 30) + 64, (1 << 30) + 192, INT32_MAX - 64, INT32_MAX]


def float_scale(value: np.ndarray, bits: np.ndarray) -> np.ndarray:
    factor = bits.astype(np.uint32).view(np.float32)
    with np.errstate(over="ignore"):
        product = np.rint(value.astype(np.float32) * factor).astype(np.float64)
    return np.clip(product, INT32_MIN, INT32_MAX).astype(np.int64)


def random_factors(rng: np.random.Generator, count: int, low: int, high: int) -> np.ndarray:
    exponents = rng.integers(low + float32.EXPONENT_BIAS, high + float32.EXPONENT_BIAS, count)
    fractions = rng.integers(0, 1 << float32.FRACTION_BITS, count)
    # Short fractions make ties of both roundings frequent.
    fractions &= ~((np.int64(1) << rng.integers(0, 24, count)) - 1)
    return (exponents << float32.FRACTION_BITS) | fractions


def test_scale_equals_float32_on_edges():
    values = np.array([*EDGES, *(-v for v in EDGES), INT32_MIN], np.int64)
    bits = np.array([float32.to_bits(f) for f in (2**-126, 2**-31, 1e-7, 0.1, 0.5, 1.0, 1.5, 3e38)])
    value, factor = (x.reshape(-1) for x in np.meshgrid(values, bits))
    np.testing.assert_array_equal(float32.scale(value, factor), float_scale(value, factor))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("low", "high"), [(-126, 128), (-32, 1), (-12, -2)])
def test_scale_equals_float32_on_random_values(seed: int, low: int, high: int):
    rng = np.random.default_rng(seed)
    factor = random_factors(rng, 250_000, low, high)
    value = rng.integers(INT32_MIN, INT32_MAX, 250_000) >> rng.integers(0, 31, 250_000)
    np.testing.assert_array_equal(float32.scale(value, factor), float_scale(value, factor))


def test_scale_equals_float32_for_every_small_sum():
    value = np.arange(-(1 << 17), 1 << 17)
    for real in (2**-10, 0.0123, 1 / 64, 1 / 49):
        bits = np.full(value.shape, float32.to_bits(real))
        np.testing.assert_array_equal(float32.scale(value, bits), float_scale(value, bits))


@pytest.mark.parametrize("factor", [0.0, -1.0, float("inf"), float("nan"), 1e-40, 1e300])
def test_to_bits_refuses_what_is_no_positive_normal(factor: float):
    with pytest.raises(ValueError, match="must be a positive normal float32"):
        float32.to_bits(factor)


def test_shift_half_even_rounds_ties_to_even():
    values = np.arange(-64, 65)
    for shift in range(6):
        expected = np.rint(values / 2**shift).astype(np.int64)
        np.testing.assert_array_equal(float32.shift_half_even(values, shift), expected)


def test_add_rounds_with_the_zero_point_added():
    parameters = {"a_zero": 0, "b_zero": 0, "low": -128, "high": 127}
    (a_multiplier, b_multiplier), shift = float32.factors(0.5, 0.5)
    for zero, expected in ((0, [0, 2, 2]), (1, [2, 2, 4])):
        result = float32.add(
            np.array([1, 3, 5]),
            np.zeros(3, np.int64),
            a_multiplier=a_multiplier,
            b_multiplier=b_multiplier,
            out_shift=shift,
            out_zero=zero,
            **parameters,
        )
        np.testing.assert_array_equal(result, expected)


def test_mul_equals_exact_fractions():
    a, b = (x.reshape(-1) for x in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
    (multiplier,), shift = float32.factors(1 / 128)
    result = float32.mul(
        a,
        b,
        a_zero=3,
        b_zero=-5,
        out_multiplier=multiplier,
        out_shift=shift,
        out_zero=7,
        low=-128,
        high=127,
    )
    expected = np.clip(np.rint((a - 3) * (b + 5) / 128 + 7), -128, 127)
    np.testing.assert_array_equal(result, expected)


def test_factors_share_one_shift_and_use_the_width():
    multipliers, shift = float32.factors(0.75, 0.01)
    assert multipliers[0] >= 1 << 30
    for multiplier, real in zip(multipliers, (0.75, 0.01), strict=True):
        assert multiplier * 2.0 ** (shift - 31) == pytest.approx(real, rel=1e-6)
    with pytest.raises(ValueError, match="must be positive and finite"):
        float32.factors(0.5, 0.0)
    with pytest.raises(ValueError, match="must be below"):
        float32.factors(2.0**40)


def test_softmax_is_a_distribution_of_output_steps():
    rng = np.random.default_rng(0)
    values = rng.integers(-128, 128, (100, 10)).astype(np.int8)
    attributes = {"depth": 10, "input_scale": 0.1, "output_scale": 1 / 256, "output_zero": -128}
    result = float32.softmax(values, attributes).astype(int) + 128
    real = np.exp(values * 0.1) / np.exp(values * 0.1).sum(axis=1, keepdims=True)
    assert np.abs(result - np.minimum(256 * real, 255)).max() <= 0.5 + 1e-3
