"""The two graph forms of the compiler: the model's operators, and the kernels that they become.

A `Graph` holds what the model file says, in the model's own terms, and is made by a front end.
A `KernelGraph` holds integer arithmetic only: legalization has folded zero points into biases and
turned scales into multipliers, so that nothing after it needs a real number.
Tensors are dense NHWC (images) or [rows, features] (matrices) and are known by name.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from systolith.arch.isa import ElementwiseOp, Rounding

Int8Array = NDArray[np.int8]
Int64Array = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Tensor:
    """A tensor of the model.

    Parameters
    ----------
    name : str
        Unique name.
    shape : tuple of int
        Shape, batch first for activations.
    dtype : str
        NumPy name of the element type.
    scales : tuple of float
        One scale, or one per slice along `axis`; empty if not quantized.
    zero_points : tuple of int
        As many as scales.
    axis : int
        Quantized dimension of a per-channel tensor.
    data : ndarray or None
        Contents of a constant.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = 0
    data: NDArray[Any] | None = None

    @property
    def scale(self) -> float:
        """The scale of a per-tensor quantized tensor."""
        return self.scales[0]

    @property
    def zero_point(self) -> int:
        """The zero point of a per-tensor quantized tensor."""
        return self.zero_points[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Operator:
    """An operator of the model.

    Parameters
    ----------
    kind : str
        Operator in the vocabulary of TensorFlow Lite, for instance `"CONV_2D"`.
    index : int
        Position in the model, for messages.
    inputs : tuple of str or None
        Tensor names; None for an optional input left out.
    outputs : tuple of str
        Tensor names.
    attributes : mapping
        Options by name: strides, paddings, activations, in plain Python values.
    """

    kind: str
    index: int
    inputs: tuple[str | None, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class Graph:
    """A model: tensors by name and operators in order of execution."""

    name: str
    tensors: Mapping[str, Tensor]
    operators: tuple[Operator, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Image:
    """A dense activation as the accelerator sees it: `height * width * channels` bytes.

    A matrix of [rows, features] is an image of one line with `rows` pixels of `features` channels.
    """

    tensor: str
    height: int
    width: int
    channels: int

    @property
    def nbytes(self) -> int:
        """Bytes of the image."""
        return self.height * self.width * self.channels


@dataclass(frozen=True, kw_only=True, eq=False)
class Requantization:
    """How int32 sums become int8: fields of the `QUANTIZE` instruction, per output channel.

    `multipliers` and `shifts` are int64[channels]; they may all be equal (per-tensor).
    """

    rounding: Rounding
    multipliers: Int64Array
    shifts: Int64Array
    zero_point: int
    low: int
    high: int

    @property
    def per_channel(self) -> bool:
        """Whether multiplier or shift differ between channels."""
        return bool(
            np.any(self.multipliers != self.multipliers[0]) or np.any(self.shifts != self.shifts[0])
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Kernel:
    """Base of the kernels: `layer` is the index of the model's operator that it works for."""

    layer: int


class ImageKernel(Kernel):
    """Base of the kernels that the accelerator executes."""

    @property
    def reads(self) -> tuple[Image, ...]:
        """The images that the kernel reads."""
        raise NotImplementedError

    output: Image


class OneInputKernel(ImageKernel):
    """Base of the kernels that read one image."""

    input: Image

    @property
    def reads(self) -> tuple[Image, ...]:
        """The image that the kernel reads."""
        return (self.input,)


@dataclass(frozen=True, kw_only=True, eq=False)
class ConvKernel(OneInputKernel):
    """A dense convolution (or, with a 1x1 kernel on one line, a matrix product).

    output[y, x, o] = requantize(bias[o] + sum over ky, kx, i of weights[o, ky, kx, i] *
    input[y * stride_y + ky * dilation_y - pad_top, x * stride_x + kx * dilation_x - pad_left, i])
    where positions outside the input read `pad_value`, which is the input's zero point; the bias
    already holds `- zero_point * sum(weights)`.
    """

    input: Image
    output: Image
    weights: Int8Array  # [out channels, kernel height, kernel width, in channels]
    bias: Int64Array  # [out channels], in the range of int32
    stride: tuple[int, int]  # vertical, horizontal
    dilation: tuple[int, int]
    pad_top: int
    pad_left: int
    pad_value: int
    requantization: Requantization


@dataclass(frozen=True, kw_only=True, eq=False)
class DepthwiseKernel(OneInputKernel):
    """A depthwise convolution with one output per channel.

    output[y, x, c] = requantize(bias[c] + sum over ky, kx of weights[ky, kx, c] *
    input[y * stride_y + ky * dilation_y - pad_top, x * stride_x + kx * dilation_x - pad_left, c]),
    with padding and bias as in `ConvKernel`.
    """

    input: Image
    output: Image
    weights: Int8Array  # [kernel height, kernel width, channels]
    bias: Int64Array  # [channels], in the range of int32
    stride: tuple[int, int]
    dilation: tuple[int, int]
    pad_top: int
    pad_left: int
    pad_value: int
    requantization: Requantization


@dataclass(frozen=True, kw_only=True, eq=False)
class AveragePoolKernel(OneInputKernel):
    """Average pooling of int8 with equal scale and zero point on both sides.

    Padding is left out of sum and count; the quotient rounds half away from zero and is clamped
    to `low`..`high`.
    """

    input: Image
    output: Image
    window: tuple[int, int]
    stride: tuple[int, int]
    pad_top: int
    pad_left: int
    low: int
    high: int


@dataclass(frozen=True, kw_only=True, eq=False)
class MaxPoolKernel(OneInputKernel):
    """Maximum of windows, clamped to `low`..`high`; padding never wins."""

    input: Image
    output: Image
    window: tuple[int, int]
    stride: tuple[int, int]
    pad_top: int
    pad_left: int
    low: int
    high: int


@dataclass(frozen=True, kw_only=True, eq=False)
class MeanKernel(OneInputKernel):
    """Mean over height and width: `requantize(sum over pixels + bias)` per channel.

    `bias` and `requantization` hold one value for all channels; the output is one pixel.
    """

    input: Image
    output: Image
    bias: int
    requantization: Requantization


@dataclass(frozen=True, kw_only=True, eq=False)
class TableKernel(OneInputKernel):
    """`output = table[input mod 256]`, element by element: any int8 to int8 function."""

    input: Image
    output: Image
    table: Int8Array  # [256], entry v mod 256 for the int8 value v


@dataclass(frozen=True, kw_only=True, eq=False)
class PadKernel(OneInputKernel):
    """`input` inside `output` at (`top`, `left`, `front`), surrounded by `value`."""

    input: Image
    output: Image
    top: int
    left: int
    front: int
    value: int


@dataclass(frozen=True, kw_only=True, eq=False)
class SliceKernel(OneInputKernel):
    """`output[y, x, c] = input[y0 + y * step_y, x0 + x * step_x, c0 + c]`; steps are positive."""

    input: Image
    output: Image
    start: tuple[int, int, int]
    step: tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class ConcatKernel(ImageKernel):
    """Images joined along one axis: 0 height, 1 width, 2 channels; equal scales on all sides."""

    inputs: tuple[Image, ...]
    output: Image
    axis: int

    @property
    def reads(self) -> tuple[Image, ...]:
        """The parts."""
        return self.inputs


@dataclass(frozen=True, kw_only=True, eq=False)
class ResizeKernel(OneInputKernel):
    """`output[y, x] = input[rows[y], cols[x]]`: nearest neighbor; both index lists ascend."""

    input: Image
    output: Image
    rows: tuple[int, ...]
    cols: tuple[int, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class TransposeConvKernel(OneInputKernel):
    """A transposed convolution.

    output[y, x, o] = requantize(bias[o] + sum of weights[o, ky, kx, i] * input[iy, ix, i] over all
    ky, kx, iy, ix inside the input with iy * stride_y + ky - pad_top = y and
    ix * stride_x + kx - pad_left = x). `bias[o]` does not hold the input's zero point; it is
    `pad_value`, and an input equal to it contributes nothing.
    """

    input: Image
    output: Image
    weights: Int8Array  # [out channels, kernel height, kernel width, in channels]
    bias: Int64Array  # [out channels]
    stride: tuple[int, int]
    pad_top: int
    pad_left: int
    pad_value: int
    requantization: Requantization


@dataclass(frozen=True, kw_only=True, eq=False)
class BinaryKernel(ImageKernel):
    """Two int8 tensors of equal shape, element by element; the kinds say what `parameters` are."""

    op: ClassVar[ElementwiseOp]
    a: Image
    b: Image
    output: Image
    parameters: Mapping[str, int]

    @property
    def reads(self) -> tuple[Image, ...]:
        """Both operands."""
        return (self.a, self.b)


class MulKernel(BinaryKernel):
    """Product; `parameters` are fields of `ELEMENTWISE`."""

    op = ElementwiseOp.MUL


class AddKernel(BinaryKernel):
    """Sum; `parameters` are fields of `ELEMENTWISE`."""

    op = ElementwiseOp.ADD


@dataclass(frozen=True, kw_only=True, eq=False)
class ViewKernel(Kernel):
    """A reshape: `output` is another name for the bytes of `input`."""

    input: str
    output: str


@dataclass(frozen=True, kw_only=True, eq=False)
class HostKernel(Kernel):
    """An operator that the driver computes on the host."""

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, int | float]


@dataclass(frozen=True, kw_only=True, eq=False)
class KernelGraph:
    """A legalized model: kernels in order of execution.

    `layers` has a (name, op, macs) for each operator of the model, in the model's order.
    """

    name: str
    reference: str
    tensors: Mapping[str, Tensor]
    kernels: tuple[Kernel, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    layers: tuple[tuple[str, str, int], ...]
