"""Windows: vectors' addresses to scratchpad reads, their padding, and their faults."""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from systolith.arch.csr import Fault

from .delay import delayed
from .steps import ADDR, COUNT_BITS
from .streamer import vector_layout
from .systolic import WEIGHT
from .words import FAULT_REPORT

FAULT_LATENCY = 3
"""Cycles from a vector to the report that it is illegal: address, judgement, choice."""


class WindowReader(wiring.Component):
    """Reads the windows of the vectors and makes the lanes that the array gets.

    A window of which no byte is needed is not read. Faults are reported in the order of the
    vectors; of one vector, the first in the order LOCAL_ADDRESS of a feed, of the accumulators,
    ALIGNMENT, PORT_CONFLICT of the scratchpad.

    Timing: `feed_en` 1 cycle after `valid`, `lane` `latency` cycles after it, `fault_stb`
    `FAULT_LATENCY` cycles after it; 1 vector per cycle.

    Parameters
    ----------
    lanes : int
        Lanes of a vector, `max(rows, cols)` of the array.
    feeds : int
        Column feeds.
    word_bytes, size_bytes : int
        Scratchpad: bytes of a word and in all.
    acc_rows : int
        Accumulator rows, both banks.
    read_latency : int
        Cycles from `feed_en` to `feed_data`.

    Members
    -------
    valid, vector : ``In``
        A vector, from the streamer.
    feed_en, feed_addr, feed_data
        Scratchpad, see hw/README.md.
    feed_conflict : ``In(1)``
        The scratchpad's `conflict`.
    lane : ``Out(signed(8)).array(feeds, lanes)``
        Vectors for the array; zero where there is none.
    fault_stb, fault : ``Out``
        A vector is illegal.
    """

    def __init__(self, *, lanes, feeds, word_bytes, size_bytes, acc_rows, read_latency):
        if read_latency < 1:
            raise ValueError(f"Read latency must be at least 1 cycle, not {read_latency!r}")
        exact_log2(word_bytes)
        self._lanes, self._feeds, self._word_bytes = lanes, feeds, word_bytes
        self._size_log2, self._acc_rows = exact_log2(size_bytes), acc_rows
        self._read_latency = read_latency
        super().__init__(
            {
                "valid": In(1),
                "vector": In(vector_layout(acc_rows)),
                "feed_en": Out(1).array(feeds),
                "feed_addr": Out(self._size_log2).array(feeds),
                "feed_data": In(data.ArrayLayout(unsigned(8), word_bytes)).array(feeds),
                "feed_conflict": In(1),
                "lane": Out(WEIGHT).array(feeds, lanes),
                "fault_stb": Out(1),
                "fault": Out(FAULT_REPORT),
            }
        )

    @property
    def lanes(self):
        return self._lanes

    @property
    def feeds(self):
        return self._feeds

    @property
    def word_bytes(self):
        return self._word_bytes

    @property
    def size_bytes(self):
        return 1 << self._size_log2

    @property
    def acc_rows(self):
        return self._acc_rows

    @property
    def read_latency(self):
        return self._read_latency

    @property
    def latency(self):
        """Cycles from a vector to the array: address, read, padding."""
        return self.read_latency + 2

    def elaborate(self, platform):
        m = Module()
        x, walk = self.vector.x, self.vector.walk
        # Lanes low <= i < high are bytes of the line; both fit in COUNT_BITS once clamped.
        room, before = walk.line_bytes - x, -x
        # Compared at once, instead of with the differences.
        begins, reaches = x < walk.line_bytes, x + walk.lanes > 0
        low, high = Signal(COUNT_BITS, reset_less=True), Signal(COUNT_BITS, reset_less=True)
        lanes = Signal(COUNT_BITS, reset_less=True)
        m.d.sync += [
            lanes.eq(Mux(self.valid, walk.lanes, 0)),
            low.eq(Mux(x < 0, Mux(reaches, before, walk.lanes), 0)),
            high.eq(Mux(begins & self.valid, Mux(room < walk.lanes, room, walk.lanes), 0)),
        ]
        needed = begins & (walk.line_bytes != 0) & reaches
        in_image, addrs = [], []
        wide = signed(ADDR.width + 1)
        for feed in range(self.feeds):
            line = self.vector.line + feed * walk.ky_lines
            enabled = walk.depthwise if feed else Const(1)
            inside = Signal(name=f"in_image_{feed}", reset_less=True)
            addr = Signal(wide, name=f"addr_{feed}", reset_less=True)
            inside_now = (line >= 0) & (line < walk.lines)
            m.d.sync += [
                inside.eq(inside_now),
                addr.eq(self.vector.addr + feed * walk.ky_step),
                self.feed_en[feed].eq(self.valid & enabled & needed & inside_now),
            ]
            m.d.comb += self.feed_addr[feed].eq(addr[: self._size_log2])
            in_image.append(inside)
            addrs.append(addr)
        self._elaborate_lanes(m, low, high, lanes, in_image)
        self._elaborate_faults(m, low, high, addrs)
        return m

    def _elaborate_lanes(self, m, low, high, lanes, in_image):
        """Add the padding: lanes of the line, then lanes of the vector, others are zero."""
        pad = delayed(m, self.vector.walk.pad, self.latency - 1, name="pad")
        # Compared in the cycle before the data comes, so that the data meets one multiplexer.
        wait = self.read_latency - 1
        low, high, lanes = (
            delayed(m, value, wait, name=name)
            for value, name in ((low, "low"), (high, "high"), (lanes, "lanes"))
        )
        in_line, in_vector = Signal(self.lanes, reset_less=True), Signal(self.lanes)
        m.d.sync += [
            in_line.eq(Cat((low <= lane) & (lane < high) for lane in range(self.lanes))),
            in_vector.eq(Cat(lane < lanes for lane in range(self.lanes))),
        ]
        for feed in range(self.feeds):
            inside = delayed(m, in_image[feed], self.read_latency, name=f"inside_{feed}")
            for lane in range(self.lanes):
                padded = Mux(in_vector[lane], pad, 0)
                byte = self.feed_data[feed][lane].as_signed()
                m.d.sync += self.lane[feed][lane].eq(Mux(in_line[lane] & inside, byte, padded))

    def _elaborate_faults(self, m, low, high, addrs):
        """Check the vector whose windows are being read."""
        index = delayed(m, self.vector.walk.index, FAULT_LATENCY, name="index")
        acc = delayed(m, self.vector.acc, 1, name="acc")
        kept = delayed(m, self.valid & self.vector.keep, 1, name="kept", reset_less=False)
        faults = [(kept & (acc >= self.acc_rows), Fault.LOCAL_ADDRESS, acc)]
        windows, unaligned = [], []
        for en, addr in zip(self.feed_en, addrs, strict=True):
            first, end = addr + low, addr + high
            beyond = (first >> self._size_log2) > 0
            outside = (first < 0) | (((end - 1) >> self._size_log2) > 0)
            place = Mux((first < 0) | beyond, first, self.size_bytes)
            windows.append((en & outside, Fault.LOCAL_ADDRESS, place))
        for en, addr in zip(self.feed_en[1:], addrs[1:], strict=True):
            offset = addr[: exact_log2(self.word_bytes)]
            unaligned.append((en & (offset != 0), Fault.ALIGNMENT, addr))
        faults = [*windows, *faults, *unaligned]
        faults.append((self.feed_conflict, Fault.PORT_CONFLICT, addrs[0]))
        # Signed, so that the report says a negative address in 64 bits.
        place = Signal(signed(ADDR.width + 2), reset_less=True)
        hits = Signal(len(faults))
        m.d.sync += [
            hits.eq(Cat(hit for hit, _, _ in faults)),
            self.fault_stb.eq(hits.any()),
        ]
        for number, (_hit, code, value) in reversed(list(enumerate(faults))):
            judged = Signal.like(place, name=f"place{number}", reset_less=True)
            m.d.sync += judged.eq(value)
            with m.If(hits[number]):
                m.d.sync += [self.fault.code.eq(code), place.eq(judged)]
        m.d.comb += [self.fault.index.eq(index), self.fault.addr.eq(place)]
