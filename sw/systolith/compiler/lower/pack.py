"""Take neighboring output pixels as one wider vector, where few output channels leave columns idle.

Pixels side by side read overlapping runs of the same lines. Their union is one run, and a weight
tile with a band for each gives them all: columns 0 to O - 1 the first pixel, O to 2 O - 1 the next.
"""

from dataclasses import replace

import numpy as np

from systolith.arch.config import AcceleratorConfig, ceil_div

from ..ir import ConvKernel
from ..tile import Placement

MOST_PIXELS = 4
"""Output pixels of a vector, at most."""


def packed(
    kernel: ConvKernel, config: AcceleratorConfig, source: Placement, target: Placement
) -> ConvKernel | None:
    """Return the convolution that makes several pixels per vector, or None if that gains nothing.

    Parameters
    ----------
    kernel : ConvKernel
        Convolution.
    config : AcceleratorConfig
        Machine.
    source, target : Placement
        Where input and output lie. A target with gaps takes two pixels at a time, if the left one
        finds room in the gap before the right one and one column tile holds both.

    Returns
    -------
    ConvKernel or None
        Its output is narrower by the number of pixels and has as many times the channels.
    """
    count, _, width, channels = kernel.weights.shape
    if kernel.dilation[1] != 1 or source.pixel != channels:
        return None
    most = MOST_PIXELS
    if target.pixel != count:
        most = 2 if 2 * count <= min(target.pixel, config.cols) else 1

    def vectors(pixels: int) -> float:
        """Return the vectors of a kernel line for each output pixel."""
        run = (width + (pixels - 1) * kernel.stride[1]) * channels
        return ceil_div(run, config.rows) * ceil_div(pixels * count, config.cols) / pixels

    candidates = [n for n in range(1, most + 1) if kernel.output.width % n == 0]
    best = min(candidates, key=vectors)
    return _join(kernel, best) if best > 1 else None


def _join(kernel: ConvKernel, pixels: int) -> ConvKernel:
    count, height, width, channels = kernel.weights.shape
    step = kernel.stride[1]
    run = width + (pixels - 1) * step
    weights = np.zeros((pixels, count, height, run, channels), np.int8)
    for pixel in range(pixels):
        weights[pixel, :, :, pixel * step : pixel * step + width] = kernel.weights
    output, scales = kernel.output, kernel.requantization
    return replace(
        kernel,
        output=replace(output, width=output.width // pixels, channels=pixels * count),
        weights=weights.reshape(pixels * count, height, run, channels),
        bias=np.tile(kernel.bias, pixels),
        stride=(kernel.stride[0], pixels * step),
        requantization=replace(
            scales,
            multipliers=np.tile(scales.multipliers, pixels),
            shifts=np.tile(scales.shifts, pixels),
        ),
    )
