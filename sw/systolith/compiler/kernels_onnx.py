"""Kernels that onnxruntime's arithmetic needs beside those of `ir`.

None is a kind of a kernel of `ir`, so that nothing that knows only those can take one for another.
"""

from dataclasses import dataclass

from systolith.arch.isa import ElementwiseOp
from systolith.compiler.ir import (
    BinaryKernel,
    ConvKernel,
    DepthwiseKernel,
    Image,
    ImageKernel,
    Int8Array,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class SummedKernel(ImageKernel):
    """A kernel whose weights are those of `conv` plus all of `extra_weights`.

    Weights with zero points need 9 bits; here they are sums of int8, each of which is another group
    of passes into the same accumulators. `conv.bias` is for the sum of weights.
    """

    conv: ConvKernel | DepthwiseKernel
    extra_weights: tuple[Int8Array, ...]

    @property
    def reads(self) -> tuple[Image, ...]:
        """The image that the convolution reads."""
        return self.conv.reads

    @property
    def output(self) -> Image:  # type: ignore[override]
        """The image that the convolution writes."""
        return self.conv.output


@dataclass(frozen=True, kw_only=True, eq=False)
class SummedConvKernel(SummedKernel):
    """A convolution of which the weights are a sum."""

    conv: ConvKernel


@dataclass(frozen=True, kw_only=True, eq=False)
class SummedDepthwiseKernel(SummedKernel):
    """A depthwise convolution of which the weights are a sum."""

    conv: DepthwiseKernel


class SumKernel(BinaryKernel):
    """An addition with one rounding: `parameters` are those of `arch.float32.add`."""

    op = ElementwiseOp.SUM


class ProductKernel(BinaryKernel):
    """A multiplication with one rounding: `parameters` are those of `arch.float32.mul`."""

    op = ElementwiseOp.PRODUCT
