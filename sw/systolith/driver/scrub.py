"""A program that leaves nothing of earlier clients: on-chip memories and DRAM become zero.

The accelerator does it by itself, at the speed of its bus, so that a slow link to the host costs
nothing: zeros are loaded into every local memory, streamed through the array into the accumulators,
and stored over the memory that the driver uses.
"""

from collections.abc import Iterator
from dataclasses import replace

from systolith.arch import isa
from systolith.arch.config import TABLE_COUNT, TABLE_ENTRIES, AcceleratorConfig
from systolith.arch.program import AcceleratorSegment, Layer, Program, Region

_ZERO_BYTES = 64
"""Zeros in the CONSTANTS region: a beat of the widest bus, read again and again."""

_MOST_ROWS = 1 << 10
"""Accumulator rows that a pass writes."""

_LATENCY = 4
"""Cycles per byte of code: an answer of the memory for each instruction."""

_SETS = 2
"""Sets of parameters that DRAIN holds."""


def scrub_program(config: AcceleratorConfig, memory_bytes: int, alignment: int) -> Program:
    """Return the program that clears a machine and its DRAM, but for the bytes that it takes itself.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    memory_bytes : int
        DRAM that the driver may use, a multiple of `alignment`.
    alignment : int
        Bytes that regions start at multiples of.
    """
    longest = len(_code(config, memory_bytes))
    own = sum(-(-size // alignment) * alignment for size in (longest, _ZERO_BYTES))
    arena_bytes = max(0, memory_bytes - own)
    code = _code(config, arena_bytes)
    segment = AcceleratorSegment(
        code=code,
        inputs=(),
        outputs=(),
        input_bytes=0,
        output_bytes=0,
        arena_bytes=arena_bytes,
        layer_of=(0,) * (len(code) // isa.INSTRUCTION_BYTES),
        cycles=_cycles(config, arena_bytes, len(code)),
    )
    return Program(
        config=config,
        model="scrub",
        reference="none",
        inputs=(),
        outputs=(),
        tensors={},
        segments=(segment,),
        constants=bytes(_ZERO_BYTES),
        layers=(Layer(name="scrub", op="SCRUB", target="npu", macs=0),),
    )


def _code(config: AcceleratorConfig, arena_bytes: int) -> bytes:
    items = [*_loads(config), *_sums(config), *_stores(config, arena_bytes), isa.Halt()]
    return b"".join(item.to_bytes() for item in items)


def _cycles(config: AcceleratorConfig, arena_bytes: int, code_bytes: int) -> int:
    """Return about as many cycles as the program takes: all its moves, one after the other."""
    tables = TABLE_COUNT * TABLE_ENTRIES
    words = (config.weight_words + config.param_words) * config.weight_word_bytes
    moved = config.scratchpad_bytes + words + arena_bytes + code_bytes
    return moved // config.axi_bytes + tables + 2 * config.acc_rows + _LATENCY * code_bytes


def _loads(config: AcceleratorConfig) -> Iterator[isa.Instruction]:
    """Yield the loads of zeros into all local memories."""
    sizes = {
        isa.Space.SCRATCHPAD: config.scratchpad_bytes,
        isa.Space.WEIGHTS: config.weight_words * config.weight_word_bytes,
        isa.Space.PARAMS: config.param_words * config.weight_word_bytes,
        isa.Space.TABLES: TABLE_COUNT * TABLE_ENTRIES,
    }
    for space, size in sizes.items():
        yield isa.Load(
            space=space,
            region=Region.CONSTANTS,
            run=_ZERO_BYTES,
            total=size,
            segment=size,
        )


def _sums(config: AcceleratorConfig) -> Iterator[isa.Instruction]:
    """Yield what clears the accumulators, the weights in the array and the drain's parameters."""
    rows = 2 * config.acc_rows
    yield isa.Geometry(weight_rows=config.rows, weight_rows_last=config.rows)
    for first in range(0, rows, _MOST_ROWS):
        count = min(_MOST_ROWS, rows - first)
        # Every vector lies outside the image of no lines, so that it is padding, which is zero.
        yield isa.Pass(
            wait_load=0,
            weights=isa.WeightMode.ONCE,
            first_op=isa.AccOp.WRITE,
            acc=first,
            rows=1,
            cols=count,
            line_vectors=count,
        )
    yield isa.Quantize(per_channel=1)
    drain = isa.Drain(wait_execute=0, params=isa.ParamMode.LOAD)
    yield drain
    for _ in range(1, _SETS):
        yield replace(drain, wait_drain=0)


def _stores(config: AcceleratorConfig, arena_bytes: int) -> Iterator[isa.Instruction]:
    """Yield the stores of the cleared scratchpad over DRAM."""
    for offset in range(0, arena_bytes, config.scratchpad_bytes):
        size = min(config.scratchpad_bytes, arena_bytes - offset)
        yield isa.Store(
            wait_load=0,
            wait_drain=0,
            region=Region.ARENA,
            offset=offset,
            run=size,
            total=size,
            segment=size,
        )
