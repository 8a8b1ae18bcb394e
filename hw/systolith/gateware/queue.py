"""Queues of commands, which wait at the head for other engines."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith.arch import isa

from .slices import FlowFifo
from .words import COMMAND

ENGINE_COUNT = 4
"""Engines that execute instructions, which is what waits refer to."""

PROGRESS = data.ArrayLayout(isa.COUNTER_BITS, ENGINE_COUNT)
"""Instructions completed by each engine since the program's start."""


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
        # Both are judged to the end: which of them it will be is known late.
        next_behind, now_behind = self._behind(queue.next), self._behind(queue.o.p)
        next_met = queue.next_valid & (next_behind == 0)
        now_met = queue.o.valid & (now_behind == 0)
        m.d.sync += [
            behind.eq(Mux(queue.advance, next_behind, now_behind)),
            met.eq(Mux(queue.advance, next_met, now_met)),
        ]
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
