"""The memories with parity: filled, then read and written at random, in whole words and in parts."""

from typing import Any

import numpy as np

from systolith.arch import isa

from .blocks import Block, Stimulus
from .simulator import Bits, BlockSimulator, put

_CYCLES = 90
"""Cycles of random reads and writes after the memory was filled."""

_TAIL = 8
"""Cycles at the end in which answers and alarms arrive."""

_WORD, _BEAT = 8, 4
_ROWS_LOG2 = 5
_LANES, _BANK_ROWS, _SUM_BITS = 4, 8, 18
_TABLE_ROWS = 256
_SCRATCHPAD_STREAMS = ("drain_read", "store_read", "drain_write", "load_write")
_FIFO_BITS, _FIFO_DEPTH = 40, 8


class _Script:
    """Inputs of a run under construction, port by port, and what of its outputs counts."""

    def __init__(self, sim: BlockSimulator, rng: np.random.Generator, fill: int) -> None:
        self._sim, self._rng = sim, rng
        self.start, self.cycles = 1 + fill, 1 + fill + _CYCLES + _TAIL
        self.inputs, self.mask = sim.inputs.new(self.cycles), sim.outputs.new(self.cycles)

    def port(self, name: str) -> Bits:
        """Return the bits of an input."""
        return self._sim.inputs.part(self.inputs, name)

    def counts(self, name: str) -> Bits:
        """Return which bits of an output count."""
        return self._sim.outputs.part(self.mask, name)

    def scatter(self, *names: str, low: int | None = None) -> None:
        """Fill inputs with random bits, by default from the end of the filling on."""
        for name in names:
            bits = self.port(name)[self.start if low is None else low : self.cycles - _TAIL]
            bits[:] = self._rng.integers(0, 2, bits.shape, np.uint8)

    def only(self, remainder: int, *names: str) -> None:
        """Clear inputs in every other cycle after the filling: a byte is not written while it is read."""
        for name in names:
            self.port(name)[self.start + (self.start + remainder + 1) % 2 :: 2] = 0

    def clean(self, name: str) -> Bits:
        """Return the bits of an output in a run without flip."""
        words, _ = self._sim.clean(self.inputs)
        bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")
        return self._sim.outputs.part(bits, name)

    def stimulus(self) -> Stimulus:
        """Return what was written down."""
        return Stimulus(self.inputs, self.mask)


def memory_blocks() -> tuple[Block, ...]:
    """Return a small one of each kind of memory."""
    return (
        Block("scratchpad", _scratchpad, ("soft_error",), _use_scratchpad, memories=True),
        Block("weights and parameters", _local, ("soft_error",), _use_local, memories=True),
        Block("accumulators", _accumulators, ("soft_error",), _use_accumulators, memories=True),
        Block("tables", _table, ("soft_error",), _use_table, memories=True),
        Block(
            "drain parameters", _store, ("bias_broken", "scale_broken"), _use_store, memories=True
        ),
        Block("queues", _fifo, ("soft_error",), _use_fifo, memories=True),
    )


def _local() -> Any:
    from systolith.gateware.local_memory import LocalMemory

    size = _WORD << _ROWS_LOG2
    return LocalMemory(size_bytes=size, word_bytes=_WORD, beat_bytes=_BEAT, protected=True)


def _use_local(sim: BlockSimulator, rng: np.random.Generator) -> Stimulus:
    beats = (_WORD << _ROWS_LOG2) // _BEAT
    script = _Script(sim, rng, beats)
    script.scatter("en", "addr", "write__valid")
    script.only(0, "en")
    script.only(1, "write__valid")
    script.scatter("write__payload", low=1)
    payload = script.port("write__payload")
    payload[:, -_BEAT:] = 1
    payload[:, : _BEAT.bit_length() - 1] = 0
    script.port("write__valid")[1 : script.start] = 1
    for beat in range(beats):
        put(payload[:, : _ROWS_LOG2 + _WORD.bit_length() - 1], 1 + beat, beat * _BEAT)
    enabled = script.port("en")[:-1, 0].astype(bool)
    script.counts("data")[1:][enabled] = 1
    return script.stimulus()


def _scratchpad() -> Any:
    from systolith.gateware.scratchpad import Scratchpad

    return Scratchpad(_WORD << _ROWS_LOG2, _WORD, 4, 2, protected=True)


def _use_scratchpad(sim: BlockSimulator, rng: np.random.Generator) -> Stimulus:
    words, latency = 1 << _ROWS_LOG2, 4
    script = _Script(sim, rng, words + 3)
    for name in _SCRATCHPAD_STREAMS:
        script.scatter(f"{name}__valid", f"{name}__payload")
    for feed in range(2):
        script.scatter(f"feed_en__{feed}", f"feed_addr__{feed}")
        # A read reaches the banks one cycle earlier than a write that was asked for with it.
        script.only(0, f"feed_en__{feed}")
    script.only(0, *(f"{port}__valid" for port in _SCRATCHPAD_STREAMS))
    # Feed 0 is there only now and then, or nobody else would be served.
    script.port("feed_en__0")[::4] = 0
    script.scatter("load_write__payload", low=1)
    script.port("load_write__valid")[1 : 1 + words] = 1
    script.port("load_write__payload")[1 : 1 + words, -_WORD:] = 1
    address = script.port("load_write__payload")[:, : _ROWS_LOG2 + _WORD.bit_length() - 1]
    for word in range(words):
        put(address, 1 + word, word * _WORD)
    for feed in range(2):
        enabled = script.port(f"feed_en__{feed}")[:-latency, 0].astype(bool)
        script.counts(f"feed_data__{feed}")[latency:][enabled] = 1
    for side in ("drain", "store"):
        valid = script.clean(f"{side}_data_valid")[:, 0].astype(bool)
        script.counts(f"{side}_data")[valid] = 1
    return script.stimulus()


def _accumulators() -> Any:
    from amaranth.hdl import signed

    from systolith.gateware.accumulator import Accumulators

    return Accumulators(
        cols=_LANES, bank_rows=_BANK_ROWS, lanes=_LANES, sum_shape=signed(_SUM_BITS), protected=True
    )


def _use_accumulators(sim: BlockSimulator, rng: np.random.Generator) -> Stimulus:
    rows, latency = 2 * _BANK_ROWS, 3
    script = _Script(sim, rng, rows + _LANES + 4)
    script.scatter("w_en", "r_en", "r_addr")
    for col in range(_LANES):
        script.scatter(f"sums__{col}", low=1)
    script.port("w_en")[1 : 1 + rows] = 1
    # Rows in turn, so that none is modified again too soon; at first all are written.
    for cycle in range(1, script.cycles):
        put(script.port("w_addr"), cycle, (cycle - 1) % rows)
        fills = cycle <= rows
        put(script.port("w_op"), cycle, 0 if fills else int(rng.integers(len(isa.AccOp))))
    conflict = script.clean("conflict")[:, 0]
    reads = script.port("r_en")[:, 0] > conflict
    for lane in range(_LANES):
        late = latency + lane
        script.counts(f"r_data__{lane}")[late:][reads[:-late]] = 1
    return script.stimulus()


def _table() -> Any:
    from systolith.gateware.tables import TableLane

    return TableLane(protected=True)


def _use_table(sim: BlockSimulator, rng: np.random.Generator) -> Stimulus:
    script = _Script(sim, rng, _TABLE_ROWS)
    script.scatter("value", "table", "enable")
    script.scatter("write", low=1)
    write = script.port("write")
    write[1 : script.start, 0] = 1
    write[1 : script.start, -_BEAT:] = 1
    for row in range(_TABLE_ROWS):
        put(write[:, 1:9], 1 + row, row)
    script.only(0, "enable")
    write[script.start + script.start % 2 :: 2, 0] = 0
    script.counts("entry")[script.start + 2 : -_TAIL] = 1
    return script.stimulus()


def _store() -> Any:
    from systolith.gateware.drain_params import ParameterStore

    return ParameterStore(cols=_LANES, lanes=_LANES, word_bytes=_WORD, protected=True)


def _use_store(sim: BlockSimulator, rng: np.random.Generator) -> Stimulus:
    # Words of biases, of multipliers, and one of shifts, for each of two sets.
    words = 2 * (4 * _LANES // _WORD) + 1
    script = _Script(sim, rng, 2 * words)
    script.scatter("write", low=1)
    for lane in range(_LANES):
        script.scatter(f"r_set__{lane}")
    write = script.port("write")
    for fill in range(2 * words):
        put(write[:, :3], 1 + fill, 1 | (0b110 if fill >= words else 0))
        put(write[:, 3:6], 1 + fill, fill % words)
    for name in ("bias", "multiplier", "shift"):
        for lane in range(_LANES):
            script.counts(f"{name}__{lane}")[script.start : -_TAIL] = 1
    return script.stimulus()


def _fifo() -> Any:
    from systolith.gateware.slices import FlowFifo

    return FlowFifo(_FIFO_BITS, _FIFO_DEPTH, protected=True, bypass=False)


def _use_fifo(sim: BlockSimulator, rng: np.random.Generator) -> Stimulus:
    script = _Script(sim, rng, 0)
    script.scatter("i__valid", "i__payload", "o__ready")
    script.counts("o__payload")[script.clean("o__valid")[:, 0].astype(bool)] = 1
    return script.stimulus()
