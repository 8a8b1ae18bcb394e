"""Place tensors in the scratchpad by lifetime, and blocks in rings."""

from collections.abc import Iterable
from dataclasses import dataclass

from systolith.arch.config import AcceleratorConfig, ceil_div
from systolith.arch.errors import AllocationError

from .tile import Block


@dataclass(frozen=True, kw_only=True)
class Lifetime:
    """Bytes that must be on chip from kernel `first` to kernel `last`, both included."""

    name: str
    nbytes: int
    first: int
    last: int

    def meets(self, other: "Lifetime") -> bool:
        """Whether some kernel needs both."""
        return self.first <= other.last and other.first <= self.last


class NoRoomError(AllocationError):
    """Something finds no room in the scratchpad; `item` is its lifetime."""

    def __init__(self, item: Lifetime, message: str) -> None:
        self.item = item
        super().__init__(message)


def place(lifetimes: Iterable[Lifetime], config: AcceleratorConfig) -> dict[str, int]:
    """Return a scratchpad address for each lifetime; those that meet do not overlap.

    Greedy by size: the largest first, each at the lowest free address, word aligned.

    Raises
    ------
    NoRoomError
        One finds no room; the message names it, the bytes needed and the bytes there are.
    """
    placed: list[tuple[int, int, Lifetime]] = []
    addresses: dict[str, int] = {}
    word = config.word_bytes
    for item in sorted(lifetimes, key=lambda x: (-x.nbytes, x.first)):
        size = ceil_div(item.nbytes, word) * word
        rivals = sorted((start, end) for start, end, other in placed if other.meets(item))
        start = 0
        for low, high in rivals:
            if start + size <= low:
                break
            start = max(start, high)
        if start + size > config.scratchpad_bytes:
            raise NoRoomError(
                item,
                f'Tensor "{item.name}" needs {size} bytes of scratchpad beside '
                f"{sum(high - low for low, high in rivals)} bytes of tensors alive with it, but "
                f'"{config.name}" has {config.scratchpad_bytes}; use a configuration with a larger '
                f"scratchpad",
            )
        addresses[item.name] = start
        placed.append((start, start + size, item))
    return addresses


class Ring:
    """A memory of contiguous blocks, placed one behind the other and around the end.

    A block's words are free again as soon as it has no users left, also between blocks that stay.

    Parameters
    ----------
    words : int
        Size of the memory.
    """

    def __init__(self, words: int) -> None:
        self._words = words
        self._blocks: list[Block] = []
        self._head = 0

    @property
    def words(self) -> int:
        """Size of the memory."""
        return self._words

    def place(self, block: Block) -> bool:
        """Give a block its address if it fits now: at the first gap behind the last one placed."""
        self._blocks = [other for other in self._blocks if other.users]
        size = len(block.words)
        gaps = self._gaps()
        behind = [(max(start, self._head), end) for start, end in gaps if end > self._head]
        for start, end in (*behind, *gaps):
            if start + size <= end:
                block.addr = start
                self._head = start + size
                self._blocks.append(block)
                return True
        return False

    def _gaps(self) -> list[tuple[int, int]]:
        """Return the free ranges, in order."""
        taken = sorted((block.addr, block.addr + len(block.words)) for block in self._blocks)
        edges = [0, *(edge for block in taken for edge in block), self._words]
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if a < b]
