"""Legalization of the operators that work element by element, and of SOFTMAX."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from systolith.arch import numerics, softmax, tables
from systolith.arch.isa import Rounding
from systolith.arch.numerics import quantize_multiplier
from systolith.compiler import factors
from systolith.compiler.images import image_of
from systolith.compiler.ir import (
    AddKernel,
    DepthwiseKernel,
    HostKernel,
    Image,
    Int64Array,
    Kernel,
    MulKernel,
    Requantization,
    ResizeKernel,
    TableKernel,
    Tensor,
)
from systolith.compiler.legal_sums import Maker, clamp
from systolith.compiler.ruleset import Site, elements

# A multiplier of this value and exponent is a factor of one.
_UNIT_MULTIPLIER, _UNIT_SHIFT = 1 << 30, 1
# How far from the negated multiplier an exact one is searched for.
_NEGATION_REACH = 4

_ALL_INT8 = np.arange(-128, 128, dtype=np.int64)


def quantization_of(tensor: Tensor) -> tables.Quantization:
    """Return the quantization of an activation."""
    return tables.Quantization(tensor.scale, tensor.zero_point, tensor.dtype != "uint8")


Table = Callable[[tables.Quantization, tables.Quantization, Site, str], Int64Array]


def _relu6(
    source: tables.Quantization, target: tables.Quantization, _site: Site, reference: str
) -> Int64Array:
    if reference == "tflm":
        return tables.relu6_in_place(source)
    return tables.clamped(source, target, 0.0, 6.0, reference)


def _gelu(
    source: tables.Quantization, target: tables.Quantization, site: Site, _reference: str
) -> Int64Array:
    approximate = site.operator.attributes["approximate"]
    curve = tables.gelu_approximate if approximate else tables.gelu
    return tables.looked_up(source, target, curve)


_TABLES: Mapping[str, Table] = {
    "ABS": lambda s, t, _, r: tables.absolute(s, t, r),
    "ELU": lambda s, t, *_: tables.looked_up(s, t, tables.elu),
    "EXP": lambda s, t, *_: tables.looked_up(s, t, tables.exp),
    "GELU": _gelu,
    "HARD_SWISH": lambda s, t, *_: tables.hard_swish(s, t),
    "LEAKY_RELU": lambda s, t, site, r: tables.leaky_relu(
        s, t, site.operator.attributes["alpha"], r
    ),
    "LOGISTIC": lambda s, t, _, r: tables.logistic(s, t, r),
    "QUANTIZE": lambda s, t, *_: tables.requantize(s, t),
    "RELU": lambda s, t, _, r: tables.clamped(s, t, 0.0, None, r),
    "RELU6": _relu6,
    "RELU_0_TO_1": lambda s, t, _, r: tables.clamped(s, t, 0.0, 1.0, r),
    "RELU_N1_TO_1": lambda s, t, _, r: tables.clamped(s, t, -1.0, 1.0, r),
    "TANH": lambda s, t, _, r: tables.tanh(s, t, r),
}


def _table_kernel(site: Site, source: Tensor, table: Int64Array) -> TableKernel:
    return TableKernel(
        layer=site.operator.index,
        input=image_of(source),
        output=image_of(site.output),
        table=tables.by_byte(table, quantization_of(source)),
    )


def _unary(site: Site, reference: str) -> Iterator[Kernel]:
    source, target = quantization_of(site.source), quantization_of(site.output)
    table = _TABLES[site.kind](source, target, site, reference)
    yield _table_kernel(site, site.source, table)


def _sum_parameters(site: Site, real: tuple[float, float, float]) -> dict[str, int]:
    """Return the fields of `ELEMENTWISE` for factors of both operands and the sum."""
    parameters = {
        "left_shift": factors.ADD_LEFT_SHIFT,
        "a_zero": site.input(0).zero_point,
        "b_zero": site.input(1).zero_point,
        "out_zero": site.output.zero_point,
    }
    for name, factor in zip(("a", "b", "out"), real, strict=True):
        parameters[f"{name}_multiplier"], parameters[f"{name}_shift"] = quantize_multiplier(factor)
    parameters["low"], parameters["high"] = clamp(site)
    return parameters


def _add_parameters(site: Site, _reference: str) -> dict[str, int]:
    return _sum_parameters(site, factors.add_factors(site.input(0), site.input(1), site.output))


def sub_parameters(site: Site, reference: str) -> dict[str, int] | None:
    """Return the fields of an addition that gives the bytes of a SUB for all pairs of operands.

    The reference subtracts rounded numbers. Adding a number that was multiplied by the negated
    multiplier rounds ties the other way, which may show once the sum is rounded; so all 65,536
    results are compared, and neighboring multipliers tried. None if no one gives them.
    """
    real = factors.sub_factors(site.input(0), site.input(1), site.output, reference)
    parameters = _sum_parameters(site, real)
    pairs = np.meshgrid(_ALL_INT8, _ALL_INT8)
    wanted = numerics.sub(*pairs, **parameters)
    steps = sorted(range(-_NEGATION_REACH, _NEGATION_REACH + 1), key=abs)
    for step in steps:
        trial = parameters | {"b_multiplier": step - parameters["b_multiplier"]}
        if np.array_equal(numerics.add(*pairs, **trial), wanted):
            return trial
    return None


def _checked_sub_parameters(site: Site, reference: str) -> dict[str, int]:
    parameters = sub_parameters(site, reference)
    assert parameters is not None
    return parameters


def _mul_parameters(site: Site, reference: str) -> dict[str, int]:
    a, b = site.input(0), site.input(1)
    multiplier, shift = quantize_multiplier(factors.mul_factor(a, b, site.output, reference))
    low, high = clamp(site)
    return {
        "a_zero": a.zero_point,
        "b_zero": b.zero_point,
        "out_multiplier": multiplier,
        "out_shift": shift,
        "out_zero": site.output.zero_point,
        "low": low,
        "high": high,
    }


_PARAMETERS: Mapping[str, Callable[[Site, str], dict[str, int]]] = {
    "ADD": _add_parameters,
    "MUL": _mul_parameters,
    "SUB": _checked_sub_parameters,
}


def _binary(site: Site, reference: str) -> Iterator[Kernel | Tensor]:
    parameters = _PARAMETERS[site.kind](site, reference)
    evaluate: Callable[..., Int64Array] = numerics.mul if site.kind == "MUL" else numerics.add
    for position in (0, 1):
        constant = site.input(position)
        if constant.data is not None and elements(constant.shape) == 1:
            value = np.full(256, int(np.asarray(constant.data).reshape(-1)[0]), np.int64)
            operands = (value, _ALL_INT8) if position == 0 else (_ALL_INT8, value)
            table = evaluate(*operands, **parameters)
            yield _table_kernel(site, site.input(1 - position), table)
            return
    images = []
    for position in (0, 1):
        tensor = site.input(position)
        if tensor.data is None and elements(tensor.shape) == elements(site.output.shape):
            images.append(replace(image_of(site.output), tensor=tensor.name))
            continue
        name = site.fresh_name(f"operand{position}")
        yield replace(site.output, name=name)
        wide = replace(image_of(site.output), tensor=name)
        other = replace(image_of(site.output), tensor=site.input(1 - position).name)
        yield _broadcast(site, tensor, wide, other)
        images.append(wide)
    kernel = MulKernel if site.kind == "MUL" else AddKernel
    yield kernel(
        layer=site.operator.index,
        a=images[0],
        b=images[1],
        output=image_of(site.output),
        parameters=parameters,
    )


def _broadcast(site: Site, tensor: Tensor, wide: Image, other: Image) -> Kernel:
    """Return the kernel that repeats one value per channel over a whole image."""
    if tensor.data is None:
        pixel = Image(tensor=tensor.name, height=1, width=1, channels=wide.channels)
        return ResizeKernel(
            layer=site.operator.index,
            input=pixel,
            output=wide,
            rows=(0,) * wide.height,
            cols=(0,) * wide.width,
        )
    # Sums of products with zeros: what is left is the bias.
    return DepthwiseKernel(
        layer=site.operator.index,
        input=other,
        output=wide,
        weights=np.zeros((1, 1, wide.channels), np.int8),
        bias=np.asarray(tensor.data, np.int64).reshape(-1),
        stride=(1, 1),
        dilation=(1, 1),
        pad_top=0,
        pad_left=0,
        pad_value=0,
        requantization=Requantization(
            rounding=Rounding.DOUBLE,
            multipliers=np.full(wide.channels, _UNIT_MULTIPLIER, np.int64),
            shifts=np.full(wide.channels, _UNIT_SHIFT, np.int64),
            zero_point=0,
            low=tables.INT8_MIN,
            high=tables.INT8_MAX,
        ),
    )


def _softmax(site: Site, _reference: str) -> Iterator[Kernel]:
    yield HostKernel(
        layer=site.operator.index,
        op="softmax",
        inputs=(site.source.name,),
        outputs=(site.output.name,),
        attributes=softmax.prepare(site.operator.attributes["beta"], site.source.scale),
    )


MAKERS: Mapping[str, Maker] = {
    **dict.fromkeys(_TABLES, _unary),
    **dict.fromkeys(_PARAMETERS, _binary),
    "SOFTMAX": _softmax,
}
"""By operator."""
