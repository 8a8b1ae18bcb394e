"""Bounds of what instructions touch: exactly the ends of the sets that the scheduler works with."""

import dataclasses

import numpy as np
import pytest

from systolith.arch import isa
from systolith.arch.extents import Extents, Memory, dram_extent, local_extent, windows_extent
from systolith.arch.feeds import meeting
from systolith.arch.presets import PRESETS
from systolith.bench.random_layer import ODD_CONFIGS
from systolith.bench.random_program import random_program
from systolith.compiler.access import Tracker
from systolith.golden import passes
from systolith.golden.memory import Trap
from systolith.golden.moves import dram_offsets, local_addresses

CONFIGS = {"tiny-4x4": PRESETS["tiny-4x4"], **ODD_CONFIGS}
PROGRAMS, STEPS = 4, 60


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_bounds_are_the_ends_of_the_sets_of_locations(config, seed):
    for number in range(PROGRAMS):
        program = random_program(config, np.random.default_rng([seed, number]), STEPS)
        tracker, extents = Tracker(config), Extents(config)
        for item in program.instructions:
            sets = {}
            for access in tracker.accesses(item):
                if access.memory != Memory.DRAM and access.locations.size:
                    key = access.memory, access.write
                    sets.setdefault(key, []).append(access.locations)
            bounds = {}
            for extent in extents.of(item):
                if extent.memory != Memory.DRAM:
                    low, high = bounds.get((extent.memory, extent.write), (1 << 30, -1))
                    span = min(low, extent.low), max(high, extent.high)
                    bounds[extent.memory, extent.write] = span
            sets.pop((Memory.TABLES, False), None)
            if isinstance(item, isa.Pass):
                # That sums are read back before they are written says nothing new.
                sets.pop((Memory.ACC, False), None)
            found = {k: (min(s.min() for s in v), max(s.max() for s in v)) for k, v in sets.items()}
            assert found == bounds, item


def random_move(rng):
    total = int(rng.integers(1, 400))
    run, segment = (int(n) for n in rng.integers(1, total + 1, 2))
    steps = rng.integers(0, 300, 3)
    return isa.Load(
        offset=int(rng.integers(0, 99)),
        run=run,
        run_step=int(steps[0]),
        total=total,
        addr=int(rng.integers(0, 99)),
        segment=segment,
        segment_step=int(steps[1]),
        segments=int(rng.integers(1, 7)),
        group_step=int(steps[2]),
    )


def test_bounds_of_moves_are_those_of_their_bytes(rng):
    for _ in range(500):
        move = random_move(rng)
        offsets, addresses = dram_offsets(move), local_addresses(move)
        assert dram_extent(move) == (offsets.min(), offsets.max()), move
        assert local_extent(move) == (addresses.min(), addresses.max()), move


def random_pass(rng, config):
    def below(high):
        return int(rng.integers(0, high))

    geometry = isa.Geometry(
        mode=isa.FeedMode(below(2)),
        lines=below(9),
        line_bytes=below(90),
        row_lines=below(3),
        row_step=below(200),
        col_step=below(20) * rng.integers(0, 2),
        ky_count=1 + below(4),
        ky_lines=below(3),
        ky_step=below(20) * config.word_bytes,
        kx_count=1 + below(3),
        kx_step=below(30),
        chunk_count=1 + below(3),
        chunk_step=below(20),
        lanes=1 + below(config.cols),
        lanes_last=1 + below(config.cols),
    )
    vectors = 1 + below(12)
    item = isa.Pass(
        addr=below(400) - 100, y=below(12) - 6, x=below(120) - 60, rows=1 + below(4),
        cols=1, line_vectors=vectors, tail=below(32) * below(2),
    )  # fmt: skip
    if rng.random() < 0.5:
        word = config.word_bytes
        geometry = dataclasses.replace(
            geometry, row_step=geometry.row_step // word * word, col_step=word, kx_step=word,
            chunk_step=word,
        )  # fmt: skip
        item = dataclasses.replace(item, addr=item.addr // word * word, x=item.x // word * word)
    return item, geometry


def spans(walk):
    """Return first and last byte of every window that is read, of all feeds."""
    positions = np.arange(walk.stream)
    for feed in range(walk.feeds):
        first, last, count = walk.spans(positions, walk.steps, feed)
        yield from zip(first[count > 0], last[count > 0], strict=True)


@pytest.mark.parametrize("name", ["tiny-4x4", "odd-7x3", "odd-12x10"])
def test_bounds_of_passes_are_those_of_the_golden_walk(rng, name):
    config, seen = CONFIGS[name], 0
    for _ in range(400):
        item, geometry = random_pass(rng, config)
        ends = list(spans(passes.Walk(item, geometry, config)))
        wanted = (min(low for low, _ in ends), max(high for _, high in ends)) if ends else None
        assert windows_extent(item, geometry, config) == wanted, (item, geometry)
        seen += wanted is not None
    assert seen > 100


@pytest.mark.parametrize("name", ["odd-7x3", "odd-12x10", "edge-16x16"])
def test_feeds_that_meet_are_those_that_the_golden_machine_stops(rng, name):
    config = {**PRESETS, **ODD_CONFIGS}[name]
    seen = set()
    for _ in range(600):
        item, geometry = random_pass(rng, config)
        # A tail that ends within a line is looked at as if it filled it.
        item = dataclasses.replace(item, tail=item.tail // item.line_vectors * item.line_vectors)
        found = meeting(item, geometry, config)
        walk = passes.Walk(item, geometry, config)
        try:
            passes._check_feeds(walk, config)
            assert found is None, (item, geometry)
            seen.add(None)
        except Trap as trap:
            # Which of two faults comes first depends on the order in which windows are looked at.
            assert found is not None, (item, geometry)
            seen.add(trap.code)
    assert len(seen) == 3
