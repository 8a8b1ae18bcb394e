"""Programs that leave something in every memory, and programs that read what is left there.

They show that a client of a device finds nothing of the client before it. Each spy puts what one
memory holds into the OUTPUT region; the machine's own reset is all that comes before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from systolith.arch import isa
from systolith.arch.config import TABLE_COUNT, TABLE_ENTRIES, AcceleratorConfig
from systolith.arch.program import AcceleratorSegment, Layer, Program, Region
from systolith.bench.random_instruction import WAIT_FOR_ALL
from systolith.bench.random_program import dump
from systolith.driver.scrub import scrub_program

SENTINEL = 0x15
"""What :func:`fill_program` leaves; legal as a shift, too."""

_BYTES_OF_A_SUM = 4


def fill_program(config: AcceleratorConfig, memory_bytes: int, alignment: int) -> Program:
    """Return a program that leaves sentinels wherever scrubbing leaves zeros."""
    program = scrub_program(config, memory_bytes, alignment)
    (segment,) = program.segments
    assert isinstance(segment, AcceleratorSegment)
    items = [
        replace(item, pad=SENTINEL) if isinstance(item, isa.Geometry) else item
        for item in isa.iterate(segment.code)
    ]
    code = b"".join(item.to_bytes() for item in items)
    return replace(
        program,
        model="fill",
        segments=(replace(segment, code=code),),
        constants=bytes([SENTINEL]) * len(program.constants),
    )


def spy_programs(config: AcceleratorConfig) -> dict[str, Program]:
    """Return a spy for each memory, by its name."""
    store, *sums = dump(config, Region.OUTPUT, Region.OUTPUT)
    sums_bytes = 2 * config.acc_rows * config.cols * _BYTES_OF_A_SUM
    identity = np.eye(config.rows, dtype=np.uint8).tobytes()
    ramp = np.roll(np.arange(TABLE_ENTRIES, dtype=np.uint8), TABLE_ENTRIES // 2).tobytes()
    tiles = config.weight_words // config.rows
    return {
        "scratchpad": _program(config, [store], config.scratchpad_bytes),
        "accumulators": _program(config, sums[:-1], sums_bytes),
        "array": _program(config, _tiles(config, (None,)), config.rows * config.cols, identity),
        "weight buffer": _program(
            config, _tiles(config, range(tiles)), tiles * config.rows * config.cols, identity
        ),
        "parameters": _program(config, _biases(config), _bias_bytes(config)),
        "tables": _program(config, _tables(config), TABLE_COUNT * TABLE_ENTRIES, ramp),
    }


def _program(
    config: AcceleratorConfig,
    items: Sequence[isa.Instruction] | Iterator[isa.Instruction],
    output_bytes: int,
    constants: bytes = b"",
) -> Program:
    """Return a program whose instructions wait for each other."""
    code = [replace(item, **WAIT_FOR_ALL) for item in items]
    segment = AcceleratorSegment(
        code=b"".join(item.to_bytes() for item in (*code, isa.Halt())),
        inputs=(),
        outputs=(),
        input_bytes=0,
        output_bytes=output_bytes,
        arena_bytes=0,
        layer_of=(0,) * (len(code) + 1),
    )
    return Program(
        config=config,
        model="spy",
        reference="none",
        inputs=(),
        outputs=(),
        tensors={},
        segments=(segment,),
        constants=constants,
        layers=(Layer(name="spy", op="SPY", target="npu", macs=0),),
    )


def _load(size: int) -> isa.Load:
    return isa.Load(region=Region.CONSTANTS, run=size, total=size, segment=size)


def _store(offset: int, size: int) -> isa.Store:
    return isa.Store(region=Region.OUTPUT, offset=offset, run=size, total=size, segment=size)


def _tiles(config: AcceleratorConfig, tiles: Sequence[int | None]) -> Iterator[isa.Instruction]:
    """Yield what reads weight tiles: unit vectors through each; None is the one in the array."""
    rows, cols = config.rows, config.cols
    yield _load(rows * rows)
    yield isa.Geometry(
        lines=1, line_bytes=rows * rows, col_step=rows, lanes=rows, lanes_last=rows,
        weight_rows=rows, weight_rows_last=rows,
    )  # fmt: skip
    # int8 sums as they are: s << 1, times 2^30 / 2^31.
    yield isa.Quantize(multiplier=1 << 30, shift=1, low=-128, high=127)
    for number, tile in enumerate(tiles):
        keep = tile is None
        yield isa.Pass(
            weights=isa.WeightMode.KEEP if keep else isa.WeightMode.ONCE,
            weight_addr=0 if tile is None else tile * rows,
            cols=rows,
            line_vectors=rows,
        )
        yield isa.Drain(cols=rows, lanes=cols, lanes_last=cols, col_step=cols, addr=rows * rows)
        yield replace(_store(number * rows * cols, rows * cols), addr=rows * rows)


def _bias_bytes(config: AcceleratorConfig) -> int:
    return config.param_words // config.bias_words * config.cols * _BYTES_OF_A_SUM


def _biases(config: AcceleratorConfig) -> Iterator[isa.Instruction]:
    """Yield what reads the parameter memory as biases, byte by byte, of sums that are zero."""
    yield isa.Geometry()
    yield isa.Pass(weights=isa.WeightMode.ONCE)
    offset = 0
    for shift in range(0, 8 * _BYTES_OF_A_SUM, 8):
        # (v << shift) * 2^7 * 2 / 2^32 is the byte of v that the shift brings to the top.
        yield isa.Quantize(multiplier=1 << 7, shift=shift, low=-128, high=127)
        for tile in range(config.param_words // config.bias_words):
            yield isa.Drain(
                params=isa.ParamMode.LOAD,
                param_addr=tile * config.bias_words,
                lanes=config.cols,
                lanes_last=config.cols,
            )
            yield _store(offset, config.cols)
            offset += config.cols


def _tables(config: AcceleratorConfig) -> Iterator[isa.Instruction]:
    """Yield what looks every value up in every table."""
    yield _load(TABLE_ENTRIES)
    for table in range(TABLE_COUNT):
        yield isa.Vector(
            op=isa.VectorOp.TABLE, table=table, length=TABLE_ENTRIES, addr=TABLE_ENTRIES
        )
        yield replace(_store(table * TABLE_ENTRIES, TABLE_ENTRIES), addr=TABLE_ENTRIES)
