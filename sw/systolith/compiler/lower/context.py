"""What every lowering needs: the machine, where tensors lie, and which accumulator bank is next."""

from collections.abc import Callable
from dataclasses import dataclass

from systolith.arch.config import AcceleratorConfig

from ..ir import Image
from ..tile import Placement


@dataclass(kw_only=True, eq=False)
class Context:
    """State of the lowering of one segment.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    place : callable
        Place of an image in the scratchpad.
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
