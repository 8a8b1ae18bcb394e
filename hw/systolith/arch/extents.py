"""How far each instruction reaches: the first and the last location of every memory that it touches.

Bounds are exact and cost the same whatever an instruction asks for: no loop of a hostile instruction
is unrolled. They say nothing about the locations in between.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from . import isa
from .config import TABLE_COUNT, TABLE_ENTRIES, AcceleratorConfig, ceil_div


class Memory(Enum):
    """A memory whose locations instructions touch."""

    SCRATCHPAD = "scratchpad byte"
    WEIGHTS = "weight word"
    PARAMS = "parameter word"
    TABLES = "table byte"
    ACC = "accumulator row"
    BANK = "accumulator bank"
    DRAM = "granule of a DRAM region"


SPACES = {
    isa.Space.SCRATCHPAD: Memory.SCRATCHPAD,
    isa.Space.WEIGHTS: Memory.WEIGHTS,
    isa.Space.PARAMS: Memory.PARAMS,
    isa.Space.TABLES: Memory.TABLES,
}
"""Memory that a move of each space touches."""

BEAT_FIELDS = (
    "offset",
    "run",
    "run_step",
    "addr",
    "segment",
    "segment_step",
    "group_step",
    "total",
)
"""Fields of a `LOAD` that must be whole beats unless it writes the scratchpad."""


def sizes(config: AcceleratorConfig) -> dict[Memory, int]:
    """Return the number of locations of each on-chip memory."""
    return {
        Memory.SCRATCHPAD: config.scratchpad_bytes,
        Memory.WEIGHTS: config.weight_words,
        Memory.PARAMS: config.param_words,
        Memory.TABLES: TABLE_COUNT * TABLE_ENTRIES,
        Memory.ACC: 2 * config.acc_rows,
        Memory.BANK: 2,
    }


@dataclass(frozen=True)
class Extent:
    """First and last location of a memory that one operand of an instruction touches.

    Parameters
    ----------
    operand : str
        Field of the instruction that says where the operand begins.
    memory : Memory
        Which memory; bytes of a region for `Memory.DRAM`.
    low, high : int
        First and last location; anything outside the memory breaks a rule.
    write : bool
        Whether it is written.
    """

    operand: str
    memory: Memory
    low: int
    high: int
    write: bool


def dram_extent(move: isa.Load | isa.Store) -> tuple[int, int]:
    """Return the first and the last byte offset in its region that a move touches."""
    runs = ceil_div(move.total, move.run)
    last = (runs - 1) * move.run_step + move.total - (runs - 1) * move.run
    if runs > 1:
        last = max(last, (runs - 2) * move.run_step + move.run)
    return move.offset, move.offset + last - 1


def local_extent(move: isa.Load | isa.Store) -> tuple[int, int]:
    """Return the first and the last local byte address that a move touches."""
    last = ceil_div(move.total, move.segment) - 1
    ends = [_segment(move, last) + move.total - last * move.segment]
    if last % move.segments:
        ends.append(_segment(move, last - 1) + move.segment)
    if last >= move.segments:
        ends.append(_segment(move, last // move.segments * move.segments - 1) + move.segment)
    return move.addr, max(ends) - 1


def _segment(move: isa.Load | isa.Store, number: int) -> int:
    group, place = divmod(number, move.segments)
    return move.addr + group * move.group_step + place * move.segment_step


@dataclass(eq=False)
class Extents:
    """Follows the setup instructions of a program and tells how far each instruction reaches.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine. Instructions must obey `systolith.arch.rules` and come in program order.
    """

    config: AcceleratorConfig
    geometry: isa.Geometry = field(default_factory=isa.Geometry)
    quantize: isa.Quantize = field(default_factory=isa.Quantize)

    def of(self, instruction: isa.Instruction) -> Iterator[Extent]:
        """Yield what an instruction touches, DRAM and `Memory.BANK` included.

        A bank is touched by what needs its memory port to itself: drains, and passes that read
        their sums back.
        """
        match instruction:
            case isa.Load() | isa.Store():
                yield from self._move(instruction)
            case isa.Geometry():
                self.geometry = instruction
            case isa.Pass():
                yield from self._pass(instruction)
            case isa.Quantize():
                self.quantize = instruction
            case isa.Drain():
                yield from self._drain(instruction)
            case isa.Vector():
                yield from self._vector(instruction)

    def _move(self, move: isa.Load | isa.Store) -> Iterator[Extent]:
        loads = isinstance(move, isa.Load)
        yield Extent("offset", Memory.DRAM, *dram_extent(move), write=not loads)
        low, high = local_extent(move)
        memory = SPACES[move.space]
        if memory in (Memory.WEIGHTS, Memory.PARAMS):
            word = self.config.weight_word_bytes
            low, high = low // word, high // word
        yield Extent("addr", memory, low, high, write=loads)

    def _pass(self, item: isa.Pass) -> Iterator[Extent]:
        g = self.geometry
        steps = g.ky_count * g.kx_count * g.chunk_count
        if item.weights != isa.WeightMode.KEEP:
            words = g.ky_count * g.kx_count
            words *= (g.chunk_count - 1) * g.weight_rows + g.weight_rows_last
            if item.weights == isa.WeightMode.ONCE:
                words = g.weight_rows_last if g.chunk_count == 1 else g.weight_rows
            last = item.weight_addr + words - 1
            yield Extent("weight_addr", Memory.WEIGHTS, item.weight_addr, last, write=False)
        windows = windows_extent(item, g, self.config)
        if windows is not None:
            yield Extent("addr", Memory.SCRATCHPAD, *windows, write=False)
        last = item.acc + item.rows * item.cols - 1
        yield Extent("acc", Memory.ACC, item.acc, last, write=True)
        if item.first_op != isa.AccOp.WRITE or steps > 1:
            yield self._banks(item.acc, last)

    def _banks(self, first: int, last: int) -> Extent:
        rows = self.config.acc_rows
        return Extent("acc", Memory.BANK, first // rows, last // rows, write=True)

    def _drain(self, drain: isa.Drain) -> Iterator[Extent]:
        last = drain.acc + drain.rows * drain.cols * drain.reduce - 1
        yield Extent("acc", Memory.ACC, drain.acc, last, write=False)
        yield self._banks(drain.acc, last)
        if drain.params == isa.ParamMode.LOAD:
            config, first = self.config, drain.param_addr
            words = config.param_tile_words if self.quantize.per_channel else config.bias_words
            yield Extent("param_addr", Memory.PARAMS, first, first + words - 1, write=False)
        if drain.use_residual:
            steps = drain.residual_row_step, drain.residual_col_step
            end = drain.residual + _outputs_extent(drain, *steps)
            yield Extent("residual", Memory.SCRATCHPAD, drain.residual, end, write=False)
        end = drain.addr + _outputs_extent(drain, drain.row_step, drain.col_step)
        yield Extent("addr", Memory.SCRATCHPAD, drain.addr, end, write=True)

    @staticmethod
    def _vector(vector: isa.Vector) -> Iterator[Extent]:
        def rows(operand: str, addr: int, step: int, *, write: bool) -> Extent:
            last = addr + (vector.rows - 1) * step + vector.length - 1
            return Extent(operand, Memory.SCRATCHPAD, addr, last, write=write)

        yield rows("a", vector.a, vector.a_step, write=False)
        if vector.op == isa.VectorOp.ELEMENTWISE:
            yield rows("b", vector.b, vector.b_step, write=False)
        yield rows("addr", vector.addr, vector.row_step, write=True)


def _outputs_extent(drain: isa.Drain, row_step: int, col_step: int) -> int:
    """Return the distance from the first to the last byte of the outputs of a drain."""
    last = (drain.cols - 1) * col_step + drain.lanes_last
    if drain.cols > 1:
        last = max(last, (drain.cols - 2) * col_step + drain.lanes)
    return (drain.rows - 1) * row_step + last - 1


def windows_extent(
    item: isa.Pass, g: isa.Geometry, config: AcceleratorConfig
) -> tuple[int, int] | None:
    """Return the first and the last byte that the vectors of a pass need, None if it is all padding.

    Parameters
    ----------
    item : Pass
        The pass.
    g : Geometry
        How it walks.
    config : AcceleratorConfig
        Machine.
    """
    feeds = config.feeds if g.mode == isa.FeedMode.DEPTHWISE else 1
    # A tail may be longer than a line: then it begins several rows.
    whole, rest = divmod(item.rows * item.line_vectors + item.tail, item.line_vectors)
    parts = [
        _rectangle(item, g, g.ky_count * feeds, rows, vectors)
        for rows, vectors in (((0, whole), item.line_vectors), ((whole, whole + 1), rest))
        if vectors
    ]
    found = [part for part in parts if part is not None]
    if not found:
        return None
    return min(low for low, _ in found), max(high for _, high in found)


def _rectangle(
    item: isa.Pass, g: isa.Geometry, kernel_lines: int, rows: tuple[int, int], vectors: int
) -> tuple[int, int] | None:
    """Return the first and the last byte that `vectors` vectors of some rows need."""
    lines = _lines_extent(item, g, kernel_lines, rows)
    x = _line_extent(item, g, vectors)
    if lines is None or x is None:
        return None
    return lines[0] + x[0] + item.addr - item.x, lines[1] + x[1] + item.addr - item.x


def _lines_extent(
    item: isa.Pass, g: isa.Geometry, kernel_lines: int, rows: tuple[int, int]
) -> tuple[int, int] | None:
    """Return the least and the largest start of a line inside the image, before `addr`."""
    ky = np.arange(kernel_lines, dtype=np.int64)
    line = item.y + ky * g.ky_lines
    if g.row_lines:
        first = np.maximum(rows[0], -(line // g.row_lines))
        last = np.minimum(rows[1] - 1, (g.lines - 1 - line) // g.row_lines)
    else:
        first = np.full(kernel_lines, rows[0])
        last = np.where((line >= 0) & (line < g.lines), rows[1] - 1, rows[0] - 1)
    inside = first <= last
    if not inside.any():
        return None
    low = (first * g.row_step + ky * g.ky_step)[inside].min()
    return int(low), int((last * g.row_step + ky * g.ky_step)[inside].max())


def _line_extent(item: isa.Pass, g: isa.Geometry, vectors: int) -> tuple[int, int] | None:
    """Return the first and the last byte of a line that its windows need."""
    chunk = np.arange(g.chunk_count, dtype=np.int64)
    x = item.x + np.arange(g.kx_count, dtype=np.int64)[:, None] * g.kx_step + chunk * g.chunk_step
    lanes = np.where(chunk == g.chunk_count - 1, g.lanes_last, g.lanes)
    # The first column whose window ends inside the line, and the last one that begins inside it.
    if g.col_step:
        first = np.maximum(0, -((x + lanes - 1) // g.col_step))
        last = np.minimum(vectors - 1, (g.line_bytes - 1 - x) // g.col_step)
    else:
        first = np.where(x + lanes > 0, 0, vectors)
        last = np.where(x < g.line_bytes, vectors - 1, -1)
    low = np.maximum(x + first * g.col_step, 0)
    high = np.minimum(x + last * g.col_step + lanes, g.line_bytes) - 1
    reached = (first < vectors) & (low < g.line_bytes)
    if not reached.any():
        return None
    return int(low[reached].min()), int(high[reached].max())
