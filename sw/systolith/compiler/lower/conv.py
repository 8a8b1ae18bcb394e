"""Lower convolutions, with or without a residual addition in the drain."""

from collections.abc import Iterator
from dataclasses import replace

from systolith.arch import isa

from ..fuse import ResidualConvKernel
from ..ir import ConvKernel, Image
from ..tile import Block, Item, Tile, drain, image_tiles
from .context import Context
from .conv_walk import MAX_LINE_BYTES, ConvShape, Group, weight_words
from .elementwise import elementwise
from .params import param_blocks, quantize


def lower_conv(kernel: ConvKernel, context: Context) -> Iterator[Item]:
    """Yield the items of a convolution."""
    yield from _lower(kernel, kernel.output, None, context)


def lower_residual_conv(kernel: ResidualConvKernel, context: Context) -> Iterator[Item]:
    """Yield the items of a convolution whose drain adds another tensor."""
    yield from _lower(kernel.conv, kernel.output, kernel, context)


def _lower(
    kernel: ConvKernel, output: Image, residual: ResidualConvKernel | None, context: Context
) -> Iterator[Item]:
    config = context.config
    flat = _flat(kernel, output, residual, context)
    source = context.place(kernel.input)
    shape = ConvShape(config=config, kernel=kernel, source=source, flat=flat)
    groups = shape.groups()
    channels = list(range(0, output.channels, config.cols))
    blocks = {c: _weight_blocks(kernel, groups, c, context) for c in channels}
    params = param_blocks(config, kernel.bias, kernel.requantization, channels)
    tiles = image_tiles(shape.out_height, shape.out_width, config.acc_rows)
    order = [(t, c) for c in channels for t in tiles]
    if _resident(blocks, params, context):
        # Lines outermost: the next kernel may start when its first lines are finished.
        order = [(t, c) for t in tiles for c in channels]
    again = len(tiles) > 1 and not _reusable(blocks, context)
    for tile, channel in order:
        acc = context.next_bank()
        weights = [replace(block) for block in blocks[channel]] if again else blocks[channel]
        yield from _passes(shape, tile, groups, weights, acc)
        instruction = drain(
            tile,
            context.place(output),
            acc=acc,
            channel=channel,
            lanes=min(config.cols, output.channels - channel),
        )
        yield Item(instruction=quantize(kernel.requantization), layer=kernel.layer)
        if residual is not None:
            yield Item(instruction=elementwise(residual.parameters), layer=residual.layer)
            instruction = _with_residual(instruction, tile, channel, residual, context)
        block, offset = params[channel]
        yield Item(
            instruction=replace(instruction, params=isa.ParamMode.LOAD),
            layer=kernel.layer if residual is None else residual.layer,
            block=block,
            block_offset=offset,
        )


def _flat(
    kernel: ConvKernel, output: Image, residual: ResidualConvKernel | None, context: Context
) -> bool:
    """Whether a convolution may be seen as one on a single line; see `ConvShape`."""
    images = [kernel.input, output, *([residual.residual] if residual else [])]
    size = (output.height, output.width)
    return (
        kernel.weights.shape[1:3] == (1, 1)
        and kernel.stride == (1, 1)
        and kernel.pad_top == kernel.pad_left == 0
        and all((image.height, image.width) == size for image in images)
        and all(context.place(image).lines_touch(image.width) for image in images)
        and size[0] * context.place(kernel.input).line <= MAX_LINE_BYTES
    )


def _weight_blocks(
    kernel: ConvKernel, groups: list[Group], channel: int, context: Context
) -> list[Block]:
    return [
        Block(
            space=isa.Space.WEIGHTS,
            words=weight_words(context.config, kernel, group, channel),
        )
        for group in groups
    ]


def _resident(
    blocks: dict[int, list[Block]], params: dict[int, tuple[Block, int]], context: Context
) -> bool:
    """Whether a kernel's weights and parameters may stay in half of their memories."""
    weights = sum(len(block.words) for part in blocks.values() for block in part)
    param_words = sum(len(block.words) for block in {block for block, _ in params.values()})
    return (
        weights <= context.config.weight_words // 2
        and param_words <= context.config.param_words // 2
    )


def _reusable(blocks: dict[int, list[Block]], context: Context) -> bool:
    """Whether the weights of any column tile stay in their memory from tile to tile.

    Blocks are contiguous, so that up to one of them may not fit behind the others where the ring
    wraps.
    """
    sizes = [[len(block.words) for block in part] for part in blocks.values()]
    most = max(sum(part) + max(part) for part in sizes)
    return most <= context.config.weight_words


def _passes(
    shape: ConvShape, tile: Tile, groups: list[Group], blocks: list[Block], acc: int
) -> Iterator[Item]:
    layer = shape.kernel.layer
    for number, (group, block) in enumerate(zip(groups, blocks, strict=True)):
        yield Item(instruction=shape.geometry(group), layer=layer)
        issue = shape.issue(group, tile, acc=acc, first=number == 0)
        yield Item(instruction=issue, layer=layer, block=block)


def _with_residual(
    instruction: isa.Drain,
    tile: Tile,
    channel: int,
    residual: ResidualConvKernel,
    context: Context,
) -> isa.Drain:
    source = context.place(residual.residual)
    return replace(
        instruction,
        use_residual=1,
        residual=source.at(tile.row, tile.col) + channel,
        residual_row_step=source.line,
        residual_col_step=source.pixel,
    )
