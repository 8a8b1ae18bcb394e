"""Lower pools: sums of windows through an identity tile."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from systolith.arch import isa, numerics
from systolith.arch.config import AcceleratorConfig

from ..ir import AveragePoolKernel
from ..tile import Block, Item, Tile, drain, image_tiles
from .context import Context


@dataclass(frozen=True, kw_only=True)
class PoolRegion:
    """Outputs whose windows hold equally many pixels of the image."""

    row: int
    rows: int
    col: int
    cols: int
    count: int


def _spans(size: int, out: int, window: int, stride: int, pad: int) -> list[tuple[int, int, int]]:
    """Cut one axis into (first output, outputs, pixels in the window) of equal pixel count."""
    spans: list[tuple[int, int, int]] = []
    for position in range(out):
        start = position * stride - pad
        count = min(start + window, size) - max(start, 0)
        if spans and spans[-1][2] == count:
            first, length, _ = spans[-1]
            spans[-1] = (first, length + 1, count)
        else:
            spans.append((position, 1, count))
    return spans


def pool_regions(kernel: AveragePoolKernel) -> Iterator[PoolRegion]:
    """Cut the output of a pool into regions of equal count, line by line."""
    (window_y, window_x), (stride_y, stride_x) = kernel.window, kernel.stride
    rows = _spans(kernel.input.height, kernel.output.height, window_y, stride_y, kernel.pad_top)
    cols = _spans(kernel.input.width, kernel.output.width, window_x, stride_x, kernel.pad_left)
    for row, row_count, high in rows:
        for col, col_count, wide in cols:
            yield PoolRegion(row=row, rows=row_count, col=col, cols=col_count, count=high * wide)


def identity_words(config: AcceleratorConfig, channels: int) -> NDArray[np.uint8]:
    """Return the words of a tile that passes lane i to column i."""
    words = np.zeros((channels, config.weight_word_bytes), np.uint8)
    words[np.arange(channels), np.arange(channels)] = 1
    return words


def lower_average_pool(kernel: AveragePoolKernel, context: Context) -> Iterator[Item]:
    """Yield the items of an average pool: one group of tiles per region of equal count."""
    lanes_most = min(context.config.rows, context.config.cols)
    regions = list(pool_regions(kernel))
    for channel in range(0, kernel.output.channels, lanes_most):
        lanes = min(lanes_most, kernel.output.channels - channel)
        block = Block(space=isa.Space.WEIGHTS, words=identity_words(context.config, lanes))
        for region in regions:
            yield from _region(kernel, region, channel, lanes, block, context)


def _region(
    kernel: AveragePoolKernel,
    region: PoolRegion,
    channel: int,
    lanes: int,
    block: Block,
    context: Context,
) -> Iterator[Item]:
    quantize = isa.Quantize(
        rounding=isa.Rounding.AVERAGE,
        multiplier=numerics.average_multiplier(region.count),
        low=kernel.low,
        high=kernel.high,
    )
    target = context.place(kernel.output)
    pixels = kernel.window[0] * kernel.window[1]
    # One window alone is streamed as rows of its own, which the drain adds up: steps that each
    # stream a single vector would wait for the accumulator.
    single = region.rows == region.cols == 1 and pixels <= context.config.acc_rows
    for part in image_tiles(region.rows, region.cols, context.config.acc_rows):
        tile = replace(part, row=part.row + region.row, col=part.col + region.col)
        acc = context.next_bank()
        yield from _pass(kernel, tile, channel, lanes, block, acc, single, context)
        yield Item(instruction=quantize, layer=kernel.layer)
        instruction = drain(
            tile, target, acc=acc, channel=channel, lanes=lanes, reduce=pixels if single else 1
        )
        yield Item(instruction=instruction, layer=kernel.layer)


def _pass(
    kernel: AveragePoolKernel,
    tile: Tile,
    channel: int,
    lanes: int,
    block: Block,
    acc: int,
    single: bool,
    context: Context,
) -> Iterator[Item]:
    source, image = context.place(kernel.input), kernel.input
    (window_y, window_x), (stride_y, stride_x) = kernel.window, kernel.stride
    y, col = tile.row * stride_y - kernel.pad_top, tile.col * stride_x - kernel.pad_left
    geometry = isa.Geometry(
        lines=image.height,
        line_bytes=image.width * source.pixel,
        row_lines=1 if single else stride_y,
        row_step=source.line if single else stride_y * source.line,
        col_step=source.pixel if single else stride_x * source.pixel,
        ky_count=1 if single else window_y,
        ky_lines=1,
        ky_step=source.line,
        kx_count=1 if single else window_x,
        kx_step=source.pixel,
        chunk_step=lanes,
        lanes=lanes,
        lanes_last=lanes,
        weight_rows=lanes,
        weight_rows_last=lanes,
    )
    cols = window_x if single else tile.cols
    issue = isa.Pass(
        weights=isa.WeightMode.ONCE,
        first_op=isa.AccOp.WRITE,
        next_op=isa.AccOp.ADD,
        addr=source.at(y, col) + channel,
        y=y,
        x=col * source.pixel + channel,
        acc=acc,
        rows=window_y if single else tile.rows,
        cols=cols,
        line_vectors=cols,
    )
    yield Item(instruction=geometry, layer=kernel.layer)
    yield Item(instruction=issue, layer=kernel.layer, block=block)
