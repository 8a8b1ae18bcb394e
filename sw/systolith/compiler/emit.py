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
from systolith.arch.extents import Memory, sizes
from systolith.arch.order import ENGINES

from .access import Access, Locations, Tracker, ordered_by_engine

_WAIT_FIELDS = ("wait_load", "wait_execute", "wait_drain", "wait_store")


class Shadow:
    """Per location of one memory: the count that each engine will have reached after its last use.

    Parameters
    ----------
    size : int
        Locations to begin with; more are added as they are touched.
    """

    def __init__(self, size: int = 0) -> None:
        self._writes = np.zeros((len(ENGINES), size), np.int32)
        self._uses = np.zeros((len(ENGINES), size), np.int32)

    def _cover(self, locations: Locations) -> None:
        missing = int(locations.max(initial=-1)) + 1 - self._writes.shape[1]
        if missing > 0:
            pad = np.zeros((len(ENGINES), max(missing, self._writes.shape[1])), np.int32)
            self._writes = np.concatenate([self._writes, pad], axis=1)
            self._uses = np.concatenate([self._uses, pad], axis=1)

    def conflicts(self, access: Access) -> NDArray[np.int32]:
        """Return the count that each engine must have reached before the access, int32[4]."""
        self._cover(access.locations)
        earlier = self._uses if access.write else self._writes
        result: NDArray[np.int32] = earlier[:, access.locations].max(axis=1, initial=0)
        return result

    def record(self, access: Access, engine: isa.Engine, count: int) -> None:
        """Note that an engine touches the locations with its `count`-th instruction."""
        self._uses[engine, access.locations] = count
        if access.write:
            self._writes[engine, access.locations] = count

    def written(self, locations: Locations) -> bool:
        """Whether some instruction has written each of the locations."""
        self._cover(locations)
        return bool(self._writes[:, locations].any(axis=0).all())


class Shadows:
    """Shadows of all memories of a machine, the regions of DRAM one by one."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self._shadows = {(memory, 0): Shadow(size) for memory, size in sizes(config).items()}

    def of(self, access: Access) -> Shadow:
        """Return the shadow of the memory that an access touches."""
        key = access.memory, access.region
        if key not in self._shadows:
            self._shadows[key] = Shadow()
        return self._shadows[key]


@dataclass(eq=False)
class Emitter:
    """Collects instructions in dispatch order and gives them their waits."""

    config: AcceleratorConfig
    code: list[isa.Instruction] = field(default_factory=list)
    layers: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._tracker = Tracker(self.config)
        self._shadows = Shadows(self.config)
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
            conflicts = self._shadows.of(access).conflicts(access)
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
            shadow = self._shadows.of(access)
            if access.memory == Memory.SCRATCHPAD and not access.write:
                assert shadow.written(access.locations), "read of bytes that nothing has written"
            shadow.record(access, engine, self._dispatched[engine])

    def to_bytes(self) -> bytes:
        """Return the code."""
        return b"".join(instruction.to_bytes() for instruction in self.code)
