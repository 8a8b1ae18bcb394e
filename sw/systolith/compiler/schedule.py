"""Put the instructions of all engines into one dispatch order.

Instructions of EXECUTE and DRAIN keep the order of the kernels. Loads of weights and parameters run
ahead of the passes that need them, as far as their rings have room and the LOAD queue does not
fill: a full queue would hold up the dispatch of everything behind it.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from systolith.arch import isa
from systolith.arch.config import TABLE_COUNT, TABLE_ENTRIES, AcceleratorConfig
from systolith.arch.errors import AllocationError
from systolith.arch.program import Region

from .allocate import Ring
from .tile import Block, Item

_JOINED_TILES = 32
"""Weight tiles that one load brings together: the LOAD queue counts loads, not bytes."""


_FIRST_BYTES = 512
"""Bytes of the first load ahead; each may be twice as large as the one before."""


@dataclass(kw_only=True, eq=False)
class _Pending:
    """A block still to be loaded, and the position of the first item that reads it."""

    block: Block
    first_use: int
    layer: int


class Scheduler:
    """Orders items and loads.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    constants : bytearray
        Contents of the CONSTANTS region, extended by the blocks in the order of their loads.
    """

    def __init__(self, config: AcceleratorConfig, constants: bytearray) -> None:
        self._config = config
        self._constants = constants
        self._rings = {
            isa.Space.WEIGHTS: Ring(config.weight_words),
            isa.Space.PARAMS: Ring(config.param_words),
            isa.Space.TABLES: Ring(TABLE_COUNT * TABLE_ENTRIES // config.weight_word_bytes),
        }
        # Words with their offset by identity; the entry keeps them, so that no other get theirs.
        self._offsets: dict[int, tuple[NDArray[np.uint8], int]] = {}
        # Loads that may wait in their queue for passes, with room left for those that need not.
        self._ahead = max(1, config.queue_depth - 2)
        self._waiting: deque[int] = deque()
        # The first loads are small: whoever waits for them would wait for what is joined to them.
        self._most = _FIRST_BYTES

    def order(
        self, items: Iterable[Item], preload: Iterable[Item]
    ) -> Iterator[tuple[isa.Instruction, int]]:
        """Yield (instruction, layer) in dispatch order.

        Parameters
        ----------
        items : iterable of Item
            Instructions of EXECUTE, DRAIN and STORE in order.
        preload : iterable of Item
            Loads that come right after the first blocks: the segment's inputs.
        """
        sequence = list(items)
        pending = self._blocks(sequence)
        # The first tile can start, and end, while the rest of the input is still on its way.
        yield from self._load_for(pending, self._first(sequence, isa.Pass))
        yield from self._load_params_for(pending, self._first(sequence, isa.Drain))
        for item in preload:
            # They fill the queue: nothing is loaded ahead before the first tile is on its way.
            self._waiting.append(self._first(sequence, isa.Drain))
            yield item.instruction, item.layer
        for position, item in enumerate(sequence):
            yield from self._load_for(pending, position)
            yield self._place(item), item.layer
            yield from self._load_ahead(pending, position)

    @staticmethod
    def _first(sequence: list[Item], kind: type[isa.Instruction]) -> int:
        """Return the position of the first instruction of a kind, or -1."""
        positions = (n for n, x in enumerate(sequence) if isinstance(x.instruction, kind))
        return next(positions, -1)

    @staticmethod
    def _blocks(sequence: list[Item]) -> deque[_Pending]:
        pending: dict[int, _Pending] = {}
        for position, item in enumerate(sequence):
            if item.block is None:
                continue
            item.block.users += 1
            if id(item.block) not in pending:
                pending[id(item.block)] = _Pending(
                    block=item.block, first_use=position, layer=item.layer
                )
        return deque(pending.values())

    def _load_for(
        self, pending: deque[_Pending], position: int
    ) -> Iterator[tuple[isa.Instruction, int]]:
        """Load every block that items up to `position` read."""
        while pending and pending[0].first_use <= position:
            yield self._load_entry(pending.popleft())

    def _load_params_for(
        self, pending: deque[_Pending], position: int
    ) -> Iterator[tuple[isa.Instruction, int]]:
        """Load the parameters that the item at a position reads, ahead of blocks before them."""
        for entry in pending:
            if entry.first_use == position and entry.block.space == isa.Space.PARAMS:
                pending.remove(entry)
                yield self._load_entry(entry)
                return

    def _load_entry(self, entry: _Pending) -> tuple[isa.Instruction, int]:
        ring = self._rings[entry.block.space]
        if not ring.place(entry.block):
            raise AllocationError(
                f"A tile of {len(entry.block.words)} words finds no room in the "
                f'{entry.block.space.name.lower()} memory of "{self._config.name}", which has '
                f"{ring.words}; use a configuration with a larger one"
            )
        return self._load(entry.block), entry.layer

    def _load_ahead(
        self, pending: deque[_Pending], position: int
    ) -> Iterator[tuple[isa.Instruction, int]]:
        """Load blocks for later items while there is room for them."""
        while self._waiting and self._waiting[0] <= position:
            self._waiting.popleft()
        while pending and len(self._waiting) < self._ahead:
            entries = self._take(pending)
            if not entries:
                return
            for space in self._rings:
                part = [entry for entry in entries if entry.block.space == space]
                if part:
                    self._waiting.append(part[-1].first_use)
                    for load in _joined(self._load(entry.block) for entry in part):
                        yield load, part[0].layer

    def _take(self, pending: deque[_Pending]) -> list[_Pending]:
        """Place and return the next blocks, as many as one load should bring."""
        entries: list[_Pending] = []
        size = 0
        while pending and (not entries or size + pending[0].block.words.size <= self._most):
            if not self._rings[pending[0].block.space].place(pending[0].block):
                break
            entries.append(pending.popleft())
            size += entries[-1].block.words.size
        tile = self._config.rows * self._config.weight_word_bytes
        self._most = min(_JOINED_TILES * tile, 2 * self._most)
        return entries

    def _load(self, block: Block) -> isa.Load:
        """Return the load that brings a block in; its words become constants once."""
        _, offset = self._offsets.setdefault(id(block.words), (block.words, len(self._constants)))
        if offset == len(self._constants):
            self._constants += block.words.tobytes()
        return isa.Load(
            space=block.space,
            region=Region.CONSTANTS,
            offset=offset,
            run=block.words.size,
            total=block.words.size,
            addr=block.addr * self._config.weight_word_bytes,
            segment=block.words.size,
        )

    @staticmethod
    def _place(item: Item) -> isa.Instruction:
        """Put the address of its block into an instruction."""
        if item.block is None:
            return item.instruction
        item.block.users -= 1
        addr = item.block.addr + item.block_offset
        if isinstance(item.instruction, isa.Pass):
            return replace(item.instruction, weight_addr=addr)
        if isinstance(item.instruction, isa.Vector):
            return replace(item.instruction, table=addr // len(item.block.words))
        assert isinstance(item.instruction, isa.Drain)
        return replace(item.instruction, param_addr=addr)


def _joined(loads: Iterable[isa.Load]) -> Iterator[isa.Load]:
    """Yield loads of one space, those joined that follow each other in both memories."""
    last: isa.Load | None = None
    for load in loads:
        if last and (last.offset + last.total, last.addr + last.total) == (load.offset, load.addr):
            total = last.total + load.total
            last = replace(last, run=total, total=total, segment=total)
            continue
        if last:
            yield last
        last = load
    if last:
        yield last
