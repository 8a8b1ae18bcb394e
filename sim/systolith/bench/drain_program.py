"""Drains of sums of every size, with scales that bring each of them to a byte.

Random programs and models have sums of some 2^14 and scales to match. Here sums are biases of up to
2^31, so that every bit of the requantizers is at work.
"""

from dataclasses import replace

import numpy as np

from systolith.arch import float32, isa, numerics
from systolith.arch.config import AcceleratorConfig
from systolith.bench.differential import Case
from systolith.bench.random_instruction import WAIT_FOR_ALL, block
from systolith.bench.random_program import RegionImage, dump

SETS = 200
"""Parameter sets of a program."""

_PARAMS, _MEMORY, _SUMS = 1, 2, 3
_BYTE_BITS = 7
_MOST_SHIFT = 30


def _parameters(
    config: AcceleratorConfig, rng: np.random.Generator, rounding: isa.Rounding
) -> bytes:
    """Return a parameter set whose sums come near to the ends of a byte, most of them inside."""
    count = config.bias_words * config.weight_word_bytes // 4
    sizes = rng.integers(1, 32, count)
    biases = rng.integers(0, (1 << sizes) - 1, endpoint=True) * rng.choice([-1, 1], count)
    shifts = np.clip(_BYTE_BITS + rng.integers(-1, 2, count) - sizes, -31, _MOST_SHIFT)
    if rounding == isa.Rounding.FLOAT32:
        numbers = np.ldexp(rng.uniform(0.5, 1.0, count), shifts)
        multipliers = np.array([float32.to_bits(float(number)) for number in numbers])
    else:
        multipliers = rng.integers(1 << 30, numerics.INT32_MAX, count, endpoint=True)
    columns = config.shift_words * config.weight_word_bytes
    fitting = np.resize(shifts[: config.cols], columns)
    return b"".join(
        part.tobytes()
        for part in (biases.astype("<i4"), multipliers.astype("<i4"), fitting.astype("i1"))
    )


def drain_case(config: AcceleratorConfig, seed: int) -> Case:
    """Return a program of :data:`SETS` drains of one vector each, of sums that are all bias.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    seed : int
        Seed of parameters and roundings.
    """
    rng = np.random.default_rng(seed)
    size = config.param_tile_words * config.weight_word_bytes
    slots = config.param_words // config.param_tile_words
    data, items = b"", list[isa.Instruction]()
    for n in range(SETS):
        rounding = isa.Rounding(n % len(isa.Rounding))
        channels = rounding != isa.Rounding.AVERAGE
        data += _parameters(config, rng, rounding)
        slot = n % slots
        quantize = isa.Quantize(
            rounding=rounding,
            per_channel=int(channels),
            multiplier=numerics.average_multiplier(int(rng.integers(1, 1024))),
            shift=-int(rng.integers(0, 24)),
            zero_point=int(rng.integers(-128, 128)),
            low=-128,
            high=127,
        )
        drain = isa.Drain(
            acc=int(rng.integers(2 * config.acc_rows)),
            lanes=config.cols,
            lanes_last=config.cols,
            params=isa.ParamMode.LOAD,
            param_addr=slot * config.param_tile_words,
            addr=n * config.cols,
        )
        load = block(isa.Load, isa.Space.PARAMS, _PARAMS, n * size, slot * size, size)
        items += [
            replace(load, **WAIT_FOR_ALL),
            replace(quantize, **WAIT_FOR_ALL),
            replace(drain, **WAIT_FOR_ALL),
        ]
    sums = 2 * config.acc_rows * config.cols * 4
    return Case(
        name=f"drains of seed {seed} on {config.name}",
        body=tuple(items),
        tail=tuple(dump(config, _MEMORY, _SUMS)),
        regions=(
            RegionImage(data, read=True, write=False),
            RegionImage(bytes(config.scratchpad_bytes), read=False, write=True),
            RegionImage(bytes(sums), read=False, write=True),
        ),
        dumped={_MEMORY: "scratchpad", _SUMS: "accumulators"},
    )
