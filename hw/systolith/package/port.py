"""A pin of the top module, as the descriptions of a package see it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Port:
    """A pin of the top module: name, `"in"` or `"out"`, bits."""

    name: str
    direction: str
    width: int
