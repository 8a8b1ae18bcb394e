"""Legalization of the operators that sum: convolutions, matrix products, pools and means."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from systolith.arch import float32
from systolith.arch.isa import Rounding
from systolith.arch.numerics import quantize_multiplier, wrap_int32
from systolith.compiler import geometry
from systolith.compiler.factors import channel_factors, fully_connected_factors
from systolith.compiler.images import image_of
from systolith.compiler.ir import (
    AveragePoolKernel,
    ConvKernel,
    DepthwiseKernel,
    Image,
    Int8Array,
    Int64Array,
    Kernel,
    MaxPoolKernel,
    MeanKernel,
    Requantization,
    Tensor,
    TransposeConvKernel,
)
from systolith.compiler.ruleset import Site, kernel_size

Maker = Callable[[Site, str], Iterator[Kernel | Tensor]]
"""Yields the kernels of an operator, and the tensors that lie between them."""

REFERENCES = ("tflm", "litert_reference")
"""Runtimes whose every operator has an integer rule, and whose results are reproduced exactly."""

ROUNDINGS: dict[str, tuple[Rounding, Rounding]] = {
    "tflm": (Rounding.DOUBLE, Rounding.DOUBLE),
    "litert_reference": (Rounding.DOUBLE, Rounding.SINGLE),
    # XNNPACK's kernels for sums; other operators as the reference kernels, from which XNNPACK's
    # differ by one step in some.
    "litert_default": (Rounding.FLOAT32, Rounding.FLOAT32),
}
"""How each runtime rounds convolutions, and FULLY_CONNECTED."""

_MOST_MEAN_SHIFT = 32


def clamp(site: Site) -> tuple[int, int]:
    """Return the bounds of the fused activation."""
    output = site.output
    activation = site.operator.attributes["activation"]
    return geometry.activation_range(activation, output.scale, output.zero_point)


def _int8(tensor: Tensor) -> Int8Array:
    return np.asarray(tensor.data, np.int8)


def _given_bias(bias: Tensor | None, channels: int) -> Int64Array:
    if bias is None:
        return np.zeros(channels, np.int64)
    return np.asarray(bias.data, np.int64).reshape(-1)


def _folded_bias(bias: Tensor | None, weights: Int8Array, zero_point: int) -> Int64Array:
    """Return `bias - zero_point * sum(weights)` for each output channel, wrapped to int32."""
    sums = weights.reshape(len(weights), -1).sum(axis=1, dtype=np.int64)
    return np.asarray(wrap_int32(_given_bias(bias, len(weights)) - zero_point * sums))


def _requantization(site: Site, factors: Sequence[float], rounding: Rounding) -> Requantization:
    pairs = [quantize_multiplier(factor) for factor in factors]
    if rounding == Rounding.FLOAT32:
        pairs = [(float32.to_bits(factor), 0) for factor in factors]
    low, high = clamp(site)
    return Requantization(
        rounding=rounding,
        multipliers=np.array([multiplier for multiplier, _ in pairs], np.int64),
        shifts=np.array([shift for _, shift in pairs], np.int64),
        zero_point=site.output.zero_point,
        low=low,
        high=high,
    )


def _windows(site: Site) -> tuple[geometry.Axis, geometry.Axis]:
    return geometry.axes(site.source.shape[1:3], kernel_size(site), site.operator.attributes)


def _window_fields(site: Site, weights: Int8Array, reference: str) -> dict[str, Any]:
    """Return what dense and depthwise kernels of a site share; the first axis of `weights` is the output's."""
    source, output = site.source, site.output
    vertical, horizontal = _windows(site)
    factors = channel_factors(source, site.weights, output, len(weights))
    return {
        "layer": site.operator.index,
        "input": image_of(source),
        "output": image_of(output),
        "bias": _folded_bias(site.bias, weights, source.zero_point),
        "stride": (vertical.window_step, horizontal.window_step),
        "dilation": (vertical.tap_step, horizontal.tap_step),
        "pad_top": vertical.pad,
        "pad_left": horizontal.pad,
        "pad_value": source.zero_point,
        "requantization": _requantization(site, factors, ROUNDINGS[reference][0]),
    }


def _dense(site: Site, weights: Int8Array, reference: str) -> ConvKernel:
    """Return a convolution with `weights[out channels, height, width, in channels]`."""
    return ConvKernel(weights=weights, **_window_fields(site, weights, reference))


def _spread(weights: Int8Array, channels: int) -> Int8Array:
    """Return weights of groups as dense ones, with zeros for the channels of other groups."""
    outputs, height, width, inner = weights.shape
    groups = channels // inner
    result = np.zeros((outputs, height, width, channels), np.int8)
    for group in range(groups):
        rows = slice(group * outputs // groups, (group + 1) * outputs // groups)
        result[rows, :, :, group * inner : (group + 1) * inner] = weights[rows]
    return result


def _conv(site: Site, reference: str) -> Iterator[Kernel]:
    yield _dense(site, _spread(_int8(site.weights), site.source.shape[3]), reference)


def _depthwise(site: Site, reference: str) -> Iterator[Kernel]:
    channels = site.source.shape[3]
    weights = _int8(site.weights)[0]
    by_channel = np.ascontiguousarray(weights.transpose(2, 0, 1))
    if weights.shape[2] == channels:
        yield DepthwiseKernel(weights=weights, **_window_fields(site, by_channel, reference))
    else:
        # Several outputs per channel are groups of one input channel each.
        yield _dense(site, _spread(by_channel[..., None], channels), reference)


def _fully_connected(site: Site, reference: str) -> Iterator[Kernel]:
    source, output = site.source, site.output
    channels, features = site.weights.shape
    data = _int8(site.weights).reshape(channels, 1, 1, features)
    rows = math.prod(source.shape) // features
    factors = fully_connected_factors(source, site.weights, output, channels)
    yield ConvKernel(
        layer=site.operator.index,
        input=Image(tensor=source.name, height=1, width=rows, channels=features),
        output=Image(tensor=output.name, height=1, width=rows, channels=channels),
        weights=data,
        bias=_folded_bias(site.bias, data, source.zero_point),
        stride=(1, 1),
        dilation=(1, 1),
        pad_top=0,
        pad_left=0,
        pad_value=source.zero_point,
        requantization=_requantization(site, factors, ROUNDINGS[reference][1]),
    )


def _transpose_conv(site: Site, reference: str) -> Iterator[Kernel]:
    source, output = site.source, site.output
    weights = _int8(site.weights)
    factors = channel_factors(source, site.weights, output, len(weights))
    vertical, horizontal = transposed_windows(site)
    yield TransposeConvKernel(
        layer=site.operator.index,
        input=image_of(source),
        output=image_of(output),
        weights=weights,
        bias=_given_bias(site.bias, len(weights)),
        stride=site.operator.attributes["stride"],
        pad_top=vertical.pad,
        pad_left=horizontal.pad,
        pad_value=source.zero_point,
        requantization=_requantization(site, factors, ROUNDINGS[reference][0]),
    )


def transposed_windows(site: Site) -> tuple[geometry.Axis, geometry.Axis]:
    """Return the windows of the convolution that a TRANSPOSE_CONV is the transpose of."""
    return geometry.axes(site.output.shape[1:3], kernel_size(site), site.operator.attributes)


def _average_pool(site: Site, _reference: str) -> Iterator[Kernel]:
    vertical, horizontal = _windows(site)
    low, high = clamp(site)
    yield AveragePoolKernel(
        layer=site.operator.index,
        input=image_of(site.source),
        output=image_of(site.output),
        window=(vertical.kernel, horizontal.kernel),
        stride=(vertical.window_step, horizontal.window_step),
        pad_top=vertical.pad,
        pad_left=horizontal.pad,
        low=low,
        high=high,
    )


def _max_pool(site: Site, _reference: str) -> Iterator[Kernel]:
    vertical, horizontal = _windows(site)
    low, high = clamp(site)
    yield MaxPoolKernel(
        layer=site.operator.index,
        input=image_of(site.source),
        output=image_of(site.output),
        window=(vertical.kernel, horizontal.kernel),
        stride=(vertical.window_step, horizontal.window_step),
        pad_top=vertical.pad,
        pad_left=horizontal.pad,
        low=low,
        high=high,
    )


def mean_multiplier(factor: float, count: int) -> tuple[int, int]:
    """Return the multiplier and shift that stand for `factor / count`.

    Source: TensorFlow Lite `QuantizedMeanOrSum`, kernels/internal/reference/reduce.h.
    """
    multiplier, shift = quantize_multiplier(factor)
    bits = min(count.bit_length() - 1, _MOST_MEAN_SHIFT, 31 + shift)
    return (multiplier << bits) // count, shift - bits


def _mean(site: Site, _reference: str) -> Iterator[Kernel]:
    source, output = site.source, site.output
    image = image_of(source)
    count = image.height * image.width
    multiplier, shift = mean_multiplier(source.scale / output.scale, count)
    yield MeanKernel(
        layer=site.operator.index,
        input=image,
        output=Image(tensor=output.name, height=1, width=1, channels=image.channels),
        bias=-source.zero_point * count,
        requantization=Requantization(
            rounding=Rounding.DOUBLE,
            multipliers=np.full(image.channels, multiplier, np.int64),
            shifts=np.full(image.channels, shift, np.int64),
            zero_point=output.zero_point,
            low=geometry.INT8_MIN,
            high=geometry.INT8_MAX,
        ),
    )


MAKERS: Mapping[str, Maker] = {
    "AVERAGE_POOL_2D": _average_pool,
    "CONV_2D": _conv,
    "DEPTHWISE_CONV_2D": _depthwise,
    "FULLY_CONNECTED": _fully_connected,
    "MAX_POOL_2D": _max_pool,
    "MEAN": _mean,
    "TRANSPOSE_CONV": _transpose_conv,
}
"""By operator."""
