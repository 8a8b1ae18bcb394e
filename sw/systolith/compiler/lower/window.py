"""Passes through an identity tile: column i of the array sees lane i of the vectors.

Sums and maxima of windows, and copies, are dense passes whose weights are the identity; what they
do to the accumulators is the operation.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig

from ..ir import Image
from ..tile import Block, Item, Placement, Tile


def identity_block(config: AcceleratorConfig, channels: int) -> Block:
    """Return the block of a tile that passes lane i to column i."""
    words = np.zeros((channels, config.weight_word_bytes), np.uint8)
    words[np.arange(channels), np.arange(channels)] = 1
    return Block(space=isa.Space.WEIGHTS, words=words)


def channel_tiles(config: AcceleratorConfig, channels: int) -> Iterator[tuple[int, int]]:
    """Yield (first channel, channels) of tiles that an identity tile can pass."""
    most = min(config.rows, config.cols)
    for channel in range(0, channels, most):
        yield channel, min(most, channels - channel)


@dataclass(frozen=True, kw_only=True)
class WindowWalk:
    """A walk of windows over an image.

    Parameters
    ----------
    image : Image
        What the windows are of.
    source : Placement
        Where it lies.
    window, stride : (int, int)
        Height and width, and distance, of the windows.
    pad_top, pad_left, pad_value : int
        Padding.
    next_op : AccOp
        What the pixels of a window after the first do to the accumulator.
    layer : int
        Layer that the items work for.
    """

    image: Image
    source: Placement
    window: tuple[int, int]
    stride: tuple[int, int]
    pad_top: int
    pad_left: int
    pad_value: int
    next_op: isa.AccOp
    layer: int

    def steps(self, tile: Tile, channel: int, lanes: int, block: Block, acc: int) -> Iterator[Item]:
        """Yield a pass in which each pixel of the window is a tile step over all outputs."""
        (window_y, window_x), (stride_y, stride_x) = self.window, self.stride
        geometry = isa.Geometry(
            pad=self.pad_value,
            lines=self.image.height,
            line_bytes=self.image.width * self.source.pixel,
            row_lines=stride_y,
            row_step=stride_y * self.source.line,
            col_step=stride_x * self.source.pixel,
            ky_count=window_y,
            ky_lines=1,
            ky_step=self.source.line,
            kx_count=window_x,
            kx_step=self.source.pixel,
        )
        yield from self._pass(geometry, tile, channel, lanes, block, acc, (tile.rows, tile.cols))

    def pixels(
        self, tile: Tile, channel: int, lanes: int, block: Block, acc: int
    ) -> Iterator[Item]:
        """Yield a pass in which each pixel of one window has an accumulator row of its own.

        The drain adds them up. Steps that each stream a single vector would wait for the
        accumulator instead.
        """
        geometry = isa.Geometry(
            pad=self.pad_value,
            lines=self.image.height,
            line_bytes=self.image.width * self.source.pixel,
            row_lines=1,
            row_step=self.source.line,
            col_step=self.source.pixel,
        )
        yield from self._pass(geometry, tile, channel, lanes, block, acc, self.window)

    def _pass(
        self,
        geometry: isa.Geometry,
        tile: Tile,
        channel: int,
        lanes: int,
        block: Block,
        acc: int,
        size: tuple[int, int],
    ) -> Iterator[Item]:
        geometry = replace(
            geometry,
            chunk_step=lanes,
            lanes=lanes,
            lanes_last=lanes,
            weight_rows=lanes,
            weight_rows_last=lanes,
        )
        yield Item(instruction=geometry, layer=self.layer)
        y = tile.row * self.stride[0] - self.pad_top
        col = tile.col * self.stride[1] - self.pad_left
        issue = isa.Pass(
            weights=isa.WeightMode.ONCE,
            first_op=isa.AccOp.WRITE,
            next_op=self.next_op,
            addr=self.source.at(y, col) + channel,
            y=y,
            x=col * self.source.pixel + channel,
            acc=acc,
            rows=size[0],
            cols=size[1],
            line_vectors=size[1],
        )
        yield Item(instruction=issue, layer=self.layer, block=block)
