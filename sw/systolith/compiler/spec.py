"""What holds between the stages of the compiler, as a table of checks that run.

A `Graph` comes from a file, so that a violation is the file's error; a `KernelGraph` is our own
work, so that a violation is a defect of the compiler.
"""

import math
from collections.abc import Iterator
from functools import singledispatch

import numpy as np

from systolith.arch.errors import ModelFormatError
from systolith.arch.isa import Rounding
from systolith.arch.numerics import INT32_MAX, INT32_MIN
from systolith.compiler.geometry import INT8_MAX, INT8_MIN
from systolith.compiler.ir import (
    AddKernel,
    AveragePoolKernel,
    ConvKernel,
    Graph,
    HostKernel,
    Image,
    Kernel,
    KernelGraph,
    Requantization,
    ViewKernel,
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
    if isinstance(kernel, AddKernel):
        return kernel.a, kernel.b, kernel.output
    if isinstance(kernel, ConvKernel | AveragePoolKernel):
        return kernel.input, kernel.output
    return ()


def _tensors(kernel: Kernel) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the tensors that a kernel reads and writes."""
    if isinstance(kernel, HostKernel):
        return kernel.inputs, kernel.outputs
    if isinstance(kernel, ViewKernel):
        return (kernel.input,), (kernel.output,)
    *inputs, output = _images(kernel)
    return tuple(image.tensor for image in inputs), (output.tensor,)


def _arithmetic_violations(kernel: Kernel) -> Iterator[str]:
    if isinstance(kernel, AveragePoolKernel) and not _is_int8_range(kernel.low, kernel.high):
        yield f"clamps to {kernel.low}..{kernel.high}"
    if not isinstance(kernel, ConvKernel):
        return
    out_channels, _, _, in_channels = kernel.weights.shape
    if (in_channels, out_channels) != (kernel.input.channels, kernel.output.channels):
        yield f"has weights of shape {kernel.weights.shape}"
    if kernel.weights.dtype != np.int8 or kernel.bias.shape != (out_channels,):
        yield "has weights or biases of the wrong form"
    if kernel.bias.min() < INT32_MIN or kernel.bias.max() > INT32_MAX:
        yield "has a bias beyond int32"
    if not INT8_MIN <= kernel.pad_value <= INT8_MAX:
        yield f"pads with {kernel.pad_value}"
    yield from _requantization_violations(kernel.requantization, out_channels)


def _requantization_violations(item: Requantization, channels: int) -> Iterator[str]:
    if item.multipliers.shape != (channels,) or item.shifts.shape != (channels,):
        yield "has not one multiplier and shift for each channel"
    if item.multipliers.min() < 0 or item.multipliers.max() > INT32_MAX:
        yield "has a multiplier beyond Q31"
    if item.shifts.min() < SHIFT_MIN or item.shifts.max() > SHIFT_MAX:
        yield "has an illegal shift"
    if not _is_int8_range(item.low, item.high):
        yield f"clamps to {item.low}..{item.high}"
    if item.rounding not in (Rounding.DOUBLE, Rounding.SINGLE):
        yield f"rounds by {item.rounding.name}"


def _is_int8_range(low: int, high: int) -> bool:
    return INT8_MIN <= low <= high <= INT8_MAX
