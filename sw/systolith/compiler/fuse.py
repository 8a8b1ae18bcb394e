"""Fuse residual additions into the drain of the convolution that makes one of their operands."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from systolith.arch import isa

from .ir import AddKernel, ConvKernel, HostKernel, Image, ImageKernel, Kernel, ViewKernel
from .kernels_onnx import SumKernel


@dataclass(frozen=True, kw_only=True, eq=False)
class ResidualConvKernel(ImageKernel):
    """A convolution whose int8 result is added to `residual` before it is written to `output`.

    `op` and `parameters` are fields of `ELEMENTWISE`, with the convolution's result as operand a.
    `layer` is the addition's; `conv` keeps its own.
    """

    conv: ConvKernel
    residual: Image
    output: Image
    op: isa.ElementwiseOp
    parameters: Mapping[str, int]

    @property
    def reads(self) -> tuple[Image, ...]:
        """The convolution's input and the other operand of the addition."""
        return (*self.conv.reads, self.residual)


def _swap_operands(parameters: Mapping[str, int]) -> dict[str, int]:
    """Return `ELEMENTWISE` parameters with operands a and b exchanged (addition commutes)."""
    other = {"a_": "b_", "b_": "a_"}
    return {other.get(key[:2], key[:2]) + key[2:]: value for key, value in parameters.items()}


def _use_counts(kernels: tuple[Kernel, ...], outputs: tuple[str, ...]) -> Counter[str]:
    uses: Counter[str] = Counter(outputs)
    for kernel in kernels:
        if isinstance(kernel, ImageKernel):
            uses.update(image.tensor for image in kernel.reads)
        elif isinstance(kernel, ViewKernel):
            uses[kernel.input] += 1
        elif isinstance(kernel, HostKernel):
            uses.update(kernel.inputs)
    return uses


def fuse_residuals(kernels: tuple[Kernel, ...], outputs: tuple[str, ...]) -> tuple[Kernel, ...]:
    """Replace (convolution, addition) pairs by one kernel at the place of the addition.

    Only the later one of two convolutions that feed an addition is fused, so that the other operand
    is there before it starts; its result must have no other use.
    """
    uses = _use_counts(kernels, outputs)
    made: dict[str, int] = {}
    result: list[Kernel | None] = []
    for kernel in kernels:
        if isinstance(kernel, AddKernel | SumKernel) and kernel.a.tensor != kernel.b.tensor:
            candidates = [
                (made[image.tensor], image is kernel.b)
                for image in (kernel.a, kernel.b)
                if image.tensor in made and uses[image.tensor] == 1
            ]
            if candidates:
                position, swapped = max(candidates)
                conv = result[position]
                assert isinstance(conv, ConvKernel)
                parameters = dict(kernel.parameters)
                result[position] = None
                result.append(
                    ResidualConvKernel(
                        layer=kernel.layer,
                        conv=conv,
                        residual=kernel.a if swapped else kernel.b,
                        output=kernel.output,
                        op=kernel.op,
                        parameters=_swap_operands(parameters) if swapped else parameters,
                    )
                )
                continue
        elif isinstance(kernel, ConvKernel):
            made[kernel.output.tensor] = len(result)
        result.append(kernel)
    return tuple(kernel for kernel in result if kernel is not None)
