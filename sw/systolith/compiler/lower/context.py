"""What every lowering needs, and what it offers: items for any range of output lines."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from systolith.arch.config import AcceleratorConfig

from ..ir import Image
from ..tile import Item, Placement

Lines = tuple[int, int]
"""A range of lines: first, and one past the last."""


@dataclass(kw_only=True, eq=False)
class Context:
    """State of the lowering of one segment.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    place : callable
        Place of an image in the scratchpad; it may change from one range of lines to the next.
    """

    config: AcceleratorConfig
    place: Callable[[Image], Placement]
    _bank: int = 0

    def next_bank(self) -> int:
        """Return the first accumulator row for the next tile: banks alternate.

        Each tile starts at the first row of a bank, so that two tiles in one bank always overlap
        and the waits for the rows keep passes and drains out of each other's bank.
        """
        row = self._bank * self.config.acc_rows
        self._bank ^= 1
        return row


class Lowering(Protocol):
    """Writes one kernel as instructions."""

    def items(self, lines: Lines) -> Iterator[Item]:
        """Yield the items that make a range of output lines.

        Setup instructions are yielded before each use; `drop_repeated_setups` takes away those that
        change nothing.
        """
        ...

    def needs(self, lines: Lines) -> list[Lines]:
        """Return, for each image that the kernel reads, the lines that the output lines need."""
        ...


def window_lines(lines: Lines, stride: int, pad: int, extent: int, height: int) -> Lines:
    """Return the lines of an image under the windows of output lines; `extent` lines high each."""
    first, last = lines
    return max(0, first * stride - pad), min(height, (last - 1) * stride - pad + extent)
