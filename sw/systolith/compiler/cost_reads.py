"""The read channel in the cost model: bursts of instruction fetch and LOAD, in order of issue."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from systolith.arch.config import AcceleratorConfig, ceil_div
from systolith.arch.isa import INSTRUCTION_BYTES, Load, Space, Store

from .cost_ports import Shares

BURST_BEATS = 16
"""Beats of the longest burst; bursts end at multiples of it."""

BLOCK_INSTRUCTIONS = 8
"""Instructions of one fetch request."""

ACCEPT_TO_ISSUE = 3
"""Cycles from a LOAD's acceptance, or from a fetch request, to its first burst."""

FETCH_TO_ISSUE = 2

ISSUE_TO_ADDRESS = 1
"""Cycles from the issue of a burst to AR."""

BEAT_TO_PROGRESS = 6
"""Cycles from the last beat of a LOAD to the progress that shows it."""

_BEAT_TO_WRITE = 3

_RUNS_BUFFERED = 2
"""Runs that a LOAD's walk may be ahead of the one whose bursts are issued."""


@dataclass(frozen=True)
class MemoryModel:
    """Memory behind the accelerator's port.

    Parameters
    ----------
    latency : int
        Cycles from AR to the first beat of an answer, and from the last beat of a write to its.
    outstanding : int
        Bursts that it accepts before it answers the first.
    """

    latency: int = 40
    outstanding: int = 16


def bursts(move: Load | Store, beat_bytes: int) -> Iterator[tuple[int, bool]]:
    """Yield (beats, whether it ends a run) of each burst of a LOAD or STORE."""
    offset, left = move.offset, move.total
    while left > 0:
        size = min(move.run, left)
        first, last = offset // beat_bytes, (offset + size - 1) // beat_bytes
        while first <= last:
            end = min(last, first | (BURST_BEATS - 1))
            yield end - first + 1, end == last
            first = end + 1
        left -= size
        offset += move.run_step


def pieces(move: Load | Store, beat_bytes: int) -> int:
    """Return the pieces of a move: beats, cut again wherever a segment ends inside one."""
    ends_inside = 0
    lane, done = move.offset % beat_bytes, 0
    aligned = lane == 0 and move.segment % beat_bytes == 0
    if not aligned:
        # Runs restart in their own lane, but that is rare and shifts few cuts.
        for position in range(move.segment, move.total, move.segment):
            done += 1
            ends_inside += (lane + position) % beat_bytes != 0
    return sum(beats for beats, _ in bursts(move, beat_bytes)) + ends_inside


@dataclass
class _Load:
    """A LOAD on its way through the channel."""

    number: int
    ready: int
    bursts: deque[tuple[int, bool]]
    stretch: float
    shares_port: bool


class ReadChannel:
    """Times of fetched blocks and of LOADs, which share the channel burst by burst.

    Fetch goes first. Callers announce requests in the order of their times; a request that is
    announced later than it was made by more than a burst would come too late.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    memory : MemoryModel
        What answers.
    drain_writes : Shares
        Writes that LOAD has to let pass.
    """

    def __init__(
        self, config: AcceleratorConfig, memory: MemoryModel, drain_writes: Shares
    ) -> None:
        self._drain_writes = drain_writes
        self._beat_bytes = config.axi_bytes
        self._latency = memory.latency + ISSUE_TO_ADDRESS
        self._in_flight = min(config.axi_outstanding, memory.outstanding)
        self._issued = -1
        self._write_free = 0
        self._free_at = 0  # first cycle in which the next beat may come
        self._ends: deque[int] = deque(maxlen=self._in_flight)
        self._fetches: deque[tuple[int, int]] = deque()
        self._first_beats: list[int] = []
        self._current: _Load | None = None
        self._run_issues: deque[int] = deque([-1] * (_RUNS_BUFFERED + 1), maxlen=3)
        self.load_done: list[int] = []

    def request_fetch(self, time: int, instructions: int) -> None:
        """Announce that fetch asks for so many instructions from `time` on."""
        size = instructions * INSTRUCTION_BYTES
        beats = ceil_div(size, self._beat_bytes)
        self._fetches.append((time + FETCH_TO_ISSUE, beats))

    @property
    def fetch_time(self) -> int | None:
        """Time of the oldest fetch that is not yet answered."""
        return self._fetches[0][0] if self._fetches else None

    def answer_fetch(self) -> list[int]:
        """Answer the oldest fetch; return the cycle of each of its beats."""
        time, left = self._fetches.popleft()
        result: list[int] = []
        while left:
            beats = min(left, BURST_BEATS)
            first = self._issue(time, beats)
            result.extend(range(first, first + beats))
            left -= beats
        return result

    def accept(self, earliest: int) -> int:
        """Return when the next LOAD is accepted if it could be at `earliest`."""
        return max(earliest, self._run_issues[0])

    def begin_load(self, move: Load, accepted: int) -> None:
        """Begin with the bursts of a LOAD."""
        queue = deque(bursts(move, self._beat_bytes))
        beats = sum(count for count, _ in queue)
        # A table takes four bytes per cycle; a beat cut by a segment's end takes a cycle more.
        cycles = move.total // 4 if move.space == Space.TABLES else pieces(move, self._beat_bytes)
        stretch = cycles / beats
        self._current = _Load(
            len(self.load_done),
            accepted + ACCEPT_TO_ISSUE,
            queue,
            stretch,
            move.space == Space.SCRATCHPAD,
        )

    @property
    def loading(self) -> bool:
        """Whether bursts of a LOAD are still to be issued."""
        return self._current is not None

    def next_issue(self) -> int:
        """Return when the next burst of the current LOAD would be issued."""
        assert self._current is not None
        return self._earliest(self._current.ready)

    def next_end(self) -> int:
        """Return when that burst's last beat would be written, by what is known of DRAIN."""
        load = self._current
        assert load is not None
        first = max(self.next_issue() + self._latency, self._free_at)
        return self._written(load, first, self._cycles(load, load.bursts[0][0]))

    def issue_load(self) -> None:
        """Issue the next burst of the current LOAD."""
        load = self._current
        assert load is not None
        beats, run_end = load.bursts.popleft()
        cycles = self._cycles(load, beats)
        first = self._issue(load.ready, max(beats, cycles))
        if load.shares_port:
            # The bus waits with the writes, as soon as the few beats between are used up.
            self._write_free = self._written(load, first, cycles)
            self._free_at = max(self._free_at, self._write_free - _BEAT_TO_WRITE)
            self._ends[-1] = self._free_at - 1
        if run_end:
            self._run_issues.append(self._issued)
        if not load.bursts:
            self.load_done.append(self._free_at - 1 + BEAT_TO_PROGRESS)
            self._current = None

    def _cycles(self, load: _Load, beats: int) -> int:
        return beats if load.stretch == 1 else round(beats * load.stretch)

    def _written(self, load: _Load, first: int, cycles: int) -> int:
        """Return the cycle after the last write of a burst."""
        begin = max(first + _BEAT_TO_WRITE, self._write_free)
        return self._drain_writes.finish(begin, cycles) if load.shares_port else begin + cycles

    def _earliest(self, ready: int) -> int:
        time = max(ready, self._issued + 1)
        if len(self._ends) == self._in_flight:
            time = max(time, self._ends[0] + 1)
        return time

    def _issue(self, ready: int, cycles: int) -> int:
        """Issue a burst as soon as possible; return the cycle of its first beat."""
        self._issued = self._earliest(ready)
        first = max(self._issued + self._latency, self._free_at)
        self._free_at = first + cycles
        self._ends.append(self._free_at - 1)
        return first
