"""Lower transposed convolutions: one dense convolution per phase of the stride.

Output line y takes the kernel lines ky = (y + pad_top) mod stride + j * stride from the input lines
(y + pad_top - ky) / stride. The outputs of one phase are therefore a convolution at stride 1 with
every stride-th kernel line, reversed, and lie `stride` lines apart.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from systolith.arch import numerics

from ..ir import ConvKernel, Image, TransposeConvKernel
from ..tile import Item, Placement
from .context import Context, Lines
from .conv import ConvLowering


@dataclass(frozen=True, kw_only=True)
class _Phase:
    """Outputs `first + n * stride` of an axis: taps of the kernel, reversed, and their padding."""

    first: int
    count: int
    taps: tuple[int, ...]
    pad: int


def _phases(out: int, kernel: int, stride: int, pad: int) -> list[_Phase]:
    result = []
    for first in range(min(stride, out)):
        residue = (first + pad) % stride
        taps = tuple(range(residue, kernel, stride))[::-1]
        # Input index of the first output's last tap, minus the taps before it.
        start = (first + pad - residue) // stride - (len(taps) - 1)
        count = -(-(out - first) // stride)
        result.append(_Phase(first=first, count=count, taps=taps, pad=-start if taps else 0))
    return result


class TransposeConvLowering:
    """A transposed convolution."""

    def __init__(self, kernel: TransposeConvKernel, context: Context) -> None:
        self._kernel = kernel
        self._context = context
        (_, height, width, _) = kernel.weights.shape
        rows = _phases(kernel.output.height, height, kernel.stride[0], kernel.pad_top)
        cols = _phases(kernel.output.width, width, kernel.stride[1], kernel.pad_left)
        self._parts = [self._part(row, col) for row in rows for col in cols]

    def _part(self, row: _Phase, col: _Phase) -> ConvLowering:
        kernel = self._kernel
        weights = kernel.weights[:, row.taps][:, :, col.taps]
        if not weights.size:
            weights = np.zeros((len(weights), 1, 1, weights.shape[3]), np.int8)
        folded = kernel.bias - kernel.pad_value * weights.astype(np.int64).sum(axis=(1, 2, 3))
        output = Image(
            tensor=kernel.output.tensor,
            height=row.count,
            width=col.count,
            channels=kernel.output.channels,
        )
        conv = ConvKernel(
            layer=kernel.layer,
            input=kernel.input,
            output=output,
            weights=weights,
            bias=numerics.wrap_int32(folded),
            stride=(1, 1),
            dilation=(1, 1),
            pad_top=row.pad,
            pad_left=col.pad,
            pad_value=kernel.pad_value,
            requantization=kernel.requantization,
        )

        def target() -> Placement:
            place = self._context.place(kernel.output)
            return replace(
                place,
                address=place.at(row.first, col.first),
                pixel=place.pixel * kernel.stride[1],
                line=place.line * kernel.stride[0],
            )

        return ConvLowering(conv, self._context, target=target)

    def items(self, lines: Lines) -> Iterator[Item]:
        """Yield the items of all phases; only all lines at once, see `Lowering`."""
        rows = min(self._kernel.stride[0], self._kernel.output.height)
        per_row = len(self._parts) // rows
        for number, part in enumerate(self._parts):
            first = number // per_row
            count = -(-(lines[1] - first) // self._kernel.stride[0])
            yield from part.items((0, count))

    def needs(self, lines: Lines) -> list[Lines]:
        """Return all lines; see `Lowering`."""
        return [(0, self._kernel.input.height)]
