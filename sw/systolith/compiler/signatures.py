"""The operators that the compiler knows, and which of their inputs is what."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Signature:
    """Inputs and outputs of an operator.

    Parameters
    ----------
    inputs : tuple of int
        Fewest (all of them given) and most inputs.
    activations : tuple of int
        Positions of the inputs that hold activations; all of them if empty.
    parameters : tuple of int
        Positions of the inputs that hold shapes, axes and the like; they must be constant.
    outputs : int
        Most outputs.
    """

    inputs: tuple[int, int]
    activations: tuple[int, ...] = (0,)
    parameters: tuple[int, ...] = ()
    outputs: int = 1


_MANY = 1 << 16
_UNARY = Signature(inputs=(1, 1))
_BINARY = Signature(inputs=(2, 2), activations=(0, 1))
_WEIGHTED = Signature(inputs=(2, 3))

SIGNATURES: dict[str, Signature] = {
    "ABS": _UNARY,
    "ADD": _BINARY,
    "AVERAGE_POOL_2D": _UNARY,
    "CONCATENATION": Signature(inputs=(1, _MANY), activations=()),
    "CONV_2D": _WEIGHTED,
    "DEPTHWISE_CONV_2D": _WEIGHTED,
    "ELU": _UNARY,
    "EXP": _UNARY,
    "EXPAND_DIMS": Signature(inputs=(2, 2), parameters=(1,)),
    "FULLY_CONNECTED": _WEIGHTED,
    "GELU": _UNARY,
    "HARD_SWISH": _UNARY,
    "LEAKY_RELU": _UNARY,
    "LOGISTIC": _UNARY,
    "MAX_POOL_2D": _UNARY,
    "MEAN": Signature(inputs=(2, 2), parameters=(1,)),
    "MUL": _BINARY,
    "PAD": Signature(inputs=(2, 2), parameters=(1,)),
    "PADV2": Signature(inputs=(3, 3), parameters=(1,)),
    "QUANTIZE": _UNARY,
    "RELU": _UNARY,
    "RELU6": _UNARY,
    "RELU_0_TO_1": _UNARY,
    "RELU_N1_TO_1": _UNARY,
    "RESHAPE": Signature(inputs=(1, 2), parameters=(1,)),
    "RESIZE_NEAREST_NEIGHBOR": Signature(inputs=(2, 2), parameters=(1,)),
    "SLICE": Signature(inputs=(3, 3), parameters=(1, 2)),
    "SOFTMAX": _UNARY,
    "SPLIT": Signature(inputs=(2, 2), activations=(1,), parameters=(0,), outputs=_MANY),
    "SQUEEZE": _UNARY,
    "STRIDED_SLICE": Signature(inputs=(4, 4), parameters=(1, 2, 3)),
    "SUB": _BINARY,
    "TANH": _UNARY,
    "TRANSPOSE_CONV": Signature(inputs=(3, 4), activations=(2,), parameters=(0,)),
}
"""What the compiler knows of each operator, by its name in TensorFlow Lite."""

ALL = tuple(SIGNATURES)
WINDOWED = ("AVERAGE_POOL_2D", "CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D")
IMAGED = (*WINDOWED, "MEAN", "RESIZE_NEAREST_NEIGHBOR", "TRANSPOSE_CONV")
WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
POOLS = ("AVERAGE_POOL_2D", "MAX_POOL_2D")
BINARY = ("ADD", "MUL", "SUB")
FUSED = (*BINARY, *POOLS, *WEIGHTED)
VIEWS = ("EXPAND_DIMS", "RESHAPE", "SQUEEZE")
PADS = ("PAD", "PADV2")
SLICES = ("SLICE", "SPLIT", "STRIDED_SLICE")
MOVES = (*PADS, *SLICES, *VIEWS, "CONCATENATION", "RESIZE_NEAREST_NEIGHBOR")
TABLED = (
    "ABS",
    "ELU",
    "EXP",
    "GELU",
    "HARD_SWISH",
    "LEAKY_RELU",
    "LOGISTIC",
    "QUANTIZE",
    "RELU",
    "RELU6",
    "RELU_0_TO_1",
    "RELU_N1_TO_1",
    "TANH",
)
"""Operators of one operand, element by element: a table of 256 entries each."""
