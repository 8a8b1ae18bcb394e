"""Rules about scales and biases of ONNX models: what float32 and the integer units hold."""

import math
from collections.abc import Iterator
from functools import partial

import numpy as np

from systolith.arch import float32, numerics
from systolith.compiler.factors_onnx import (
    mean_factor,
    product_factor,
    sum_factors,
    weight_factors,
)
from systolith.compiler.ruleset import (
    DAMAGED,
    Rule,
    Site,
    Stage,
    Verdict,
    register,
)
from systolith.compiler.ruleset_onnx import (
    BINARY,
    MAX_BIAS_ERROR,
    MAX_FACTOR_LOG2,
    WEIGHTED,
)

RULES: list[Rule] = []
_rule = partial(register, RULES, Stage.ARITHMETIC)


@_rule(WEIGHTED, "quantize again with another output scale", log2=MAX_FACTOR_LOG2)
def factors_are_normal(site: Site) -> Iterator[Verdict]:
    """Input scale times weight scale over output scale must be in 2^-126 to 2^{log2}."""
    factors = weight_factors(site.input(), site.input(1), site.output, 1)
    yield from _normal(site, factors)


@_rule(("AveragePool", "GlobalAveragePool", "ReduceMean"), "quantize again")
def mean_factors_are_normal(site: Site) -> Iterator[Verdict]:
    """Input scale over output scale and count must be a normal float32."""
    yield from _normal(site, [mean_factor(site.input(), site.output, _count(site))])


@_rule(BINARY, "quantize again with another output scale", log2=MAX_FACTOR_LOG2)
def operand_factors_are_small(site: Site) -> Iterator[Verdict]:
    """Factors of both operands must be in 2^-31 to 2^{log2}."""
    a, b = site.input(0), site.input(1)
    factors: tuple[float, ...] = (product_factor(a, b, site.output),)
    if site.operator.kind == "Add":
        factors = sum_factors(a, b, site.output)
    for factor in factors:
        yield Verdict(2.0**-31 <= factor < 2.0**MAX_FACTOR_LOG2, site.output.name, factor)


@_rule(WEIGHTED, "quantize the bias to int32")
def float_biases_fit(site: Site) -> Iterator[Verdict]:
    """Float bias over the scale of the sums must fit int32."""
    bias, weights = site.find(2), site.input(1)
    if bias is not None and bias.dtype == "float32" and bias.data is not None:
        scales = np.float64(site.input().scale) * np.array(weights.scales)
        with np.errstate(over="ignore"):
            largest = float(np.max(np.abs(bias.data.reshape(-1).astype(np.float64) / scales)))
        yield Verdict(largest < numerics.INT32_MAX, bias.name, largest)


@_rule(WEIGHTED, DAMAGED, most=MAX_BIAS_ERROR)
def bias_scales_agree(site: Site) -> Iterator[Verdict]:
    """Bias scales must be input scale times weight scales, to {most} of their value."""
    bias, weights = site.find(2), site.input(1)
    if bias is None or not bias.scales:
        return
    wanted = np.float64(site.input().scale) * np.array(weights.scales)
    given = np.array(bias.scales)
    if given.size != wanted.size and 1 not in (given.size, wanted.size):
        yield Verdict(False, bias.name, f"{given.size} for {wanted.size}")
        return
    worst = float(np.max(np.abs(given / wanted - 1.0)))
    yield Verdict(worst <= MAX_BIAS_ERROR, bias.name, f"{worst} off")


def _normal(site: Site, factors: list[float]) -> Iterator[Verdict]:
    for factor in (min(factors), max(factors)):
        try:
            float32.to_bits(factor)
            ok = factor <= 2.0**MAX_FACTOR_LOG2
        except ValueError:
            ok = False
        yield Verdict(ok, site.output.name, factor)


def _count(site: Site) -> int:
    if site.operator.kind == "AveragePool":
        return math.prod(site.operator.attributes["kernel"])
    return math.prod(site.input().shape[2:])
