"""Rules about scales and sums: what the integer units hold."""

from collections.abc import Iterator
from functools import partial

from systolith.arch import numerics, softmax
from systolith.arch.errors import UnsupportedModelError
from systolith.compiler import geometry
from systolith.compiler.legalize import add_factors, channel_factors, fully_connected_factors
from systolith.compiler.ruleset import (
    DAMAGED,
    FUSED,
    QUANTIZE,
    WEIGHTED,
    Rule,
    Site,
    Stage,
    Verdict,
    kernel_size,
    out_channels,
    register,
)

MAX_POOL_COUNT = 1024
# Limit of the reference runtime: how far the bias scale may be off, in steps of the output.
MAX_BIAS_SCALE_ERROR = 0.02
MAX_FACTOR_LOG2 = 30

RULES: list[Rule] = []
_rule = partial(register, RULES, Stage.ARITHMETIC)


@_rule(WEIGHTED, "quantize again with a larger output scale", log2=MAX_FACTOR_LOG2)
def factors_are_small(site: Site) -> Iterator[Verdict]:
    """Input scale times weight scale over output scale must be below 2^{log2}."""
    make = channel_factors if site.operator.kind == "CONV_2D" else fully_connected_factors
    largest = max(make(site.input(), site.weights, site.output, out_channels(site.weights)))
    yield Verdict(largest < 2.0**MAX_FACTOR_LOG2, site.output.name, largest)


@_rule(("FULLY_CONNECTED",), DAMAGED, most=MAX_BIAS_SCALE_ERROR)
def bias_scales_agree(site: Site) -> Iterator[Verdict]:
    """Bias scale must be input scale times weight scale, to {most} of the output scale."""
    bias, weights = site.bias, site.weights
    if bias is not None and len(bias.scales) == 1 and len(weights.scales) == 1:
        wanted = site.input().scale * weights.scale
        error = abs(wanted - bias.scale) / site.output.scale
        yield Verdict(error <= MAX_BIAS_SCALE_ERROR, bias.name, f"{bias.scale} for {wanted}")


@_rule(FUSED, "quantize again with a larger output scale")
def activation_bounds_are_integers(site: Site) -> Iterator[Verdict]:
    """Bounds of the fused activation over output scale must fit int32."""
    bounds = geometry.ACTIVATION_RANGES[site.operator.attributes["activation"]]
    largest = max(abs(bound or 0.0) for bound in bounds) / site.output.scale
    yield Verdict(largest < numerics.INT32_MAX, site.output.name, largest)


@_rule(("ADD",), "quantize again with a larger output scale")
def sums_are_small(site: Site) -> Iterator[Verdict]:
    """Larger input scale over output scale must be below 2^19."""
    factor = add_factors(site.input(0), site.input(1), site.output)[2]
    value = max(site.input(0).scale, site.input(1).scale) / site.output.scale
    yield Verdict(factor < 1.0, site.output.name, value)


@_rule(
    ("AVERAGE_POOL_2D", "RESHAPE"),
    "quantize again with equal scales on both sides",
)
def both_sides_are_quantized_alike(site: Site) -> Iterator[Verdict]:
    """Output must have scale and zero point of the input."""
    sides = [f"{t.scale} and {t.zero_point}" for t in (site.output, site.input())]
    yield Verdict(sides[0] == sides[1], site.output.name, f"{sides[0]} for {sides[1]}")


@_rule(("AVERAGE_POOL_2D",), "pool in two steps", most=MAX_POOL_COUNT)
def pools_are_small(site: Site) -> Iterator[Verdict]:
    """Average must be over at most {most} pixels."""
    axes = geometry.axes(site.input().shape[1:3], kernel_size(site), site.operator.attributes)
    count = axes[0].most_pixels * axes[1].most_pixels
    yield Verdict(1 <= count <= MAX_POOL_COUNT, site.output.name, count)


@_rule(("SOFTMAX",), QUANTIZE)
def softmax_outputs_are_fixed(site: Site) -> Iterator[Verdict]:
    """Output of SOFTMAX must have scale 1/256 and zero point -128."""
    scale, zero_point = site.output.scale, site.output.zero_point
    ok = scale == softmax.OUTPUT_SCALE and zero_point == softmax.OUTPUT_ZERO_POINT
    yield Verdict(ok, site.output.name, f"{scale} and {zero_point}")


@_rule(("SOFTMAX",), "scale the logits", most=softmax.MAX_FACTOR)
def softmax_factors_are_small(site: Site) -> Iterator[Verdict]:
    """Beta times input scale must be above 2^-26 and below {most}."""
    factor = site.operator.attributes["beta"] * site.input().scale
    try:
        softmax.prepare(site.operator.attributes["beta"], site.input().scale)
    except UnsupportedModelError:
        yield Verdict(False, site.input().name, factor)
