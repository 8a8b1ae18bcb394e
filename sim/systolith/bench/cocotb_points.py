"""Parameters of the runs on the pins: which block, how wide, how slow, and who stalls how often."""

import dataclasses
import json
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

READ, WRITE, FETCH, REGISTERS, TOP = "read", "write", "fetch", "registers", "top"

DATA_BITS = (32, 64, 128, 256)
"""Widths of the memory port."""

LITE_BITS = 32

MEMORY_CHANNELS = {
    READ: ("ar", "r"),
    FETCH: ("ar", "r"),
    WRITE: ("aw", "w", "b"),
    TOP: ("ar", "r", "aw", "w", "b"),
    REGISTERS: (),
}
"""Channels of the memory port that a block has."""

CLIENT = "client"
"""Name of the stall of what stands behind a block: scratchpad port, or decoder."""

_LITE_CHANNELS = tuple(f"lite_{name}" for name in ("ar", "r", "aw", "w", "b"))
_MOST = 0.97
_LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9, _MOST)
_LATENCIES = (2, 3, 5, 10, 20, 40, 80, 160)
_JITTERS = (0, 0, 3, 20, 100)
_RANDOM = {REGISTERS: 30, TOP: 4}
_RANDOM_DEFAULT = 10
_CYCLES = {REGISTERS: 8_000, TOP: 7_000}
_CYCLES_DEFAULT = 5_000


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run.

    Parameters
    ----------
    block : str
        What is tested.
    data_bits : int
        Width of its bus.
    number : int
        Number among those of the block and width.
    seed : int
        Seed of every random choice.
    latency, jitter : int
        Cycles from an address (or the last data) to its answer: `latency` to `latency + jitter`, in order.
    stalls : dict of str to float
        Probability, per cycle, that a channel's VALID or READY is withheld, by channel; those of the
        registers are called `lite_...`. Channels not named never stall.
    cycles : int
        Clock cycles after which nothing new is begun.
    """

    block: str
    data_bits: int
    number: int
    seed: int
    latency: int
    jitter: int
    stalls: dict[str, float]
    cycles: int

    @property
    def name(self) -> str:
        """Identifier of the run."""
        return f"{self.block}_{self.data_bits}_{self.number}"

    @property
    def slow(self) -> bool:
        """Whether some channel moves in less than one of five cycles, so that little is asked for."""
        return max(self.stalls.values(), default=0.0) > 0.8

    def to_json(self) -> str:
        """Return the text that :meth:`from_dict` reads."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True)

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Self:
        """Make a run of its fields."""
        return cls(**fields)


def stalls_of(block: str) -> tuple[str, ...]:
    """Return everything that can stall around a block."""
    if block == REGISTERS:
        return _LITE_CHANNELS
    memory = MEMORY_CHANNELS[block]
    return (*memory, *_LITE_CHANNELS) if block == TOP else (*memory, CLIENT)


def points(block: str, data_bits: int, seed: int = 0) -> list[Point]:
    """Return the runs of a block at one width, the same for the same seed.

    The first does not stall; then all channels stall alike, at each level; then each channel alone at
    the highest level; the others are random.

    Parameters
    ----------
    block : str
        Block.
    data_bits : int
        Width.
    seed : int
        Seed of the campaign.
    """
    # Words of a seed must not be negative, and strings have no place in one.
    rng = np.random.default_rng([seed, data_bits, *block.encode()])
    channels = stalls_of(block)
    patterns: list[dict[str, float]] = [{}]
    patterns += [dict.fromkeys(channels, level) for level in (0.3, 0.7, _MOST)]
    patterns += [{channel: _MOST} for channel in channels]
    for _ in range(_RANDOM.get(block, _RANDOM_DEFAULT)):
        patterns.append({c: float(rng.choice((0.0, *_LEVELS))) for c in channels})
    return [
        Point(
            block=block,
            data_bits=data_bits,
            number=number,
            seed=int(rng.integers(1 << 31)),
            latency=int(rng.choice(_LATENCIES)),
            jitter=int(rng.choice(_JITTERS)),
            stalls=stalls,
            cycles=_CYCLES.get(block, _CYCLES_DEFAULT),
        )
        for number, stalls in enumerate(patterns)
    ]


def widths(block: str) -> tuple[int, ...]:
    """Return the widths at which a block is tested."""
    return (LITE_BITS,) if block == REGISTERS else DATA_BITS


def campaign(seed: int = 0) -> list[Point]:
    """Return every run, those that share a simulator behind each other."""
    blocks = (REGISTERS, READ, WRITE, FETCH, TOP)
    return [p for block in blocks for bits in widths(block) for p in points(block, bits, seed)]
