"""What a value of an ONNX graph in QDQ form is, and which operators mean what to the reader."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from systolith.compiler.frontend.onnx_model import Damage, Node
from systolith.compiler.ir import Tensor

UNARY = (
    "Abs",
    "Elu",
    "Erf",
    "Exp",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "LeakyRelu",
    "Neg",
    "Sigmoid",
    "Softplus",
    "Sqrt",
    "Tanh",
)
CLAMPS = ("Clip", "Relu")
BINARY = ("Add", "Div", "Max", "Min", "Mul", "Pow", "Sub")
"""Operators that formulas may contain."""

KEEPING = (
    "Flatten",
    "MaxPool",
    "Pad",
    "Reshape",
    "Resize",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
    "Upsample",
)
"""Operators whose result has the quantization of their first operand."""

CLAMPED = ("Add", "AveragePool", "Conv", "Gemm", "GlobalAveragePool", "MatMul", "Mul", "ReduceMean")
"""Operators that take a clamp behind them into their own."""

ALIASES = ("Dropout", "Identity")
FORMULA = "Elementwise"
"""Kind of the operator that a formula becomes."""

MAX_FORMULA = 64
QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"


class Activation(NamedTuple):
    """A quantized tensor, or its dequantized form."""

    tensor: str


class Fixed(NamedTuple):
    """A constant; quantized if it has scales."""

    tensor: Tensor


class Formula(NamedTuple):
    """A function of one activation: `tree` is `("input",)`, `("constant", value)` or an operator.

    An operator is `(kind, operands, attributes)` with operands that are trees.
    """

    leaf: str
    tree: tuple[Any, ...]
    size: int


@dataclass(frozen=True, kw_only=True, eq=False)
class Pending:
    """The float result of an operator that has not been quantized yet."""

    node: Node
    inputs: tuple[str | None, ...]
    clamp: tuple[float | None, float | None] = (None, None)


class FloatInput(NamedTuple):
    """A float input of the model."""

    tensor: str


Value = Activation | Fixed | Formula | Pending | FloatInput


def takes_clamp(value: Value | None) -> bool:
    """Return whether a clamp behind a value becomes a part of its operator."""
    if not isinstance(value, Pending) or value.node.kind not in CLAMPED:
        return False
    return value.clamp == (None, None)


CODES = ("int8", "uint8", "int32")


def along(tensor: Tensor, like: Tensor) -> tuple[Any, Any]:
    """Return scales and zero points in a shape that broadcasts against the tensor."""
    shape = [1] * len(tensor.shape)
    if len(like.scales) > 1:
        if tensor.shape[like.axis] != len(like.scales):
            raise Damage(f'must have a scale for each slice of "{tensor.name}"')
        shape[like.axis] = len(like.scales)
    scales = np.array(like.scales, np.float32).reshape(shape)
    return scales, np.array(like.zero_points, np.float32).reshape(shape)


def quantized_alike(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors have one type, scale and zero point."""
    return (a.scales, a.zero_points, a.dtype) == (b.scales, b.zero_points, b.dtype)


def scalar(value: Value | None) -> float | None:
    """Return the number that a constant of one element stands for."""
    if not isinstance(value, Fixed) or value.tensor.data is None or value.tensor.data.size != 1:
        return None
    tensor, number = value.tensor, float(value.tensor.data.reshape(()))
    if len(tensor.scales) == 1:
        return float(np.float32(tensor.scale) * np.float32(number - tensor.zero_point))
    return number


def is_quantized_operand(node: Node, value: Value) -> bool:
    """Return whether a constant is an operand of the runtime's integer kernel."""
    return node.kind in ("Add", "Mul") and isinstance(value, Fixed) and bool(value.tensor.scales)
