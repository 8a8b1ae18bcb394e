"""Random models of one operator each, beyond those of residual networks."""

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import numpy as np

from systolith.bench.random_builder import MAX_MACS, SPREAD, Builder, spread_of
from systolith.bench.tflite_schema import Quantization, Tensor

# Operators of one operand that TFLite Micro has for int8.
UNARY = (
    "ABS",
    "ELU",
    "HARD_SWISH",
    "LEAKY_RELU",
    "LOGISTIC",
    "QUANTIZE",
    "RELU",
    "RELU6",
    "TANH",
)
FIXED_OUTPUTS = {
    "LOGISTIC": Quantization(1 / 256, -128),
    "TANH": Quantization(1 / 128, 0),
}
"""Output quantization of the operators that have only one."""


def _weights(b: Builder, count: int, shape: tuple[int, ...], axis: int) -> tuple[Any, Any, Any]:
    """Return weights, scales and bias of a depthwise or grouped convolution."""
    weights = b.int8(shape)
    scales = b.weight_scales(count)
    spread = spread_of(np.moveaxis(weights, axis, 0))
    return weights, scales, b.rng.integers(-int(spread), int(spread) + 1, count, dtype=np.int32)


def _depthwise_of(b: Builder, x: Tensor, multiplier: int) -> Tensor:
    _, height, width, channels = x.shape
    while True:
        window = b.window((height, width), b.pick(1, 3, 3, 5, 7), dilated=b.chance(0.3))
        size = math.prod(window.output_size((height, width))) * channels * multiplier
        dense = size * math.prod(window.kernel) * (channels if multiplier > 1 else 1)
        if size <= b.max_bytes and dense <= MAX_MACS:
            break
    count = channels * multiplier
    weights, scales, bias = _weights(b, count, (1, *window.kernel, count), 3)
    unit = x.quantization.scale * float(np.median(scales))
    return b.model.depthwise_conv2d(
        x,
        weights,
        bias,
        weight_scales=scales,
        **b.output(unit, spread_of(np.moveaxis(weights, 3, 0), bias)),
        stride=window.stride,
        dilation=window.dilation,
        padding=window.padding,
    )


def _depthwise(b: Builder) -> None:
    _depthwise_of(b, b.image(), 1)


def _depthwise_multiplier(b: Builder) -> None:
    shape = (1, b.between(1, 10), b.between(1, 10), b.between(1, 8))
    _depthwise_of(b, b.image(shape), b.between(2, 4))


def _transpose_conv(b: Builder) -> None:
    channels, outputs = b.between(1, 20), b.between(1, 20)
    kernel = (b.between(1, 5), b.between(1, 5))
    stride = (b.between(1, 3), b.between(1, 3))
    padding = b.pick("SAME", "VALID")
    size = (b.between(1, 8), b.between(1, 8))
    x = b.image((1, *size, channels))
    # The largest output that a convolution of this stride brings back to the input's size.
    reach = (1, 1) if padding == "SAME" else kernel
    out = [(n - 1) * s + r for n, s, r in zip(size, stride, reach, strict=True)]
    out = [n + b.between(0, s - 1) for n, s in zip(out, stride, strict=True)]
    weights, scales, bias = _weights(b, outputs, (outputs, *kernel, channels), 0)
    unit = x.quantization.scale * float(np.median(scales))
    b.model.transpose_conv(
        x,
        weights,
        None if b.chance(0.2) else bias,
        weight_scales=scales,
        **b.output(unit, spread_of(weights)),
        size=(out[0], out[1]),
        stride=stride,
        padding=padding,
    )


def _max_pool(b: Builder) -> None:
    x = b.image()
    window = b.window((x.shape[1], x.shape[2]), b.pick(2, 3, 8), dilated=False)
    b.model.max_pool(
        x,
        window.kernel,
        stride=window.stride,
        padding=window.padding,
        activation=b.activation(x.quantization.scale),
    )


def _mean(b: Builder) -> None:
    x = b.image()
    quantization = _near(b, x)
    b.model.mean(
        x,
        b.pick((1, 2), (2, 1), (-3, -2)),
        scale=quantization.scale,
        zero_point=quantization.zero_point,
        keep_dims=b.chance(0.5),
    )


def _near(b: Builder, x: Tensor) -> Quantization:
    """Return the quantization of a tensor, or one within three octaves of it."""
    if b.chance(0.2):
        return Quantization(x.quantization.scale, x.quantization.zero_point)
    octaves = b.rng.uniform(-3, 3)
    factor = 2.0 ** (round(octaves) if b.chance(0.3) else octaves)
    return Quantization(x.quantization.scale * factor, b.zero_point())


def _binary_output(b: Builder, operator: str, scales: tuple[float, float]) -> dict[str, Any]:
    if operator == "MUL":
        # From here on the factor is below one.
        settings = b.output(math.prod(scales), 2000.0)
        settings["scale"] = max(settings["scale"], 1.01 * math.prod(scales))
        return settings
    return b.output(max(scales), 2 * SPREAD)


def _binary(operator: str) -> Callable[[Builder], None]:
    def draw(b: Builder) -> None:
        a = b.image()
        other = a if b.chance(0.1) else b.image(a.shape)
        scales = (a.quantization.scale, other.quantization.scale)
        b.model.binary(operator, a, other, **_binary_output(b, operator, scales))

    return draw


def _broadcast(b: Builder, operator: str) -> None:
    """Add an operator whose other operand is a value per channel, or one constant."""
    a = b.image()
    channels = a.shape[3]
    other: Any
    form = b.pick("pixel", "constant", "constants")
    if form == "pixel":
        other = b.image((1, 1, 1, channels))
        scale = other.quantization.scale
    else:
        scale = b.scale()
        shape = (1, 1, 1, 1 if form == "constant" else channels)
        other = (b.int8(shape), scale, b.zero_point())
    settings = _binary_output(b, operator, (a.quantization.scale, scale))
    operands = (a, other) if b.chance(0.5) else (other, a)
    b.model.binary(operator, *operands, **settings)


def _pad(b: Builder) -> None:
    x = b.image((1, b.between(1, 8), b.between(1, 8), b.between(1, 12)))
    most = (0, 3, 3, b.pick(0, 0, 3))
    paddings = [(b.between(0, n), b.between(0, n)) for n in most]
    b.model.pad(x, paddings, value=int(b.rng.integers(-128, 128)) if b.chance(0.5) else None)


def _concatenation(b: Builder) -> None:
    axis = b.pick(1, 2, 3)
    shape = [1, b.between(1, 6), b.between(1, 6), b.between(1, 12)]
    parts = [b.image((1, shape[1], shape[2], shape[3]))]
    for _ in range(b.between(1, 3)):
        shape[axis] = b.between(1, 6)
        parts.append(b.input(tuple(shape), like=parts[0]))
    b.model.concatenation(parts, axis - 4 if b.chance(0.3) else axis)


def _slice(b: Builder) -> None:
    x = b.image((1, b.between(1, 12), b.between(1, 12), b.between(1, 20)))
    begins = [int(b.rng.integers(0, n)) for n in x.shape]
    sizes = [
        int(b.rng.integers(1, n - begin + 1)) for n, begin in zip(x.shape, begins, strict=True)
    ]
    kind = b.pick("SLICE", "STRIDED_SLICE", "STRIDED_SLICE", "SPLIT")
    if kind == "SLICE":
        b.model.slice(x, begins, [-1 if b.chance(0.3) else size for size in sizes])
    elif kind == "SPLIT":
        axis = b.pick(1, 2, 3)
        counts = [n for n in range(1, 5) if x.shape[axis] % n == 0]
        b.outputs = b.model.split(x, axis, b.pick(*counts))
    else:
        ends = [begin + size for begin, size in zip(begins, sizes, strict=True)]
        b.model.strided_slice(
            x,
            begins,
            ends,
            [1, b.between(1, 3), b.between(1, 3), 1],
            begin_mask=int(b.rng.integers(16)),
            end_mask=int(b.rng.integers(16)),
            shrink_axis_mask=b.pick(0, 0, 1, 2, 4),
        )


def _resize(b: Builder) -> None:
    x = b.image((1, b.between(1, 8), b.between(1, 8), b.between(1, 8)))
    mode = b.pick({}, {"align_corners": True}, {"half_pixel_centers": True})
    b.model.resize_nearest(x, (b.between(1, 13), b.between(1, 13)), **mode)


def _view(b: Builder) -> None:
    x = b.image((1, 1, b.between(1, 12), b.between(2, 12)))
    y = b.model.view("EXPAND_DIMS", x, (1, *x.shape), axis=0)
    y = b.model.view("SQUEEZE", y, [n for n in y.shape if n != 1])
    b.model.unary("RELU", y, _near(b, y))


def _unary(b: Builder) -> None:
    operator, x = b.pick(*UNARY), b.image()
    quantization = FIXED_OUTPUTS.get(operator) or _near(b, x)
    b.model.unary(operator, x, quantization, alpha=float(b.rng.uniform(0, 1.2)))


def _quantize(b: Builder) -> None:
    """Add a chain from bytes of either type to bytes of either type."""
    types: list[Literal["int8", "uint8"]] = ["int8", "uint8"]
    x = b.input((1, b.between(1, 9), b.between(1, 9), b.between(1, 9)), dtype=b.pick(*types))
    for last in (False, True):
        scale = x.quantization.scale * 2.0 ** b.rng.integers(-2, 3)
        near = Quantization(scale, b.zero_point())
        if last and b.chance(0.5):
            near = Quantization(scale, near.zero_point + 128, "uint8")
        x = b.model.unary("QUANTIZE", x, near)


OPERATORS: Mapping[str, Callable[[Builder], None]] = {
    "depthwise": _depthwise,
    "depthwise_multiplier": _depthwise_multiplier,
    "transpose_conv": _transpose_conv,
    "max_pool": _max_pool,
    "mean": _mean,
    "sub": _binary("SUB"),
    "mul": _binary("MUL"),
    "broadcast": lambda b: _broadcast(b, b.pick("ADD", "SUB")),
    "broadcast_mul": lambda b: _broadcast(b, "MUL"),
    "pad": _pad,
    "concatenation": _concatenation,
    "slice": _slice,
    "resize": _resize,
    "view": _view,
    "unary": _unary,
    "quantize": _quantize,
}
"""What can be drawn, by name."""
