"""Random models of one layer, and small random networks, that no training would produce.

Odd channels, strides, paddings and dilations; any zero point; scales per channel; weights at the
ends of int8; factors that are powers of two, so that sums lie exactly between two outputs. Output
scales follow the spread of the sums, so that most outputs are not clamped.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.arch.config import AcceleratorConfig
from systolith.arch.softmax import MAX_FACTOR
from systolith.bench.tflite_schema import Activation, Padding, Tensor, Window
from systolith.bench.tflite_writer import TfliteModel

ODD_CONFIGS: Mapping[str, AcceleratorConfig] = {
    config.name: config
    for config in (
        AcceleratorConfig(
            name="odd-5x6",
            rows=5,
            cols=6,
            scratchpad_bytes=8 << 10,
            weight_bytes=2 << 10,
            acc_rows=32,
            param_bytes=512,
            lanes=3,
            feeds=1,
            axi_data_bits=32,
        ),
        AcceleratorConfig(
            name="odd-7x3",
            rows=7,
            cols=3,
            scratchpad_bytes=16 << 10,
            weight_bytes=4 << 10,
            acc_rows=64,
            param_bytes=1 << 10,
            lanes=1,
            feeds=3,
            axi_data_bits=64,
        ),
        AcceleratorConfig(
            name="odd-12x10",
            rows=12,
            cols=10,
            scratchpad_bytes=32 << 10,
            banks=8,
            weight_bytes=8 << 10,
            acc_rows=128,
            param_bytes=2 << 10,
            lanes=5,
            feeds=2,
            axi_data_bits=128,
        ),
    )
}
"""Arrays that divide nothing, by name."""

MAX_MACS = 300_000
"""Most multiplications of one layer, which bounds the time of a case."""

MAX_BYTES = 3000
"""Most bytes of a layer's input and output: some configurations have a scratchpad of 8 KiB."""

MAX_NETWORK_BYTES = 1500
"""The same for the layers of a network, of which more tensors are alive at a time."""

SAMPLES = 2

_ACTIVATIONS: tuple[Activation, ...] = ("NONE", "NONE", "RELU", "RELU6", "RELU_N1_TO_1")
_UNBOUNDED: tuple[Activation, ...] = ("NONE", "RELU")
# A bound of this many steps from zero leaves enough values to tell right from wrong.
_FEW_STEPS = 10
_PADDINGS: tuple[Padding, ...] = ("SAME", "VALID")
# Spread of the outputs in steps, before a random factor of up to four either way.
_SPREAD = 40.0
_MAX_BIAS = 1 << 28


@dataclass(frozen=True)
class RandomModel:
    """A model file with inputs, `[samples, *shape]` by name."""

    model: bytes
    inputs: Mapping[str, NDArray[np.int8]]


class _Builder:
    """Draws the parts of one model."""

    def __init__(self, rng: np.random.Generator, max_bytes: int) -> None:
        self.rng = rng
        self.max_bytes = max_bytes
        self.model = TfliteModel()
        self.inputs: dict[str, NDArray[np.int8]] = {}

    def between(self, low: int, high: int) -> int:
        """Return an integer in low..high, small ones more often than large ones."""
        return min(high, low + int((high - low + 1) * self.rng.random() ** 2))

    def pick(self, *choices: Any) -> Any:
        return choices[self.rng.integers(len(choices))]

    def chance(self, probability: float) -> bool:
        return bool(self.rng.random() < probability)

    def zero_point(self) -> int:
        return int(self.pick(-128, 127, 0, *self.rng.integers(-128, 128, 5)))

    def scale(self) -> float:
        """Return a scale between 2^-8 and 1, sometimes a power of two."""
        exponent = self.rng.uniform(-8, 0)
        return float(2.0 ** (round(exponent) if self.chance(0.3) else exponent))

    def int8(self, shape: tuple[int, ...]) -> NDArray[np.int8]:
        """Return values: spread evenly, at the ends of the range, mostly zero, or all equal."""
        even = self.rng.integers(-128, 128, shape, dtype=np.int8)
        ends = self.rng.choice(np.array([-128, -127, 127], np.int8), shape)
        sparse = np.where(self.rng.random(shape) < 0.8, np.int8(0), even)
        equal = np.full(shape, self.pick(-128, 127), np.int8)
        return np.asarray(self.pick(even, even, even, ends, sparse, equal), np.int8)

    def bias(self, channels: int, spread: float) -> NDArray[np.int32] | None:
        """Return biases of about the spread of the sums, rarely huge ones, or none."""
        if self.chance(0.15):
            return None
        width = _MAX_BIAS if self.chance(0.05) else max(1, int(spread))
        return self.rng.integers(-width, width + 1, channels, dtype=np.int32)

    def input(self, shape: tuple[int, ...]) -> Tensor:
        name = f"input{len(self.inputs)}"
        self.inputs[name] = np.stack([self.int8(shape) for _ in range(SAMPLES)])
        return self.model.input(name, shape, scale=self.scale(), zero_point=self.zero_point())

    def image(self, shape: tuple[int, ...] | None = None) -> Tensor:
        """Return an input of NHWC with batch 1, of random shape if none is given."""
        while shape is None:
            height, width = self.between(1, 16), self.between(1, 16)
            channels = self.between(1, self.pick(4, 20, 70))
            if height * width * channels <= self.max_bytes:
                shape = (1, height, width, channels)
        return self.input(shape)

    def window(self, size: tuple[int, int], most: int, *, dilated: bool) -> Window:
        """Return a window that fits the image."""
        while True:
            window = Window(
                (self.between(1, most), self.between(1, most)),
                (self.between(1, 4), self.between(1, 4)),
                (self.between(1, 3), self.between(1, 3)) if dilated else (1, 1),
                self.pick(*_PADDINGS),
            )
            try:
                window.output_size(size)
            except ValueError:
                continue
            return window

    def weight_scales(self, channels: int) -> NDArray[np.float32]:
        """Return one scale, or one per channel, some of them powers of two."""
        count = 1 if self.chance(0.3) else channels
        exponents = self.rng.uniform(-9, -4, count)
        if self.chance(0.3):
            exponents = exponents.round()
        return np.asarray(2.0**exponents, np.float32)

    def output(self, unit: float, spread: float) -> dict[str, Any]:
        """Return quantization and activation for sums of a spread in units.

        Most outputs are in range, and most clamps are within it.
        """
        exponent = math.log2(max(unit * spread, 1e-6) / _SPREAD) + self.rng.uniform(-2, 2)
        scale = float(2.0 ** (round(exponent) if self.chance(0.4) else exponent))
        activation = self.activation(scale)
        zero_point = self.zero_point()
        if activation != "NONE" and zero_point > 0 and self.chance(0.9):
            zero_point = -1 - zero_point
        return {"scale": scale, "zero_point": zero_point, "activation": activation}

    def activation(self, scale: float) -> Activation:
        """Return a fused activation, rarely one that lets few values through."""
        choices = _ACTIVATIONS if 1.0 / scale > _FEW_STEPS or self.chance(0.1) else _UNBOUNDED
        return choices[self.rng.integers(len(choices))]

    def conv2d(self, x: Tensor) -> Tensor:
        _, height, width, channels = x.shape
        while True:
            window = self.window(
                (height, width), self.pick(1, 3, 3, 5, 7), dilated=self.chance(0.3)
            )
            out_channels = self.between(1, self.pick(4, 20, 70))
            size = math.prod(window.output_size((height, width))) * out_channels
            macs = size * math.prod(window.kernel) * channels
            if size <= self.max_bytes and macs <= MAX_MACS:
                break
        weights = self.int8((out_channels, *window.kernel, channels))
        scales = self.weight_scales(out_channels)
        bias = self.bias(out_channels, _spread(weights))
        spread = _spread(weights, bias)
        return self.model.conv2d(
            x,
            weights,
            bias,
            weight_scales=scales,
            **self.output(x.quantization.scale * float(np.median(scales)), spread),
            stride=window.stride,
            dilation=window.dilation,
            padding=window.padding,
        )

    def fully_connected(self, x: Tensor, features: int) -> Tensor:
        outputs = self.between(1, self.pick(8, 40, 130))
        weights = self.int8((outputs, features))
        scale = float(self.weight_scales(1)[0])
        bias = self.bias(outputs, _spread(weights))
        spread = _spread(weights, bias)
        return self.model.fully_connected(
            x,
            weights,
            bias,
            weight_scale=scale,
            **self.output(x.quantization.scale * scale, spread),
        )

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        larger = max(a.quantization.scale, b.quantization.scale)
        return self.model.add(a, b, **self.output(larger, 2 * _SPREAD))

    def average_pool(self, x: Tensor) -> Tensor:
        window = self.window((x.shape[1], x.shape[2]), self.pick(2, 3, 8, 16), dilated=False)
        return self.model.average_pool(
            x,
            window.kernel,
            stride=window.stride,
            padding=window.padding,
            activation=self.activation(x.quantization.scale),
        )


def _spread(weights: NDArray[np.int8], bias: NDArray[np.int32] | None = None) -> float:
    """Return about the standard deviation of sums of these weights with even int8 inputs."""
    deviation_of_inputs = 74.0
    squares = (weights.reshape(len(weights), -1).astype(np.float64) ** 2).sum(axis=1)
    offset = 0.0 if bias is None else float(bias.astype(np.float64).std())
    return max(1.0, math.hypot(deviation_of_inputs * math.sqrt(float(np.median(squares))), offset))


def _convolution(b: _Builder) -> None:
    b.conv2d(b.image())


def _fully_connected(b: _Builder) -> None:
    rows, features = b.between(1, 6), b.between(1, b.pick(20, 100, 400))
    # The leading axes of any input are rows.
    shape = b.pick((rows, features), (1, 1, rows, features), (1, rows * features))
    b.fully_connected(b.input(shape), features)


def _add(b: _Builder) -> None:
    a = b.image()
    b.add(a, a if b.chance(0.1) else b.image(a.shape))


def _average_pool(b: _Builder) -> None:
    b.average_pool(b.image())


def _network(b: _Builder) -> None:
    """Add a residual block with head: two ways to one sum, a pool, logits and their softmax."""
    x = b.image()
    left = b.conv2d(x)
    for _ in range(b.between(0, 2)):
        left = b.conv2d(left)
    total = b.add(left, b.pick(left, b.image(left.shape)))
    if b.chance(0.5):
        total = b.add(total, left)
    pooled = b.average_pool(total)
    features = math.prod(pooled.shape)
    logits = b.fully_connected(b.model.reshape(pooled, (1, features)), features)
    if logits.quantization.scale < MAX_FACTOR and b.chance(0.5):
        b.model.softmax(logits)


KINDS: Mapping[str, Callable[[_Builder], None]] = {
    "convolution": _convolution,
    "fully_connected": _fully_connected,
    "add": _add,
    "average_pool": _average_pool,
    "network": _network,
}
"""What can be drawn, by name."""


def random_model(kind: str, seed: int) -> RandomModel:
    """Return a random model of a kind; the same seed gives the same bytes.

    Parameters
    ----------
    kind : str
        A key of `KINDS`.
    seed : int
        Seed of every choice.
    """
    max_bytes = MAX_NETWORK_BYTES if kind == "network" else MAX_BYTES
    builder = _Builder(np.random.default_rng(seed), max_bytes)
    KINDS[kind](builder)
    return RandomModel(builder.model.build(), builder.inputs)
