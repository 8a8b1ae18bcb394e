"""From a kernel graph to a program: fuse, partition into segments, and compile each."""

from collections.abc import Iterator

from systolith.arch.config import AcceleratorConfig
from systolith.arch.program import AcceleratorSegment, HostSegment, Layer, Program

from .fuse import fuse_residuals
from .ir import HostKernel, ImageKernel, Kernel, KernelGraph, ViewKernel
from .segment import SegmentBuilder
from .tensors import tensor_info


def lower(graph: KernelGraph, config: AcceleratorConfig, *, keep_tensors: bool = False) -> Program:
    """Compile a kernel graph.

    Parameters
    ----------
    graph : KernelGraph
        Legalized model.
    config : AcceleratorConfig
        Machine to compile for.
    keep_tensors : bool
        Store every tensor, not only the outputs; nothing is fused, so that every tensor exists.

    Raises
    ------
    AllocationError
        A tensor or a weight tile does not fit the machine.
    """
    kernels = graph.kernels if keep_tensors else fuse_residuals(graph.kernels, graph.outputs)
    constants = bytearray()
    segments: list[AcceleratorSegment | HostSegment] = []
    for start, part in _partition(kernels):
        if isinstance(part, HostKernel):
            segments.append(
                HostSegment(
                    op=part.op,
                    inputs=part.inputs,
                    outputs=part.outputs,
                    attributes=part.attributes,
                    layer=part.layer,
                )
            )
        else:
            later = _later_uses(kernels[start + len(part) :], graph, keep_tensors)
            builder = SegmentBuilder(config, graph, part, later, constants)
            segments.append(builder.build())
    names = {*graph.inputs, *graph.outputs}
    for segment in segments:
        if isinstance(segment, HostSegment):
            names.update((*segment.inputs, *segment.outputs))
        else:
            names.update(binding.tensor for binding in (*segment.inputs, *segment.outputs))
    host = {kernel.layer for kernel in kernels if isinstance(kernel, HostKernel)}
    return Program(
        config=config,
        model=graph.name,
        reference=graph.reference,
        inputs=graph.inputs,
        outputs=graph.outputs,
        tensors={name: tensor_info(graph.tensors[name]) for name in sorted(names)},
        segments=tuple(segments),
        constants=bytes(constants),
        layers=tuple(
            Layer(name=name, op=op, target="cpu" if index in host else "npu", macs=macs)
            for index, (name, op, macs) in enumerate(graph.layers)
        ),
    )


def _partition(
    kernels: tuple[Kernel, ...],
) -> Iterator[tuple[int, tuple[Kernel, ...] | HostKernel]]:
    """Yield (position, run of accelerator kernels or one host kernel) in order."""
    start = 0
    for position, kernel in enumerate((*kernels, None)):
        if kernel is None or isinstance(kernel, HostKernel):
            if position > start:
                yield start, kernels[start:position]
            if kernel is not None:
                yield position, kernel
            start = position + 1


def _later_uses(kernels: tuple[Kernel, ...], graph: KernelGraph, keep: bool) -> set[str]:
    """Return the names that something after a segment reads; all of them if tensors are kept."""
    names = set(graph.outputs)
    for kernel in kernels:
        if isinstance(kernel, HostKernel):
            names.update(kernel.inputs)
        elif isinstance(kernel, ViewKernel):
            names.add(kernel.input)
        elif isinstance(kernel, ImageKernel):
            names.update(image.tensor for image in kernel.reads)
    return names | set(graph.tensors) if keep else names
