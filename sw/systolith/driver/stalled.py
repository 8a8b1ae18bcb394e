"""What a program was at when the watchdog stopped it.

The watchdog knows only that nothing was completed. Which instruction of which engine was in progress,
and so which channel of the bus fell silent and at which bytes, follows from the progress counters
and the waits.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from systolith.arch import isa
from systolith.arch.errors import EncodingError
from systolith.arch.extents import dram_extent
from systolith.arch.order import ENGINES

_CHANNELS = {isa.Engine.LOAD: "read", isa.Engine.STORE: "write"}


@dataclass(frozen=True)
class Stall:
    """An instruction that could have been completed, and was not.

    Parameters
    ----------
    engine : Engine
        Engine that was at it; the sequencer if it was still to be fetched.
    index : int
        Index of the instruction.
    item : Instruction or None
        The instruction; None if it was still to be fetched.
    """

    engine: isa.Engine
    index: int
    item: isa.Instruction | None

    @property
    def channel(self) -> str | None:
        """`"read"` or `"write"`, the channel of the memory port that it uses, or None."""
        return "read" if self.item is None else _CHANNELS.get(self.engine)

    def __str__(self) -> str:
        """Return engine, instruction, and what it uses of the bus, as part of a sentence."""
        if self.item is None:
            return f"the fetch of instruction {self.index} on the read channel"
        text = f"{self.engine.name} at instruction {self.index} ({self.item})"
        if isinstance(self.item, isa.Load | isa.Store):
            first, last = dram_extent(self.item)
            place = f"bytes {first} to {last} of region {self.item.region}"
            text = f"{text}, {place} on the {self.channel} channel"
        return text


def stalls(code: bytes, progress: Sequence[int], decoded: int) -> list[Stall]:
    """Return the instructions that a program was at.

    Parameters
    ----------
    code : bytes
        The program.
    progress : sequence of int
        Instructions that each engine has completed, in the order of `ENGINES`.
    decoded : int
        Instructions that were decoded: the index that the watchdog's fault reports.
    """
    found = []
    dispatched = [0] * len(ENGINES)
    try:
        for index, item in enumerate(isa.iterate(code)):
            if index >= decoded:
                break
            if item.ENGINE not in ENGINES:
                continue
            oldest = dispatched[item.ENGINE] == progress[item.ENGINE]
            if oldest and _ready(item, dispatched, progress):
                found.append(Stall(item.ENGINE, index, item))
            dispatched[item.ENGINE] += 1
    except EncodingError:
        # What follows was not executed.
        pass
    return found or [Stall(isa.Engine.SEQUENCER, decoded, None)]


def _ready(item: isa.Instruction, dispatched: Sequence[int], progress: Sequence[int]) -> bool:
    """Return whether all that an instruction waits for is complete."""
    return all(
        lag == isa.NO_WAIT or progress[engine] >= dispatched[engine] - lag
        for engine, lag in zip(ENGINES, item.waits, strict=True)
    )
