"""Integer semantics: the one definition of every rounding, for golden model, gateware and compiler.

All functions take NumPy integer arrays (or scalars) and work element by element in int64, with
results in the range named. "Source" names the kernel that each reproduces.
"""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .isa import Rounding

IntArray = NDArray[Any]
"""Integers that a function returns: int64."""

Integers = IntArray | np.integer[Any] | int
"""Integers that a function takes: an array of any integer type, or a scalar."""

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1
Q31_ONE = 1 << 31


def wrap_int32(value: Integers) -> IntArray:
    """Return `value` modulo 2^32 as int64 in the range of int32."""
    return ((np.asarray(value, np.int64) + Q31_ONE) & 0xFFFFFFFF) - Q31_ONE


def doubling_high_mul(a: Integers, b: Integers) -> IntArray:
    """Saturating rounding doubling high multiply: `(2 * a * b) / 2^32`, ties to plus infinity.

    Operands and result are in the range of int32; the one overflow, both operands -2^31, gives
    2^31 - 1. Negative ties go up too, because the source truncates after nudging by `1 - 2^30`.

    Source: gemmlowp `SaturatingRoundingDoublingHighMul`, fixedpoint/fixedpoint.h.
    """
    a, b = np.asarray(a, np.int64), np.asarray(b, np.int64)
    product = a * b
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    # C++ division truncates; an arithmetic shift floors.
    result: IntArray = np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))
    return np.minimum(result, np.int64(INT32_MAX))


def rounding_shift(value: Integers, exponent: Integers) -> IntArray:
    """Divide by `2^exponent`, ties away from zero; `exponent` is in 0..31.

    Source: gemmlowp `RoundingDivideByPOT`, fixedpoint/fixedpoint.h.
    """
    value, exponent = np.asarray(value, np.int64), np.asarray(exponent, np.int64)
    mask = (np.int64(1) << exponent) - 1
    threshold = (mask >> 1) + (value < 0)
    result: IntArray = (value >> exponent) + ((value & mask) > threshold)
    return result


def rescale_double(value: Integers, multiplier: Integers, shift: Integers) -> IntArray:
    """Multiply by `multiplier * 2^(shift - 31)`, rounding twice; `shift` is in -31..31.

    A positive shift is applied first, modulo 2^32.

    Source: TensorFlow Lite `MultiplyByQuantizedMultiplier` without TFLITE_SINGLE_ROUNDING,
    kernels/internal/common.cc.
    """
    shift = np.asarray(shift, np.int64)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    shifted = wrap_int32(np.asarray(value, np.int64) << left)
    return rounding_shift(doubling_high_mul(shifted, multiplier), right)


def rescale_single(value: Integers, multiplier: Integers, shift: Integers) -> IntArray:
    """Multiply by `multiplier * 2^(shift - 31)`, rounding once, ties away from zero.

    `shift` is in -31..30; the result saturates to int32.

    Source: measured on the fully connected reference kernel of LiteRT 2.3, which rounds the product
    with the real multiplier once, ties away from zero (not half up, as TFLITE_SINGLE_ROUNDING
    does). The Q31 multiplier differs from the real one by at most 2^-32 of its value.
    """
    total = 31 - np.asarray(shift, np.int64)
    product = np.asarray(value, np.int64) * np.asarray(multiplier, np.int64)
    # The sum cannot overflow: |product| <= 2^62 and the rounding term <= 2^61.
    result: IntArray = (product + (np.int64(1) << (total - 1)) - (product < 0)) >> total
    return np.clip(result, np.int64(INT32_MIN), np.int64(INT32_MAX))


def average_multiplier(count: int) -> int:
    """Return `ceil(2^31 / count)`, the multiplier of :func:`average` for 2 <= count <= 1024.

    A count of 1 is no division; its multiplier would not fit, and 2^31 - 1 gives the same result
    for every sum of one int8.
    """
    if not 1 <= count <= 1024:
        raise ValueError(f"Count of an average must be in 1..1024, not {count}")
    return min(-(-Q31_ONE // count), INT32_MAX)


def average(value: Integers, multiplier: Integers) -> IntArray:
    """Divide a sum by a count, ties away from zero: `sign(v) * ((|v| * m + 2^30) >> 31)`.

    Exact for counts of 1 to 1,024 and every sum of that many int8 values, with the multiplier of
    :func:`average_multiplier`.

    Source: TensorFlow Lite `reference_integer_ops::AveragePool`.
    """
    value = np.asarray(value, np.int64)
    magnitude = (np.abs(value) * np.asarray(multiplier, np.int64) + (1 << 30)) >> 31
    return np.where(value < 0, -magnitude, magnitude)


def requantize(
    value: Integers, multiplier: Integers, shift: Integers, rounding: Rounding
) -> IntArray:
    """Bring int32 sums to the scale of the output, by the rounding of a `QUANTIZE` instruction.

    With FLOAT32 the multipliers are the bits of float32 numbers.
    """
    # `float32` is built on the functions above.
    from . import float32

    if rounding == Rounding.DOUBLE:
        return rescale_double(value, multiplier, shift)
    if rounding == Rounding.SINGLE:
        return rescale_single(value, multiplier, shift)
    if rounding == Rounding.AVERAGE:
        return average(value, multiplier)
    return float32.scale(value, multiplier)


def quantize_multiplier(real: float) -> tuple[int, int]:
    """Return the Q31 multiplier and the shift that stand for a positive real factor (or zero).

    Source: TensorFlow Lite `QuantizeMultiplier`, kernels/internal/quantization_util.cc.

    Raises
    ------
    ValueError
        The factor is negative, not finite, or 2^30 and more.
    """
    if not math.isfinite(real) or real < 0:
        raise ValueError(f"Factor must be finite and not negative, not {real}")
    if real == 0.0:
        return 0, 0
    mantissa, shift = math.frexp(real)
    # TfLiteRound: half away from zero; the mantissa is positive.
    multiplier = math.floor(mantissa * Q31_ONE + 0.5)
    if multiplier == Q31_ONE:
        multiplier //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    if shift > 30:
        raise ValueError(f"Factor must be below 2^30, not {real}")
    return multiplier, shift


def add(
    a: Integers,
    b: Integers,
    *,
    left_shift: int,
    a_zero: int,
    a_multiplier: int,
    a_shift: int,
    b_zero: int,
    b_multiplier: int,
    b_shift: int,
    out_multiplier: int,
    out_shift: int,
    out_zero: int,
    low: int,
    high: int,
) -> IntArray:
    """Add two int8 tensors of different scales; parameters as in the `ELEMENTWISE` instruction.

    Source: TensorFlow Lite `reference_integer_ops::AddElementwise`.
    """
    wide_a = (np.asarray(a, np.int64) - a_zero) << left_shift
    wide_b = (np.asarray(b, np.int64) - b_zero) << left_shift
    total = wrap_int32(
        rescale_double(wide_a, a_multiplier, a_shift)
        + rescale_double(wide_b, b_multiplier, b_shift)
    )
    scaled = rescale_double(total, out_multiplier, out_shift)
    result: IntArray = np.clip(scaled + out_zero, low, high)
    return result


def sub(a: Integers, b: Integers, **parameters: int) -> IntArray:
    """Subtract two int8 tensors of different scales; parameters as of :func:`add`.

    Source: TensorFlow Lite `SubElementwise`, kernels/internal/reference/sub.h.
    """
    p = parameters
    wide_a = (np.asarray(a, np.int64) - p["a_zero"]) << p["left_shift"]
    wide_b = (np.asarray(b, np.int64) - p["b_zero"]) << p["left_shift"]
    total = wrap_int32(
        rescale_double(wide_a, p["a_multiplier"], p["a_shift"])
        - rescale_double(wide_b, p["b_multiplier"], p["b_shift"])
    )
    scaled = rescale_double(total, p["out_multiplier"], p["out_shift"])
    result: IntArray = np.clip(scaled + p["out_zero"], p["low"], p["high"])
    return result


def mul(
    a: IntArray,
    b: IntArray,
    *,
    a_zero: int,
    b_zero: int,
    out_multiplier: int,
    out_shift: int,
    out_zero: int,
    low: int,
    high: int,
) -> IntArray:
    """Multiply two int8 tensors of different scales; parameters as in the `ELEMENTWISE` instruction.

    Source: TensorFlow Lite `reference_integer_ops::MulElementwise`.
    """
    product = (np.asarray(a, np.int64) - a_zero) * (np.asarray(b, np.int64) - b_zero)
    scaled = rescale_double(product, np.int64(out_multiplier), np.int64(out_shift))
    result: IntArray = np.clip(scaled + out_zero, low, high)
    return result
