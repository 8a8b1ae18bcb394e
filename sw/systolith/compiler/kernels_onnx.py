"""Kernels that onnxruntime's arithmetic needs beside those of `ir`.

None is a kind of a kernel of `ir`, so that nothing that knows only those can take one for another.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from systolith.compiler.ir import (
    ConvKernel,
    DepthwiseKernel,
    Image,
    ImageKernel,
    Int8Array,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class SummedConvKernel(ImageKernel):
    """A convolution whose weights are those of `conv` plus all of `extra_weights`.

    Weights with zero points need 9 bits; here they are sums of int8, each of which is another group
    of passes into the same accumulators. `conv.bias` is for the sum of weights.
    """

    conv: ConvKernel
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
class SummedDepthwiseKernel(ImageKernel):
    """A depthwise convolution whose weights are those of `conv` plus all of `extra_weights`."""

    conv: DepthwiseKernel
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
class SumKernel(ImageKernel):
    """An addition with one rounding: `parameters` are those of `arch.float32.add`."""

    a: Image
    b: Image
    output: Image
    parameters: Mapping[str, int]

    @property
    def reads(self) -> tuple[Image, ...]:
        """Both operands."""
        return (self.a, self.b)


@dataclass(frozen=True, kw_only=True, eq=False)
class ProductKernel(ImageKernel):
    """A multiplication with one rounding: `parameters` are those of `arch.float32.mul`."""

    a: Image
    b: Image
    output: Image
    parameters: Mapping[str, int]

    @property
    def reads(self) -> tuple[Image, ...]:
        """Both operands."""
        return (self.a, self.b)
