"""Legalization: from the model's operators to kernels of integer arithmetic.

Everything real ends here: scales become Q31 multipliers with shifts, fused activations become
clamps, zero points of inputs go into biases. Scales are float32 numbers of the file, and each
expression rounds where the reference runtime's expression rounds.

Ref: `PopulateConvolutionQuantizationParams` and `GetQuantizedConvolutionMultipler`,
    tensorflow/lite/kernels/kernel_util.cc; `CalculateOpDataAdd`,
    tensorflow/lite/micro/kernels/add_common.cc.
"""

import math
from collections.abc import Callable, Sequence

import numpy as np

from systolith.arch import softmax
from systolith.arch.isa import Rounding
from systolith.arch.numerics import quantize_multiplier, wrap_int32
from systolith.compiler import geometry
from systolith.compiler.ir import (
    AddKernel,
    AveragePoolKernel,
    ConvKernel,
    Graph,
    HostKernel,
    Image,
    Int8Array,
    Int64Array,
    Kernel,
    KernelGraph,
    Operator,
    Requantization,
    Tensor,
    ViewKernel,
)

REFERENCES: dict[str, Rounding] = {
    "tflm": Rounding.DOUBLE,
    "litert_reference": Rounding.SINGLE,
}
"""Runtimes whose results are reproduced, and how each rounds in FULLY_CONNECTED."""

ADD_LEFT_SHIFT = 20
"""Bits of headroom that both operands of an int8 ADD get."""

_IMAGE_RANK = 4


def legalize(graph: Graph, reference: str) -> KernelGraph:
    """Return the kernels of a model that passed `rules.check`.

    Parameters
    ----------
    graph : Graph
        Model.
    reference : str
        Runtime whose rounding is reproduced, a key of `REFERENCES`.

    Raises
    ------
    ValueError
        The reference is unknown.
    """
    if reference not in REFERENCES:
        raise ValueError(f"Reference must be one of {', '.join(REFERENCES)}, not {reference!r}")
    legalizer = _Legalizer(graph, reference)
    kernels = [legalizer.kernel(operator) for operator in graph.operators]
    edges = {*graph.inputs, *graph.outputs}
    edges.update(name for operator in graph.operators for name in operator.outputs)
    return KernelGraph(
        name=graph.name,
        reference=reference,
        tensors={name: tensor for name, tensor in graph.tensors.items() if name in edges},
        kernels=tuple(kernels),
        inputs=graph.inputs,
        outputs=graph.outputs,
        layers=tuple(
            (operator.outputs[0], operator.kind, multiplications(graph, operator))
            for operator in graph.operators
        ),
    )


def multiplications(graph: Graph, operator: Operator) -> int:
    """Return the multiplications that the model defines for an operator; 0 without weights."""
    weights_name = operator.inputs[1] if len(operator.inputs) > 1 else None
    if operator.kind not in ("CONV_2D", "FULLY_CONNECTED") or weights_name is None:
        return 0
    weights = graph.tensors[weights_name].shape
    return math.prod(graph.tensors[operator.outputs[0]].shape) * math.prod(weights[1:])


def image_of(tensor: Tensor) -> Image:
    """Return a tensor as an image: NHWC of batch 1, or the pixels of one line."""
    *leading, channels = tensor.shape
    if len(tensor.shape) == _IMAGE_RANK and tensor.shape[0] == 1:
        _, height, width = leading
        return Image(tensor=tensor.name, height=height, width=width, channels=channels)
    return Image(tensor=tensor.name, height=1, width=math.prod(leading), channels=channels)


def channel_factors(input: Tensor, weights: Tensor, output: Tensor, channels: int) -> list[float]:
    """Return the factor from sums to outputs, for each channel."""
    factors = [float(input.scale) * scale / output.scale for scale in weights.scales]
    return factors if len(factors) == channels else factors * channels


def tensor_factor(input: Tensor, weights: Tensor, output: Tensor) -> float:
    """Return the factor from sums to outputs of FULLY_CONNECTED with per-tensor weights.

    Unlike that of convolutions it contains the product of two scales rounded to float32, which may
    be zero or infinite.
    """
    with np.errstate(over="ignore", under="ignore"):
        product = np.float32(input.scale) * np.float32(weights.scale)
    return float(product) / output.scale


def add_factors(a: Tensor, b: Tensor, output: Tensor) -> tuple[float, float, float]:
    """Return the factors of both operands and of the sum of an ADD."""
    twice_max = 2.0 * max(a.scale, b.scale)
    return (
        a.scale / twice_max,
        b.scale / twice_max,
        twice_max / ((1 << ADD_LEFT_SHIFT) * output.scale),
    )


def fully_connected_factors(
    input: Tensor, weights: Tensor, output: Tensor, channels: int
) -> list[float]:
    """Return the factor from sums to outputs of FULLY_CONNECTED, for each channel."""
    if len(weights.scales) > 1:
        return channel_factors(input, weights, output, channels)
    return [tensor_factor(input, weights, output)] * channels


class _Legalizer:
    """Legalizes the operators of one graph."""

    def __init__(self, graph: Graph, reference: str) -> None:
        self._graph = graph
        self._fully_connected_rounding = REFERENCES[reference]
        self._makers: dict[str, Callable[[Operator], Kernel]] = {
            "ADD": self._add,
            "AVERAGE_POOL_2D": self._average_pool,
            "CONV_2D": self._conv,
            "FULLY_CONNECTED": self._fully_connected,
            "RESHAPE": self._reshape,
            "SOFTMAX": self._softmax,
        }

    def kernel(self, operator: Operator) -> Kernel:
        """Return the kernel of one operator."""
        return self._makers[operator.kind](operator)

    def _tensors(self, operator: Operator) -> tuple[list[Tensor | None], Tensor]:
        inputs = [None if n is None else self._graph.tensors[n] for n in operator.inputs]
        return inputs, self._graph.tensors[operator.outputs[0]]

    def _weighted(self, operator: Operator) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Return input, weights, bias and output."""
        inputs, output = self._tensors(operator)
        input, weights = inputs[:2]
        assert input is not None and weights is not None
        return input, weights, inputs[2] if len(inputs) > 2 else None, output

    def _conv(self, operator: Operator) -> ConvKernel:
        input, weights, bias, output = self._weighted(operator)
        data = _int8(weights)
        channels = data.shape[0]
        vertical, horizontal = geometry.axes(input.shape[1:3], data.shape[1:3], operator.attributes)
        factors = channel_factors(input, weights, output, channels)
        return ConvKernel(
            layer=operator.index,
            input=image_of(input),
            output=image_of(output),
            weights=data,
            bias=_folded_bias(bias, data, input.zero_point),
            stride=(vertical.window_step, horizontal.window_step),
            dilation=(vertical.tap_step, horizontal.tap_step),
            pad_top=vertical.pad,
            pad_left=horizontal.pad,
            pad_value=input.zero_point,
            requantization=_requantization(operator, factors, output, Rounding.DOUBLE),
        )

    def _fully_connected(self, operator: Operator) -> ConvKernel:
        input, weights, bias, output = self._weighted(operator)
        channels, features = weights.shape
        data = _int8(weights).reshape(channels, 1, 1, features)
        rows = math.prod(input.shape) // features
        factors = fully_connected_factors(input, weights, output, channels)
        rounding = self._fully_connected_rounding
        return ConvKernel(
            layer=operator.index,
            input=Image(tensor=input.name, height=1, width=rows, channels=features),
            output=Image(tensor=output.name, height=1, width=rows, channels=channels),
            weights=data,
            bias=_folded_bias(bias, data, input.zero_point),
            stride=(1, 1),
            dilation=(1, 1),
            pad_top=0,
            pad_left=0,
            pad_value=input.zero_point,
            requantization=_requantization(operator, factors, output, rounding),
        )

    def _average_pool(self, operator: Operator) -> AveragePoolKernel:
        (input,), output = self._tensors(operator)
        assert input is not None
        window = operator.attributes["filter"]
        vertical, horizontal = geometry.axes(input.shape[1:3], window, operator.attributes)
        low, high = _clamp(operator, output)
        return AveragePoolKernel(
            layer=operator.index,
            input=image_of(input),
            output=image_of(output),
            window=(vertical.kernel, horizontal.kernel),
            stride=(vertical.window_step, horizontal.window_step),
            pad_top=vertical.pad,
            pad_left=horizontal.pad,
            low=low,
            high=high,
        )

    def _add(self, operator: Operator) -> AddKernel:
        (a, b), output = self._tensors(operator)
        assert a is not None and b is not None
        names = ("a", "b", "out")
        parameters = {
            "left_shift": ADD_LEFT_SHIFT,
            "a_zero": a.zero_point,
            "b_zero": b.zero_point,
            "out_zero": output.zero_point,
        }
        for name, factor in zip(names, add_factors(a, b, output), strict=True):
            parameters[f"{name}_multiplier"], parameters[f"{name}_shift"] = quantize_multiplier(
                factor
            )
        parameters["low"], parameters["high"] = _clamp(operator, output)
        return AddKernel(
            layer=operator.index,
            a=image_of(a),
            b=image_of(b),
            output=image_of(output),
            parameters=parameters,
        )

    def _reshape(self, operator: Operator) -> ViewKernel:
        inputs, output = self._tensors(operator)
        assert inputs[0] is not None
        return ViewKernel(layer=operator.index, input=inputs[0].name, output=output.name)

    def _softmax(self, operator: Operator) -> HostKernel:
        (input,), output = self._tensors(operator)
        assert input is not None
        return HostKernel(
            layer=operator.index,
            op="softmax",
            inputs=(input.name,),
            outputs=(output.name,),
            attributes=softmax.prepare(operator.attributes["beta"], input.scale),
        )


def _int8(tensor: Tensor) -> Int8Array:
    return np.asarray(tensor.data, np.int8)


def _folded_bias(bias: Tensor | None, weights: Int8Array, zero_point: int) -> Int64Array:
    """Return `bias - zero_point * sum(weights)` for each output channel, wrapped to int32."""
    sums = weights.reshape(len(weights), -1).sum(axis=1, dtype=np.int64)
    given = np.zeros(len(weights), np.int64)
    if bias is not None:
        given = np.asarray(bias.data, np.int64).reshape(-1)
    return np.asarray(wrap_int32(given - zero_point * sums))


def _requantization(
    operator: Operator, factors: Sequence[float], output: Tensor, rounding: Rounding
) -> Requantization:
    pairs = [quantize_multiplier(factor) for factor in factors]
    low, high = _clamp(operator, output)
    return Requantization(
        rounding=rounding,
        multipliers=np.array([multiplier for multiplier, _ in pairs], np.int64),
        shifts=np.array([shift for _, shift in pairs], np.int64),
        zero_point=output.zero_point,
        low=low,
        high=high,
    )


def _clamp(operator: Operator, output: Tensor) -> tuple[int, int]:
    return geometry.activation_range(
        operator.attributes["activation"], output.scale, output.zero_point
    )
