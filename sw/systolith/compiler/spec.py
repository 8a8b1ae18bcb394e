"""What holds between the stages of the compiler, as a table of checks that run.

A `Graph` comes from a file, so that a violation is the file's error; a `KernelGraph` is our own
work, so that a violation is a defect of the compiler.
"""

import math
from collections.abc import Iterator, Mapping
from functools import singledispatch

import numpy as np

from systolith.arch import float32, isa
from systolith.arch.errors import ModelFormatError
from systolith.arch.isa import Rounding
from systolith.arch.numerics import INT32_MAX, INT32_MIN
from systolith.compiler.geometry import INT8_MAX, INT8_MIN
from systolith.compiler.ir import (
    AddKernel,
    AveragePoolKernel,
    ConcatKernel,
    ConvKernel,
    DepthwiseKernel,
    Graph,
    HostKernel,
    Image,
    ImageKernel,
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
from systolith.compiler.kernels_onnx import (
    ProductKernel,
    SumKernel,
    SummedKernel,
)

SHIFT_MIN, SHIFT_MAX = -31, 30
"""Legal binary exponents of a requantization."""


@singledispatch
def verify(graph: Graph | KernelGraph) -> None:
    """Check the invariants of a graph's form.

    Raises
    ------
    ModelFormatError
        A `Graph` breaks one.
    AssertionError
        A `KernelGraph` breaks one, which is a defect of the compiler.
    """
    raise TypeError(f"Graph must be Graph or KernelGraph, not {type(graph).__name__}")


@verify.register
def _(graph: Graph) -> None:
    for violation in violations(graph):
        raise ModelFormatError(f'Model "{graph.name}" {violation}')


@verify.register
def _(graph: KernelGraph) -> None:
    broken = list(_kernel_violations(graph))
    assert not broken, "; ".join(broken)


def violations(graph: Graph) -> Iterator[str]:
    """Yield what is wrong with a model graph, each text continuing a sentence about the model."""
    for name, tensor in graph.tensors.items():
        if tensor.name != name or len(tensor.scales) != len(tensor.zero_points):
            yield f'must have a consistent entry for tensor "{name}"'
    used = {*graph.inputs, *graph.outputs}
    for operator in graph.operators:
        used.update(operator.outputs, (n for n in operator.inputs if n is not None))
    for name in sorted(used - set(graph.tensors)):
        yield f'must have the tensor "{name}"'
    if not used <= set(graph.tensors):
        return
    constants = {name for name, tensor in graph.tensors.items() if tensor.data is not None}
    made = {*graph.inputs}
    for name in sorted(made & constants):
        yield f'must not give input "{name}" a constant value'
    for operator in graph.operators:
        where = f"operator {operator.index} ({operator.kind})"
        for read in operator.inputs:
            if read is not None and read not in made | constants:
                yield f'must make tensor "{read}" before {where} reads it'
        for name in operator.outputs:
            if name in made | constants:
                yield f'must write tensor "{name}" once only, but {where} writes it again'
            made.add(name)
    for name in graph.outputs:
        if name not in made | constants:
            yield f'must make its output "{name}" in an operator'


def _kernel_violations(graph: KernelGraph) -> Iterator[str]:
    sizes = {name: math.prod(tensor.shape) for name, tensor in graph.tensors.items()}
    made = {*graph.inputs}
    for kernel in graph.kernels:
        where = f"{type(kernel).__name__} of layer {kernel.layer}"
        if not 0 <= kernel.layer < len(graph.layers):
            yield f"{where} must name one of {len(graph.layers)} layers"
        for image in _images(kernel):
            if image.nbytes != sizes.get(image.tensor):
                yield f'{where} sees {image.nbytes} bytes in tensor "{image.tensor}"'
        reads, writes = _tensors(kernel)
        for name in reads:
            if name not in made:
                yield f'{where} reads tensor "{name}" before it is made'
        for name in writes:
            if name in made or name not in sizes:
                yield f'{where} writes tensor "{name}", which is unknown or made already'
            made.add(name)
        yield from (f"{where} {text}" for text in _arithmetic_violations(kernel))
    for name in graph.outputs:
        if name not in made:
            yield f'output "{name}" is never made'


def _images(kernel: Kernel) -> tuple[Image, ...]:
    return (*kernel.reads, kernel.output) if isinstance(kernel, ImageKernel) else ()


def _tensors(kernel: Kernel) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the tensors that a kernel reads and writes."""
    if isinstance(kernel, HostKernel):
        return kernel.inputs, kernel.outputs
    if isinstance(kernel, ViewKernel):
        return (kernel.input,), (kernel.output,)
    *inputs, output = _images(kernel)
    return tuple(image.tensor for image in inputs), (output.tensor,)


def _arithmetic_violations(kernel: Kernel) -> Iterator[str]:
    match kernel:
        case AveragePoolKernel() | MaxPoolKernel():
            if not _is_int8_range(kernel.low, kernel.high):
                yield f"clamps to {kernel.low}..{kernel.high}"
        case ConvKernel() | TransposeConvKernel():
            out_channels, _, _, in_channels = kernel.weights.shape
            if (in_channels, out_channels) != (kernel.input.channels, kernel.output.channels):
                yield f"has weights of shape {kernel.weights.shape}"
            yield from _weights_violations(kernel, out_channels)
        case DepthwiseKernel():
            channels = kernel.weights.shape[2]
            if not channels == kernel.input.channels == kernel.output.channels:
                yield f"has weights of shape {kernel.weights.shape}"
            yield from _weights_violations(kernel, channels)
        case MeanKernel():
            yield from _requantization_violations(kernel.requantization, kernel.output.channels)
        case TableKernel():
            if kernel.table.shape != (256,) or kernel.table.dtype != np.int8:
                yield "has a table of the wrong form"
        case AddKernel() | MulKernel():
            if not kernel.a.nbytes == kernel.b.nbytes == kernel.output.nbytes:
                yield "has operands of different sizes"
            yield from _field_violations(kernel.parameters)
        case SumKernel() | ProductKernel():
            if not kernel.a.nbytes == kernel.b.nbytes == kernel.output.nbytes:
                yield "has operands of different sizes"
            right = float32.SHIFT_OFFSET - kernel.parameters["out_shift"]
            if not 0 <= right <= float32.MAX_SHIFT:
                yield f"shifts by {right}"
        case SummedKernel():
            yield from _arithmetic_violations(kernel.conv)
            for term in kernel.extra_weights:
                if term.shape != kernel.conv.weights.shape or term.dtype != np.int8:
                    yield f"adds weights of shape {term.shape}"
        case PadKernel() | SliceKernel() | ConcatKernel() | ResizeKernel():
            yield from _move_violations(kernel)


def _weights_violations(
    kernel: ConvKernel | TransposeConvKernel | DepthwiseKernel, channels: int
) -> Iterator[str]:
    if kernel.weights.dtype != np.int8 or kernel.bias.shape != (channels,):
        yield "has weights or biases of the wrong form"
    if kernel.bias.min() < INT32_MIN or kernel.bias.max() > INT32_MAX:
        yield "has a bias beyond int32"
    if not INT8_MIN <= kernel.pad_value <= INT8_MAX:
        yield f"pads with {kernel.pad_value}"
    yield from _requantization_violations(kernel.requantization, channels)


def _field_violations(parameters: Mapping[str, int]) -> Iterator[str]:
    """Yield which parameters do not fit the fields of `ELEMENTWISE`."""
    fields = isa.Elementwise.__dataclass_fields__
    for name, value in parameters.items():
        low, high = isa.field_range(fields[name].metadata)
        if name.endswith("_shift") and name != "left_shift":
            high = 0
        if not low <= value <= high:
            yield f"has {name} {value}"


def _move_violations(
    kernel: PadKernel | SliceKernel | ConcatKernel | ResizeKernel,
) -> Iterator[str]:
    output = _size(kernel.output)
    match kernel:
        case PadKernel():
            before = (kernel.top, kernel.left, kernel.front)
            ends = [first + size for first, size in zip(before, _size(kernel.input), strict=True)]
            if min(before) < 0 or any(end > size for end, size in zip(ends, output, strict=True)):
                yield f"puts {_size(kernel.input)} at {before} into {output}"
            if not INT8_MIN <= kernel.value <= INT8_MAX:
                yield f"pads with {kernel.value}"
        case SliceKernel():
            steps = (*kernel.step, 1)
            parts = zip(kernel.start, steps, output, _size(kernel.input), strict=True)
            for start, step, count, size in parts:
                if start < 0 or step < 1 or start + (count - 1) * step >= size:
                    yield f"takes {count} from {start} on by {step} of {size}"
        case ConcatKernel():
            sizes = [_size(image) for image in kernel.inputs]
            for axis in range(3):
                parts_of_axis = [size[axis] for size in sizes]
                whole = sum(parts_of_axis) if axis == kernel.axis else parts_of_axis[0]
                alike = axis == kernel.axis or len(set(parts_of_axis)) == 1
                if not alike or whole != output[axis]:
                    yield f"joins {sizes} to {output} along axis {kernel.axis}"
        case ResizeKernel():
            counts = (len(kernel.rows), len(kernel.cols), kernel.input.channels)
            fits = max(kernel.rows) < kernel.input.height and max(kernel.cols) < kernel.input.width
            if counts != output or not fits or min(*kernel.rows, *kernel.cols) < 0:
                yield f"takes {counts} of {_size(kernel.input)} for {output}"


def _size(image: Image) -> tuple[int, int, int]:
    return image.height, image.width, image.channels


def _requantization_violations(item: Requantization, channels: int) -> Iterator[str]:
    if item.multipliers.shape != (channels,) or item.shifts.shape != (channels,):
        yield "has not one multiplier and shift for each channel"
    if item.multipliers.min() < 0 or item.multipliers.max() > INT32_MAX:
        yield "has a multiplier beyond Q31"
    if item.shifts.min() < SHIFT_MIN or item.shifts.max() > SHIFT_MAX:
        yield "has an illegal shift"
    if not _is_int8_range(item.low, item.high):
        yield f"clamps to {item.low}..{item.high}"
    if item.rounding == Rounding.AVERAGE:
        yield f"rounds by {item.rounding.name}"


def _is_int8_range(low: int, high: int) -> bool:
    return INT8_MIN <= low <= high <= INT8_MAX
