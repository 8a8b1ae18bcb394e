"""Lower depthwise convolutions to the column feeds.

Array row r = j * G + t holds, for each column's channel, the tap that meets vector s + t of feed j.
Feeds are consecutive kernel lines; vectors are pixels `stride` apart, so that the taps of a kernel
line fall into phases: tap kx is at pixel offset kx * dilation = index * stride + phase. A step
serves one phase, F kernel lines and G indices.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig, ceil_div

from ..ir import ConvKernel, DepthwiseKernel, Int8Array
from ..tile import Block, Item, Placement, Tile, drain, image_tiles, tile_pixels
from .context import Context, Lines, Lowering, window_lines
from .conv import ConvLowering
from .conv_walk import ConvShape
from .params import param_blocks, quantize, renewed

FAR_LINES = 63
"""Lines from one feed to the next that put all but the first outside of a tile's lines."""


@dataclass(frozen=True, kw_only=True)
class Phase:
    """Steps along the line: pixel offset of each one's first vector, and the taps that it holds.

    Parameters
    ----------
    offsets : tuple of int
        Pixels from the output's first pixel to vector 0 of each step, evenly spaced.
    taps : tuple of tuple of (kernel column, index)
        For each step, the kernel columns that it holds and their rows within the feed's group.
    kernel_line : int
        Kernel line of feed 0 in the first step.
    """

    offsets: tuple[int, ...]
    taps: tuple[tuple[tuple[int, int], ...], ...]
    kernel_line: int = 0

    @property
    def reach(self) -> int:
        """Vectors needed beyond the one of the output."""
        return max(index for step in self.taps for _, index in step)


def phases(width: int, stride: int, dilation: int, group_rows: int) -> list[Phase]:
    """Cut a kernel line into phases, each one pass: steps in one pass are evenly spaced."""
    steps: dict[int, list[tuple[int, int]]] = {}
    for column in range(width):
        index, phase = divmod(column * dilation, stride)
        group, row = divmod(index, group_rows)
        steps.setdefault(phase + group * group_rows * stride, []).append((column, row))
    offsets = sorted(steps)
    spacings = {after - before for before, after in pairwise(offsets)}
    if len(spacings) <= 1:
        return [Phase(offsets=tuple(offsets), taps=tuple(tuple(steps[o]) for o in offsets))]
    return [Phase(offsets=(o,), taps=(tuple(steps[o]),)) for o in offsets]


@dataclass(kw_only=True, eq=False)
class DepthwiseShape:
    """The walk of a depthwise convolution over its input."""

    config: AcceleratorConfig
    kernel: DepthwiseKernel
    source: Placement
    feeds: int

    @property
    def alone(self) -> bool:
        """Whether feed 0 reads all lines, because the others cannot."""
        return self.feeds < self.config.feeds

    @property
    def ky_count(self) -> int:
        """Steps over kernel lines: each covers one line per feed."""
        return 1 if self.alone else ceil_div(self.kernel.weights.shape[0], self.feeds)

    def phases(self) -> list[Phase]:
        """Return the passes of a tile."""
        k = self.kernel
        parts = phases(k.weights.shape[1], k.stride[1], k.dilation[1], self.config.group_rows)
        if not self.alone:
            return parts
        return [replace(part, kernel_line=n) for n in range(len(k.weights)) for part in parts]

    def weight_rows(self, phase: Phase) -> int:
        """Array rows that a tile of the phase uses."""
        feeds = min(self.feeds, len(self.kernel.weights))
        return (feeds - 1) * self.config.group_rows + phase.reach + 1

    def weight_words(self, weights: Int8Array, phase: Phase, channel: int) -> NDArray[np.uint8]:
        """Return the weight words of a phase for the columns from `channel`."""
        config = self.config
        count = min(config.cols, weights.shape[2] - channel)
        rows = self.weight_rows(phase)
        words = np.zeros((self.ky_count, len(phase.taps), rows, config.weight_word_bytes), np.int8)
        served = [phase.kernel_line] if self.alone else range(weights.shape[0])
        for line in served:
            step, feed = divmod(line - phase.kernel_line, self.feeds)
            for number, taps in enumerate(phase.taps):
                for column, index in taps:
                    row = feed * config.group_rows + index
                    words[step, number, row, :count] = weights[
                        line, column, channel : channel + count
                    ]
        return words.reshape(-1, config.weight_word_bytes).view(np.uint8)

    def needs(self, lines: Lines) -> Lines:
        """Return the input lines that some output lines need."""
        kernel = self.kernel
        extent = (len(kernel.weights) - 1) * kernel.dilation[0] + 1
        return window_lines(lines, kernel.stride[0], kernel.pad_top, extent, kernel.input.height)

    def _first_line(self, phase: Phase, tile: Tile, end: int) -> tuple[int, int]:
        """Return the line of a tile's first vectors, and the one that is called line 0."""
        k = self.kernel
        y = tile.row * k.stride[0] - k.pad_top + phase.kernel_line * k.dilation[0]
        return y, max(0, min(y, end - 1)) if self.alone else 0

    def geometry(self, phase: Phase, tile: Tile, lanes: int, end: int) -> isa.Geometry:
        """Return the `GEOMETRY` of a phase over a tile for `lanes` channels.

        Feeds that no kernel line is left for read on below it, with zero weights: lines from `end`
        on, which nothing needs, are not there for them.
        """
        k, line, pixel = self.kernel, self.source.line, self.source.pixel
        spacing = phase.offsets[1] - phase.offsets[0] if len(phase.offsets) > 1 else 0
        rows = self.weight_rows(phase)
        y, origin = self._first_line(phase, tile, end)
        ky_lines = k.dilation[0]
        if self.alone:
            # Where the other feeds look there is no line: they read nothing.
            ky_lines = FAR_LINES
            last = y + (tile.rows - 1) * k.stride[0]
            end = max(origin + 1, min(end, last + 1))
        return isa.Geometry(
            mode=isa.FeedMode.DEPTHWISE,
            pad=k.pad_value,
            lines=end - origin,
            line_bytes=k.input.width * pixel,
            row_lines=k.stride[0],
            row_step=k.stride[0] * line,
            col_step=k.stride[1] * pixel,
            ky_count=self.ky_count,
            ky_lines=ky_lines,
            ky_step=k.dilation[0] * line,
            kx_count=len(phase.offsets),
            kx_step=spacing * pixel,
            lanes=lanes,
            lanes_last=lanes,
            weight_rows=rows,
            weight_rows_last=rows,
        )

    def line_vectors(self, phase: Phase, tile: Tile) -> int:
        """Return the vectors per row of a tile.

        The padding to the right of one row may serve as the padding to the left of the next.
        """
        needed = tile.cols + phase.reach
        for count in range(tile.cols, needed):
            if all(
                self._right_of_image(phase, tile, vector)
                and self._left_of_image(phase, tile, vector - count)
                for vector in range(count, needed)
            ):
                return count
        return needed

    def _pixels(self, phase: Phase, tile: Tile, vector: int) -> list[int]:
        k = self.kernel
        start = (tile.col + vector) * k.stride[1] - k.pad_left
        return [start + offset for offset in phase.offsets]

    def _right_of_image(self, phase: Phase, tile: Tile, vector: int) -> bool:
        return min(self._pixels(phase, tile, vector)) >= self.kernel.input.width

    def _left_of_image(self, phase: Phase, tile: Tile, vector: int) -> bool:
        return max(self._pixels(phase, tile, vector)) < 0

    def issue(
        self, phase: Phase, tile: Tile, channel: int, end: int, *, acc: int, first: bool
    ) -> isa.Pass:
        """Return the `PASS` of a phase over a tile."""
        k = self.kernel
        y, origin = self._first_line(phase, tile, end)
        col = tile.col * k.stride[1] - k.pad_left + phase.offsets[0]
        count = self.line_vectors(phase, tile)
        return isa.Pass(
            weights=isa.WeightMode.EACH,
            first_op=isa.AccOp.WRITE if first else isa.AccOp.ADD,
            next_op=isa.AccOp.ADD,
            addr=self.source.at(y, col) + channel,
            y=y - origin,
            x=col * self.source.pixel + channel,
            acc=acc,
            rows=tile.rows,
            cols=tile.cols,
            line_vectors=count,
            tail=tile.cols + phase.reach - count,
        )


def dense_weights(weights: Int8Array) -> Int8Array:
    """Return depthwise weights as those of a dense convolution: zero between channels."""
    *kernel, channels = weights.shape
    dense = np.zeros((channels, *kernel, channels), np.int8)
    index = np.arange(channels)
    dense[index, :, :, index] = weights.transpose(2, 0, 1)
    return dense


def as_dense(kernel: DepthwiseKernel) -> ConvKernel:
    """Return the dense convolution with the same result."""
    return ConvKernel(
        weights=dense_weights(kernel.weights),
        **{f.name: getattr(kernel, f.name) for f in fields(kernel) if f.name != "weights"},
    )


def _feeds_can_read(kernel: DepthwiseKernel, context: Context) -> bool:
    """Whether every window of feeds beyond the first starts at a word, in a bank of its own."""
    config, source = context.config, context.place(kernel.input)
    if config.feeds == 1:
        return True
    word = config.word_bytes
    aligned = source.pixel % word == 0 and (
        config.cols % word == 0 or kernel.output.channels <= config.cols
    )
    banks = {
        feed * kernel.dilation[0] * source.line // word % config.banks
        for feed in range(config.feeds)
    }
    return aligned and source.line % word == 0 and len(banks) == config.feeds


class DepthwiseLowering:
    """A depthwise convolution on the column feeds.

    Parameters
    ----------
    kernel : DepthwiseKernel
        Convolution.
    context : Context
        Machine and places.
    extra_weights : tuple of int8 array
        Weights that are added to the kernel's, each by passes of its own.
    """

    def __init__(
        self,
        kernel: DepthwiseKernel,
        context: Context,
        *,
        extra_weights: tuple[Int8Array, ...] = (),
        feeds: int,
    ) -> None:
        self._feeds = feeds
        self._kernel = kernel
        self._terms = (kernel.weights, *extra_weights)
        self._context = context
        config, shape = context.config, self._shape()
        self._channels = list(range(0, kernel.output.channels, config.cols))
        self._params = param_blocks(config, kernel.bias, kernel.requantization, self._channels)
        self._parts = {
            channel: [
                (phase, Block(space=isa.Space.WEIGHTS, words=words))
                for term in self._terms
                for phase in shape.phases()
                for words in (shape.weight_words(term, phase, channel),)
            ]
            for channel in self._channels
        }
        self._started = False

    def _shape(self) -> DepthwiseShape:
        source = self._context.place(self._kernel.input)
        return DepthwiseShape(
            config=self._context.config, kernel=self._kernel, source=source, feeds=self._feeds
        )

    def needs(self, lines: Lines) -> list[Lines]:
        """Return the lines of the input; see `Lowering`."""
        return [self._shape().needs(lines)]

    def items(self, lines: Lines) -> Iterator[Item]:
        """Yield the items; see `Lowering`."""
        kernel, context = self._kernel, self._context
        weights = [block for parts in self._parts.values() for _, block in parts]
        held = [block for block, _ in self._params.values()]
        stays = context.may_stay([*weights, *held])
        if self._started and not stays:
            self._forget_blocks()
        self._started = True
        width = kernel.output.width
        pixels = (lines[1] - lines[0]) * width
        limit = tile_pixels(pixels, self._steps(), context.config.acc_rows)
        if self._feeds < context.config.feeds:
            limit = min(limit, max(width, FAR_LINES // kernel.stride[0] // 2 * width))
        tiles = image_tiles(lines, width, limit)
        order = [(tile, channel) for channel in self._channels for tile in tiles]
        if stays:
            # Lines outermost: the next kernel may start when its first lines are finished.
            order = [(tile, channel) for tile in tiles for channel in self._channels]
        _, end = self._shape().needs(lines)
        for tile, channel in order:
            yield from self._tile(tile, channel, end)

    def _steps(self) -> int:
        """Return the tile steps of a column tile."""
        shape = self._shape()
        offsets = sum(len(phase.offsets) for phase in shape.phases())
        return len(self._terms) * shape.ky_count * offsets

    def _tile(self, tile: Tile, channel: int, end: int) -> Iterator[Item]:
        kernel, context, shape = self._kernel, self._context, self._shape()
        lanes = min(context.config.cols, kernel.output.channels - channel)
        parts = self._parts[channel]
        acc = context.next_rows(tile.rows * tile.cols, once=self._steps() == 1)
        for number, (phase, weights) in enumerate(parts):
            yield Item(instruction=shape.geometry(phase, tile, lanes, end), layer=kernel.layer)
            issue = shape.issue(phase, tile, channel, end, acc=acc, first=number == 0)
            yield Item(instruction=issue, layer=kernel.layer, block=weights)
        yield Item(instruction=quantize(kernel.requantization), layer=kernel.layer)
        target = context.place(kernel.output)
        instruction = drain(tile, target, acc=acc, channel=channel, lanes=lanes)
        block, offset = self._params[channel]
        yield Item(
            instruction=replace(instruction, params=isa.ParamMode.LOAD),
            layer=kernel.layer,
            block=block,
            block_offset=offset,
        )

    def _forget_blocks(self) -> None:
        """Make new blocks of the same words: what was loaded for earlier lines is gone."""
        self._parts = {
            channel: [(phase, replace(block)) for phase, block in parts]
            for channel, parts in self._parts.items()
        }
        self._params = renewed(self._params)


def lower_depthwise(
    kernel: DepthwiseKernel, context: Context, *, extra_weights: tuple[Int8Array, ...] = ()
) -> Lowering:
    """Return the lowering to the column feeds.

    Where not all of them can read, feed 0 alone does, or it is a dense convolution: what is faster.
    """
    if _feeds_can_read(kernel, context):
        feeds = context.config.feeds
        return DepthwiseLowering(kernel, context, extra_weights=extra_weights, feeds=feeds)
    source, config = context.place(kernel.input), context.config
    shape = DepthwiseShape(config=config, kernel=kernel, source=source, feeds=1)
    width = kernel.output.width
    alone = sum(len(phase.offsets) * (width + phase.reach) for phase in shape.phases())
    dense = as_dense(kernel)
    if alone < ConvShape(config=config, kernel=dense, source=source, flat=False).steps * width:
        return DepthwiseLowering(kernel, context, extra_weights=extra_weights, feeds=1)
    extra = tuple(map(dense_weights, extra_weights))
    return ConvLowering(dense, context, extra_weights=extra)
