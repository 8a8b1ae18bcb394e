"""Build int8 TFLite models layer by layer, from integer weights and explicit quantization.

Nothing is trained, folded or calibrated here: each method appends one operator with exactly the
integers it is given, so that tests reach corners that a converter never emits (odd channel
counts, extreme weights and zero points, any ratio of scales). The flatbuffer is packed by the
schema that LiteRT publishes; buffers are aligned to 16 bytes, as the schema demands.

Ref: TFLite 8-bit quantization specification,
    https://ai.google.dev/edge/litert/models/quantization_spec
"""

import importlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from systolith.bench.tflite_operators import MORE_VERSIONS, MoreOperators
from systolith.bench.tflite_schema import (
    Activation,
    Padding,
    Quantization,
    Tensor,
    Window,
    activation_code,
    aligned_buffer,
    convolution_options,
    image_shape,
    integers,
    quantization_parameters,
    schema,
    set_window,
)

SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
# The operator versions in which the runtimes added the int8 forms written here.
OPERATOR_VERSIONS = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "FULLY_CONNECTED": 4,
    "ADD": 2,
    "AVERAGE_POOL_2D": 2,
    "MAX_POOL_2D": 2,
    "RESHAPE": 1,
    "SOFTMAX": 2,
    **MORE_VERSIONS,
}
# The 8-bit field of operator codes; larger codes have this one there.
MAX_DEPRECATED_CODE = 127


class TfliteModel(MoreOperators):
    """An int8 TFLite model under construction.

    Each operator method appends one operator and returns the handle of its output. Scales are
    rounded to float32. Biases are given as int32 in units of input scale times weight scale; the
    file's bias scales follow from that.

    Parameters
    ----------
    description : str
        Text stored in the file.

    Raises
    ------
    TypeError, ValueError
        From each method, when an array has the wrong dtype or shape, or a value is out of range.
        The model is to be thrown away then.
    """

    def __init__(self, *, description: str = "Systolith") -> None:
        self._description = description
        # Buffer 0 is empty by convention: tensors without constant data refer to it.
        self._buffers: list[Any] = [aligned_buffer(None)]
        self._tensors: list[Any] = []
        self._operators: list[Any] = []
        self._codes: list[str] = []
        self._inputs: list[int] = []
        self._activations: dict[int, Tensor] = {}

    def input(
        self,
        name: str,
        shape: Sequence[int],
        *,
        scale: float,
        zero_point: int,
        dtype: Literal["int8", "uint8"] = "int8",
    ) -> Tensor:
        """Add a model input of this shape, batch first."""
        tensor = self._activation(name, tuple(shape), Quantization(scale, zero_point, dtype))
        self._inputs.append(tensor.index)
        return tensor

    def conv2d(
        self,
        x: Tensor,
        weights: ArrayLike,
        bias: ArrayLike | None,
        *,
        weight_scales: ArrayLike,
        scale: float,
        zero_point: int,
        stride: tuple[int, int] = (1, 1),
        padding: Padding = "SAME",
        dilation: tuple[int, int] = (1, 1),
        activation: Activation = "NONE",
        name: str | None = None,
    ) -> Tensor:
        """Append CONV_2D.

        Parameters
        ----------
        x : Tensor
            ``int8[N, H, W, I]``.
        weights : ``int8[O, KH, KW, I]``
            Weights with zero point 0.
        bias : ``int32[O]`` or None
            Bias in units of input scale times weight scale.
        weight_scales : float or ``float[O]``
            Per tensor or per output channel.
        scale, zero_point : float, int
            Quantization of the output.
        stride, dilation : tuple of int
            (height, width).
        padding : {"SAME", "VALID"}
            Padding with the input zero point, or none.
        activation : {"NONE", "RELU", "RELU_N1_TO_1", "RELU6"}
            Fused clamp.
        name : str, optional
            Name of the output; the default is made from operator and position.

        Returns
        -------
        Tensor
            ``int8[N, OH, OW, O]``.
        """
        w = integers("Convolution weights", weights, np.int8, (-1, -1, -1, x.shape[-1]))
        window = Window((w.shape[1], w.shape[2]), stride, dilation, padding)
        options = convolution_options("Conv2DOptions", window, activation)
        shape = image_shape(x, window, w.shape[0])
        constants = self._weights(x, w, bias, weight_scales, channel_axis=0)
        output = Quantization(scale, zero_point)
        return self._append("CONV_2D", [x.index, *constants], options, shape, output, name)

    def depthwise_conv2d(
        self,
        x: Tensor,
        weights: ArrayLike,
        bias: ArrayLike,
        *,
        weight_scales: ArrayLike,
        scale: float,
        zero_point: int,
        stride: tuple[int, int] = (1, 1),
        padding: Padding = "SAME",
        dilation: tuple[int, int] = (1, 1),
        activation: Activation = "NONE",
        name: str | None = None,
    ) -> Tensor:
        """Append DEPTHWISE_CONV_2D; as `conv2d` but for weights ``int8[1, KH, KW, I * M]``.

        The depth multiplier M is the number of output channels per input channel. The bias is
        not optional: TFLite Micro ends the process on a depthwise convolution without one.
        """
        w = integers("Depthwise weights", weights, np.int8, (1, -1, -1, -1))
        multiplier, rest = divmod(w.shape[3], x.shape[-1])
        if rest or not multiplier:
            raise ValueError(
                f"Depthwise weights must have a multiple of {x.shape[-1]} channels, "
                f"not {w.shape[3]}"
            )
        window = Window((w.shape[1], w.shape[2]), stride, dilation, padding)
        options = convolution_options("DepthwiseConv2DOptions", window, activation)
        options.depthMultiplier = multiplier
        shape = image_shape(x, window, w.shape[3])
        constants = self._weights(x, w, bias, weight_scales, channel_axis=3)
        output = Quantization(scale, zero_point)
        inputs = [x.index, *constants]
        return self._append("DEPTHWISE_CONV_2D", inputs, options, shape, output, name)

    def fully_connected(
        self,
        x: Tensor,
        weights: ArrayLike,
        bias: ArrayLike | None,
        *,
        weight_scale: float,
        scale: float,
        zero_point: int,
        activation: Activation = "NONE",
        name: str | None = None,
    ) -> Tensor:
        """Append FULLY_CONNECTED with per-tensor weights ``int8[O, I]`` and optional ``int32[O]``.

        `x` is read as ``int8[N, I]``; the result is ``int8[N, O]``.
        """
        w = integers("Fully connected weights", weights, np.int8, (-1, -1))
        elements = int(np.prod(x.shape))
        if elements % w.shape[1]:
            raise ValueError(
                f"Fully connected weights must have a column count that divides the {elements} "
                f'elements of "{x.name}", not {w.shape[1]}'
            )
        options = schema().FullyConnectedOptionsT()
        options.fusedActivationFunction = activation_code(activation)
        constants = self._weights(x, w, bias, weight_scale, channel_axis=None)
        return self._append(
            "FULLY_CONNECTED",
            [x.index, *constants],
            options,
            (elements // w.shape[1], w.shape[0]),
            Quantization(scale, zero_point),
            name,
        )

    def average_pool(
        self,
        x: Tensor,
        kernel: tuple[int, int],
        *,
        stride: tuple[int, int] | None = None,
        padding: Padding = "VALID",
        activation: Activation = "NONE",
        name: str | None = None,
    ) -> Tensor:
        """Append AVERAGE_POOL_2D; `stride` defaults to `kernel`, quantization is the input's."""
        window = Window(kernel, stride or kernel, (1, 1), padding)
        return self._pool("AVERAGE_POOL_2D", x, window, activation, name)

    def max_pool(
        self,
        x: Tensor,
        kernel: tuple[int, int],
        *,
        stride: tuple[int, int] | None = None,
        padding: Padding = "VALID",
        activation: Activation = "NONE",
        name: str | None = None,
    ) -> Tensor:
        """Append MAX_POOL_2D; `stride` defaults to `kernel`, quantization is the input's."""
        window = Window(kernel, stride or kernel, (1, 1), padding)
        return self._pool("MAX_POOL_2D", x, window, activation, name)

    def reshape(self, x: Tensor, shape: Sequence[int], *, name: str | None = None) -> Tensor:
        """Append RESHAPE to `shape`, which must have as many elements as `x`."""
        shape = tuple(shape)
        if np.prod(shape) != np.prod(x.shape):
            raise ValueError(f"Shape {shape} must have as many elements as {x.shape}")
        options = schema().ReshapeOptionsT()
        options.newShape = list(shape)
        target = self._constant(f"{x.name}/shape", np.array(shape, np.int32), None)
        return self._append("RESHAPE", [x.index, target], options, shape, x.quantization, name)

    def build(self, outputs: Sequence[Tensor] | None = None) -> bytes:
        """Return the flatbuffer; `outputs` defaults to the output of the last operator.

        The same calls give the same bytes.
        """
        if not self._operators or not self._inputs:
            raise ValueError("Model must have at least one input and one operator")
        last = self._activations[int(self._operators[-1].outputs[0])]
        table = schema()
        graph = table.SubGraphT()
        graph.name = "main"
        graph.tensors = self._tensors
        graph.operators = self._operators
        graph.inputs = np.array(self._inputs, np.int32)
        graph.outputs = np.array([t.index for t in (outputs or [last])], np.int32)
        model = table.ModelT()
        model.version = SCHEMA_VERSION
        model.description = self._description
        model.operatorCodes = [self._operator_code(operator) for operator in self._codes]
        model.subgraphs = [graph]
        model.buffers = self._buffers
        builder = importlib.import_module("flatbuffers").Builder()
        builder.Finish(model.Pack(builder), FILE_IDENTIFIER)
        return bytes(builder.Output())

    @staticmethod
    def _operator_code(operator: str) -> Any:
        code = schema().OperatorCodeT()
        code.builtinCode = getattr(schema().BuiltinOperator, operator)
        # Readers older than the 32-bit field look here.
        code.deprecatedBuiltinCode = min(code.builtinCode, MAX_DEPRECATED_CODE)
        code.version = OPERATOR_VERSIONS[operator]
        return code

    def _tensor(self, name: str, shape: tuple[int, ...], type_name: str, buffer: int) -> Any:
        tensor = schema().TensorT()
        tensor.name = name
        tensor.shape = np.array(shape, np.int32)
        tensor.type = getattr(schema().TensorType, type_name)
        tensor.buffer = buffer
        tensor.hasRank = True
        self._tensors.append(tensor)
        return tensor

    def _activation(self, name: str, shape: tuple[int, ...], q: Quantization) -> Tensor:
        if not shape or min(shape) < 1:
            raise ValueError(f'Tensor "{name}" must have positive dimensions, not {shape}')
        if any(t.name == name for t in self._activations.values()):
            raise ValueError(f'Tensor name must be unique, but "{name}" is used twice')
        tensor = self._tensor(name, shape, q.dtype.upper(), 0)
        tensor.quantization = quantization_parameters([q.scale], q.zero_point, 0)
        handle = Tensor(len(self._tensors) - 1, name, shape, q)
        self._activations[handle.index] = handle
        return handle

    def _constant(self, name: str, data: NDArray[Any], quantization: Any) -> int:
        little_endian = np.ascontiguousarray(data.astype(data.dtype.newbyteorder("<")))
        self._buffers.append(aligned_buffer(little_endian.reshape(-1).view(np.uint8)))
        type_name = {"int8": "INT8", "int32": "INT32"}[data.dtype.name]
        tensor = self._tensor(name, data.shape, type_name, len(self._buffers) - 1)
        tensor.quantization = quantization
        return len(self._tensors) - 1

    def _weights(
        self,
        x: Tensor,
        weights: NDArray[Any],
        bias: ArrayLike | None,
        weight_scales: ArrayLike,
        channel_axis: int | None,
    ) -> list[int]:
        """Add weights and bias as constants; return their tensor numbers (-1: no bias)."""
        channels = weights.shape[channel_axis or 0]
        scales = np.atleast_1d(np.asarray(weight_scales, np.float32))
        if scales.shape not in ({(1,)} if channel_axis is None else {(1,), (channels,)}):
            raise ValueError(f"Weight scales must be 1 or {channels}, not {scales.shape}")
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            raise ValueError(f"Weight scales must be positive and finite, not {scales}")
        prefix = f"layer{len(self._operators)}"
        quantization = quantization_parameters(scales, 0, channel_axis or 0)
        numbers = [self._constant(f"{prefix}/weights", weights, quantization)]
        if bias is None:
            return [*numbers, -1]
        b = integers("Bias", bias, np.int32, (channels,))
        quantization = quantization_parameters(np.float32(x.quantization.scale) * scales, 0, 0)
        return [*numbers, self._constant(f"{prefix}/bias", b, quantization)]

    def _pool(
        self, operator: str, x: Tensor, window: Window, activation: Activation, name: str | None
    ) -> Tensor:
        options = schema().Pool2DOptionsT()
        set_window(options, window, activation)
        options.filterHeight, options.filterWidth = window.kernel
        shape = image_shape(x, window, x.shape[-1])
        return self._append(operator, [x.index], options, shape, x.quantization, name)

    def _append(
        self,
        operator: str,
        inputs: list[int],
        options: Any,
        shape: tuple[int, ...],
        quantization: Quantization,
        name: str | None,
    ) -> Tensor:
        (output,) = self._append_many(operator, inputs, options, [shape], quantization, name)
        return output

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
        name = name or f"{operator.lower()}_{len(self._operators)}"
        names = [name] if len(shapes) == 1 else [f"{name}:{n}" for n in range(len(shapes))]
        outputs = [
            self._activation(output, shape, quantization)
            for output, shape in zip(names, shapes, strict=True)
        ]
        if operator not in self._codes:
            self._codes.append(operator)
        record = schema().OperatorT()
        record.opcodeIndex = self._codes.index(operator)
        record.inputs = np.array(inputs, np.int32)
        record.outputs = np.array([output.index for output in outputs], np.int32)
        if options is not None:
            record.builtinOptions = options
            options_name = type(options).__name__.removesuffix("T")
            record.builtinOptionsType = getattr(schema().BuiltinOptions, options_name)
        self._operators.append(record)
        return outputs
