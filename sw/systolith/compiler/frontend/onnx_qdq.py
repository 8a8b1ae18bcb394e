"""From ONNX nodes in QDQ form to quantized operators.

`DequantizeLinear` before and `QuantizeLinear` behind an operator are not operators of their own:
they say how its operands and its result are quantized. One walk over the nodes keeps for each value
what it is: a quantized activation, a constant, a formula of one activation (which a table computes,
however many nodes it has), or the result of an operator that is still to be quantized.

What stays in float becomes an operator with float tensors, which the rules refuse by name.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from systolith.compiler.frontend import onnx_shapes
from systolith.compiler.frontend.onnx_model import Damage, Model, Node
from systolith.compiler.frontend.onnx_values import (
    ALIASES,
    BINARY,
    CLAMPS,
    CODES,
    DEQUANTIZE,
    FORMULA,
    KEEPING,
    MAX_FORMULA,
    QUANTIZE,
    UNARY,
    Activation,
    Fixed,
    FloatInput,
    Formula,
    Pending,
    Value,
    along,
    is_quantized_operand,
    quantized_alike,
    scalar,
    takes_clamp,
)
from systolith.compiler.ir import Graph, Operator, Tensor


def collapse(model: Model) -> Graph:
    """Return the graph of quantized operators.

    Raises
    ------
    Damage
        The file contradicts itself.
    """
    walk = _Walk(model)
    for node in model.nodes:
        walk.node(node)
    return walk.graph()


class _Walk:
    """One pass over the nodes."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._tensors: dict[str, Tensor] = {}
        self._operators: list[Operator] = []
        self._values: dict[str, Value] = {}
        self._inputs: list[str] = []
        for name, shape, dtype in model.inputs:
            self._add(Tensor(name=name, shape=shape, dtype=dtype))
            self._inputs.append(name)
            is_float = dtype == "float32"
            self._values[name] = FloatInput(name) if is_float else Activation(name)
        for item in model.constants.values():
            tensor = Tensor(name=item.name, shape=item.shape, dtype=item.dtype, data=item.data)
            self._values[item.name] = Fixed(tensor)

    def node(self, node: Node) -> None:
        """Take in one node."""
        if not node.outputs or not node.outputs[0]:
            raise Damage(f"must have an output of {node.where}")
        output = node.outputs[0]
        if output in self._values:
            raise Damage(f'must write tensor "{output}" once only, but {node.where} does it again')
        self._values[output] = self._value(node, output)

    def _value(self, node: Node, output: str) -> Value:
        if node.kind == "Constant":
            return self._constant(node, output)
        operands = [self._find(name, node) if name else None for name in node.inputs]
        if node.kind == QUANTIZE:
            return self._quantize(node, operands, output)
        if node.kind == DEQUANTIZE:
            return self._dequantize(node, operands, output)
        first = operands[0] if operands else None
        if node.kind in ALIASES and first is not None:
            return first
        if isinstance(first, Fixed) and node.kind == "Transpose" and first.tensor.data is not None:
            return self._transposed(node, first.tensor, output)
        if node.kind in CLAMPS and takes_clamp(first):
            assert isinstance(first, Pending)
            return replace(first, clamp=self._bounds(node, operands))
        formula = self._formula(node, operands)
        if formula is not None:
            return formula
        pending = Pending(node=node, inputs=tuple(self._name(v) for v in operands))
        if node.kind in KEEPING and isinstance(first, Activation):
            return self._emit(pending, output, like=self._tensors[first.tensor])
        return pending

    def graph(self) -> Graph:
        """Return the graph; quantized edges bear the names of the model's own."""
        outputs = [self._edge(name) for name in self._model.outputs]
        names = dict.fromkeys(self._tensors)
        rename: dict[str, str] = {}
        for tensor, name in zip(outputs, self._model.outputs, strict=True):
            if tensor not in rename and tensor not in self._inputs and name not in names:
                rename[tensor] = name
        return Graph(
            name=self._model.name,
            tensors={
                rename.get(name, name): replace(tensor, name=rename.get(name, name))
                for name, tensor in self._tensors.items()
            },
            operators=tuple(
                replace(
                    operator,
                    index=index,
                    inputs=tuple(
                        None if name is None else rename.get(name, name) for name in operator.inputs
                    ),
                    outputs=tuple(rename.get(name, name) for name in operator.outputs),
                )
                for index, operator in enumerate(self._operators)
            ),
            inputs=tuple(self._inputs),
            outputs=tuple(rename.get(name, name) for name in outputs),
        )

    def _edge(self, name: str) -> str:
        if name not in self._values:
            raise Damage(f'must make its output "{name}" in an operator')
        return self._name(self._values[name]) or name

    def _find(self, name: str, node: Node) -> Value:
        if name not in self._values:
            raise Damage(f'must make tensor "{name}" before {node.where} reads it')
        return self._values[name]

    def _add(self, tensor: Tensor) -> str:
        known = self._tensors.get(tensor.name)
        if known is not None and known.data is not tensor.data:
            raise Damage(f'must name tensors differently, but "{tensor.name}" is there twice')
        self._tensors[tensor.name] = tensor
        return tensor.name

    def _name(self, value: Value | None) -> str | None:
        """Return the tensor of a value; what is still float becomes a float tensor."""
        if value is None:
            return None
        if isinstance(value, Activation | FloatInput):
            return value.tensor
        if isinstance(value, Fixed):
            if value.tensor.name not in self._tensors:
                self._add(value.tensor)
            return value.tensor.name
        if isinstance(value, Formula):
            return self._float_formula(value)
        output = value.node.outputs[0]
        return output if output in self._tensors else self._emit(value, output).tensor

    def _float_formula(self, value: Formula) -> str:
        name = f"{value.leaf}:{value.tree[0]}:{len(self._operators)}"
        return self._emit_formula(value, name, None).tensor

    def _constant(self, node: Node, output: str) -> Fixed:
        item = node.attributes.get("value")
        if item is None and "value_float" in node.attributes:
            data: Any = np.float32(node.real("value_float", 0.0))
        elif item is None and "value_int" in node.attributes:
            data = np.int64(node.integer("value_int", 0))
        elif item is None and "value_ints" in node.attributes:
            data = np.array(node.integers("value_ints", ()), np.int64)
        elif item is None or not hasattr(item, "data"):
            raise Damage(f"must have a constant tensor in {node.where}")
        else:
            tensor = Tensor(name=output, shape=item.shape, dtype=item.dtype, data=item.data)
            return Fixed(tensor)
        data = np.asarray(data)
        return Fixed(Tensor(name=output, shape=data.shape, dtype=data.dtype.name, data=data))

    def _transposed(self, node: Node, tensor: Tensor, output: str) -> Fixed:
        attributes, shape = onnx_shapes.transpose(node, [tensor], self._model.opset)
        order = attributes["order"]
        assert tensor.data is not None
        axis = order.index(tensor.axis) if len(tensor.scales) > 1 else 0
        data = np.transpose(tensor.data, order)
        return Fixed(replace(tensor, name=output, shape=shape, data=data, axis=axis))

    def _parameters(
        self, node: Node, operands: Sequence[Value | None], rank: int
    ) -> tuple[tuple[float, ...], tuple[int, ...], str, int]:
        """Return scales, zero points, element type and axis of a (De)QuantizeLinear."""
        arrays: list[Any] = [None, None]
        dtype = "uint8"
        for position, value in enumerate(operands[1:3]):
            if value is not None:
                if not isinstance(value, Fixed) or value.tensor.data is None:
                    raise Damage(f"must have constant scales and zero points in {node.where}")
                arrays[position] = value.tensor.data.reshape(-1)
                dtype = value.tensor.dtype if position else dtype
        scales, zeros = arrays
        if scales is None or not scales.size or scales.dtype.kind != "f":
            raise Damage(f"must have a float scale in {node.where}")
        if zeros is None:
            zeros = np.zeros(scales.size, np.int64)
        if zeros.size != scales.size or zeros.dtype.kind not in "iu":
            raise Damage(f"must have as many integer zero points as scales in {node.where}")
        axis = node.integer("axis", 1)
        axis += rank if axis < 0 else 0
        if scales.size > 1 and not 0 <= axis < rank:
            raise Damage(f"must have an axis of its input in {node.where}, not {axis}")
        return tuple(map(float, scales)), tuple(map(int, zeros)), dtype, axis

    def _quantize(self, node: Node, operands: Sequence[Value | None], output: str) -> Value:
        value = operands[0] if operands else None
        if value is None:
            raise Damage(f"must have an input of {node.where}")
        rank = len(value.tensor.shape) if isinstance(value, Fixed) else 1
        scales, zeros, dtype, axis = self._parameters(node, operands, rank)
        like = Tensor(
            name=output, shape=(), dtype=dtype, scales=scales, zero_points=zeros, axis=axis
        )
        if isinstance(value, Fixed):
            return self._quantized_constant(node, value.tensor, like)
        if isinstance(value, Pending):
            return self._emit(value, output, like=like)
        if isinstance(value, Formula):
            return self._emit_formula(value, output, like)
        tensor = self._tensors[value.tensor]
        if isinstance(value, FloatInput) and not tensor.scales:
            self._tensors[tensor.name] = replace(like, name=tensor.name, shape=tensor.shape)
            return Activation(tensor.name)
        if quantized_alike(tensor, like):
            return Activation(tensor.name)
        return self._emit_formula(Formula(tensor.name, ("input",), 1), output, like)

    def _quantized_constant(self, node: Node, tensor: Tensor, like: Tensor) -> Fixed:
        if tensor.data is None or tensor.data.dtype.kind != "f" or like.dtype not in CODES:
            raise Damage(f"must quantize a float constant to int8, uint8 or int32 in {node.where}")
        scales, zeros = along(tensor, like)
        with np.errstate(all="ignore"):
            steps = np.rint(tensor.data.astype(np.float32) / scales) + zeros
        limits = np.iinfo(like.dtype)
        data = np.clip(np.nan_to_num(steps), limits.min, limits.max).astype(like.dtype)
        return Fixed(replace(like, shape=tensor.shape, data=data, scales=(), zero_points=()))

    def _dequantize(self, node: Node, operands: Sequence[Value | None], output: str) -> Value:
        value = operands[0] if operands else None
        if isinstance(value, Fixed):
            tensor = value.tensor
            scales, zeros, _, axis = self._parameters(node, operands, len(tensor.shape))
            axis = axis if len(scales) > 1 else 0
            return Fixed(replace(tensor, name=output, scales=scales, zero_points=zeros, axis=axis))
        if not isinstance(value, Activation):
            raise Damage(f"must dequantize a quantized tensor in {node.where}")
        tensor = self._tensors[value.tensor]
        scales, zeros, _, _ = self._parameters(node, operands, len(tensor.shape))
        like = replace(tensor, scales=scales, zero_points=zeros)
        if not tensor.scales:
            self._tensors[tensor.name] = like
        elif not quantized_alike(tensor, like):
            return Pending(node=node, inputs=(tensor.name,))
        return value

    def _bounds(
        self, node: Node, operands: Sequence[Value | None]
    ) -> tuple[float | None, float | None]:
        if node.kind == "Relu":
            return 0.0, None
        bounds: list[float | None] = []
        for position, name in ((1, "min"), (2, "max")):
            value = operands[position] if position < len(operands) else None
            number = scalar(value)
            if value is None and name in node.attributes:
                number = node.real(name, 0.0)
            elif value is not None and number is None:
                raise Damage(f"must have constant bounds in {node.where}")
            bounds.append(number)
        return bounds[0], bounds[1]

    def _formula(self, node: Node, operands: Sequence[Value | None]) -> Formula | None:
        """Return the node as a formula of one activation, or None if it is none."""
        given = [value for value in operands if value is not None]
        if node.kind not in (*UNARY, *CLAMPS, *BINARY) or not given:
            return None
        trees: list[tuple[Any, ...]] = []
        leaves: set[str] = set()
        size = 1
        attributes: dict[str, Any] = {
            name: node.real(name, 0.0) for name in ("alpha", "beta") if name in node.attributes
        }
        if "approximate" in node.attributes:
            attributes["approximate"] = node.text("approximate", "none")
        if node.kind in CLAMPS:
            attributes = dict(zip(("low", "high"), self._bounds(node, operands), strict=True))
            given = given[:1]
        for value in given:
            number = scalar(value)
            if isinstance(value, Activation):
                trees.append(("input",))
                leaves.add(value.tensor)
            elif isinstance(value, Formula):
                trees.append(value.tree)
                leaves.add(value.leaf)
                size += value.size
            elif number is not None and not is_quantized_operand(node, value):
                trees.append(("constant", number))
            else:
                return None
        count = 1 if node.kind in (*UNARY, *CLAMPS) else 2
        if len(leaves) != 1 or size > MAX_FORMULA or len(trees) != count:
            return None
        tree = (node.kind, tuple(trees), tuple(sorted(attributes.items())))
        return Formula(leaves.pop(), tree, size)

    def _emit_formula(self, value: Formula, output: str, like: Tensor | None) -> Activation:
        source = self._tensors[value.leaf]
        kept = like or Tensor(name=output, shape=(), dtype="float32")
        self._add(replace(kept, name=output, shape=source.shape, data=None))
        kind = value.tree[0] if value.tree[0] != "input" else "Requantize"
        return self._append(FORMULA, (value.leaf,), output, {"tree": value.tree, "outer": kind})

    def _emit(self, value: Pending, output: str, like: Tensor | None = None) -> Activation:
        """Add the operator of a pending value, quantized as `like` or not at all."""
        node = value.node
        inputs = [None if name is None else self._tensors[name] for name in value.inputs]
        attributes: dict[str, Any] = {}
        shape: tuple[int, ...] = ()
        if node.kind in onnx_shapes.INFERENCE and inputs and inputs[0] is not None:
            infer = onnx_shapes.INFERENCE[node.kind]
            attributes, shape = infer(
                node, [*inputs, *([None] * (not inputs[1:]))], self._model.opset
            )
        kept = like or Tensor(name=output, shape=(), dtype="float32")
        self._add(replace(kept, name=output, shape=shape, data=None))
        return self._append(node.kind, value.inputs, output, {**attributes, "clamp": value.clamp})

    def _append(
        self, kind: str, inputs: tuple[str | None, ...], output: str, attributes: dict[str, Any]
    ) -> Activation:
        self._operators.append(
            Operator(
                kind=kind,
                index=len(self._operators),
                inputs=inputs,
                outputs=(output,),
                attributes=attributes,
            )
        )
        return Activation(output)
