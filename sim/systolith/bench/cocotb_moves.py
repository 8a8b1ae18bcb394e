"""Random moves with many short bursts, and programs of them that keep both directions of a bus busy."""

import random
from dataclasses import replace
from typing import Any

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig, ceil_div
from systolith.bench.differential import Case
from systolith.bench.random_program import RegionImage

Move = isa.Load | isa.Store

DATA, SCRATCH = 1, 2
"""Regions of a program of moves: what is loaded, and where it is stored."""

_LONG_SHARE = 0.15
_WHOLE_SHARE = 0.3
_MOST_RUN = 48
_GAP = 30


def _split(rng: random.Random, limit: int, most: int, least: int = 1) -> tuple[int, int, int, int]:
    """Draw total, run, run step and extent of a walk over at most `limit` units, without overlap."""
    while True:
        total = rng.randint(1, most)
        fewest = max(least, 1)
        run = total if rng.random() < _WHOLE_SHARE else rng.randint(fewest, max(fewest, most // 4))
        run = min(run, total)
        step = run + rng.randint(0, _GAP)
        extent = ceil_div(total, run) * step
        if extent <= limit:
            return total, run, step, extent


def draw_move(
    rng: random.Random,
    kind: type[Move],
    *,
    region: int,
    region_bytes: int,
    local: range,
    most: int,
    space: isa.Space = isa.Space.SCRATCHPAD,
    unit: int = 1,
) -> Move:
    """Return a random legal move that touches no byte twice.

    Parameters
    ----------
    rng : random.Random
        Source of every choice.
    kind : type
        `Load` or `Store`.
    region, region_bytes : int
        Region in DRAM, and its bytes.
    local : range
        Local bytes that may be touched.
    most : int
        Bytes moved at most; one of some moves is four times as long.
    space : Space
        Local memory.
    unit : int
        What every address and count is a multiple of.
    """
    most = 4 * most if rng.random() < _LONG_SHARE else most
    most = max(1, min(most, len(local) // 2) // unit)
    total, run, run_step, extent = _split(rng, region_bytes // unit, most)
    while True:
        segment = total if rng.random() < _WHOLE_SHARE else rng.randint(1, min(total, _MOST_RUN))
        segment_step, segments = segment + rng.randint(0, 9), rng.randint(1, 8)
        group_step = segments * segment_step + rng.randint(0, 9)
        length = ceil_div(total, segment * segments) * group_step
        if length <= len(local) // unit:
            break
    return kind(
        space=space,
        region=region,
        offset=rng.randint(0, region_bytes // unit - extent) * unit,
        run=run * unit,
        run_step=run_step * unit,
        total=total * unit,
        addr=local.start + rng.randint(0, len(local) // unit - length) * unit,
        segment=segment * unit,
        segment_step=segment_step * unit,
        segments=segments,
        group_step=group_step * unit,
    )


def program_of_moves(
    config: AcceleratorConfig, seed: int, *, groups: int, most: int, region_bytes: int
) -> Case:
    """Return a program that loads one half of the scratchpad while it stores the other.

    The stores of a group wait for the loads of the group before, the loads for the stores that read
    their half; nothing else waits.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    seed : int
        Seed of every choice.
    groups : int
        Groups of some loads and some stores.
    most : int
        Bytes of a move, as of :func:`draw_move`.
    region_bytes : int
        Bytes of either region.
    """
    rng = random.Random(seed)
    half = config.scratchpad_bytes // 2
    body: list[isa.Instruction] = []

    def draw(kind: type[Move], region: int, side: int) -> Move:
        local = range(side * half, (side + 1) * half)
        return draw_move(
            rng, kind, region=region, region_bytes=region_bytes, local=local, most=most
        )

    for group in range(groups):
        loads = rng.randint(1, 4)
        body += [
            replace(draw(isa.Load, DATA, group % 2), wait_store=0 if group else isa.NO_WAIT)
            for _ in range(loads)
        ]
        body += [
            replace(draw(isa.Store, SCRATCH, 1 - group % 2), wait_load=loads)
            for _ in range(rng.randint(1, 3))
        ]
    return Case(
        name=f"moves of seed {seed}, {groups} groups, on {config.name}",
        body=tuple(body),
        tail=(isa.Halt(),),
        regions=(
            RegionImage(rng.randbytes(region_bytes), read=True, write=False),
            RegionImage(bytes(region_bytes), read=False, write=True),
        ),
        dumped={},
    )


def program_that_copies(config: AcceleratorConfig, rng: random.Random, size: int) -> Case:
    """Return a program that loads some bytes to a random place and stores them at another.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    rng : random.Random
        Source of bytes and places.
    size : int
        Bytes.
    """
    addr, offset = rng.randint(0, config.scratchpad_bytes - size), rng.randint(0, _GAP)
    one: dict[str, Any] = {
        "run": size,
        "run_step": size,
        "total": size,
        "addr": addr,
        "segment": size,
    }
    return Case(
        name=f"copy of {size} bytes on {config.name}",
        body=(
            isa.Load(region=DATA, **one),
            isa.Store(region=SCRATCH, offset=offset, wait_load=0, **one),
        ),
        tail=(isa.Halt(),),
        regions=(
            RegionImage(rng.randbytes(size), read=True, write=False),
            RegionImage(bytes(size + _GAP), read=False, write=True),
        ),
        dumped={},
    )


def program_that_fills(config: AcceleratorConfig, rng: random.Random) -> Case:
    """Return a program that loads the whole scratchpad with random bytes.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    rng : random.Random
        Source of the bytes.
    """
    size = config.scratchpad_bytes
    return Case(
        name=f"fill on {config.name}",
        body=(isa.Load(region=DATA, run=size, run_step=size, total=size, segment=size),),
        tail=(isa.Halt(),),
        regions=(RegionImage(rng.randbytes(size), read=True, write=False),),
        dumped={},
    )
