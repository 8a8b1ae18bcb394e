"""Rules about operands of ONNX models: how many, in which types, shapes and quantization."""

import math
from collections.abc import Iterator
from functools import partial

import numpy as np

from systolith.compiler.ruleset import (
    DAMAGED,
    STATIC,
    Rule,
    Site,
    Stage,
    Verdict,
    register,
)
from systolith.compiler.ruleset_onnx import (
    ALL,
    BINARY,
    DTYPES,
    IMAGE_RANK,
    IMAGED,
    INPUT_COUNTS,
    MAX_ELEMENTS,
    MAX_RANK,
    QDQ,
    RESIZED,
    WEIGHTED,
    OnnxSite,
    are_positive,
    few,
    site_activations,
    weight_axis,
    zeros_fit,
)

RULES: list[Rule] = []
_arity_rule = partial(register, RULES, Stage.ARITY)
_rule = partial(register, RULES, Stage.FORM)


@_arity_rule(ALL, DAMAGED)
def operands(site: Site) -> Iterator[Verdict]:
    """Operator must have the inputs that its definition names."""
    fewest, most = INPUT_COUNTS[site.operator.kind]
    inputs = site.operator.inputs
    ok = fewest <= len(inputs) <= most and None not in inputs[:fewest]
    if site.operator.kind == "Concat":
        ok = ok and None not in inputs
    yield Verdict(ok, site.operator.outputs[0], f"{len(inputs) - inputs.count(None)} inputs")


@_rule(ALL, QDQ)
def activations_are_bytes(site: Site) -> Iterator[Verdict]:
    """Activations must be quantized to int8 or uint8."""
    for tensor in site_activations(site):
        yield Verdict(tensor.dtype in DTYPES, tensor.name, tensor.dtype)


@_rule(ALL, STATIC, most=MAX_ELEMENTS, rank=MAX_RANK)
def activations_have_shapes(site: Site) -> Iterator[Verdict]:
    """Activations must have a static shape of 1 to {rank} dimensions and at most {most} elements."""
    for tensor in site_activations(site):
        ok = 1 <= len(tensor.shape) <= MAX_RANK and min(tensor.shape, default=0) >= 1
        yield Verdict(
            ok and math.prod(tensor.shape) <= MAX_ELEMENTS, tensor.name, list(tensor.shape)
        )


@_rule(ALL, "quantize activations per tensor")
def activations_have_one_scale(site: Site) -> Iterator[Verdict]:
    """Activations must have one positive scale and a zero point in the range of their type."""
    for tensor in site_activations(site):
        if tensor.dtype in DTYPES:
            ok = len(tensor.scales) == 1 and are_positive(tensor) and zeros_fit(tensor)
            yield Verdict(ok, tensor.name, f"{few(tensor.scales)} and {few(tensor.zero_points)}")


@_rule(ALL, "fold the constant into a neighboring operator")
def activations_are_computed(site: Site) -> Iterator[Verdict]:
    """Activations must be computed or inputs of the model, except for one scalar of Add or Mul."""
    assert isinstance(site, OnnxSite)
    for tensor in site.all_activations:
        yield Verdict(tensor.data is None, tensor.name, "constant")
    if site.operator.kind in BINARY:
        for position in range(2):
            tensor = site.input(position)
            if tensor.data is not None and tensor not in site.read:
                ok = tensor.data.size == 1 and tensor.dtype in DTYPES and len(tensor.scales) == 1
                ok = ok and are_positive(tensor) and zeros_fit(tensor)
                yield Verdict(ok, tensor.name, f"{tensor.dtype} of shape {list(tensor.shape)}")


@_rule(IMAGED, "reshape the tensor to NCHW with batch 1")
def images_are_nchw(site: Site) -> Iterator[Verdict]:
    """Images must have four dimensions, NCHW, with batch 1."""
    for tensor in site_activations(site):
        ok = len(tensor.shape) == IMAGE_RANK and tensor.shape[0] == 1
        if site.operator.kind == "ReduceMean" and tensor is site.output:
            ok = len(tensor.shape) in (2, IMAGE_RANK)
        yield Verdict(ok, tensor.name, list(tensor.shape))


@_rule(WEIGHTED, QDQ)
def weights_are_constant(site: Site) -> Iterator[Verdict]:
    """Weights must be constant, int8 or uint8, with two dimensions or, in Conv, four."""
    weights = site.input(1)
    rank = IMAGE_RANK if site.operator.kind == "Conv" else 2
    ok = weights.dtype in DTYPES and weights.data is not None
    ok = ok and len(weights.shape) == rank and min(weights.shape) >= 1
    storage = "computed" if weights.data is None else "constant"
    yield Verdict(ok, weights.name, f"{storage} {weights.dtype} of shape {list(weights.shape)}")


@_rule(WEIGHTED, "quantize the weights per tensor or per output channel")
def weights_have_scales(site: Site) -> Iterator[Verdict]:
    """Weights must have one positive scale, or one for each output channel, and zero points."""
    weights = site.input(1)
    axis = weight_axis(site.operator)
    count = len(weights.scales)
    per_channel = (
        weights.axis == axis and axis < len(weights.shape) and count == weights.shape[axis]
    )
    ok = (count == 1 or per_channel) and are_positive(weights) and zeros_fit(weights)
    yield Verdict(ok, weights.name, f"{few(weights.scales)} along axis {weights.axis}")


@_rule(WEIGHTED, "quantize the bias to int32 with zero point 0")
def biases_are_constant(site: Site) -> Iterator[Verdict]:
    """Bias must be constant, int32 with zero point 0 or float32, one element per output channel."""
    bias = site.find(2)
    if bias is not None:
        size = math.prod(bias.shape)
        weights = site.input(1)
        axis = weight_axis(site.operator)
        channels = weights.shape[axis] if axis < len(weights.shape) else 0
        ok = bias.dtype in ("int32", "float32") and bias.data is not None and size == channels
        ok = ok and not any(bias.zero_points)
        if ok and bias.dtype == "float32" and bias.data is not None:
            ok = bool(np.all(np.isfinite(bias.data)))
        yield Verdict(ok, bias.name, f"{bias.dtype} with {size} elements for {channels}")


@_rule(("Reshape", "Squeeze", "Unsqueeze", *RESIZED, "Pad"), STATIC)
def shapes_are_constant(site: Site) -> Iterator[Verdict]:
    """Shapes, axes, scales and paddings must be constant."""
    for position in range(1, len(site.operator.inputs)):
        tensor = site.find(position)
        if tensor is not None:
            yield Verdict(tensor.data is not None, tensor.name, "computed")
