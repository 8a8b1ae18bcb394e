"""Softmax of int8 tensors in exact integer arithmetic, for host operators and golden model.

Source: TensorFlow Lite `reference_ops::Softmax` (kernels/internal/reference/softmax.h) with its
fixed-point functions from gemmlowp (fixedpoint/fixedpoint.h). "Qm.n" is a 32-bit fixed-point number
with m integer and n fraction bits, m + n = 31.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import numerics
from .errors import UnsupportedModelError
from .numerics import INT32_MAX, INT32_MIN, IntArray

SCALED_DIFF_INTEGER_BITS = 5
"""Integer bits of the exponent: Q5.26."""

ACCUMULATION_INTEGER_BITS = 12
"""Integer bits of the sum of exponentials, Q12.19: room for 4,095 terms of one."""

OUTPUT_ZERO_POINT = -128
OUTPUT_SCALE = 1 / 256
"""The only quantization of the output that the operator has."""

MAX_DEPTH = (1 << ACCUMULATION_INTEGER_BITS) - 1
"""Longest row whose sum cannot overflow."""

MAX_FACTOR = 16
"""Bound of beta times input scale: from there on, the shift would exceed 30 bits."""

_EXP_MINUS_EIGHTH = 1895147668  # exp(-1/8), Q0.31
_ONE_THIRD = 715827883  # 1/3, Q0.31
_48_OVER_17 = 1515870810  # Q2.29
_MINUS_32_OVER_17 = -1010580540  # Q2.29
_ONE_Q2 = 1 << 29
_NEWTON_STEPS = 3

_EXP_OF_POWERS = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
"""exp(-2^k) for k = -2 to 4, Q0.31."""


def prepare(beta: float, input_scale: float) -> dict[str, int]:
    """Return the attributes of a softmax segment.

    Parameters
    ----------
    beta : float
        Factor of the operator in front of the exponent.
    input_scale : float
        Scale of the input tensor.

    Returns
    -------
    dict
        `input_multiplier` (Q31) and `input_left_shift`: their product brings a difference of two
        inputs to Q5.26; `diff_min`: differences below it contribute nothing.

    Raises
    ------
    UnsupportedModelError
        `beta * input_scale` is not between 2^-26 and :data:`MAX_FACTOR`, where the kernel's
        fixed-point numbers hold it.
    """
    factor = beta * input_scale
    real = factor * (1 << (31 - SCALED_DIFF_INTEGER_BITS))
    if not (real > 1.0 and factor < MAX_FACTOR):
        raise UnsupportedModelError(
            [
                f"SOFTMAX: beta times input scale must be between 2^-26 and {MAX_FACTOR}, not {factor}"
            ]
        )
    multiplier, left_shift = numerics.quantize_multiplier(real)
    largest = ((1 << SCALED_DIFF_INTEGER_BITS) - 1) << (31 - SCALED_DIFF_INTEGER_BITS)
    return {
        "input_multiplier": multiplier,
        "input_left_shift": left_shift,
        "diff_min": -(largest >> left_shift),
    }


def softmax(values: NDArray[Any], attributes: Mapping[str, float | int]) -> NDArray[np.int8]:
    """Return softmax over the last axis of `int8[..., depth]`, scale 1/256, zero point -128.

    Where the sum of exponentials reaches 512, the kernel's last shift exceeds what it declares
    (its debug builds stop there); here the shift goes on, and such outputs round to zero.

    Parameters
    ----------
    values : int8 array
        Logits; the last axis has at most :data:`MAX_DEPTH` elements.
    attributes : mapping
        As :func:`prepare` returns them.
    """
    diff = values.astype(np.int64) - values.max(axis=-1, keepdims=True).astype(np.int64)
    counted = diff >= int(attributes["diff_min"])
    # Differences that do not count would overflow; any value in range may stand for them.
    wide = np.where(counted, diff, 0) << int(attributes["input_left_shift"])
    exponent = numerics.doubling_high_mul(wide, _int64(attributes["input_multiplier"]))
    exps = exp_on_negative_values(exponent)
    terms = numerics.rounding_shift(exps, _int64(ACCUMULATION_INTEGER_BITS))
    total = np.where(counted, terms, 0).sum(axis=-1, keepdims=True)
    scale, over_unit = _reciprocal(total)
    product = numerics.doubling_high_mul(np.broadcast_to(scale, exps.shape), exps)
    scaled = numerics.rounding_shift(product, over_unit + 31 - 8)
    result = np.where(counted, scaled + OUTPUT_ZERO_POINT, OUTPUT_ZERO_POINT)
    return np.clip(result, -128, 127).astype(np.int8)


def exp_on_negative_values(value: IntArray) -> IntArray:
    """Return exp of Q5.26 numbers that are at most zero, as Q0.31.

    Source: gemmlowp `exp_on_negative_values`.
    """
    fraction_bits = 31 - SCALED_DIFF_INTEGER_BITS
    quarter = np.int64(1) << (fraction_bits - 2)
    inside = (value & (quarter - 1)) - quarter
    result = _exp_between_minus_quarter_and_zero(inside << SCALED_DIFF_INTEGER_BITS)
    remainder = inside - value
    for k, factor in enumerate(_EXP_OF_POWERS):
        applies = (remainder >> (fraction_bits - 2 + k)) & 1 != 0
        scaled = numerics.doubling_high_mul(result, _int64(factor))
        result = np.where(applies, scaled, result)
    return np.where(value == 0, INT32_MAX, result)


def _exp_between_minus_quarter_and_zero(value: IntArray) -> IntArray:
    """Taylor series of exp around -1/8 in Q0.31.

    Source: gemmlowp `exp_on_interval_between_negative_one_quarter_and_0_excl`.
    """
    mul, shift = numerics.doubling_high_mul, numerics.rounding_shift
    x = value + (1 << 28)
    x2 = mul(x, x)
    x3 = mul(x2, x)
    x4_over_4 = shift(mul(x2, x2), _int64(2))
    higher = shift(mul(x4_over_4 + x3, _int64(_ONE_THIRD)) + x2, _int64(1))
    return _EXP_MINUS_EIGHTH + mul(_int64(_EXP_MINUS_EIGHTH), x + higher)


def _reciprocal(total: IntArray) -> tuple[IntArray, IntArray]:
    """Return (1 / mantissa as Q0.31, bits by which the sum exceeds one) of Q12.19 sums.

    Source: TensorFlow Lite `GetReciprocal`, kernels/internal/common.h.
    """
    # frexp is exact: sums have at most 32 bits.
    headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    mantissa_minus_one = (total << headroom) - (np.int64(1) << 31)
    return _one_over_one_plus_x(mantissa_minus_one), ACCUMULATION_INTEGER_BITS - headroom


def _one_over_one_plus_x(value: IntArray) -> IntArray:
    """Newton's division 1 / (1 + x) for x in [0, 1), Q0.31.

    Source: gemmlowp `one_over_one_plus_x_for_x_in_0_1`.
    """
    mul = numerics.doubling_high_mul
    half_denominator = (value + INT32_MAX + 1) >> 1
    x = _48_OVER_17 + mul(half_denominator, _int64(_MINUS_32_OVER_17))
    for _ in range(_NEWTON_STEPS):
        error = _ONE_Q2 - mul(half_denominator, x)
        x = x + _saturating_left_shift(mul(x, error), 2)
    return _saturating_left_shift(x, 1)


def _saturating_left_shift(value: IntArray, exponent: int) -> IntArray:
    result: IntArray = np.clip(value << exponent, INT32_MIN, INT32_MAX)
    return result


def _int64(value: float | int) -> IntArray:
    return np.asarray(int(value), np.int64)
