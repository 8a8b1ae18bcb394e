"""Softmax of int8 tensors in exact integer arithmetic, for host operators and golden model.

Source: TensorFlow Lite `reference_ops::Softmax` (kernels/internal/reference/softmax.h) with the
functions of `fixedpoint`, whose notation is used here.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import fixedpoint, numerics
from .errors import UnsupportedModelError
from .fixedpoint import int64
from .numerics import IntArray

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
    exponent = numerics.doubling_high_mul(wide, int64(attributes["input_multiplier"]))
    exps = fixedpoint.exp_on_negative_values(exponent, SCALED_DIFF_INTEGER_BITS)
    terms = numerics.rounding_shift(exps, int64(ACCUMULATION_INTEGER_BITS))
    total = np.where(counted, terms, 0).sum(axis=-1, keepdims=True)
    scale, over_unit = _reciprocal(total)
    product = numerics.doubling_high_mul(np.broadcast_to(scale, exps.shape), exps)
    scaled = numerics.rounding_shift(product, over_unit + 31 - 8)
    result = np.where(counted, scaled + OUTPUT_ZERO_POINT, OUTPUT_ZERO_POINT)
    return np.clip(result, -128, 127).astype(np.int8)


def _reciprocal(total: IntArray) -> tuple[IntArray, IntArray]:
    """Return (1 / mantissa as Q0.31, bits by which the sum exceeds one) of Q12.19 sums.

    Source: TensorFlow Lite `GetReciprocal`, kernels/internal/common.h.
    """
    # frexp is exact: sums have at most 32 bits.
    headroom = 32 - np.frexp(total.astype(np.float64))[1].astype(np.int64)
    mantissa_minus_one = (total << headroom) - (np.int64(1) << 31)
    return fixedpoint.one_over_one_plus(mantissa_minus_one), ACCUMULATION_INTEGER_BITS - headroom
