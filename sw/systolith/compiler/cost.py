"""Cycles of a program without simulation: the cost model that schedules are judged by.

Every instruction is timed by the laws of hw/README.md: fetch ahead of execution, dispatch in order,
queues, waits, one bus for instructions and loads. Nothing depends on data, so a run is timed once.

Conflicts at the scratchpad are counted by their probability, not by address.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from systolith.arch.config import AcceleratorConfig
from systolith.arch.isa import (
    INSTRUCTION_BYTES,
    NO_WAIT,
    Engine,
    Instruction,
    Load,
    iterate,
)
from systolith.arch.program import AcceleratorSegment, Program

from .cost_engines import DrainTimer, ExecuteTimer, StoreTimer
from .cost_ports import NEVER
from .cost_reads import BLOCK_INSTRUCTIONS, MemoryModel, ReadChannel

__all__ = ["CostEstimate", "MemoryModel", "estimate", "estimate_program", "layer_cycles"]

PREFETCH_DEPTH = 32
"""Instructions asked for ahead of decoding."""

_START = 4  # from the doorbell to the first fetch request
_BEAT_TO_DECODER = 3
_DISPATCH_TO_HEAD = 1
_HEAD_TO_ENGINE = 1
_END = -1  # from the last completion to done
_ENGINES = 4
_ADVANCE = 64
"""Cycles by which DRAIN and STORE are timed together with what happens beside them."""

_LOAD_AHEAD = 64
"""Cycles by which DRAIN is timed beyond a burst that its writes may hold up."""


@dataclass(frozen=True)
class CostEstimate:
    """Times of a segment, in cycles since the doorbell.

    Parameters
    ----------
    cycles : int
        From the doorbell to done.
    begin, end : tuple of int
        First cycle of work of each instruction, and the one in which progress shows its end.
    layers : dict of int to int
        Cycles of each layer, by index in `Program.layers`; they add up to `cycles`.
    """

    cycles: int
    begin: tuple[int, ...]
    end: tuple[int, ...]
    layers: dict[int, int]


def estimate(
    code: bytes | Sequence[Instruction],
    config: AcceleratorConfig,
    layer_of: Sequence[int] | None = None,
    memory: MemoryModel | None = None,
) -> CostEstimate:
    """Return the cycles that a segment's code takes.

    Parameters
    ----------
    code : bytes or sequence of Instruction
        Instructions up to HALT.
    config : AcceleratorConfig
        Machine.
    layer_of : sequence of int, optional
        Layer of each instruction, negative for none.
    memory : MemoryModel, optional
        By default, the memory that performance figures are taken with.

    Raises
    ------
    EncodingError
        The code has an illegal word.
    """
    items = list(iterate(code)) if isinstance(code, bytes) else list(code)
    run = _Run(items, config, memory or MemoryModel())
    run.finish()
    end = run.ends()
    cycles = max(end, default=0) + _END
    layers = layer_cycles(layer_of, end, cycles) if layer_of is not None else {}
    return CostEstimate(cycles, tuple(run.begins()), tuple(end), layers)


def estimate_program(program: Program, memory: MemoryModel | None = None) -> CostEstimate:
    """Return the sum over the accelerator segments of a program; times are of the last one."""
    result = CostEstimate(0, (), (), {})
    for segment in program.segments:
        if isinstance(segment, AcceleratorSegment):
            part = estimate(segment.code, program.config, segment.layer_of, memory)
            layers = dict(result.layers)
            for layer, cycles in part.layers.items():
                layers[layer] = layers.get(layer, 0) + cycles
            result = CostEstimate(result.cycles + part.cycles, part.begin, part.end, layers)
    return result


def layer_cycles(layer_of: Sequence[int], end: Sequence[int], cycles: int) -> dict[int, int]:
    """Return the cycles of each layer, counted as `systolith.driver.profile` counts them."""
    finish: dict[int, int] = {}
    for layer, time in zip(layer_of, end, strict=True):
        if layer >= 0:
            finish[layer] = max(finish.get(layer, 0), time)
    result: dict[int, int] = {}
    previous = 0
    for layer in sorted(finish):
        time = max(finish[layer], previous)
        result[layer] = time - previous
        previous = time
    if result:
        result[max(result)] += cycles - previous
    return result


class _Run:
    """One run of a program, timed on demand.

    Dispatch goes ahead until a queue is full; then the engine of that queue is timed up to the
    instruction that makes room, and with it whatever that one waits for. So all that the read
    channel must know of earlier cycles is known whenever one of its bursts is timed.
    """

    def __init__(
        self, items: list[Instruction], config: AcceleratorConfig, memory: MemoryModel
    ) -> None:
        self._items, self._config = items, config
        self._execute = ExecuteTimer(config)
        self._drain = DrainTimer(config, self._execute.windows)
        self._store = StoreTimer(config, memory, self._execute.windows, self._drain.reads)
        self._reads = ReadChannel(config, memory, self._drain.writes)
        self._queues: list[list[int]] = [[] for _ in range(_ENGINES)]
        self._heads: list[list[int]] = [[] for _ in range(_ENGINES)]
        self._targets: list[list[tuple[int, ...]]] = [[] for _ in range(_ENGINES)]
        self._accepted: list[list[int]] = [[] for _ in range(_ENGINES)]
        self._done: list[list[int]] = [[] for _ in range(_ENGINES)]
        self._done[Engine.LOAD] = self._reads.load_done
        self._asked, self._next_head = 0, -1
        self._answers: deque[list[int]] = deque()
        self._load_begins: list[int] = []

    def finish(self) -> None:
        """Time everything."""
        self._ask(_START)
        while self._asked < min(PREFETCH_DEPTH, len(self._items)):
            self._ask(_START)
        dispatched, beats = -1, []
        depth = self._config.queue_depth
        for index, item in enumerate(self._items):
            place = index % BLOCK_INSTRUCTIONS
            if place == 0:
                beats = self._fetch()
            arrived = beats[self._last_beat(place, len(beats))] + _BEAT_TO_DECODER
            taken = max(arrived, dispatched)
            if index + PREFETCH_DEPTH - BLOCK_INSTRUCTIONS + 1 >= self._asked:
                self._ask(taken + 1)
            dispatched = max(taken + 1, dispatched + 1)
            engine = item.ENGINE
            if engine == Engine.SEQUENCER:
                break
            number = len(self._queues[engine])
            if number >= depth:
                dispatched = max(dispatched, self._resolve(engine, number - depth) + 1)
            self._dispatch(engine, index, item, dispatched)
        for number, queue in enumerate(self._queues):
            if queue:
                self._complete(number, len(queue) - 1)

    def ends(self) -> list[int]:
        """Return when progress shows the end of each instruction, in program order."""
        result = [0] * len(self._items)
        for engine, queue in enumerate(self._queues):
            for index, time in zip(queue, self._done[engine], strict=True):
                result[index] = time
        return result

    def begins(self) -> list[int]:
        """Return the first cycle of work of each instruction, in program order."""
        result = [0] * len(self._items)
        timers = (None, self._execute, self._drain, self._store)
        for engine, queue in enumerate(self._queues):
            timer = timers[engine]
            begins = self._load_begins if timer is None else [first for first, _ in timer.work]
            for index, time in zip(queue, begins, strict=True):
                result[index] = time
        return result

    def _ask(self, time: int) -> None:
        """Let fetch ask for its next block."""
        size = min(BLOCK_INSTRUCTIONS, len(self._items) - self._asked)
        if size > 0:
            self._reads.request_fetch(time, size)
            self._asked += size

    def _last_beat(self, place: int, beats: int) -> int:
        """Return the index of the beat that completes an instruction of a block."""
        last = ((place + 1) * INSTRUCTION_BYTES - 1) // self._config.axi_bytes
        return min(last, beats - 1)

    def _fetch(self) -> list[int]:
        """Return the beats of the next block, after all LOADs that came before it."""
        while not self._answers:
            time = self._reads.fetch_time
            assert time is not None
            # What would be later than the fetch is not timed yet: it may meet what comes behind.
            if not self._reads.loading:
                self._time_ahead(time)
            if self._reads.loading or self._ready(Engine.LOAD, time):
                self._begin_load()
                self._issue()
            else:
                self._answers.append(self._reads.answer_fetch())
        return self._answers.popleft()

    def _issue(self) -> None:
        """Issue the next burst of the current LOAD, or the fetch that was there first."""
        fetch = self._reads.fetch_time
        if fetch is not None and fetch <= self._reads.next_issue():
            self._answers.append(self._reads.answer_fetch())
        else:
            until = 0
            while until < (end := self._reads.next_end()):
                until = end + _LOAD_AHEAD
                self._time_ahead(until)
            self._reads.issue_load()

    def _time_until(self, until: int) -> None:
        """Time whatever is known to happen by a cycle."""
        while self._reads.loading or self._ready(Engine.LOAD, until):
            self._begin_load()
            if self._reads.next_issue() > until:
                break
            self._issue()
        self._time_ahead(until + _LOAD_AHEAD)

    def _time_ahead(self, until: int) -> None:
        """Time EXECUTE, what DRAIN begins by `until`, and STORE up to somewhat before.

        DRAIN holds up others at the scratchpad, and is held up by EXECUTE; no engine is timed further
        than needed, because passes that hold it up may not be dispatched yet.
        """
        while True:
            while self._ready(Engine.EXECUTE):
                self._time_next(Engine.EXECUTE)
            drained = self._advance(Engine.DRAIN, until)
            if not drained and not self._advance(Engine.STORE, until - _LOAD_AHEAD):
                return

    def _advance(self, engine: int, until: int) -> bool:
        """Let DRAIN or STORE go on up to a cycle; return whether an instruction was completed."""
        timer = self._drain if engine == Engine.DRAIN else self._store
        if not timer.busy:
            if not self._ready(engine, until):
                return False
            number = len(self._accepted[engine])
            head = self._head(engine, number, range(_ENGINES))
            timer.begin(self._items[self._queues[engine][number]], head)
        times = timer.advance(until)
        if times is None:
            return False
        self._accepted[engine].append(times[0])
        self._done[engine].append(times[1])
        return True

    def _ready(self, engine: int, until: int = NEVER) -> bool:
        """Return whether an engine's next instruction begins by `until`, as far as known."""
        number = len(self._accepted[engine])
        if number == len(self._queues[engine]) or self._heads[engine][number] > until:
            return False
        for target, done in zip(self._targets[engine][number], self._done, strict=True):
            if target > len(done) or (target and done[target - 1] > until):
                return False
        return True

    def _begin_load(self) -> None:
        """Make the next LOAD the current one, unless one is under way."""
        if self._reads.loading:
            return
        number = len(self._accepted[Engine.LOAD])
        head = self._head(Engine.LOAD, number, range(_ENGINES))
        if self._reads.loading or len(self._accepted[Engine.LOAD]) > number:
            return  # It was begun together with what it waits for.
        accepted = self._reads.accept(head)
        self._accepted[Engine.LOAD].append(accepted)
        self._load_begins.append(accepted)
        item = self._items[self._queues[Engine.LOAD][number]]
        assert isinstance(item, Load)
        self._reads.begin_load(item, accepted)

    def _dispatch(self, engine: int, index: int, item: Instruction, time: int) -> None:
        self._queues[engine].append(index)
        self._heads[engine].append(time + _DISPATCH_TO_HEAD)
        counts = [len(queue) for queue in self._queues]
        counts[engine] -= 1
        self._targets[engine].append(
            tuple(
                0 if lag == NO_WAIT else max(0, count - lag)
                for count, lag in zip(counts, item.waits, strict=True)
            )
        )

    def _head(self, engine: int, number: int, waits: Sequence[int]) -> int:
        """Return from when on an instruction stands in front with the given waits met."""
        offered = max(self._heads[engine][number], self._reached(engine, number, waits))
        # Its predecessor may have been accepted only now, when the waits were timed.
        before = self._accepted[engine][number - 1] + 1 if number else 0
        return max(offered + _HEAD_TO_ENGINE, before)

    def _reached(self, engine: int, number: int, waits: Sequence[int]) -> int:
        time = 0
        for other in waits:
            target = self._targets[engine][number][other]
            if target:
                time = max(time, self._complete(other, target - 1))
        return time

    def _resolve(self, engine: int, number: int) -> int:
        """Time an engine up to an instruction; return when that leaves the queue."""
        accepted = self._accepted[engine]
        while len(accepted) <= number:
            if engine != Engine.LOAD:
                self._time_next(engine)
                continue
            self._begin_load()
            if len(accepted) <= number:
                self._issue()
        return accepted[number]

    def _complete(self, engine: int, number: int) -> int:
        """Time an engine up to an instruction; return when progress shows its end."""
        self._resolve(engine, number)
        while len(self._done[engine]) <= number:
            self._begin_load()
            self._issue()
        return self._done[engine][number]

    def _time_next(self, engine: int) -> None:
        """Time the next instruction of EXECUTE, DRAIN or STORE, and with it what it waits for."""
        number = len(self._accepted[engine])
        item = self._items[self._queues[engine][number]]
        if engine == Engine.EXECUTE:
            head = self._head(engine, number, (Engine.LOAD,))
            others = (Engine.EXECUTE, Engine.DRAIN, Engine.STORE)
            reached = self._reached(engine, number, others)
            if len(self._accepted[engine]) > number:
                return  # It was timed together with what it waits for.
            times = self._execute(item, head, reached)
            self._accepted[engine].append(times[0])
            self._done[engine].append(times[1])
            return
        until = self._head(engine, number, range(_ENGINES))
        while len(self._accepted[engine]) <= number:
            until += _ADVANCE
            self._time_until(until)
