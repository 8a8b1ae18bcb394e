"""What the waits of a program order: vector clocks, from the encoded waits alone.

Each instruction starts with a clock: for every engine, how many of its instructions are known to be
complete. It is the largest of the instruction's own waits, of the clock of the instruction before it
on the same engine (which started earlier), and of the clocks of the instructions that these counts
say are complete.
"""

from . import isa

ENGINES = (isa.Engine.LOAD, isa.Engine.EXECUTE, isa.Engine.DRAIN, isa.Engine.STORE)
"""Engines that complete instructions, in the order of the wait fields."""

Clock = tuple[int, ...]
"""Completed instructions of each of `ENGINES`."""


def _merge(*clocks: Clock) -> Clock:
    return tuple(max(counts) for counts in zip(*clocks, strict=True))


class Clocks:
    """The vector clocks of the instructions seen so far.

    Attributes
    ----------
    loaded : int
        Loads that the waits for LOAD of the passes so far say are complete: weights are fetched
        as soon as that wait is met.
    """

    def __init__(self) -> None:
        zero = (0,) * len(ENGINES)
        self._starts: list[list[Clock]] = [[zero] for _ in ENGINES]
        self.loaded = 0

    def dispatched(self, engine: isa.Engine) -> int:
        """Return the instructions of an engine seen so far."""
        return len(self._starts[engine]) - 1

    def start(self, instruction: isa.Instruction) -> Clock:
        """Return the clock with which the next instruction starts, and remember it."""
        engine = instruction.ENGINE
        own = tuple(
            0 if lag == isa.NO_WAIT else max(0, self.dispatched(other) - lag)
            for other, lag in zip(ENGINES, instruction.waits, strict=True)
        )
        if engine == isa.Engine.EXECUTE:
            self.loaded = max(self.loaded, own[isa.Engine.LOAD])
        clock = _merge(own, self._starts[engine][-1])
        # What a completed instruction knew when it started is known as well.
        clock = _merge(clock, *(self._starts[other][count] for other, count in enumerate(clock)))
        self._starts[engine].append(clock)
        return clock
