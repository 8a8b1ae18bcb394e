"""Lower pools and means: windows through an identity tile."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from systolith.arch import isa, numerics

from ..ir import AveragePoolKernel, MaxPoolKernel, MeanKernel
from ..tile import Block, Item, Tile, drain, image_tiles
from .context import Context, Lines, window_lines
from .params import param_blocks, quantize
from .window import WindowWalk, channel_tiles, identity_block

_MOST_STEPS = 64
"""Kernel lines that one `GEOMETRY` can count."""


def identity_quantize(low: int = -128, high: int = 127) -> isa.Quantize:
    """Return the `QUANTIZE` that only clamps: an average over one."""
    multiplier = numerics.average_multiplier(1)
    return isa.Quantize(rounding=isa.Rounding.AVERAGE, multiplier=multiplier, low=low, high=high)


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


class _PoolLowering:
    """What average and maximum have in common: the walk, and the lines that it needs."""

    def __init__(self, kernel: AveragePoolKernel | MaxPoolKernel, context: Context) -> None:
        self._pool = kernel
        self._context = context
        tiles = channel_tiles(context.config, kernel.output.channels)
        self._blocks = [
            (channel, lanes, identity_block(context.config, lanes)) for channel, lanes in tiles
        ]

    def _walk(self, pad_value: int, next_op: isa.AccOp) -> WindowWalk:
        kernel = self._pool
        return WindowWalk(
            image=kernel.input,
            source=self._context.place(kernel.input),
            window=kernel.window,
            stride=kernel.stride,
            pad_top=kernel.pad_top,
            pad_left=kernel.pad_left,
            pad_value=pad_value,
            next_op=next_op,
            layer=kernel.layer,
        )

    def needs(self, lines: Lines) -> list[Lines]:
        """Return the lines under the windows; see `Lowering`."""
        kernel = self._pool
        height = kernel.input.height
        return [window_lines(lines, kernel.stride[0], kernel.pad_top, kernel.window[0], height)]


class MaxPoolLowering(_PoolLowering):
    """Maximum of windows; padding is the smallest byte."""

    def items(self, lines: Lines) -> Iterator[Item]:
        """Yield the items; see `Lowering`."""
        kernel, context = self._pool, self._context
        walk, target = self._walk(-128, isa.AccOp.MAX), context.place(kernel.output)
        setup = identity_quantize(kernel.low, kernel.high)
        for channel, lanes, block in self._blocks:
            for tile in image_tiles(lines, kernel.output.width, context.config.acc_rows):
                acc = context.next_rows(tile.rows * tile.cols, once=kernel.window == (1, 1))
                yield from walk.steps(tile, channel, lanes, block, acc)
                yield Item(instruction=setup, layer=kernel.layer)
                instruction = drain(tile, target, acc=acc, channel=channel, lanes=lanes)
                yield Item(instruction=instruction, layer=kernel.layer)


class AveragePoolLowering(_PoolLowering):
    """Average of windows: one group of tiles per region of equal count."""

    def __init__(self, kernel: AveragePoolKernel, context: Context) -> None:
        super().__init__(kernel, context)
        self._regions = list(pool_regions(kernel))

    def items(self, lines: Lines) -> Iterator[Item]:
        """Yield the items; see `Lowering`."""
        walk = self._walk(0, isa.AccOp.ADD)
        for channel, lanes, block in self._blocks:
            for region in self._regions:
                first = max(region.row, lines[0])
                last = min(region.row + region.rows, lines[1])
                if first < last:
                    part = replace(region, row=first, rows=last - first)
                    yield from self._region(walk, part, channel, lanes, block)

    def _region(
        self, walk: WindowWalk, region: PoolRegion, channel: int, lanes: int, block: Block
    ) -> Iterator[Item]:
        kernel, context = self._pool, self._context
        setup = isa.Quantize(
            rounding=isa.Rounding.AVERAGE,
            multiplier=numerics.average_multiplier(region.count),
            low=kernel.low,
            high=kernel.high,
        )
        target = context.place(kernel.output)
        pixels = kernel.window[0] * kernel.window[1]
        single = region.rows == region.cols == 1 and pixels <= context.config.acc_rows
        issue = walk.pixels if single else walk.steps
        lines = (region.row, region.row + region.rows)
        for part in image_tiles(lines, region.cols, context.config.acc_rows):
            tile = replace(part, col=part.col + region.col)
            rows = pixels if single else tile.rows * tile.cols
            acc = context.next_rows(rows, once=single or kernel.window == (1, 1))
            yield from issue(tile, channel, lanes, block, acc)
            yield Item(instruction=setup, layer=kernel.layer)
            reduce = pixels if single else 1
            instruction = drain(tile, target, acc=acc, channel=channel, lanes=lanes, reduce=reduce)
            yield Item(instruction=instruction, layer=kernel.layer)


class MeanLowering:
    """Mean over an image: lines added up in the array, columns in the drain."""

    def __init__(self, kernel: MeanKernel, context: Context) -> None:
        self._kernel = kernel
        self._context = context
        config = context.config
        bias = np.full(config.cols, kernel.bias, np.int64)
        params = param_blocks(config, bias, kernel.requantization, [0])
        self._params = params[0]
        self._blocks = [
            (channel, lanes, identity_block(config, lanes))
            for channel, lanes in channel_tiles(config, kernel.output.channels)
        ]

    def items(self, lines: Lines) -> Iterator[Item]:
        """Yield the items; see `Lowering`."""
        kernel, context = self._kernel, self._context
        target = context.place(kernel.output)
        setup = quantize(kernel.requantization)
        for channel, lanes, block in self._blocks:
            acc = context.next_rows(kernel.input.width, once=kernel.input.height == 1)
            yield from self._sums(channel, lanes, block, acc)
            yield Item(instruction=setup, layer=kernel.layer)
            one = Tile(row=0, rows=1, col=0, cols=1)
            instruction = drain(
                one, target, acc=acc, channel=channel, lanes=lanes, reduce=kernel.input.width
            )
            params, offset = self._params
            yield Item(
                instruction=replace(instruction, params=isa.ParamMode.LOAD),
                layer=kernel.layer,
                block=params,
                block_offset=offset,
            )

    def _sums(self, channel: int, lanes: int, block: Block, acc: int) -> Iterator[Item]:
        """Yield passes that add the lines up to one accumulator row per column."""
        kernel, image = self._kernel, self._kernel.input
        tile = Tile(row=0, rows=1, col=0, cols=image.width)
        for first in range(0, image.height, _MOST_STEPS):
            walk = WindowWalk(
                image=image,
                source=self._context.place(image),
                window=(min(_MOST_STEPS, image.height - first), 1),
                stride=(1, 1),
                pad_top=-first,
                pad_left=0,
                pad_value=0,
                next_op=isa.AccOp.ADD,
                layer=kernel.layer,
            )
            for item in walk.steps(tile, channel, lanes, block, acc):
                if first and isinstance(item.instruction, isa.Pass):
                    item.instruction = replace(item.instruction, first_op=isa.AccOp.ADD)
                yield item

    def needs(self, lines: Lines) -> list[Lines]:
        """Return all lines; see `Lowering`."""
        return [(0, self._kernel.input.height)]
