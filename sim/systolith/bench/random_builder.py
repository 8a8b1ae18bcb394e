"""Draws the parts of random models that no training would produce.

Odd channels, strides, paddings and dilations; any zero point; scales per channel; weights at the
ends of int8; factors that are powers of two, so that sums lie exactly between two outputs. Output
scales follow the spread of the sums, so that most outputs are not clamped.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from systolith.bench.tflite_schema import Activation, Padding, Tensor, Window
from systolith.bench.tflite_writer import TfliteModel

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
SPREAD = 40.0
_MAX_BIAS = 1 << 28


@dataclass(frozen=True)
class RandomModel:
    """A model file with inputs, `[samples, *shape]` by name."""

    model: bytes
    inputs: Mapping[str, NDArray[Any]]


class Builder:
    """Draws the parts of one model."""

    def __init__(self, rng: np.random.Generator, max_bytes: int) -> None:
        self.rng = rng
        self.max_bytes = max_bytes
        self.model = TfliteModel()
        self.inputs: dict[str, NDArray[Any]] = {}
        self.outputs: list[Tensor] | None = None

    def between(self, low: int, high: int) -> int:
        """Return an integer in low..high, small ones more often than large ones."""
        return min(high, low + int((high - low + 1) * self.rng.random() ** 2))

    def pick(self, *choices: Any) -> Any:
        """Return one of the choices."""
        return choices[self.rng.integers(len(choices))]

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return bool(self.rng.random() < probability)

    def zero_point(self) -> int:
        """Return an int8 zero point, often at an end of the range."""
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

    def input(
        self,
        shape: tuple[int, ...],
        *,
        like: Tensor | None = None,
        dtype: Literal["int8", "uint8"] = "int8",
    ) -> Tensor:
        """Return an input of the model, quantized like another tensor if one is given."""
        name = f"input{len(self.inputs)}"
        values = np.stack([self.int8(shape) for _ in range(SAMPLES)])
        self.inputs[name] = values.view(dtype)
        scale, zero_point = self.scale(), self.zero_point()
        if like is not None:
            scale, zero_point = like.quantization.scale, like.quantization.zero_point
        elif dtype == "uint8":
            zero_point += 128
        return self.model.input(name, shape, scale=scale, zero_point=zero_point, dtype=dtype)

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
        exponent = math.log2(max(unit * spread, 1e-6) / SPREAD) + self.rng.uniform(-2, 2)
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
        """Append a convolution."""
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
        bias = self.bias(out_channels, spread_of(weights))
        spread = spread_of(weights, bias)
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
        """Append a matrix product with rows of `features`."""
        outputs = self.between(1, self.pick(8, 40, 130))
        weights = self.int8((outputs, features))
        scale = float(self.weight_scales(1)[0])
        bias = self.bias(outputs, spread_of(weights))
        spread = spread_of(weights, bias)
        return self.model.fully_connected(
            x,
            weights,
            bias,
            weight_scale=scale,
            **self.output(x.quantization.scale * scale, spread),
        )

    def add(self, a: Tensor, b: Tensor) -> Tensor:
        """Append an addition."""
        larger = max(a.quantization.scale, b.quantization.scale)
        return self.model.add(a, b, **self.output(larger, 2 * SPREAD))

    def average_pool(self, x: Tensor) -> Tensor:
        """Append an average pool."""
        window = self.window((x.shape[1], x.shape[2]), self.pick(2, 3, 8, 16), dilated=False)
        return self.model.average_pool(
            x,
            window.kernel,
            stride=window.stride,
            padding=window.padding,
            activation=self.activation(x.quantization.scale),
        )


def spread_of(weights: NDArray[np.int8], bias: NDArray[np.int32] | None = None) -> float:
    """Return about the standard deviation of sums of these weights with even int8 inputs."""
    deviation_of_inputs = 74.0
    squares = (weights.reshape(len(weights), -1).astype(np.float64) ** 2).sum(axis=1)
    offset = 0.0 if bias is None else float(bias.astype(np.float64).std())
    return max(1.0, math.hypot(deviation_of_inputs * math.sqrt(float(np.median(squares))), offset))
