"""What a segment knows of its tensors: which share bytes, their layouts, sizes and uses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from systolith.arch.config import AcceleratorConfig
from systolith.arch.program import TensorInfo

from .ir import Image, ImageKernel, Kernel, KernelGraph, Tensor, ViewKernel
from .join import Margin
from .layout import Layout, choose, dense


def tensor_info(tensor: Tensor) -> TensorInfo:
    """Return what a program says of a tensor at the edge of a segment."""
    return TensorInfo(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        scale=tensor.scale if tensor.scales else 1.0,
        zero_point=tensor.zero_point if tensor.zero_points else 0,
    )


def result(kernel: Kernel) -> str:
    """Return the name of the tensor that an accelerator kernel or a view makes."""
    if isinstance(kernel, ViewKernel):
        return kernel.output
    assert isinstance(kernel, ImageKernel)
    return kernel.output.tensor


def operands(kernel: Kernel) -> list[str]:
    """Return the names of the tensors that an accelerator kernel or a view reads."""
    if isinstance(kernel, ViewKernel):
        return [kernel.input]
    assert isinstance(kernel, ImageKernel)
    return [image.tensor for image in kernel.reads]


@dataclass(frozen=True)
class Use:
    """First and last kernel of a segment that needs a tensor."""

    first: int
    last: int


class SegmentTensors:
    """The tensors of one run of kernels.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    graph : KernelGraph
        Model.
    kernels : sequence of Kernel
        Kernels that the accelerator executes, and views.
    margins : mapping of str to Margin
        Inputs that lie in the scratchpad with their padding around them.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        graph: KernelGraph,
        kernels: Sequence[Kernel],
        margins: Mapping[str, Margin],
    ) -> None:
        self._graph = graph
        self.margins = margins
        """Inputs that lie in the scratchpad with their padding around them."""
        self._kernels = kernels
        self._roots: dict[str, str] = {}
        self._images: dict[str, Image] = {}
        for kernel in kernels:
            if isinstance(kernel, ViewKernel):
                self._roots[kernel.output] = self.root(kernel.input)
            elif isinstance(kernel, ImageKernel):
                self._images.update({image.tensor: image for image in kernel.reads})
                self._images[kernel.output.tensor] = kernel.output
        viewed = {*self._roots, *self._roots.values()}
        layouts = choose((k for k in kernels if isinstance(k, ImageKernel)), config)
        self._layouts = {name: layout for name, layout in layouts.items() if name not in viewed}
        self.made = [result(kernel) for kernel in kernels]
        """Tensors that the segment makes, views included."""

    def root(self, name: str) -> str:
        """Return the tensor whose bytes a tensor names."""
        return self._roots.get(name, name)

    def inputs(self) -> list[str]:
        """Return the tensors that come from outside, in order of first use, views resolved."""
        names: dict[str, None] = {}
        for kernel in self._kernels:
            for name in operands(kernel):
                if self.root(name) not in self.made:
                    names[self.root(name)] = None
        return list(names)

    def uses(self) -> dict[str, Use]:
        """Return, per tensor with bytes of its own, the kernels that need it on chip."""
        first = dict.fromkeys(self.inputs(), 0)
        last = dict(first)
        for position, kernel in enumerate(self._kernels):
            for name in operands(kernel):
                last[self.root(name)] = position
            root = self.root(result(kernel))
            first.setdefault(root, position)
            last[root] = position
        return {name: Use(first[name], last[name]) for name in first}

    def layout(self, image: Image) -> Layout:
        """Return how an image lies in the scratchpad."""
        if image.tensor in self.margins:
            return Layout(pixel=image.channels, line=self.margins[image.tensor].line)
        return self._layouts.get(image.tensor) or dense(image)

    def dense_bytes(self, name: str) -> int:
        """Return the bytes of a tensor without gaps."""
        return tensor_info(self._graph.tensors[name]).nbytes

    def chip_bytes(self, name: str) -> int:
        """Return the bytes of a tensor in the scratchpad, gaps and margins included."""
        if name in self.margins:
            return self.margins[name].nbytes
        if name in self._layouts:
            return self._layouts[name].nbytes(self._images[name].height)
        return self.dense_bytes(name)

    def whole_segments(self, name: str, count: int | None = None) -> dict[str, Any]:
        """Return the fields of a move of a resident tensor's first `count` bytes, or of all."""
        count = self.dense_bytes(name) if count is None else count
        if name in self.margins:
            image = self.margins[name].image
            return segments(image, self.layout(image), count)
        if name not in self._layouts:
            return {"segment": count}
        return segments(self._images[name], self._layouts[name], count)

    def unit(self, name: str) -> tuple[int, int] | None:
        """Return dense bytes and scratchpad bytes of a line, or None if lines do not matter."""
        if name in self.margins:
            margin = self.margins[name]
            return margin.image.width * margin.image.channels, margin.line
        if name not in self._layouts:
            return None
        image = self._images[name]
        return image.width * image.channels, self._layouts[name].line


def segments(image: Image, layout: Layout, count: int) -> dict[str, Any]:
    """Return the fields of a move that lay `count` dense bytes of an image into the scratchpad."""
    if layout == dense(image):
        return {"segment": count}
    if layout.pixel == image.channels:
        return {"segment": image.width * image.channels, "group_step": layout.line}
    return {
        "segment": image.channels,
        "segment_step": layout.pixel,
        "segments": image.width,
        "group_step": layout.line,
    }
