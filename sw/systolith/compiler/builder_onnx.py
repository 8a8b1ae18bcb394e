"""What legalization of an ONNX graph has made so far: kernels, and tensors in int8 and NHWC.

The model's own element type and order appear at its edges only, where a host kernel flips and
transposes what has not the accelerator's form.
"""

import math

import numpy as np

from systolith.arch import edges
from systolith.compiler.factors_onnx import inner_zero
from systolith.compiler.ir import Graph, HostKernel, Image, Kernel, Operator, Tensor
from systolith.compiler.layout_onnx import Orders

IMAGE_RANK = 4


class Builder:
    """Collects the kernels of one graph.

    Parameters
    ----------
    graph : Graph
        Model that passed the rules.

    Attributes
    ----------
    orders : Orders
        Order of the elements of each tensor.
    kernels, tensors : list of Kernel, dict of str to Tensor
        What the kernel graph will hold.
    inner : dict of str to str
        Name of the int8 form of each tensor of the model.
    images : dict of str to Image
        The form in which each int8 tensor was made, by that name.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.orders = Orders(graph)
        self.kernels: list[Kernel] = []
        self.tensors: dict[str, Tensor] = {}
        self.inner: dict[str, str] = {}
        self.images: dict[str, Image] = {}

    def _is_plain(self, name: str) -> bool:
        """Return whether a tensor of the model has the accelerator's type and order."""
        order = self.orders.of[name]
        in_order = np.array_equal(order, np.arange(order.size))
        return in_order and self.graph.tensors[name].dtype == "int8"

    def _edge(self, source: str, target: str, layer: int, *, entering: bool, name: str) -> None:
        tensor, order = self.graph.tensors[name], self.orders.of[name]
        rows, columns = 1, order.size
        if not np.array_equal(order, np.arange(order.size)):
            channels = tensor.shape[1]
            rows, columns = channels, order.size // channels
        if not entering:
            rows, columns = columns, rows
        flip = edges.FLIP if tensor.dtype == "uint8" else 0
        self.kernels.append(
            HostKernel(
                layer=layer,
                op="rearrange",
                inputs=(source,),
                outputs=(target,),
                attributes={"rows": rows, "columns": columns, "flip": flip},
            )
        )

    def enter(self, name: str) -> None:
        """Take in an input of the model, by a host kernel if it is not int8 and in order."""
        if self._is_plain(name):
            self.declare(name)
            return
        self.tensors[name] = self.graph.tensors[name]
        readers = [o.index for o in self.graph.operators if name in o.inputs]
        inner = self.declare(name, f"{name}:int8")
        self._edge(name, inner, readers[0] if readers else 0, entering=True, name=name)

    def leave(self, name: str) -> None:
        """Give out an output of the model, by a host kernel if it is not int8 and in order."""
        if not self.inner[name].endswith(":int8"):
            return
        self.tensors[name] = self.graph.tensors[name]
        layer = next(o.index for o in self.graph.operators if name in o.outputs)
        self._edge(self.inner[name], name, layer, entering=False, name=name)

    def declare(self, name: str, inner: str | None = None) -> str:
        """Add the int8 form of a tensor of the model and return its name."""
        tensor = self.graph.tensors[name]
        if inner is None:
            edge = name in self.graph.outputs and not self._is_plain(name)
            inner = f"{name}:int8" if edge else name
        shape = tensor.shape
        if len(shape) == IMAGE_RANK:
            shape = (shape[0], shape[2], shape[3], shape[1])
        self.inner[name] = inner
        self.tensors[inner] = Tensor(
            name=inner,
            shape=shape,
            dtype="int8",
            scales=tensor.scales,
            zero_points=(inner_zero(tensor),),
        )
        self.images[inner] = image_of(inner, shape)
        return inner

    def source(self, operator: Operator, position: int = 0) -> tuple[Tensor, Image]:
        """Return an operand that is an activation, and its image."""
        name = operator.inputs[position] or ""
        return self.graph.tensors[name], self.images[self.inner[name]]

    def target(self, operator: Operator) -> tuple[Tensor, Image]:
        """Add the result of an operator; return it and its image."""
        name = operator.outputs[0]
        return self.graph.tensors[name], self.images[self.declare(name)]

    def constant(self, operator: Operator, position: int) -> Tensor | None:
        """Return an operand that is a constant, or None if it is left out."""
        if position >= len(operator.inputs) or operator.inputs[position] is None:
            return None
        return self.graph.tensors[operator.inputs[position] or ""]

    def weights(self, operator: Operator) -> Tensor:
        """Return the weights of an operator that has them."""
        weights = self.constant(operator, 1)
        assert weights is not None
        return weights


def image_of(name: str, shape: tuple[int, ...]) -> Image:
    """Return an NHWC tensor of batch 1 as an image, any other as the pixels of one line."""
    if len(shape) == IMAGE_RANK and shape[0] == 1:
        return Image(tensor=name, height=shape[1], width=shape[2], channels=shape[3])
    return Image(tensor=name, height=1, width=math.prod(shape[:-1]), channels=shape[-1])
