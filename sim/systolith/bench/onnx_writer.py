"""Writer of ONNX models in QDQ form, as onnxruntime's quantizer lays them out.

Every operator stands between `DequantizeLinear` of its operands and `QuantizeLinear` of its result.
Scales and weights are the caller's or seeded; the models are small and have no training behind
them. The `onnx` package is imported on first use: writing models is for tests.
"""

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.arch.errors import ToolchainError

OPSET = 17
IR_VERSION = 9

Values = NDArray[Any]


def _onnx() -> Any:
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise ToolchainError(
            f'Writing ONNX models needs the package "onnx", which cannot be imported ({error}); '
            "install it with: pip install systolith[onnx]"
        ) from error


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """Scale, zero point and element type of an activation."""

    scale: float
    zero_point: int
    dtype: str


@dataclass(eq=False)
class QdqWriter:
    """Builds one model; methods take and return names of float values in dequantized form."""

    name: str = "model"
    nodes: list[Any] = field(default_factory=list)
    constants: list[Any] = field(default_factory=list)
    inputs: list[Any] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)

    def constant(self, name: str, values: Any) -> str:
        """Add an initializer."""
        self.constants.append(_onnx().numpy_helper.from_array(np.asarray(values), name))
        return name

    def node(self, kind: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node as it is and return its output."""
        self.nodes.append(_onnx().helper.make_node(kind, list(inputs), [output], **attributes))
        return output

    def quantize(self, value: str, item: Quantization, *, name: str | None = None) -> str:
        """Add a `QuantizeLinear` and return the quantized tensor."""
        quantized = name or f"{value}_q"
        return self.node("QuantizeLinear", [value, *self._parameters(quantized, item)], quantized)

    def dequantize(self, quantized: str, item: Quantization, output: str | None = None) -> str:
        """Add a `DequantizeLinear` and return the float value."""
        parameters = self._parameters(quantized, item)
        name = output or f"{quantized}_f{len(self.nodes)}"
        return self.node("DequantizeLinear", [quantized, *parameters], name)

    def input(self, name: str, shape: Sequence[int], item: Quantization) -> str:
        """Add a quantized input of the model and return it dequantized."""
        self.inputs.append(_value(name, item.dtype, shape))
        return self.dequantize(name, item)

    def float_input(self, name: str, shape: Sequence[int], item: Quantization) -> str:
        """Add a float input of the model and return it quantized and dequantized."""
        self.inputs.append(_value(name, "float32", shape))
        return self.requantize(name, item)

    def requantize(self, value: str, item: Quantization) -> str:
        """Quantize a float value and return it dequantized."""
        return self.dequantize(self.quantize(value, item), item)

    def weights(
        self, name: str, values: Values, scales: Values, zero_points: Values, axis: int = 0
    ) -> str:
        """Add constant weights, per tensor or per channel, and return them dequantized."""
        self.constant(name, values)
        self.constant(f"{name}_scale", scales)
        self.constant(f"{name}_zero", zero_points)
        return self.node(
            "DequantizeLinear", [name, f"{name}_scale", f"{name}_zero"], f"{name}_f", axis=axis
        )

    def operator(
        self,
        kind: str,
        inputs: Sequence[str],
        item: Quantization,
        *,
        name: str,
        clip: str | None = None,
        **attributes: Any,
    ) -> str:
        """Add an operator, an activation behind it if asked for, and quantize the result."""
        value = self.node(kind, inputs, f"{name}_raw", **attributes)
        if clip == "Relu":
            value = self.node("Relu", [value], f"{name}_relu")
        elif clip == "Clip":
            low, high = np.float32(0.0), np.float32(6.0)
            bounds = [self.constant(f"{name}_low", low), self.constant(f"{name}_high", high)]
            value = self.node("Clip", [value, *bounds], f"{name}_clip")
        return self.dequantize(self.quantize(value, item, name=name), item)

    def output(self, value: str, shape: Sequence[int | str], dtype: str = "float32") -> None:
        """Declare an output of the model."""
        self.outputs.append(_value(value, dtype, shape))

    def to_bytes(self) -> bytes:
        """Return the file."""
        helper = _onnx().helper
        graph = helper.make_graph(
            self.nodes, self.name, self.inputs, self.outputs, initializer=self.constants
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
        model.ir_version = IR_VERSION
        model.producer_name = "systolith"
        data: bytes = model.SerializeToString()
        return data

    def _parameters(self, name: str, item: Quantization) -> tuple[str, str]:
        scale, zero = f"{name}_scale", f"{name}_zero"
        if not any(constant.name == scale for constant in self.constants):
            self.constant(scale, np.float32(item.scale))
            self.constant(zero, np.array(item.zero_point, item.dtype))
        return scale, zero


def _value(name: str, dtype: str, shape: Sequence[int] | Sequence[int | str]) -> Any:
    helper = _onnx().helper
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape)
    )


def random_quantization(rng: np.random.Generator, dtype: str, span: float = 4.0) -> Quantization:
    """Return a seeded scale and zero point, for values of about -span..span."""
    limits = np.iinfo(dtype)
    middle = (limits.min + limits.max + 1) // 2
    return Quantization(
        scale=float(np.float32(span / 128 * rng.uniform(0.7, 1.4))),
        zero_point=int(np.clip(middle + rng.integers(-60, 61), limits.min, limits.max)),
        dtype=dtype,
    )


@dataclass(frozen=True, kw_only=True)
class WeightStyle:
    """How weights are stored: type, one scale per channel or one for all."""

    dtype: str = "int8"
    per_channel: bool = True
    bias: bool = True


def random_weights(
    writer: QdqWriter,
    rng: np.random.Generator,
    name: str,
    shape: tuple[int, ...],
    *,
    style: WeightStyle,
    input_scale: float,
    axis: int = 0,
) -> list[str]:
    """Add seeded weights and, if asked for, an int32 bias; return the dequantized operands."""
    channels = shape[axis]
    limits = np.iinfo(style.dtype)
    fan_in = int(np.prod(shape)) // channels
    count = channels if style.per_channel else 1
    scales = (rng.uniform(0.5, 1.5, count) / (np.sqrt(fan_in) * 64)).astype(np.float32)
    signed = style.dtype == "int8"
    zeros = np.zeros(count, np.int8) if signed else rng.integers(96, 160, count).astype(np.uint8)
    values = rng.integers(limits.min + 1, limits.max + 1, shape).astype(style.dtype)
    if not style.per_channel:
        scales, zeros = scales[0], zeros[0]
    operands = [writer.weights(name, values, scales, zeros, axis)]
    if style.bias:
        bias_scales = np.float32(input_scale) * scales
        bias = rng.integers(-2000, 2000, channels).astype(np.int32)
        zero = np.zeros(np.shape(bias_scales), np.int32)
        operands.append(writer.weights(f"{name}_bias", bias, bias_scales, zero))
    return operands
