"""Real factors of the operators, each rounded where the reference runtime's expression rounds.

Scales are float32 numbers of the file; TFLite Micro ("tflm") mostly computes with them in double,
LiteRT ("litert_reference") at times in float32.

Ref: `PopulateConvolutionQuantizationParams` and `GetQuantizedConvolutionMultipler`,
    tensorflow/lite/kernels/kernel_util.cc; `CalculateOpDataAdd`,
    tensorflow/lite/micro/kernels/add_common.cc; `CalculateOpDataSub`, sub_common.cc and
    `CalculateOpDataMul`, mul_common.cc, in the same place; `PrepareGeneralSubOp`,
    tensorflow/lite/kernels/sub.cc.
"""

import numpy as np

from systolith.compiler.ir import Tensor

ADD_LEFT_SHIFT = 20
"""Bits of headroom that both operands of an int8 ADD or SUB get."""


def channel_factors(input: Tensor, weights: Tensor, output: Tensor, channels: int) -> list[float]:
    """Return the factor from sums to outputs, for each channel."""
    factors = [float(input.scale) * scale / output.scale for scale in weights.scales]
    return factors if len(factors) == channels else factors * channels


def tensor_factor(input: Tensor, weights: Tensor, output: Tensor) -> float:
    """Return the factor from sums to outputs of FULLY_CONNECTED with per-tensor weights.

    Unlike that of convolutions it contains the product of two scales rounded to float32, which may
    be zero or infinite.
    """
    with np.errstate(over="ignore", under="ignore"):
        product = np.float32(input.scale) * np.float32(weights.scale)
    return float(product) / output.scale


def fully_connected_factors(
    input: Tensor, weights: Tensor, output: Tensor, channels: int
) -> list[float]:
    """Return the factor from sums to outputs of FULLY_CONNECTED, for each channel."""
    if len(weights.scales) > 1:
        return channel_factors(input, weights, output, channels)
    return [tensor_factor(input, weights, output)] * channels


def add_factors(a: Tensor, b: Tensor, output: Tensor) -> tuple[float, float, float]:
    """Return the factors of both operands and of the sum of an ADD."""
    twice_max = 2.0 * max(a.scale, b.scale)
    return (
        a.scale / twice_max,
        b.scale / twice_max,
        twice_max / ((1 << ADD_LEFT_SHIFT) * output.scale),
    )


def sub_factors(a: Tensor, b: Tensor, output: Tensor, reference: str) -> tuple[float, float, float]:
    """Return the factors of both operands and of the difference of a SUB."""
    if reference != "tflm":
        return add_factors(a, b, output)
    with np.errstate(over="ignore", under="ignore"):
        scales = np.array([a.scale, b.scale], np.float32)
        twice_max = np.float32(2.0) * scales.max()
        widened = np.float32(1 << ADD_LEFT_SHIFT) * np.float32(output.scale)
        first, second = (float(scale / twice_max) for scale in scales)
        return first, second, float(twice_max / widened)


def mul_factor(a: Tensor, b: Tensor, output: Tensor, reference: str) -> float:
    """Return the factor of the product of a MUL."""
    if reference == "tflm":
        return a.scale * b.scale / output.scale
    with np.errstate(over="ignore", under="ignore"):
        product = np.float32(a.scale) * np.float32(b.scale)
        return float(product / np.float32(output.scale))
