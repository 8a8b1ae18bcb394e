"""EXECUTE, DRAIN and STORE in the cost model: when each instruction is taken and completed.

The laws are those of hw/README.md. Every timer is given its instructions in order, with `head`, the
cycle from which an instruction stands in front of its engine with all waits met that the queue
checks, and returns (cycle in which it leaves the queue, cycle in which progress shows its end).
"""

from collections import deque
from dataclasses import dataclass

from systolith.arch.config import AcceleratorConfig, ceil_div
from systolith.arch.isa import (
    Drain,
    Elementwise,
    Geometry,
    Instruction,
    ParamMode,
    Pass,
    Quantize,
    Store,
    Vector,
    VectorOp,
    WeightMode,
)

from .cost_ports import Access, Reader, Shares, Windows, walk_of
from .cost_reads import BURST_BEATS, MemoryModel, pieces

TURNAROUND = 4
"""Cycles between the first vectors of two steps, at least."""

_SPARE_STEPS = 3
_PUSH_TO_HEAD = 2  # of the step queue and of the tile queue
_PUSH_TO_TAKE = 3
_WAIT_TO_TAKE = 1
_TAKE_TO_NEXT_TILE = 2
_SUM_LATENCY = 10
"""Cycles from a vector to its sum in column 0, beside rows."""

DRAIN_LATENCY = 29
"""Cycles from the issue of a row with two values to its write, beside lanes."""

PLAIN_DRAIN_LATENCY = 16
"""The same for a row with one value, which does not pass the elementwise unit."""

WRITE_LATENCY = 2
"""Cycles from a write to the scratchpad to done."""

_PARAMS_HELD = 4  # beside lanes: cycles in which a row still needs its parameters
_STORE_TO_BEAT = 13
_READ_TO_BEAT = 6
_STORE_PENDING = 4

Times = tuple[int, int]


def execute_latency(config: AcceleratorConfig) -> int:
    """Return the cycles from the last vector of a pass to done, when a DRAIN may follow its sums."""
    groups = config.cols // config.lanes
    return config.rows + _SUM_LATENCY + config.deep_pipeline + (groups - 1) * (config.lanes - 1)


class ExecuteTimer:
    """GEOMETRY and PASS: steps, weight tiles, vectors."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config, self._rows = config, config.rows
        self._latency = execute_latency(config) + 1
        self._look_ahead = ceil_div(config.rows, TURNAROUND) + _SPARE_STEPS
        self._pops: deque[int] = deque([-1] * self._look_ahead, maxlen=self._look_ahead)
        self._pushed = -1
        self._next_take = 0  # from which cycle on the step after the last one may be taken
        self._last_vector = -1
        self._tile_begun = -config.rows
        self._tile_taken = -_TAKE_TO_NEXT_TILE
        self._has_tile = False
        self._steps, self._geometry = 1, Geometry()
        self.windows = Windows()
        """What the passes read, and keep DRAIN and STORE from reading."""
        self.work: list[tuple[int, int]] = []
        """First and last cycle with vectors of each instruction."""

    def __call__(self, item: Instruction, head: int, reached: int) -> Times:
        """Time an instruction whose other waits are met when progress shows it, at `reached`."""
        if isinstance(item, Geometry):
            return self._set_up(item, head, reached)
        assert isinstance(item, Pass)
        return self._stream(item, head, reached)

    def _push(self, earliest: int) -> int:
        self._pushed = max(earliest, self._pushed + 1, self._pops[0] + 1)
        return self._pushed

    def _set_up(self, item: Geometry, head: int, reached: int) -> Times:
        steps = item.ky_count * item.kx_count * item.chunk_count
        self._steps, self._geometry = steps, item
        pushed = self._push(head)
        popped = max(pushed + _PUSH_TO_TAKE, self._pops[-1] + 2, reached + _WAIT_TO_TAKE)
        self._pops.append(popped)
        ended = max(self._last_vector, popped + 1)
        self.work.append((ended, ended))
        # Of two that end at once, the setup is counted a cycle later.
        return pushed + 1, ended + (ended == self._last_vector) + self._latency

    def _stream(self, item: Pass, head: int, reached: int) -> Times:
        steps = self._steps
        vectors = item.rows * item.line_vectors + item.tail
        period = max(vectors, TURNAROUND)
        first_tile = item.weights != WeightMode.KEEP or not self._has_tile
        self._has_tile = True
        each = item.weights == WeightMode.EACH
        steady = max(period, self._rows) if each else period
        pushed, take, begun = head, -1, -1
        exact = min(steps, self._look_ahead + 2)
        for step in range(exact):
            pushed = self._push(head + 1 if step == 0 else pushed + 1)
            earliest = max(pushed + _PUSH_TO_TAKE, self._next_take, self._pops[-1] + 2)
            if step == 0:
                earliest = max(earliest, reached + _WAIT_TO_TAKE)
            if each or (step == 0 and first_tile):
                self._tile_begun = max(
                    pushed + _PUSH_TO_HEAD,
                    self._tile_taken + _TAKE_TO_NEXT_TILE,
                    self._tile_begun + self._rows,
                )
                earliest = max(earliest, self._tile_begun + self._rows - 2)
                self._tile_taken = earliest
            take = earliest
            begun = take if begun < 0 else begun
            self._next_take = take + period
            self._pops.append(take)
        for step in range(steps - exact):
            # In the steady state every step is as long as the one before.
            if steps - exact - step <= self._look_ahead:
                self._pops.append(take + steady * (step + 1))
        if steps > exact:
            take += steady * (steps - exact)
            self._next_take = take + period
            self._pushed = max(self._pushed, self._pops[0] + 1)
            if each:
                self._tile_taken = take
                self._tile_begun = take - self._rows + 2
        self._last_vector = take + vectors
        self.work.append((begun + 1, self._last_vector))
        period = steady if steps == 1 else (take - begun) // (steps - 1)
        walk = walk_of(self._config, self._geometry, item, period)
        self.windows.add(begun + 1, self._last_vector, walk)
        return self._pushed + 1, self._last_vector + self._latency


@dataclass
class _Job:
    """A DRAIN or VECTOR under way: rows to write, cycles of each, or of each read."""

    item: Instruction
    start: int
    count: int
    cycles: int
    reader: Reader | None = None


def _combines(item: Instruction) -> bool:
    """Whether each row of a DRAIN or VECTOR is made of two values."""
    if isinstance(item, Vector):
        return item.op == VectorOp.ELEMENTWISE
    return isinstance(item, Drain) and bool(item.use_residual)


class DrainTimer:
    """QUANTIZE, ELEMENTWISE, DRAIN and VECTOR: rows, parameters, and the pipeline behind."""

    def __init__(self, config: AcceleratorConfig, windows: Windows) -> None:
        self._config, self._lanes, self._windows = config, config.lanes, windows
        self.writes, self.reads = Shares(), Shares()
        self._bias_words, self._shift_words = config.bias_words, config.shift_words
        # Index: whether rows have two values.
        self._latencies = tuple(
            config.lanes + latency + WRITE_LATENCY
            for latency in (PLAIN_DRAIN_LATENCY, DRAIN_LATENCY + config.deep_pipeline)
        )
        self._hold = config.lanes + _PARAMS_HELD
        self._last_issue = self._last_combined = -self._latencies[True]
        self._last_done = 0
        self._job: _Job | None = None
        self._per_channel = False
        self._bias, self._scale = 0, 0
        self._bias_used, self._scale_used = [-self._hold] * 2, [-self._hold] * 2
        self.work: list[tuple[int, int]] = []
        """First and last cycle with rows of each instruction."""

    @property
    def busy(self) -> bool:
        """Whether an instruction has been begun and is not complete."""
        return self._job is not None

    def begin(self, item: Instruction, head: int) -> None:
        """Begin with an instruction; the one before must be complete."""
        if isinstance(item, (Drain, Vector)):
            self._job = self._walk(item, head)
            return
        if isinstance(item, Quantize):
            self._per_channel = bool(item.per_channel)
        else:
            assert isinstance(item, Elementwise)
        start = max(head, self._last_done)
        self._job = _Job(item, start, 0, 0)

    def advance(self, until: int) -> Times | None:
        """Go on up to a cycle; return the times of the instruction if it is complete then."""
        job = self._job
        assert job is not None
        if isinstance(job.item, (Quantize, Elementwise)):
            self._job = None
            self.work.append((job.start, job.start))
            return job.start, job.start + 1
        if job.reader is None:
            self._last_issue = job.start + job.count * job.cycles
            self._note(job, job.start + 1, job.count, self._last_issue + 1)
        elif not self._read(job, job.reader, until):
            return None
        self._job = None
        if isinstance(job.item, Drain) and job.item.params != ParamMode.NONE:
            self._bias_used[self._bias] = self._last_issue
            if self._per_channel:
                self._scale_used[self._scale] = self._last_issue
        self.work.append((job.start + 1, self._last_issue))
        self._last_done = self._last_issue + self._latencies[_combines(job.item)] + 1
        if _combines(job.item):
            self._last_combined = self._last_issue
        return job.start, self._last_done

    def _walk(self, item: Drain | Vector, head: int) -> _Job:
        start = max(head, self._last_issue + 1)
        if not _combines(item):
            # Its rows must not overtake those on the longer way.
            start = max(start, self._last_combined + self._latencies[True] - self._latencies[False])
        if isinstance(item, Vector):
            count = item.rows * ceil_div(item.length, self._lanes)
            cycles = operands = 2 if item.op == VectorOp.ELEMENTWISE else 1
        else:
            if item.params == ParamMode.LOAD:
                start = max(start, self._parameters(head))
            count, operands = self._groups(item), int(item.use_residual)
            cycles = max(item.reduce, 2) if operands else item.reduce
        job = _Job(item, start, count, cycles)
        if operands:
            job.cycles = cycles // operands
            access = self._operand(item, job.cycles)
            job.reader = Reader(start + 1, count * operands, access, self._config, self._windows)
        return job

    def _read(self, job: _Job, reader: Reader, until: int) -> bool:
        """Read operands up to a cycle; return whether all are read."""
        begin, left = reader.time, reader.left
        end = reader.finish(until)
        done = left - reader.left
        self._note(job, begin, done, reader.time)
        # A read that waits keeps the port from STORE, too.
        if reader.time > begin:
            idle = done * (job.cycles - 1) / (reader.time - begin)
            self.reads.add(begin, reader.time - 1, 1 - min(1.0, idle))
        if end is not None:
            spaced = isinstance(job.item, Drain) and job.item.reduce == 1
            self._last_issue = end - 1 - spaced
        return end is not None

    def _note(self, job: _Job, begin: int, count: int, end: int) -> None:
        """Note the writes that belong to rows issued from `begin` to before `end`."""
        pair = isinstance(job.item, Vector) and job.item.op == VectorOp.ELEMENTWISE
        writes = count / 2 if pair else count
        late = self._latencies[_combines(job.item)] - WRITE_LATENCY
        if end > begin:
            self.writes.add(begin + late, end - 1 + late, min(1.0, writes / (end - begin)))

    def _operand(self, item: Drain | Vector, cycles: int) -> Access:
        """Return what is read from the scratchpad; of a pair, the first operand stands for both."""
        if isinstance(item, Vector):
            groups = ceil_div(item.length, self._lanes)
            return Access(item.a, self._lanes, groups, item.a_step, cycles)
        return Access(
            item.residual, item.residual_col_step, item.cols, item.residual_row_step, cycles
        )

    def _groups(self, item: Drain) -> int:
        """Return the writes of a DRAIN."""
        groups = (item.cols - 1) * ceil_div(item.lanes, self._lanes)
        return item.rows * (groups + ceil_div(item.lanes_last, self._lanes))

    def _parameters(self, head: int) -> int:
        """Load into the other sets; return when the DRAIN may start."""
        self._bias ^= 1
        words, free = self._bias_words, self._bias_used[self._bias]
        if self._per_channel:
            self._scale ^= 1
            words += self._bias_words + self._shift_words
            free = max(free, self._scale_used[self._scale])
        return max(head, free + self._hold) + words + 2


class StoreTimer:
    """STORE: windows of the scratchpad, beats, answers."""

    def __init__(
        self, config: AcceleratorConfig, memory: MemoryModel, windows: Windows, reads: Shares
    ) -> None:
        self._config, self._latency = config, memory.latency
        self._windows, self._reads = windows, reads
        self._read_to_beat = _READ_TO_BEAT + config.deep_pipeline
        self._store_to_beat = _STORE_TO_BEAT + config.deep_pipeline
        self._beats_sent = -1
        self._current: tuple[int, int, Reader] | None = None
        self._answers: deque[int] = deque([-1] * _STORE_PENDING, maxlen=_STORE_PENDING)
        self._accepted = -1
        self.work: list[tuple[int, int]] = []
        """Cycles from the first beat to the answer of each instruction."""

    def begin(self, item: Instruction, head: int) -> None:
        """Begin with an instruction; the one before must be complete."""
        assert isinstance(item, Store)
        beat_bytes = self._config.axi_bytes
        accepted = max(head, self._accepted + 1, self._answers[0])
        first = max(accepted + self._store_to_beat, self._beats_sent + 1)
        segment = ceil_div(item.segment, beat_bytes)
        access = Access(item.addr, beat_bytes, segment, item.segment_step or item.segment)
        count = pieces(item, beat_bytes)
        begin = first - self._read_to_beat
        reader = Reader(begin, count, access, self._config, self._windows, self._reads)
        self._current = accepted, first, reader

    @property
    def busy(self) -> bool:
        """Whether an instruction has been begun and is not complete."""
        return self._current is not None

    def advance(self, until: int) -> Times | None:
        """Go on up to a cycle; return the times of the instruction if it is complete then."""
        assert self._current is not None
        accepted, first, reader = self._current
        end = reader.finish(until)
        if end is None:
            return None
        self._current = None
        self._beats_sent = end + self._read_to_beat - 1
        # The next one's first burst waits behind this one's last, which is announced in time.
        self._accepted = max(accepted, self._beats_sent - self._store_to_beat - BURST_BEATS)
        done = self._beats_sent + self._latency + 1
        self._answers.append(done)
        self.work.append((first, done))
        return accepted, done
