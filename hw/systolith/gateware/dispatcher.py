"""Dispatcher: commands of decoded instructions, in the queues of the engines."""

from amaranth.hdl import Module, Mux
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith.arch import isa

from .decoder import DECODED
from .queue import ENGINE_COUNT, PROGRESS
from .slices import FlowFifo
from .words import COMMAND, FAULT_REPORT, HEADER_BITS

WAIT_BITS = 8

DISPATCHED = data.StructLayout({"command": COMMAND, "engine": ENGINE_COUNT})
"""A command on its way to the queue of the engine whose bit is set."""


class Dispatcher(wiring.Component):
    """Makes commands of decoded instructions: absolute targets, and the queue of the engine.

    What ends the program, HALT or an instruction that is not legal, is taken too, and kept out.

    Timing: 1 cycle from `i` to `o`; 1 instruction per cycle. `i.ready` is a register's, so a full
    queue holds up the instruction behind its own.

    Members
    -------
    i : ``In(stream.Signature(DECODED))``
        Instructions in order.
    o : ``Out(stream.Signature(COMMAND)).array(4)``
        One queue per engine.
    dispatched : ``Out(PROGRESS)``
        Commands given to each engine.
    halted : ``Out(1)``
        Level: HALT was reached; nothing more is taken.
    fault, fault_stb : ``Out(FAULT_REPORT)``, ``Out(1)``
        Level: an instruction was not legal; nothing more is taken.
    """

    i: In(stream.Signature(DECODED))
    o: Out(stream.Signature(COMMAND)).array(ENGINE_COUNT)
    dispatched: Out(PROGRESS)
    halted: Out(1)
    fault: Out(FAULT_REPORT)
    fault_stb: Out(1)

    def elaborate(self, platform):
        m = Module()
        m.submodules.leave = leave = FlowFifo(DISPATCHED, depth=2)
        item = self.i.p
        taken = self.i.valid & self.i.ready
        legal = item.fault == 0
        # HALT is the only instruction of the sequencer; decoding made sure of it.
        is_halt = item.engine == int(isa.Engine.SEQUENCER)
        m.d.comb += [
            self.i.ready.eq(leave.i.ready & ~self.halted & ~self.fault_stb),
            leave.i.valid.eq(taken & legal & ~is_halt),
            leave.i.p.command.opcode.eq(item.word[:8]),
            leave.i.p.command.even.eq(~item.word[0]),
            leave.i.p.command.body.eq(item.word[HEADER_BITS:]),
            leave.i.p.command.index.eq(item.index),
        ]
        with m.If(taken):
            m.d.sync += [
                self.halted.eq(legal & is_halt),
                self.fault_stb.eq(~legal),
                self.fault.code.eq(item.fault),
                self.fault.index.eq(item.index),
            ]
        for engine in range(ENGINE_COUNT):
            lag = item.word[8 + WAIT_BITS * engine :][:WAIT_BITS]
            count = self.dispatched[engine]
            asks = (lag != isa.NO_WAIT) & (lag <= count)
            ours = item.engine == engine
            m.d.comb += [
                leave.i.p.command.targets[engine].eq(Mux(asks, count - lag, 0)),
                leave.i.p.engine[engine].eq(ours),
            ]
            with m.If(leave.i.valid & leave.i.ready & ours):
                m.d.sync += count.eq(count + 1)

        for engine in range(ENGINE_COUNT):
            queue, ours = self.o[engine], leave.o.p.engine[engine]
            m.d.comb += [queue.p.eq(leave.o.p.command), queue.valid.eq(leave.o.valid & ours)]
            with m.If(ours):
                m.d.comb += leave.o.ready.eq(queue.ready)
        return m
