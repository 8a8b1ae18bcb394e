"""Region table: the windows of DRAM, in memories instead of registers."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from systolith.arch import csr, isa

from .words import REGION

_BYTE = 8
_WORD_BYTES = 4
_WORDS = 4
"""Registers of a region: base (two), size, flags."""

INDEX_BITS = exact_log2(isa.REGION_COUNT)
WORD_BITS = exact_log2(_WORDS)

_FLAG_BITS = REGION["read"].width + REGION["write"].width
_PLAIN_BITS = REGION.size - _FLAG_BITS

ENTRY_BITS = _PLAIN_BITS + _BYTE
"""Bits of an entry in memory: the flags are a byte of their own, the last one."""


def lookup_signature():
    """Return the signature of a reader of whole entries: `region` answers in the same cycle."""
    return wiring.Signature({"index": Out(INDEX_BITS), "region": In(REGION)})


def in_table(addr):
    """Return whether a register, by its address, is in the table; `addr` is an int or a value."""
    table_bits = exact_log2(csr.REGION_STRIDE * isa.REGION_COUNT)
    return addr >> table_bits == csr.REGION_BASE >> table_bits


class RegionTable(wiring.Component):
    """Base, size and permissions of the regions, as registers of 32 bits and as whole entries.

    The entries are in memories that are read without a clock, one for each reader: as registers,
    they would need a multiplexer of all entries at each reader, which crowds the wires of an FPGA.
    Region 0, which programs are fetched from, is kept in registers, too.

    After a reset, entries are cleared one per cycle; `ready` says when all are.

    Timing: `word` and `region` answer in the same cycle; what is written is there in the next one.

    Parameters
    ----------
    lookups : int
        Readers of whole entries.

    Members
    -------
    ready : ``Out(1)``
        The table is clear, and may be used.
    index, which : ``In``
        Region, and register of it, for `word` and the write.
    word : ``Out(32)``
        The register's value; bits that no field declares are zero.
    w_en, w_index, w_which, w_data : ``In``
        Bytes to write, where, and what.
    lookup : ``In(lookup_signature()).array(lookups)``
        Readers of whole entries.
    first : ``Out(REGION)``
        Region 0.
    """

    def __init__(self, *, lookups):
        if not isinstance(lookups, int) or lookups < 1:
            raise ValueError(f"Lookups must be at least 1, not {lookups!r}")
        word = _WORD_BYTES * _BYTE
        super().__init__(
            {
                "ready": Out(1),
                "index": In(INDEX_BITS),
                "which": In(WORD_BITS),
                "word": Out(word),
                "w_en": In(_WORD_BYTES),
                "w_index": In(INDEX_BITS),
                "w_which": In(WORD_BITS),
                "w_data": In(word),
                "lookup": In(lookup_signature()).array(lookups),
                "first": Out(REGION),
            }
        )

    def elaborate(self, platform):
        m = Module()
        cleared = Signal(range(isa.REGION_COUNT + 1))
        m.d.comb += self.ready.eq(cleared[-1])
        with m.If(~self.ready):
            m.d.sync += cleared.eq(cleared + 1)

        plain = self.w_data.replicate(_PLAIN_BITS // len(self.w_data))
        arriving = Cat(plain, self.w_data[:_FLAG_BITS])
        lanes = Cat(
            self.w_en & (self.w_which == word).replicate(_WORD_BYTES) for word in range(_WORDS)
        )[: ENTRY_BITS // _BYTE]
        first = Signal(REGION)
        m.d.comb += self.first.eq(first)
        for lane, en in enumerate(lanes):
            part = slice(lane * _BYTE, (lane + 1) * _BYTE)
            with m.If(en & (self.w_index == 0)):
                m.d.sync += first.as_value()[part].eq(arriving[part])

        en = lanes | (~self.ready).replicate(len(lanes))
        index = Mux(self.ready, self.w_index, cleared)
        written = arriving & self.ready.replicate(len(arriving))
        entry = Signal(REGION)
        readers = [(self.index, entry)]
        readers += [(port.index, port.region) for port in self.lookup]
        for number, (asked, answer) in enumerate(readers):
            memory = Memory(
                shape=data.ArrayLayout(_BYTE, len(lanes)), depth=isa.REGION_COUNT, init=[]
            )
            m.submodules[f"entries_{number}"] = memory
            w_port, r_port = memory.write_port(granularity=1), memory.read_port(domain="comb")
            m.d.comb += [
                w_port.en.eq(en),
                w_port.addr.eq(index),
                w_port.data.as_value().eq(written),
                r_port.addr.eq(asked),
                answer.eq(r_port.data.as_value()[: REGION.size]),
            ]
        words = Cat(entry, Const(0, _WORDS * len(self.word) - REGION.size))
        m.d.comb += self.word.eq(words.word_select(self.which, len(self.word)))
        return m
