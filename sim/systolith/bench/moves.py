"""What LOAD and STORE must move, byte by byte, and random instructions to try them with."""

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from systolith.arch.isa import Load, Store

_Move = TypeVar("_Move", Load, Store)


def region_offsets(move: Load | Store) -> Iterator[int]:
    """Yield the offset in the region of each byte moved, in order."""
    for position in range(move.total):
        run, byte = divmod(position, move.run)
        yield move.offset + run * move.run_step + byte


def local_addresses(move: Load | Store) -> Iterator[int]:
    """Yield the local address of each byte moved, in order."""
    for position in range(move.total):
        segment, byte = divmod(position, move.segment)
        group, segment = divmod(segment, move.segments)
        yield move.addr + group * move.group_step + segment * move.segment_step + byte


def random_move(
    kind: type[_Move], rng: random.Random, *, region_bytes: int, local_bytes: int, unit: int = 1
) -> _Move:
    """Return a random move inside its region and its memory that touches no local byte twice.

    Parameters
    ----------
    kind : type
        `Load` or `Store`.
    rng : random.Random
        Source of randomness.
    region_bytes, local_bytes : int
        Sizes that it must stay in.
    unit : int
        Every address, size and step is a multiple of it.
    """

    def some(largest: int, smallest: int = 1) -> int:
        scale = rng.choice((4, 40, 400))
        return unit * rng.randint(smallest, max(smallest, min(scale, largest // unit)))

    while True:
        run, segment, total = some(1 << 12), some(1 << 12), some(1 << 10)
        segments = rng.randint(1, 4)
        segment_step = segment + some(64, 0)
        group_step = segments * segment_step + some(64, 0)
        move = kind(
            run=run,
            run_step=run + some(256, 0),
            total=total,
            segment=segment,
            segment_step=segment_step,
            segments=segments,
            group_step=group_step,
        )
        extent = max(region_offsets(move)) + 1
        local_extent = max(local_addresses(move)) + 1
        if extent <= region_bytes and local_extent <= local_bytes:
            return replace(
                move,
                offset=unit * rng.randint(0, (region_bytes - extent) // unit),
                addr=unit * rng.randint(0, (local_bytes - local_extent) // unit),
            )
