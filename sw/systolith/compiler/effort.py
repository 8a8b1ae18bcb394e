"""Estimate how long EXECUTE works on a kernel, to compare ways of cutting a model."""

from systolith.arch.config import AcceleratorConfig, ceil_div

from .fuse import ResidualConvKernel
from .ir import (
    AveragePoolKernel,
    BinaryKernel,
    ConvKernel,
    DepthwiseKernel,
    ImageKernel,
    MaxPoolKernel,
    TableKernel,
)
from .kernels_onnx import SummedKernel


def execute_cycles(kernel: ImageKernel, lines: int, config: AcceleratorConfig) -> int:
    """Return the vectors that some lines of a kernel's output take, without waits.

    Kernels that are not known here count one vector per array-wide part of a pixel.
    """
    output = kernel.output
    pixels = lines * output.width
    columns = ceil_div(output.channels, config.cols)
    match kernel:
        case ConvKernel():
            return pixels * columns * _conv_steps(kernel, config)
        case ResidualConvKernel():
            return pixels * columns * _conv_steps(kernel.conv, config)
        case DepthwiseKernel():
            height, width, _ = kernel.weights.shape
            steps = ceil_div(int(height), config.feeds) * min(kernel.stride[1], int(width))
            return (pixels + lines) * columns * steps
        case SummedKernel():
            terms = 1 + len(kernel.extra_weights)
            return terms * execute_cycles(kernel.conv, lines, config)
        case BinaryKernel() | TableKernel():
            return 0  # DRAIN's work
        case AveragePoolKernel() | MaxPoolKernel():
            lanes = min(config.rows, config.cols)
            window = kernel.window[0] * kernel.window[1]
            return pixels * ceil_div(output.channels, lanes) * window
    return pixels * columns


def _conv_steps(kernel: ConvKernel, config: AcceleratorConfig) -> int:
    height, width, channels = kernel.weights.shape[1:]
    chunks = ceil_div(int(width) * int(channels), config.rows)
    return int(height) * chunks
