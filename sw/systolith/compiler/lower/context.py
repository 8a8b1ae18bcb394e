"""What every lowering needs, and what it offers: items for any range of output lines."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig

from ..ir import Image
from ..tile import Block, Item, Placement

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
    share : int
        Kernels that take turns now, and share the memories of weights and parameters.
    """

    config: AcceleratorConfig
    place: Callable[[Image], Placement]
    share: int = 1
    _row: int = 0

    def may_stay(self, blocks: Iterable[Block]) -> bool:
        """Whether blocks may stay in their memories from one range of lines to the next.

        Half of each memory is for what stays, the other half for what passes through.
        """
        words = {isa.Space.WEIGHTS: 0, isa.Space.PARAMS: 0}
        for block in {id(block): block for block in blocks}.values():
            words[block.space] += len(block.words)
        most = 2 * self.share
        return (
            words[isa.Space.WEIGHTS] <= self.config.weight_words // most
            and words[isa.Space.PARAMS] <= self.config.param_words // most
        )

    def next_rows(self, count: int, *, once: bool) -> int:
        """Return the first accumulator row for the next tile of `count` rows.

        A tile that adds to its rows starts at the bank that the tile before it is not in: it and
        the drains must keep out of each other's bank. A tile that writes its rows `once` only lies
        behind the tile before it, in the same bank if there is room, so that more than two may be
        on their way.
        """
        bank = self.config.acc_rows
        fits = self._row % bank + count <= bank
        if not once or not fits:
            self._row = (self._row - 1) // bank * bank + bank if self._row else 0
        row = self._row % (2 * bank)
        self._row = row + count
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
