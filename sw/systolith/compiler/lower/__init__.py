"""Write kernels as instructions without waits, in the order in which each engine executes them.

One module per family of kernels; `make_lowering` finds the one for a kernel.
"""

from collections.abc import Iterator

from systolith.arch import isa

from ..fuse import ResidualConvKernel
from ..ir import (
    AveragePoolKernel,
    BinaryKernel,
    ConcatKernel,
    ConvKernel,
    DepthwiseKernel,
    Kernel,
    MaxPoolKernel,
    MeanKernel,
    PadKernel,
    ResizeKernel,
    SliceKernel,
    TableKernel,
    TransposeConvKernel,
)
from ..kernels_onnx import SummedConvKernel, SummedDepthwiseKernel
from ..tile import Item
from .context import Context, Lowering
from .conv import ConvLowering
from .copy import ConcatLowering, PadLowering, ResizeLowering, SliceLowering
from .depthwise import lower_depthwise
from .elementwise import BinaryLowering, TableLowering
from .pool import AveragePoolLowering, MaxPoolLowering, MeanLowering
from .transpose_conv import TransposeConvLowering

__all__ = ["Context", "Lowering", "drop_repeated_setups", "make_lowering"]


def make_lowering(kernel: Kernel, context: Context) -> Lowering:
    """Return what writes a kernel as instructions."""
    match kernel:
        case ConvKernel():
            return ConvLowering(kernel, context)
        case ResidualConvKernel():
            return ConvLowering(kernel.conv, context, residual=kernel)
        case SummedConvKernel():
            return ConvLowering(kernel.conv, context, extra_weights=kernel.extra_weights)
        case DepthwiseKernel():
            return lower_depthwise(kernel, context)
        case SummedDepthwiseKernel():
            return lower_depthwise(kernel.conv, context, extra_weights=kernel.extra_weights)
        case TransposeConvKernel():
            return TransposeConvLowering(kernel, context)
        case AveragePoolKernel():
            return AveragePoolLowering(kernel, context)
        case MaxPoolKernel():
            return MaxPoolLowering(kernel, context)
        case MeanKernel():
            return MeanLowering(kernel, context)
        case BinaryKernel():
            return BinaryLowering(kernel, context)
        case TableKernel():
            return TableLowering(kernel, context)
        case PadKernel():
            return PadLowering(kernel, context)
        case SliceKernel():
            return SliceLowering(kernel, context)
        case ConcatKernel():
            return ConcatLowering(kernel, context)
        case ResizeKernel():
            return ResizeLowering(kernel, context)
    raise TypeError(f"Kernel must be one that the accelerator executes, not {kernel!r}")


def drop_repeated_setups(items: Iterator[Item]) -> Iterator[Item]:
    """Drop setup instructions that leave their engine's state as it is."""
    state: dict[isa.Opcode, isa.Instruction] = {}
    for item in items:
        opcode = item.instruction.OPCODE
        if opcode in (isa.Opcode.GEOMETRY, isa.Opcode.QUANTIZE, isa.Opcode.ELEMENTWISE):
            if state.get(opcode) == item.instruction:
                continue
            state[opcode] = item.instruction
        yield item
