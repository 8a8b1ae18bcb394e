"""The two address walks of LOAD and STORE: runs of bytes in DRAM, segments of bytes on chip."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from systolith.arch import isa
from systolith.arch.csr import Fault

from .burst import CODE_BITS, OFFSET_BITS, RUN, check_beat_bytes
from .slices import FlowFifo, complement_of

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
        empty = complement_of(active)
        walk = Signal(RUNS, reset_less=True)
        offset = Signal(OFFSET_BITS, reset_less=True)
        last = Signal(reset_less=True)
        rest = walk.total - walk.run - 1
        m.d.comb += [
            self.o.valid.eq(active),
            self.o.p.region.eq(walk.region),
            self.o.p.offset.eq(offset),
            self.o.p.size.eq(Mux(last, walk.total, walk.run)),
            self.o.p.last.eq(last),
            self.i.ready.eq(empty | (self.o.ready & last)),
        ]
        with m.If(self.i.ready):
            m.d.sync += [active.eq(self.i.valid), empty.eq(~self.i.valid)]
        with m.If(~active | (self.o.ready & last)):
            m.d.sync += [walk.eq(self.i.p), offset.eq(self.i.p.offset)]
            m.d.sync += last.eq(self.i.p.total <= self.i.p.run)
        with m.Elif(self.o.ready):
            m.d.sync += [
                walk.total.eq(rest),
                last.eq(rest <= walk.run),
                offset.eq(offset + walk.run_step),
            ]
        return m


class _Position:
    """Where a :class:`SegmentWalker` is: its registers, and what follows from them.

    Parameters
    ----------
    beat_bytes : int
        Bytes of an AXI beat.
    beat : ShapeLike
        Layout of the beats.
    """

    def __init__(self, beat_bytes, beat):
        lane_bits = exact_log2(beat_bytes)
        self.active = Signal()
        self.inactive = complement_of(self.active)
        self.walk = Signal(SEGMENTS, reset_less=True)
        self.failed = Signal(reset_less=True)
        self.fresh = Signal(reset_less=True)  # no step yet: the bases are the address in `walk`
        self.local = Signal(ADDR_BITS + 1, reset_less=True)
        self.left = Signal(ADDR_BITS, reset_less=True)  # of the segment, minus one
        self.long = Signal(reset_less=True)  # more than a beat is left
        self.segments = Signal(
            self.walk.segments.shape(), reset_less=True
        )  # of the group, minus one
        self.segment_base = Signal(ADDR_BITS + 1, reset_less=True)
        self.group_base = Signal(ADDR_BITS + 1, reset_less=True)
        # Stage 1: the beat, less the bytes that pieces were cut from.
        self.held = Signal()
        self.beat = Signal(beat, reset_less=True)
        self.count = Signal(lane_bits, reset_less=True)  # bytes of it, minus one

        self.low = self.left[:lane_bits]
        self.segment_last = ~self.long & (self.low <= self.count)
        self.beat_last = self.long | (self.low >= self.count)


class SegmentWalker(wiring.Component):
    """Cut beats where segments end, and find the address of each piece.

    An instruction may have more bytes than one segment or one beat: each piece lies in one of both.
    LOCAL_ADDRESS is the answer to a piece with a byte beyond the size of its space, at the first
    such byte; after a fault, what follows is undefined until reset.

    Timing: 3 cycles from beat to piece; one piece per cycle, instructions of two pieces or more
    without gap. `o` is registered; when it waits, everything waits. A command is taken in the cycle
    after the one in which it begins.

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

        # Stage 2: the piece, with its first and last byte still to be judged.
        layout = data.StructLayout(
            {
                "piece": self.o.payload.shape(),
                "lo": range(self.beat_bytes),
                "hi": range(self.beat_bytes),
                "span": range(self.beat_bytes),  # bytes minus one
                "inside": 1,  # the first byte is in its space
                "final": 1,  # it is in the last beat of its space, or would be if it were inside
            }
        )
        cut = Signal(layout)
        cut_valid = Signal()
        s2_valid = Signal()
        s2_piece = Signal(layout, reset_less=True)
        m.submodules.leave = leave = FlowFifo(self.o.payload.shape(), depth=2)
        wiring.connect(m, leave.o, wiring.flipped(self.o))
        ready = leave.i.ready
        self._cut(m, cut, cut_valid, ready)
        with m.If(ready):
            m.d.sync += [s2_valid.eq(cut_valid), s2_piece.eq(cut)]

        # Stage 3: the judged piece, rotated to the lanes of the beat.
        local = s2_piece.piece.local
        lane_bits = exact_log2(self.beat_bytes)
        size = Signal(range(max(self.sizes) + 1))
        crosses = (local[:lane_bits] + s2_piece.span)[lane_bits]
        with m.Switch(s2_piece.piece.space):
            for space, value in enumerate(self.sizes):
                with m.Case(space):
                    m.d.comb += size.eq(value)
        # A piece is shorter than a beat: no carry.
        ends_outside = ~s2_piece.inside | (s2_piece.final & crosses)
        outside = ends_outside & (s2_piece.piece.code == 0)
        judged = leave.i.p
        m.d.comb += [
            leave.i.valid.eq(s2_valid),
            judged.eq(s2_piece.piece),
            judged.addr.eq(local - s2_piece.lo),
            judged.mask.eq(
                Cat(
                    (lane >= s2_piece.lo) & (lane <= s2_piece.hi) for lane in range(self.beat_bytes)
                )
            ),
        ]
        with m.If(outside):
            m.d.comb += [
                judged.code.eq(Fault.LOCAL_ADDRESS),
                judged.local.eq(Mux(s2_piece.inside, size, local)),
            ]
        return m

    def _cut(self, m, cut, valid, ready):
        """Drive the pieces before they are judged."""
        at = _Position(self.beat_bytes, self.beats.payload.shape())
        piece = cut.piece
        m.d.comb += [
            valid.eq(at.active & (at.held | at.failed)),
            cut.lo.eq(at.beat.lo),
            cut.hi.eq(Mux(at.beat_last, at.beat.hi, at.beat.lo + at.low)),
            cut.span.eq(Mux(at.beat_last, at.count, at.low)),
            piece.space.eq(at.walk.space),
            piece.data.eq(at.beat.data),
            piece.beat_last.eq(at.beat_last),
            piece.last.eq(at.beat_last & at.beat.last),
            piece.code.eq(Mux(at.failed, at.walk.code, at.beat.code)),
            piece.local.eq(at.local),
            piece.index.eq(at.walk.index),
        ]
        self._look_for_end(m, at, cut)

        step = valid & ready
        # A command is acknowledged once it is here: that it is wanted is known late.
        acknowledge, ends, more = Signal(), Signal(), Signal()
        m.d.comb += [
            self.beats.ready.eq(~at.held | (step & at.beat_last & ~at.failed)),
            ends.eq(step & piece.last),
            more.eq(self.command.valid & ~acknowledge),
            self.command.ready.eq(acknowledge),
        ]
        m.d.sync += acknowledge.eq((~at.active | ends) & more)
        with m.If(self.beats.ready):
            beat = self.beats.p
            m.d.sync += [at.held.eq(self.beats.valid), at.beat.eq(beat)]
            m.d.sync += at.count.eq(beat.hi - beat.lo)
        with m.Elif(step):
            m.d.sync += [at.beat.lo.eq(at.beat.lo + at.low + 1), at.count.eq(at.count - at.low - 1)]
        # What comes next is chosen beside the question of whether there is a step.
        self._advance(m, at, step, ends, begins=~at.active | piece.last)
        with m.If(step):
            m.d.sync += at.fresh.eq(0)
        with m.If(~at.active | ends):
            m.d.sync += [at.active.eq(more), at.inactive.eq(~more)]
        with m.If(at.inactive | ends):
            command = self.command.p
            m.d.sync += [at.walk.eq(command), at.failed.eq(command.code != 0), at.fresh.eq(1)]

    def _look_for_end(self, m, at, cut):
        """Drive whether a piece begins in its space, and in the last beat of it."""
        inside, final = Signal(), Signal()
        m.d.comb += [cut.inside.eq(inside), cut.final.eq(final)]
        lane_bits = exact_log2(self.beat_bytes)
        with m.Switch(at.walk.space):
            for space, value in enumerate(self.sizes):
                with m.Case(space):
                    # Sizes are powers of two.
                    bits = exact_log2(value)
                    m.d.comb += [
                        inside.eq(~at.local[bits:].any()),
                        final.eq(at.local[lane_bits:bits].all()),
                    ]

    def _advance(self, m, at, step, ends, begins):
        """Go on to the next piece: of this segment, the next one, the next group or instruction."""
        walk, command = at.walk, self.command.p
        next_segment = Mux(at.fresh, walk.addr, at.segment_base) + walk.segment_step
        next_group = Mux(at.fresh, walk.addr, at.group_base) + walk.group_step
        group_last = at.segments == 0
        next_base = Mux(group_last, next_group, next_segment)
        rest = (at.left - at.count - 1)[: len(at.left)]
        with m.If(~at.active | step):
            following = Mux(at.segment_last, next_base, at.local + at.count + 1)
            next_left = Mux(begins, command.segment, Mux(at.segment_last, walk.segment, rest))
            m.d.sync += [
                at.local.eq(Mux(begins, command.addr, following)),
                at.left.eq(next_left),
                at.long.eq(next_left[exact_log2(self.beat_bytes) :].any()),
            ]
        with m.If(~at.active | ends | (step & at.segment_last)):
            segments_left = Mux(group_last, walk.segments, at.segments - 1)
            m.d.sync += at.segments.eq(Mux(begins, command.segments, segments_left))
        # The bases are loaded by the first step, which is not as late as the beginning.
        moves = at.segment_last & group_last
        with m.If(step & (at.fresh | at.segment_last)):
            m.d.sync += at.segment_base.eq(Mux(at.segment_last, next_base, walk.addr))
        with m.If(step & (at.fresh | moves)):
            m.d.sync += at.group_base.eq(Mux(moves, next_group, walk.addr))
