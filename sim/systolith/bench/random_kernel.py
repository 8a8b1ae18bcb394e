"""Random kernels of the compiler's back end, without a model around them."""

import numpy as np

from systolith.arch.isa import Rounding
from systolith.compiler.ir import ConvKernel, Image, KernelGraph, Requantization, Tensor


def conv_kernel(
    rng: np.random.Generator,
    *,
    size: tuple[int, int] = (6, 5),
    channels: int = 3,
    out_channels: int = 7,
    dilation: int = 1,
    pad: int = 1,
    layer: int = 0,
    source: str = "x",
    target: str = "y",
) -> ConvKernel:
    """Return a random per-channel 3x3 convolution, stride 1, with `pad` pixels around the image."""
    height, width = size
    out = [n + 2 * pad - 2 * dilation for n in size]
    return ConvKernel(
        layer=layer,
        input=Image(tensor=source, height=height, width=width, channels=channels),
        output=Image(tensor=target, height=out[0], width=out[1], channels=out_channels),
        weights=rng.integers(-128, 128, (out_channels, 3, 3, channels), dtype=np.int8),
        bias=rng.integers(-5000, 5000, out_channels),
        stride=(1, 1),
        dilation=(dilation, dilation),
        pad_top=pad,
        pad_left=pad,
        pad_value=int(rng.integers(-128, 128)),
        requantization=Requantization(
            rounding=Rounding.DOUBLE,
            multipliers=rng.integers(1 << 30, 1 << 31, out_channels),
            shifts=rng.integers(-9, -5, out_channels),
            zero_point=int(rng.integers(-128, 128)),
            low=-128,
            high=127,
        ),
    )


def graph_of(*kernels: ConvKernel) -> KernelGraph:
    """Return the graph of a chain of convolutions from tensor "x" to tensor "y"."""
    tensors: dict[str, Tensor] = {}
    for kernel in kernels:
        for image in (kernel.input, kernel.output):
            shape = (1, image.height, image.width, image.channels)
            tensors[image.tensor] = Tensor(
                name=image.tensor, shape=shape, dtype="int8", scales=(1.0,), zero_points=(0,)
            )
    return KernelGraph(
        name="test",
        reference="tflm",
        tensors=tensors,
        kernels=tuple(kernels),
        inputs=("x",),
        outputs=("y",),
        layers=tuple((k.output.tensor, "CONV_2D", 0) for k in kernels),
    )
