"""Master of the AXI read channels, for instruction fetch and LOAD: bursts, checks, and a legal end."""

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from systolith.arch.csr import Fault

from . import axi
from .burst import (
    CODE_BITS,
    RUN,
    BeatExpander,
    BurstSplitter,
    address_of,
    beat_layout,
    burst_layout,
    check_outstanding,
)
from .region_table import lookup_signature
from .slices import FlowFifo, SkidBuffer, complement_of
from .words import REGION

FETCH_REGION = 0
"""Region that programs are fetched from."""

FETCH_REQUEST = data.StructLayout({"offset": 32, "bytes": 12})
"""Bytes of region 0 wanted by instruction fetch; at least 1."""


def fetch_layout(data_bits):
    """Return the layout of a beat of fetched bytes.

    `last` ends the request; with a `code` there is no data, but a fault at `addr`.
    """
    return data.StructLayout(
        {"data": data_bits, "last": 1, "code": CODE_BITS, "addr": axi.ADDR_BITS}
    )


def read_beat_layout(data_bits):
    """Return the layout of a beat of bytes read: lanes `lo` to `hi` of `data` are wanted.

    `last` ends an instruction; with a `code` there is no data, but a fault at `addr`.
    """
    lane = range(data_bits // 8)
    return data.StructLayout(
        {
            "data": data_bits,
            "lo": lane,
            "hi": lane,
            "last": 1,
            "code": CODE_BITS,
            "addr": axi.ADDR_BITS,
        }
    )


class ReadMaster(wiring.Component):
    """Read for two clients over one pair of AXI channels, in order, with one ID.

    Instruction fetch goes before loads, burst by burst. Answers come in the order of the bursts, so
    a client that does not take its beats holds up the other one: fetch must ask only for what it has
    room for. Faults travel in the stream of beats, in the place of the bytes that could not be read:
    REGION_BOUNDS and REGION_PERMISSION, after which nothing follows, and BUS_READ; `addr` is the first
    byte that could not be read, for BUS_READ the first one wanted of the beat.

    With `stop` no burst is issued any more, requests taken are forgotten, and beats that still come
    are dropped. The clients' streams end without ceremony then.

    Timing: 3 cycles from an idle client's request to AR; one burst per cycle; one beat per cycle,
    passed on in the cycle in which R brings it.

    Parameters
    ----------
    data_bits : int
        Width of R, in bits.
    outstanding : int
        Bursts in flight.

    Members
    -------
    ar, r : AXI read channels
    fetch_region : ``In(REGION)``
        Region 0.
    load_region : ``Out(lookup_signature())``
        Reader of the region table.
    fetch_request : stream of :data:`FETCH_REQUEST`
    fetch_data : stream of :func:`fetch_layout`
        Whole beats; the byte at `offset` is in lane `offset % beat_bytes` of the first one.
    load_request : stream of :data:`~systolith.gateware.burst.RUN`
    load_data : stream of :func:`read_beat_layout`
    stop : In(1)
        Level: begin nothing new.
    idle : Out(1)
        No burst in flight.
    read_beat : Out(1)
        Pulse: a beat was read, for either client.
    """

    def __init__(self, *, data_bits, outstanding):
        check_outstanding(outstanding)
        self._data_bits = data_bits
        self._outstanding = outstanding
        super().__init__(
            {
                **axi.read_channels(data_bits),
                "fetch_region": In(REGION),
                "load_region": Out(lookup_signature()),
                "fetch_request": In(stream.Signature(FETCH_REQUEST)),
                "fetch_data": Out(stream.Signature(fetch_layout(data_bits))),
                "load_request": In(stream.Signature(RUN)),
                "load_data": Out(stream.Signature(read_beat_layout(data_bits))),
                "stop": In(1),
                "idle": Out(1),
                "read_beat": Out(1),
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
        fetch = BurstSplitter(beat_bytes=beat_bytes, write=False)
        load = BurstSplitter(beat_bytes=beat_bytes, write=False)
        m.submodules.fetch = ResetInserter(self.stop)(fetch)
        m.submodules.load = ResetInserter(self.stop)(load)
        wiring.connect(m, wiring.flipped(self.load_request), load.i)
        wiring.connect(m, load.lookup, wiring.flipped(self.load_region))
        # The client makes much of `ready`, so it comes from a register.
        m.submodules.asked = asked = ResetInserter(self.stop)(SkidBuffer(FETCH_REQUEST))
        wiring.connect(m, wiring.flipped(self.fetch_request), asked.i)
        m.d.comb += [
            fetch.lookup.region.eq(self.fetch_region),
            fetch.i.valid.eq(asked.o.valid),
            fetch.i.p.region.eq(FETCH_REGION),
            fetch.i.p.offset.eq(asked.o.p.offset),
            fetch.i.p.size.eq(asked.o.p.bytes - 1),
            fetch.i.p.last.eq(1),
            asked.o.ready.eq(fetch.i.ready),
        ]
        awaited, ended = self._connect_bursts(m, fetch.o, load.o)
        self._connect_beats(m, awaited, ended)
        return m

    def _connect_bursts(self, m, fetch, load):
        """Issue one burst per cycle; return the stream of beats that will come, and that one ended."""
        beat_bytes = self.data_bits // 8
        layout = burst_layout(beat_bytes)
        entry = data.StructLayout({"burst": layout, "for_load": 1})
        m.submodules.queue = queue = FlowFifo(entry, depth=max(2, self.outstanding))
        m.submodules.expander = expander = BeatExpander(beat_bytes=beat_bytes)

        in_flight = Signal(range(self.outstanding + 1))
        room = Signal(init=1)
        ended = Signal()
        burst = Signal(layout)
        for_load = Signal()
        ar_empty = complement_of(self.ar.valid)
        ar_free = ar_empty | self.ar.ready
        issue = Signal()
        m.d.comb += [
            for_load.eq(~fetch.valid),
            burst.eq(Mux(for_load, load.p, fetch.p)),
            issue.eq((fetch.valid | load.valid) & ar_free & room & ~self.stop),
            fetch.ready.eq(issue & ~for_load),
            load.ready.eq(issue & for_load),
            queue.i.valid.eq(issue),
            queue.i.p.burst.eq(burst),
            queue.i.p.for_load.eq(for_load),
            self.idle.eq(in_flight == 0),
        ]
        with m.If(issue & ~ended):
            m.d.sync += [in_flight.eq(in_flight + 1), room.eq(in_flight != self.outstanding - 1)]
        with m.Elif(ended & ~issue):
            m.d.sync += [in_flight.eq(in_flight - 1), room.eq(1)]
        shown = issue & (burst.code == 0)
        with m.If(ar_free):
            m.d.sync += [self.ar.valid.eq(shown), ar_empty.eq(~shown)]
        with m.If(~self.ar.valid | self.ar.ready):
            fields = address_of(burst, beat_bytes)
            m.d.sync += [self.ar.p[name].eq(value) for name, value in fields.items()]

        beat_for_load = Signal()
        m.d.comb += [
            expander.i.valid.eq(queue.o.valid),
            expander.i.p.eq(queue.o.p.burst),
            queue.o.ready.eq(expander.i.ready),
        ]
        with m.If(expander.i.ready):
            m.d.sync += beat_for_load.eq(queue.o.p.for_load)
        # R and the client's `ready` come late: they end here, and would step the expander and take
        # the next burst in the same cycle.
        layout = data.StructLayout({"beat": beat_layout(beat_bytes), "for_load": 1, "from_bus": 1})
        m.submodules.awaited = awaited = FlowFifo(layout, depth=2)
        m.d.comb += [
            awaited.i.valid.eq(expander.o.valid),
            awaited.i.p.beat.eq(expander.o.p),
            awaited.i.p.for_load.eq(beat_for_load),
            awaited.i.p.from_bus.eq(expander.o.p.code == 0),
            expander.o.ready.eq(awaited.i.ready),
        ]
        return awaited.o, ended

    def _connect_beats(self, m, awaited, ended):
        """Give each beat that R brings, and each fault, to its client."""
        beat, for_load, from_bus = awaited.p.beat, awaited.p.for_load, awaited.p.from_bus
        ready = self.stop | Mux(for_load, self.load_data.ready, self.fetch_data.ready)
        available = awaited.valid & (self.r.valid | ~from_bus)
        code = Mux(from_bus, Mux(self.r.p.resp == axi.OKAY, Fault.NONE, Fault.BUS_READ), beat.code)
        m.d.comb += [
            awaited.ready.eq(available & ready),
            ended.eq(available & ready & beat.burst_last),
            self.r.ready.eq(awaited.valid & from_bus & ready),
            self.read_beat.eq(self.r.valid & self.r.ready),
            self.load_data.valid.eq(available & for_load & ~self.stop),
            self.fetch_data.valid.eq(available & ~for_load & ~self.stop),
        ]
        lane_bits = exact_log2(self.data_bits // 8)
        addr = Mux(from_bus, Cat(beat.lo, beat.addr[lane_bits:]), beat.addr)
        for client in (self.load_data, self.fetch_data):
            m.d.comb += [
                client.p.data.eq(self.r.p.data),
                client.p.last.eq(beat.last),
                client.p.code.eq(code),
                client.p.addr.eq(addr),
            ]
        m.d.comb += [self.load_data.p.lo.eq(beat.lo), self.load_data.p.hi.eq(beat.hi)]
