"""Place tensors in the scratchpad by lifetime, and blocks in rings."""

from collections import deque
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
    """A memory whose blocks are placed and freed in order, each contiguous.

    Parameters
    ----------
    words : int
        Size of the memory.
    """

    def __init__(self, words: int) -> None:
        self._words = words
        self._blocks: deque[Block] = deque()
        self._head = 0

    @property
    def words(self) -> int:
        """Size of the memory."""
        return self._words

    def place(self, block: Block) -> bool:
        """Give a block its address if it fits now; blocks without users left make room."""
        while self._blocks and self._blocks[0].users == 0:
            self._blocks.popleft()
        start = self._room(len(block.words))
        if start is None:
            return False
        block.addr = start
        self._head = start + len(block.words)
        self._blocks.append(block)
        return True

    def _room(self, size: int) -> int | None:
        if not self._blocks:
            return 0 if size <= self._words else None
        tail = self._blocks[0].addr
        if self._head <= tail:  # wrapped: the free words are between head and tail
            return self._head if self._head + size <= tail else None
        if self._head + size <= self._words:
            return self._head
        return 0 if size <= tail else None
