"""Write kernels as instructions without waits, in the order in which each engine executes them.

One module per family of kernels; `lower_kernel` finds the one for a kernel.
"""

from collections.abc import Iterator

from systolith.arch import isa

from ..fuse import ResidualConvKernel
from ..ir import AddKernel, AveragePoolKernel, ConvKernel, DepthwiseKernel, Kernel
from ..tile import Item
from .context import Context
from .conv import lower_conv, lower_residual_conv
from .depthwise import lower_depthwise
from .elementwise import lower_add
from .pool import lower_average_pool

__all__ = ["Context", "drop_repeated_setups", "lower_kernel"]


def lower_kernel(kernel: Kernel, context: Context) -> Iterator[Item]:
    """Yield the items of one kernel.

    Setup instructions are yielded before each use; `drop_repeated_setups` takes away those that
    change nothing.
    """
    match kernel:
        case ConvKernel():
            yield from lower_conv(kernel, context)
        case ResidualConvKernel():
            yield from lower_residual_conv(kernel, context)
        case DepthwiseKernel():
            yield from lower_depthwise(kernel, context)
        case AveragePoolKernel():
            yield from lower_average_pool(kernel, context)
        case AddKernel():
            yield from lower_add(kernel, context)
        case _:
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
