"""Operators with weights: convolutions and matrix products."""

import math
from typing import Any

import numpy as np

from systolith.arch.numerics import wrap_int32
from systolith.compiler.builder_onnx import Builder
from systolith.compiler.factors_onnx import (
    centered,
    inner_zero,
    int8_terms,
    requantization,
    weight_factors,
)
from systolith.compiler.ir import (
    ConvKernel,
    DepthwiseKernel,
    Image,
    Int8Array,
    Int64Array,
    Operator,
    Tensor,
)
from systolith.compiler.kernels_onnx import SummedConvKernel, SummedDepthwiseKernel


def conv(build: Builder, operator: Operator) -> None:
    """Append a Conv."""
    input, image = build.source(operator)
    output, result = build.target(operator)
    weights, groups = build.weights(operator), operator.attributes["group"]
    values = centered(weights, 0)
    zero = inner_zero(input)
    sums = values.reshape(len(values), -1).sum(axis=1)
    bias = np.asarray(wrap_int32(_bias(build, operator, input, weights) - zero * sums))
    common: dict[str, Any] = {
        "layer": operator.index,
        "input": image,
        "output": result,
        "bias": bias,
        "stride": operator.attributes["stride"],
        "dilation": operator.attributes["dilation"],
        "pad_top": operator.attributes["pads"][0],
        "pad_left": operator.attributes["pads"][1],
        "pad_value": zero,
        "requantization": requantization(
            operator, weight_factors(input, weights, output, len(values)), output
        ),
    }
    if groups == image.channels == result.channels and groups > 1:
        first, *rest = int8_terms(values[:, 0].transpose(1, 2, 0))
        kernel = DepthwiseKernel(weights=first, **common)
        build.kernels.append(
            SummedDepthwiseKernel(layer=operator.index, conv=kernel, extra_weights=tuple(rest))
            if rest
            else kernel
        )
        return
    first, *rest = int8_terms(_dense(values, groups).transpose(0, 2, 3, 1))
    _append_conv(build, ConvKernel(weights=first, **common), rest)


def matrix(build: Builder, operator: Operator) -> None:
    """Append a Gemm or MatMul."""
    input, _ = build.source(operator)
    output, _ = build.target(operator)
    weights = build.weights(operator)
    transposed = operator.attributes["transpose_b"]
    values = centered(weights, 0 if transposed else 1)
    values = values if transposed else values.T
    outputs, features = values.shape
    order = build.orders.features(operator)
    assert order is not None
    rows = math.prod(input.shape) // features
    zero = inner_zero(input)
    bias = _bias(build, operator, input, weights) - zero * values.sum(axis=1)
    common: dict[str, Any] = {
        "layer": operator.index,
        "input": Image(tensor=build.inner[input.name], height=1, width=rows, channels=features),
        "output": Image(tensor=build.inner[output.name], height=1, width=rows, channels=outputs),
        "bias": np.asarray(wrap_int32(bias)),
        "stride": (1, 1),
        "dilation": (1, 1),
        "pad_top": 0,
        "pad_left": 0,
        "pad_value": zero,
        "requantization": requantization(
            operator, weight_factors(input, weights, output, outputs), output
        ),
    }
    first, *rest = int8_terms(values[:, order].reshape(outputs, 1, 1, features))
    _append_conv(build, ConvKernel(weights=first, **common), rest)


def _append_conv(build: Builder, kernel: ConvKernel, rest: list[Int8Array]) -> None:
    """Append a convolution with the weights that one int8 array does not hold."""
    build.kernels.append(
        SummedConvKernel(layer=kernel.layer, conv=kernel, extra_weights=tuple(rest))
        if rest
        else kernel
    )


def _bias(build: Builder, operator: Operator, input: Tensor, weights: Tensor) -> Int64Array | int:
    bias = build.constant(operator, 2)
    if bias is None or bias.data is None:
        return 0
    if bias.dtype == "int32":
        return np.asarray(bias.data, np.int64).reshape(-1)
    # The runtime quantizes a float bias to the scale of the sums.
    scales = np.float32(input.scale) * np.array(weights.scales, np.float32)
    steps = np.rint(np.asarray(bias.data, np.float32).reshape(-1) / scales)
    return np.asarray(steps.astype(np.float64), np.int64)


def _dense(weights: Int64Array, groups: int) -> Int64Array:
    """Return grouped weights as dense ones, zero where output and input are of other groups."""
    if groups == 1:
        return weights
    outputs, depth = weights.shape[:2]
    result = np.zeros((outputs, depth * groups, *weights.shape[2:]), np.int64)
    for group in range(groups):
        rows = slice(group * outputs // groups, (group + 1) * outputs // groups)
        result[rows, group * depth : (group + 1) * depth] = weights[rows]
    return result
