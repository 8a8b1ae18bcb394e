"""Moves of millions of bytes: what only they reach in the counts of runs, bursts and segments.

A load writes the same few bytes of the scratchpad again and again, a store reads them again and again, at
the same time and elsewhere. Short moves before them let them wait in front of the masters of the bus.
"""

from dataclasses import replace
from typing import Any

import numpy as np

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig
from systolith.bench.differential import Case
from systolith.bench.random_instruction import block
from systolith.bench.random_program import RegionImage

_SOURCE, _TARGET = 1, 2
_RUN_BITS = (19, 21)
"""Bits below the highest one of the lengths of runs."""

_REST_BITS = 17
_NEIGHBORS, _NEIGHBOR_BYTES = 3, 64
_MARGIN = 16


def _long(
    config: AcceleratorConfig, rng: np.random.Generator, item: isa.Load | isa.Store, bits: int
) -> isa.Load | isa.Store:
    """Return a move of one long run and a shorter one, in segments that lie over each other."""
    run = (1 << bits) + int(rng.integers(1 << (bits - 1)))
    rest = int(rng.integers(1, 1 << _REST_BITS))
    most = config.scratchpad_bytes // 2 - _NEIGHBOR_BYTES
    segment = int(rng.integers(most // 2, most))
    fields: dict[str, Any] = {
        "offset": int(rng.integers(config.axi_bytes)),
        "run": run,
        "run_step": run + int(rng.integers(_MARGIN)),
        "total": run + rest,
        "segment": segment,
        "segment_step": 0,
        "group_step": 0,
    }
    return replace(item, **fields)


def long_case(config: AcceleratorConfig, seed: int) -> Case:
    """Return a program of long moves.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    seed : int
        Seed of lengths and bytes.
    """
    rng = np.random.default_rng(seed)
    half, space = config.scratchpad_bytes // 2, isa.Space.SCRATCHPAD
    size = sum((1 << bits) + (1 << (bits - 1)) for bits in _RUN_BITS) + (1 << (_REST_BITS + 1))
    # Stores read what the first load has brought, and the others leave it alone.
    items: list[isa.Instruction] = [
        block(isa.Load, space, _SOURCE, 0, half, half),
        replace(block(isa.Store, space, _TARGET, size, half, _NEIGHBOR_BYTES), wait_load=0),
    ]
    for bits in _RUN_BITS:
        load = _long(config, rng, isa.Load(region=_SOURCE), bits)
        store = _long(config, rng, isa.Store(region=_TARGET, addr=half), bits)
        for n in range(_NEIGHBORS):
            place = half - _NEIGHBOR_BYTES
            items.append(block(isa.Load, space, _SOURCE, n, place, _NEIGHBOR_BYTES))
            items.append(block(isa.Store, space, _TARGET, size + n, half, _NEIGHBOR_BYTES))
        items += [load, store]
    last = {"wait_load": 0, "wait_execute": 0, "wait_drain": 0, "wait_store": 0}
    return Case(
        name=f"long moves of seed {seed} on {config.name}",
        body=tuple(items),
        tail=(
            replace(block(isa.Store, space, _TARGET, size, 0, half), **last),
            isa.Halt(**last),
        ),
        regions=(
            RegionImage(rng.bytes(size), read=True, write=False),
            RegionImage(bytes(size + half), read=False, write=True),
        ),
        dumped={},
    )
