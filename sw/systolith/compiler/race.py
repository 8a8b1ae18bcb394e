"""Prove that a program's code is free of races, from the encoded words alone.

Each instruction starts with a vector clock: for every engine, how many of its instructions are
known to be complete. It is the largest of the instruction's own waits, of the clock of the
instruction before it on the same engine (which started earlier), and of the clocks of the
instructions that these counts say are complete. Two instructions that touch a common location, one
of them writing, are ordered if the later one's clock covers the earlier one; without that the
program is refused.

One access starts earlier than its instruction: the weight loader fetches a tile as soon as the wait
for LOAD is met. Weights are therefore ordered by the waits for LOAD of their own and of earlier
passes alone.
"""

import numpy as np

from systolith.arch import isa, rules
from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import EncodingError, RaceError

from .access import Access, Memory, Tracker, ordered_by_engine
from .emit import ENGINES, Shadow

Clock = tuple[int, ...]


def _merge(*clocks: Clock) -> Clock:
    return tuple(max(counts) for counts in zip(*clocks, strict=True))


class _Clocks:
    """The vector clocks of the instructions seen so far."""

    def __init__(self) -> None:
        zero = (0,) * len(ENGINES)
        self._starts: list[list[Clock]] = [[zero] for _ in ENGINES]
        self.loaded = 0
        """Loads that the waits for LOAD of the passes so far say are complete."""

    def start(self, instruction: isa.Instruction) -> Clock:
        """Return the clock with which the next instruction starts, and remember it."""
        engine = instruction.ENGINE
        dispatched = [len(starts) - 1 for starts in self._starts]
        own = tuple(
            0 if lag == isa.NO_WAIT else max(0, dispatched[other] - lag)
            for other, lag in zip(ENGINES, instruction.waits, strict=True)
        )
        if engine == isa.Engine.EXECUTE:
            self.loaded = max(self.loaded, own[isa.Engine.LOAD])
        clock = _merge(own, self._starts[engine][-1])
        # What a completed instruction knew when it started is known as well.
        clock = _merge(clock, *(self._starts[other][count] for other, count in enumerate(clock)))
        self._starts[engine].append(clock)
        return clock


def check(code: bytes, config: AcceleratorConfig) -> int:
    """Prove a program ordered.

    Parameters
    ----------
    code : bytes
        Encoded instructions.
    config : AcceleratorConfig
        Machine that they are for.

    Returns
    -------
    int
        Number of accesses proved.

    Raises
    ------
    RaceError
        Two instructions are not ordered; the message names both and a common location.
    EncodingError, ProgramError
        An instruction is illegal, breaks a rule of the configuration, or leaves a memory.
    """
    tracker, clocks = Tracker(config), _Clocks()
    shadows: dict[tuple[Memory, int], Shadow] = {}
    index_of: list[list[int]] = [[-1] for _ in ENGINES]
    proved = 0
    for index, instruction in enumerate(isa.iterate(code)):
        try:
            rules.check(instruction, config)
        except EncodingError as error:
            raise EncodingError(f"Instruction {index}: {error}") from error
        if instruction.ENGINE not in ENGINES:
            continue
        engine = instruction.ENGINE
        clock = clocks.start(instruction)
        index_of[engine].append(index)
        accesses = list(tracker.accesses(instruction))
        for access in accesses:
            shadow = shadows.setdefault((access.memory, access.region), Shadow())
            needed = shadow.conflicts(access)
            early = engine == isa.Engine.EXECUTE and access.memory == Memory.WEIGHTS
            known = (clocks.loaded, *clock[1:]) if early else clock
            for other in ENGINES:
                if other == engine and ordered_by_engine(engine, access):
                    continue
                if needed[other] > known[other]:
                    raise _race(index, instruction, index_of[other][needed[other]], access)
            proved += 1
        for access in accesses:
            shadows[access.memory, access.region].record(access, engine, len(index_of[engine]) - 1)
    return proved


def _race(index: int, instruction: isa.Instruction, other: int, access: Access) -> RaceError:
    kind = "writes" if access.write else "reads"
    low = int(np.min(access.locations))
    place = f"{access.memory.value} {low} and others"
    if access.memory == Memory.DRAM:
        place += f" of region {access.region}"
    return RaceError(
        f"Instruction {index} ({instruction}) {kind} {place} with no order to instruction {other}, "
        f"which touches them as well; add a wait"
    )
