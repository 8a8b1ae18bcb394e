"""Functions of one int8 value: the 256 results of every element-wise kernel of one operand.

Each function takes quantizations and returns `int64[256]`, entry `i` for the i-th value of the input
type in ascending order; `by_byte` orders them by the byte that the value is stored as.

Two runtimes define some operators differently, TFLite Micro ("tflm") and the reference kernels of
LiteRT ("litert_reference"); what only LiteRT has is LiteRT's in both.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import fixedpoint
from .numerics import (
    INT32_MAX,
    INT32_MIN,
    IntArray,
    quantize_multiplier,
    rescale_double,
    rounding_shift,
)

INT8_MIN, INT8_MAX = -128, 127
_ONE_Q31 = 1 << 31
_ONE_Q15 = 1 << 15
_INT16_MIN, _INT16_MAX = -(1 << 15), (1 << 15) - 1

INPUT_INTEGER_BITS = 4
"""Integer bits of the arguments of LOGISTIC and TANH."""

HARD_SWISH_EXPONENTS = (-15, 0)
"""Binary exponents of the output factor that HARD_SWISH can apply to its 16-bit numbers."""


class Quantization(NamedTuple):
    """Real value = scale * (integer - zero_point); scale is a float32 number."""

    scale: float
    zero_point: int
    signed: bool = True

    @property
    def values(self) -> IntArray:
        """Every value of the type, ascending."""
        low = INT8_MIN if self.signed else 0
        return np.arange(low, low + 256, dtype=np.int64)

    @property
    def offsets(self) -> IntArray:
        """Every value minus the zero point."""
        return self.values - self.zero_point

    def clamp(self, values: IntArray) -> IntArray:
        """Clamp to the type."""
        result: IntArray = np.clip(values, self.values[0], self.values[-1])
        return result


def by_byte(table: IntArray, source: Quantization) -> NDArray[np.int8]:
    """Order a table by the byte of the input; results become bytes, uint8 ones modulo 256."""
    ordered = np.empty(256, np.int64)
    ordered[source.values & 0xFF] = table
    return (ordered & 0xFF).astype(np.uint8).view(np.int8)


def _round_half_away(value: float) -> int:
    return math.floor(abs(value) + 0.5) * (1 if value >= 0 else -1)


def _ratio(source: Quantization, target: Quantization, reference: str) -> float:
    """Return the quotient of two scales: LiteRT computes it in float32, TFLite Micro in double."""
    if reference == "tflm":
        return source.scale / target.scale
    return float(np.float32(source.scale) / np.float32(target.scale))


def requantize(source: Quantization, target: Quantization) -> IntArray:
    """Return the input's values at the scale of the output.

    Source: TensorFlow Lite `reference_ops::Requantize`, kernels/internal/reference/requantize.h.
    """
    multiplier, shift = quantize_multiplier(source.scale / target.scale)
    scaled = rescale_double(source.offsets, multiplier, shift)
    return target.clamp(scaled + target.zero_point)


def clamped(
    source: Quantization,
    target: Quantization,
    low: float | None,
    high: float | None,
    reference: str,
) -> IntArray:
    """Return values between two real bounds, rescaled: RELU, RELU_N1_TO_1, RELU_0_TO_1, RELU6.

    Source: TensorFlow Lite `QuantizedReluX`, kernels/activations.cc, and TFLite Micro
    `CalculateReluOpData`, micro/kernels/activations_common.cc.
    """
    multiplier, shift = quantize_multiplier(_ratio(source, target, reference))
    scaled = rescale_double(source.offsets, multiplier, shift) + target.zero_point

    def bound(real: float) -> int:
        return target.zero_point + _round_half_away(float(np.float32(real / target.scale)))

    least = INT8_MIN if low is None else max(INT8_MIN, bound(low))
    most = INT8_MAX if high is None else min(INT8_MAX, bound(high))
    # As the kernel: the upper bound wins if the two cross.
    result: IntArray = np.minimum(np.maximum(scaled, least), most)
    return result


def relu6_in_place(source: Quantization) -> IntArray:
    """Return values between 0 and 6 at the scale of the input.

    Source: TFLite Micro `Relu6Quantized`, micro/kernels/activations_common.cc, which does not look
    at the quantization of the output.
    """
    six = source.zero_point + _round_half_away(float(np.float32(6.0 / source.scale)))
    return np.minimum(np.maximum(source.values, source.zero_point), min(six, INT8_MAX))


def leaky_relu(
    source: Quantization, target: Quantization, alpha: float, reference: str
) -> IntArray:
    """Return x, or alpha * x below zero; alpha is not negative.

    Source: TensorFlow Lite `reference_ops::QuantizeLeakyRelu`,
    kernels/internal/reference/leaky_relu.h.
    """
    identity = quantize_multiplier(_ratio(source, target, reference))
    if reference == "tflm":
        factor = source.scale * alpha / target.scale
    else:
        scale, slope = np.float32(source.scale), np.float32(alpha)
        factor = float(scale * slope / np.float32(target.scale))
    sloped = quantize_multiplier(factor)
    offsets = source.offsets
    scaled = np.where(
        offsets >= 0, rescale_double(offsets, *identity), rescale_double(offsets, *sloped)
    )
    return target.clamp(scaled + target.zero_point)


def absolute(source: Quantization, target: Quantization, reference: str) -> IntArray:
    """Return |x|.

    Source: TensorFlow Lite `AbsEvalQuantized`, kernels/elementwise.cc.
    """
    magnitude = np.abs(source.offsets)
    if source.scale != target.scale:
        magnitude = rescale_double(
            magnitude, *quantize_multiplier(_ratio(source, target, reference))
        )
    return target.clamp(magnitude + target.zero_point)


def _curve(
    source: Quantization, fraction_bits: int, curve: Callable[[IntArray, int], IntArray]
) -> IntArray:
    """Evaluate a curve in fixed point where the argument is in range; saturate elsewhere."""
    real = source.scale * (1 << (31 - INPUT_INTEGER_BITS))
    mantissa, left_shift = math.frexp(real)
    multiplier = _round_half_away(mantissa * _ONE_Q31)
    largest = float(((1 << INPUT_INTEGER_BITS) - 1) << (31 - INPUT_INTEGER_BITS))
    radius = math.floor(math.ldexp(largest, -left_shift))
    offsets = source.offsets
    inside = (offsets > -radius) & (offsets < radius)
    argument = rescale_double(np.where(inside, offsets, 0), multiplier, left_shift)
    result = rounding_shift(curve(argument, INPUT_INTEGER_BITS), 31 - fraction_bits)
    return np.where(inside, result, np.where(offsets <= -radius, INT32_MIN, INT32_MAX))


def logistic(source: Quantization, target: Quantization, reference: str) -> IntArray:
    """Return 1 / (1 + exp(-x)); TFLite Micro's output is scale 1/256 and zero point -128.

    Source: TFLite Micro `reference_integer_ops::Logistic`,
    kernels/internal/reference/integer_ops/logistic.h; LiteRT `SigmoidPrepare`,
    kernels/activations.cc.
    """
    if reference == "tflm":
        return target.clamp(_curve(source, 8, fixedpoint.logistic) + INT8_MIN)
    one = np.float32(1.0)
    return looked_up(source, target, lambda x: one / (one + _float32(math.exp, -x)))


def tanh(source: Quantization, target: Quantization, reference: str) -> IntArray:
    """Return the hyperbolic tangent; TFLite Micro's output is scale 1/128 and zero point 0.

    Source: TFLite Micro `reference_integer_ops::Tanh`,
    kernels/internal/reference/integer_ops/tanh.h; LiteRT `TanhPrepare`, kernels/activations.cc.
    """
    if reference == "tflm":
        return target.clamp(_curve(source, 7, fixedpoint.tanh))
    return looked_up(source, target, lambda x: _float32(math.tanh, x))


def looked_up(
    source: Quantization, target: Quantization, function: Callable[[np.float32], np.float32]
) -> IntArray:
    """Return a function of float32 numbers, evaluated for each value and rounded.

    Source: TensorFlow Lite `LUTPopulate`, kernels/internal/common.h.
    """
    inverse = np.float32(1.0) / np.float32(target.scale)
    scale = np.float32(source.scale)
    with np.errstate(over="ignore", invalid="ignore"):
        results = [function(scale * np.float32(offset)) * inverse for offset in source.offsets]
    # Far outside of the type all values clamp alike; those of the bound are exact in float32.
    bounded = [max(-(2.0**20), min(2.0**20, float(value))) for value in results]
    return target.clamp(np.array([_round_half_away(v) for v in bounded]) + target.zero_point)


def _float32(function: Callable[[float], float], x: np.float32) -> np.float32:
    """Return a function correctly rounded to float32, infinite where it overflows."""
    try:
        return np.float32(function(float(x)))
    except OverflowError:
        return np.float32(math.inf)


def exp(x: np.float32) -> np.float32:
    """Return the exponential of a float32 number."""
    return _float32(math.exp, x)


def elu(x: np.float32) -> np.float32:
    """Return x, or exp(x) - 1 below zero.

    Source: TensorFlow Lite `EluPrepare`, kernels/activations.cc.
    """
    return _float32(math.expm1, x) if x < 0 else x


def gelu(x: np.float32) -> np.float32:
    """Return x times the normal distribution's integral.

    Source: TensorFlow Lite `GeluTransform`, kernels/internal/reference/gelu.h.
    """
    return np.float32(0.5 * float(x) * math.erfc(float(np.float32(float(x) * -math.sqrt(0.5)))))


def gelu_approximate(x: np.float32) -> np.float32:
    """Return the approximation of `gelu` by a hyperbolic tangent.

    Source: TensorFlow Lite `GeluTransformApproximate`, kernels/internal/reference/gelu.h.
    """
    value = float(x)
    argument = 2.0 / math.sqrt(math.pi) * math.sqrt(0.5) * (value + 0.044715 * value**3)
    return np.float32(0.5 * value * (1.0 + math.tanh(argument)))


def hard_swish_factors(source: Quantization, target: Quantization) -> tuple[float, float]:
    """Return the factors to the output and to the "relu-ish" range of `hard_swish`."""
    hires = np.float32(1.0 / 128.0) * np.float32(source.scale)
    reluish = np.float32(3.0) / np.float32(32768.0)
    return float(hires / np.float32(target.scale)), float(hires / reluish)


def _high_mul16(a: IntArray, b: int) -> IntArray:
    """Saturating rounding doubling high multiply of 16-bit numbers, as gemmlowp defines it."""
    product = a * b
    nudged = product + np.where(product >= 0, 1 << 14, 1 - (1 << 14))
    result: IntArray = np.where(nudged >= 0, nudged >> 15, -((-nudged) >> 15))
    return np.minimum(result, np.int64(_INT16_MAX))


def _multiplier16(factor: float) -> tuple[int, int]:
    """Return a 16-bit multiplier and its binary exponent."""
    multiplier, exponent = quantize_multiplier(factor)
    if multiplier >= INT32_MAX - (1 << 15):
        return _INT16_MAX, exponent
    return (multiplier + (1 << 15)) >> 16, exponent


def _saturate16(values: IntArray) -> IntArray:
    result: IntArray = np.clip(values, _INT16_MIN, _INT16_MAX)
    return result


def hard_swish(source: Quantization, target: Quantization) -> IntArray:
    """Return x * relu6(x + 3) / 6 in 16-bit arithmetic.

    Both exponents of `hard_swish_factors` must be in the range of 16-bit shifts.

    Source: TensorFlow Lite `reference_ops::HardSwish`, kernels/internal/reference/hard_swish.h.
    """
    out_factor, reluish_factor = hard_swish_factors(source, target)
    out_multiplier, out_exponent = _multiplier16(out_factor)
    reluish_multiplier, exponent = _multiplier16(reluish_factor)
    hires = source.offsets << 7
    unshifted = _high_mul16(hires, out_multiplier)
    reluish = hires
    if exponent > 0:
        reluish = _saturate16(reluish << (exponent - 1))
    reluish = _high_mul16(reluish, reluish_multiplier)
    if exponent > 0:
        reluish = _saturate16(reluish << 1)
    elif exponent < 0:
        reluish = rounding_shift(reluish, -exponent)
    weight = (reluish + _ONE_Q15) >> 1
    product = weight * unshifted
    truncated = np.where(product >= 0, product >> 15, -((-product) >> 15))
    shifted = rounding_shift(truncated, -out_exponent)
    return target.clamp(shifted + target.zero_point)
