"""Sliding windows and the clamp of fused activations, as TensorFlow Lite defines them.

Ref: `ComputeOutSize` and `ComputePaddingWithOffset`, tensorflow/lite/kernels/padding.h;
    `CalculateActivationRangeQuantized`, tensorflow/lite/kernels/kernel_util.cc.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

INT8_MIN, INT8_MAX = -128, 127

ACTIVATION_RANGES: dict[str, tuple[float | None, float | None]] = {
    "NONE": (None, None),
    "RELU": (0.0, None),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
}
"""Smallest and largest real value that a fused activation lets through."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """A window along one axis of an image; all numbers in pixels.

    Parameters
    ----------
    size : int
        Size of the input.
    kernel, stride, dilation : int
        Taps of the window, distance of windows, distance of taps.
    padding : str
        `"SAME"` or `"VALID"`.
    """

    size: int
    kernel: int
    stride: int
    dilation: int = 1
    padding: str

    @property
    def reach(self) -> int:
        """Pixels from the first to the last tap, both included."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def output(self) -> int:
        """Size of the output; zero or less if the window does not fit."""
        steps = self.size if self.padding == "SAME" else self.size - self.reach + 1
        return -(-steps // self.stride)

    @property
    def pad(self) -> int:
        """Pixels of padding before the first one; an odd total leaves the larger half behind."""
        return max((self.output - 1) * self.stride + self.reach - self.size, 0) // 2

    @property
    def window_step(self) -> int:
        """Stride if there are several windows, else 1, as a single one never moves."""
        return self.stride if self.output > 1 else 1

    @property
    def tap_step(self) -> int:
        """Dilation if there are several taps, else 1."""
        return self.dilation if self.kernel > 1 else 1

    @property
    def most_pixels(self) -> int:
        """Most pixels of the input under one window without dilation."""
        starts = np.arange(max(self.output, 0)) * self.stride - self.pad
        ends = np.minimum(starts + self.kernel, self.size)
        return int((ends - np.maximum(starts, 0)).max(initial=0))


def axes(size: tuple[int, ...], kernel: tuple[int, ...], attributes: Any) -> tuple[Axis, Axis]:
    """Return the vertical and the horizontal window of an operator with these attributes."""
    dilation = attributes.get("dilation", (1, 1))
    vertical, horizontal = (
        Axis(
            size=size[axis],
            kernel=kernel[axis],
            stride=attributes["stride"][axis],
            dilation=dilation[axis],
            padding=attributes["padding"],
        )
        for axis in range(2)
    )
    return vertical, horizontal


def activation_range(activation: str, scale: float, zero_point: int) -> tuple[int, int]:
    """Return the smallest and the largest int8 value that a fused activation lets through."""

    def quantize(real: float) -> int:
        # A float32 quotient, rounded half away from zero.
        quotient = float(np.float32(real) / np.float32(scale))
        return zero_point + math.floor(abs(quotient) + 0.5) * (1 if quotient >= 0 else -1)

    low, high = ACTIVATION_RANGES[activation]
    return (
        INT8_MIN if low is None else max(INT8_MIN, quantize(low)),
        INT8_MAX if high is None else min(INT8_MAX, quantize(high)),
    )
