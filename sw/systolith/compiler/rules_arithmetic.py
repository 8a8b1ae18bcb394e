"""Rules about scales and sums: what the integer units hold."""

import math
from collections.abc import Iterator
from functools import partial

from systolith.arch import numerics, softmax, tables
from systolith.arch.errors import UnsupportedModelError
from systolith.compiler import factors, geometry
from systolith.compiler.legal_elements import quantization_of, sub_parameters
from systolith.compiler.legal_sums import REFERENCES
from systolith.compiler.ruleset import (
    DAMAGED,
    QUANTIZE,
    Rule,
    Site,
    Stage,
    Verdict,
    kernel_size,
    register,
)
from systolith.compiler.signatures import FUSED, MOVES, POOLS, TABLED, WEIGHTED

MAX_POOL_COUNT = 1024
# Limit of the reference runtime: how far the bias scale may be off, in steps of the output.
MAX_BIAS_SCALE_ERROR = 0.02
MAX_FACTOR_LOG2 = 30
# Beyond these the reference kernels shift by more bits than their numbers have.
MAX_LOG2 = 22
MAX_CURVE_LOG2 = 20
_MOST_PRODUCT = 1.0

RULES: list[Rule] = []
_rule = partial(register, RULES, Stage.ARITHMETIC)


@_rule(WEIGHTED, "quantize again with a larger output scale", log2=MAX_FACTOR_LOG2)
def factors_are_small(site: Site) -> Iterator[Verdict]:
    """Input scale times weight scale over output scale must be below 2^{log2}."""
    dense = site.kind == "FULLY_CONNECTED"
    make = factors.fully_connected_factors if dense else factors.channel_factors
    largest = max(make(site.source, site.weights, site.output, site.out_channels))
    yield Verdict(largest < 2.0**MAX_FACTOR_LOG2, site.output.name, largest)


@_rule(("FULLY_CONNECTED",), DAMAGED, most=MAX_BIAS_SCALE_ERROR)
def bias_scales_agree(site: Site) -> Iterator[Verdict]:
    """Bias scale must be input scale times weight scale, to {most} of the output scale."""
    bias, weights = site.bias, site.weights
    if bias is not None and len(bias.scales) == 1 and len(weights.scales) == 1:
        wanted = site.source.scale * weights.scale
        error = abs(wanted - bias.scale) / site.output.scale
        yield Verdict(error <= MAX_BIAS_SCALE_ERROR, bias.name, f"{bias.scale} for {wanted}")


@_rule(FUSED, "quantize again with a larger output scale")
def activation_bounds_are_integers(site: Site) -> Iterator[Verdict]:
    """Bounds of the fused activation over output scale must fit int32."""
    bounds = geometry.ACTIVATION_RANGES[site.operator.attributes["activation"]]
    largest = max(abs(bound or 0.0) for bound in bounds) / site.output.scale
    yield Verdict(largest < numerics.INT32_MAX, site.output.name, largest)


@_rule(("ADD", "SUB"), "quantize again with a larger output scale")
def sums_are_small(site: Site) -> Iterator[Verdict]:
    """Larger input scale over output scale must be below 2^19."""
    factor = factors.add_factors(site.input(0), site.input(1), site.output)[2]
    value = max(site.input(0).scale, site.input(1).scale) / site.output.scale
    yield Verdict(factor < 1.0, site.output.name, value)


@_rule(("SUB",), "quantize again with other scales")
def differences_are_exact(site: Site) -> Iterator[Verdict]:
    """An addition must exist that gives the bytes of the subtraction for all operands."""
    if all(verdict.ok for verdict in sums_are_small(site)):
        ok = all(sub_parameters(site, reference) is not None for reference in REFERENCES)
        scales = ", ".join(str(tensor.scale) for tensor in site.activations)
        yield Verdict(ok, site.output.name, scales)


@_rule(("MUL",), "quantize again with a larger output scale")
def products_are_small(site: Site) -> Iterator[Verdict]:
    """Product of the input scales over the output scale must be below 1."""
    made = [
        factors.mul_factor(site.input(0), site.input(1), site.output, reference)
        for reference in REFERENCES
    ]
    yield Verdict(max(made) < _MOST_PRODUCT, site.output.name, max(made))


@_rule((*TABLED, "MEAN"), "quantize again with similar scales on both sides", log2=MAX_LOG2)
def scales_are_similar(site: Site) -> Iterator[Verdict]:
    """Input scale over output scale must be between 2^-{log2} and 2^{log2}."""
    ratio = site.source.scale / site.output.scale
    slope = max(1.0, abs(site.operator.attributes.get("alpha", 1.0)))
    ok = ratio > 2.0**-MAX_LOG2 and ratio * slope < 2.0**MAX_LOG2
    yield Verdict(ok, site.output.name, ratio)


@_rule(("LEAKY_RELU",), "use a slope that is not negative")
def slopes_are_not_negative(site: Site) -> Iterator[Verdict]:
    """Slope must be positive or zero."""
    alpha = site.operator.attributes["alpha"]
    yield Verdict(math.isfinite(alpha) and alpha >= 0.0, site.output.name, alpha)


@_rule(
    ("LOGISTIC", "TANH"),
    "quantize again with the fixed output scale of the operator",
)
def curves_have_fixed_outputs(site: Site) -> Iterator[Verdict]:
    """Output must have scale 1/256 and zero point -128 (LOGISTIC), or 1/128 and 0 (TANH)."""
    wanted = (1 / 256, -128) if site.kind == "LOGISTIC" else (1 / 128, 0)
    given = (site.output.scale, site.output.zero_point)
    yield Verdict(given == wanted, site.output.name, f"{given[0]} and {given[1]}")


@_rule(("LOGISTIC", "TANH"), "quantize again with other input scales", log2=MAX_CURVE_LOG2)
def arguments_are_in_range(site: Site) -> Iterator[Verdict]:
    """Input scale must be between 2^-{log2} and 2^{log2}."""
    scale = site.source.scale
    ok = 2.0**-MAX_CURVE_LOG2 < scale < 2.0**MAX_CURVE_LOG2
    yield Verdict(ok, site.source.name, scale)


@_rule(("HARD_SWISH",), "quantize again with scales of the usual size")
def hard_swish_fits_sixteen_bits(site: Site) -> Iterator[Verdict]:
    """Input scale over output scale must be between 2^-8 and 2^7, and input scale below 2^8."""
    made = tables.hard_swish_factors(quantization_of(site.source), quantization_of(site.output))
    exponents = [math.frexp(factor)[1] for factor in made]
    lowest, highest = tables.HARD_SWISH_EXPONENTS
    ok = lowest <= exponents[0] <= highest and lowest <= exponents[1] <= -lowest
    yield Verdict(ok, site.output.name, f"{site.source.scale} and {site.output.scale}")


@_rule(
    (*MOVES, *POOLS),
    "quantize again with equal scales on all sides",
)
def all_sides_are_quantized_alike(site: Site) -> Iterator[Verdict]:
    """Outputs must have scale and zero point of the inputs."""
    wanted = f"{site.source.scale} and {site.source.zero_point}"
    for tensor in site.activations[1:]:
        given = f"{tensor.scale} and {tensor.zero_point}"
        yield Verdict(given == wanted, tensor.name, f"{given} for {wanted}")


@_rule(("AVERAGE_POOL_2D",), "pool in two steps", most=MAX_POOL_COUNT)
def pools_are_small(site: Site) -> Iterator[Verdict]:
    """Average must be over at most {most} pixels."""
    axes = geometry.axes(site.source.shape[1:3], kernel_size(site), site.operator.attributes)
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
    factor = site.operator.attributes["beta"] * site.source.scale
    try:
        softmax.prepare(site.operator.attributes["beta"], site.source.scale)
    except UnsupportedModelError:
        yield Verdict(False, site.source.name, factor)
