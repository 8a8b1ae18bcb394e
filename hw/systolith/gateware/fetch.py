"""Instruction fetch: reads the program ahead of its execution."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from systolith.arch import isa
from systolith.arch.csr import Fault

from .burst import check_beat_bytes
from .decoder import FETCHED
from .read_master import FETCH_REQUEST, fetch_layout
from .slices import FlowFifo
from .words import FAULT_REPORT, REGION

PREFETCH_DEPTH = 32
"""Instructions asked for ahead of decoding."""

REQUEST_INSTRUCTIONS = 8
"""Instructions of one request: 256 bytes, so that bursts are long and the prefetch stays busy."""

MAX_INSTRUCTIONS = (1 << isa.COUNTER_BITS) - 1
"""Longest program: its instructions must be countable."""


class Assembler(wiring.Component):
    """Make instruction words of beats, which may be narrower or wider than a word.

    Timing: latency 1 cycle from the last beat of a word; 1 beat per cycle, or 1 word per cycle
    where a beat has several.

    Parameters
    ----------
    axi_bytes : int
        Bytes of a beat.

    Members
    -------
    i : ``In(stream.Signature(8 * axi_bytes))``
        Beats.
    o : ``Out(stream.Signature(256))``
        Words, first byte in the lowest bits.
    """

    def __init__(self, *, axi_bytes):
        check_beat_bytes(axi_bytes)
        self._axi_bytes = axi_bytes
        super().__init__(
            {
                "i": In(stream.Signature(8 * axi_bytes)),
                "o": Out(stream.Signature(isa.INSTRUCTION_BITS)),
            }
        )

    @property
    def axi_bytes(self):
        return self._axi_bytes

    def elaborate(self, platform):
        m = Module()
        if self.axi_bytes > isa.INSTRUCTION_BYTES:
            self._split(m)
        else:
            self._join(m)
        return m

    def _join(self, m):
        parts = isa.INSTRUCTION_BYTES // self.axi_bytes
        part = Signal(range(parts))
        word = Signal(isa.INSTRUCTION_BITS, reset_less=True)
        m.d.comb += [self.o.payload.eq(word), self.i.ready.eq(~self.o.valid | self.o.ready)]
        with m.If(self.i.ready):
            m.d.sync += self.o.valid.eq(self.i.valid & (part == parts - 1))
            with m.If(self.i.valid):
                m.d.sync += word.eq(Cat(word, self.i.payload)[8 * self.axi_bytes :])
                # Wraps: the number of parts is a power of two.
                m.d.sync += part.eq(part + 1)

    def _split(self, m):
        parts = self.axi_bytes // isa.INSTRUCTION_BYTES
        held = Signal(8 * self.axi_bytes, reset_less=True)
        left = Signal(range(parts + 1))
        m.d.comb += [
            self.o.valid.eq(left != 0),
            self.o.payload.eq(held),
            self.i.ready.eq((left == 0) | ((left == 1) & self.o.ready)),
        ]
        with m.If(self.i.valid & self.i.ready):
            m.d.sync += [held.eq(self.i.payload), left.eq(parts)]
        with m.Elif(self.o.valid & self.o.ready):
            m.d.sync += [held.eq(held[isa.INSTRUCTION_BITS :]), left.eq(left - 1)]


class Fetch(wiring.Component):
    """Read a program of region 0 into a queue, always `PREFETCH_DEPTH` instructions ahead.

    Room for an answer is reserved when it is asked for, so that instructions never hold up the
    read channel that they share with LOAD. A fault is reported only when every instruction before
    it has been taken, so that a program which ends earlier never sees it. REGION_BOUNDS: the
    program or its region has no further instruction. ALIGNMENT: its offset is not a multiple of the beat. Others
    come from the read master.

    Timing: a request is valid in the second cycle of `enable` after reset, another one two cycles
    after the transfer of the one before; 1 instruction per `max(1, 32 / axi_bytes)` cycles; 3 cycles
    from an instruction's last beat to `o`.

    Parameters
    ----------
    axi_bytes : int
        Bytes of an AXI beat.
    protected : bool
        Whether instructions are queued with parity.

    Members
    -------
    enable : ``In(1)``
        Level: ask for more.
    region : ``In(REGION)``
        Region 0; constant while `enable`.
    offset, count : ``In(32)``
        Byte offset of the program, and its instructions; constant while `enable` and in the cycle
        before.
    request : ``Out(stream.Signature(FETCH_REQUEST))``
        To the read master.
    data : ``In(stream.Signature(fetch_layout(8 * axi_bytes)))``
        From the read master.
    o : ``Out(stream.Signature(FETCHED))``
        Instruction words in order.
    fault, fault_stb : ``Out(FAULT_REPORT)``, ``Out(1)``
        Level: all that could be fetched was taken.
    soft_error : ``Out(1)``, if `protected`
        The next instruction has wrong parity.
    """

    def __init__(self, *, axi_bytes, protected=False):
        check_beat_bytes(axi_bytes)
        self._axi_bytes, self._protected = axi_bytes, protected
        super().__init__(
            {
                "enable": In(1),
                "region": In(REGION),
                "offset": In(32),
                "count": In(32),
                "request": Out(stream.Signature(FETCH_REQUEST)),
                "data": In(stream.Signature(fetch_layout(8 * axi_bytes))),
                "o": Out(stream.Signature(FETCHED)),
                "fault": Out(FAULT_REPORT),
                "fault_stb": Out(1),
            }
            | ({"soft_error": Out(1)} if protected else {})
        )

    @property
    def axi_bytes(self):
        return self._axi_bytes

    def elaborate(self, platform):
        m = Module()
        # Constant while it matters, and known in the first cycle after the reset.
        misaligned = Signal(reset_less=True)
        limit = Signal(isa.COUNTER_BITS, reset_less=True)
        countable = Mux(self.count > MAX_INSTRUCTIONS, MAX_INSTRUCTIONS, self.count)
        m.d.sync += [
            misaligned.eq(self.offset[: exact_log2(self.axi_bytes)].any()),
            limit.eq(Mux(self.offset[: exact_log2(self.axi_bytes)].any(), 0, countable)),
        ]

        taken = Signal(isa.COUNTER_BITS)
        with m.If(self.o.valid & self.o.ready):
            m.d.sync += taken.eq(taken + 1)
        ended, next_offset = self._ask(m, limit, taken)
        failure, empty = self._receive(m, limit, taken)

        failed = failure.code != int(Fault.NONE)
        m.d.comb += [
            self.fault_stb.eq(Mux(failed, empty, ended)),
            self.fault.eq(failure),
            self.fault.index.eq(taken),
        ]
        with m.If(~failed):
            m.d.comb += [
                self.fault.code.eq(Mux(misaligned, Fault.ALIGNMENT, Fault.REGION_BOUNDS)),
                self.fault.addr.eq(self.region.base + next_offset),
            ]
        return m

    def _ask(self, m, limit, taken):
        """Request instructions up to `limit`; return whether all were taken, and the next offset."""
        asked = Signal(isa.COUNTER_BITS)
        room = Signal(range(PREFETCH_DEPTH + 1), init=PREFETCH_DEPTH)
        size = Signal(range(REQUEST_INSTRUCTIONS + 1))
        remaining = limit - asked
        offset = Signal(len(self.offset) + 1, name="next_offset", reset_less=True)
        with m.If(~self.enable):
            m.d.sync += offset.eq(self.offset)
        # A request is refused as a whole, so at the region's end instructions are asked for singly.
        inside = offset + REQUEST_INSTRUCTIONS * isa.INSTRUCTION_BYTES <= self.region.size
        with m.If(~inside):
            m.d.sync += size.eq(1)
        with m.Elif(remaining > REQUEST_INSTRUCTIONS):
            m.d.sync += size.eq(REQUEST_INSTRUCTIONS)
        with m.Else():
            m.d.sync += size.eq(remaining)
        transfer = self.request.valid & self.request.ready
        # The size is known a cycle after what it depends on, and so is whether all was asked for.
        settled = Signal()
        beyond = Signal()
        m.d.sync += [
            # Beyond 4 GiB there is no region.
            beyond.eq((asked == limit) | offset[-1]),
            settled.eq(self.enable & ~transfer),
        ]
        m.d.comb += [
            self.request.valid.eq(settled & ~beyond & (room >= REQUEST_INSTRUCTIONS)),
            self.request.p.offset.eq(offset),
            self.request.p.bytes.eq(size * isa.INSTRUCTION_BYTES),
        ]
        with m.If(transfer):
            m.d.sync += asked.eq(asked + size)
            m.d.sync += offset.eq(offset + size * isa.INSTRUCTION_BYTES)
        leaves = self.o.valid & self.o.ready
        m.d.sync += room.eq(room + leaves - Mux(transfer, size, 0))
        # What is taken has been asked for long ago: equal once, equal forever.
        all_taken = Signal()
        m.d.sync += all_taken.eq(taken == asked)
        return settled & beyond & all_taken, offset

    def _receive(self, m, limit, taken):
        """Queue the words; return the first failure, and whether the words before it were taken."""
        m.submodules.assembler = assembler = Assembler(axi_bytes=self.axi_bytes)
        m.submodules.queue = queue = FlowFifo(
            isa.INSTRUCTION_BITS, depth=PREFETCH_DEPTH, protected=self._protected
        )
        if self._protected:
            m.d.comb += self.soft_error.eq(queue.soft_error)
        # The channel that this shares with LOAD comes late, and is not to wait for anything here.
        m.submodules.entry = entry = FlowFifo(self.data.p.shape(), depth=2)
        wiring.connect(m, wiring.flipped(self.data), entry.i)
        beat = entry.o
        failure = Signal(FAULT_REPORT)
        failed = Signal()
        fails = beat.p.code != int(Fault.NONE)
        m.d.comb += [
            assembler.i.valid.eq(beat.valid & ~failed & ~fails),
            assembler.i.payload.eq(beat.p.data),
            beat.ready.eq(assembler.i.ready | failed | fails),
        ]
        with m.If(beat.valid & fails & ~failed):
            m.d.sync += [
                failed.eq(1),
                failure.code.eq(beat.p.code),
                failure.addr.eq(beat.p.addr),
            ]

        # The last beat may have room for an instruction that the program does not have.
        received, all_received = Signal(isa.COUNTER_BITS), Signal()
        m.d.comb += [
            queue.i.valid.eq(assembler.o.valid & ~all_received),
            queue.i.payload.eq(assembler.o.payload),
            assembler.o.ready.eq(queue.i.ready | all_received),
            self.o.valid.eq(queue.o.valid),
            self.o.p.word.eq(queue.o.payload),
            self.o.p.index.eq(taken),
            queue.o.ready.eq(self.o.ready),
        ]
        with m.If(queue.i.valid & queue.i.ready):
            m.d.sync += [received.eq(received + 1), all_received.eq(received + 1 == limit)]
        return failure, ~assembler.o.valid & (queue.level == 0)
