"""Order of elements: ONNX writes channels before pixels, the accelerator pixels before channels.

For each tensor, `order[i]` is the position in the model's order of the element that lies at byte i.
Images lie as pixels of channels. Reshapes and transposes move no byte: they only rename the order,
and a matrix product takes any order of its features by permuting its constant weights.
"""

import math
from collections.abc import Callable, Iterator
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from systolith.compiler.ir import Graph, Operator

Order = NDArray[np.int64]

_IMAGE_RANK = 4
MOVES = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
"""Operators that keep the model's order."""

_IMAGES = (
    "AveragePool",
    "Conv",
    "GlobalAveragePool",
    "MaxPool",
    "Pad",
    "ReduceMean",
    "Resize",
    "Upsample",
)


def canonical(shape: tuple[int, ...]) -> Order:
    """Return the order in which operators on images read and write; others keep the model's."""
    index = np.arange(math.prod(shape), dtype=np.int64)
    if len(shape) == _IMAGE_RANK:
        index = index.reshape(shape).transpose(0, 2, 3, 1).reshape(-1)
    return index


class Orders:
    """The orders of all tensors of a graph whose operators obey the rules of form and geometry."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.problems: list[tuple[Operator, str, str]] = []
        self.of: dict[str, Order] = {
            name: canonical(graph.tensors[name].shape) for name in graph.inputs
        }
        for operator in graph.operators:
            shape = self._shape(operator.outputs[0])
            find = self._finders.get(operator.kind, self._like_input)
            order = find(operator)
            self.of[operator.outputs[0]] = canonical(shape) if order is None else order
        self.problems.extend(self._outputs())

    def features(self, operator: Operator) -> Order | None:
        """Return the order of the features of a matrix, or None if its rows differ."""
        name = operator.inputs[0] or ""
        width = self._shape(name)[-1]
        rows = self.of[name].reshape(-1, width)
        order: Order = rows[0] % width
        numbers = np.arange(len(rows)).reshape(-1, 1)
        fits = np.array_equal(rows // width, np.broadcast_to(numbers, rows.shape))
        return (
            order if fits and np.array_equal(rows % width, np.tile(order, (len(rows), 1))) else None
        )

    @cached_property
    def _finders(self) -> dict[str, Callable[[Operator], Order | None]]:
        """Return the functions that find an output's order; None stands for the canonical one."""
        return {
            **dict.fromkeys(_IMAGES, self._image),
            **dict.fromkeys(MOVES, self._like_input),
            "Add": self._operands,
            "Concat": self._concat,
            "Gemm": self._matrix,
            "MatMul": self._matrix,
            "Mul": self._operands,
            "Softmax": self._softmax,
            "Transpose": self._transpose,
        }

    def _shape(self, name: str) -> tuple[int, ...]:
        return self._graph.tensors[name].shape

    def _report(self, operator: Operator, name: str, text: str) -> None:
        self.problems.append((operator, name, text))

    def _like_input(self, operator: Operator) -> Order:
        return self.of[operator.inputs[0] or ""]

    def _image(self, operator: Operator) -> None:
        self._require_canonical(operator, operator.inputs[0] or "")

    def _require_canonical(self, operator: Operator, name: str) -> None:
        if not np.array_equal(self.of[name], canonical(self._shape(name))):
            self._report(operator, name, "the model's order of another operator")

    def _concat(self, operator: Operator) -> None:
        for name in operator.inputs:
            self._require_canonical(operator, name or "")

    def _operands(self, operator: Operator) -> Order:
        names = [name for name in operator.inputs if name in self.of]
        for name in names[1:]:
            assert name is not None
            if not np.array_equal(self.of[name], self.of[names[0] or ""]):
                self._report(operator, name, "an order unlike the other operand's")
        return self.of[names[0] or ""]

    def _matrix(self, operator: Operator) -> Order:
        if self.features(operator) is None:
            self._report(operator, operator.inputs[0] or "", "rows that are mixed up")
        return np.arange(math.prod(self._shape(operator.outputs[0])), dtype=np.int64)

    def _softmax(self, operator: Operator) -> Order:
        name = operator.inputs[0] or ""
        shape, axis = self._shape(name), operator.attributes["axis"]
        places = list(np.unravel_index(self.of[name], shape))
        del places[axis]
        rest = shape[:axis] + shape[axis + 1 :]
        groups = np.ravel_multi_index(tuple(places), rest) if rest else np.zeros(shape[axis], int)
        rows = groups.reshape(-1, shape[axis])
        if not np.all(rows == rows[:, :1]):
            self._report(operator, name, "rows that are not contiguous")
        return self.of[name]

    def _transpose(self, operator: Operator) -> Order:
        name = operator.inputs[0] or ""
        axes = operator.attributes["order"]
        given = np.arange(math.prod(self._shape(name))).reshape(self._shape(name))
        moved = np.empty(given.size, np.int64)
        moved[given.transpose(axes).reshape(-1)] = np.arange(given.size)
        order: Order = moved[self.of[name]]
        return order

    def _outputs(self) -> Iterator[tuple[Operator, str, str]]:
        """Yield the outputs of the model that no transposition of a matrix brings in order."""
        makers = {operator.outputs[0]: operator for operator in self._graph.operators}
        for name in self._graph.outputs:
            order = self.of[name]
            plain = np.array_equal(order, np.arange(order.size))
            if not plain and not np.array_equal(order, canonical(self._shape(name))):
                yield makers[name], name, "another order"
