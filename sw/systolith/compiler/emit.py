"""Give each instruction the waits that the bytes it touches ask for.

Every memory has a shadow: per location, the last instruction of each engine that wrote it and that
read it. An instruction must wait for the writers of what it reads, and for the readers and writers
of what it writes, unless its own engine keeps that order.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig
from systolith.arch.extents import Memory
from systolith.arch.order import ENGINES

from .access import Access, Tracker, ordered_by_engine

_WAIT_FIELDS = ("wait_load", "wait_execute", "wait_drain", "wait_store")


class Shadow:
    """Per location of one memory: the count that each engine will have reached after its last use."""

    def __init__(self) -> None:
        self._writes = np.zeros((len(ENGINES), 0), np.int32)
        self._reads = np.zeros((len(ENGINES), 0), np.int32)

    def _grow(self, size: int) -> None:
        missing = size - self._writes.shape[1]
        if missing > 0:
            pad = np.zeros((len(ENGINES), max(missing, self._writes.shape[1])), np.int32)
            self._writes = np.concatenate([self._writes, pad], axis=1)
            self._reads = np.concatenate([self._reads, pad], axis=1)

    def conflicts(self, access: Access) -> NDArray[np.int32]:
        """Return the count that each engine must have reached before the access, int32[4]."""
        if not access.locations.size:
            return np.zeros(len(ENGINES), np.int32)
        self._grow(int(access.locations.max()) + 1)
        result: NDArray[np.int32] = self._writes[:, access.locations].max(axis=1)
        if access.write:
            result = np.maximum(result, self._reads[:, access.locations].max(axis=1))
        return result

    def record(self, access: Access, engine: isa.Engine, count: int) -> None:
        """Note that an engine touches the locations with its `count`-th instruction."""
        target = self._writes if access.write else self._reads
        target[engine, access.locations] = count

    def written(self, locations: NDArray[np.int64]) -> bool:
        """Whether some instruction has written each of the locations."""
        self._grow(int(locations.max(initial=0)) + 1)
        return bool(self._writes[:, locations].any(axis=0).all())


@dataclass(eq=False)
class Emitter:
    """Collects instructions in dispatch order and gives them their waits."""

    config: AcceleratorConfig
    code: list[isa.Instruction] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tracker = Tracker(self.config)
        self._shadows: dict[tuple[Memory, int], Shadow] = {}
        self._dispatched = [0] * len(ENGINES)

    def emit(self, instruction: isa.Instruction, layer: int) -> None:
        """Append one instruction."""
        engine = instruction.ENGINE
        if engine in ENGINES:
            accesses = list(self._tracker.accesses(instruction))
            instruction = replace(instruction, **self._waits(engine, accesses))
            self._record(engine, accesses)
        self.code.append(instruction)
        self.layers.append(layer)

    def _waits(self, engine: isa.Engine, accesses: Iterable[Access]) -> dict[str, int]:
        needed = np.zeros(len(ENGINES), np.int32)
        for access in accesses:
            shadow = self._shadows.setdefault((access.memory, access.region), Shadow())
            conflicts = shadow.conflicts(access)
            if ordered_by_engine(engine, access):
                conflicts[engine] = 0
            needed = np.maximum(needed, conflicts)
        return {
            name: min(isa.NO_WAIT - 1, self._dispatched[other] - int(needed[other]))
            for other, name in zip(ENGINES, _WAIT_FIELDS, strict=True)
            if needed[other]
        }

    def _record(self, engine: isa.Engine, accesses: Iterable[Access]) -> None:
        self._dispatched[engine] += 1
        for access in accesses:
            shadow = self._shadows[access.memory, access.region]
            if access.memory == Memory.SCRATCHPAD and not access.write:
                assert shadow.written(access.locations), "read of bytes that nothing has written"
            shadow.record(access, engine, self._dispatched[engine])

    def to_bytes(self) -> bytes:
        """Return the code."""
        return b"".join(instruction.to_bytes() for instruction in self.code)
