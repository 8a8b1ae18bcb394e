"""The two address walks of LOAD and STORE: runs of bytes in DRAM, segments of bytes on chip."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from systolith.arch import isa
from systolith.arch.csr import Fault

from .burst import CODE_BITS, OFFSET_BITS, RUN, check_beat_bytes

ADDR_BITS = isa.LOCAL_ADDR_BITS

RUNS = data.StructLayout(
    {
        "region": range(isa.REGION_COUNT),
        "offset": 32,
        "run": ADDR_BITS,
        "run_step": 24,
        "total": ADDR_BITS,
    }
)
"""Fields of an instruction that say what it touches in DRAM; `run` and `total` minus one."""

SEGMENTS = data.StructLayout(
    {
        "space": range(len(isa.Space)),
        "addr": ADDR_BITS,
        "segment": ADDR_BITS,
        "segment_step": ADDR_BITS,
        "segments": 12,
        "group_step": ADDR_BITS,
        "index": isa.COUNTER_BITS,
        "code": CODE_BITS,
    }
)
"""Fields that say what it touches on chip; `segment` and `segments` minus one. With a `code` the
instruction is not executed, but answered by that fault at `addr`."""


def lanes_layout(beat_bytes, data_bits):
    """Return the layout of a beat that carries `data_bits` bits: lanes `lo` to `hi` are moved.

    `last` ends an instruction; with a `code` it is a fault.
    """
    lane = range(beat_bytes)
    return data.StructLayout(
        {"data": data_bits, "lo": lane, "hi": lane, "last": 1, "code": CODE_BITS}
    )


def piece_layout(beat_bytes, data_bits):
    """Return the layout of what one beat and one segment have in common.

    Lane k of the beat is byte `addr + k` of the space (modulo its 22 bits) if `mask[k]`.
    `beat_last` ends a beat, `last` an instruction. With a `code` it is a fault, LOCAL_ADDRESS and
    ALIGNMENT at `local`.
    """
    return data.StructLayout(
        {
            "space": range(len(isa.Space)),
            "addr": ADDR_BITS,
            "data": data_bits,
            "mask": beat_bytes,
            "beat_last": 1,
            "last": 1,
            "code": CODE_BITS,
            "local": ADDR_BITS + 1,
            "index": isa.COUNTER_BITS,
        }
    )


class RunWalker(wiring.Component):
    """Walk over the runs of an instruction.

    Timing: 1 cycle from command to first run; one run per cycle, instructions without gap.

    Members
    -------
    i : stream of :data:`RUNS`
    o : stream of :data:`~systolith.gateware.burst.RUN`
    """

    i: In(stream.Signature(RUNS))
    o: Out(stream.Signature(RUN))

    def elaborate(self, platform):
        m = Module()

        active = Signal()
        walk = Signal(RUNS, reset_less=True)
        offset = Signal(OFFSET_BITS, reset_less=True)
        last = walk.total <= walk.run
        m.d.comb += [
            self.o.valid.eq(active),
            self.o.p.region.eq(walk.region),
            self.o.p.offset.eq(offset),
            self.o.p.size.eq(Mux(last, walk.total, walk.run)),
            self.o.p.last.eq(last),
            self.i.ready.eq(~active | (self.o.ready & last)),
        ]
        with m.If(self.i.ready):
            m.d.sync += [active.eq(self.i.valid), walk.eq(self.i.p), offset.eq(self.i.p.offset)]
        with m.Elif(self.o.ready):
            m.d.sync += [
                walk.total.eq(walk.total - walk.run - 1),
                offset.eq(offset + walk.run_step),
            ]
        return m


class SegmentWalker(wiring.Component):
    """Cut beats where segments end, and find the address of each piece.

    An instruction may have more bytes than one segment or one beat: each piece lies in one of both.
    LOCAL_ADDRESS is the answer to a piece with a byte beyond the size of its space, at the first
    such byte; after a fault, what follows is undefined until reset.

    Timing: 2 cycles from beat to piece; one piece per cycle, instructions without gap.

    Parameters
    ----------
    beat_bytes : int
        Bytes of an AXI beat.
    data_bits : int
        Bits that travel with a beat.
    sizes : sequence of int
        Bytes of each space, powers of two, in the order of :class:`systolith.arch.isa.Space`.

    Members
    -------
    command : stream of :data:`SEGMENTS`
    beats : stream of :func:`lanes_layout`
    o : stream of :func:`piece_layout`
    """

    def __init__(self, *, beat_bytes, data_bits, sizes):
        check_beat_bytes(beat_bytes)
        if len(sizes) != len(isa.Space):
            raise ValueError(f"Sizes must be those of {len(isa.Space)} spaces, not {sizes!r}")
        self._beat_bytes = beat_bytes
        self._data_bits = data_bits
        self._sizes = tuple(sizes)
        super().__init__(
            {
                "command": In(stream.Signature(SEGMENTS)),
                "beats": In(stream.Signature(lanes_layout(beat_bytes, data_bits))),
                "o": Out(stream.Signature(piece_layout(beat_bytes, data_bits))),
            }
        )

    @property
    def beat_bytes(self):
        return self._beat_bytes

    @property
    def data_bits(self):
        return self._data_bits

    @property
    def sizes(self):
        return self._sizes

    def elaborate(self, platform):
        m = Module()

        # Stage 1: the piece, with its first and last byte still to be judged.
        layout = data.StructLayout(
            {
                "piece": self.o.payload.shape(),
                "lo": range(self.beat_bytes),
                "hi": range(self.beat_bytes),
                "span": range(self.beat_bytes),  # bytes minus one
            }
        )
        cut = Signal(layout)
        cut_valid = Signal()
        s1_valid = Signal()
        s1_piece = Signal(layout, reset_less=True)
        s1_ready = Signal()
        s2_ready = ~self.o.valid | self.o.ready
        m.d.comb += s1_ready.eq(~s1_valid | s2_ready)
        self._cut(m, cut, cut_valid, s1_ready)
        with m.If(s1_ready):
            m.d.sync += [s1_valid.eq(cut_valid), s1_piece.eq(cut)]

        # Stage 2: the judged piece, rotated to the lanes of the beat.
        local = s1_piece.piece.local
        end = local + s1_piece.span
        size = Signal(range(max(self.sizes) + 1))
        ends_outside, begins_inside = Signal(), Signal()
        with m.Switch(s1_piece.piece.space):
            for space, value in enumerate(self.sizes):
                with m.Case(space):
                    # Sizes are powers of two: no comparison behind the sum.
                    bits = exact_log2(value)
                    m.d.comb += [
                        size.eq(value),
                        ends_outside.eq(end[bits:].any()),
                        begins_inside.eq(~local[bits:].any()),
                    ]
        outside = ends_outside & (s1_piece.piece.code == 0)
        with m.If(s2_ready):
            m.d.sync += [self.o.valid.eq(s1_valid), self.o.p.eq(s1_piece.piece)]
            m.d.sync += [
                self.o.p.addr.eq(local - s1_piece.lo),
                self.o.p.mask.eq(
                    Cat(
                        (lane >= s1_piece.lo) & (lane <= s1_piece.hi)
                        for lane in range(self.beat_bytes)
                    )
                ),
            ]
            with m.If(outside):
                m.d.sync += [
                    self.o.p.code.eq(Fault.LOCAL_ADDRESS),
                    self.o.p.local.eq(Mux(begins_inside, size, local)),
                ]
        return m

    def _cut(self, m, cut, valid, ready):
        """Drive the pieces before they are judged."""
        lane_bits = exact_log2(self.beat_bytes)
        active = Signal()
        walk = Signal(SEGMENTS, reset_less=True)
        local = Signal(ADDR_BITS + 1, reset_less=True)
        left = Signal(ADDR_BITS, reset_less=True)  # of the segment, minus one
        segments = Signal(walk.segments.shape(), reset_less=True)  # of the group, minus one
        segment_base = Signal(ADDR_BITS + 1, reset_less=True)
        group_base = Signal(ADDR_BITS + 1, reset_less=True)
        resumed = Signal()  # the beat has given a piece already
        lane = Signal(lane_bits, reset_less=True)

        beat = self.beats.p
        failed = walk.code != 0
        lo = Signal(lane_bits)
        m.d.comb += lo.eq(Mux(resumed, lane, beat.lo))
        count = Signal(lane_bits)
        m.d.comb += count.eq(beat.hi - lo)
        segment_last = left <= count
        beat_last = left >= count

        piece = cut.piece
        m.d.comb += [
            valid.eq(active & (self.beats.valid | failed)),
            cut.lo.eq(lo),
            cut.hi.eq(Mux(beat_last, beat.hi, lo + left[:lane_bits])),
            cut.span.eq(Mux(beat_last, count, left[:lane_bits])),
            piece.space.eq(walk.space),
            piece.data.eq(beat.data),
            piece.beat_last.eq(beat_last),
            piece.last.eq(beat_last & beat.last),
            piece.code.eq(Mux(failed, walk.code, beat.code)),
            piece.local.eq(local),
            piece.index.eq(walk.index),
            self.beats.ready.eq(active & ready & beat_last & ~failed),
        ]

        step = valid & ready
        finished = step & piece.last
        m.d.comb += self.command.ready.eq(~active | finished)
        with m.If(step):
            next_segment = segment_base + walk.segment_step
            next_group = group_base + walk.group_step
            group_last = segments == 0
            next_base = Mux(group_last, next_group, next_segment)
            m.d.sync += [
                resumed.eq(~beat_last),
                lane.eq(lo + left + 1),
                local.eq(Mux(segment_last, next_base, local + count + 1)),
                left.eq(Mux(segment_last, walk.segment, left - count - 1)),
            ]
            with m.If(segment_last):
                m.d.sync += [
                    segments.eq(Mux(group_last, walk.segments, segments - 1)),
                    segment_base.eq(next_base),
                ]
                with m.If(group_last):
                    m.d.sync += group_base.eq(next_group)
        with m.If(self.command.ready):
            command = self.command.p
            m.d.sync += [active.eq(self.command.valid), walk.eq(command)]
            m.d.sync += [base.eq(command.addr) for base in (local, segment_base, group_base)]
            m.d.sync += [left.eq(command.segment), segments.eq(command.segments)]
