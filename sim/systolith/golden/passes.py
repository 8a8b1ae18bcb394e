"""PASS: windows of the scratchpad through the array into the accumulators."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Fault

from .memory import Bytes, Index, Memories, Trap, check_span

Sums = NDArray[np.int64]
Tiles = NDArray[np.int8]

_BLOCK_BYTES = 1 << 21
"""Window bytes gathered at a time, to bound the memory of the host."""

_EXACT_PRODUCTS = 1 << 10
"""Products of two int8 values, at most 2^14 each, whose partial sums float32 holds exactly."""


@dataclass
class ArrayState:
    """What the instructions of the EXECUTE engine leave for the next; zero at program start.

    Parameters
    ----------
    tile : int8[rows, cols]
        Weights that the array holds.
    geometry : Geometry
        Last `GEOMETRY`.
    """

    tile: Tiles
    geometry: isa.Geometry = field(default_factory=isa.Geometry)


@dataclass(frozen=True)
class Steps:
    """Tile steps of a pass in order, one entry each: what moves the window and how wide it is."""

    line: Index
    row_addr: Index
    x: Index
    lanes: Index

    def __len__(self) -> int:
        return self.line.size

    def __getitem__(self, part: slice) -> "Steps":
        return Steps(self.line[part], self.row_addr[part], self.x[part], self.lanes[part])


class Walk:
    """The windows of one pass.

    Parameters
    ----------
    item : Pass
        The pass.
    geometry : Geometry
        How it walks.
    config : AcceleratorConfig
        Machine; `feeds` kernel lines are read at once in depthwise mode.
    """

    def __init__(self, item: isa.Pass, geometry: isa.Geometry, config: AcceleratorConfig) -> None:
        self.item = item
        self.geometry = geometry
        self.feeds = config.feeds if geometry.mode == isa.FeedMode.DEPTHWISE else 1
        self.stream = item.rows * item.line_vectors + item.tail
        self.steps = self._steps()

    def _steps(self) -> Steps:
        g = self.geometry
        shape = g.ky_count, g.kx_count, g.chunk_count
        ky, kx, chunk = (index.reshape(-1) for index in np.indices(shape, np.int64))
        ky *= self.feeds
        return Steps(
            line=self.item.y + ky * g.ky_lines,
            row_addr=self.item.addr + ky * g.ky_step - self.item.x,
            x=self.item.x + kx * g.kx_step + chunk * g.chunk_step,
            lanes=np.where(chunk == g.chunk_count - 1, g.lanes_last, g.lanes),
        )

    def outputs(self) -> Index:
        """Return the stream positions whose sums are kept, int64[rows * cols]."""
        row = np.arange(self.item.rows, dtype=np.int64)[:, None]
        col = np.arange(self.item.cols, dtype=np.int64)
        return (row * self.item.line_vectors + col).reshape(-1)

    def place(self, positions: Index, steps: Steps, feed: int) -> tuple[Index, Index, Index]:
        """Return byte address, byte in the line and line of windows, each int64[P, steps]."""
        g = self.geometry
        row, col = np.divmod(positions, self.item.line_vectors)
        x = col[:, None] * g.col_step + steps.x
        line = row[:, None] * g.row_lines + steps.line + feed * g.ky_lines
        return row[:, None] * g.row_step + steps.row_addr + feed * g.ky_step + x, x, line

    def gather(self, memory: Bytes, positions: Index, steps: Steps, feed: int, width: int) -> Tiles:
        """Return the first `width` lanes of windows, int8[P, steps, width]."""
        g = self.geometry
        addr, x, line = self.place(positions, steps, feed)
        lane = np.arange(width, dtype=np.int64)
        byte = x[..., None] + lane
        inside = (byte >= 0) & (byte < g.line_bytes)
        inside &= ((line >= 0) & (line < g.lines))[..., None]
        # Lanes that are padding may have any address: clipping keeps the host's read legal.
        data = memory.view(np.int8).take(addr[..., None] + lane, mode="clip")
        data = np.where(inside, data, np.int8(g.pad))
        data *= lane < steps.lanes[:, None]
        return data

    def spans(self, positions: Index, steps: Steps, feed: int) -> tuple[Index, Index, Index]:
        """Return first byte address, last byte address and count of the lanes that are read."""
        g = self.geometry
        addr, x, line = self.place(positions, steps, feed)
        first = np.maximum(-x, 0)
        last = np.minimum(steps.lanes, g.line_bytes - x) - 1
        count = np.where((line >= 0) & (line < g.lines), np.maximum(last - first + 1, 0), 0)
        return addr + first, addr + last, count

    def surely_inside(self, size: int) -> bool:
        """Return whether a bound over all windows already shows that none leaves the memory."""
        g, item = self.geometry, self.item
        # A tail may be longer than a line, so it may begin more than one row.
        rows = np.arange(-(-self.stream // item.line_vectors), dtype=np.int64)
        feeds = np.arange(self.feeds, dtype=np.int64)[:, None]
        ky = np.arange(g.ky_count, dtype=np.int64)[:, None, None] * self.feeds + feeds
        line = item.y + rows * g.row_lines + ky * g.ky_lines
        base = item.addr - item.x + rows * g.row_step + ky * g.ky_step
        base = base[(line >= 0) & (line < g.lines)]
        x_last = int(self.steps.x.max()) + (item.line_vectors - 1) * g.col_step
        x_last = min(x_last + int(self.steps.lanes.max()), g.line_bytes) - 1
        x_first = max(item.x, 0)
        if not base.size or x_last < x_first:
            return True
        return int(base.min()) + x_first >= 0 and int(base.max()) + x_last < size


def _blocks(count: int, size: int) -> Iterator[slice]:
    """Cut `count` things into slices of at most `size`."""
    size = max(1, size)
    return (slice(start, min(start + size, count)) for start in range(0, count, size))


def _check_windows(walk: Walk, config: AcceleratorConfig) -> None:
    """Trap on the first window, in the order of the stream, with a byte outside the scratchpad."""
    size = config.scratchpad_bytes
    if walk.surely_inside(size):
        return
    positions = np.arange(walk.stream, dtype=np.int64)
    for part in _blocks(len(walk.steps), _BLOCK_BYTES // walk.stream):
        for feed in range(walk.feeds):
            first, last, count = walk.spans(positions, walk.steps[part], feed)
            outside = ((first < 0) | (last >= size)) & (count > 0)
            if outside.any():
                where = np.unravel_index(int(np.argmax(outside)), outside.shape)
                low, high = int(first[where]), int(last[where])
                raise Trap(Fault.LOCAL_ADDRESS, low if low < 0 else max(low, min(size, high)))


def _check_feeds(walk: Walk, config: AcceleratorConfig) -> None:
    """Trap where two feeds need one bank for the same stream position."""
    if walk.feeds == 1:
        return
    word, banks = config.word_bytes, config.banks
    positions = np.arange(walk.stream, dtype=np.int64)
    for part in _blocks(len(walk.steps), _BLOCK_BYTES // walk.stream):
        steps = walk.steps[part]
        taken = np.zeros((walk.stream, len(steps)), np.int64)
        for feed in range(walk.feeds):
            _, _, count = walk.spans(positions, steps, feed)
            addr, _, _ = walk.place(positions, steps, feed)
            reads = count > 0
            unaligned = addr % word != 0
            bank = addr // word % banks
            need = 1 << bank
            if feed == 0:
                need |= np.where(unaligned, 1 << (bank + 1) % banks, 0)
            if feed:
                _trap_where(reads & unaligned, Fault.ALIGNMENT, addr)
            _trap_where(reads & ((taken & need) != 0), Fault.PORT_CONFLICT, addr)
            taken |= np.where(reads, need, 0)


def _trap_where(where: NDArray[np.bool_], code: Fault, addr: Index) -> None:
    if where.any():
        raise Trap(code, int(addr.reshape(-1)[int(np.argmax(where))]))


def _tiles(
    item: isa.Pass, walk: Walk, state: ArrayState, memories: Memories, config: AcceleratorConfig
) -> Tiles:
    """Return the tiles of the steps, int8[steps, R, C], or one for all, int8[1, R, C]."""
    if item.weights == isa.WeightMode.KEEP:
        return state.tile[None]
    g = walk.geometry
    chunk = np.arange(len(walk.steps), dtype=np.int64) % g.chunk_count
    rows = np.where(chunk == g.chunk_count - 1, g.weight_rows_last, g.weight_rows)
    if item.weights == isa.WeightMode.ONCE:
        rows = rows[:1]
    check_span(item.weight_addr, int(rows.sum()), config.weight_words)
    start = item.weight_addr + np.cumsum(rows) - rows
    row = np.arange(config.rows, dtype=np.int64)
    words = memories.weights.view(np.int8)[:, : config.cols]
    tiles = words.take(start[:, None] + row, axis=0, mode="clip")
    tiles[row >= rows[:, None]] = 0
    return tiles


def _dense_sums(walk: Walk, steps: Steps, tiles: Tiles, memory: Bytes, *, total: bool) -> Sums:
    """Return the sums of the outputs, int64[outputs, C], of each step unless `total`."""
    width = min(int(steps.lanes.max()), tiles.shape[1])
    data = walk.gather(memory, walk.outputs(), steps, 0, width)
    weights = np.broadcast_to(tiles, (len(steps), *tiles.shape[1:]))[:, :width]
    if total:
        left = data.reshape(data.shape[0], -1).astype(np.float32)
        product = left @ weights.reshape(-1, weights.shape[2]).astype(np.float32)
        return product.astype(np.int64)[None]
    left = data.transpose(1, 0, 2).astype(np.float32)
    return (left @ weights.astype(np.float32)).astype(np.int64)


def _depthwise_sums(
    walk: Walk, steps: Steps, tiles: Tiles, memory: Bytes, group: int, *, total: bool
) -> Sums:
    """Return the sums of the outputs, int64[outputs, C], of each step unless `total`."""
    outputs, (_, rows, cols) = walk.outputs(), tiles.shape
    result = np.zeros((outputs.size, len(steps), cols), np.int64)
    # Only positions that a tap of an output sees are gathered: a stream may be far longer.
    delays = np.arange(rows - (walk.feeds - 1) * group, dtype=np.int64)
    positions = np.unique(outputs[:, None] + delays)
    slots = np.searchsorted(positions, outputs[:, None] + delays)
    in_stream = (positions < walk.stream)[:, None, None]
    for feed in range(walk.feeds):
        first = feed * group
        taps = range(first, rows if feed == walk.feeds - 1 else first + group)
        if not tiles[:, taps.start : taps.stop].any():
            continue
        data = walk.gather(memory, positions, steps, feed, cols) * in_stream
        for tap in taps:
            if tiles[:, tap].any():
                result += data[slots[:, tap - first]] * tiles[:, tap].astype(np.int32)
    return result.sum(axis=1)[None] if total else result.transpose(1, 0, 2)


def _accumulate(acc: NDArray[np.int32], sums: Sums, op: isa.AccOp) -> None:
    """Apply sums of steps, int64[steps, outputs, C], to the accumulator rows of the outputs."""
    if op == isa.AccOp.ADD:
        acc += sums.sum(axis=0).astype(np.int32)
    elif op == isa.AccOp.MAX:
        np.maximum(acc, sums.max(axis=0).astype(np.int32), out=acc)
    else:
        acc[...] = sums[-1].astype(np.int32)


def execute(
    item: isa.Pass, state: ArrayState, memories: Memories, config: AcceleratorConfig
) -> None:
    """Execute a `PASS`.

    Feeds other than feed 0 read whole words: one at another address is an ALIGNMENT fault.

    Raises
    ------
    Trap
        LOCAL_ADDRESS, ALIGNMENT or PORT_CONFLICT; nothing is accumulated.
    """
    walk = Walk(item, state.geometry, config)
    outputs = item.rows * item.cols
    check_span(item.acc, outputs, memories.acc.shape[0])
    tiles = _tiles(item, walk, state, memories, config)
    _check_windows(walk, config)
    _check_feeds(walk, config)
    acc = memories.acc[item.acc : item.acc + outputs]
    dense = state.geometry.mode == isa.FeedMode.DENSE
    width = max(state.geometry.lanes, state.geometry.lanes_last, config.cols)
    size = min(_EXACT_PRODUCTS // config.rows, _BLOCK_BYTES // (outputs * width))
    for part, op in _schedule(item, len(walk.steps), size):
        chosen = tiles[part] if len(tiles) > 1 else tiles
        total = op == isa.AccOp.ADD
        if dense:
            sums = _dense_sums(walk, walk.steps[part], chosen, memories.scratchpad, total=total)
        else:
            sums = _depthwise_sums(
                walk, walk.steps[part], chosen, memories.scratchpad, config.group_rows, total=total
            )
        _accumulate(acc, sums, op)
    state.tile = tiles[-1].copy()


def _schedule(item: isa.Pass, steps: int, size: int) -> Iterator[tuple[slice, isa.AccOp]]:
    """Cut the steps of a pass into blocks of one accumulator operation each."""
    start = 0
    if item.first_op != item.next_op:
        yield slice(0, 1), item.first_op
        start = 1
    if item.next_op == isa.AccOp.WRITE:
        # Only the last of several overwriting steps can be seen afterwards.
        start = max(start, steps - 1)
    for part in _blocks(steps - start, size):
        yield slice(start + part.start, start + part.stop), item.next_op
