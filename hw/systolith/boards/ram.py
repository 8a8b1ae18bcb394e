"""Block RAM that serves the accelerator's AXI4 bus and, byte by byte, a host."""

from amaranth.hdl import Cat, Module, Mux, Shape, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from systolith.gateware import axi
from systolith.gateware.slices import FlowFifo, SkidBuffer

READ_QUEUE_BEATS = 8
"""Beats on their way from memory to bus: as many as keep it busy in spite of the queue's latency."""

_FLAGS = data.StructLayout({"id": axi.ID_BITS, "resp": 2, "last": 1})


class HostPort(wiring.Signature):
    """Byte access to a memory, as its user sees it.

    Parameters
    ----------
    size_bytes : int
        Bytes of the memory.

    Members
    -------
    addr, data : ``Out``, ``Out(8)``
        Byte address, and what to write there.
    write, read : ``Out(1)``
        Pulses; not both in one cycle. A byte can be read two cycles after it was written.
    result : ``In(8)``
        The byte read, in the cycle of `result_valid`.
    result_valid : ``In(1)``
        Pulse: four cycles after `read`.
    """

    def __init__(self, size_bytes):
        super().__init__(
            {
                "addr": Out(range(size_bytes)),
                "data": Out(8),
                "write": Out(1),
                "read": Out(1),
                "result": In(8),
                "result_valid": In(1),
            }
        )


class BurstWalker(wiring.Component):
    """Takes bursts apart into beats; the next burst waits in a register, so there is no gap.

    Parameters
    ----------
    data_bits, size_bytes : int
        Width of the bus, size of the memory.

    Members
    -------
    request : ``In(stream.Signature(axi.ADDRESS))``
        AR or AW.
    valid, word, last, resp, id : ``Out``
        The present beat, its word in the memory, whether the burst ends with it, and what to
        answer: OKAY, DECERR outside the memory, SLVERR unless the burst is INCR and full width.
    step : ``In(1)``
        The present beat is done.
    """

    def __init__(self, data_bits, size_bytes):
        self._beat_bits = exact_log2(data_bits // 8)
        self._pages = size_bytes // axi.BOUNDARY_BYTES
        super().__init__(
            {
                "request": In(stream.Signature(axi.ADDRESS)),
                "valid": Out(1),
                "word": Out(range(size_bytes * 8 // data_bits)),
                "last": Out(1),
                "resp": Out(2),
                "id": Out(axi.ID_BITS),
                "step": In(1),
            }
        )

    def elaborate(self, platform):
        m = Module()
        request = self.request.p
        page_bits = exact_log2(axi.BOUNDARY_BYTES)
        waiting, word, left, ident, resp = (
            Signal(),
            Signal.like(self.word),
            Signal(8),
            Signal(axi.ID_BITS),
            Signal(2),
        )
        beats = Signal(8)
        m.d.comb += self.request.ready.eq(~waiting)
        foreign = (request.burst != axi.INCR) | (request.size != self._beat_bits)
        outside = request.addr[page_bits:] >= self._pages
        with m.If(self.request.valid & ~waiting):
            m.d.sync += [
                waiting.eq(1),
                word.eq(request.addr[self._beat_bits :]),
                left.eq(request.len),
                ident.eq(request.id),
                resp.eq(Mux(outside, axi.DECERR, Mux(foreign, axi.SLVERR, axi.OKAY))),
            ]
        with m.If(self.step):
            m.d.sync += [
                self.word.eq(self.word + 1),
                beats.eq(beats - 1),
                self.last.eq(beats == 1),
                self.valid.eq(~self.last),
            ]
        with m.If(waiting & (~self.valid | (self.step & self.last))):
            m.d.sync += [
                waiting.eq(0),
                self.valid.eq(1),
                self.word.eq(word),
                beats.eq(left),
                self.last.eq(left == 0),
                self.id.eq(ident),
                self.resp.eq(resp),
            ]
        return m


class BlockRam(wiring.Component):
    """Memory with one read and one write port, which bus and host share; the host comes first.

    Bursts must be INCR and as wide as the bus; byte strobes are obeyed. Addresses start at zero.
    Contents survive every reset.

    Timing: one beat per cycle and direction, without gap between bursts, less one cycle for each
    access of the host. The first beat comes 6 cycles after its address. A write is answered once
    its bytes are visible to every read that starts afterwards; one beat of it may come before its
    address. `ready` of W is a register.

    Parameters
    ----------
    data_bits : int
        Width of the bus.
    size_bytes : int
        Bytes; a multiple of 4096.

    Members
    -------
    bus : ``In(axi.Signature(data_bits))``
        The accelerator.
    host : ``In(HostPort(size_bytes))``
        Byte accesses, never refused.
    """

    def __init__(self, data_bits, size_bytes):
        if size_bytes <= 0 or size_bytes % axi.BOUNDARY_BYTES:
            raise ValueError(
                f"Memory must be a positive multiple of {axi.BOUNDARY_BYTES} bytes, not "
                f"{size_bytes}"
            )
        self._data_bits, self._size_bytes = data_bits, size_bytes
        super().__init__({"bus": In(axi.Signature(data_bits)), "host": In(HostPort(size_bytes))})

    @property
    def data_bits(self):
        return self._data_bits

    @property
    def size_bytes(self):
        return self._size_bytes

    def elaborate(self, platform):
        m = Module()
        beat_bytes = self.data_bits // 8
        m.submodules.memory = memory = Memory(
            shape=data.ArrayLayout(unsigned(8), beat_bytes),
            depth=self.size_bytes // beat_bytes,
            init=[],
        )
        m.submodules.reads = reads = BurstWalker(self.data_bits, self.size_bytes)
        m.submodules.writes = writes = BurstWalker(self.data_bits, self.size_bytes)
        wiring.connect(m, reads.request, wiring.flipped(self.bus.ar))
        wiring.connect(m, writes.request, wiring.flipped(self.bus.aw))
        # The host's request, one cycle late, so that its wires are short.
        host = Signal(data.StructLayout({"addr": ceil_log2(self.size_bytes), "data": 8}))
        host_write, host_read = Signal(), Signal()
        # Once more for the handshake of the bus, which does not wait for a choice of many bits.
        written_by_bus = Signal(init=1)
        m.d.sync += [
            host.addr.eq(self.host.addr),
            host.data.eq(self.host.data),
            host_write.eq(self.host.write),
            host_read.eq(self.host.read),
            written_by_bus.eq(~self.host.write),
        ]
        self._connect_reads(m, memory, reads, host, host_read)
        self._connect_writes(m, memory, writes, host, host_write, written_by_bus)
        return m

    def _connect_reads(self, m, memory, walker, host, host_read):
        """Read a word per cycle for the bus, as long as the queue has room, or one for the host."""
        lane_bits = exact_log2(self.data_bits // 8)
        port = memory.read_port()
        width = self.data_bits + Shape.cast(_FLAGS).width
        m.submodules.read_queue = queue = FlowFifo(unsigned(width), READ_QUEUE_BEATS, bypass=False)
        room = Signal(range(READ_QUEUE_BEATS + 1), init=READ_QUEUE_BEATS)
        # Block RAM is slow to show what it read: it is registered before anything is made of it.
        word = Signal.like(port.data)
        issued, fetched = Signal(2), Signal(2)
        flags = Signal(data.ArrayLayout(_FLAGS, 2))
        lanes = Signal(data.ArrayLayout(lane_bits, 2))
        m.d.comb += [
            walker.step.eq(walker.valid & (room != 0) & ~host_read),
            port.addr.eq(Mux(host_read, host.addr[lane_bits:], walker.word)),
            queue.i.valid.eq(issued[1]),
            queue.i.p.eq(Cat(word.as_value(), flags[1].as_value())),
            self.bus.r.valid.eq(queue.o.valid),
            queue.o.ready.eq(self.bus.r.ready),
            Cat(self.bus.r.p.data, *(self.bus.r.p[name] for name in ("id", "resp", "last"))).eq(
                queue.o.p
            ),
        ]
        taken = queue.o.valid & queue.o.ready
        m.d.sync += [
            room.eq(room - walker.step + taken),
            word.eq(port.data),
            issued.eq(Cat(walker.step, issued)),
            Cat(flags[0].id, flags[0].resp, flags[0].last).eq(
                Cat(walker.id, walker.resp, walker.last)
            ),
            flags[1].eq(flags[0]),
            fetched.eq(Cat(host_read, fetched)),
            lanes.as_value().eq(Cat(host.addr[:lane_bits], lanes.as_value())),
            self.host.result.eq(word[lanes[1]]),
            self.host.result_valid.eq(fetched[1]),
        ]

    def _connect_writes(self, m, memory, walker, host, host_write, written_by_bus):
        """Write a beat per cycle for the bus, or a byte for the host, from a register."""
        lane_bits = exact_log2(self.data_bits // 8)
        port = memory.write_port(granularity=1)
        answer = self.bus.b
        # `ready` ends here: it comes late, and the bus makes much of it.
        m.submodules.entry = entry = SkidBuffer(self.bus.w.p.shape())
        wiring.connect(m, wiring.flipped(self.bus.w), entry.i)
        beat = entry.o
        fire = Signal()
        strobes = Signal(self.data_bits // 8)
        # Nothing here depends on a pin of the bus in the same cycle.
        m.d.comb += [
            beat.ready.eq(walker.valid & written_by_bus & ~(walker.last & answer.valid)),
            fire.eq(beat.ready & beat.valid),
            walker.step.eq(fire),
            strobes.eq(
                Mux(fire & (walker.resp == axi.OKAY), beat.p.strb, 0)
                | (host_write << host.addr[:lane_bits])
            ),
        ]
        m.d.sync += [
            port.addr.eq(Mux(host_write, host.addr[lane_bits:], walker.word)),
            port.en.eq(strobes),
        ]
        for lane in range(self.data_bits // 8):
            byte = beat.p.data.word_select(lane, 8)
            m.d.sync += port.data[lane].eq(Mux(host_write, host.data, byte))
        with m.If(answer.ready):
            m.d.sync += answer.valid.eq(0)
        with m.If(fire & walker.last):
            m.d.sync += [
                answer.valid.eq(1),
                answer.p.id.eq(walker.id),
                answer.p.resp.eq(walker.resp),
            ]
