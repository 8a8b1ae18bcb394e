"""What the rules about ONNX models share: kinds of operators, limits, and the site of a rule."""

import math

import numpy as np

from systolith.compiler.frontend.onnx_values import FORMULA
from systolith.compiler.ir import Operator, Tensor
from systolith.compiler.ruleset import Site

INPUT_COUNTS: dict[str, tuple[int, int]] = {
    "Add": (2, 2),
    "AveragePool": (1, 1),
    "Concat": (1, 64),
    "Conv": (2, 3),
    FORMULA: (1, 1),
    "Flatten": (1, 1),
    "Gemm": (2, 3),
    "GlobalAveragePool": (1, 1),
    "MatMul": (2, 2),
    "MaxPool": (1, 1),
    "Mul": (2, 2),
    "Pad": (1, 4),
    "ReduceMean": (1, 2),
    "Reshape": (1, 2),
    "Resize": (1, 4),
    "Softmax": (1, 1),
    "Squeeze": (1, 2),
    "Transpose": (1, 1),
    "Unsqueeze": (1, 2),
    "Upsample": (1, 2),
}
"""Operators that the compiler knows: fewest (all of them given) and most inputs."""

ALL = tuple(INPUT_COUNTS)
WEIGHTED = ("Conv", "Gemm", "MatMul")
MATRICES = ("Gemm", "MatMul")
BINARY = ("Add", "Mul")
POOLS = ("AveragePool", "MaxPool")
WINDOWED = ("Conv", *POOLS)
RESIZED = ("Resize", "Upsample")
IMAGED = (*WINDOWED, "GlobalAveragePool", "Pad", "ReduceMean", *RESIZED)

QDQ = "quantize the model in QDQ form, with QuantizeLinear behind every operator"
IMAGE_RANK = 4
MAX_ELEMENTS = 1 << 22
MAX_RANK = 6
MAX_BIAS_ERROR = 1e-3
MAX_FACTOR_LOG2 = 16
MAX_SOFTMAX_DEPTH = 4096
DTYPES = ("int8", "uint8")


class OnnxSite(Site):
    """An operator of an ONNX graph."""

    @property
    def read(self) -> list[Tensor]:
        """Activations that the operator reads; of two operands one may be a constant."""
        count = 1
        if self.operator.kind in BINARY or self.operator.kind == "Concat":
            count = len(self.operator.inputs)
        tensors = [self.input(position) for position in range(count)]
        constants = [tensor for tensor in tensors if tensor.data is not None]
        if self.operator.kind in BINARY and len(constants) == 1 and constants[0].scales:
            tensors.remove(constants[0])
        return tensors

    @property
    def all_activations(self) -> list[Tensor]:
        """Activations read, then the one written."""
        return [*self.read, self.output]


def site_activations(site: Site) -> list[Tensor]:
    """Return the activations of a site, the result last."""
    assert isinstance(site, OnnxSite)
    return site.all_activations


def weight_axis(operator: Operator) -> int:
    """Return the axis of output channels of the weights."""
    return 0 if operator.kind == "Conv" or operator.attributes["transpose_b"] else 1


def are_positive(tensor: Tensor) -> bool:
    """Return whether a tensor has scales, all positive and finite."""
    return bool(tensor.scales) and all(math.isfinite(s) and s > 0.0 for s in tensor.scales)


def zeros_fit(tensor: Tensor) -> bool:
    """Return whether a tensor of bytes has zero points in the range of its type."""
    if tensor.dtype not in DTYPES:
        return False
    limits = np.iinfo(tensor.dtype)
    return all(limits.min <= zero <= limits.max for zero in tensor.zero_points)


def few(values: tuple[float, ...]) -> str:
    """Return values for a message, which need not list thousands."""
    most = 3
    text = ", ".join(str(value) for value in values[:most]) or "none"
    return text if len(values) <= most else f"{text}, ... ({len(values)} in all)"
