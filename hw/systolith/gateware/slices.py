"""Register slices: they end a combinational path of a stream without costing a cycle."""

from amaranth.hdl import Module, Mux, Signal, Value, unsigned
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .parity import Parity, noticed


def complement_of(register):
    """Return a register for the complement of another one, of one bit, which is zero after reset.

    Whoever sets one sets both. Of what a handshake depends on and many bits of a payload, too, one
    is for either: the handshake is late as it is, and a wire that ends at many places is slow.
    """
    return Signal(init=1, name=f"not_{register.name}")


class SkidBuffer(wiring.Component):
    """Take `ready` from a register: a payload that came too early waits here.

    Timing: latency 0 cycles; 1 payload per cycle. `o` depends combinationally on `i`, but
    `i.ready` on nothing.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload.

    Members
    -------
    i, o : streams of `shape`
    """

    def __init__(self, shape):
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform):
        m = Module()
        full = Signal()
        room = complement_of(full)
        held = Signal(self.i.p.shape(), reset_less=True)
        stays = self.o.valid & ~self.o.ready
        m.d.comb += [
            self.i.ready.eq(room),
            self.o.valid.eq(self.i.valid | ~room),
            self.o.p.eq(Mux(full, held, self.i.p)),
        ]
        m.d.sync += [full.eq(stays), room.eq(~stays)]
        with m.If(~full):
            m.d.sync += held.eq(self.i.p)
        return m


class FlowFifo(wiring.Component):
    """Queue whose head is in a register, which what comes to an empty queue reaches at once.

    Timing: latency 1 cycle, 2 without `bypass`; 1 payload per cycle. `o.valid`, `o.payload` and
    `i.ready` are registers. No enable of the memory waits for the other end.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload.
    depth : int
        Payloads that it holds.
    protected : bool
        Whether each is stored with a parity bit.
    bypass : bool
        Whether the head is taken from `i` if nothing else waits. Without that, all go through the
        memory, and `i` is not in the way to the head.

    Members
    -------
    i, o : streams of `shape`
        Ends of the queue.
    level : ``Out(range(depth + 1))``
        Payloads inside.
    advance : ``Out(1)``
        `next_valid` and `next` become `o.valid` and `o.payload`.
    next, next_valid : ``Out(shape)``, ``Out(1)``
        What comes behind the head, for those who must judge it before it is there.
    soft_error : ``Out(1)``, if `protected`
        The head has wrong parity.
    """

    def __init__(self, shape, depth, *, protected=False, bypass=True):
        if not isinstance(depth, int) or depth < 2:
            raise ValueError(f"Depth must be an integer of at least 2, not {depth!r}")
        self._depth, self._protected, self._bypass = depth, protected, bool(bypass)
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
                "advance": Out(1),
                "next": Out(shape),
                "next_valid": Out(1),
            }
            | ({"soft_error": Out(1)} if protected else {})
        )

    @property
    def depth(self):
        return self._depth

    @property
    def protected(self):
        return self._protected

    @property
    def bypass(self):
        return self._bypass

    def elaborate(self, platform):
        m = Module()
        parity = Parity(len(Value.cast(self.i.p)), enabled=self.protected)
        arriving = parity.encode(Value.cast(self.i.p))
        following = Signal(parity.granularity)
        rows = self.depth - 1
        m.submodules.storage = rest = Memory(shape=unsigned(len(arriving)), depth=rows, init=[])
        w_port, r_port = rest.write_port(), rest.read_port(domain="comb")
        produce = Signal(range(rows))
        consume = Signal(range(rows))
        behind = Signal(range(rows + 1))
        # `waiting` says that `behind` is not zero, `room` that the memory is not full: known a cycle
        # ahead, because many bits wait for that.
        waiting = Signal()
        room = Signal(init=1)
        empty = complement_of(self.o.valid)
        head = Signal(parity.granularity, reset_less=True)
        arrives, grows, shrinks, popped = Signal(), Signal(), Signal(), Signal()
        passes = ~waiting & self.bypass
        m.d.comb += [
            Value.cast(self.o.p).eq(parity.word(head)),
            self.i.ready.eq(room),
            self.level.eq(behind + self.o.valid),
            self.advance.eq(~self.o.valid | self.o.ready),
            self.next_valid.eq(waiting | (self.i.valid & passes)),
            following.eq(Mux(passes, arriving, r_port.data)),
            Value.cast(self.next).eq(parity.word(following)),
            # What passes by, and what is not valid, is written to the free row all the same.
            w_port.en.eq(behind != rows),
            w_port.addr.eq(produce),
            w_port.data.eq(arriving),
            r_port.addr.eq(consume),
            arrives.eq(self.i.valid & room),
            popped.eq(self.advance & waiting),
            grows.eq(arrives & ~(self.advance & (waiting | passes))),
            shrinks.eq(popped & ~arrives),
        ]
        # Counted up and down beforehand, and chosen late.
        with m.If(grows):
            m.d.sync += [behind.eq(behind + 1), waiting.eq(1), room.eq(behind != rows - 1)]
        with m.Elif(shrinks):
            m.d.sync += [behind.eq(behind - 1), waiting.eq(behind != 1), room.eq(1)]
        with m.If(arrives & ~(self.advance & passes)):
            m.d.sync += produce.eq(Mux(produce == rows - 1, 0, produce + 1))
        with m.If(popped):
            m.d.sync += consume.eq(Mux(consume == rows - 1, 0, consume + 1))
        with m.If(self.advance):
            m.d.sync += [self.o.valid.eq(self.next_valid), empty.eq(~self.next_valid)]
        with m.If(empty | self.o.ready):
            m.d.sync += head.eq(following)
        if self.protected:
            broken = parity.broken(head) & self.o.valid
            m.d.comb += self.soft_error.eq(noticed(m, broken, name="broken"))
        return m
