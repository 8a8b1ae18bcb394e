"""Lower copies with a change of place: pads, slices, concatenations, resizes.

Bytes go through the array, one vector a cycle: a window of one pixel of an identity tile, walked in
the steps of the source and drained in the steps of the target. Padding comes with the window.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from systolith.arch import isa

from ..ir import ConcatKernel, Image, PadKernel, ResizeKernel, SliceKernel
from ..tile import Block, Item, Placement, drain, image_tiles
from .context import Context, Lines
from .pool import identity_quantize
from .window import WindowWalk, channel_tiles, identity_block


@dataclass(frozen=True, kw_only=True)
class Copy:
    """Pixels of one image that go to pixels of another.

    Output pixel (row, col) of the copy, `rows` by `cols` of them, is source pixel
    `(row * step[0] + start[0], col * step[1] + start[1])`, or `pad_value` outside the source, and
    goes to `target.at(row, col)`; channels go from `channel` on to the target's first on.
    """

    image: Image
    source: Placement
    target: Placement
    rows: int
    cols: int
    channels: int
    start: tuple[int, int] = (0, 0)
    step: tuple[int, int] = (1, 1)
    channel: int = 0
    pad_value: int = 0


def copy_items(
    copy: Copy, blocks: dict[int, Block], layer: int, context: Context
) -> Iterator[Item]:
    """Yield the items of a copy; `blocks` keeps the identity tiles by their size."""
    walk = WindowWalk(
        image=copy.image,
        source=copy.source,
        window=(1, 1),
        stride=copy.step,
        pad_top=-copy.start[0],
        pad_left=-copy.start[1],
        pad_value=copy.pad_value,
        next_op=isa.AccOp.ADD,
        layer=layer,
    )
    for channel, lanes in channel_tiles(context.config, copy.channels):
        block = blocks.setdefault(lanes, identity_block(context.config, lanes))
        for tile in image_tiles((0, copy.rows), copy.cols, context.config.acc_rows):
            acc = context.next_rows(tile.rows * tile.cols, once=True)
            yield from walk.steps(tile, copy.channel + channel, lanes, block, acc)
            yield Item(instruction=identity_quantize(), layer=layer)
            instruction = drain(tile, copy.target, acc=acc, channel=channel, lanes=lanes)
            yield Item(instruction=instruction, layer=layer)


def moved(place: Placement, row: int, col: int, channel: int = 0) -> Placement:
    """Return the placement of the part of an image that starts at a pixel and a channel."""
    return replace(place, address=place.at(row, col) + channel)


class SliceLowering:
    """A part of an image, every so many pixels."""

    def __init__(self, kernel: SliceKernel, context: Context) -> None:
        self._kernel = kernel
        self._context = context
        self._blocks: dict[int, Block] = {}

    def items(self, lines: Lines) -> Iterator[Item]:
        """Yield the items; see `Lowering`."""
        kernel, place = self._kernel, self._context.place
        (y, x, channel), (step_y, _) = kernel.start, kernel.step
        copy = Copy(
            image=kernel.input,
            source=place(kernel.input),
            target=moved(place(kernel.output), lines[0], 0),
            rows=lines[1] - lines[0],
            cols=kernel.output.width,
            channels=kernel.output.channels,
            start=(y + lines[0] * step_y, x),
            step=kernel.step,
            channel=channel,
        )
        yield from copy_items(copy, self._blocks, kernel.layer, self._context)

    def needs(self, lines: Lines) -> list[Lines]:
        """Return the lines from the first to the last that is taken; see `Lowering`."""
        start, step = self._kernel.start[0], self._kernel.step[0]
        return [(start + lines[0] * step, start + (lines[1] - 1) * step + 1)]


class PadLowering:
    """An image surrounded by a value."""

    def __init__(self, kernel: PadKernel, context: Context) -> None:
        self._kernel = kernel
        self._context = context
        self._blocks: dict[int, Block] = {}

    def items(self, lines: Lines) -> Iterator[Item]:
        """Yield the items: the image with its margins, then channels that are margin alone."""
        kernel, place = self._kernel, self._context.place
        output = kernel.output
        target = moved(place(output), lines[0], 0)
        behind = kernel.front + kernel.input.channels
        inner = Copy(
            image=kernel.input,
            source=place(kernel.input),
            target=moved(target, 0, 0, kernel.front),
            rows=lines[1] - lines[0],
            cols=output.width,
            channels=kernel.input.channels,
            start=(lines[0] - kernel.top, -kernel.left),
            pad_value=kernel.value,
        )
        # An image without lines is margin everywhere.
        margin = replace(inner, image=replace(kernel.input, height=0))
        parts = [
            inner,
            replace(margin, channels=kernel.front, target=target),
            replace(margin, channels=output.channels - behind, target=moved(target, 0, 0, behind)),
        ]
        for part in parts:
            if part.channels:
                yield from copy_items(part, self._blocks, kernel.layer, self._context)

    def needs(self, lines: Lines) -> list[Lines]:
        """Return the lines that are not margin; see `Lowering`."""
        top, height = self._kernel.top, self._kernel.input.height
        first = min(height, max(0, lines[0] - top))
        return [(first, max(first, min(height, lines[1] - top)))]


class ConcatLowering:
    """Images joined along one axis."""

    def __init__(self, kernel: ConcatKernel, context: Context) -> None:
        self._kernel = kernel
        self._context = context
        self._blocks: dict[int, Block] = {}

    def _offsets(self) -> list[tuple[int, int, int]]:
        """Return (row, col, channel) where each part starts."""
        axis, position = self._kernel.axis, 0
        result = []
        for image in self._kernel.inputs:
            offset = [0, 0, 0]
            offset[axis] = position
            result.append((offset[0], offset[1], offset[2]))
            position += (image.height, image.width, image.channels)[axis]
        return result

    def items(self, lines: Lines) -> Iterator[Item]:
        """Yield a copy of each part; see `Lowering`."""
        kernel, place = self._kernel, self._context.place
        for image, offset, (first, last) in zip(
            kernel.inputs, self._offsets(), self.needs(lines), strict=True
        ):
            if first == last:
                continue
            row, col, channel = offset
            copy = Copy(
                image=image,
                source=place(image),
                target=moved(place(kernel.output), row + first, col, channel),
                rows=last - first,
                cols=image.width,
                channels=image.channels,
                start=(first, 0),
            )
            yield from copy_items(copy, self._blocks, kernel.layer, self._context)

    def needs(self, lines: Lines) -> list[Lines]:
        """Return the lines of each part that lie in the output's lines; see `Lowering`."""
        result = []
        for image, (row, _, _) in zip(self._kernel.inputs, self._offsets(), strict=True):
            first = min(image.height, max(0, lines[0] - row))
            result.append((first, max(first, min(image.height, lines[1] - row))))
        return result


@dataclass(frozen=True, kw_only=True)
class Span:
    """Outputs `first + k * step` of an axis, k < count, which take inputs `source + k * stride`."""

    first: int
    step: int
    count: int
    source: int
    stride: int


def spans(indices: Sequence[int]) -> list[Span]:
    """Cut an ascending list of source indices into evenly spaced spans, as few as are found.

    Outputs are dealt out in turn to `step` classes, each cut greedily; the best step wins. An
    enlargement by a whole factor f takes f spans.
    """
    best: list[Span] = []
    for step in range(1, min(len(indices), 16) + 1):
        found: list[Span] = []
        for phase in range(step):
            found += _cut(indices, phase, step)
        if not best or len(found) < len(best):
            best = found
    return best


def _cut(indices: Sequence[int], phase: int, step: int) -> list[Span]:
    result: list[Span] = []
    position = phase
    while position < len(indices):
        count, stride = 1, 1
        if position + step < len(indices):
            stride = indices[position + step] - indices[position]
        while stride and position + count * step < len(indices):
            if indices[position + count * step] != indices[position] + count * stride:
                break
            count += 1
        source = indices[position]
        result.append(Span(first=position, step=step, count=count, source=source, stride=stride))
        position += count * step
    return result


class ResizeLowering:
    """Nearest neighbor: evenly spaced outputs take evenly spaced inputs."""

    def __init__(self, kernel: ResizeKernel, context: Context) -> None:
        self._kernel = kernel
        self._context = context
        self._cols = spans(kernel.cols)
        self._blocks: dict[int, Block] = {}

    def items(self, lines: Lines) -> Iterator[Item]:
        """Yield a copy for each pair of spans; see `Lowering`."""
        kernel, place = self._kernel, self._context.place
        target = place(kernel.output)
        for rows in spans(kernel.rows[lines[0] : lines[1]]):
            for cols in self._cols:
                start = moved(target, lines[0] + rows.first, cols.first)
                copy = Copy(
                    image=kernel.input,
                    source=place(kernel.input),
                    target=replace(
                        start, pixel=target.pixel * cols.step, line=target.line * rows.step
                    ),
                    rows=rows.count,
                    cols=cols.count,
                    channels=kernel.output.channels,
                    start=(rows.source, cols.source),
                    step=(max(1, rows.stride), max(1, cols.stride)),
                )
                yield from copy_items(copy, self._blocks, kernel.layer, self._context)

    def needs(self, lines: Lines) -> list[Lines]:
        """Return the lines from the first to the last that is taken; see `Lowering`."""
        return [(self._kernel.rows[lines[0]], self._kernel.rows[lines[1] - 1] + 1)]
