"""Lower operations on two tensors to `VECTOR` instructions."""

from collections.abc import Iterator, Mapping

from systolith.arch import isa

from ..ir import AddKernel
from ..tile import Item
from .context import Context

_PIECE_BYTES = 4096
"""Bytes of one `VECTOR`: the next kernel may start on what the first ones have made."""


def elementwise(parameters: Mapping[str, int]) -> isa.Elementwise:
    """Return the `ELEMENTWISE` of an addition."""
    return isa.Elementwise(op=isa.ElementwiseOp.ADD, **parameters)


def lower_add(kernel: AddKernel, context: Context) -> Iterator[Item]:
    """Yield the items of an addition: pieces of whole lines."""
    image = kernel.output
    yield Item(instruction=elementwise(kernel.parameters), layer=kernel.layer)
    target, a, b = (context.place(x) for x in (kernel.output, kernel.a, kernel.b))
    height, width = image.height, image.width
    if all(place.lines_touch(width) for place in (target, a, b)):
        # Without gaps the image is one line, cut where a piece is full.
        total = image.nbytes
        for start in range(0, total, _PIECE_BYTES):
            vector = isa.Vector(
                op=isa.VectorOp.ELEMENTWISE,
                length=min(_PIECE_BYTES, total - start),
                addr=target.address + start,
                a=a.address + start,
                b=b.address + start,
            )
            yield Item(instruction=vector, layer=kernel.layer)
        return
    line = width * image.channels
    rows = max(1, _PIECE_BYTES // line)
    for row in range(0, height, rows):
        vector = isa.Vector(
            op=isa.VectorOp.ELEMENTWISE,
            rows=min(rows, height - row),
            length=line,
            addr=target.at(row, 0),
            row_step=target.line,
            a=a.at(row, 0),
            a_step=a.line,
            b=b.at(row, 0),
            b_step=b.line,
        )
        yield Item(instruction=vector, layer=kernel.layer)
