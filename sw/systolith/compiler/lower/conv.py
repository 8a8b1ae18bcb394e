"""Lower convolutions, with or without a residual addition in the drain."""

from collections.abc import Callable, Iterator
from dataclasses import replace

from systolith.arch import isa

from ..fuse import ResidualConvKernel
from ..ir import ConvKernel, Int8Array
from ..tile import Block, Item, Placement, Tile, drain, tile_pixels
from .context import Context, Lines, window_lines
from .conv_walk import MAX_LINE_BYTES, ConvShape, Group, weight_words
from .elementwise import elementwise
from .pack import packed
from .params import param_blocks, quantize, renewed

_SPLIT_PIXELS = 8
"""Pixels of a tile from which on passes of its chunks are worth their instructions."""


class ConvLowering:
    """A convolution; its weights stay in their memory if there is room for them.

    Parameters
    ----------
    kernel : ConvKernel
        Convolution.
    context : Context
        Machine and places.
    residual : ResidualConvKernel, optional
        Addition of another image in the drain.
    target : callable, optional
        Where the output lies, if not where the context says.
    extra_weights : tuple of int8 array
        Weights that are added to the kernel's, each by passes of its own.
    """

    def __init__(
        self,
        kernel: ConvKernel,
        context: Context,
        *,
        residual: ResidualConvKernel | None = None,
        target: Callable[[], Placement] | None = None,
        extra_weights: tuple[Int8Array, ...] = (),
    ) -> None:
        output = residual.output if residual else kernel.output
        self._place = target or (lambda: context.place(output))
        self._pixels = 1
        if residual is None and target is None and not extra_weights:
            places = context.place(kernel.input), context.place(output)
            kernel = packed(kernel, context.config, *places) or kernel
            self._pixels = output.width // kernel.output.width
        self._kernel = kernel
        self._terms = [kernel, *(replace(kernel, weights=extra) for extra in extra_weights)]
        self._context = context
        self._residual = residual
        self._output = residual.output if residual else kernel.output
        config = context.config
        self._channels = list(range(0, self._output.channels, config.cols))
        groups = self._shape().groups()
        self._blocks = {c: self._weight_blocks(groups, c) for c in self._channels}
        self._params = param_blocks(config, kernel.bias, kernel.requantization, self._channels)
        self._started = False

    def _target(self) -> Placement:
        """Return where the output lies, in pixels of the kernel."""
        place = self._place()
        return replace(place, pixel=self._pixels * place.pixel)

    def needs(self, lines: Lines) -> list[Lines]:
        """Return the lines under the kernel, and those of the addition; see `Lowering`."""
        kernel = self._kernel
        extent = (kernel.weights.shape[1] - 1) * kernel.dilation[0] + 1
        height = kernel.input.height
        needed = [window_lines(lines, kernel.stride[0], kernel.pad_top, extent, height)]
        return [*needed, lines] if self._residual else needed

    def items(self, lines: Lines) -> Iterator[Item]:
        """Yield the items; see `Lowering`."""
        context, shape = self._context, self._shape()
        groups = shape.groups()
        pixels = (lines[1] - lines[0]) * self._output.width
        steps = shape.steps * len(self._terms)
        tiles = shape.tiles(lines, tile_pixels(pixels, steps, context.config.acc_rows))
        order = [(t, c) for c in self._channels for t in tiles]
        resident = self._resident()
        if resident:
            # Lines outermost: the next kernel may start when its first lines are finished.
            order = [(t, c) for t in tiles for c in self._channels]
        elif self._started:
            self._forget_blocks()
        self._started = True
        again = len(tiles) > 1 and not self._reusable()
        for number, (tile, channel) in enumerate(order):
            acc = context.next_rows(tile.rows * tile.cols, once=steps == 1)
            blocks = self._blocks[channel]
            blocks = [replace(block) for block in blocks] if again else blocks
            split = number == 0 and tile.rows * tile.cols >= _SPLIT_PIXELS
            yield from self._passes(shape, tile, groups, blocks, acc, split=split)
            yield from self._drain(tile, channel, acc)

    def _shape(self) -> ConvShape:
        source = self._context.place(self._kernel.input)
        return ConvShape(
            config=self._context.config, kernel=self._kernel, source=source, flat=self._flat()
        )

    def _flat(self) -> bool:
        """Whether the convolution may be seen as one on a single line; see `ConvShape`."""
        kernel = self._kernel
        images = [(kernel.input, self._context.place(kernel.input)), (self._output, self._target())]
        if self._residual:
            other = self._residual.residual
            images.append((other, self._context.place(other)))
        size = (self._output.height, self._output.width)
        return (
            kernel.weights.shape[1:3] == (1, 1)
            and kernel.stride == (1, 1)
            and kernel.pad_top == kernel.pad_left == 0
            and all((image.height, image.width) == size for image, _ in images)
            and all(place.lines_touch(image.width) for image, place in images)
            and size[0] * images[0][1].line <= MAX_LINE_BYTES
        )

    def _weight_blocks(self, groups: list[Group], channel: int) -> list[Block]:
        return [
            Block(
                space=isa.Space.WEIGHTS,
                words=weight_words(self._context.config, term, group, channel),
            )
            for term in self._terms
            for group in groups
        ]

    def _forget_blocks(self) -> None:
        """Make new blocks of the same words: what was loaded for earlier lines is gone."""
        for channel, blocks in self._blocks.items():
            self._blocks[channel] = [replace(block) for block in blocks]
        self._params = renewed(self._params)

    def _resident(self) -> bool:
        """Whether weights and parameters stay in their memories."""
        weights = [block for part in self._blocks.values() for block in part]
        return self._context.may_stay([*weights, *(block for block, _ in self._params.values())])

    def _reusable(self) -> bool:
        """Whether the weights of any column tile stay in their memory from tile to tile.

        Blocks are contiguous, so that up to one of them may not fit behind the others where the
        ring wraps.
        """
        sizes = [[len(block.words) for block in part] for part in self._blocks.values()]
        return max(sum(part) + max(part) for part in sizes) <= self._context.config.weight_words

    def _passes(
        self,
        shape: ConvShape,
        tile: Tile,
        groups: list[Group],
        blocks: list[Block],
        acc: int,
        *,
        split: bool,
    ) -> Iterator[Item]:
        """Yield the passes of a tile, split so that each waits for few channels of the input."""
        layer, first = self._kernel.layer, True
        for group, block in zip(groups * len(self._terms), blocks, strict=True):
            offset = 0
            for part in group.parts(self._context.config.rows) if split else [group]:
                yield Item(instruction=shape.geometry(part), layer=layer)
                issue = shape.issue(part, tile, acc=acc, first=first)
                yield Item(instruction=issue, layer=layer, block=block, block_offset=offset)
                offset += part.rows
                first = False

    def _drain(self, tile: Tile, channel: int, acc: int) -> Iterator[Item]:
        kernel, residual = self._kernel, self._residual
        lanes = min(self._context.config.cols, self._output.channels - channel)
        instruction = drain(tile, self._target(), acc=acc, channel=channel, lanes=lanes)
        instruction = replace(instruction, params=isa.ParamMode.LOAD)
        yield Item(instruction=quantize(kernel.requantization), layer=kernel.layer)
        layer = kernel.layer
        if residual is not None:
            layer = residual.layer
            setup = elementwise(residual.op, residual.parameters)
            yield Item(instruction=setup, layer=layer)
            source = self._context.place(residual.residual)
            instruction = replace(
                instruction,
                use_residual=1,
                residual=source.at(tile.row, tile.col) + channel,
                residual_row_step=source.line,
                residual_col_step=source.pixel,
            )
        block, offset = self._params[channel]
        gap = self._place().pixel - self._output.channels // self._pixels
        if self._pixels == 1 or not gap:
            yield Item(instruction=instruction, layer=layer, block=block, block_offset=offset)
            return
        # With the first pixel in the gap behind itself, which nobody reads, the next one is right.
        both = replace(instruction, addr=instruction.addr + gap)
        yield Item(instruction=both, layer=layer, block=block, block_offset=offset)
        lanes = lanes // self._pixels
        left = replace(instruction, lanes=lanes, lanes_last=lanes, params=isa.ParamMode.KEEP)
        yield Item(instruction=left, layer=layer)
