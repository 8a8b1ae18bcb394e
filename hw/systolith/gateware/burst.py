"""From runs of bytes to legal, checked AXI bursts, and from bursts to the lanes of their beats."""

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from systolith.arch import isa
from systolith.arch.csr import Fault

from .axi import ADDR_BITS, BOUNDARY_BYTES, CACHE, INCR, PROT
from .region_table import lookup_signature
from .slices import SkidBuffer, complement_of
from .words import FAULT_REPORT, REGION

CODE_BITS = FAULT_REPORT["code"].width

BURST_BEATS = 16
"""Beats of the longest burst. Bursts end at multiples of their longest size, so none crosses 4 KiB."""

OFFSET_BITS = 33
"""Bits of a byte offset in a region: one more than the ISA's, so that the first run beyond 4 GiB
is seen to be outside instead of wrapping."""

RUN = data.StructLayout(
    {
        "region": range(isa.REGION_COUNT),
        "offset": OFFSET_BITS,
        "size": isa.LOCAL_ADDR_BITS,
        "last": 1,
    }
)
"""Consecutive bytes of a region: `size` is stored minus one, `last` marks an instruction's end."""


def burst_layout(beat_bytes):
    """Return the layout of a burst of beats of `beat_bytes` bytes.

    `addr` is beat-aligned, `len` is stored minus one, `lo` is the first lane of the first beat,
    `hi` the last lane of the last beat. With a `code` it is no burst but a fault at `addr`.
    """
    lane = range(beat_bytes)
    return data.StructLayout(
        {
            "addr": ADDR_BITS,
            "len": range(BURST_BEATS),
            "lo": lane,
            "hi": lane,
            "last": 1,
            "code": CODE_BITS,
        }
    )


def beat_layout(beat_bytes):
    """Return the layout of one beat of a burst: lanes `lo` to `hi` are wanted.

    `burst_last` ends a burst, `last` an instruction; with a `code` it is a fault at `addr`.
    """
    lane = range(beat_bytes)
    return data.StructLayout(
        {
            "addr": ADDR_BITS,
            "lo": lane,
            "hi": lane,
            "burst_last": 1,
            "last": 1,
            "code": CODE_BITS,
        }
    )


def address_of(burst, beat_bytes):
    """Return the assignments' right side: fields of AR or AW for a burst, by name."""
    return {
        "addr": burst.addr,
        "len": burst.len,
        "size": exact_log2(beat_bytes),
        "burst": INCR,
        "cache": CACHE,
        "prot": PROT,
    }


def check_beat_bytes(beat_bytes):
    """Check the parameter of the same name.

    Raises
    ------
    ValueError
        It is not a power of two, or the longest burst would not fit between 4 KiB boundaries.
    """
    longest = BOUNDARY_BYTES // BURST_BEATS
    if beat_bytes not in {1 << n for n in range(1, exact_log2(longest) + 1)}:
        raise ValueError(
            f"Bytes of a beat must be a power of two in 2..{longest}, not {beat_bytes}"
        )


def check_outstanding(outstanding):
    """Raise ValueError unless at least one burst may be in flight."""
    if not isinstance(outstanding, int) or outstanding < 1:
        raise ValueError(f"Outstanding bursts must be at least 1, not {outstanding!r}")


class BurstSplitter(wiring.Component):
    """Check runs against the region table and cut them into bursts.

    A run is checked as a whole before its first burst. A run that fails becomes a single burst with
    a fault code and the DRAM address of the first byte that may not be touched; nothing follows it
    until reset. Its first byte is judged first: REGION_BOUNDS if it is beyond the region's size,
    REGION_PERMISSION if the region lacks the permission; then the other bytes, which may be beyond
    the size. A region whose base is not beat-aligned has no bytes.

    Timing: 2 cycles from run to burst; one burst per cycle, runs follow each other without gap.

    Parameters
    ----------
    beat_bytes : int
        Bytes of an AXI beat.
    write : bool
        Which permission is asked for.

    Members
    -------
    i : stream of :data:`RUN`
    lookup : ``Out(lookup_signature())``
        Reader of the region table, which is constant while runs are under way.
    o : stream of :func:`burst_layout`
    """

    def __init__(self, *, beat_bytes, write):
        check_beat_bytes(beat_bytes)
        self._beat_bytes = beat_bytes
        self._write = bool(write)
        super().__init__(
            {
                "i": In(stream.Signature(RUN)),
                "lookup": Out(lookup_signature()),
                "o": Out(stream.Signature(burst_layout(beat_bytes))),
            }
        )

    @property
    def beat_bytes(self):
        return self._beat_bytes

    @property
    def write(self):
        return self._write

    def elaborate(self, platform):
        m = Module()

        s1_ready = Signal()
        ends = Signal()
        s1_valid = Signal()
        s2_valid = Signal()
        s2_empty = complement_of(s2_valid)
        s1_run, s1_region = self._take_run(m, s1_valid, s1_ready, s2_empty, ends)

        # Stage 2: the rest of the run, from which one burst is cut per cycle.
        lane_bits = exact_log2(self.beat_bytes)
        burst_shift = lane_bits + exact_log2(BURST_BEATS)
        s2 = Signal(self.o.payload.shape(), reset_less=True)
        # Bursts behind this one, whether none follows, and the last beat of the last one.
        s2_more = Signal(RUN["size"].width + 1 - burst_shift, reset_less=True)
        s2_final = Signal(reset_less=True)
        s2_end = Signal(range(BURST_BEATS), reset_less=True)
        frozen = Signal()
        failed = s2.code != 0
        first_beat = s2.addr[lane_bits:burst_shift]
        last_beat = Mux(s2_final, s2_end, BURST_BEATS - 1)
        # `ready` ends here: it would move two stages in the cycle in which it comes.
        m.submodules.leave = leave = SkidBuffer(self.o.payload.shape())
        wiring.connect(m, leave.o, wiring.flipped(self.o))
        transfer = leave.i.valid & leave.i.ready
        m.d.comb += [
            leave.i.valid.eq(s2_valid & ~frozen),
            leave.i.p.eq(s2),
            # A burst starts at its beat, a fault is reported at its byte.
            leave.i.p.addr[:lane_bits].eq(Mux(failed, s2.addr[:lane_bits], 0)),
            leave.i.p.len.eq(Mux(failed, 0, last_beat - first_beat)),
            leave.i.p.hi.eq(Mux(s2_final, s2.hi, self.beat_bytes - 1)),
            leave.i.p.last.eq(s2_final & s2.last),
            ends.eq(transfer & s2_final),
            s1_ready.eq(~s2_valid | ends),
        ]
        with m.If(s2_empty | ends):
            m.d.sync += [s2_valid.eq(s1_valid), s2_empty.eq(~s1_valid)]
        with m.If(transfer):
            m.d.sync += [
                frozen.eq(failed),
                s2_more.eq(s2_more - 1),
                s2_final.eq(s2_more == 1),
                s2.addr.eq((s2.addr[burst_shift:] + 1) << burst_shift),
                s2.lo.eq(0),
            ]
        with m.If(s1_ready):
            # No more than the lowest bits of the first byte's address decide where bursts end.
            begin = (s1_region.base[:burst_shift] + s1_run.offset[:burst_shift])[:burst_shift]
            end = begin + s1_run.size
            first, refused = self._first_burst(s2, s1_run, s1_region)
            m.d.sync += [
                s2_more.eq(end[burst_shift:]),
                s2_final.eq((end[burst_shift:] == 0) | refused),
                s2_end.eq(end[lane_bits:burst_shift]),
            ]
            m.d.sync += first
        return m

    def _take_run(self, m, s1_valid, s1_ready, s2_empty, ends):
        """Connect stage 1, and return its run and the region of that."""
        s1_empty = complement_of(s1_valid)
        s1_run = Signal(RUN, reset_less=True)
        s1_region = Signal(REGION, reset_less=True)
        m.d.comb += [
            self.i.ready.eq(s1_empty | s2_empty | ends),
            self.lookup.index.eq(self.i.p.region),
        ]
        with m.If(self.i.ready):
            m.d.sync += [s1_valid.eq(self.i.valid), s1_empty.eq(~self.i.valid)]
        with m.If(~s1_valid | s1_ready):
            m.d.sync += [
                s1_run.eq(self.i.p),
                s1_region.eq(self.lookup.region),
            ]
        return s1_run, s1_region

    def _first_burst(self, s2, run, region):
        """Return the assignments that start a run, address, lanes and verdict, and if it fails."""
        lane_bits = exact_log2(self.beat_bytes)
        allowed = region.write if self.write else region.read
        begins_outside = run.offset >= region.size
        ends_outside = allowed & (run.offset + run.size >= region.size)
        unusable = region.base[:lane_bits] != 0
        bounds = begins_outside | ends_outside | unusable
        begin = region.base + run.offset
        beyond = region.base + region.size
        first = [
            s2.addr.eq(Mux(ends_outside & ~begins_outside, beyond, begin)),
            s2.lo.eq(run.offset[:lane_bits]),
            s2.hi.eq((run.offset[:lane_bits] + run.size)[:lane_bits]),
            s2.last.eq(run.last),
            s2.code.eq(
                Mux(bounds, Fault.REGION_BOUNDS, Mux(allowed, Fault.NONE, Fault.REGION_PERMISSION))
            ),
        ]
        return first, bounds | ~allowed


class BeatExpander(wiring.Component):
    """Turn each burst into its beats.

    Timing: 1 cycle from burst to first beat; one beat per cycle, bursts follow without gap.

    Parameters
    ----------
    beat_bytes : int
        Bytes of an AXI beat.

    Members
    -------
    i : stream of :func:`burst_layout`
    o : stream of :func:`beat_layout`
    """

    def __init__(self, *, beat_bytes):
        check_beat_bytes(beat_bytes)
        self._beat_bytes = beat_bytes
        super().__init__(
            {
                "i": In(stream.Signature(burst_layout(beat_bytes))),
                "o": Out(stream.Signature(beat_layout(beat_bytes))),
            }
        )

    @property
    def beat_bytes(self):
        return self._beat_bytes

    def elaborate(self, platform):
        m = Module()

        lane_bits = exact_log2(self.beat_bytes)
        active = Signal()
        empty = complement_of(active)
        rest = Signal(self.i.payload.shape(), reset_less=True)
        burst_last = Signal(reset_less=True)
        m.d.comb += [
            self.o.valid.eq(active),
            self.o.p.addr.eq(rest.addr),
            self.o.p.lo.eq(rest.lo),
            self.o.p.hi.eq(Mux(burst_last, rest.hi, self.beat_bytes - 1)),
            self.o.p.burst_last.eq(burst_last),
            self.o.p.last.eq(burst_last & rest.last),
            self.o.p.code.eq(rest.code),
            self.i.ready.eq(empty | (self.o.ready & burst_last)),
        ]
        with m.If(self.i.ready):
            m.d.sync += [active.eq(self.i.valid), empty.eq(~self.i.valid)]
        # A burst stays between two 4 KiB boundaries: the bits above never change.
        beat = rest.addr[lane_bits : exact_log2(BOUNDARY_BYTES)]
        with m.If(~active | (self.o.ready & burst_last)):
            m.d.sync += [rest.eq(self.i.p), burst_last.eq(self.i.p.len == 0)]
        with m.Elif(self.o.ready):
            m.d.sync += [rest.len.eq(rest.len - 1), rest.lo.eq(0), beat.eq(beat + 1)]
            m.d.sync += burst_last.eq(rest.len == 1)
        return m
