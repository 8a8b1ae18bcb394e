"""Tiles, places and blocks: what the lowering of a kernel is made of.

Weights and parameters come from `Block`s, whose places in the rings the scheduler chooses.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from systolith.arch import isa
from systolith.arch.config import ceil_div

_TILES = 4
"""Tiles that a kernel is cut into if it is large enough."""

_SMALLEST_TILE = 64
"""Pixels of a tile that is not cut further: a drain takes as long to start."""

_DRAIN_LATENCY = 110
"""Cycles from the last vector of a pass to the last byte of its drain, less one per pixel."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A rectangle of outputs that fits one accumulator bank."""

    row: int
    rows: int
    col: int
    cols: int


@dataclass(frozen=True, kw_only=True)
class Placement:
    """Where an image lies in the scratchpad.

    Parameters
    ----------
    address : int
        Byte of the first pixel.
    pixel, line : int
        Bytes from one pixel to the next and from one line to the next.
    """

    address: int
    pixel: int
    line: int

    def at(self, row: int, col: int) -> int:
        """Return the address of a pixel, which padding may put outside the image."""
        return self.address + row * self.line + col * self.pixel

    def lines_touch(self, width: int) -> bool:
        """Whether the lines of an image of that width follow each other without gap."""
        return self.line == width * self.pixel


@dataclass(kw_only=True, eq=False)
class Block:
    """Words that one load brings into the weight buffer or the parameter memory.

    `users` counts the instructions still to be emitted that read it; `addr` is its first word once
    it is placed.
    """

    space: isa.Space
    words: NDArray[np.uint8]  # [words, word bytes]
    users: int = 0
    addr: int = -1


@dataclass(kw_only=True, eq=False)
class Item:
    """An instruction without waits; `block` is what its `weight_addr` or `param_addr` refers to."""

    instruction: isa.Instruction
    layer: int
    block: Block | None = None
    block_offset: int = 0


def image_tiles(lines: tuple[int, int], width: int, limit: int) -> list[Tile]:
    """Cut lines `[first, last)` of an image into tiles of at most `limit` pixels.

    Tiles are whole lines, or parts of one line if a line has more pixels than that.
    """
    first, last = lines
    if width > limit:
        parts = ceil_div(width, limit)
        cols = ceil_div(width, parts)
        return [
            Tile(row=row, rows=1, col=col, cols=min(cols, width - col))
            for row in range(first, last)
            for col in range(0, width, cols)
        ]
    parts = ceil_div(last - first, limit // width)
    rows = ceil_div(last - first, parts)
    return [
        Tile(row=row, rows=min(rows, last - row), col=0, cols=width)
        for row in range(first, last, rows)
    ]


def tile_pixels(pixels: int, steps: int, most: int) -> int:
    """Return the size of tiles for a number of pixels, at most `most`.

    Several tiles let the drain of one, and what depends on it, run under the passes of the next.
    A tile of several steps is large enough for its passes to last as long as the drain of the tile
    before it, which must leave its bank first; a tile of one step leaves room for others.
    """
    if steps == 1:
        return min(most, max(_SMALLEST_TILE, most // 2))
    longest = max(_SMALLEST_TILE, ceil_div(_DRAIN_LATENCY, steps - 1))
    return min(most, max(longest, ceil_div(pixels, _TILES)))


def drain(
    tile: Tile, target: Placement, *, acc: int, channel: int, lanes: int, reduce: int = 1
) -> isa.Drain:
    """Return the `DRAIN` of a tile into `lanes` channels, from `channel`, of an image."""
    return isa.Drain(
        acc=acc,
        rows=tile.rows,
        cols=tile.cols,
        reduce=reduce,
        lanes=lanes,
        lanes_last=lanes,
        addr=target.at(tile.row, tile.col) + channel,
        row_step=target.line,
        col_step=target.pixel,
    )
