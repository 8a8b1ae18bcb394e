"""Rules about operands: how many, and in which types, shapes and quantization."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from systolith.compiler import geometry
from systolith.compiler.ir import Tensor
from systolith.compiler.ruleset import (
    DAMAGED,
    QUANTIZE,
    STATIC,
    Rule,
    Site,
    Stage,
    Verdict,
    elements,
    register,
)
from systolith.compiler.signatures import ALL, BINARY, FUSED, IMAGED, SIGNATURES, WEIGHTED

RULES: list[Rule] = []
_arity_rule = partial(register, RULES, Stage.ARITY)
_rule = partial(register, RULES, Stage.FORM)


@_arity_rule(ALL, DAMAGED)
def operands(site: Site) -> Iterator[Verdict]:
    """Operator must have the inputs and outputs that its definition names."""
    fewest, most = site.signature.inputs
    inputs, outputs = site.operator.inputs, site.operator.outputs
    if not site.signature.activations:
        fewest = max(fewest, len(inputs))
    ok = fewest <= len(inputs) <= most and None not in inputs[:fewest]
    ok = ok and 1 <= len(outputs) <= site.signature.outputs
    given = [name for name in inputs if name is not None]
    name = outputs[0] if outputs else ""
    yield Verdict(ok, name, f"{len(given)} inputs and {len(outputs)} outputs")


@_rule(tuple(kind for kind in ALL if kind != "QUANTIZE"), QUANTIZE)
def activations_are_int8(site: Site) -> Iterator[Verdict]:
    """Activations must be int8."""
    for tensor in site.activations:
        yield Verdict(tensor.dtype == "int8", tensor.name, tensor.dtype)


@_rule(("QUANTIZE",), "export the model with int8 or uint8 inputs (inference_input_type)")
def quantized_activations_are_bytes(site: Site) -> Iterator[Verdict]:
    """Input and output of QUANTIZE must be int8 or uint8."""
    for tensor in site.activations:
        yield Verdict(tensor.dtype in ("int8", "uint8"), tensor.name, tensor.dtype)


@_rule(ALL, STATIC)
def activations_have_shapes(site: Site) -> Iterator[Verdict]:
    """Activations must have a static shape of one dimension or more, without zeros."""
    for tensor in site.activations:
        scalar = 1 if tensor.data is not None else 0
        ok = min(tensor.shape, default=scalar) >= 1
        yield Verdict(ok, tensor.name, list(tensor.shape))


@_rule(ALL, QUANTIZE)
def activations_have_one_scale(site: Site) -> Iterator[Verdict]:
    """Activations must have one positive scale and a zero point in the range of their type."""
    for tensor in site.activations:
        low = 0 if tensor.dtype == "uint8" else geometry.INT8_MIN
        ok = _is_scale(tensor) and low <= tensor.zero_point <= low + 255
        yield Verdict(ok, tensor.name, f"{_few(tensor.scales)} and {_few(tensor.zero_points)}")


@_rule(ALL, "fold the constant into a neighboring operator", binary=", ".join(BINARY))
def activations_are_computed(site: Site) -> Iterator[Verdict]:
    """Activations must be computed or inputs of the model, but for one operand of {binary}."""
    constants = [tensor for tensor in site.operands if tensor.data is not None]
    allowed = 1 if site.kind in BINARY else 0
    for tensor in site.operands:
        ok = tensor.data is None or len(constants) <= allowed
        yield Verdict(ok, tensor.name, "constant")


@_rule(IMAGED, "reshape the tensor to NHWC")
def images_have_four_dimensions(site: Site) -> Iterator[Verdict]:
    """Images must have four dimensions, NHWC."""
    for tensor in site.activations[: 1 if site.kind == "MEAN" else None]:
        yield Verdict(len(tensor.shape) == 4, tensor.name, list(tensor.shape))


@_rule(WEIGHTED, QUANTIZE)
def weights_are_constant_int8(site: Site) -> Iterator[Verdict]:
    """Weights must be constant and int8."""
    weights = site.weights
    ok = weights.dtype == "int8" and weights.data is not None
    yield Verdict(ok, weights.name, f"{_storage(weights)} {weights.dtype}")


@_rule(WEIGHTED, DAMAGED)
def weights_have_shapes(site: Site) -> Iterator[Verdict]:
    """Weights must have four dimensions, or two: [outputs, features]."""
    shape = site.weights.shape
    rank = 2 if site.kind == "FULLY_CONNECTED" else 4
    yield Verdict(len(shape) == rank and min(shape) >= 1, site.weights.name, list(shape))


@_rule(WEIGHTED, "quantize the weights symmetrically")
def weights_are_symmetric(site: Site) -> Iterator[Verdict]:
    """Weights must have zero point 0."""
    points = site.weights.zero_points
    yield Verdict(not any(points), site.weights.name, _few(points))


@_rule(WEIGHTED, "quantize the weights per tensor or per output channel")
def weights_have_scales(site: Site) -> Iterator[Verdict]:
    """Weights must have one positive scale, or one for each output channel along its axis."""
    weights = site.weights
    count = len(weights.scales)
    per_channel = weights.axis == site.channel_axis and count == site.out_channels
    ok = (count == 1 or per_channel) and all(map(_is_positive, weights.scales))
    yield Verdict(ok, weights.name, f"{_few(weights.scales)} along axis {weights.axis}")


@_rule(WEIGHTED, QUANTIZE)
def biases_are_constant_int32(site: Site) -> Iterator[Verdict]:
    """Bias must be constant and int32, with one element for each output channel."""
    bias = site.bias
    if bias is not None:
        size = elements(bias.shape)
        ok = bias.dtype == "int32" and bias.data is not None and size == site.out_channels
        yield Verdict(ok, bias.name, f"{_storage(bias)} {bias.dtype} with {size} elements")


@_rule(tuple(kind for kind in ALL if SIGNATURES[kind].parameters), STATIC)
def parameters_are_constant(site: Site) -> Iterator[Verdict]:
    """Shapes, axes, sizes and paddings must be constant integers."""
    for position in site.signature.parameters:
        tensor = site.find(position)
        if tensor is not None:
            ok = tensor.dtype in ("int32", "int64") and tensor.data is not None
            yield Verdict(ok, tensor.name, f"{_storage(tensor)} {tensor.dtype}")


@_rule(
    FUSED,
    "use one of these activations",
    names=", ".join(geometry.ACTIVATION_RANGES),
)
def fused_activations(site: Site) -> Iterator[Verdict]:
    """Fused activation must be one of {names}."""
    activation = site.operator.attributes["activation"]
    yield Verdict(activation in geometry.ACTIVATION_RANGES, site.output.name, activation)


def _is_positive(scale: float) -> bool:
    return math.isfinite(scale) and scale > 0.0


def _is_scale(tensor: Tensor) -> bool:
    return len(tensor.scales) == 1 and _is_positive(tensor.scale)


def _few(values: tuple[Any, ...]) -> str:
    """Return values for a message, which need not list thousands."""
    most = 3
    text = ", ".join(str(value) for value in values[:most]) or "none"
    return text if len(values) <= most else f"{text}, ... ({len(values)} in all)"


def _storage(tensor: Tensor) -> str:
    return "computed" if tensor.data is None else "constant"
