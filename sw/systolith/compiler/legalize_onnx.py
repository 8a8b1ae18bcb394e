"""Legalization of ONNX graphs: from quantized operators to kernels of integer arithmetic.

Factors are float32 numbers, computed with the roundings of onnxruntime's kernels. Images become
NHWC; uint8 becomes int8 by moving value and zero point by 128, which is exact. Both happen once,
at the edges of the model: a host kernel flips and transposes what has not the accelerator's form.

Ref: onnxruntime core/providers/cpu/quantization and contrib_ops/cpu/quantization.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from systolith.arch import edges, float32
from systolith.arch.isa import Rounding
from systolith.arch.numerics import wrap_int32
from systolith.compiler import formula_onnx
from systolith.compiler.frontend.onnx_qdq import FORMULA
from systolith.compiler.ir import (
    ConcatKernel,
    ConvKernel,
    DepthwiseKernel,
    Graph,
    HostKernel,
    Image,
    Int8Array,
    Int64Array,
    Kernel,
    KernelGraph,
    MaxPoolKernel,
    MeanKernel,
    Operator,
    PadKernel,
    Requantization,
    ResizeKernel,
    TableKernel,
    Tensor,
    ViewKernel,
)
from systolith.compiler.kernels_onnx import (
    ProductKernel,
    SumKernel,
    SummedConvKernel,
    SummedDepthwiseKernel,
)
from systolith.compiler.layout_onnx import MOVES, Orders
from systolith.compiler.resize_onnx import nearest

REFERENCE = "onnxruntime"
"""Runtime whose results these kernels reproduce."""

_IMAGE_RANK = 4
_INT8_MIN, _INT8_MAX = -128, 127
_UINT8_OFFSET = 128
_CODES = 256
_FLOAT32_ULP = 2.0**-23


def legalize(graph: Graph) -> KernelGraph:
    """Return the kernels of a model that passed `rules_onnx.check`."""
    return _Legalizer(graph).run()


def multiplications(graph: Graph, operator: Operator) -> int:
    """Return the multiplications that the model defines for an operator; 0 without weights."""
    if operator.kind not in ("Conv", "Gemm", "MatMul"):
        return 0
    weights = graph.tensors[operator.inputs[1] or ""].shape
    outputs = math.prod(graph.tensors[operator.outputs[0]].shape)
    if operator.kind == "Conv":
        return outputs * math.prod(weights[1:])
    return outputs * math.prod(weights) // matrix_outputs(operator, weights)


def matrix_outputs(operator: Operator, weights: tuple[int, ...]) -> int:
    """Return the output features of the weights of a Gemm or MatMul."""
    return weights[0] if operator.attributes["transpose_b"] else weights[1]


def inner_zero(tensor: Tensor) -> int:
    """Return the zero point of an activation once it is int8."""
    return tensor.zero_point - (_UINT8_OFFSET if tensor.dtype == "uint8" else 0)


def weight_factors(input: Tensor, weights: Tensor, output: Tensor, channels: int) -> list[float]:
    """Return the float32 factor from sums to outputs for each channel."""
    with np.errstate(over="ignore", under="ignore"):
        factors = [
            float(np.float32(input.scale) * np.float32(scale) / np.float32(output.scale))
            for scale in weights.scales
        ]
    return factors if len(factors) == channels else factors * channels


def mean_factor(input: Tensor, output: Tensor, count: int) -> float:
    """Return the float32 factor from the sum of `count` elements to their mean."""
    with np.errstate(over="ignore", under="ignore", divide="ignore"):
        divisor = np.float32(output.scale) * np.float32(count)
        return float(np.float32(input.scale) / divisor)


def sum_factors(a: Tensor, b: Tensor, output: Tensor) -> tuple[float, float]:
    """Return the float32 factors of both operands of an Add."""
    scale = np.float32(output.scale)
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float32(a.scale) / scale), float(np.float32(b.scale) / scale)


def product_factor(a: Tensor, b: Tensor, output: Tensor) -> float:
    """Return the float32 factor of the product of both operands of a Mul."""
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float32(a.scale) * np.float32(b.scale) / np.float32(output.scale))


def centered(weights: Tensor, axis: int) -> Int64Array:
    """Return weights without their zero points, output channels along `axis`."""
    shape = [1] * len(weights.shape)
    shape[axis] = len(weights.zero_points)
    zeros = np.array(weights.zero_points, np.int64).reshape(shape)
    result: Int64Array = np.asarray(weights.data, np.int64) - zeros
    return result


def int8_terms(weights: Int64Array) -> list[Int8Array]:
    """Return int8 arrays whose sum is the weights: one, mostly two, three at the very ends."""
    terms: list[Int8Array] = []
    rest = weights
    while not terms or np.any(rest):
        term = np.clip(rest, _INT8_MIN, _INT8_MAX)
        terms.append(term.astype(np.int8))
        rest = rest - term
    return terms


def clamp_range(operator: Operator, output: Tensor) -> tuple[int, int]:
    """Return the smallest and the largest int8 result behind the operator's clamp."""
    low, high = operator.attributes["clamp"]
    bounds = []
    for bound, default in ((low, _INT8_MIN), (high, _INT8_MAX)):
        if bound is None:
            bounds.append(default)
            continue
        code = float32.quantize_linear(
            np.array(bound), output.scale, output.zero_point, output.dtype
        )
        bounds.append(int(code) + inner_zero(output) - output.zero_point)
    return min(bounds[0], bounds[1]), bounds[1]


def has_one_count(operator: Operator, input: Tensor) -> bool:
    """Return whether all windows of an AveragePool are over equally many pixels."""
    attributes = operator.attributes
    pads, sizes = attributes["pads"], input.shape[2:]
    for axis in range(2):
        reach = (attributes["output"][axis] - 1) * attributes["stride"][axis]
        if reach + attributes["kernel"][axis] > sizes[axis] + pads[axis] + pads[axis + 2]:
            return False
    return attributes["include_pad"] or not any(pads)


def has_ties(input: Tensor, output: Tensor, operator: Operator) -> bool:
    """Return whether a mean of an AveragePool may lie between two codes, to float32's precision."""
    count = math.prod(operator.attributes["kernel"])
    sums = np.arange(-_CODES * count, _CODES * count + 1)
    steps = sums * (input.scale / output.scale / count)
    steps = steps[np.abs(steps) <= _CODES]
    distance = np.abs(steps - np.floor(steps) - 0.5)
    return bool(np.any(distance <= np.abs(steps) * _FLOAT32_ULP))


class _Legalizer:
    """Legalizes one graph; tensors keep their names, of which the edges get a second one."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self._orders = Orders(graph)
        self._kernels: list[Kernel] = []
        self._tensors: dict[str, Tensor] = {}
        self._images: dict[str, Image] = {}
        self._inner: dict[str, str] = {}
        self._makers: dict[str, Callable[[Operator], None]] = {
            **dict.fromkeys((*MOVES, "Transpose"), self._view),
            "Add": self._add,
            "AveragePool": self._average_pool,
            "Concat": self._concat,
            "Conv": self._conv,
            FORMULA: self._formula,
            "Gemm": self._matrix,
            "GlobalAveragePool": self._mean,
            "MatMul": self._matrix,
            "MaxPool": self._max_pool,
            "Mul": self._mul,
            "Pad": self._pad,
            "ReduceMean": self._mean,
            "Resize": self._resize,
            "Softmax": self._softmax,
            "Upsample": self._resize,
        }

    def run(self) -> KernelGraph:
        """Return the kernel graph."""
        graph = self._graph
        for name in graph.inputs:
            self._enter(name)
        for operator in graph.operators:
            self._makers[operator.kind](operator)
        for name in graph.outputs:
            self._leave(name)
        return KernelGraph(
            name=graph.name,
            reference=REFERENCE,
            tensors=self._tensors,
            kernels=tuple(self._kernels),
            inputs=graph.inputs,
            outputs=graph.outputs,
            layers=tuple(
                (
                    operator.outputs[0],
                    str(operator.attributes.get("outer", operator.kind)),
                    multiplications(graph, operator),
                )
                for operator in graph.operators
            ),
        )

    # Edges

    def _is_plain(self, name: str) -> bool:
        """Return whether a tensor of the model has the accelerator's type and order."""
        order = self._orders.of[name]
        in_order = np.array_equal(order, np.arange(order.size))
        return in_order and self._graph.tensors[name].dtype == "int8"

    def _edge(self, source: str, target: str, layer: int, *, entering: bool, name: str) -> None:
        tensor, order = self._graph.tensors[name], self._orders.of[name]
        rows, columns = 1, order.size
        if not np.array_equal(order, np.arange(order.size)):
            channels = tensor.shape[1]
            rows, columns = channels, order.size // channels
        if not entering:
            rows, columns = columns, rows
        flip = edges.FLIP if tensor.dtype == "uint8" else 0
        self._kernels.append(
            HostKernel(
                layer=layer,
                op="rearrange",
                inputs=(source,),
                outputs=(target,),
                attributes={"rows": rows, "columns": columns, "flip": flip},
            )
        )

    def _enter(self, name: str) -> None:
        if self._is_plain(name):
            self._declare(name)
            return
        self._tensors[name] = self._graph.tensors[name]
        readers = [o.index for o in self._graph.operators if name in o.inputs]
        inner = self._declare(name, f"{name}:int8")
        self._edge(name, inner, readers[0] if readers else 0, entering=True, name=name)

    def _leave(self, name: str) -> None:
        if not self._inner[name].endswith(":int8"):
            return
        self._tensors[name] = self._graph.tensors[name]
        layer = next(o.index for o in self._graph.operators if name in o.outputs)
        self._edge(self._inner[name], name, layer, entering=False, name=name)

    # Tensors

    def _declare(self, name: str, inner: str | None = None) -> str:
        """Add the int8 form of a tensor of the model and return its name."""
        tensor = self._graph.tensors[name]
        if inner is None:
            edge = name in self._graph.outputs and not self._is_plain(name)
            inner = f"{name}:int8" if edge else name
        shape = tensor.shape
        if len(shape) == _IMAGE_RANK:
            shape = (shape[0], shape[2], shape[3], shape[1])
        self._inner[name] = inner
        self._tensors[inner] = Tensor(
            name=inner,
            shape=shape,
            dtype="int8",
            scales=tensor.scales,
            zero_points=(inner_zero(tensor),),
        )
        self._images[inner] = _image(inner, shape)
        return inner

    def _source(self, operator: Operator, position: int = 0) -> tuple[Tensor, Image]:
        name = operator.inputs[position] or ""
        return self._graph.tensors[name], self._images[self._inner[name]]

    def _target(self, operator: Operator) -> tuple[Tensor, Image]:
        name = operator.outputs[0]
        return self._graph.tensors[name], self._images[self._declare(name)]

    def _constant(self, operator: Operator, position: int) -> Tensor | None:
        if position >= len(operator.inputs) or operator.inputs[position] is None:
            return None
        return self._graph.tensors[operator.inputs[position] or ""]

    def _weights(self, operator: Operator) -> Tensor:
        weights = self._constant(operator, 1)
        assert weights is not None
        return weights

    def _bias(self, operator: Operator, input: Tensor, weights: Tensor) -> Int64Array | int:
        bias = self._constant(operator, 2)
        if bias is None or bias.data is None:
            return 0
        if bias.dtype == "int32":
            return np.asarray(bias.data, np.int64).reshape(-1)
        # The runtime quantizes a float bias to the scale of the sums.
        scales = np.float32(input.scale) * np.array(weights.scales, np.float32)
        steps = np.rint(np.asarray(bias.data, np.float32).reshape(-1) / scales)
        return np.asarray(steps.astype(np.float64), np.int64)

    # Operators with weights

    def _conv(self, operator: Operator) -> None:
        input, image = self._source(operator)
        output, result = self._target(operator)
        weights, groups = self._weights(operator), operator.attributes["group"]
        values = centered(weights, 0)
        zero = inner_zero(input)
        sums = values.reshape(len(values), -1).sum(axis=1)
        bias = np.asarray(wrap_int32(self._bias(operator, input, weights) - zero * sums))
        common: dict[str, Any] = {
            "layer": operator.index,
            "input": image,
            "output": result,
            "bias": bias,
            "stride": operator.attributes["stride"],
            "dilation": operator.attributes["dilation"],
            "pad_top": operator.attributes["pads"][0],
            "pad_left": operator.attributes["pads"][1],
            "pad_value": zero,
            "requantization": _requantization(
                operator, weight_factors(input, weights, output, len(values)), output
            ),
        }
        if groups == image.channels == result.channels and groups > 1:
            first, *rest = int8_terms(values[:, 0].transpose(1, 2, 0))
            kernel = DepthwiseKernel(weights=first, **common)
            self._kernels.append(
                SummedDepthwiseKernel(layer=operator.index, conv=kernel, extra_weights=tuple(rest))
                if rest
                else kernel
            )
            return
        first, *rest = int8_terms(_dense(values, groups).transpose(0, 2, 3, 1))
        self._append_conv(ConvKernel(weights=first, **common), rest)

    def _append_conv(self, kernel: ConvKernel, rest: list[Int8Array]) -> None:
        """Append a convolution with the weights that one int8 array does not hold."""
        self._kernels.append(
            SummedConvKernel(layer=kernel.layer, conv=kernel, extra_weights=tuple(rest))
            if rest
            else kernel
        )

    def _matrix(self, operator: Operator) -> None:
        input, _ = self._source(operator)
        output, _ = self._target(operator)
        weights = self._weights(operator)
        transposed = operator.attributes["transpose_b"]
        values = centered(weights, 0 if transposed else 1)
        values = values if transposed else values.T
        outputs, features = values.shape
        order = self._orders.features(operator)
        assert order is not None
        rows = math.prod(input.shape) // features
        zero = inner_zero(input)
        bias = self._bias(operator, input, weights) - zero * values.sum(axis=1)
        common: dict[str, Any] = {
            "layer": operator.index,
            "input": Image(tensor=self._inner[input.name], height=1, width=rows, channels=features),
            "output": Image(
                tensor=self._inner[output.name], height=1, width=rows, channels=outputs
            ),
            "bias": np.asarray(wrap_int32(bias)),
            "stride": (1, 1),
            "dilation": (1, 1),
            "pad_top": 0,
            "pad_left": 0,
            "pad_value": zero,
            "requantization": _requantization(
                operator, weight_factors(input, weights, output, outputs), output
            ),
        }
        first, *rest = int8_terms(values[:, order].reshape(outputs, 1, 1, features))
        self._append_conv(ConvKernel(weights=first, **common), rest)

    # Pools

    def _max_pool(self, operator: Operator) -> None:
        _, image = self._source(operator)
        _, result = self._target(operator)
        self._kernels.append(
            MaxPoolKernel(
                layer=operator.index,
                input=image,
                output=result,
                window=operator.attributes["kernel"],
                stride=operator.attributes["stride"],
                pad_top=operator.attributes["pads"][0],
                pad_left=operator.attributes["pads"][1],
                low=_INT8_MIN,
                high=_INT8_MAX,
            )
        )

    def _average_pool(self, operator: Operator) -> None:
        """Append the pool as a depthwise convolution with ones, whose sums are the window's.

        Where means lie between two codes, or windows differ in pixels, the host adds in float32.
        """
        input, image = self._source(operator)
        if operator.attributes["kernel"] == input.shape[2:] and not any(
            operator.attributes["pads"]
        ):
            self._mean(operator)
            return
        output, result = self._target(operator)
        if has_ties(input, output, operator) or not has_one_count(operator, input):
            self._kernels.append(_host_pool(operator, input, image, output, result))
            return
        kernel, zero = operator.attributes["kernel"], inner_zero(input)
        count = math.prod(kernel)
        factors = [mean_factor(input, output, count)] * image.channels
        self._kernels.append(
            DepthwiseKernel(
                layer=operator.index,
                input=image,
                output=result,
                weights=np.ones((*kernel, image.channels), np.int8),
                bias=np.full(image.channels, -zero * count, np.int64),
                stride=operator.attributes["stride"],
                dilation=(1, 1),
                pad_top=operator.attributes["pads"][0],
                pad_left=operator.attributes["pads"][1],
                pad_value=zero,
                requantization=_requantization(operator, factors, output),
            )
        )

    def _mean(self, operator: Operator) -> None:
        input, image = self._source(operator)
        output, _ = self._target(operator)
        count = image.height * image.width
        result = Image(tensor=self._inner[output.name], height=1, width=1, channels=image.channels)
        factors = [mean_factor(input, output, count)]
        self._kernels.append(
            MeanKernel(
                layer=operator.index,
                input=image,
                output=result,
                bias=-inner_zero(input) * count,
                requantization=_requantization(operator, factors, output),
            )
        )

    # Element by element

    def _formula(self, operator: Operator) -> None:
        input, image = self._source(operator)
        output, result = self._target(operator)
        table = formula_onnx.table(operator.attributes["tree"], input, output)
        self._append_table(operator, image, result, table)

    def _append_table(
        self, operator: Operator, image: Image, result: Image, table: Int8Array
    ) -> None:
        self._kernels.append(
            TableKernel(layer=operator.index, input=image, output=_like(image, result), table=table)
        )

    def _add(self, operator: Operator) -> None:
        a, b = (self._graph.tensors[name or ""] for name in operator.inputs[:2])
        output, result = self._target(operator)
        (a_multiplier, b_multiplier), shift = float32.factors(*sum_factors(a, b, output))
        low, high = clamp_range(operator, output)
        parameters = {
            "a_zero": inner_zero(a),
            "a_multiplier": a_multiplier,
            "b_zero": inner_zero(b),
            "b_multiplier": b_multiplier,
            "out_shift": shift,
            "out_zero": inner_zero(output),
            "low": low,
            "high": high,
        }
        self._append_binary(operator, result, SumKernel, parameters)

    def _mul(self, operator: Operator) -> None:
        a, b = (self._graph.tensors[name or ""] for name in operator.inputs[:2])
        output, result = self._target(operator)
        (multiplier,), shift = float32.factors(product_factor(a, b, output))
        low, high = clamp_range(operator, output)
        parameters = {
            "a_zero": inner_zero(a),
            "b_zero": inner_zero(b),
            "out_multiplier": multiplier,
            "out_shift": shift,
            "out_zero": inner_zero(output),
            "low": low,
            "high": high,
        }
        self._append_binary(operator, result, ProductKernel, parameters)

    def _append_binary(
        self,
        operator: Operator,
        result: Image,
        kind: type[SumKernel] | type[ProductKernel],
        parameters: dict[str, int],
    ) -> None:
        """Append a kernel of two images, or the table of one image and a constant."""
        operands = [self._graph.tensors[name or ""] for name in operator.inputs[:2]]
        images = [
            None if tensor.data is not None else self._images[self._inner[tensor.name]]
            for tensor in operands
        ]
        if images[0] is not None and images[1] is not None:
            self._kernels.append(
                kind(
                    layer=operator.index,
                    a=images[0],
                    b=images[1],
                    output=_like(images[0], result),
                    parameters=parameters,
                )
            )
            return
        codes = np.arange(_INT8_MIN, _INT8_MAX + 1, dtype=np.int64)
        values = [
            codes
            if tensor.data is None
            else np.int64(int(tensor.data.reshape(())) + inner_zero(tensor) - tensor.zero_point)
            for tensor in operands
        ]
        function = float32.add if kind is SumKernel else float32.mul
        table = formula_onnx.arrange(function(*values, **parameters), "int8")
        image = images[0] or images[1]
        assert image is not None
        self._append_table(operator, image, result, table)

    # Moves

    def _view(self, operator: Operator) -> None:
        name = operator.inputs[0] or ""
        output = self._declare(operator.outputs[0])
        self._kernels.append(
            ViewKernel(layer=operator.index, input=self._inner[name], output=output)
        )

    def _concat(self, operator: Operator) -> None:
        output, _ = self._target(operator)
        axis, rank = operator.attributes["axis"], len(output.shape)
        parts = tuple(
            self._requantized(operator, position, output)
            for position in range(len(operator.inputs))
        )
        images = tuple(_joined(image, output, rank, axis) for image in parts)
        sizes = [sum(getattr(i, side) for i in images) for side in ("height", "width", "channels")]
        along = _AXES[axis] if rank == _IMAGE_RANK else (2 if axis == rank - 1 else 1)
        first = images[0]
        height, width, channels = first.height, first.width, first.channels
        size = [height, width, channels]
        size[along] = sizes[along]
        self._kernels.append(
            ConcatKernel(
                layer=operator.index,
                inputs=images,
                output=Image(
                    tensor=self._inner[output.name],
                    height=size[0],
                    width=size[1],
                    channels=size[2],
                ),
                axis=along,
            )
        )

    def _requantized(self, operator: Operator, position: int, output: Tensor) -> Image:
        """Return an operand with the quantization of the output, behind a table if need be."""
        input, image = self._source(operator, position)
        table = formula_onnx.table(("input",), input, output)
        identity = formula_onnx.arrange(np.arange(_INT8_MIN, _INT8_MAX + 1), "int8")
        if np.array_equal(table, identity):
            return image
        name = f"{output.name}:{position}"
        given = self._tensors[image.tensor]
        self._tensors[name] = Tensor(
            name=name,
            shape=given.shape,
            dtype="int8",
            scales=output.scales,
            zero_points=(inner_zero(output),),
        )
        result = Image(tensor=name, height=image.height, width=image.width, channels=image.channels)
        self._append_table(operator, image, result, table)
        return result

    def _pad(self, operator: Operator) -> None:
        input, image = self._source(operator)
        _, result = self._target(operator)
        pads = operator.attributes["pads"]
        value = float32.quantize_linear(
            np.array(operator.attributes["value"]), input.scale, input.zero_point, input.dtype
        )
        self._kernels.append(
            PadKernel(
                layer=operator.index,
                input=image,
                output=result,
                top=pads[2],
                left=pads[3],
                front=pads[1],
                value=int(value) + inner_zero(input) - input.zero_point,
            )
        )

    def _resize(self, operator: Operator) -> None:
        _, image = self._source(operator)
        _, result = self._target(operator)
        self._kernels.append(
            ResizeKernel(
                layer=operator.index,
                input=image,
                output=result,
                rows=nearest(operator.attributes, 2, image.height, result.height),
                cols=nearest(operator.attributes, 3, image.width, result.width),
            )
        )

    def _softmax(self, operator: Operator) -> None:
        input, _ = self._source(operator)
        output, _ = self._target(operator)
        self._kernels.append(
            HostKernel(
                layer=operator.index,
                op="softmax_float32",
                inputs=(self._inner[input.name],),
                outputs=(self._inner[output.name],),
                attributes={
                    "depth": input.shape[operator.attributes["axis"]],
                    "input_scale": input.scale,
                    "output_scale": output.scale,
                    "output_zero": inner_zero(output),
                },
            )
        )


_AXES = {1: 2, 2: 0, 3: 1}
"""Axis of an image (height, width, channels) by axis of NCHW."""


def _image(name: str, shape: tuple[int, ...]) -> Image:
    """Return an NHWC tensor of batch 1 as an image, any other as the pixels of one line."""
    if len(shape) == _IMAGE_RANK and shape[0] == 1:
        return Image(tensor=name, height=shape[1], width=shape[2], channels=shape[3])
    return Image(tensor=name, height=1, width=math.prod(shape[:-1]), channels=shape[-1])


def _like(image: Image, result: Image) -> Image:
    """Return the result of an operator on elements, in the form of its operand."""
    return Image(
        tensor=result.tensor, height=image.height, width=image.width, channels=image.channels
    )


def _joined(image: Image, output: Tensor, rank: int, axis: int) -> Image:
    """Return a part of a concatenation, in the form in which parts are joined."""
    if rank == _IMAGE_RANK or axis == rank - 1:
        return image
    channels = math.prod(output.shape[axis + 1 :])
    return Image(tensor=image.tensor, height=1, width=image.nbytes // channels, channels=channels)


def _dense(weights: Int64Array, groups: int) -> Int64Array:
    """Return grouped weights as dense ones, zero where output and input are of other groups."""
    if groups == 1:
        return weights
    outputs, depth = weights.shape[:2]
    result = np.zeros((outputs, depth * groups, *weights.shape[2:]), np.int64)
    for group in range(groups):
        rows = slice(group * outputs // groups, (group + 1) * outputs // groups)
        result[rows, group * depth : (group + 1) * depth] = weights[rows]
    return result


def _host_pool(
    operator: Operator, input: Tensor, image: Image, output: Tensor, result: Image
) -> HostKernel:
    attributes = operator.attributes
    return HostKernel(
        layer=operator.index,
        op="average_pool_float32",
        inputs=(image.tensor,),
        outputs=(result.tensor,),
        attributes={
            "height": image.height,
            "width": image.width,
            "channels": image.channels,
            "out_height": result.height,
            "out_width": result.width,
            "kernel_height": attributes["kernel"][0],
            "kernel_width": attributes["kernel"][1],
            "stride_height": attributes["stride"][0],
            "stride_width": attributes["stride"][1],
            "pad_top": attributes["pads"][0],
            "pad_left": attributes["pads"][1],
            "include_pad": int(attributes["include_pad"]),
            "input_scale": input.scale,
            "input_zero": inner_zero(input),
            "output_scale": output.scale,
            "output_zero": output.zero_point,
            "output_offset": output.zero_point - inner_zero(output),
        },
    )


def _requantization(operator: Operator, factors: list[float], output: Tensor) -> Requantization:
    low, high = clamp_range(operator, output)
    return Requantization(
        rounding=Rounding.FLOAT32,
        multipliers=np.array([float32.to_bits(factor) for factor in factors], np.int64),
        shifts=np.zeros(len(factors), np.int64),
        zero_point=inner_zero(output),
        low=low,
        high=high,
    )
