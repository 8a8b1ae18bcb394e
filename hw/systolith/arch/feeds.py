"""Whether the column feeds of a depthwise pass meet: in a bank, or off the words they must start at.

Feed 0 reads at any byte address and takes two neighbouring banks unless it is aligned; the others
read whole words. A feed whose window lies in padding reads nothing and meets nobody.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from . import isa
from .config import AcceleratorConfig
from .csr import Fault

MAX_POSITIONS = 1 << 20
"""Positions along a line, or lines, that are looked at one by one; a pass of more is refused."""


@dataclass(frozen=True)
class Meeting:
    """What is wrong with the feeds of a pass: `Fault.ALIGNMENT`, `PORT_CONFLICT`, or too many."""

    fault: Fault | None
    feed: int


def meeting(item: isa.Pass, g: isa.Geometry, config: AcceleratorConfig) -> Meeting | None:
    """Return what is wrong with the feeds of a pass, or None if nothing is.

    Parameters
    ----------
    item : Pass
        The pass.
    g : Geometry
        How it walks.
    config : AcceleratorConfig
        Machine.
    """
    if g.mode != isa.FeedMode.DEPTHWISE or config.feeds == 1:
        return None
    period = config.word_bytes * config.banks
    rows = -(-(item.rows * item.line_vectors + item.tail) // item.line_vectors)
    along = item.line_vectors * g.kx_count * g.chunk_count
    if max(along, rows * g.ky_count) > MAX_POSITIONS:
        return Meeting(None, 0)
    x = _starts(item, g)
    # Where a tail ends within a line, the rest of it is not streamed; to look at it all the same
    # only matters to programs that nobody compiles.
    residues = np.unique(x % period)
    base, reads = _lines(item, g, config, rows)
    if not residues.size or not reads.size:
        return None
    return _meeting((base[:, None] + residues) % period, reads, g.ky_step, config)


def _starts(item: isa.Pass, g: isa.Geometry) -> NDArray[np.int64]:
    """Return the places in the line of the windows that need a byte of it."""
    chunk = np.arange(g.chunk_count, dtype=np.int64)
    steps = np.arange(g.kx_count, dtype=np.int64)[:, None] * g.kx_step + chunk * g.chunk_step
    lanes = np.where(chunk == g.chunk_count - 1, g.lanes_last, g.lanes)
    columns = np.arange(item.line_vectors, dtype=np.int64)[:, None, None] * g.col_step
    x = item.x + columns + steps
    needed: NDArray[np.int64] = x[np.maximum(x, 0) < np.minimum(x + lanes, g.line_bytes)]
    return needed


def _lines(
    item: isa.Pass, g: isa.Geometry, config: AcceleratorConfig, rows: int
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where feed 0 reads in each line, before x, and which feeds read there."""
    row = np.arange(rows, dtype=np.int64)[:, None]
    ky = np.arange(g.ky_count, dtype=np.int64) * config.feeds
    feed = np.arange(config.feeds, dtype=np.int64)
    line = item.y + row * g.row_lines + ky * g.ky_lines
    lines = line.reshape(-1, 1) + feed * g.ky_lines
    reads = (lines >= 0) & (lines < g.lines)
    base = item.addr - item.x + row * g.row_step + ky * g.ky_step
    period = config.word_bytes * config.banks
    seen = np.unique(np.column_stack([base.reshape(-1) % period, reads]), axis=0)
    seen = seen[seen[:, 1:].any(axis=1)]
    return seen[:, 0], seen[:, 1:].astype(np.bool_)


def _meeting(
    addr: NDArray[np.int64], reads: NDArray[np.bool_], ky_step: int, config: AcceleratorConfig
) -> Meeting | None:
    """Return what is wrong where feed 0 would read at `addr`, int64[lines, windows]."""
    word, banks = config.word_bytes, config.banks
    taken = np.zeros(addr.shape, np.int64)
    for feed in range(config.feeds):
        here = addr + feed * ky_step
        unaligned = here % word != 0
        bank = here // word % banks
        need = np.left_shift(1, bank)
        if feed == 0:
            need |= np.where(unaligned, np.left_shift(1, (bank + 1) % banks), 0)
        elif (unaligned & reads[:, [feed]]).any():
            return Meeting(Fault.ALIGNMENT, feed)
        need = np.where(reads[:, [feed]], need, 0)
        if (taken & need).any():
            return Meeting(Fault.PORT_CONFLICT, feed)
        taken |= need
    return None
