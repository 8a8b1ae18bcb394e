"""LOAD and STORE: byte streams between DRAM regions and local memories."""

from collections.abc import Sequence

import numpy as np

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Fault

from .memory import Bytes, Index, Memories, Region, Trap, check_addresses

_BEAT_FIELDS = (
    "offset",
    "run",
    "run_step",
    "addr",
    "segment",
    "segment_step",
    "group_step",
    "total",
)
"""Fields that count whole beats in loads of weights, parameters and tables."""


def dram_offsets(move: isa.Load | isa.Store) -> Index:
    """Return the byte offset in the region of each byte of the stream, int64[total]."""
    position = np.arange(move.total, dtype=np.int64)
    return move.offset + position // move.run * move.run_step + position % move.run


def local_addresses(move: isa.Load | isa.Store) -> Index:
    """Return the local byte address of each byte of the stream, int64[total]."""
    position = np.arange(move.total, dtype=np.int64)
    segment = position // move.segment
    return (
        move.addr
        + segment // move.segments * move.group_step
        + segment % move.segments * move.segment_step
        + position % move.segment
    )


def beat_bytes(move: isa.Load | isa.Store, base: int, beat: int) -> int:
    """Return the bytes of the beats that hold the runs, neighbouring runs merged to one."""
    if move.run_step == move.run:
        first = np.array([move.offset], np.int64)
        last = first + move.total - 1
    else:
        runs = np.arange(-(-move.total // move.run), dtype=np.int64)
        first = move.offset + runs * move.run_step
        last = first + np.minimum(move.run, move.total - runs * move.run) - 1
    skew = base % beat
    return int(((last + skew) // beat - (first + skew) // beat + 1).sum()) * beat


def _check_region(offsets: Index, region: Region, *, write: bool) -> None:
    """Trap on the first byte of a stream that the region does not allow.

    Bounds come before permission, and both before the bus.
    """
    permitted = region.write if write else region.read
    outside = offsets >= region.nbytes
    first = int(np.argmax(outside)) if outside.any() else -1
    if first == 0 or (first > 0 and permitted):
        raise Trap(Fault.REGION_BOUNDS, region.base + int(offsets[first]))
    if not permitted:
        raise Trap(Fault.REGION_PERMISSION, region.base + int(offsets[0]))
    absent = offsets >= region.data.size
    if absent.any():
        code = Fault.BUS_WRITE if write else Fault.BUS_READ
        raise Trap(code, region.base + int(offsets[int(np.argmax(absent))]))


def _check_alignment(move: isa.Load | isa.Store, beat: int) -> None:
    if move.space == isa.Space.SCRATCHPAD:
        return
    if any(getattr(move, field) % beat for field in _BEAT_FIELDS):
        raise Trap(Fault.ALIGNMENT, move.addr)


def _endpoints(
    move: isa.Load | isa.Store, memory: Bytes, region: Region, *, write: bool
) -> tuple[Index | slice, Index | slice]:
    """Check a move and return where its bytes are in DRAM and in local memory."""
    single_run = move.total <= move.run or move.run_step == move.run
    single_segment = move.total <= move.segment
    if single_run and single_segment:
        dram_end, local_end = move.offset + move.total, move.addr + move.total
        if dram_end <= region.data.size and local_end <= memory.size:
            permitted = region.write if write else region.read
            if permitted and dram_end <= region.nbytes:
                return slice(move.offset, dram_end), slice(move.addr, local_end)
    offsets, addresses = dram_offsets(move), local_addresses(move)
    check_addresses(addresses, memory.size)
    _check_region(offsets, region, write=write)
    return offsets, addresses


def load(
    move: isa.Load, memories: Memories, config: AcceleratorConfig, regions: Sequence[Region]
) -> int:
    """Execute a `LOAD` and return the bytes of its read beats.

    Where segments overlap, later bytes of the stream remain.

    Raises
    ------
    Trap
        ALIGNMENT, LOCAL_ADDRESS, REGION_BOUNDS, REGION_PERMISSION or BUS_READ; nothing is moved.
    """
    _check_alignment(move, config.axi_bytes)
    region, memory = regions[move.region], memories.space(move.space)
    offsets, addresses = _endpoints(move, memory, region, write=False)
    memory[addresses] = region.data[offsets]
    return beat_bytes(move, region.base, config.axi_bytes)


def store(
    move: isa.Store, memories: Memories, config: AcceleratorConfig, regions: Sequence[Region]
) -> int:
    """Execute a `STORE` and return the bytes written.

    Where runs overlap, later bytes of the stream remain.

    Raises
    ------
    Trap
        LOCAL_ADDRESS, REGION_BOUNDS, REGION_PERMISSION or BUS_WRITE; nothing is moved.
    """
    region, memory = regions[move.region], memories.space(move.space)
    offsets, addresses = _endpoints(move, memory, region, write=True)
    region.data[offsets] = memory[addresses]
    return move.total
