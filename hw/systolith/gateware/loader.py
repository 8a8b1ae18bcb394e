"""Tile loader: weight buffer to array, one tile ahead of the streamer."""

from amaranth.hdl import Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .delay import delayed
from .steps import COUNT_BITS, TILE, WEIGHT_ADDR_BITS
from .systolic import WEIGHT

WEIGHT_READ_LATENCY = 1
"""Cycles from `weight_en` to `weight_data`."""


class TileLoader(wiring.Component):
    """Shifts the next weight tile into the array while the current one is in use.

    Timing: a tile takes `rows` cycles, and tiles follow each other without gap if they are taken
    at once. A row of weights reaches the array `latency` cycles after the loader's turn to issue
    it; a vector that switches to the tile must reach the array `latency + 1` cycles after its own
    turn, in which `taking` comes.

    Parameters
    ----------
    rows, cols : int
        Size of a tile.
    word_bytes : int
        Bytes of a word of the weight buffer.
    words : int
        Words of the weight buffer.
    latency : int
        Cycles from the issue of a row to the array, at least 1.

    Members
    -------
    tiles : ``In(stream of TILE)``
        Tiles in the order of the steps.
    ready : ``Out(1)``
        The tile may be switched to by a vector that is issued in the next cycle.
    soon : ``Out(1)``
        `ready` of the next cycle.
    bad : ``Out(1)``
        Together with `ready`: the tile was not entirely inside the weight buffer.
    bad_addr : ``Out``
        First word of the tile that is outside.
    taking : ``In(1)``
        Pulse: the vector that switches to the tile is issued.
    weight_en, weight_addr, weight_data
        Read port of the weight buffer, data one cycle after the address.
    w_en, w_first, w_row
        To the array.
    """

    def __init__(self, *, rows, cols, word_bytes, words, latency):
        if latency < WEIGHT_READ_LATENCY:
            raise ValueError(f"Latency must be at least {WEIGHT_READ_LATENCY}, not {latency!r}")
        self._rows, self._cols, self._words, self._latency = rows, cols, words, latency
        super().__init__(
            {
                "tiles": In(stream.Signature(TILE)),
                "ready": Out(1),
                "soon": Out(1),
                "bad": Out(1),
                "bad_addr": Out(WEIGHT_ADDR_BITS),
                "taking": In(1),
                "weight_en": Out(1),
                "weight_addr": Out(ceil_log2(words)),
                "weight_data": In(data.ArrayLayout(unsigned(8), word_bytes)),
                "w_en": Out(1),
                "w_first": Out(1),
                "w_row": Out(WEIGHT).array(cols),
            }
        )

    @property
    def rows(self):
        return self._rows

    @property
    def cols(self):
        return self._cols

    @property
    def words(self):
        return self._words

    @property
    def latency(self):
        return self._latency

    def elaborate(self, platform):
        m = Module()
        last_row = self.rows - 1
        full, active, taken = Signal(), Signal(), Signal()
        m.d.sync += taken.eq(self.taking)
        row = Signal(range(self.rows), init=last_row)
        base, count = Signal(WEIGHT_ADDR_BITS), Signal(COUNT_BITS)
        begin = Signal()
        # The tile's first row is issued in the cycle in which the tile is accepted.
        m.d.comb += [
            self.tiles.ready.eq(~active & (~full | taken)),
            begin.eq(self.tiles.valid & self.tiles.ready),
            self.ready.eq(Mux(active, row <= 1, full & ~taken)),
        ]
        ends = active & (row == 0)
        next_row = Mux(row == 0, last_row, row - 1)
        next_full = ends | (full & ~taken)
        m.d.comb += self.soon.eq(
            Mux((begin | active) & ~ends, next_row <= 1, next_full & ~self.taking)
        )
        now_base = Mux(active, base, self.tiles.p.addr)
        now_count = Mux(active, count, self.tiles.p.rows)
        with m.If(taken):
            m.d.sync += full.eq(0)
        with m.If(begin):
            end = self.tiles.p.addr + self.tiles.p.rows
            m.d.sync += [
                active.eq(1),
                base.eq(self.tiles.p.addr),
                count.eq(self.tiles.p.rows),
                self.bad.eq((end > self.words) & (self.tiles.p.rows != 0)),
                self.bad_addr.eq(
                    Mux(self.tiles.p.addr < self.words, self.words, self.tiles.p.addr)
                ),
            ]
        with m.If(begin | active):
            m.d.sync += row.eq(next_row)
        with m.If(ends):
            m.d.sync += [active.eq(0), full.eq(1)]
        self._elaborate_read(m, begin | active, row, now_base, now_count)
        return m

    def _elaborate_read(self, m, issue, row, base, count):
        """Add the way from the issue of a row to the array; rows of no word are zero."""
        wait = self.latency - WEIGHT_READ_LATENCY
        word = Signal(range(self.words))
        stored = issue & (row < count)
        m.d.comb += [
            word.eq(base + row),
            self.weight_addr.eq(delayed(m, word, wait, name="weight_addr")),
            self.weight_en.eq(delayed(m, stored, wait, name="weight_en")),
            self.w_en.eq(delayed(m, issue, self.latency, name="w_en", reset_less=False)),
            self.w_first.eq(delayed(m, row == self.rows - 1, self.latency, name="w_first")),
        ]
        present = delayed(m, self.weight_en, WEIGHT_READ_LATENCY, name="present")
        for col in range(self.cols):
            weight = Mux(present, self.weight_data[col], Const(0, 8))
            m.d.comb += self.w_row[col].eq(weight)
