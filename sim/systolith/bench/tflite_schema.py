"""Checked types and schema tables that :mod:`systolith.bench.tflite_writer` is made of.

The object API that LiteRT publishes (package ``ai-edge-litert``) packs the flatbuffer; here are its
lazy import, the constructors of the tables that several operators share, and tensor geometry.

Ref: TFLite schema, ``tensorflow/compiler/mlir/lite/schema/schema.fbs``.
"""

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from systolith.arch.errors import ToolchainError

Padding = Literal["SAME", "VALID"]
Activation = Literal["NONE", "RELU", "RELU_N1_TO_1", "RELU6"]

SCHEMA_MODULE = "ai_edge_litert.schema_py_generated"
# ``Buffer.data`` carries ``force_align: 16`` in the schema; kernels may use vector loads on it.
BUFFER_ALIGN_BYTES = 16


@dataclass(frozen=True, slots=True)
class Quantization:
    """Quantization of a tensor: ``real = scale * (integer - zero_point)``.

    Parameters
    ----------
    scale : float
        Positive; rounded to float32, which is what the file holds.
    zero_point : int
        -128..127, or 0..255 for uint8.
    dtype : {"int8", "uint8"}
        Type of the integers.
    """

    scale: float
    zero_point: int
    dtype: Literal["int8", "uint8"] = "int8"

    def __post_init__(self) -> None:
        object.__setattr__(self, "scale", float(np.float32(self.scale)))
        if not (np.isfinite(self.scale) and self.scale > 0):
            raise ValueError(f"Scale must be positive and finite, not {self.scale!r}")
        low = -128 if self.dtype == "int8" else 0
        if not low <= self.zero_point <= low + 255:
            raise ValueError(f"Zero point must be in {low}..{low + 255}, not {self.zero_point!r}")


@dataclass(frozen=True, slots=True)
class Tensor:
    """Handle of an activation tensor of one :class:`TfliteModel`.

    Parameters
    ----------
    index : int
        Number of the tensor in the file.
    name : str
        Name in the file.
    shape : tuple of int
        Shape, batch first; images are NHWC.
    quantization : Quantization
        Scale and zero point.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    quantization: Quantization


class Window(NamedTuple):
    """Geometry of a sliding window, each pair as (height, width)."""

    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding: Padding

    def output_size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Return the output height and width for an input of height and width `size`."""
        out = []
        for axis, length in enumerate(size):
            reach = (self.kernel[axis] - 1) * self.dilation[axis] + 1
            steps = length if self.padding == "SAME" else length - reach + 1
            out.append(-(-steps // self.stride[axis]))
        if min(out) < 1:
            raise ValueError(f"Window {self} must fit into the input of {size[0]}x{size[1]}")
        return out[0], out[1]


def integers(name: str, values: ArrayLike, dtype: type, shape: tuple[int, ...]) -> NDArray[Any]:
    """Return `values` as an array after checking its dtype and shape; -1 accepts any length."""
    array = np.asarray(values)
    if array.dtype != dtype:
        raise TypeError(f"{name} must be {np.dtype(dtype)}, not {array.dtype}")
    fits = array.ndim == len(shape) and all(
        wanted in (-1, given) for wanted, given in zip(shape, array.shape, strict=True)
    )
    if not fits:
        raise ValueError(f"{name} must have shape {shape} (-1: any length), not {array.shape}")
    return array


def image_shape(x: Tensor, window: Window, channels: int) -> tuple[int, int, int, int]:
    """Return the shape of the output of `window` over `x`."""
    if len(x.shape) != 4:
        raise ValueError(f'Tensor "{x.name}" must be NHWC, not of shape {x.shape}')
    height, width = window.output_size((x.shape[1], x.shape[2]))
    return x.shape[0], height, width, channels


@cache
def schema() -> Any:
    """Import the schema on first use, so that reading this module needs NumPy only."""
    try:
        return importlib.import_module(SCHEMA_MODULE)
    except ImportError as error:
        raise ToolchainError(
            'Writing TFLite models needs the package "ai-edge-litert", which cannot be imported '
            f"({error}); install it with: pip install ai-edge-litert"
        ) from error


def aligned_buffer(data: NDArray[np.uint8] | None) -> Any:
    """Return a schema buffer whose bytes start at a multiple of `BUFFER_ALIGN_BYTES`."""

    class AlignedBuffer(schema().BufferT):  # type: ignore[misc]
        def Pack(self, builder: Any) -> Any:  # noqa: N802 (name given by the schema)
            if self.data is not None:
                # The generated code aligns to the element size only. Padding inserted now, in
                # front of the vector (files are built back to front), is what is missing.
                builder.Prep(BUFFER_ALIGN_BYTES, len(self.data))
            return super().Pack(builder)

    buffer = AlignedBuffer()
    buffer.data = data
    return buffer


def activation_code(activation: Activation) -> int:
    """Return the schema's number of a fused activation."""
    code = getattr(schema().ActivationFunctionType, activation, None)
    if not isinstance(code, int):
        raise ValueError(f"Activation must be NONE, RELU, RELU_N1_TO_1 or RELU6, not {activation}")
    return code


def set_window(options: Any, window: Window, activation: Activation) -> None:
    """Fill the option fields that convolutions and pools share."""
    if min(*window.kernel, *window.stride, *window.dilation) < 1:
        raise ValueError(f"Window, stride and dilation must be positive, not {window}")
    if window.padding not in ("SAME", "VALID"):
        raise ValueError(f"Padding must be SAME or VALID, not {window.padding}")
    options.padding = getattr(schema().Padding, window.padding)
    options.strideH, options.strideW = window.stride
    options.fusedActivationFunction = activation_code(activation)


def convolution_options(table: str, window: Window, activation: Activation) -> Any:
    """Return the options table of a convolution, by its name in the schema."""
    options = getattr(schema(), f"{table}T")()
    set_window(options, window, activation)
    options.dilationHFactor, options.dilationWFactor = window.dilation
    return options


def quantization_parameters(scales: ArrayLike, zero_point: int, axis: int) -> Any:
    """Return the quantization table of a tensor with one scale, or one per index of `axis`."""
    parameters = schema().QuantizationParametersT()
    parameters.scale = np.asarray(scales, np.float32)
    parameters.zeroPoint = np.full(parameters.scale.shape, zero_point, np.int64)
    parameters.quantizedDimension = axis
    return parameters
