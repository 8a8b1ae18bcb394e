"""Register slices: they end a combinational path of a stream without costing a cycle."""

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import fifo, stream, wiring
from amaranth.lib.wiring import In, Out


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
        held = Signal(self.i.p.shape(), reset_less=True)
        m.d.comb += [
            self.i.ready.eq(~full),
            self.o.valid.eq(self.i.valid | full),
            self.o.p.eq(Mux(full, held, self.i.p)),
        ]
        m.d.sync += full.eq(self.o.valid & ~self.o.ready)
        with m.If(~full):
            m.d.sync += held.eq(self.i.p)
        return m


class FlowFifo(wiring.Component):
    """Queue whose head is in a register, which what comes to an empty queue reaches at once.

    Timing: latency 1 cycle; 1 payload per cycle. `o` and `i.ready` are registered or come from the
    number of payloads inside.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload.
    depth : int
        Payloads that it holds.

    Members
    -------
    i, o : streams of `shape`
        Ends of the queue.
    level : ``Out(range(depth + 1))``
        Payloads inside.
    """

    def __init__(self, shape, depth):
        if not isinstance(depth, int) or depth < 2:
            raise ValueError(f"Depth must be an integer of at least 2, not {depth!r}")
        self._depth = depth
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
            }
        )

    @property
    def depth(self):
        return self._depth

    def elaborate(self, platform):
        m = Module()
        arriving = Value.cast(self.i.p)
        m.submodules.rest = rest = fifo.SyncFIFO(width=len(arriving), depth=self.depth - 1)
        head = Signal(self.o.p.shape(), reset_less=True)
        advance = ~self.o.valid | self.o.ready
        m.d.comb += [
            self.o.p.eq(head),
            self.i.ready.eq(rest.w_rdy),
            rest.w_data.eq(arriving),
            rest.w_en.eq(self.i.valid & ~(advance & ~rest.r_rdy)),
            rest.r_en.eq(advance),
            self.level.eq(rest.level + self.o.valid),
        ]
        with m.If(advance):
            m.d.sync += self.o.valid.eq(rest.r_rdy | self.i.valid)
            m.d.sync += Value.cast(head).eq(Mux(rest.r_rdy, rest.r_data, arriving))
        return m
