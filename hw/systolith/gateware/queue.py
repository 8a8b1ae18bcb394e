"""Queues in memory: plain, and of commands that wait at the head for other engines."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, fifo, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith.arch import isa

from .parity import Parity, noticed
from .slices import FlowFifo
from .words import COMMAND

ENGINE_COUNT = 4
"""Engines that execute instructions, which is what waits refer to."""

PROGRESS = data.ArrayLayout(isa.COUNTER_BITS, ENGINE_COUNT)
"""Instructions completed by each engine since the program's start."""


class StreamFifo(wiring.Component):
    """Queue of any payload, in a memory with registered output.

    Timing: latency 2 cycles; 1 payload per cycle.

    Parameters
    ----------
    shape : ShapeLike
        Shape of the payload.
    depth : int
        Payloads that it holds.
    protected : bool
        Whether each is stored with a parity bit.

    Members
    -------
    i, o : streams of `shape`
        Ends of the queue.
    level : ``Out(range(depth + 1))``
        Payloads inside.
    soft_error : ``Out(1)``, if `protected`
        The head has wrong parity.
    """

    def __init__(self, *, shape, depth, protected=False):
        if not isinstance(depth, int) or depth < 2:
            raise ValueError(f"Depth must be an integer of at least 2, not {depth!r}")
        self._depth = depth
        self._protected = protected
        super().__init__(
            {
                "i": In(stream.Signature(shape)),
                "o": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
            }
            | ({"soft_error": Out(1)} if protected else {})
        )

    @property
    def depth(self):
        return self._depth

    @property
    def protected(self):
        return self._protected

    def elaborate(self, platform):
        m = Module()
        bits = self.i.p.as_value() if hasattr(self.i.p, "as_value") else self.i.p
        parity = Parity(len(bits), enabled=self.protected)
        m.submodules.fifo = queue = fifo.SyncFIFOBuffered(
            width=parity.granularity, depth=self.depth
        )
        m.d.comb += [
            queue.w_data.eq(parity.encode(bits)),
            queue.w_en.eq(self.i.valid),
            self.i.ready.eq(queue.w_rdy),
            self.o.p.eq(parity.word(queue.r_data)),
            self.o.valid.eq(queue.r_rdy),
            queue.r_en.eq(self.o.ready),
            self.level.eq(queue.level),
        ]
        if self.protected:
            broken = parity.broken(queue.r_data) & queue.r_rdy
            m.d.comb += self.soft_error.eq(noticed(m, broken, name="broken"))
        return m


class CommandQueue(wiring.Component):
    """Queue in front of an engine; its head waits until the engines named have come far enough.

    Progress only grows while a program runs, so a command once offered stays offered. The head is
    judged in a register, while it waits and while it comes: neither the comparison nor the queue
    lies in the path of `o.ready`.

    Timing: latency 1 cycle when nothing has to be waited for; 1 command per cycle; a wait ends in
    the cycle after the one in which `progress` shows the target.

    Parameters
    ----------
    depth : int
        Commands that wait.
    waits : collection of systolith.arch.isa.Engine
        Engines whose targets are checked here; the engine itself checks the others.
    protected : bool
        Whether each command is stored with a parity bit.

    Members
    -------
    i, o : streams of ``COMMAND``
        Ends of the queue.
    progress : ``In(PROGRESS)``
        Instructions completed by each engine.
    waiting : ``Out(4)``
        Bit x: the head waits for engine x, as of the cycle before.
    level : ``Out(range(depth + 1))``
        Commands inside.
    soft_error : ``Out(1)``, if `protected`
        The head has wrong parity.
    """

    def __init__(self, *, depth, waits, protected=False):
        self._depth, self._protected = depth, protected
        self._waits = frozenset(isa.Engine(engine) for engine in waits)
        if isa.Engine.SEQUENCER in self._waits:
            raise ValueError("Waits must name engines that execute instructions, not SEQUENCER")
        super().__init__(
            {
                "i": In(stream.Signature(COMMAND)),
                "o": Out(stream.Signature(COMMAND)),
                "progress": In(PROGRESS),
                "waiting": Out(ENGINE_COUNT),
                "level": Out(range(depth + 1)),
            }
            | ({"soft_error": Out(1)} if protected else {})
        )

    @property
    def depth(self):
        return self._depth

    @property
    def waits(self):
        return self._waits

    def elaborate(self, platform):
        m = Module()
        m.submodules.queue = queue = FlowFifo(COMMAND, self.depth, protected=self._protected)
        wiring.connect(m, wiring.flipped(self.i), queue.i)
        if self._protected:
            m.d.comb += self.soft_error.eq(queue.soft_error)

        met = Signal()
        behind = Signal(ENGINE_COUNT)
        next_behind = Mux(queue.advance, self._behind(queue.next), self._behind(queue.o.p))
        next_valid = queue.next_valid | (queue.o.valid & ~queue.advance)
        m.d.sync += [behind.eq(next_behind), met.eq(next_valid & (next_behind == 0))]
        m.d.comb += [
            self.level.eq(queue.level),
            self.waiting.eq(behind & queue.o.valid.replicate(ENGINE_COUNT)),
            self.o.p.eq(queue.o.p),
            self.o.valid.eq(met),
            queue.o.ready.eq(self.o.ready & met),
        ]
        return m

    def _behind(self, command):
        """Return a bit for each engine that has not come as far as a command demands."""
        return Cat(
            command.targets[engine] > self.progress[engine] if engine in self.waits else 0
            for engine in range(ENGINE_COUNT)
        )
