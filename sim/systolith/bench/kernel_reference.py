"""Evaluate a `KernelGraph` in plain NumPy: what each kernel means, with no machine behind it.

Between a model and its program lie legalization and the back end. Running the kernels directly and
comparing with a reference runtime judges the first alone.
"""

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.arch import numerics, softmax
from systolith.compiler.ir import (
    AddKernel,
    AveragePoolKernel,
    ConcatKernel,
    ConvKernel,
    DepthwiseKernel,
    HostKernel,
    Image,
    Kernel,
    KernelGraph,
    MaxPoolKernel,
    MeanKernel,
    MulKernel,
    PadKernel,
    Requantization,
    ResizeKernel,
    SliceKernel,
    TableKernel,
    TransposeConvKernel,
    ViewKernel,
)

Int8 = NDArray[np.int8]


def run(graph: KernelGraph, inputs: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return every tensor of one inference by name.

    Parameters
    ----------
    graph : KernelGraph
        Legalized model.
    inputs : mapping of str to int8 or uint8 array
        Inputs by name, in the shapes of the model, without an axis for samples.
    """
    tensors = {name: np.asarray(inputs[name]).view(np.int8) for name in graph.inputs}
    for kernel in graph.kernels:
        name, values = _EVALUATORS[type(kernel)](kernel, tensors)
        tensors[name] = values.reshape(graph.tensors[name].shape)
    return {name: array.view(graph.tensors[name].dtype) for name, array in tensors.items()}


def _pixels(image: Image, tensors: Mapping[str, Int8]) -> Int8:
    return tensors[image.tensor].reshape(image.height, image.width, image.channels)


def _windows(
    padded: NDArray[Any], ky: int, kx: int, stride: tuple[int, int], output: Image
) -> NDArray[Any]:
    """Return the pixels at offset (ky, kx) of every window, `[height, width, channels]`."""
    rows = slice(ky, ky + (output.height - 1) * stride[0] + 1, stride[0])
    cols = slice(kx, kx + (output.width - 1) * stride[1] + 1, stride[1])
    return padded[rows, cols]


def _padded(
    pixels: NDArray[Any], top: int, left: int, size: tuple[int, int], value: int
) -> NDArray[Any]:
    """Return an image of `size` with the pixels at (top, left), cut where they reach beyond."""
    result = np.full((*size, pixels.shape[2]), value, pixels.dtype)
    height = max(0, min(pixels.shape[0], size[0] - top))
    width = max(0, min(pixels.shape[1], size[1] - left))
    result[top : top + height, left : left + width] = pixels[:height, :width]
    return result


def _requantized(sums: NDArray[Any], item: Requantization) -> Int8:
    """Return int8 values of sums whose last axis is channels."""
    scaled = numerics.requantize(
        numerics.wrap_int32(sums), item.multipliers, item.shifts, item.rounding
    )
    result: Int8 = np.clip(scaled + item.zero_point, item.low, item.high).astype(np.int8)
    return result


def _conv(kernel: ConvKernel, tensors: Mapping[str, Int8]) -> tuple[str, Int8]:
    out, (kernel_height, kernel_width) = kernel.output, kernel.weights.shape[1:3]
    size = (
        (out.height - 1) * kernel.stride[0] + (kernel_height - 1) * kernel.dilation[0] + 1,
        (out.width - 1) * kernel.stride[1] + (kernel_width - 1) * kernel.dilation[1] + 1,
    )
    pixels = _pixels(kernel.input, tensors)
    padded = _padded(pixels, kernel.pad_top, kernel.pad_left, size, kernel.pad_value)
    # Sums of products of int8 are exact in float64, whose matrix product is the fast one.
    sums = np.zeros((out.height, out.width, out.channels), np.float64)
    for ky in range(kernel_height):
        for kx in range(kernel_width):
            y, x = ky * kernel.dilation[0], kx * kernel.dilation[1]
            taps = _windows(padded, y, x, kernel.stride, out).astype(np.float64)
            sums += taps @ kernel.weights[:, ky, kx].T.astype(np.float64)
    return out.tensor, _requantized(sums.astype(np.int64) + kernel.bias, kernel.requantization)


def _depthwise(kernel: DepthwiseKernel, tensors: Mapping[str, Int8]) -> tuple[str, Int8]:
    out, (kernel_height, kernel_width) = kernel.output, kernel.weights.shape[:2]
    size = (
        (out.height - 1) * kernel.stride[0] + (kernel_height - 1) * kernel.dilation[0] + 1,
        (out.width - 1) * kernel.stride[1] + (kernel_width - 1) * kernel.dilation[1] + 1,
    )
    pixels = _pixels(kernel.input, tensors)
    padded = _padded(pixels, kernel.pad_top, kernel.pad_left, size, kernel.pad_value)
    sums = np.zeros((out.height, out.width, out.channels), np.int64)
    for ky in range(kernel_height):
        for kx in range(kernel_width):
            y, x = ky * kernel.dilation[0], kx * kernel.dilation[1]
            taps = _windows(padded, y, x, kernel.stride, out).astype(np.int64)
            sums += taps * kernel.weights[ky, kx]
    return out.tensor, _requantized(sums + kernel.bias, kernel.requantization)


def _transpose_conv(kernel: TransposeConvKernel, tensors: Mapping[str, Int8]) -> tuple[str, Int8]:
    out, image = kernel.output, kernel.input
    pixels = _pixels(image, tensors).astype(np.int64) - kernel.pad_value
    _, kernel_height, kernel_width, _ = kernel.weights.shape
    # Every contribution, then the part that is the output.
    size = (
        max((image.height - 1) * kernel.stride[0] + kernel_height, kernel.pad_top + out.height),
        max((image.width - 1) * kernel.stride[1] + kernel_width, kernel.pad_left + out.width),
    )
    sums = np.zeros((*size, out.channels), np.int64)
    for ky in range(kernel_height):
        for kx in range(kernel_width):
            part = _windows(sums, ky, kx, kernel.stride, image)
            part += pixels @ kernel.weights[:, ky, kx].T.astype(np.int64)
    rows = slice(kernel.pad_top, kernel.pad_top + out.height)
    cols = slice(kernel.pad_left, kernel.pad_left + out.width)
    return out.tensor, _requantized(sums[rows, cols] + kernel.bias, kernel.requantization)


@cache
def _multipliers(limit: int) -> NDArray[np.int64]:
    return np.array([0, *map(numerics.average_multiplier, range(1, limit + 1))], np.int64)


def _average_pool(kernel: AveragePoolKernel, tensors: Mapping[str, Int8]) -> tuple[str, Int8]:
    out = kernel.output
    size = (
        (out.height - 1) * kernel.stride[0] + kernel.window[0],
        (out.width - 1) * kernel.stride[1] + kernel.window[1],
    )
    pixels = _pixels(kernel.input, tensors).astype(np.int64)
    padded = _padded(pixels, kernel.pad_top, kernel.pad_left, size, 0)
    inside = _padded(np.ones_like(pixels), kernel.pad_top, kernel.pad_left, size, 0)
    sums, counts = np.zeros((2, out.height, out.width, out.channels), np.int64)
    for ky in range(kernel.window[0]):
        for kx in range(kernel.window[1]):
            sums += _windows(padded, ky, kx, kernel.stride, out)
            counts += _windows(inside, ky, kx, kernel.stride, out)
    means = numerics.average(sums, _multipliers(int(counts.max()))[counts])
    return out.tensor, np.clip(means, kernel.low, kernel.high).astype(np.int8)


def _add(kernel: AddKernel, tensors: Mapping[str, Int8]) -> tuple[str, Int8]:
    a, b = _pixels(kernel.a, tensors), _pixels(kernel.b, tensors)
    return kernel.output.tensor, numerics.add(a, b, **kernel.parameters).astype(np.int8)


def _max_pool(kernel: MaxPoolKernel, tensors: Mapping[str, Int8]) -> tuple[str, Int8]:
    out = kernel.output
    size = (
        (out.height - 1) * kernel.stride[0] + kernel.window[0],
        (out.width - 1) * kernel.stride[1] + kernel.window[1],
    )
    pixels = _pixels(kernel.input, tensors)
    padded = _padded(pixels, kernel.pad_top, kernel.pad_left, size, -128)
    taps = [
        _windows(padded, ky, kx, kernel.stride, out)
        for ky in range(kernel.window[0])
        for kx in range(kernel.window[1])
    ]
    return out.tensor, np.clip(np.max(taps, axis=0), kernel.low, kernel.high).astype(np.int8)


def _mean(kernel: MeanKernel, tensors: Mapping[str, Int8]) -> tuple[str, Int8]:
    sums = _pixels(kernel.input, tensors).astype(np.int64).sum(axis=(0, 1))
    return kernel.output.tensor, _requantized(sums + kernel.bias, kernel.requantization)


def _mul(kernel: MulKernel, tensors: Mapping[str, Int8]) -> tuple[str, Int8]:
    a, b = _pixels(kernel.a, tensors), _pixels(kernel.b, tensors)
    return kernel.output.tensor, numerics.mul(a, b, **kernel.parameters).astype(np.int8)


def _table(kernel: TableKernel, tensors: Mapping[str, Int8]) -> tuple[str, Int8]:
    return kernel.output.tensor, kernel.table[_pixels(kernel.input, tensors).view(np.uint8)]


def _pad(kernel: PadKernel, tensors: Mapping[str, Int8]) -> tuple[str, Int8]:
    source, out = kernel.input, kernel.output
    result = np.full((out.height, out.width, out.channels), kernel.value, np.int8)
    result[
        kernel.top : kernel.top + source.height,
        kernel.left : kernel.left + source.width,
        kernel.front : kernel.front + source.channels,
    ] = _pixels(source, tensors)
    return out.tensor, result


def _slice(kernel: SliceKernel, tensors: Mapping[str, Int8]) -> tuple[str, Int8]:
    out, (y, x, c) = kernel.output, kernel.start
    rows = slice(y, y + (out.height - 1) * kernel.step[0] + 1, kernel.step[0])
    cols = slice(x, x + (out.width - 1) * kernel.step[1] + 1, kernel.step[1])
    return out.tensor, _pixels(kernel.input, tensors)[rows, cols, c : c + out.channels]


def _concat(kernel: ConcatKernel, tensors: Mapping[str, Int8]) -> tuple[str, Int8]:
    parts = [_pixels(image, tensors) for image in kernel.inputs]
    return kernel.output.tensor, np.concatenate(parts, axis=kernel.axis)


def _resize(kernel: ResizeKernel, tensors: Mapping[str, Int8]) -> tuple[str, Int8]:
    pixels = _pixels(kernel.input, tensors)
    return kernel.output.tensor, pixels[list(kernel.rows)][:, list(kernel.cols)]


def _view(kernel: ViewKernel, tensors: Mapping[str, Int8]) -> tuple[str, Int8]:
    return kernel.output, tensors[kernel.input]


def _host(kernel: HostKernel, tensors: Mapping[str, Int8]) -> tuple[str, Int8]:
    if kernel.op != "softmax":
        raise ValueError(f"Host operator must be softmax, not {kernel.op}")
    return kernel.outputs[0], softmax.softmax(tensors[kernel.inputs[0]], kernel.attributes)


_EVALUATORS: Mapping[type[Kernel], Callable[[Any, Mapping[str, Int8]], tuple[str, Int8]]] = {
    AddKernel: _add,
    AveragePoolKernel: _average_pool,
    ConcatKernel: _concat,
    ConvKernel: _conv,
    DepthwiseKernel: _depthwise,
    HostKernel: _host,
    MaxPoolKernel: _max_pool,
    MeanKernel: _mean,
    MulKernel: _mul,
    PadKernel: _pad,
    ResizeKernel: _resize,
    SliceKernel: _slice,
    TableKernel: _table,
    TransposeConvKernel: _transpose_conv,
    ViewKernel: _view,
}
