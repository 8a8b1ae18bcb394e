"""Which mutant of the hardware RTL devices simulate, if any: a variable of the environment says so.

So whatever makes an RTL device, tests included, runs on the mutant without knowing.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from systolith.arch.config import AcceleratorConfig

VARIABLE = "SYSTOLITH_MUTANT"
"""Variable with configuration, library and number: `tiny-4x4=/path/library.so#7`."""

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
    """

    config_name: str
    library: Path
    number: int

    def __str__(self) -> str:
        return f"{self.config_name}={self.library}#{self.number}"


def chosen(config: AcceleratorConfig) -> Mutant | None:
    """Return what the environment has in place of the hardware of a configuration."""
    name, _, rest = os.environ.get(VARIABLE, "").partition("=")
    library, _, number = rest.rpartition("#")
    return Mutant(name, Path(library), int(number)) if name == config.name else None
