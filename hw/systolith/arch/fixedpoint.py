"""Functions of 32-bit fixed-point numbers, exactly as the reference kernels compute them.

"Qm.n" is a 32-bit number with m integer and n fraction bits, m + n = 31.
Source: gemmlowp, fixedpoint/fixedpoint.h.
"""

import numpy as np

from .numerics import INT32_MAX, INT32_MIN, IntArray, doubling_high_mul, rounding_shift

_EXP_MINUS_EIGHTH = 1895147668  # exp(-1/8), Q0.31
_ONE_THIRD = 715827883  # 1/3, Q0.31
_48_OVER_17 = 1515870810  # Q2.29
_MINUS_32_OVER_17 = -1010580540  # Q2.29
_ONE_Q2 = 1 << 29
_NEWTON_STEPS = 3

_EXP_OF_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""exp(-2^k) for k = -2 to 4, Q0.31."""

_LOWEST_POWER = -2


def int64(value: float | int) -> IntArray:
    """Return a number as an array that arithmetic keeps in int64."""
    return np.asarray(int(value), np.int64)


def saturating_left_shift(value: IntArray, exponent: int) -> IntArray:
    """Multiply by 2^exponent and clamp to int32."""
    result: IntArray = np.clip(value << exponent, INT32_MIN, INT32_MAX)
    return result


def exp_on_negative_values(value: IntArray, integer_bits: int) -> IntArray:
    """Return exp of numbers with `integer_bits` (at most 5) that are at most zero, as Q0.31.

    Source: gemmlowp `exp_on_negative_values`.
    """
    fraction_bits = 31 - integer_bits
    quarter = np.int64(1) << (fraction_bits - 2)
    inside = (value & (quarter - 1)) - quarter
    result = _exp_between_minus_quarter_and_zero(inside << integer_bits)
    remainder = inside - value
    for power, factor in enumerate(_EXP_OF_POWERS, _LOWEST_POWER):
        if power < integer_bits:
            applies = (remainder >> (fraction_bits + power)) & 1 != 0
            result = np.where(applies, doubling_high_mul(result, int64(factor)), result)
    return np.where(value == 0, INT32_MAX, result)


def _exp_between_minus_quarter_and_zero(value: IntArray) -> IntArray:
    """Taylor series of exp around -1/8 in Q0.31.

    Source: gemmlowp `exp_on_interval_between_negative_one_quarter_and_0_excl`.
    """
    mul, shift = doubling_high_mul, rounding_shift
    x = value + (1 << 28)
    x2 = mul(x, x)
    x3 = mul(x2, x)
    x4_over_4 = shift(mul(x2, x2), int64(2))
    higher = shift(mul(x4_over_4 + x3, int64(_ONE_THIRD)) + x2, int64(1))
    return _EXP_MINUS_EIGHTH + mul(int64(_EXP_MINUS_EIGHTH), x + higher)


def _twice_reciprocal_of_one_plus(value: IntArray) -> IntArray:
    """Newton's division: return 2 / (1 + x) as Q2.29 for x in [0, 1) as Q0.31."""
    half_denominator = (value + INT32_MAX + 1) >> 1
    x = _48_OVER_17 + doubling_high_mul(half_denominator, int64(_MINUS_32_OVER_17))
    for _ in range(_NEWTON_STEPS):
        error = _ONE_Q2 - doubling_high_mul(half_denominator, x)
        x = x + saturating_left_shift(doubling_high_mul(x, error), 2)
    return x


def one_over_one_plus(value: IntArray) -> IntArray:
    """Return 1 / (1 + x) for x in [0, 1), Q0.31.

    Source: gemmlowp `one_over_one_plus_x_for_x_in_0_1`.
    """
    return saturating_left_shift(_twice_reciprocal_of_one_plus(value), 1)


def logistic(value: IntArray, integer_bits: int) -> IntArray:
    """Return 1 / (1 + exp(-x)) as Q0.31.

    Source: gemmlowp `logistic`.
    """
    positive = one_over_one_plus(exp_on_negative_values(-np.abs(value), integer_bits))
    result = np.where(value > 0, positive, INT32_MAX - positive)
    return np.where(value == 0, 1 << 30, result)


def tanh(value: IntArray, integer_bits: int) -> IntArray:
    """Return the hyperbolic tangent as Q0.31.

    Source: gemmlowp `tanh`, whose exp takes 2 x: the same bits with one more before the point.
    """
    power = exp_on_negative_values(-np.abs(value), integer_bits + 1)
    # (1 - p) / (1 + p) = 2 / (1 + p) - 1
    magnitude = saturating_left_shift(_twice_reciprocal_of_one_plus(power) - _ONE_Q2, 2)
    return np.where(value == 0, 0, np.where(value < 0, -magnitude, magnitude))
