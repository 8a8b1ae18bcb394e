"""Makers of the operators without weights, and of transposed convolution.

A part of :class:`systolith.bench.tflite_writer.TfliteModel`, whose rules hold here: integers and
quantization are written as they are given.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from systolith.bench.tflite_schema import (
    Activation,
    Padding,
    Quantization,
    Tensor,
    activation_code,
    integers,
    quantization_parameters,
    schema,
)

# The operator versions in which the runtimes added the int8 forms written here.
MORE_VERSIONS = {
    "ABS": 2,
    "CONCATENATION": 2,
    "ELU": 1,
    "EXP": 2,
    "EXPAND_DIMS": 1,
    "GELU": 2,
    "HARD_SWISH": 1,
    "LEAKY_RELU": 2,
    "LOGISTIC": 2,
    "MEAN": 2,
    "MUL": 2,
    "PAD": 2,
    "PADV2": 2,
    "QUANTIZE": 2,
    "RELU": 2,
    "RELU6": 2,
    "RELU_0_TO_1": 1,
    "RELU_N1_TO_1": 1,
    "RESIZE_NEAREST_NEIGHBOR": 3,
    "SLICE": 2,
    "SPLIT": 2,
    "SQUEEZE": 1,
    "STRIDED_SLICE": 2,
    "SUB": 2,
    "TANH": 2,
    "TRANSPOSE_CONV": 3,
}
# The only output quantization that int8 SOFTMAX may have.
SOFTMAX_SCALE = 1 / 256
SOFTMAX_ZERO_POINT = -128

Constant = tuple[ArrayLike, float, int]
"""Integers of a constant operand, scale and zero point."""


class MoreOperators:
    """Methods of `TfliteModel`."""

    def _append(
        self,
        operator: str,
        inputs: list[int],
        options: Any,
        shape: tuple[int, ...],
        quantization: Quantization,
        name: str | None,
    ) -> Tensor:
        """Add one operator with its one output tensor."""
        raise NotImplementedError

    def _append_many(
        self,
        operator: str,
        inputs: list[int],
        options: Any,
        shapes: list[tuple[int, ...]],
        quantization: Quantization,
        name: str | None,
    ) -> list[Tensor]:
        """Add one operator with its outputs."""
        raise NotImplementedError

    def _constant(self, name: str, data: NDArray[Any], quantization: Any) -> int:
        raise NotImplementedError

    def _weights(
        self,
        x: Tensor,
        weights: NDArray[Any],
        bias: ArrayLike | None,
        weight_scales: ArrayLike,
        channel_axis: int | None,
    ) -> list[int]:
        raise NotImplementedError

    def _integers(self, what: str, values: ArrayLike) -> int:
        return self._constant(what, np.asarray(values, np.int32), None)

    def binary(
        self,
        operator: str,
        a: Tensor | Constant,
        b: Tensor | Constant,
        *,
        scale: float,
        zero_point: int,
        activation: Activation = "NONE",
        name: str | None = None,
    ) -> Tensor:
        """Append ADD, SUB or MUL of two tensors, broadcast as in NumPy; one may be constant."""
        options = getattr(schema(), f"{operator.capitalize()}OptionsT")()
        options.fusedActivationFunction = activation_code(activation)
        numbers, shapes = [], []
        for operand in (a, b):
            if isinstance(operand, Tensor):
                numbers.append(operand.index)
                shapes.append(operand.shape)
                continue
            values, operand_scale, operand_zero = operand
            data = np.asarray(values, np.int8)
            parameters = quantization_parameters([operand_scale], operand_zero, 0)
            numbers.append(self._constant("operand", data, parameters))
            shapes.append(data.shape)
        shape = np.broadcast_shapes(*shapes)
        return self._append(
            operator, numbers, options, shape, Quantization(scale, zero_point), name
        )

    def add(
        self,
        a: Tensor,
        b: Tensor,
        *,
        scale: float,
        zero_point: int,
        activation: Activation = "NONE",
        name: str | None = None,
    ) -> Tensor:
        """Append ADD of two tensors, broadcast as in NumPy."""
        return self.binary(
            "ADD", a, b, scale=scale, zero_point=zero_point, activation=activation, name=name
        )

    def softmax(self, x: Tensor, *, beta: float = 1.0, name: str | None = None) -> Tensor:
        """Append SOFTMAX over the last axis; the output is always scale 1/256, zero point -128."""
        options = schema().SoftmaxOptionsT()
        options.beta = beta
        quantization = Quantization(SOFTMAX_SCALE, SOFTMAX_ZERO_POINT)
        return self._append("SOFTMAX", [x.index], options, x.shape, quantization, name)

    def unary(
        self,
        operator: str,
        x: Tensor,
        quantization: Quantization,
        *,
        alpha: float = 0.0,
        approximate: bool = False,
        name: str | None = None,
    ) -> Tensor:
        """Append an operator of one operand, element by element.

        `alpha` is the slope of LEAKY_RELU, `approximate` the form of GELU.
        """
        options = None
        if operator == "LEAKY_RELU":
            options = schema().LeakyReluOptionsT()
            options.alpha = alpha
        elif operator == "GELU":
            options = schema().GeluOptionsT()
            options.approximate = approximate
        elif operator == "QUANTIZE":
            options = schema().QuantizeOptionsT()
        return self._append(operator, [x.index], options, x.shape, quantization, name)

    def mean(
        self,
        x: Tensor,
        axes: Sequence[int],
        *,
        scale: float,
        zero_point: int,
        keep_dims: bool = True,
        name: str | None = None,
    ) -> Tensor:
        """Append MEAN over axes."""
        options = schema().ReducerOptionsT()
        options.keepDims = keep_dims
        reduced = {axis % len(x.shape) for axis in axes}
        shape = tuple(
            1 if axis in reduced else size
            for axis, size in enumerate(x.shape)
            if keep_dims or axis not in reduced
        )
        inputs = [x.index, self._integers("axes", axes)]
        return self._append("MEAN", inputs, options, shape, Quantization(scale, zero_point), name)

    def pad(
        self,
        x: Tensor,
        paddings: Sequence[tuple[int, int]],
        *,
        value: int | None = None,
        name: str | None = None,
    ) -> Tensor:
        """Append PAD with zeros, or PADV2 with the integer `value`."""
        shape = tuple(size + sum(pair) for size, pair in zip(x.shape, paddings, strict=True))
        inputs = [x.index, self._integers("paddings", paddings)]
        if value is None:
            return self._append("PAD", inputs, schema().PadOptionsT(), shape, x.quantization, name)
        parameters = quantization_parameters([x.quantization.scale], x.quantization.zero_point, 0)
        inputs.append(self._constant("value", np.array([value], np.int8), parameters))
        return self._append("PADV2", inputs, schema().PadV2OptionsT(), shape, x.quantization, name)

    def concatenation(
        self, parts: Sequence[Tensor], axis: int, *, name: str | None = None
    ) -> Tensor:
        """Append CONCATENATION of tensors of one quantization."""
        options = schema().ConcatenationOptionsT()
        options.axis = axis
        shape = list(parts[0].shape)
        shape[axis] = sum(part.shape[axis] for part in parts)
        inputs = [part.index for part in parts]
        quantization = parts[0].quantization
        return self._append("CONCATENATION", inputs, options, tuple(shape), quantization, name)

    def slice(
        self, x: Tensor, begins: Sequence[int], sizes: Sequence[int], *, name: str | None = None
    ) -> Tensor:
        """Append SLICE; a size of -1 is the rest."""
        shape = tuple(
            whole - begin if size == -1 else size
            for whole, begin, size in zip(x.shape, begins, sizes, strict=True)
        )
        inputs = [x.index, self._integers("begins", begins), self._integers("sizes", sizes)]
        options = schema().SliceOptionsT()
        return self._append("SLICE", inputs, options, shape, x.quantization, name)

    def strided_slice(
        self,
        x: Tensor,
        begins: Sequence[int],
        ends: Sequence[int],
        steps: Sequence[int],
        *,
        begin_mask: int = 0,
        end_mask: int = 0,
        shrink_axis_mask: int = 0,
        name: str | None = None,
    ) -> Tensor:
        """Append STRIDED_SLICE."""
        options = schema().StridedSliceOptionsT()
        options.beginMask, options.endMask = begin_mask, end_mask
        options.shrinkAxisMask = shrink_axis_mask
        shape = []
        for axis, size in enumerate(x.shape):
            begin = None if begin_mask >> axis & 1 else begins[axis]
            end = None if end_mask >> axis & 1 else ends[axis]
            if not shrink_axis_mask >> axis & 1:
                shape.append(len(range(size)[begin : end : steps[axis]]))
        inputs = [x.index, *(self._integers("bounds", v) for v in (begins, ends, steps))]
        quantization = x.quantization
        return self._append("STRIDED_SLICE", inputs, options, tuple(shape), quantization, name)

    def split(self, x: Tensor, axis: int, count: int, *, name: str | None = None) -> list[Tensor]:
        """Append SPLIT into `count` parts."""
        options = schema().SplitOptionsT()
        options.numSplits = count
        shape = list(x.shape)
        shape[axis] //= count
        inputs = [self._integers("axis", axis), x.index]
        shapes = [tuple(shape)] * count
        return self._append_many("SPLIT", inputs, options, shapes, x.quantization, name)

    def resize_nearest(
        self,
        x: Tensor,
        size: tuple[int, int],
        *,
        align_corners: bool = False,
        half_pixel_centers: bool = False,
        name: str | None = None,
    ) -> Tensor:
        """Append RESIZE_NEAREST_NEIGHBOR to (height, width)."""
        options = schema().ResizeNearestNeighborOptionsT()
        options.alignCorners = align_corners
        options.halfPixelCenters = half_pixel_centers
        shape = (x.shape[0], *size, x.shape[3])
        inputs = [x.index, self._integers("size", size)]
        return self._append("RESIZE_NEAREST_NEIGHBOR", inputs, options, shape, x.quantization, name)

    def view(self, operator: str, x: Tensor, shape: Sequence[int], *, axis: int = 0) -> Tensor:
        """Append SQUEEZE of all dimensions of 1, or EXPAND_DIMS by one at `axis`, to `shape`."""
        if operator == "SQUEEZE":
            options = schema().SqueezeOptionsT()
            return self._append(operator, [x.index], options, tuple(shape), x.quantization, None)
        inputs = [x.index, self._integers("axis", axis)]
        options = schema().ExpandDimsOptionsT()
        return self._append(operator, inputs, options, tuple(shape), x.quantization, None)

    def transpose_conv(
        self,
        x: Tensor,
        weights: ArrayLike,
        bias: ArrayLike | None,
        *,
        weight_scales: ArrayLike,
        scale: float,
        zero_point: int,
        size: tuple[int, int],
        stride: tuple[int, int],
        padding: Padding = "SAME",
        activation: Activation = "NONE",
        name: str | None = None,
    ) -> Tensor:
        """Append TRANSPOSE_CONV with weights ``int8[O, KH, KW, I]`` to an output of this size."""
        w = integers("Weights", weights, np.int8, (-1, -1, -1, x.shape[-1]))
        options = schema().TransposeConvOptionsT()
        options.padding = getattr(schema().Padding, padding)
        options.strideH, options.strideW = stride
        options.fusedActivationFunction = activation_code(activation)
        shape = (x.shape[0], *size, w.shape[0])
        weights_number, bias_number = self._weights(x, w, bias, weight_scales, channel_axis=0)
        inputs = [self._integers("shape", shape), weights_number, x.index]
        if bias_number >= 0:
            inputs.append(bias_number)
        output = Quantization(scale, zero_point)
        return self._append("TRANSPOSE_CONV", inputs, options, shape, output, name)
