"""Lower operations that work byte by byte to `VECTOR` instructions."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from systolith.arch import isa

from ..ir import BinaryKernel, Image, TableKernel
from ..tile import Block, Item
from .context import Context, Lines

_PIECE_BYTES = 4096
"""Bytes of one `VECTOR`: the next kernel may start on what the first ones have made."""


def elementwise(op: isa.ElementwiseOp, parameters: Mapping[str, int]) -> isa.Elementwise:
    """Return the `ELEMENTWISE` of an operation."""
    return isa.Elementwise(op=op, **parameters)


def table_block(kernel: TableKernel, context: Context) -> Block:
    """Return the block of a kernel's table."""
    words = kernel.table.view(np.uint8).reshape(-1, context.config.weight_word_bytes)
    return Block(space=isa.Space.TABLES, words=words)


def _vectors(
    op: isa.VectorOp, output: Image, operands: list[Image], context: Context, lines: Lines
) -> Iterator[isa.Vector]:
    """Yield instructions over some lines of images of equal shape, in pieces of whole lines.

    Without gaps, several lines are one row of bytes.
    """
    places = [context.place(image) for image in (output, *operands)]
    target, a = places[:2]
    b = places[-1]
    touching = all(place.lines_touch(output.width) for place in places)
    dense = all(place.pixel == output.channels for place in places)
    line = output.width * output.channels
    for first in range(*lines, count := max(1, _PIECE_BYTES // line)):
        last = min(first + count, lines[1])
        vector = isa.Vector(op=op, addr=target.at(first, 0), a=a.at(first, 0), b=b.at(first, 0))
        if touching and dense:
            yield replace(vector, length=(last - first) * line)
        elif dense:
            yield replace(
                vector,
                rows=last - first,
                length=line,
                row_step=target.line,
                a_step=a.line,
                b_step=b.line,
            )
        else:
            for row in range(first, last):
                yield replace(
                    vector,
                    rows=output.width,
                    length=output.channels,
                    addr=target.at(row, 0),
                    a=a.at(row, 0),
                    b=b.at(row, 0),
                    row_step=target.pixel,
                    a_step=a.pixel,
                    b_step=b.pixel,
                )


class BinaryLowering:
    """Addition or multiplication of two images."""

    def __init__(self, kernel: BinaryKernel, context: Context) -> None:
        self._kernel = kernel
        self._context = context

    def items(self, lines: Lines) -> Iterator[Item]:
        """Yield the setup and the vectors; see `Lowering`."""
        kernel = self._kernel
        setup = elementwise(kernel.op, kernel.parameters)
        yield Item(instruction=setup, layer=kernel.layer)
        operands = [kernel.a, kernel.b]
        for vector in _vectors(
            isa.VectorOp.ELEMENTWISE, kernel.output, operands, self._context, lines
        ):
            yield Item(instruction=vector, layer=kernel.layer)

    def needs(self, lines: Lines) -> list[Lines]:
        """Return the same lines of both operands; see `Lowering`."""
        return [lines, lines]


class TableLowering:
    """A function of each byte."""

    def __init__(self, kernel: TableKernel, context: Context) -> None:
        self._kernel = kernel
        self._context = context
        self._block = table_block(kernel, context)

    def items(self, lines: Lines) -> Iterator[Item]:
        """Yield the vectors; see `Lowering`."""
        kernel = self._kernel
        for vector in _vectors(
            isa.VectorOp.TABLE, kernel.output, [kernel.input], self._context, lines
        ):
            yield Item(instruction=vector, layer=kernel.layer, block=self._block)

    def needs(self, lines: Lines) -> list[Lines]:
        """Return the same lines of the input; see `Lowering`."""
        return [lines]
