"""Lookup tables of the drain: one copy per lane, written in beats."""

from amaranth.hdl import Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from systolith.arch.config import TABLE_COUNT, TABLE_ENTRIES

from .delay import delayed
from .parity import Parity, check_read

TABLE_BYTES = TABLE_COUNT * TABLE_ENTRIES
_ROW_BYTES = 4
"""Bytes of a row of the memory: the narrowest beat, and a cheap choice of the byte behind it."""

TABLE_ROW_WRITE = data.StructLayout(
    {
        "en": 1,
        "addr": exact_log2(TABLE_BYTES // _ROW_BYTES),
        "data": 8 * _ROW_BYTES,
        "mask": _ROW_BYTES,
    }
)
"""A write of some bytes of one row of the tables, for all lanes."""


def table_write_layout(beat_bytes):
    """Return the layout of a beat for the tables; `addr` is a multiple of the beat."""
    return data.StructLayout(
        {
            "addr": exact_log2(TABLE_BYTES),
            "data": data.ArrayLayout(unsigned(8), beat_bytes),
            "mask": beat_bytes,
        }
    )


class TableWriter(wiring.Component):
    """Cut beats into rows of the table memories.

    Timing: a beat is taken in `beat_bytes / 4` cycles; its last row is written at the end of the
    cycle in which it is taken.

    Parameters
    ----------
    beat_bytes : int
        Bytes of a beat; a power of two of at least 4.

    Members
    -------
    i : ``In(stream.Signature(table_write_layout(beat_bytes)))``
    row : ``Out(TABLE_ROW_WRITE)``
    """

    def __init__(self, *, beat_bytes):
        if beat_bytes < _ROW_BYTES:
            raise ValueError(f"Beat must be at least {_ROW_BYTES} bytes wide, not {beat_bytes}")
        exact_log2(beat_bytes)
        self._beat_bytes = beat_bytes
        super().__init__(
            {
                "i": In(stream.Signature(table_write_layout(beat_bytes))),
                "row": Out(TABLE_ROW_WRITE),
            }
        )

    @property
    def beat_bytes(self):
        return self._beat_bytes

    def elaborate(self, platform):
        m = Module()
        rows = self.beat_bytes // _ROW_BYTES
        step_bits = exact_log2(rows)
        step = Signal(step_bits)
        start = exact_log2(_ROW_BYTES) + step_bits
        m.d.comb += [
            self.i.ready.eq(step == rows - 1),
            self.row.en.eq(self.i.valid),
            self.row.addr.eq(Cat(step, self.i.p.addr[start:])),
            self.row["data"].eq(self.i.p["data"].as_value().word_select(step, 8 * _ROW_BYTES)),
            self.row.mask.eq(self.i.p.mask.word_select(step, _ROW_BYTES)),
        ]
        with m.If(self.i.valid):
            m.d.sync += step.eq(step + 1)
        return m


class TableLane(wiring.Component):
    """The tables of one lane: 256 rows of 4 bytes, one read and one write port.

    Timing: latency 2 cycles; one lookup per cycle. A lookup while its row is written yields the old
    entry.

    Parameters
    ----------
    protected : bool
        Whether each byte is stored with parity.

    Members
    -------
    value : ``In(8)``
        What is looked up: entry `value` as an unsigned byte.
    enable : ``In(1)``
        Look up; otherwise `entry` is `value`.
    table : ``In(2)``
    entry : ``Out(8)``
    write : ``In(TABLE_ROW_WRITE)``
    soft_error : ``Out(1)``, if `protected`
        A row that was looked up has wrong parity.
    """

    latency = 2

    def __init__(self, *, protected=False):
        self._protected = protected
        super().__init__(
            {
                "value": In(8),
                "enable": In(1),
                "table": In(ceil_log2(TABLE_COUNT)),
                "entry": Out(8),
                "write": In(TABLE_ROW_WRITE),
            }
            | ({"soft_error": Out(1)} if protected else {})
        )

    @property
    def protected(self):
        return self._protected

    def elaborate(self, platform):
        m = Module()
        parity = Parity(8, enabled=self.protected)
        m.submodules.memory = memory = Memory(
            shape=parity.width(8 * _ROW_BYTES), depth=TABLE_BYTES // _ROW_BYTES, init=[]
        )
        w_port = memory.write_port(granularity=parity.granularity)
        r_port = memory.read_port()
        index = Cat(self.value, self.table)
        byte_bits = exact_log2(_ROW_BYTES)
        value = delayed(m, self.value, 1, name="value")
        enable = delayed(m, self.enable, 1, name="enable")
        found = parity.word(r_port.data).word_select(value[:byte_bits], 8)
        m.d.comb += [
            w_port.addr.eq(self.write.addr),
            w_port.data.eq(parity.encode(self.write["data"])),
            w_port.en.eq(self.write.mask & self.write.en.replicate(_ROW_BYTES)),
            r_port.addr.eq(index[byte_bits:]),
            r_port.en.eq(self.enable),
        ]
        entry = Signal(8, reset_less=True)
        m.d.sync += entry.eq(Mux(enable, found, value))
        m.d.comb += self.entry.eq(entry)
        if self.protected:
            m.d.comb += self.soft_error.eq(check_read(m, parity, r_port, w_port, name="row"))
        return m
