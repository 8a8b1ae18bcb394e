"""Rules about operands: how many, and in which types, shapes and quantization."""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any

from systolith.compiler import geometry
from systolith.compiler.ir import Tensor
from systolith.compiler.ruleset import (
    ALL,
    DAMAGED,
    FUSED,
    INPUT_COUNTS,
    QUANTIZE,
    STATIC,
    WEIGHTED,
    WINDOWED,
    Rule,
    Site,
    Stage,
    Verdict,
    elements,
    out_channels,
    register,
)

RULES: list[Rule] = []
_arity_rule = partial(register, RULES, Stage.ARITY)
_rule = partial(register, RULES, Stage.FORM)


@_arity_rule(ALL, DAMAGED)
def operands(site: Site) -> Iterator[Verdict]:
    """Operator must have one output and the inputs that its definition names."""
    fewest, most = INPUT_COUNTS[site.operator.kind]
    inputs, outputs = site.operator.inputs, site.operator.outputs
    ok = fewest <= len(inputs) <= most and None not in inputs[:fewest] and len(outputs) == 1
    given = [name for name in inputs if name is not None]
    name = outputs[0] if outputs else ""
    yield Verdict(ok, name, f"{len(given)} inputs and {len(outputs)} outputs")


@_rule(ALL, QUANTIZE)
def activations_are_int8(site: Site) -> Iterator[Verdict]:
    """Activations must be int8."""
    for tensor in site.activations:
        yield Verdict(tensor.dtype == "int8", tensor.name, tensor.dtype)


@_rule(ALL, STATIC)
def activations_have_shapes(site: Site) -> Iterator[Verdict]:
    """Activations must have a static shape of one dimension or more, without zeros."""
    for tensor in site.activations:
        yield Verdict(min(tensor.shape, default=0) >= 1, tensor.name, list(tensor.shape))


@_rule(ALL, QUANTIZE)
def activations_have_one_scale(site: Site) -> Iterator[Verdict]:
    """Activations must have one positive scale and a zero point in -128..127."""
    for tensor in site.activations:
        ok = _is_scale(tensor) and geometry.INT8_MIN <= tensor.zero_point <= geometry.INT8_MAX
        yield Verdict(ok, tensor.name, f"{_few(tensor.scales)} and {_few(tensor.zero_points)}")


@_rule(ALL, "fold the constant into a neighboring operator")
def activations_are_computed(site: Site) -> Iterator[Verdict]:
    """Activations must be computed or inputs of the model."""
    for tensor in site.activations:
        yield Verdict(tensor.data is None, tensor.name, "constant")


@_rule(WINDOWED, "reshape the tensor to NHWC")
def images_have_four_dimensions(site: Site) -> Iterator[Verdict]:
    """Activations of CONV_2D and AVERAGE_POOL_2D must have four dimensions, NHWC."""
    for tensor in site.activations:
        yield Verdict(len(tensor.shape) == 4, tensor.name, list(tensor.shape))


@_rule(WEIGHTED, QUANTIZE)
def weights_are_constant_int8(site: Site) -> Iterator[Verdict]:
    """Weights must be constant and int8."""
    weights = site.weights
    ok = weights.dtype == "int8" and weights.data is not None
    yield Verdict(ok, weights.name, f"{_storage(weights)} {weights.dtype}")


@_rule(WEIGHTED, DAMAGED)
def weights_have_shapes(site: Site) -> Iterator[Verdict]:
    """Weights must be [out channels, height, width, in channels] or [outputs, features]."""
    shape = site.weights.shape
    rank = 4 if site.operator.kind == "CONV_2D" else 2
    yield Verdict(len(shape) == rank and min(shape) >= 1, site.weights.name, list(shape))


@_rule(WEIGHTED, "quantize the weights symmetrically")
def weights_are_symmetric(site: Site) -> Iterator[Verdict]:
    """Weights must have zero point 0."""
    points = site.weights.zero_points
    yield Verdict(not any(points), site.weights.name, _few(points))


@_rule(WEIGHTED, "quantize the weights per tensor or per output channel")
def weights_have_scales(site: Site) -> Iterator[Verdict]:
    """Weights must have one positive scale, or one for each output channel along axis 0."""
    weights = site.weights
    count = len(weights.scales)
    per_channel = weights.axis == 0 and count == out_channels(weights)
    ok = (count == 1 or per_channel) and all(map(_is_positive, weights.scales))
    yield Verdict(ok, weights.name, f"{_few(weights.scales)} along axis {weights.axis}")


@_rule(WEIGHTED, QUANTIZE)
def biases_are_constant_int32(site: Site) -> Iterator[Verdict]:
    """Bias must be constant and int32, with one element for each output channel."""
    bias = site.bias
    if bias is not None:
        size = elements(bias.shape)
        ok = bias.dtype == "int32" and bias.data is not None and size == out_channels(site.weights)
        yield Verdict(ok, bias.name, f"{_storage(bias)} {bias.dtype} with {size} elements")


@_rule(("RESHAPE",), STATIC)
def new_shapes_are_constant(site: Site) -> Iterator[Verdict]:
    """Shape of a RESHAPE must be constant."""
    shape = site.find(1)
    if shape is not None:
        yield Verdict(shape.data is not None, shape.name, "computed")


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
