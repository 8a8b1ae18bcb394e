"""Drains of sums of every size, with scales that bring each of them to a byte.

Random programs and models have sums of some 2^14 and scales to match. Here sums are
biases of up to 2^31, so that every bit of the requantizers is at work, and multipliers are such that
it shows: of few bits, so that one of them decides, or near ties.
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from systolith.arch import float32, isa, numerics
from systolith.arch.config import AcceleratorConfig
from systolith.bench.differential import Case
from systolith.bench.random_instruction import WAIT_FOR_ALL, block
from systolith.bench.random_program import RegionImage, dump

SETS = 600
"""Parameter sets of a program."""

_PARAMS, _MEMORY, _SUMS = 1, 2, 3
_BYTE_BITS = 7
_MOST_SHIFT = 30
_SPARSE_SHARE, _TIE_SHARE, _BEYOND_SHARE = 0.5, 0.4, 0.3
_LOWER_SHARE, _LARGEST_SHARE, _HALF_ULP_SHARE, _BESIDE_SHARE = 0.3, 0.2, 0.2, 0.2

Ints = NDArray[np.int64]


def _sparse(rng: np.random.Generator, sizes: Ints) -> Ints:
    """Return positive numbers of these bit lengths, at most three of whose bits are ones."""
    ones = rng.random((2, sizes.size)) < _LOWER_SHARE
    lower = ones.astype(np.int64) << rng.integers(0, sizes, (2, sizes.size))
    result: Ints = lower[0] | lower[1] | np.int64(1) << (sizes - 1)
    return result


def _sums(rng: np.random.Generator, sizes: Ints) -> Ints:
    """Return sums of these bit lengths: of any bits, or of few."""
    dense = rng.integers(0, (np.int64(1) << sizes) - 1, endpoint=True)
    some = np.where(rng.random(sizes.size) < _SPARSE_SHARE, _sparse(rng, sizes), dense)
    result: Ints = some * rng.choice([-1, 1], sizes.size)
    return result


def _scales(
    rng: np.random.Generator, sums: Ints, sizes: Ints, rounding: isa.Rounding
) -> tuple[Ints, Ints]:
    """Return multipliers and shifts that bring sums to bytes or beyond, near ties or by few bits."""
    count, fewer = sums.size, np.where(rng.random(sums.size) < _SPARSE_SHARE, 31, 0)
    bits = np.maximum(fewer, rng.integers(1, 32, count))
    wanted = rng.integers(1, 256, count) + 0.5
    tie = rng.random(count) < _TIE_SHARE
    if rounding == isa.Rounding.FLOAT32:
        size = _BYTE_BITS + rng.integers(-1, 2, count) - sizes
        some = np.ldexp(_sparse(rng, np.full(count, 24)).astype(float), size - 24)
        exact = np.where(tie, wanted / np.maximum(np.abs(sums), 1), some)
        ulps = rng.integers(-1, 2, count)
        return np.array([float32.to_bits(float(number)) for number in exact]) + ulps, size
    beyond = np.where(rng.random(count) < _BEYOND_SHARE, rng.integers(2, 32, count), 0)
    fitting = _BYTE_BITS + rng.integers(-1, 2, count) - sizes + 31 - bits
    shifts = np.clip(fitting + beyond, -31, _MOST_SHIFT)
    dense = rng.integers(np.int64(1) << (bits - 1), np.int64(1) << bits)
    some = np.where(rng.random(count) < _SPARSE_SHARE, _sparse(rng, bits), dense)
    exact = np.rint(np.ldexp(wanted, 31 - shifts) / np.maximum(np.abs(sums), 1)).astype(np.int64)
    fits = tie & (exact < numerics.INT32_MAX)
    return np.where(fits, exact + rng.integers(-1, 2, count), some), shifts


def _half_ulps() -> tuple[tuple[int, float], ...]:
    """Return sums and factors whose products are half a bit of a significand beside a tie."""
    result = []
    for tie in range(1, 256, 2):
        step = float32.SIGNIFICAND_BITS + 1 - tie.bit_length()
        for number in ((tie << step) - 1, (tie << step) + 1):
            sums = [n for n in range(3, 256, 2) if number % n == 0]
            result += [(n, math.ldexp(number // n, -step - 1)) for n in sums]
    return tuple(result)


_HALF_ULPS = _half_ulps()


def _put_half_ulps(rng: np.random.Generator, sums: Ints, multipliers: Ints) -> None:
    """Replace some sums and FLOAT32 multipliers by such."""
    for place in np.flatnonzero(rng.random(sums.size) < _HALF_ULP_SHARE):
        number, factor = _HALF_ULPS[int(rng.integers(len(_HALF_ULPS)))]
        sums[place] = number * int(rng.choice([-1, 1])) << int(rng.integers(0, 8))
        multipliers[place] = float32.to_bits(factor)


def _put_beside_ties(rng: np.random.Generator, sums: Ints, multipliers: Ints) -> None:
    """Replace some sums and FLOAT32 multipliers by those of a tie and one lower bit, any of them."""
    for place in np.flatnonzero(rng.random(sums.size) < _BESIDE_SHARE):
        below = int(rng.integers(2, float32.SIGNIFICAND_BITS - _BYTE_BITS))
        tie = (2 * int(rng.integers(1 << _BYTE_BITS)) + 1) << (below - 1)
        sums[place] = (tie + (1 << int(rng.integers(below - 1)))) * int(rng.choice([-1, 1]))
        multipliers[place] = float32.to_bits(2.0**-below)


def _parameters(
    config: AcceleratorConfig, rng: np.random.Generator, rounding: isa.Rounding, average: int
) -> bytes:
    """Return a parameter set whose sums come near to the ends of a byte, most of them inside.

    AVERAGE has one multiplier for all; half of its sums are near ties.
    """
    count = config.bias_words * config.weight_word_bytes // 4
    sizes = np.where(rng.random(count) < _LARGEST_SHARE, 31, rng.integers(1, 32, count))
    biases = _sums(rng, sizes)
    if rounding == isa.Rounding.AVERAGE:
        ties = np.rint((rng.integers(-128, 128, count) + 0.5) * 2.0**31 / average).astype(np.int64)
        ties = np.clip(ties, numerics.INT32_MIN, numerics.INT32_MAX)
        biases = np.where(rng.random(count) < _TIE_SHARE, ties, biases)
    multipliers, shifts = _scales(rng, biases, sizes, rounding)
    if rounding == isa.Rounding.FLOAT32:
        _put_half_ulps(rng, biases, multipliers)
        _put_beside_ties(rng, biases, multipliers)
    columns = config.shift_words * config.weight_word_bytes
    fitting = np.resize(shifts[: config.cols], columns)
    return b"".join(
        part.tobytes()
        for part in (biases.astype("<i4"), multipliers.astype("<i4"), fitting.astype("i1"))
    )


def _setting(
    config: AcceleratorConfig, rng: np.random.Generator, number: int, average: int
) -> tuple[isa.Quantize, isa.Drain]:
    """Return a quantization of any rounding, and a drain of any accumulator row."""
    rounding = isa.Rounding(number % len(isa.Rounding))
    quantize = isa.Quantize(
        rounding=rounding,
        per_channel=int(rounding != isa.Rounding.AVERAGE),
        multiplier=average,
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
        addr=number * config.cols,
    )
    return quantize, drain


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
        # Averages of a power of two have ties.
        terms = int(rng.choice([rng.integers(1, 1025), 1 << rng.integers(1, 11)]))
        average = numerics.average_multiplier(terms)
        quantize, drain = _setting(config, rng, n, average)
        data += _parameters(config, rng, quantize.rounding, average)
        slot = n % slots
        load = block(isa.Load, isa.Space.PARAMS, _PARAMS, n * size, slot * size, size)
        drain = replace(drain, param_addr=slot * config.param_tile_words)
        items += [replace(item, **WAIT_FOR_ALL) for item in (load, quantize, drain)]
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
