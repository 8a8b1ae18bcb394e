"""Programs in which every wait matters: bytes go through chains of engines that wait for each other.

A chain begins with a load and ends with the store of what was loaded. Between them each instruction
waits for the one before it in the chain, whatever its engine, and for nothing else: if one wait ended
early, the store would move what was there before. Instructions that nobody waits for follow those of
the chain, so that waits lag behind what was given to an engine; and waits ask for more instructions
than there were, which is to say for nothing.
"""

from dataclasses import replace

import numpy as np

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig
from systolith.bench.differential import Case
from systolith.bench.random_instruction import block
from systolith.bench.random_program import RegionImage

CHAINS = 150
"""Chains of a program."""

_SOURCE, _TARGET = 1, 2
_MOST_LINKS, _MOST_LAG = 3, 5
_LONG_LAG = 150
"""More instructions than engines and queues hold."""

_WAITS = {
    isa.Engine.LOAD: "wait_load",
    isa.Engine.EXECUTE: "wait_execute",
    isa.Engine.DRAIN: "wait_drain",
    isa.Engine.STORE: "wait_store",
}
_ENGINES = tuple(_WAITS)


class _Chains:
    """One program in the making.

    Pieces of the chains are behind each other in the scratchpad, before two places for instructions
    that only take time: one that is written, and one that is read.
    """

    def __init__(self, config: AcceleratorConfig, rng: np.random.Generator, count: int) -> None:
        self._rng = rng
        self._size = config.axi_bytes
        self.count = min(count, config.scratchpad_bytes // self._size - 2)
        self._written = self.count * self._size
        self._read = self._written + self._size
        self.items: list[isa.Instruction] = []

    def _integer(self, most: int) -> int:
        return int(self._rng.integers(most + 1))

    def _link(self, engine: isa.Engine) -> list[isa.Instruction]:
        """Return instructions of an engine that change nothing; the first one is to wait."""
        size, space, written = self._size, isa.Space.SCRATCHPAD, self._written
        items: dict[isa.Engine, tuple[list[isa.Instruction], ...]] = {
            isa.Engine.LOAD: ([block(isa.Load, space, _SOURCE, 0, written, size)],),
            isa.Engine.EXECUTE: ([isa.Geometry()], [isa.Pass()], [isa.Geometry(), isa.Pass()]),
            isa.Engine.DRAIN: (
                [isa.Quantize()],
                [isa.Elementwise()],
                [isa.Vector(length=size, a=written, addr=written)],
                [isa.Drain(addr=written, use_table=1)],
            ),
            isa.Engine.STORE: (
                [block(isa.Store, space, _TARGET, self.count * size, self._read, size)],
            ),
        }
        choices = items[engine]
        return choices[self._integer(len(choices) - 1)]

    def _append(self, item: isa.Instruction, behind: isa.Engine | None, lag: int) -> None:
        """Append an instruction that waits for one engine; or, now and then, long ago for others."""
        waits = {
            name: _LONG_LAG + self._integer(isa.NO_WAIT - _LONG_LAG) for name in _WAITS.values()
        }
        if behind is not None:
            waits[_WAITS[behind]] = lag
        self.items.append(replace(item, **waits))

    def _follow(self, engine: isa.Engine) -> int:
        """Append instructions that the chain does not need; return how many."""
        count = self._integer(_MOST_LAG)
        for _ in range(count):
            self._append(self._link(engine)[0], None, 0)
        return count

    def add(self, number: int) -> None:
        """Append a chain."""
        size, space = self._size, isa.Space.SCRATCHPAD
        place = number * size
        self._append(block(isa.Load, space, _SOURCE, place, place, size), None, 0)
        behind = isa.Engine.LOAD
        for _ in range(self._integer(_MOST_LINKS)):
            lag = self._follow(behind)
            others = [engine for engine in _ENGINES if engine is not behind]
            engine = others[self._integer(len(others) - 1)]
            first, *rest = self._link(engine)
            self._append(first, behind, lag)
            for item in rest:
                self._append(item, None, 0)
            behind = engine
        if behind is isa.Engine.STORE:
            return self._append(block(isa.Store, space, _TARGET, place, place, size), None, 0)
        self._append(
            block(isa.Store, space, _TARGET, place, place, size), behind, self._follow(behind)
        )


def wait_case(config: AcceleratorConfig, seed: int, count: int = CHAINS) -> Case:
    """Return a program of chains.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    seed : int
        Seed of the chains.
    count : int
        Chains, at most; the scratchpad must have room for them.
    """
    rng = np.random.default_rng(seed)
    chains = _Chains(config, rng, count)
    for number in range(chains.count):
        chains.add(number)
    size = (chains.count + 1) * config.axi_bytes
    last = dict.fromkeys(_WAITS.values(), 0)
    return Case(
        name=f"chains of seed {seed} on {config.name}",
        body=tuple(chains.items),
        tail=(isa.Halt(**last),),
        regions=(
            RegionImage(rng.bytes(size), read=True, write=False),
            RegionImage(bytes(size), read=False, write=True),
        ),
        dumped={},
    )
