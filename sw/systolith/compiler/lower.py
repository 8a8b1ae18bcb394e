"""Write kernels as instructions without waits, in the order in which each engine executes them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from systolith.arch import isa, numerics
from systolith.arch.config import AcceleratorConfig

from . import tile as tiling
from .fuse import ResidualConvKernel
from .ir import AddKernel, AveragePoolKernel, ConvKernel, Image, Kernel
from .tile import Block, ConvShape, Group, Item, Tile

Addresses = Callable[[str], int]
"""Scratchpad address of a tensor, by name."""

_VECTOR_BYTES = 4096
"""Bytes of one `VECTOR`: the next kernel may start on what the first ones have made."""


@dataclass(kw_only=True, eq=False)
class Lowering:
    """Turns kernels into items; alternates accumulator banks from one tile to the next."""

    config: AcceleratorConfig
    address: Addresses
    bank: int = 0

    def next_bank(self) -> int:
        """Return the first row of the accumulator bank for the next tile."""
        row = self.bank * self.config.acc_rows
        self.bank ^= 1
        return row

    def lower(self, kernel: Kernel) -> Iterator[Item]:
        """Yield the items of one kernel.

        Setup instructions are yielded before each use; the scheduler drops those that change
        nothing.
        """
        if isinstance(kernel, ConvKernel):
            yield from self._conv(kernel, kernel.output, None)
        elif isinstance(kernel, ResidualConvKernel):
            yield from self._conv(kernel.conv, kernel.output, kernel)
        elif isinstance(kernel, AveragePoolKernel):
            yield from self._average_pool(kernel)
        elif isinstance(kernel, AddKernel):
            yield from self._add(kernel)
        else:
            raise TypeError(f"Kernel must be one that the accelerator executes, not {kernel!r}")

    def _conv(
        self, kernel: ConvKernel, output: Image, residual: ResidualConvKernel | None
    ) -> Iterator[Item]:
        shape = ConvShape(config=self.config, kernel=kernel)
        image = replace(output, height=shape.out_height, width=shape.out_width)
        groups = shape.groups()
        channels = list(range(0, output.channels, self.config.cols))
        blocks = {c: self._weight_blocks(kernel, groups, c) for c in channels}
        params = self._param_blocks(kernel, channels)
        tiles = tiling.image_tiles(shape.out_height, shape.out_width, self.config.acc_rows)
        order = [(t, c) for c in channels for t in tiles]
        if self._resident(blocks, params):
            # Lines outermost: the next kernel may start when its first lines are finished.
            order = [(t, c) for t in tiles for c in channels]
        for tile, channel in order:
            acc = self.next_bank()
            yield from self._conv_passes(
                shape, tile, list(zip(groups, blocks[channel], strict=True)), acc
            )
            yield from self._conv_drain(
                kernel, image, tile, channel, acc, params[channel], residual
            )

    def _weight_blocks(self, kernel: ConvKernel, groups: list[Group], channel: int) -> list[Block]:
        return [
            Block(
                space=isa.Space.WEIGHTS,
                words=tiling.weight_words(self.config, kernel, group, channel),
            )
            for group in groups
        ]

    def _param_blocks(
        self, kernel: ConvKernel, channels: list[int]
    ) -> dict[int, tuple[Block, int]]:
        """Return block and word offset of the parameters of each column tile."""
        per_tile = (
            self.config.param_tile_words
            if kernel.requantization.per_channel
            else self.config.bias_words
        )
        per_block = max(1, self.config.param_words // 8 // per_tile)
        result = {}
        for start in range(0, len(channels), per_block):
            part = channels[start : start + per_block]
            words = np.concatenate([tiling.param_words(self.config, kernel, c) for c in part])
            block = Block(space=isa.Space.PARAMS, words=words)
            result.update({c: (block, n * per_tile) for n, c in enumerate(part)})
        return result

    def _resident(
        self, blocks: dict[int, list[Block]], params: dict[int, tuple[Block, int]]
    ) -> bool:
        """Whether a kernel's weights and parameters may stay in half of their memories."""
        weights = sum(len(block.words) for part in blocks.values() for block in part)
        param_words = sum(len(block.words) for block in {block for block, _ in params.values()})
        return (
            weights <= self.config.weight_words // 2 and param_words <= self.config.param_words // 2
        )

    def _conv_passes(
        self, shape: ConvShape, tile: Tile, groups: list[tuple[Group, Block]], acc: int
    ) -> Iterator[Item]:
        base = self.address(shape.kernel.input.tensor)
        for number, (group, block) in enumerate(groups):
            yield Item(instruction=shape.geometry(group), layer=shape.kernel.layer)
            issue = shape.issue(group, tile, base=base, acc=acc, first=number == 0)
            yield Item(instruction=issue, layer=shape.kernel.layer, block=block)

    def _conv_drain(
        self,
        kernel: ConvKernel,
        image: Image,
        tile: Tile,
        channel: int,
        acc: int,
        params: tuple[Block, int],
        residual: ResidualConvKernel | None,
    ) -> Iterator[Item]:
        yield Item(instruction=tiling.quantize(kernel.requantization), layer=kernel.layer)
        lanes = min(self.config.cols, image.channels - channel)
        instruction = tiling.drain(
            tile, image, base=self.address(image.tensor), acc=acc, channel=channel, lanes=lanes
        )
        layer = kernel.layer
        if residual is not None:
            layer = residual.layer
            yield Item(instruction=_elementwise(residual.parameters), layer=layer)
            shift = self.address(residual.residual.tensor) - self.address(image.tensor)
            instruction = replace(
                instruction,
                use_residual=1,
                residual=instruction.addr + shift,
                residual_row_step=instruction.row_step,
                residual_col_step=instruction.col_step,
            )
        block, offset = params
        instruction = replace(instruction, params=isa.ParamMode.LOAD)
        yield Item(instruction=instruction, layer=layer, block=block, block_offset=offset)

    def _average_pool(self, kernel: AveragePoolKernel) -> Iterator[Item]:
        lanes_most = min(self.config.rows, self.config.cols)
        regions = list(tiling.pool_regions(kernel))
        for channel in range(0, kernel.output.channels, lanes_most):
            lanes = min(lanes_most, kernel.output.channels - channel)
            block = Block(space=isa.Space.WEIGHTS, words=tiling.identity_words(self.config, lanes))
            for region in regions:
                yield from self._pool_region(kernel, region, channel, lanes, block)

    def _pool_region(
        self,
        kernel: AveragePoolKernel,
        region: tiling.PoolRegion,
        channel: int,
        lanes: int,
        block: Block,
    ) -> Iterator[Item]:
        quantize = isa.Quantize(
            rounding=isa.Rounding.AVERAGE,
            multiplier=numerics.average_multiplier(region.count),
            low=kernel.low,
            high=kernel.high,
        )
        base = self.address(kernel.output.tensor)
        window_y, window_x = kernel.window
        single = region.rows == region.cols == 1 and window_y * window_x <= self.config.acc_rows
        for part in tiling.image_tiles(region.rows, region.cols, self.config.acc_rows):
            tile = replace(part, row=part.row + region.row, col=part.col + region.col)
            acc = self.next_bank()
            yield from self._pool_pass(kernel, tile, channel, lanes, block, acc, single)
            yield Item(instruction=quantize, layer=kernel.layer)
            yield Item(
                instruction=tiling.drain(
                    tile,
                    kernel.output,
                    base=base,
                    acc=acc,
                    channel=channel,
                    lanes=lanes,
                    reduce=window_y * window_x if single else 1,
                ),
                layer=kernel.layer,
            )

    def _pool_pass(
        self,
        kernel: AveragePoolKernel,
        tile: Tile,
        channel: int,
        lanes: int,
        block: Block,
        acc: int,
        single: bool,
    ) -> Iterator[Item]:
        """Stream the windows: as accumulator rows of their own if there is one window, else as steps."""
        image = kernel.input
        pitch = image.width * image.channels
        (window_y, window_x), (stride_y, stride_x) = kernel.window, kernel.stride
        geometry = isa.Geometry(
            lines=image.height,
            line_bytes=pitch,
            row_lines=1 if single else stride_y,
            row_step=pitch if single else stride_y * pitch,
            col_step=image.channels if single else stride_x * image.channels,
            ky_count=1 if single else window_y,
            ky_lines=1,
            ky_step=pitch,
            kx_count=1 if single else window_x,
            kx_step=image.channels,
            chunk_step=lanes,
            lanes=lanes,
            lanes_last=lanes,
            weight_rows=lanes,
            weight_rows_last=lanes,
        )
        y = tile.row * stride_y - kernel.pad_top
        x = (tile.col * stride_x - kernel.pad_left) * image.channels + channel
        cols = window_x if single else tile.cols
        issue = isa.Pass(
            weights=isa.WeightMode.ONCE,
            first_op=isa.AccOp.WRITE,
            next_op=isa.AccOp.ADD,
            addr=self.address(image.tensor) + y * pitch + x,
            y=y,
            x=x,
            acc=acc,
            rows=window_y if single else tile.rows,
            cols=cols,
            line_vectors=cols,
        )
        yield Item(instruction=geometry, layer=kernel.layer)
        yield Item(instruction=issue, layer=kernel.layer, block=block)

    def _add(self, kernel: AddKernel) -> Iterator[Item]:
        yield Item(instruction=_elementwise(kernel.parameters), layer=kernel.layer)
        total = kernel.output.nbytes
        for start in range(0, total, _VECTOR_BYTES):
            yield Item(
                instruction=isa.Vector(
                    op=isa.VectorOp.ELEMENTWISE,
                    length=min(_VECTOR_BYTES, total - start),
                    addr=self.address(kernel.output.tensor) + start,
                    a=self.address(kernel.a.tensor) + start,
                    b=self.address(kernel.b.tensor) + start,
                ),
                layer=kernel.layer,
            )


def _elementwise(parameters: Mapping[str, int]) -> isa.Elementwise:
    return isa.Elementwise(op=isa.ElementwiseOp.ADD, **parameters)


def drop_repeated_setups(items: Iterator[Item]) -> Iterator[Item]:
    """Drop setup instructions that leave their engine's state as it is."""
    state: dict[isa.Opcode, isa.Instruction] = {}
    for item in items:
        opcode = item.instruction.OPCODE
        if opcode in (isa.Opcode.GEOMETRY, isa.Opcode.QUANTIZE, isa.Opcode.ELEMENTWISE):
            if state.get(opcode) == item.instruction:
                continue
            state[opcode] = item.instruction
        yield item
