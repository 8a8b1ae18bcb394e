"""Compile one run of accelerator kernels to a segment of a program."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig, ceil_div
from systolith.arch.program import AcceleratorSegment, Binding, Region, TensorInfo

from . import race
from .allocate import Lifetime, place
from .emit import Emitter
from .ir import Image, ImageKernel, Kernel, KernelGraph, Tensor, ViewKernel
from .layout import Layout, choose, dense
from .lower import Context, drop_repeated_setups, make_lowering
from .schedule import Scheduler
from .tile import Item, Placement

_INPUT_PIECES = 4
"""Loads that bring an input: the first tile may start on the first one."""

_BINDING_ALIGNMENT = 64
"""Bytes that tensors in DRAM are aligned to: a beat of the widest bus."""


def tensor_info(tensor: Tensor) -> TensorInfo:
    """Return what a program says of a tensor at the edge of a segment."""
    return TensorInfo(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        scale=tensor.scale if tensor.scales else 1.0,
        zero_point=tensor.zero_point if tensor.zero_points else 0,
    )


@dataclass(eq=False)
class SegmentBuilder:
    """Compiles one run of accelerator kernels.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    graph : KernelGraph
        Model that the kernels are of.
    kernels : tuple of Kernel
        Kernels that the accelerator executes, and views.
    later : set of str
        Tensors that something after the segment reads.
    constants : bytearray
        Contents of the CONSTANTS region, extended by the segment's.
    """

    config: AcceleratorConfig
    graph: KernelGraph
    kernels: tuple[Kernel, ...]
    later: set[str]
    constants: bytearray
    _roots: dict[str, str] = field(default_factory=dict)
    _layouts: dict[str, Layout] = field(default_factory=dict)
    _images: dict[str, Image] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Find out which tensors share bytes, and how each lies in the scratchpad."""
        for kernel in self.kernels:
            if isinstance(kernel, ViewKernel):
                self._roots[kernel.output] = self._root(kernel.input)
            elif isinstance(kernel, ImageKernel):
                self._images.update({image.tensor: image for image in kernel.reads})
                self._images[kernel.output.tensor] = kernel.output
        viewed = {*self._roots, *self._roots.values()}
        layouts = choose((k for k in self.kernels if isinstance(k, ImageKernel)), self.config)
        self._layouts = {name: x for name, x in layouts.items() if name not in viewed}

    def build(self) -> AcceleratorSegment:
        """Return the segment; its code is proved free of races."""
        made = self._made()
        inputs = self._inputs(made)
        input_bindings, input_bytes = self._bind(inputs)
        output_bindings, output_bytes = self._bind([name for name in made if name in self.later])
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

    @staticmethod
    def _result(kernel: Kernel) -> str:
        if isinstance(kernel, ViewKernel):
            return kernel.output
        assert isinstance(kernel, ImageKernel)
        return kernel.output.tensor

    @staticmethod
    def _operands(kernel: Kernel) -> list[str]:
        if isinstance(kernel, ViewKernel):
            return [kernel.input]
        assert isinstance(kernel, ImageKernel)
        return [image.tensor for image in kernel.reads]

    def _made(self) -> list[str]:
        """Return the tensors that the segment makes, views included."""
        return [self._result(kernel) for kernel in self.kernels]

    def _inputs(self, made: list[str]) -> list[str]:
        """Return the tensors that come from outside, in order of first use, views resolved."""
        names: dict[str, None] = {}
        for kernel in self.kernels:
            for name in self._operands(kernel):
                if self._root(name) not in made:
                    names[self._root(name)] = None
        return list(names)

    def _bind(self, names: list[str]) -> tuple[tuple[Binding, ...], int]:
        bindings, offset = [], 0
        for name in names:
            bindings.append(Binding(tensor=name, offset=offset))
            size = self._dense_bytes(name)
            offset += ceil_div(size, _BINDING_ALIGNMENT) * _BINDING_ALIGNMENT
        return tuple(bindings), offset

    def _dense_bytes(self, name: str) -> int:
        return tensor_info(self.graph.tensors[name]).nbytes

    def _lifetimes(self, inputs: list[str]) -> list[Lifetime]:
        first = dict.fromkeys(inputs, 0)
        last = dict(first)
        for position, kernel in enumerate(self.kernels):
            for name in self._operands(kernel):
                last[self._root(name)] = position
            root = self._root(self._result(kernel))
            first.setdefault(root, position)
            last[root] = position
        return [
            Lifetime(tensor=name, nbytes=self._bytes(name), first=first[name], last=last[name])
            for name in first
        ]

    def _bytes(self, name: str) -> int:
        """Return the bytes of a tensor in the scratchpad, gaps included."""
        if name in self._layouts:
            return self._layouts[name].nbytes(self._images[name].height)
        return self._dense_bytes(name)

    def _items(self, addresses: dict[str, int], outputs: tuple[Binding, ...]) -> Iterator[Item]:
        def locate(image: Image) -> Placement:
            layout = self._layouts.get(image.tensor) or dense(image)
            address = addresses[self._root(image.tensor)]
            return Placement(address=address, pixel=layout.pixel, line=layout.line)

        context = Context(config=self.config, place=locate)
        offsets = {binding.tensor: binding.offset for binding in outputs}
        for kernel in self.kernels:
            if isinstance(kernel, ImageKernel):
                yield from make_lowering(kernel, context).items((0, kernel.output.height))
            name = self._result(kernel)
            if name in offsets:
                count = self._dense_bytes(name)
                segments = self._segments(name, count)
                store = isa.Store(
                    region=Region.OUTPUT,
                    offset=offsets[name],
                    run=count,
                    total=count,
                    addr=addresses[self._root(name)],
                )
                yield Item(instruction=replace(store, **segments), layer=kernel.layer)

    def _segments(self, name: str, count: int) -> dict[str, Any]:
        """Return the fields of a move that lay `count` bytes of a tensor into the scratchpad."""
        if name not in self._layouts:
            return {"segment": count}
        layout, image = self._layouts[name], self._images[name]
        if layout.pixel == image.channels:
            return {"segment": image.width * image.channels, "group_step": layout.line}
        return {
            "segment": image.channels,
            "segment_step": layout.pixel,
            "segments": image.width,
            "group_step": layout.line,
        }

    def _preload(self, addresses: dict[str, int], inputs: tuple[Binding, ...]) -> Iterator[Item]:
        """Yield the loads of the inputs, cut into pieces."""
        for binding in inputs:
            name = binding.tensor
            size = self._dense_bytes(name)
            unit, step = _BINDING_ALIGNMENT, _BINDING_ALIGNMENT
            if name in self._layouts:
                unit = self._images[name].width * self._images[name].channels
                step = self._layouts[name].line
            piece = ceil_div(size, _INPUT_PIECES * unit)
            for number in range(0, ceil_div(size, unit), piece):
                count = min(piece * unit, size - number * unit)
                load = isa.Load(
                    region=Region.INPUT,
                    offset=binding.offset + number * unit,
                    run=count,
                    total=count,
                    addr=addresses[name] + number * step,
                )
                load = replace(load, **self._segments(name, count))
                yield Item(instruction=load, layer=self.kernels[0].layer)
