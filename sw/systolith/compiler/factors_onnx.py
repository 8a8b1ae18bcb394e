"""Factors, clamps and weights of ONNX operators, as onnxruntime's kernels compute them.

Factors are float32 numbers with the roundings of the runtime's expressions; weights with zero points
become sums of int8.
"""

import math

import numpy as np

from systolith.arch import float32
from systolith.arch.isa import Rounding
from systolith.compiler.ir import Int8Array, Int64Array, Operator, Requantization, Tensor

INT8_MIN, INT8_MAX = -128, 127
_UINT8_OFFSET = 128
_CODES = 256
_FLOAT32_ULP = 2.0**-23


def matrix_outputs(operator: Operator, weights: tuple[int, ...]) -> int:
    """Return the output features of the weights of a Gemm or MatMul."""
    return weights[0] if operator.attributes["transpose_b"] else weights[1]


def inner_zero(tensor: Tensor) -> int:
    """Return the zero point of an activation once it is int8."""
    return tensor.zero_point - (_UINT8_OFFSET if tensor.dtype == "uint8" else 0)


def weight_factors(input: Tensor, weights: Tensor, output: Tensor, channels: int) -> list[float]:
    """Return the float32 factor from sums to outputs for each channel."""
    with np.errstate(over="ignore", under="ignore"):
        factors = [
            float(np.float32(input.scale) * np.float32(scale) / np.float32(output.scale))
            for scale in weights.scales
        ]
    return factors if len(factors) == channels else factors * channels


def mean_factor(input: Tensor, output: Tensor, count: int) -> float:
    """Return the float32 factor from the sum of `count` elements to their mean."""
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        divisor = np.float32(output.scale) * np.float32(count)
        return float(np.float32(input.scale) / divisor)


def sum_factors(a: Tensor, b: Tensor, output: Tensor) -> tuple[float, float]:
    """Return the float32 factors of both operands of an Add."""
    scale = np.float32(output.scale)
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float32(a.scale) / scale), float(np.float32(b.scale) / scale)


def product_factor(a: Tensor, b: Tensor, output: Tensor) -> float:
    """Return the float32 factor of the product of both operands of a Mul."""
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float32(a.scale) * np.float32(b.scale) / np.float32(output.scale))


def centered(weights: Tensor, axis: int) -> Int64Array:
    """Return weights without their zero points, output channels along `axis`."""
    shape = [1] * len(weights.shape)
    shape[axis] = len(weights.zero_points)
    zeros = np.array(weights.zero_points, np.int64).reshape(shape)
    result: Int64Array = np.asarray(weights.data, np.int64) - zeros
    return result


def int8_terms(weights: Int64Array) -> list[Int8Array]:
    """Return int8 arrays whose sum is the weights: one, mostly two, three at the very ends."""
    terms: list[Int8Array] = []
    rest = weights
    while not terms or np.any(rest):
        term = np.clip(rest, INT8_MIN, INT8_MAX)
        terms.append(term.astype(np.int8))
        rest = rest - term
    return terms


def clamp_range(operator: Operator, output: Tensor) -> tuple[int, int]:
    """Return the smallest and the largest int8 result behind the operator's clamp."""
    low, high = operator.attributes["clamp"]
    bounds = []
    for bound, default in ((low, INT8_MIN), (high, INT8_MAX)):
        if bound is None:
            bounds.append(default)
            continue
        code = float32.quantize_linear(
            np.array(bound), output.scale, output.zero_point, output.dtype
        )
        bounds.append(int(code) + inner_zero(output) - output.zero_point)
    return min(bounds[0], bounds[1]), bounds[1]


def has_one_count(operator: Operator, input: Tensor) -> bool:
    """Return whether all windows of an AveragePool are over equally many pixels."""
    attributes = operator.attributes
    pads, sizes = attributes["pads"], input.shape[2:]
    for axis in range(2):
        reach = (attributes["output"][axis] - 1) * attributes["stride"][axis]
        if reach + attributes["kernel"][axis] > sizes[axis] + pads[axis] + pads[axis + 2]:
            return False
    return attributes["include_pad"] or not any(pads)


def has_ties(input: Tensor, output: Tensor, operator: Operator) -> bool:
    """Return whether a mean of an AveragePool may lie between two codes, to float32's precision."""
    count = math.prod(operator.attributes["kernel"])
    sums = np.arange(-_CODES * count, _CODES * count + 1)
    steps = sums * (input.scale / output.scale / count)
    steps = steps[np.abs(steps) <= _CODES]
    distance = np.abs(steps - np.floor(steps) - 0.5)
    return bool(np.any(distance <= np.abs(steps) * _FLOAT32_ULP))


def requantization(operator: Operator, factors: list[float], output: Tensor) -> Requantization:
    """Return how sums become results: float32 factors, and the operator's clamp."""
    low, high = clamp_range(operator, output)
    return Requantization(
        rounding=Rounding.FLOAT32,
        multipliers=np.array([float32.to_bits(factor) for factor in factors], np.int64),
        shifts=np.zeros(len(factors), np.int64),
        zero_point=inner_zero(output),
        low=low,
        high=high,
    )
