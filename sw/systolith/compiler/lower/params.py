"""Requantization parameters as words of the parameter memory and as `QUANTIZE`."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig

from ..ir import Int64Array, Requantization
from ..tile import Block


def param_words(
    config: AcceleratorConfig, bias: Int64Array, requantization: Requantization, channel: int
) -> NDArray[np.uint8]:
    """Return the parameter words of the column tile that starts at `channel`; see `DRAIN`."""
    part = slice(channel, min(channel + config.cols, len(bias)))

    def words(values: NDArray[np.int64], dtype: str, count: int) -> NDArray[np.uint8]:
        raw = np.zeros(count * config.weight_word_bytes, np.uint8)
        data = values.astype(dtype).view(np.uint8)
        raw[: data.size] = data
        return raw.reshape(count, config.weight_word_bytes)

    parts = [words(bias[part], "<i4", config.bias_words)]
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


def param_blocks(
    config: AcceleratorConfig,
    bias: Int64Array,
    requantization: Requantization,
    channels: list[int],
) -> dict[int, tuple[Block, int]]:
    """Return block and word offset of the parameters of each column tile, by its first channel."""
    per_tile = config.param_tile_words if requantization.per_channel else config.bias_words
    per_block = max(1, config.param_words // 8 // per_tile)
    result = {}
    for start in range(0, len(channels), per_block):
        part = channels[start : start + per_block]
        words = np.concatenate([param_words(config, bias, requantization, c) for c in part])
        block = Block(space=isa.Space.PARAMS, words=words)
        result.update({c: (block, n * per_tile) for n, c in enumerate(part)})
    return result


def renewed(params: dict[int, tuple[Block, int]]) -> dict[int, tuple[Block, int]]:
    """Return new blocks of the same words, shared as before: the old ones are no longer loaded."""
    fresh = {id(block): replace(block) for block, _ in params.values()}
    return {channel: (fresh[id(block)], offset) for channel, (block, offset) in params.items()}
