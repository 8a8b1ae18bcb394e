"""Who holds whom up at the scratchpad in the cost model.

Writes of DRAIN go before those of LOAD; windows of EXECUTE before operands of DRAIN, and both before
those of STORE. What wins is kept as intervals of cycles. Against windows a loser is walked bank by bank,
because the two fall into step: a reader that is as fast as the windows meets them once, one that is
faster follows in their wake, and one that meets windows of a single bank waits for the next step.
"""

import functools
from bisect import bisect_left
from dataclasses import dataclass

import numpy as np

from systolith.arch.config import AcceleratorConfig
from systolith.arch.isa import FeedMode, Geometry, Pass

NEVER = 1 << 62
"""Later than anything."""


@dataclass(frozen=True)
class Step:
    """Windows of a tile step, one of each feed per cycle; addresses modulo all banks.

    `lines` holds the offset of each feed; only the first may be unaligned.
    """

    banks: int
    word_bytes: int
    addr: int
    lines: tuple[int, ...]
    rows: int
    cols: int
    col_step: int
    row_step: int


@dataclass(frozen=True)
class Walk:
    """Windows of a pass: the step that begins it, and what the others differ by, in loops."""

    step: Step
    period: int
    loops: tuple[tuple[int, int], ...]

    def offset(self, number: int) -> int:
        """Return the bytes by which a step is ahead of the first one."""
        result = 0
        for count, size in self.loops:
            number, position = divmod(number, count)
            result += position * size
        return result


@dataclass(frozen=True)
class Access:
    """Accesses of a loser: `cols` of them `step` apart, then on from `row_step` further.

    At best there is one per `cycles`.
    """

    addr: int = 0
    step: int = 0
    cols: int = 1
    row_step: int = 0
    cycles: int = 1


class Shares:
    """Intervals of cycles, in order of time, in which something takes a share of a port."""

    def __init__(self) -> None:
        self._first: list[int] = []
        self._last: list[int] = []
        self._share: list[float] = []

    def add(self, first: int, last: int, share: float) -> None:
        """Note that cycles `first` to `last` are taken by `share`."""
        if last >= first:
            self._first.append(first)
            self._last.append(last)
            self._share.append(share)

    def at(self, time: int) -> tuple[float, int]:
        """Return the share taken in a cycle, and the first cycle of another share."""
        index = bisect_left(self._last, time)
        if index == len(self._last):
            return 0.0, NEVER
        if self._first[index] > time:
            return 0.0, self._first[index]
        return self._share[index], self._last[index] + 1

    def finish(self, start: int, count: int) -> int:
        """Return the cycle after the last of `count` accesses, each repeated until it is free."""
        time, left = float(start), float(count)
        while left > 0:
            share, change = self.at(int(time))
            each = 1 / (1 - share) if share < 1 else float(NEVER)
            if time + left * each <= change:
                return round(time + left * each)
            left -= (change - time) / each
            time = change
        return round(time)


class Windows:
    """Walks of passes over the banks, in order of time."""

    def __init__(self) -> None:
        self._first: list[int] = []
        self._last: list[int] = []
        self._walks: list[Walk] = []

    def add(self, first: int, last: int, walk: Walk) -> None:
        """Note a pass with vectors in cycles `first` to `last`."""
        self._first.append(first)
        self._last.append(last)
        self._walks.append(walk)

    def at(self, time: int) -> tuple[bytes | None, int, int]:
        """Return the banks taken from some cycle on, one mask per cycle, that cycle, and the end."""
        index = bisect_left(self._last, time)
        if index == len(self._last):
            return None, 0, NEVER
        first = self._first[index]
        if first > time:
            return None, 0, first
        walk = self._walks[index]
        number = (time - first) // walk.period
        begin = first + number * walk.period
        step = walk.step
        masks = _masks(step, walk.offset(number) % (step.banks * step.word_bytes))
        end = begin + len(masks)
        if time >= end:
            return None, 0, min(begin + walk.period, self._last[index] + 1)
        return masks, begin, min(end, self._last[index] + 1)


class Reader:
    """A loser on its way: accesses that are repeated until none of the winners has the bank.

    Parameters
    ----------
    start : int
        Cycle of the first access.
    count : int
        Accesses.
    access : Access
        Where they go.
    config : AcceleratorConfig
        Machine.
    windows : Windows
        What goes before.
    shares : Shares, optional
        What else does.
    """

    def __init__(
        self,
        start: int,
        count: int,
        access: Access,
        config: AcceleratorConfig,
        windows: Windows,
        shares: Shares | None = None,
    ) -> None:
        self._access, self._windows, self._shares = access, windows, shares
        self._needs = _needs(config.banks, config.word_bytes)
        self._time, self._left, self._col, self._owed = start, count, 0, 0.0
        self._addr = self._row = access.addr

    @property
    def time(self) -> int:
        """Cycle of the next access, or the cycle after the last one."""
        return self._time

    @property
    def left(self) -> int:
        """Accesses to come."""
        return self._left

    def finish(self, until: int = NEVER) -> int | None:
        """Return the cycle after the last access; None if that is not reached by `until`."""
        while self._left:
            if self._time >= until:
                return None
            masks, begin, change = self._windows.at(self._time)
            share = 0.0
            if self._shares is not None:
                share, end = self._shares.at(self._time)
                change = min(change, end)
            change = min(change, until)
            if share >= 1:
                self._time = change
            elif masks is None and share == 0:
                self._skip(change)
            else:
                self._walk(masks, begin, change, share / (1 - share))
        return self._time

    def _skip(self, change: int) -> None:
        """Let all accesses through that begin before `change`."""
        access = self._access
        count = min(self._left, -(-(change - self._time) // access.cycles))
        self._left -= count
        self._time += count * access.cycles
        rows, self._col = divmod(self._col + count, access.cols)
        self._row += rows * access.row_step
        self._addr = self._row + self._col * access.step

    def _walk(self, masks: bytes | None, begin: int, change: int, delay: float) -> None:
        """Let accesses through up to `change`, each later by `delay`, where windows permit."""
        needs, size, access = self._needs, len(self._needs), self._access
        time, left, col, addr, row = self._time, self._left, self._col, self._addr, self._row
        owed, step, cols, cycles = self._owed, access.step, access.cols, access.cycles
        while left and time < change:
            if masks is not None and masks[time - begin] & needs[addr % size]:
                time += 1
                continue
            left -= 1
            col += 1
            addr += step
            if col == cols:
                col, row = 0, row + access.row_step
                addr = row
            owed += delay
            time += cycles + int(owed)
            owed -= int(owed)
        self._time, self._left, self._col, self._addr, self._row = time, left, col, addr, row
        self._owed = owed


def walk_of(config: AcceleratorConfig, geometry: Geometry, item: Pass, period: int) -> Walk:
    """Return the windows of a pass whose steps begin `period` cycles apart."""
    size = config.banks * config.word_bytes
    depthwise = geometry.mode == FeedMode.DEPTHWISE
    feeds = config.feeds if depthwise else 1
    step = Step(
        banks=config.banks,
        word_bytes=config.word_bytes,
        addr=item.addr % size,
        lines=tuple(feed * geometry.ky_step % size for feed in range(feeds)),
        rows=item.rows,
        cols=item.line_vectors,
        col_step=geometry.col_step % size,
        row_step=geometry.row_step % size,
    )
    loops = (
        (geometry.chunk_count, geometry.chunk_step % size),
        (geometry.kx_count, geometry.kx_step % size),
        (geometry.ky_count, geometry.ky_step * feeds % size),
    )
    return Walk(step, period, loops)


@functools.lru_cache(maxsize=4096)
def _masks(step: Step, offset: int) -> bytes:
    """Return the banks that a step's windows need, as a mask for each vector."""
    word, banks = step.word_bytes, step.banks
    rows = np.arange(step.rows)[:, None] * step.row_step
    addr = (step.addr + offset + rows + np.arange(step.cols) * step.col_step).ravel()
    masks = 1 << (addr + word - 1) // word % banks
    for line in step.lines:
        masks |= 1 << (addr + line) // word % banks
    return masks.astype(np.uint8).tobytes()


@functools.lru_cache(maxsize=16)
def _needs(banks: int, word: int) -> tuple[int, ...]:
    """Return the banks of a window at each address, as masks."""
    return tuple(
        1 << addr // word % banks | 1 << (addr + word - 1) // word % banks
        for addr in range(banks * word)
    )
