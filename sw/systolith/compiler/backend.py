"""From a kernel graph to a program: fuse, partition, allocate, lower, schedule, emit, check."""

from collections.abc import Iterator
from dataclasses import dataclass

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig, ceil_div
from systolith.arch.program import (
    AcceleratorSegment,
    Binding,
    HostSegment,
    Layer,
    Program,
    Region,
    TensorInfo,
)

from . import race
from .allocate import Lifetime, place
from .emit import Emitter
from .fuse import ResidualConvKernel, fuse_residuals
from .ir import (
    AddKernel,
    AveragePoolKernel,
    ConvKernel,
    HostKernel,
    Image,
    Kernel,
    KernelGraph,
    Tensor,
    ViewKernel,
)
from .lower import Context, drop_repeated_setups, lower_kernel
from .schedule import Scheduler
from .tile import Item, Placement

_INPUT_PIECES = 4
"""Loads that bring an input: the first tile may start on the first one."""

_BINDING_ALIGNMENT = 64
"""Bytes that tensors in DRAM are aligned to: a beat of the widest bus."""


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
            builder = _SegmentBuilder(config, graph, part, later, constants)
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
        tensors={name: _info(graph.tensors[name]) for name in sorted(names)},
        segments=tuple(segments),
        constants=bytes(constants),
        layers=tuple(
            Layer(name=name, op=op, target="cpu" if index in host else "npu", macs=macs)
            for index, (name, op, macs) in enumerate(graph.layers)
        ),
    )


def _info(tensor: Tensor) -> TensorInfo:
    return TensorInfo(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        scale=tensor.scale if tensor.scales else 1.0,
        zero_point=tensor.zero_point if tensor.zero_points else 0,
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


def _images(kernel: Kernel) -> tuple[list[Image], Image]:
    """Return the images that a kernel reads, and the one that it writes."""
    match kernel:
        case ConvKernel() | AveragePoolKernel():
            return [kernel.input], kernel.output
        case ResidualConvKernel():
            return [kernel.conv.input, kernel.residual], kernel.output
        case AddKernel():
            return [kernel.a, kernel.b], kernel.output
    raise TypeError(f"Kernel must be one that the accelerator executes, not {kernel!r}")


def _roots(kernels: tuple[Kernel, ...]) -> dict[str, str]:
    """Map the result of each view to the tensor whose bytes it names."""
    roots: dict[str, str] = {}
    for kernel in kernels:
        if isinstance(kernel, ViewKernel):
            roots[kernel.output] = roots.get(kernel.input, kernel.input)
    return roots


def _later_uses(kernels: tuple[Kernel, ...], graph: KernelGraph, keep: bool) -> set[str]:
    """Return the names that something after a segment reads; all of them if tensors are kept."""
    names = set(graph.outputs)
    for kernel in kernels:
        if isinstance(kernel, HostKernel):
            names.update(kernel.inputs)
        elif isinstance(kernel, ViewKernel):
            names.add(kernel.input)
        else:
            names.update(image.tensor for image in _images(kernel)[0])
    return names | set(graph.tensors) if keep else names


@dataclass(eq=False)
class _SegmentBuilder:
    """Compiles one run of accelerator kernels."""

    config: AcceleratorConfig
    graph: KernelGraph
    kernels: tuple[Kernel, ...]
    later: set[str]
    constants: bytearray

    def __post_init__(self) -> None:
        self._roots = _roots(self.kernels)

    def build(self) -> AcceleratorSegment:
        """Return the segment; its code is proved free of races."""
        made = self._made()
        inputs = self._inputs(made)
        outputs = [name for name in made if name in self.later]
        input_bindings, input_bytes = self._bind(inputs)
        output_bindings, output_bytes = self._bind(outputs)
        addresses = place(self._lifetimes(inputs), self.config)
        emitter = Emitter(self.config)
        scheduler = Scheduler(self.config, self.constants)
        items = list(drop_repeated_setups(self._items(addresses, output_bindings)))
        for instruction, layer in scheduler.order(items, self._preload(addresses, input_bindings)):
            emitter.emit(instruction, layer)
        emitter.emit(isa.Halt(), -1)
        code = emitter.to_bytes()
        race.check(code, self.config)
        return AcceleratorSegment(
            code=code,
            inputs=input_bindings,
            outputs=output_bindings,
            input_bytes=input_bytes,
            output_bytes=output_bytes,
            arena_bytes=0,
            layer_of=tuple(emitter.layers),
        )

    def _root(self, name: str) -> str:
        return self._roots.get(name, name)

    def _made(self) -> dict[str, int]:
        """Map each tensor that the segment makes (views included) to the kernel that makes it."""
        made: dict[str, int] = {}
        for position, kernel in enumerate(self.kernels):
            name = kernel.output if isinstance(kernel, ViewKernel) else _images(kernel)[1].tensor
            made[name] = position
        return made

    def _read(self, kernel: Kernel) -> list[str]:
        if isinstance(kernel, ViewKernel):
            return [kernel.input]
        return [image.tensor for image in _images(kernel)[0]]

    def _inputs(self, made: dict[str, int]) -> list[str]:
        """Return the tensors that come from outside, in order of first use, views resolved."""
        roots = {self._root(name) for name in made}
        names: dict[str, None] = {}
        for kernel in self.kernels:
            for name in self._read(kernel):
                if self._root(name) not in roots and name not in made:
                    names[self._root(name)] = None
        for name in made:
            if self._root(name) not in made:
                names[self._root(name)] = None
        return list(names)

    def _bind(self, names: list[str]) -> tuple[tuple[Binding, ...], int]:
        bindings, offset = [], 0
        for name in names:
            bindings.append(Binding(tensor=name, offset=offset))
            size = _info(self.graph.tensors[name]).nbytes
            offset += ceil_div(size, _BINDING_ALIGNMENT) * _BINDING_ALIGNMENT
        return tuple(bindings), offset

    def _lifetimes(self, inputs: list[str]) -> list[Lifetime]:
        first = dict.fromkeys(inputs, 0)
        last = dict(first)
        for position, kernel in enumerate(self.kernels):
            for name in self._read(kernel):
                last[self._root(name)] = position
            if not isinstance(kernel, ViewKernel):
                name = _images(kernel)[1].tensor
                first[name] = last[name] = position
            else:
                last[self._root(kernel.output)] = position
        return [
            Lifetime(
                tensor=name,
                nbytes=_info(self.graph.tensors[name]).nbytes,
                first=first[name],
                last=last[name],
            )
            for name in first
        ]

    def _items(self, addresses: dict[str, int], outputs: tuple[Binding, ...]) -> Iterator[Item]:
        def locate(image: Image) -> Placement:
            return Placement(
                address=addresses[self._root(image.tensor)],
                pixel=image.channels,
                line=image.width * image.channels,
            )

        context = Context(config=self.config, place=locate)
        offsets = {binding.tensor: binding.offset for binding in outputs}
        for kernel in self.kernels:
            if isinstance(kernel, ViewKernel):
                name = kernel.output
            else:
                yield from lower_kernel(kernel, context)
                name = _images(kernel)[1].tensor
            if name in offsets:
                size = _info(self.graph.tensors[name]).nbytes
                store = isa.Store(
                    region=Region.OUTPUT,
                    offset=offsets[name],
                    run=size,
                    total=size,
                    addr=addresses[self._root(name)],
                    segment=size,
                )
                yield Item(instruction=store, layer=kernel.layer)

    def _preload(self, addresses: dict[str, int], inputs: tuple[Binding, ...]) -> Iterator[Item]:
        """Yield the loads of the inputs, cut into pieces."""
        for binding in inputs:
            size = _info(self.graph.tensors[binding.tensor]).nbytes
            piece = ceil_div(ceil_div(size, _INPUT_PIECES), _BINDING_ALIGNMENT) * _BINDING_ALIGNMENT
            for start in range(0, size, piece):
                count = min(piece, size - start)
                load = isa.Load(
                    region=Region.INPUT,
                    offset=binding.offset + start,
                    run=count,
                    total=count,
                    addr=addresses[binding.tensor] + start,
                    segment=count,
                )
                yield Item(instruction=load, layer=self.kernels[0].layer)
