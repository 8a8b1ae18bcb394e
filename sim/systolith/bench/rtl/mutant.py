"""Which mutant of the hardware RTL devices simulate, if any: a variable of the environment says so.

So whatever makes an RTL device, tests included, runs on the mutant without knowing.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from systolith.arch.config import AcceleratorConfig

VARIABLE = "SYSTOLITH_MUTANT"
"""Variable with configuration, library, number and count: `tiny-4x4=/path/library.so#7+0`."""

SOURCE = "mutant.cpp"
"""C++ source of simulators that hold mutants, beside this module."""


@dataclass(frozen=True)
class Mutant:
    """A simulator with mutants, and the one that acts.

    Parameters
    ----------
    config_name : str
        Configuration that it stands for.
    library : Path
        The simulator.
    number : int
        The mutant; zero is the design as it is.
    late : int
        Value of the counters at the start of a program, 32 bits; of those of instructions, 24.
    """

    config_name: str
    library: Path
    number: int
    late: int = 0

    def __str__(self) -> str:
        return f"{self.config_name}={self.library}#{self.number}+{self.late}"


def chosen(config: AcceleratorConfig) -> Mutant | None:
    """Return what the environment has in place of the hardware of a configuration."""
    name, _, rest = os.environ.get(VARIABLE, "").partition("=")
    library, _, numbers = rest.rpartition("#")
    if name != config.name:
        return None
    number, _, late = numbers.partition("+")
    return Mutant(name, Path(library), int(number), int(late))
