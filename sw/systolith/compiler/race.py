"""Prove that a program's code is free of races, from the encoded words alone.

Each instruction starts with a vector clock (`systolith.arch.order`). Two instructions that touch a
common location, one of them writing, are ordered if the later one's clock covers the earlier one;
without that the program is refused.

One access starts earlier than its instruction: the weight loader fetches a tile as soon as the wait
for LOAD is met. Weights are therefore ordered by the waits for LOAD of their own and of earlier
passes alone.
"""

import numpy as np

from systolith.arch import isa, rules
from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import EncodingError, RaceError
from systolith.arch.extents import Memory
from systolith.arch.order import ENGINES, Clocks

from .access import Access, Tracker, ordered_by_engine
from .emit import Shadows


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
    tracker, clocks, shadows = Tracker(config), Clocks(), Shadows(config)
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
            needed = shadows.of(access).conflicts(access)
            early = engine == isa.Engine.EXECUTE and access.memory == Memory.WEIGHTS
            known = (clocks.loaded, *clock[1:]) if early else clock
            for other in ENGINES:
                if other == engine and ordered_by_engine(engine, access):
                    continue
                if needed[other] > known[other]:
                    raise _race(index, instruction, index_of[other][needed[other]], access)
            proved += 1
        for access in accesses:
            shadows.of(access).record(access, engine, len(index_of[engine]) - 1)
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
