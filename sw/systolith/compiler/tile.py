"""Cut kernels into accumulator tiles and weight groups, and write both as instructions.

The functions here know the shape of the machine but no addresses of rings: weights and parameters
come from `Block`s, whose places the scheduler chooses.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig, ceil_div

from .ir import AveragePoolKernel, ConvKernel, Image, Requantization

_MAX_GROUP_BYTES = 4096
"""Weights that one load brings: larger ones delay the first pass, smaller ones cost instructions."""

_MAX_LINE_BYTES = (1 << 18) - 1
"""Longest line that `GEOMETRY.line_bytes` can state."""


@dataclass(frozen=True, kw_only=True)
class Tile:
    """A rectangle of outputs that fits one accumulator bank."""

    row: int
    rows: int
    col: int
    cols: int


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


@dataclass(frozen=True, kw_only=True)
class Group:
    """Tile steps of one pass: weights [first, first + rows) of the kernel's flattened reduction."""

    first: int
    rows: int
    ky: int
    ky_count: int
    kx: int
    kx_count: int
    chunk: int
    chunk_count: int
    lanes: int
    lanes_last: int


@dataclass(kw_only=True, eq=False)
class ConvShape:
    """The walk of a convolution over its input, in bytes and lines."""

    config: AcceleratorConfig
    kernel: ConvKernel
    height: int = field(init=False)
    width: int = field(init=False)
    out_height: int = field(init=False)
    out_width: int = field(init=False)

    def __post_init__(self) -> None:
        k = self.kernel
        self.height, self.width = k.input.height, k.input.width
        self.out_height, self.out_width = k.output.height, k.output.width
        flat = self.height * self.width
        pointwise = self.kernel_size == (1, 1) and k.stride == (1, 1) and not k.pad_top | k.pad_left
        same = flat == self.out_height * self.out_width
        if pointwise and same and flat * k.input.channels <= _MAX_LINE_BYTES:
            # A pointwise convolution has no lines: tiles need not end at one.
            self.height, self.width, self.out_height, self.out_width = 1, flat, 1, flat

    @property
    def kernel_size(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        return self.kernel.weights.shape[1], self.kernel.weights.shape[2]

    @property
    def contiguous(self) -> bool:
        """Whether the bytes that a kernel line meets are one run."""
        return self.kernel.dilation[1] == 1 or self.kernel_size[1] == 1

    @property
    def pitch(self) -> int:
        """Bytes of an input line."""
        return self.width * self.kernel.input.channels

    def groups(self) -> list[Group]:
        """Cut the reduction of a column tile into passes that one load each can serve."""
        kh, kw = self.kernel_size
        channels = self.kernel.input.channels
        run = kw * channels if self.contiguous else channels
        kx_count = 1 if self.contiguous else kw
        chunks = ceil_div(run, self.config.rows)
        line = run * kx_count
        limit = self._group_rows()
        if line * kh <= limit:
            return [self._group(0, 0, kh, 0, kx_count, 0, chunks, run)]
        if line <= limit:
            return [self._group(ky * line, ky, 1, 0, kx_count, 0, chunks, run) for ky in range(kh)]
        per_group = max(1, limit // self.config.rows)
        parts = ceil_div(chunks, per_group)
        per_group = ceil_div(chunks, parts)
        return [
            self._group(
                ky * line + kx * run + chunk * self.config.rows,
                ky,
                1,
                kx,
                1,
                chunk,
                min(per_group, chunks - chunk),
                run,
            )
            for ky in range(kh)
            for kx in range(kx_count)
            for chunk in range(0, chunks, per_group)
        ]

    def _group_rows(self) -> int:
        share = self.config.weight_bytes // 8
        rows = min(_MAX_GROUP_BYTES, share) // self.config.weight_word_bytes
        return max(self.config.rows, rows)

    def _group(
        self,
        first: int,
        ky: int,
        ky_count: int,
        kx: int,
        kx_count: int,
        chunk: int,
        chunk_count: int,
        run: int,
    ) -> Group:
        rows = self.config.rows
        end = min(run, (chunk + chunk_count) * rows)
        return Group(
            first=first,
            rows=ky_count * kx_count * (end - chunk * rows),
            ky=ky,
            ky_count=ky_count,
            kx=kx,
            kx_count=kx_count,
            chunk=chunk,
            chunk_count=chunk_count,
            lanes=min(rows, run),
            lanes_last=end - (chunk + chunk_count - 1) * rows,
        )

    def geometry(self, group: Group) -> isa.Geometry:
        """Return the `GEOMETRY` for the passes of a group."""
        k = self.kernel
        channels, (dilation_y, dilation_x) = k.input.channels, k.dilation
        return isa.Geometry(
            mode=isa.FeedMode.DENSE,
            pad=k.pad_value,
            lines=self.height,
            line_bytes=self.pitch,
            row_lines=k.stride[0],
            row_step=k.stride[0] * self.pitch,
            col_step=k.stride[1] * channels,
            ky_count=group.ky_count,
            ky_lines=dilation_y,
            ky_step=dilation_y * self.pitch,
            kx_count=group.kx_count,
            kx_step=dilation_x * channels,
            chunk_count=group.chunk_count,
            chunk_step=self.config.rows,
            lanes=group.lanes,
            lanes_last=group.lanes_last,
            weight_rows=group.lanes,
            weight_rows_last=group.lanes_last,
        )

    def issue(self, group: Group, tile: Tile, *, base: int, acc: int, first: bool) -> isa.Pass:
        """Return the `PASS` of a group over a tile, for an input at local address `base`."""
        k = self.kernel
        y = tile.row * k.stride[0] - k.pad_top + group.ky * k.dilation[0]
        x_pixel = tile.col * k.stride[1] - k.pad_left + group.kx * k.dilation[1]
        x = x_pixel * k.input.channels + group.chunk * self.config.rows
        return isa.Pass(
            weights=isa.WeightMode.EACH,
            first_op=isa.AccOp.WRITE if first else isa.AccOp.ADD,
            next_op=isa.AccOp.ADD,
            addr=base + y * self.pitch + x,
            y=y,
            x=x,
            acc=acc,
            rows=tile.rows,
            cols=tile.cols,
            line_vectors=tile.cols,
        )


def image_tiles(height: int, width: int, limit: int) -> list[Tile]:
    """Cut an image into tiles of at most `limit` pixels: whole lines, or parts of one line."""
    if width > limit:
        parts = ceil_div(width, limit)
        cols = ceil_div(width, parts)
        return [
            Tile(row=row, rows=1, col=col, cols=min(cols, width - col))
            for row in range(height)
            for col in range(0, width, cols)
        ]
    parts = ceil_div(height, limit // width)
    rows = ceil_div(height, parts)
    return [
        Tile(row=row, rows=min(rows, height - row), col=0, cols=width)
        for row in range(0, height, rows)
    ]


def weight_words(
    config: AcceleratorConfig, kernel: ConvKernel, group: Group, channel: int
) -> NDArray[np.uint8]:
    """Return the weight words of a group for the column tile that starts at `channel`.

    A word is one array row: the weights of one reduction index for up to C output channels, zero
    beyond them.
    """
    channels = min(config.cols, kernel.weights.shape[0] - channel)
    flat = kernel.weights[channel : channel + channels].reshape(channels, -1)
    words = np.zeros((group.rows, config.weight_word_bytes), np.uint8)
    words[:, :channels] = flat[:, group.first : group.first + group.rows].T.view(np.uint8)
    return words


def identity_words(config: AcceleratorConfig, channels: int) -> NDArray[np.uint8]:
    """Return the words of a tile that passes lane i to column i."""
    words = np.zeros((channels, config.weight_word_bytes), np.uint8)
    words[np.arange(channels), np.arange(channels)] = 1
    return words


def param_words(config: AcceleratorConfig, kernel: ConvKernel, channel: int) -> NDArray[np.uint8]:
    """Return the parameter words of the column tile that starts at `channel`; see `DRAIN`."""
    channels = min(config.cols, len(kernel.bias) - channel)
    part = slice(channel, channel + channels)
    requantization = kernel.requantization

    def words(values: NDArray[np.int64], dtype: str, count: int) -> NDArray[np.uint8]:
        raw = np.zeros(count * config.weight_word_bytes, np.uint8)
        data = values.astype(dtype).view(np.uint8)
        raw[: data.size] = data
        return raw.reshape(count, config.weight_word_bytes)

    parts = [words(kernel.bias[part], "<i4", config.bias_words)]
    if requantization.per_channel:
        parts.append(words(requantization.multipliers[part], "<i4", config.bias_words))
        parts.append(words(requantization.shifts[part], "i1", config.shift_words))
    return np.concatenate(parts)


def quantize(requantization: Requantization) -> isa.Quantize:
    """Return the `QUANTIZE` of a convolution."""
    per_channel = requantization.per_channel
    return isa.Quantize(
        rounding=requantization.rounding,
        per_channel=int(per_channel),
        multiplier=0 if per_channel else int(requantization.multipliers[0]),
        shift=0 if per_channel else int(requantization.shifts[0]),
        zero_point=requantization.zero_point,
        low=requantization.low,
        high=requantization.high,
    )


def drain(
    tile: Tile, output: Image, *, base: int, acc: int, channel: int, lanes: int, reduce: int = 1
) -> isa.Drain:
    """Return the `DRAIN` of a tile into `lanes` channels, from `channel`, of the image at `base`."""
    pitch = output.width * output.channels
    start = base + tile.row * pitch + tile.col * output.channels + channel
    return isa.Drain(
        acc=acc,
        rows=tile.rows,
        cols=tile.cols,
        reduce=reduce,
        lanes=lanes,
        lanes_last=lanes,
        addr=start,
        row_step=pitch,
        col_step=output.channels,
    )


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
