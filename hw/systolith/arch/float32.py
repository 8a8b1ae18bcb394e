"""Integer definitions of what onnxruntime computes in float32, each proved or measured against it.

`scale` is *exactly* the float32 arithmetic of onnxruntime's requantization, written in integers so
that gateware can be built from it. `add` and `mul` replace chains of float32 roundings by one
rounding of the exact value; they differ from onnxruntime only where a value lies within a few
float32 roundings of a tie. `softmax` is float32 arithmetic itself, for the host.

Arrays are int64 unless said otherwise; all functions work element by element.
"""

import math
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .numerics import INT32_MAX, INT32_MIN, IntArray, Integers

SIGNIFICAND_BITS = 24
"""Bits of a float32 significand with its leading one."""

EXPONENT_BIAS = 127
FRACTION_BITS = SIGNIFICAND_BITS - 1
_FRACTION_MASK = (1 << FRACTION_BITS) - 1
_INFINITE_EXPONENT = 255

MAX_SHIFT = 47
"""Largest right shift of `add` and `mul`: 16 bits of fraction below a Q31 multiplier."""

SHIFT_OFFSET = 31
"""A right shift of S is the field value `31 - S`, as for Q31 multipliers everywhere."""


def to_bits(value: float) -> int:
    """Return the 32 bits of a positive normal number rounded to float32.

    Raises
    ------
    ValueError
        The number is no positive normal float32.
    """
    with np.errstate(over="ignore"):
        bits = int.from_bytes(struct.pack("<f", np.float32(value)), "little")
    if not 0 < bits >> FRACTION_BITS < _INFINITE_EXPONENT:
        raise ValueError(f"Factor must be a positive normal float32, not {value}")
    return bits


def shift_half_even(value: Integers, shift: Integers) -> IntArray:
    """Divide by `2^shift`, ties to even; `shift` is in 0..62."""
    value, shift = np.asarray(value, np.int64), np.asarray(shift, np.int64)
    quotient = value >> shift
    rest = value - (quotient << shift)
    half = (np.int64(1) << shift) >> 1
    up = (rest > half) | ((rest == half) & (quotient & 1 == 1) & (shift > 0))
    result: IntArray = quotient + up
    return result


def _bit_length(value: IntArray) -> IntArray:
    """Return the bits of integers in 0..2^48, which float64 holds exactly."""
    return np.frexp(value.astype(np.float64))[1].astype(np.int64)


def scale(value: Integers, factor: Integers) -> IntArray:
    """Return `round_half_even(float32(value) * factor)` with both roundings of float32 before it.

    Parameters
    ----------
    value : array of int
        Sums in the range of int32.
    factor : array of int
        Bits of a positive normal float32: the multiplier field of `Rounding.FLOAT32`.

    Returns
    -------
    ndarray
        Saturated to int32. The steps are: magnitude of the sum rounded to 24 bits, ties to even;
        48-bit product with the 24-bit significand; rounded to 24 bits, ties to even; shifted to an
        integer, ties to even; sign restored. Products below the normal range of float32 give 0
        either way.

    Source: onnxruntime `MlasRequantizeOutput`, core/mlas/lib/quantize.cpp.
    """
    value, factor = np.asarray(value, np.int64), np.asarray(factor, np.int64)
    magnitude = np.abs(value)
    drop = np.maximum(_bit_length(magnitude) - SIGNIFICAND_BITS, 0)
    product = shift_half_even(magnitude, drop) * ((factor & _FRACTION_MASK) | (1 << FRACTION_BITS))
    exponent = (factor >> FRACTION_BITS) - EXPONENT_BIAS - FRACTION_BITS + drop
    drop = np.maximum(_bit_length(product) - SIGNIFICAND_BITS, 0)
    rounded, exponent = shift_half_even(product, drop), exponent + drop
    # A significand has 24 bits: from a shift of 26 on the result is 0, from 8 up it saturates.
    most = 32
    right, left = np.clip(-exponent, 0, most), np.clip(exponent, 0, most)
    result = np.where(exponent < 0, shift_half_even(rounded, right), rounded << left)
    signed: IntArray = np.clip(np.where(value < 0, -result, result), INT32_MIN, INT32_MAX)
    return signed


def factors(*reals: float) -> tuple[tuple[int, ...], int]:
    """Return multipliers and the shift field that all of them share, for `add` or `mul`.

    The largest multiplier has 31 bits, unless the right shift would exceed `MAX_SHIFT`. A factor f
    is `multiplier * 2^(shift - 31)`.

    Raises
    ------
    ValueError
        A factor is not positive and finite, or 2^31 and more.
    """
    if not all(math.isfinite(real) and real > 0.0 for real in reals):
        raise ValueError(f"Factors must be positive and finite, not {reals}")
    right = min(SHIFT_OFFSET - math.frexp(max(reals))[1], MAX_SHIFT)
    if right < 0:
        raise ValueError(f"Factors must be below 2^{SHIFT_OFFSET}, not {max(reals)}")
    multipliers = [min(round(math.ldexp(real, right)), INT32_MAX) for real in reals]
    return tuple(multipliers), SHIFT_OFFSET - right


def _finish(total: IntArray, out_shift: int, out_zero: int, low: int, high: int) -> IntArray:
    right = SHIFT_OFFSET - out_shift
    # The zero point is added before the rounding: an odd one turns round every exact tie.
    rounded = shift_half_even(total + (np.int64(out_zero) << np.int64(right)), right)
    result: IntArray = np.clip(rounded, low, high)
    return result


def add(
    a: Integers,
    b: Integers,
    *,
    a_zero: int,
    a_multiplier: int,
    b_zero: int,
    b_multiplier: int,
    out_shift: int,
    out_zero: int,
    low: int,
    high: int,
) -> IntArray:
    """Add two int8 tensors of different scales with one rounding, ties to even.

    `clamp(round_half_even(((a - a_zero) * a_multiplier + (b - b_zero) * b_multiplier) *
    2^(out_shift - 31) + out_zero))`; the shift to the right is 31 - `out_shift`, in 0..47. Every
    sum fits 57 bits.

    Source: onnxruntime `MlasQLinearAddKernelAvx2Helper`, which computes
    `fma(a, Sa / Sc, fma(b, Sb / Sc, zc - (Sa / Sc * za + Sb / Sc * zb)))` in float32.
    """
    wide_a, wide_b = np.asarray(a, np.int64) - a_zero, np.asarray(b, np.int64) - b_zero
    total: IntArray = wide_a * a_multiplier + wide_b * b_multiplier
    return _finish(total, out_shift, out_zero, low, high)


def mul(
    a: Integers,
    b: Integers,
    *,
    a_zero: int,
    b_zero: int,
    out_multiplier: int,
    out_shift: int,
    out_zero: int,
    low: int,
    high: int,
) -> IntArray:
    """Multiply two int8 tensors of different scales with one rounding, ties to even.

    `clamp(round_half_even((a - a_zero) * (b - b_zero) * out_multiplier * 2^(out_shift - 31) +
    out_zero))`; the shift to the right is 31 - `out_shift`, in 0..47.

    Source: onnxruntime `MlasQLinearMulKernel`, core/mlas/lib/qlmul.cpp, which rounds the product
    with `Sa * Sb / Sc` and the sum with the zero point to float32.
    """
    product: IntArray = (np.asarray(a, np.int64) - a_zero) * (np.asarray(b, np.int64) - b_zero)
    return _finish(product * out_multiplier, out_shift, out_zero, low, high)


def quantize_linear(values: NDArray[Any], scale: float, zero_point: int, dtype: str) -> IntArray:
    """Return real numbers as integers: `saturate(round_half_even(values / scale) + zero_point)`.

    Source: ONNX `QuantizeLinear`; onnxruntime `MlasQuantizeLinear` divides in float32.
    """
    limits = np.iinfo(dtype)
    with np.errstate(over="ignore"):
        steps = np.rint(np.asarray(values, np.float32) / np.float32(scale))
    bounded = np.clip(steps, np.float32(limits.min - zero_point), limits.max - zero_point)
    result: IntArray = bounded.astype(np.int64) + zero_point
    return result


# onnxruntime leaves this many powers of e below the largest float32 for the sum of a row.
_SOFTMAX_RESERVE = 5.0
_CODES = 256


def softmax_table(input_scale: float, depth: int) -> NDArray[np.float32]:
    """Return the exponentials of a row of `depth` codes by their distance: float32[256].

    Entry 255 stands for the largest code of the row, entry 255 - d for d steps less.
    """
    largest = np.float32(np.finfo(np.float32).max) / np.float32(depth)
    step = float(np.float32(input_scale))
    headroom = max(0.0, math.log(float(largest)) - _SOFTMAX_RESERVE) / step
    codes = np.arange(_CODES, dtype=np.float64)
    with np.errstate(over="ignore"):
        return np.exp((codes - (_CODES - 1) + headroom) * step).astype(np.float32)


def softmax(values: NDArray[np.int8], attributes: Mapping[str, float | int]) -> NDArray[np.int8]:
    """Return the softmax of rows of int8 codes.

    Parameters
    ----------
    values : ndarray of int8
        Logits in any shape.
    attributes : mapping
        `depth`, the length of a row; `input_scale`, `output_scale`, and `output_zero`, the zero point of the int8 output.

    Source: onnxruntime `QlinearSoftmaxCPU`, contrib_ops/cpu/quantization/qlinear_softmax.cc.
    """
    codes = values.astype(np.int64).reshape(-1, int(attributes["depth"]))
    table = softmax_table(float(attributes["input_scale"]), codes.shape[-1])
    exponentials = table[codes - codes.max(axis=-1, keepdims=True) + _CODES - 1]
    # The reference adds up from left to right; a plain sum would pair the terms.
    total = np.add.accumulate(exponentials, axis=-1, dtype=np.float32)[..., -1:]
    steps = np.floor(np.float32(1.0) / np.float32(attributes["output_scale"]))
    rounded = np.rint(exponentials * steps / total).astype(np.int64) + int(
        attributes["output_zero"]
    )
    result: NDArray[np.int8] = np.minimum(rounded, np.iinfo(np.int8).max).astype(np.int8)
    return result.reshape(values.shape)


def average_pool(
    values: NDArray[np.int8], attributes: Mapping[str, float | int]
) -> NDArray[np.int8]:
    """Return the averages of windows of an int8 image, as sums of float32 numbers.

    The dequantized pixels are added in float32, so that a mean between two codes goes to one or the
    other by the rounding errors of its pixels: no integer rule gives that.

    Parameters
    ----------
    values : ndarray of int8
        Image `[height, width, channels]` in any shape.
    attributes : mapping
        `height`, `width`, `channels` of the image; `out_height`, `out_width`; `kernel_height`,
        `kernel_width`; `stride_height`, `stride_width`; `pad_top`, `pad_left`; `include_pad`, 1 if
        padding counts; `input_scale`, `input_zero`; `output_scale`, `output_zero`, which is the
        zero point in the model's own type, and `output_offset`, what int8 lies below that type.

    Source: onnxruntime `QLinearPoolNhwc2DTask`, contrib_ops/cpu/quantization/qlinear_pool.cc.
    """
    item = {name: int(value) for name, value in attributes.items() if "scale" not in name}
    image = values.reshape(item["height"], item["width"], item["channels"]).astype(np.float32)
    real = (image - np.float32(item["input_zero"])) * np.float32(attributes["input_scale"])
    rows = np.arange(item["out_height"]) * item["stride_height"] - item["pad_top"]
    columns = np.arange(item["out_width"]) * item["stride_width"] - item["pad_left"]
    total = np.zeros((rows.size, columns.size, item["channels"]), np.float32)
    count = np.zeros((rows.size, columns.size, 1), np.float32)
    for ky in range(item["kernel_height"]):
        for kx in range(item["kernel_width"]):
            y, x = rows + ky, columns + kx
            inside = ((y >= 0) & (y < item["height"]))[:, None] & ((x >= 0) & (x < item["width"]))
            taken = real[y.clip(0, item["height"] - 1)][:, x.clip(0, item["width"] - 1)]
            total = np.where(inside[..., None], total + taken, total)
            count += inside[..., None] | bool(item["include_pad"])
    steps = total / count / np.float32(attributes["output_scale"])
    # The zero point is added in float32, and so in the type that it has in the model.
    codes = np.rint(steps + np.float32(item["output_zero"])) - item["output_offset"]
    limits = np.iinfo(np.int8)
    result: NDArray[np.int8] = np.clip(codes, limits.min, limits.max).astype(np.int8)
    return result
