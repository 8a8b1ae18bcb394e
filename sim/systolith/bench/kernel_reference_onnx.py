"""Evaluate the kernels of ONNX models in plain NumPy: what each means, with no machine behind it.

As `kernel_reference`, for the kernels and roundings that `legalize_onnx` uses. Layers can be
evaluated one by one on the reference runtime's own tensors.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.arch import edges, float32, numerics
from systolith.arch.isa import Rounding
from systolith.compiler.ir import (
    ConcatKernel,
    ConvKernel,
    DepthwiseKernel,
    HostKernel,
    Image,
    Kernel,
    KernelGraph,
    MaxPoolKernel,
    MeanKernel,
    PadKernel,
    Requantization,
    ResizeKernel,
    TableKernel,
    ViewKernel,
)
from systolith.compiler.kernels_onnx import (
    ProductKernel,
    SumKernel,
    SummedConvKernel,
    SummedDepthwiseKernel,
)

Tensors = dict[str, NDArray[Any]]
Result = tuple[str, NDArray[Any]]


def run(graph: KernelGraph, inputs: Mapping[str, NDArray[Any]]) -> Tensors:
    """Return every tensor of one inference by name; inputs as in the model, without samples."""
    tensors = {name: np.asarray(inputs[name]) for name in graph.inputs}
    for kernel in graph.kernels:
        evaluate(kernel, graph, tensors)
    return tensors


def evaluate(kernel: Kernel, graph: KernelGraph, tensors: Tensors) -> None:
    """Add the result of one kernel to the tensors."""
    name, values = _EVALUATORS[type(kernel)](kernel, tensors)
    tensors[name] = values.reshape(graph.tensors[name].shape)


def _pixels(image: Image, tensors: Tensors) -> NDArray[Any]:
    return tensors[image.tensor].reshape(image.height, image.width, image.channels)


def _windows(
    kernel: Any, size: tuple[int, int], tensors: Tensors, filling: int, dilation: tuple[int, int]
) -> NDArray[np.int64]:
    """Return the windows of an image, `[rows, columns, ky, kx, channels]`, outside it `filling`."""
    pixels, out = _pixels(kernel.input, tensors).astype(np.int64), kernel.output
    ys = np.arange(out.height)[:, None] * kernel.stride[0] - kernel.pad_top
    xs = np.arange(out.width)[:, None] * kernel.stride[1] - kernel.pad_left
    ys, xs = ys + np.arange(size[0]) * dilation[0], xs + np.arange(size[1]) * dilation[1]
    taken = pixels[
        np.clip(ys, 0, kernel.input.height - 1)[:, None, :, None],
        np.clip(xs, 0, kernel.input.width - 1)[None, :, None, :],
    ]
    inside = ((ys >= 0) & (ys < kernel.input.height))[:, None, :, None]
    inside = inside & ((xs >= 0) & (xs < kernel.input.width))[None, :, None, :]
    return np.where(inside[..., None], taken, filling)


def _requantize(item: Requantization, sums: NDArray[np.int64]) -> NDArray[np.int8]:
    if item.rounding == Rounding.FLOAT32:
        scaled = float32.scale(sums, item.multipliers)
    else:
        scaled = numerics.requantize(sums, item.multipliers, item.shifts, item.rounding)
    scaled = scaled + item.zero_point
    result: NDArray[np.int8] = np.clip(scaled, item.low, item.high).astype(np.int8)
    return result


def _weights(
    kernel: ConvKernel | DepthwiseKernel | SummedConvKernel | SummedDepthwiseKernel,
) -> NDArray[np.int64]:
    if isinstance(kernel, ConvKernel | DepthwiseKernel):
        return kernel.weights.astype(np.int64)
    terms = (kernel.conv.weights, *kernel.extra_weights)
    total: NDArray[np.int64] = np.sum([term.astype(np.int64) for term in terms], axis=0)
    return total


def _conv(kernel: ConvKernel | SummedConvKernel, tensors: Tensors) -> Result:
    weights = _weights(kernel).astype(np.float64)
    kernel = kernel.conv if isinstance(kernel, SummedConvKernel) else kernel
    windows = _windows(kernel, weights.shape[1:3], tensors, kernel.pad_value, kernel.dilation)
    # Sums of products of bytes are exact in float64, whose matrix product is the fast one.
    flat = windows.reshape(kernel.output.height, kernel.output.width, -1).astype(np.float64)
    sums = (flat @ weights.reshape(len(weights), -1).T).astype(np.int64)
    total = numerics.wrap_int32(sums + kernel.bias)
    return kernel.output.tensor, _requantize(kernel.requantization, total)


def _depthwise(kernel: DepthwiseKernel | SummedDepthwiseKernel, tensors: Tensors) -> Result:
    weights = _weights(kernel)
    kernel = kernel.conv if isinstance(kernel, SummedDepthwiseKernel) else kernel
    windows = _windows(kernel, weights.shape[:2], tensors, kernel.pad_value, kernel.dilation)
    total = numerics.wrap_int32((windows * weights).sum(axis=(2, 3)) + kernel.bias)
    return kernel.output.tensor, _requantize(kernel.requantization, total)


def _max_pool(kernel: MaxPoolKernel, tensors: Tensors) -> Result:
    windows = _windows(kernel, kernel.window, tensors, np.iinfo(np.int8).min, (1, 1))
    best = windows.max(axis=(2, 3))
    return kernel.output.tensor, np.clip(best, kernel.low, kernel.high).astype(np.int8)


def _mean(kernel: MeanKernel, tensors: Tensors) -> Result:
    sums = _pixels(kernel.input, tensors).sum(axis=(0, 1), dtype=np.int64) + kernel.bias
    return kernel.output.tensor, _requantize(kernel.requantization, numerics.wrap_int32(sums))


def _table(kernel: TableKernel, tensors: Tensors) -> Result:
    return kernel.output.tensor, kernel.table[tensors[kernel.input.tensor].view(np.uint8)]


def _pad(kernel: PadKernel, tensors: Tensors) -> Result:
    out, given = kernel.output, kernel.input
    result = np.full((out.height, out.width, out.channels), kernel.value, np.int8)
    rows = slice(kernel.top, kernel.top + given.height)
    cols = slice(kernel.left, kernel.left + given.width)
    result[rows, cols, kernel.front : kernel.front + given.channels] = _pixels(given, tensors)
    return out.tensor, result


def _concat(kernel: ConcatKernel, tensors: Tensors) -> Result:
    parts = [_pixels(image, tensors) for image in kernel.inputs]
    return kernel.output.tensor, np.concatenate(parts, axis=kernel.axis)


def _resize(kernel: ResizeKernel, tensors: Tensors) -> Result:
    pixels = _pixels(kernel.input, tensors)
    return kernel.output.tensor, pixels[np.array(kernel.rows)][:, np.array(kernel.cols)]


def _sum(kernel: SumKernel, tensors: Tensors) -> Result:
    a, b = _pixels(kernel.a, tensors), _pixels(kernel.b, tensors)
    return kernel.output.tensor, float32.add(a, b, **kernel.parameters).astype(np.int8)


def _product(kernel: ProductKernel, tensors: Tensors) -> Result:
    a, b = _pixels(kernel.a, tensors), _pixels(kernel.b, tensors)
    return kernel.output.tensor, float32.mul(a, b, **kernel.parameters).astype(np.int8)


def _view(kernel: ViewKernel, tensors: Tensors) -> Result:
    return kernel.output, tensors[kernel.input]


def _host(kernel: HostKernel, tensors: Tensors) -> Result:
    values = tensors[kernel.inputs[0]]
    if kernel.op == "rearrange":
        return kernel.outputs[0], edges.rearrange(values, kernel.attributes)
    if kernel.op == "average_pool_float32":
        return kernel.outputs[0], float32.average_pool(values, kernel.attributes)
    if kernel.op != "softmax_float32":
        raise ValueError(f"Host operator must be one of ONNX models, not {kernel.op}")
    return kernel.outputs[0], float32.softmax(values, kernel.attributes)


_EVALUATORS: Mapping[type[Kernel], Callable[[Any, Tensors], Result]] = {
    ConcatKernel: _concat,
    ConvKernel: _conv,
    DepthwiseKernel: _depthwise,
    HostKernel: _host,
    MaxPoolKernel: _max_pool,
    MeanKernel: _mean,
    PadKernel: _pad,
    ProductKernel: _product,
    ResizeKernel: _resize,
    SumKernel: _sum,
    SummedConvKernel: _conv,
    SummedDepthwiseKernel: _depthwise,
    TableKernel: _table,
    ViewKernel: _view,
}
