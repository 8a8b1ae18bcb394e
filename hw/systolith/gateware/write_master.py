"""Master of the AXI write channels, for STORE: bursts, checks, and a legal end."""

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from . import axi
from .burst import RUN, BeatExpander, BurstSplitter, address_of, beat_layout, check_outstanding
from .region_table import lookup_signature
from .slices import complement_of


def write_beat_layout(data_bits):
    """Return the layout of a beat of bytes to write."""
    return data.StructLayout({"data": data_bits, "strb": data_bits // 8})


class WriteMaster(wiring.Component):
    """Write runs of bytes over the AXI write channels, in order, with one ID.

    The client gives runs, is told the lanes of each beat, and gives the beats. Region faults travel
    in the stream of lanes, as in :class:`~systolith.gateware.read_master.ReadMaster`. W never runs ahead of AW.

    With `stop` no burst is issued any more and the client is not asked for beats; bursts that AW has
    announced get beats without strobes.

    Timing: 3 cycles from request to AW and to `beats`; one burst per cycle while each has one beat,
    else one beat per cycle; 1 cycle from `data` to W.

    Parameters
    ----------
    data_bits : int
        Width of W, in bits.
    outstanding : int
        Bursts in flight.

    Members
    -------
    aw, w, b : AXI write channels
    region : ``Out(lookup_signature())``
        Reader of the region table.
    request : stream of :data:`~systolith.gateware.burst.RUN`
    beats : stream of :func:`~systolith.gateware.burst.beat_layout`
        The beats that `data` must bring, in order.
    data : stream of :func:`write_beat_layout`
    done : Out(1)
        Pulse: all bursts of an instruction (up to a run with `last`) were answered OKAY.
    error, error_addr : Out(1), Out(64)
        Pulse: a burst was not answered OKAY; its address.
    stop : In(1)
        Level: begin nothing new.
    idle : Out(1)
        No burst in flight.
    write_bytes : Out
        Strobes of the beat that was written this cycle.
    """

    def __init__(self, *, data_bits, outstanding):
        check_outstanding(outstanding)
        self._data_bits = data_bits
        self._outstanding = outstanding
        super().__init__(
            {
                **axi.write_channels(data_bits),
                "region": Out(lookup_signature()),
                "request": In(stream.Signature(RUN)),
                "beats": Out(stream.Signature(beat_layout(data_bits // 8))),
                "data": In(stream.Signature(write_beat_layout(data_bits))),
                "done": Out(1),
                "error": Out(1),
                "error_addr": Out(axi.ADDR_BITS),
                "stop": In(1),
                "idle": Out(1),
                "write_bytes": Out(range(data_bits // 8 + 1)),
            }
        )

    @property
    def data_bits(self):
        return self._data_bits

    @property
    def outstanding(self):
        return self._outstanding

    def elaborate(self, platform):
        m = Module()

        beat_bytes = self.data_bits // 8
        splitter = BurstSplitter(beat_bytes=beat_bytes, write=True)
        expander = BeatExpander(beat_bytes=beat_bytes)
        m.submodules.splitter = ResetInserter(self.stop)(splitter)
        m.submodules.expander = ResetInserter(self.stop)(expander)
        wiring.connect(m, wiring.flipped(self.request), splitter.i)
        wiring.connect(m, expander.o, wiring.flipped(self.beats))
        wiring.connect(m, splitter.lookup, wiring.flipped(self.region))

        announced = self._connect_bursts(m, splitter.o, expander.i)
        self._connect_responses(m, announced)
        self._connect_beats(m, announced)
        return m

    def _connect_bursts(self, m, bursts, beats):
        """Announce one burst on AW and to the client; return it as (pulse, burst, room)."""
        room = Signal()
        pulse = Signal()
        aw_empty = complement_of(self.aw.valid)
        aw_free = aw_empty | self.aw.ready
        start = Signal()
        m.d.comb += [
            start.eq(aw_free & room & ~self.stop),
            beats.valid.eq(bursts.valid & start),
            beats.p.eq(bursts.p),
            bursts.ready.eq(beats.ready & start),
            pulse.eq(bursts.valid & bursts.ready & (bursts.p.code == 0)),
        ]
        with m.If(aw_free):
            m.d.sync += [self.aw.valid.eq(pulse), aw_empty.eq(~pulse)]
        with m.If(~self.aw.valid | self.aw.ready):
            fields = address_of(bursts.p, self.data_bits // 8)
            m.d.sync += [self.aw.p[name].eq(value) for name, value in fields.items()]
        return pulse, bursts.p, room

    def _connect_responses(self, m, announced):
        """Count the bursts in flight and judge the answers."""
        pulse, burst, room = announced
        m.submodules.responses = queue = fifo.SyncFIFO(
            width=axi.ADDR_BITS + 1, depth=self.outstanding
        )
        answered = self.b.valid & self.b.ready
        okay = self.b.p.resp == axi.OKAY
        m.d.comb += [
            room.eq(queue.w_rdy),
            queue.w_en.eq(pulse),
            queue.w_data.eq(Cat(burst.addr, burst.last)),
            self.b.ready.eq(queue.r_rdy),
            queue.r_en.eq(answered),
            self.done.eq(answered & okay & queue.r_data[-1]),
            self.error.eq(answered & ~okay),
            self.error_addr.eq(queue.r_data[:-1]),
            self.idle.eq(~queue.r_rdy),
        ]

    def _connect_beats(self, m, announced):
        """Send the beats of the bursts that were announced, with WLAST."""
        pulse, burst, _room = announced
        m.submodules.lengths = queue = fifo.SyncFIFO(
            width=burst.len.shape().width, depth=self.outstanding
        )
        count = Signal(burst.len.shape())
        last = count == queue.r_data
        free = ~self.w.valid | self.w.ready
        send = Signal()
        m.d.comb += [
            send.eq(queue.r_rdy & free & (self.data.valid | self.stop)),
            self.data.ready.eq(queue.r_rdy & free & ~self.stop),
            queue.w_en.eq(pulse),
            queue.w_data.eq(burst.len),
            queue.r_en.eq(send & last),
        ]
        with m.If(free):
            m.d.sync += self.w.valid.eq(send)
        with m.If(send):
            m.d.sync += [
                count.eq(Mux(last, 0, count + 1)),
                self.w.p.data.eq(self.data.p.data),
                self.w.p.strb.eq(Mux(self.stop, 0, self.data.p.strb)),
                self.w.p.last.eq(last),
            ]
        strobes = self.w.p.strb & (self.w.valid & self.w.ready).replicate(len(self.w.p.strb))
        m.d.comb += self.write_bytes.eq(sum(strobe for strobe in strobes))
