"""DRAIN and VECTOR: accumulators and bytes of the scratchpad to bytes of the scratchpad."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from systolith.arch import float32, isa, numerics
from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Fault
from systolith.arch.errors import ProgramError

from .memory import Bytes, Index, Memories, Trap, check_addresses, check_span

Values = NDArray[np.int64]

_BLOCK_BYTES = 1 << 20
"""Bytes that a `VECTOR` handles at a time, to bound the memory of the host."""

_SHIFT_RANGE = (-31, 30)
"""Shifts that DOUBLE and SINGLE are defined for; the other roundings ignore them."""

_SHIFTED_ROUNDINGS = (isa.Rounding.DOUBLE, isa.Rounding.SINGLE)

_LOWEST_EXPONENT = -17
"""Exponent of `SUM` and `PRODUCT` that leaves nothing, as all lower ones: 47 bits shifted by 48."""

_MAX_COLS = 64
_ZEROS = np.zeros(_MAX_COLS, np.int64)
"""Parameters of as many columns as a configuration may have, before any were loaded."""


@dataclass
class DrainState:
    """What the instructions of the DRAIN engine leave for the next; all zero at program start.

    Parameters
    ----------
    quantize : Quantize
        Last `QUANTIZE`.
    elementwise : Elementwise
        Last `ELEMENTWISE`.
    bias, multiplier, shift : int64[cols]
        Parameters of the last `DRAIN` that loaded them.
    """

    quantize: isa.Quantize = field(default_factory=isa.Quantize)
    elementwise: isa.Elementwise = field(default_factory=isa.Elementwise)
    bias: Values = field(default_factory=lambda: _ZEROS)
    multiplier: Values = field(default_factory=lambda: _ZEROS)
    shift: Values = field(default_factory=lambda: _ZEROS)


def _load_params(
    drain: isa.Drain, state: DrainState, memories: Memories, config: AcceleratorConfig
) -> None:
    """Read biases and, if per channel, multipliers and shifts of all columns."""
    per_channel = bool(state.quantize.per_channel)
    words = config.param_tile_words if per_channel else config.bias_words
    check_span(drain.param_addr, words, config.param_words)

    def read(first: int, count: int, dtype: str) -> Values:
        raw = memories.params[drain.param_addr + first : drain.param_addr + first + count]
        return raw.reshape(-1).view(dtype)[: config.cols].astype(np.int64)

    state.bias = read(0, config.bias_words, "<i4")
    if per_channel:
        state.multiplier = read(config.bias_words, config.bias_words, "<i4")
        state.shift = read(2 * config.bias_words, config.shift_words, "<i1")


def _quantize(sums: Values, drain: isa.Drain, state: DrainState) -> Values:
    """Return the int8 values of int32 sums, `int64[outputs, columns]`, first columns only."""
    quantize, columns = state.quantize, sums.shape[1]
    multiplier, shift = np.array([quantize.multiplier]), np.array([quantize.shift])
    if drain.params != isa.ParamMode.NONE:
        sums = numerics.wrap_int32(sums + state.bias[:columns])
        if quantize.per_channel:
            multiplier, shift = state.multiplier[:columns], state.shift[:columns]
    low, high = _SHIFT_RANGE
    shifted = quantize.rounding in _SHIFTED_ROUNDINGS
    if shifted and ((shift < low) | (shift > high)).any():
        raise ProgramError(
            f"Shifts in the parameter memory must be in {low}..{high}, not {shift.tolist()}"
        )
    scaled = numerics.requantize(sums, multiplier, shift, quantize.rounding)
    values: Values = np.clip(scaled + quantize.zero_point, quantize.low, quantize.high)
    return values


def _combine(a: Values, b: Values, state: DrainState) -> Values:
    """Return a and b combined by the last `ELEMENTWISE`."""
    item = state.elementwise
    zeros = {"a_zero": item.a_zero, "b_zero": item.b_zero, "out_zero": item.out_zero}
    limits = {"low": item.low, "high": item.high}
    operands = {"a_multiplier": item.a_multiplier, "b_multiplier": item.b_multiplier}
    shift = {"out_shift": item.out_shift}
    exponent = {"out_shift": max(item.out_shift, _LOWEST_EXPONENT)}
    product = {"out_multiplier": item.out_multiplier}
    match item.op:
        case isa.ElementwiseOp.SUM:
            return float32.add(a, b, **zeros, **operands, **exponent, **limits)
        case isa.ElementwiseOp.PRODUCT:
            return float32.mul(a, b, **zeros, **product, **exponent, **limits)
        case isa.ElementwiseOp.MUL:
            return numerics.mul(a, b, **zeros, **product, **shift, **limits)
    own = {"left_shift": item.left_shift, "a_shift": item.a_shift, "b_shift": item.b_shift}
    return numerics.add(a, b, **own, **zeros, **operands, **product, **shift, **limits)


def _as_int8(data: Bytes) -> Values:
    return data.view(np.int8).astype(np.int64)


def _as_bytes(values: Values) -> Bytes:
    return values.astype(np.int8).view(np.uint8)


def _grid(base: int, row_step: int, col_step: int, drain: isa.Drain, cols: int) -> Index:
    """Return addresses of all columns of all outputs, int64[rows, drain.cols, cols]."""
    row = np.arange(drain.rows, dtype=np.int64)[:, None, None]
    col = np.arange(drain.cols, dtype=np.int64)[:, None]
    return base + row * row_step + col * col_step + np.arange(cols, dtype=np.int64)


def drain(
    item: isa.Drain, state: DrainState, memories: Memories, config: AcceleratorConfig
) -> None:
    """Execute a `DRAIN`.

    All residual operands are read before anything is written, and where outputs overlap, the later
    one remains.

    Raises
    ------
    Trap
        LOCAL_ADDRESS; nothing is written.
    ProgramError
        A shift in the parameter memory has no meaning.
    """
    outputs = item.rows * item.cols
    check_span(item.acc, outputs * item.reduce, memories.acc.shape[0])
    lanes = np.full(item.cols, item.lanes)
    lanes[-1] = item.lanes_last
    columns = int(lanes.max())
    written = np.broadcast_to(np.arange(columns) < lanes[:, None], (item.rows, item.cols, columns))
    target = _grid(item.addr, item.row_step, item.col_step, item, columns)[written]
    check_addresses(target, memories.scratchpad.size)
    steps = item.residual_row_step, item.residual_col_step
    source = _grid(item.residual, *steps, item, columns)[written]
    if item.use_residual:
        check_addresses(source, memories.scratchpad.size)
    if item.params == isa.ParamMode.LOAD:
        _load_params(item, state, memories, config)
    rows = memories.acc[item.acc : item.acc + outputs * item.reduce, :columns].astype(np.int64)
    sums = numerics.wrap_int32(rows.reshape(outputs, item.reduce, columns).sum(axis=1))
    values = _quantize(sums, item, state).reshape(written.shape)[written]
    if item.use_table:
        values = _as_int8(memories.tables[item.table][_as_bytes(values)])
    if item.use_residual:
        values = _combine(values, _as_int8(memories.scratchpad[source]), state)
    memories.scratchpad[target] = _as_bytes(values)


def vector(item: isa.Vector, state: DrainState, memories: Memories) -> None:
    """Execute a `VECTOR`, rows in order.

    Raises
    ------
    Trap
        LOCAL_ADDRESS; nothing is written.
    """
    memory = memories.scratchpad
    operands = [(item.addr, item.row_step), (item.a, item.a_step)]
    if item.op == isa.VectorOp.ELEMENTWISE:
        operands.append((item.b, item.b_step))
    rows = np.arange(item.rows, dtype=np.int64)
    for base, step in operands:
        starts = base + rows * step
        outside = np.flatnonzero(starts + item.length > memory.size)
        if outside.size:
            raise Trap(Fault.LOCAL_ADDRESS, max(int(starts[outside[0]]), memory.size))
    block = max(1, _BLOCK_BYTES // item.length)
    lane = np.arange(item.length, dtype=np.int64)
    for start in range(0, item.rows, block):
        row = rows[start : start + block, None]
        data = memory[item.a + row * item.a_step + lane]
        if item.op == isa.VectorOp.TABLE:
            data = memories.tables[item.table][data]
        elif item.op == isa.VectorOp.ELEMENTWISE:
            other = memory[item.b + row * item.b_step + lane]
            data = _as_bytes(_combine(_as_int8(data), _as_int8(other), state))
        memory[item.addr + row * item.row_step + lane] = data
