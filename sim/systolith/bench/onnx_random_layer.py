"""Seeded one-operator models in QDQ form, one family for each operator of the ONNX front end."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .onnx_writer import (
    QdqWriter,
    Quantization,
    WeightStyle,
    random_quantization,
    random_weights,
)


class Case(NamedTuple):
    """A model with its inputs, `[samples, *shape]`."""

    model: bytes
    inputs: dict[str, NDArray[Any]]


class _Maker:
    """Builds one model around one operator."""

    def __init__(self, seed: int, samples: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.samples = samples
        self.dtype = str(self.rng.choice(["int8", "uint8"]))
        self.writer = QdqWriter(name=f"seed {seed}")
        self.inputs: dict[str, NDArray[Any]] = {}

    def pick(self, low: int, high: int) -> int:
        """Return a seeded number in low..high."""
        return int(self.rng.integers(low, high + 1))

    def quantization(self, span: float = 4.0) -> Quantization:
        """Return a seeded quantization in the type of the model."""
        return random_quantization(self.rng, self.dtype, span)

    def input(self, shape: tuple[int, ...], item: Quantization, name: str = "x") -> str:
        """Add an input with codes all over its range."""
        limits = np.iinfo(item.dtype)
        size = (self.samples, *shape)
        self.inputs[name] = self.rng.integers(limits.min, limits.max + 1, size).astype(item.dtype)
        return self.writer.input(name, shape, item)

    def finish(
        self,
        kind: str,
        operands: list[str],
        item: Quantization,
        rank: int,
        **attributes: Any,
    ) -> Case:
        """Add the operator and return the model."""
        self.writer.operator(kind, operands, item, name="y", **attributes)
        # The result stays quantized, so that its bytes can be compared.
        self.writer.nodes.pop()
        self.writer.output("y", [f"d{axis}" for axis in range(rank)], self.dtype)
        return Case(self.writer.to_bytes(), self.inputs)

    def image(self, channels: int | None = None) -> tuple[int, int, int, int]:
        """Return a seeded NCHW shape."""
        return 1, channels or self.pick(1, 24), self.pick(6, 20), self.pick(6, 20)


def _conv(make: _Maker, *, depthwise: bool = False, grouped: bool = False) -> Case:
    rng = make.rng
    groups = make.pick(2, 4) if grouped else 1
    shape = make.image(make.pick(1, 4) * groups if grouped else None)
    channels = shape[1]
    item = make.quantization()
    kernel = (make.pick(1, 4), make.pick(1, 4))
    outputs = channels if depthwise else groups * make.pick(1, 8)
    depth = 1 if depthwise else channels // groups
    # On x86 the runtime has integer kernels for uint8 weights with uint8 activations only.
    unsigned = make.dtype == "uint8" and bool(rng.integers(2))
    style = WeightStyle(
        dtype="uint8" if unsigned else "int8",
        per_channel=not unsigned and bool(rng.integers(2)),
        bias=bool(rng.integers(2)),
    )
    operands = [make.input(shape, item)]
    operands += random_weights(
        make.writer, rng, "w", (outputs, depth, *kernel), style=style, input_scale=item.scale
    )
    return make.finish(
        "Conv",
        operands,
        make.quantization(3.0),
        4,
        group=channels if depthwise else groups,
        kernel_shape=list(kernel),
        strides=[make.pick(1, 2), make.pick(1, 2)],
        dilations=[1, 1] if depthwise else [make.pick(1, 2), 1],
        pads=[make.pick(0, size - 1) for size in (*kernel, *kernel)],
    )


def _depthwise(make: _Maker) -> Case:
    return _conv(make, depthwise=True)


def _grouped(make: _Maker) -> Case:
    return _conv(make, grouped=True)


def _gemm(make: _Maker) -> Case:
    item, rows, features, outputs = (
        make.quantization(),
        make.pick(1, 40),
        make.pick(1, 90),
        make.pick(1, 40),
    )
    style = WeightStyle(per_channel=bool(make.rng.integers(2)))
    operands = [make.input((rows, features), item)]
    operands += random_weights(
        make.writer, make.rng, "w", (outputs, features), style=style, input_scale=item.scale
    )
    return make.finish("Gemm", operands, make.quantization(3.0), 2, transB=1)


def _matmul(make: _Maker) -> Case:
    item, rows, features, outputs = (
        make.quantization(),
        make.pick(1, 40),
        make.pick(1, 90),
        make.pick(1, 40),
    )
    operands = [make.input((1, rows, features), item)]
    operands += random_weights(
        make.writer,
        make.rng,
        "w",
        (features, outputs),
        style=WeightStyle(bias=False, per_channel=bool(make.rng.integers(2))),
        input_scale=item.scale,
        axis=1,
    )
    return make.finish("MatMul", operands, make.quantization(3.0), 3)


def _binary(kind: str) -> Callable[[_Maker], Case]:
    def build(make: _Maker) -> Case:
        shape = make.image()
        items = [make.quantization(), make.quantization()]
        operands = [make.input(shape, item, f"x{i}") for i, item in enumerate(items)]
        span = 6.0 if kind == "Add" else 9.0
        return make.finish(kind, operands, make.quantization(span), 4)

    return build


def _max_pool(make: _Maker) -> Case:
    item, shape = make.quantization(), make.image()
    kernel = [make.pick(2, 3), make.pick(2, 3)]
    pads = [make.pick(0, 1) for _ in range(4)]
    strides = [make.pick(1, 2), make.pick(1, 2)]
    operands = [make.input(shape, item)]
    return make.finish(
        "MaxPool", operands, item, 4, kernel_shape=kernel, strides=strides, pads=pads
    )


def _average_pool(make: _Maker) -> Case:
    shape, kernel = make.image(), [make.pick(2, 4), make.pick(2, 4)]
    item, padded = make.quantization(), make.pick(0, 1)
    # Equal quantization on both sides, as exporters like it, makes ties frequent.
    result = item if make.pick(0, 1) else make.quantization(2.0)
    return make.finish(
        "AveragePool",
        [make.input(shape, item)],
        result,
        4,
        kernel_shape=kernel,
        strides=[make.pick(1, 2), make.pick(1, 2)],
        pads=[make.pick(0, padded) for _ in range(4)],
        count_include_pad=make.pick(0, 1),
    )


def _global_pool(make: _Maker) -> Case:
    shape = make.image(make.pick(40, 90))
    operands = [make.input(shape, make.quantization())]
    return make.finish("GlobalAveragePool", operands, make.quantization(0.8), 4)


def _reduce_mean(make: _Maker) -> Case:
    operands = [make.input(make.image(make.pick(40, 90)), make.quantization())]
    return make.finish("ReduceMean", operands, make.quantization(0.8), 4, axes=[2, 3], keepdims=1)


def _unary(kind: str, span: float, **attributes: Any) -> Callable[[_Maker], Case]:
    def build(make: _Maker) -> Case:
        operands = [make.input(make.image(), make.quantization(8.0))]
        return make.finish(kind, operands, make.quantization(span), 4, **attributes)

    return build


def _concat(make: _Maker) -> Case:
    axis, shape = make.pick(1, 3), list(make.image())
    items = [make.quantization() for _ in range(make.pick(2, 3))]
    operands = []
    for position, item in enumerate(items):
        shape[axis] = make.pick(1, 12)
        operands.append(make.input((1, *shape[1:]), item, f"x{position}"))
    return make.finish("Concat", operands, make.quantization(), 4, axis=axis)


def _resize(make: _Maker) -> Case:
    item, shape = make.quantization(), make.image()
    mode = str(make.rng.choice(["asymmetric", "half_pixel"]))
    nearest = "floor" if mode == "asymmetric" else "round_prefer_floor"
    factor = np.array([1, 1, make.pick(1, 3), make.pick(1, 3)], np.float32)
    operands = [make.input(shape, item), "", make.writer.constant("scales", factor)]
    return make.finish(
        "Resize",
        operands,
        item,
        4,
        mode="nearest",
        coordinate_transformation_mode=mode,
        nearest_mode=nearest,
    )


def _softmax(make: _Maker) -> Case:
    rows, depth = make.pick(1, 60), make.pick(2, 40)
    operands = [make.input((rows, depth), make.quantization(8.0))]
    zero = -128 if make.dtype == "int8" else 0
    item = Quantization(scale=1 / 256, zero_point=zero, dtype=make.dtype)
    return make.finish("Softmax", operands, item, 2, axis=-1)


FAMILIES: Mapping[str, Callable[[_Maker], Case]] = {
    "Add": _binary("Add"),
    "AveragePool": _average_pool,
    "Concat": _concat,
    "Conv": _conv,
    "Conv depthwise": _depthwise,
    "Conv grouped": _grouped,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_pool,
    "HardSigmoid": _unary("HardSigmoid", 1.0),
    "HardSwish": _unary("HardSwish", 6.0),
    "LeakyRelu": _unary("LeakyRelu", 6.0, alpha=0.1),
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": _binary("Mul"),
    "ReduceMean": _reduce_mean,
    "Relu": _unary("Relu", 4.0),
    "Resize": _resize,
    "Sigmoid": _unary("Sigmoid", 1.0),
    "Softmax": _softmax,
    "Tanh": _unary("Tanh", 1.0),
}


def layer(family: str, seed: int, samples: int = 1) -> Case:
    """Return the model of a family and a seed with random inputs."""
    return FAMILIES[family](_Maker(seed, samples))
