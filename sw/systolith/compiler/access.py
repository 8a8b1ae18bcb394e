"""Which bytes, words and rows an instruction reads and writes: one home for scheduler and checker.

Bounds alone, for programs that nobody trusts, are those of `systolith.arch.extents`.

Locations of a memory are numbered: bytes of the scratchpad, granules of 64 bytes of the DRAM regions
(tensors start at them, so that a coarser view costs no parallelism), words of weight buffer and
parameter memory, rows of the accumulators, and the two accumulator banks, which an
engine uses exclusively.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from systolith.arch import isa
from systolith.arch.config import TABLE_ENTRIES, AcceleratorConfig, ceil_div
from systolith.arch.errors import ProgramError
from systolith.arch.extents import Memory, sizes

Locations = NDArray[np.int64]

DRAM_GRANULE = 64
"""Bytes of a location of DRAM."""


@dataclass(frozen=True)
class Access:
    """Locations of one memory that an instruction reads or writes."""

    memory: Memory
    locations: Locations
    write: bool
    region: int = 0


def _grid(*axes: tuple[int, int]) -> Locations:
    """Return all sums of one multiple of each (count, step)."""
    result = np.zeros(1, np.int64)
    for count, step in axes:
        result = (result[:, None] + np.arange(count, dtype=np.int64) * step).ravel()
    return result


@lru_cache(maxsize=1024)
def _line_bytes(
    size: int,
    x: int,
    vectors: tuple[int, int],
    columns: tuple[int, int],
    chunks: tuple[int, tuple[int, ...]],
) -> Locations:
    """Return which of the `size` bytes of a line the windows of a row of vectors need, in order.

    `vectors` and `columns` are (count, step); `chunks` is (step, lanes of each).
    """
    starts = x + _grid(vectors, columns)
    needed = np.zeros(size, np.bool_)
    step, lanes = chunks
    for number, count in enumerate(lanes):
        places = starts + number * step + np.arange(count)[:, None]
        needed[places[(places >= 0) & (places < size)]] = True
    return np.flatnonzero(needed)


def move_local(move: isa.Load | isa.Store) -> Locations:
    """Return the local byte addresses of a move, in the order of the byte stream."""
    segments = ceil_div(move.total, move.segment)
    number = np.arange(segments, dtype=np.int64)
    starts = (
        move.addr
        + number % move.segments * move.segment_step
        + number // move.segments * move.group_step
    )
    return (starts[:, None] + np.arange(move.segment)).ravel()[: move.total]


def move_dram(move: isa.Load | isa.Store) -> Locations:
    """Return the granules of the region that a move touches."""
    starts = move.offset + np.arange(ceil_div(move.total, move.run), dtype=np.int64) * move.run_step
    counts = np.minimum(move.run, move.total - np.arange(len(starts)) * move.run)
    return np.unique(
        np.concatenate(
            [
                np.arange(start // DRAM_GRANULE, (start + count - 1) // DRAM_GRANULE + 1)
                for start, count in zip(starts.tolist(), counts.tolist(), strict=True)
            ]
        )
    )


def ordered_by_engine(engine: isa.Engine, access: Access) -> bool:
    """Whether an engine orders an access behind those of its own earlier instructions by itself.

    All do, except that what DRAIN reads from the scratchpad may overtake what it writes there.
    """
    overtakes = access.memory == Memory.SCRATCHPAD and not access.write
    return engine != isa.Engine.DRAIN or not overtakes


@dataclass(eq=False)
class Tracker:
    """Follows the setup state of the engines and tells what each instruction touches.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    """

    config: AcceleratorConfig
    _geometry: isa.Geometry = field(default_factory=isa.Geometry)
    _quantize: isa.Quantize = field(default_factory=isa.Quantize)

    def __post_init__(self) -> None:
        self._limits = sizes(self.config)

    def accesses(self, instruction: isa.Instruction) -> Iterator[Access]:
        """Yield what an instruction touches; instructions must come in program order.

        Raises
        ------
        ProgramError
            A location is outside its memory.
        """
        for access in self._dispatch(instruction):
            limit = self._limits.get(access.memory)
            low, high = int(access.locations.min(initial=0)), int(access.locations.max(initial=0))
            if low < 0 or (limit is not None and high >= limit):
                raise ProgramError(
                    f"{instruction} touches {access.memory.value} {low if low < 0 else high}, but "
                    f'"{self.config.name}" has {limit}'
                )
            yield access

    def _dispatch(self, instruction: isa.Instruction) -> Iterator[Access]:
        match instruction:
            case isa.Load():
                yield from self._load(instruction)
            case isa.Store():
                yield Access(Memory.SCRATCHPAD, move_local(instruction), write=False)
                yield Access(Memory.DRAM, move_dram(instruction), True, instruction.region)
            case isa.Geometry():
                self._geometry = instruction
            case isa.Pass():
                yield from self._pass(instruction)
            case isa.Quantize():
                self._quantize = instruction
            case isa.Drain():
                yield from self._drain(instruction)
            case isa.Vector():
                yield from self._vector(instruction)

    def _load(self, load: isa.Load) -> Iterator[Access]:
        yield Access(Memory.DRAM, move_dram(load), False, load.region)
        local = move_local(load)
        # Moves to the word memories are made of beats.
        words = local[:: self.config.axi_bytes] // self.config.weight_word_bytes
        match load.space:
            case isa.Space.SCRATCHPAD:
                yield Access(Memory.SCRATCHPAD, local, write=True)
            case isa.Space.WEIGHTS:
                yield Access(Memory.WEIGHTS, words, write=True)
            case isa.Space.PARAMS:
                yield Access(Memory.PARAMS, words, write=True)
            case isa.Space.TABLES:
                yield Access(Memory.TABLES, local, write=True)

    def _banks(self, rows: Locations) -> Access:
        """Return the access to the banks of consecutive rows."""
        return Access(Memory.BANK, rows[:: len(rows) - 1 or 1] // self.config.acc_rows, write=True)

    def _pass(self, issue: isa.Pass) -> Iterator[Access]:
        g = self._geometry
        if issue.weights != isa.WeightMode.KEEP:
            lines = g.ky_count * g.kx_count
            words = lines * ((g.chunk_count - 1) * g.weight_rows + g.weight_rows_last)
            if issue.weights == isa.WeightMode.ONCE:
                words = g.weight_rows_last if g.chunk_count == 1 else g.weight_rows
            yield Access(Memory.WEIGHTS, issue.weight_addr + np.arange(words), write=False)
        yield Access(Memory.SCRATCHPAD, self._windows(issue), write=False)
        rows = issue.acc + np.arange(issue.rows * issue.cols, dtype=np.int64)
        modifies = issue.first_op != isa.AccOp.WRITE
        if modifies:
            yield Access(Memory.ACC, rows, write=False)
        yield Access(Memory.ACC, rows, write=True)
        if modifies or g.ky_count * g.kx_count * g.chunk_count > 1:
            # Only a pass that reads sums back needs the bank's read port for itself.
            yield self._banks(rows)

    def _windows(self, issue: isa.Pass) -> Locations:
        """Return the bytes of the scratchpad that the vectors of a pass need, padding left out."""
        # The tail goes on as if there were more rows; it may be longer than one.
        more, rest = divmod(issue.tail, issue.line_vectors)
        rows = issue.rows + more
        full = self._rectangle(issue, 0, rows, issue.line_vectors)
        if not rest:
            return full
        return np.concatenate([full, self._rectangle(issue, rows, 1, rest)])

    def _rectangle(self, issue: isa.Pass, first: int, rows: int, vectors: int) -> Locations:
        """Return the bytes that the first `vectors` vectors of some rows need."""
        g = self._geometry
        feeds = self.config.feeds if g.mode == isa.FeedMode.DEPTHWISE else 1
        kernel_lines = g.ky_count * feeds
        row = first + _grid((rows, 1), (kernel_lines, 0))
        ky = _grid((rows, 0), (kernel_lines, 1))
        line = issue.y + row * g.row_lines + ky * g.ky_lines
        inside = (line >= 0) & (line < g.lines)
        line_addr = np.unique((row * g.row_step + ky * g.ky_step)[inside])
        lanes = (g.lanes,) * (g.chunk_count - 1) + (g.lanes_last,)
        steps = (g.kx_count, g.kx_step), (g.chunk_step, lanes)
        x = _line_bytes(g.line_bytes, issue.x, (vectors, g.col_step), *steps)
        windows: Locations = issue.addr - issue.x + line_addr[:, None] + x
        return windows.ravel()

    def _drain(self, drain: isa.Drain) -> Iterator[Access]:
        rows = drain.acc + np.arange(drain.rows * drain.cols * drain.reduce, dtype=np.int64)
        yield Access(Memory.ACC, rows, write=False)
        yield self._banks(rows)
        if drain.params == isa.ParamMode.LOAD:
            words = (
                self.config.param_tile_words
                if self._quantize.per_channel
                else self.config.bias_words
            )
            yield Access(Memory.PARAMS, drain.param_addr + np.arange(words), write=False)
        if drain.use_table:
            table = drain.table * TABLE_ENTRIES + np.arange(TABLE_ENTRIES)
            yield Access(Memory.TABLES, table, write=False)
        if drain.use_residual:
            source = self._outputs(drain, drain.residual_row_step, drain.residual_col_step)
            yield Access(Memory.SCRATCHPAD, drain.residual + source, write=False)
        result = drain.addr + self._outputs(drain, drain.row_step, drain.col_step)
        yield Access(Memory.SCRATCHPAD, result, write=True)

    @staticmethod
    def _outputs(drain: isa.Drain, row_step: int, col_step: int) -> Locations:
        full = _grid((drain.rows, row_step), (drain.cols - 1, col_step), (drain.lanes, 1))
        last = _grid((drain.rows, row_step), (drain.lanes_last, 1)) + (drain.cols - 1) * col_step
        return np.concatenate([full, last])

    @staticmethod
    def _vector(vector: isa.Vector) -> Iterator[Access]:
        def rows(addr: int, step: int) -> Locations:
            return addr + _grid((vector.rows, step), (vector.length, 1))

        yield Access(Memory.SCRATCHPAD, rows(vector.a, vector.a_step), write=False)
        if vector.op == isa.VectorOp.ELEMENTWISE:
            yield Access(Memory.SCRATCHPAD, rows(vector.b, vector.b_step), write=False)
        if vector.op == isa.VectorOp.TABLE:
            table = vector.table * TABLE_ENTRIES + np.arange(TABLE_ENTRIES)
            yield Access(Memory.TABLES, table, write=False)
        yield Access(Memory.SCRATCHPAD, rows(vector.addr, vector.row_step), write=True)
