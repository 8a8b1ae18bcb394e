"""The walk of a dense convolution: runs of input bytes, cut into chunks and weight groups."""

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig, ceil_div

from ..ir import ConvKernel
from ..tile import Placement, Tile, image_tiles

_MAX_GROUP_BYTES = 4096
"""Weights that one load brings: larger ones delay the first pass, smaller ones cost instructions."""

MAX_LINE_BYTES = (1 << 18) - 1
"""Longest line that `GEOMETRY.line_bytes` can state."""


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

    def parts(self, lanes: int) -> "list[Group]":
        """Return a group for each chunk of `lanes` channels, of a group on a single kernel column.

        The first tile of a layer may then begin with the channels that the layer before has made.
        """
        if self.ky_count * self.kx_count > 1:
            return [self]
        last = self.chunk_count - 1
        return [
            replace(
                self,
                first=self.first + chunk * lanes,
                rows=min(lanes, self.rows - chunk * lanes),
                chunk=self.chunk + chunk,
                chunk_count=1,
                lanes_last=self.lanes if chunk < last else self.lanes_last,
            )
            for chunk in range(self.chunk_count)
        ]


@dataclass(kw_only=True, eq=False)
class ConvShape:
    """The walk of a convolution over its input, in bytes and lines.

    A pointwise convolution whose images have no gaps between lines is one long line, so that its
    tiles need not end where lines do.
    """

    config: AcceleratorConfig
    kernel: ConvKernel
    source: Placement
    flat: bool
    height: int = field(init=False)
    width: int = field(init=False)
    out_width: int = field(init=False)

    def __post_init__(self) -> None:
        k = self.kernel
        self.height, self.width = k.input.height, k.input.width
        self.out_width = k.output.width
        if self.flat:
            self.height, self.width = 1, self.height * self.width

    @property
    def kernel_size(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        return self.kernel.weights.shape[1], self.kernel.weights.shape[2]

    @property
    def contiguous(self) -> bool:
        """Whether the bytes that a kernel line meets are one run."""
        dense = self.kernel.dilation[1] == 1 and self.source.pixel == self.kernel.input.channels
        return dense or self.kernel_size[1] == 1

    def tiles(self, lines: tuple[int, int], limit: int) -> list[Tile]:
        """Cut lines of the output into tiles of at most `limit` pixels."""
        if not self.flat:
            return image_tiles(lines, self.out_width, limit)
        start, end = (line * self.kernel.output.width for line in lines)
        return [
            replace(tile, col=tile.col + start) for tile in image_tiles((0, 1), end - start, limit)
        ]

    @property
    def steps(self) -> int:
        """Tile steps of a column tile."""
        return sum(g.ky_count * g.kx_count * g.chunk_count for g in self.groups())

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
        (dilation_y, dilation_x), (pixel, line) = k.dilation, (self.source.pixel, self.source.line)
        return isa.Geometry(
            mode=isa.FeedMode.DENSE,
            pad=k.pad_value,
            lines=self.height,
            line_bytes=self.width * pixel,
            row_lines=k.stride[0],
            row_step=k.stride[0] * line,
            col_step=k.stride[1] * pixel,
            ky_count=group.ky_count,
            ky_lines=dilation_y,
            ky_step=dilation_y * line,
            kx_count=group.kx_count,
            kx_step=dilation_x * pixel,
            chunk_count=group.chunk_count,
            chunk_step=self.config.rows,
            lanes=group.lanes,
            lanes_last=group.lanes_last,
            weight_rows=group.lanes,
            weight_rows_last=group.lanes_last,
        )

    def issue(self, group: Group, tile: Tile, *, acc: int, first: bool) -> isa.Pass:
        """Return the `PASS` of a group over a tile."""
        k = self.kernel
        y = tile.row * k.stride[0] - k.pad_top + group.ky * k.dilation[0]
        col = tile.col * k.stride[1] - k.pad_left + group.kx * k.dilation[1]
        offset = group.chunk * self.config.rows
        return isa.Pass(
            weights=isa.WeightMode.EACH,
            first_op=isa.AccOp.WRITE if first else isa.AccOp.ADD,
            next_op=isa.AccOp.ADD,
            addr=self.source.at(y, col) + offset,
            y=y,
            x=col * self.source.pixel + offset,
            acc=acc,
            rows=tile.rows,
            cols=tile.cols,
            line_vectors=tile.cols,
        )


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
