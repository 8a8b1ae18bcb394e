"""Sequencer: life of a program, dispatch of its instructions, and what happens on a fault.

    start -> "Clear" (reset of everything below) -> "Run" -> HALT and all idle -> "Clean" -> idle
                                                      `---> fault -> "Stop" until all idle ---'

Between "Clean" and "Run" everything is held in reset: nothing of a program is left when the next
one starts.
"""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, ResetInserter, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith.arch import isa
from systolith.arch.csr import Fault, Part

from .decoder import Decoder
from .dispatcher import Dispatcher
from .fetch import Fetch
from .queue import ENGINE_COUNT, PROGRESS, CommandQueue
from .read_master import FETCH_REQUEST, fetch_layout
from .words import COMMAND, FAULT_REPORT, REGION

WATCHDOG_BITS = 32
PART_BITS = 8

FIRST_FAULT = data.StructLayout(
    {"code": 8, "engine": range(len(isa.Engine)), "index": isa.COUNTER_BITS, "addr": 64}
)
"""The fault that stopped a program."""

EARLY_WAITS = {isa.Engine.EXECUTE: (isa.Engine.LOAD,)}
"""Engines that check some waits themselves, and the waits that the queue checks for them."""

_STOP_LATENCY = 3
"""Cycles after which everybody has heard of `stop`, one or two of them in registers on the way."""

_ALL_WAITS = tuple(engine for engine in isa.Engine if engine is not isa.Engine.SEQUENCER)


class Watchdog(wiring.Component):
    """Counts cycles without a completed instruction.

    Timing: `expired` rises `limit + 1` cycles after the last `kick`.

    Members
    -------
    limit : ``In(32)``
        Cycles; 0 is never.
    kick : ``In(1)``
        Something was completed.
    enable : ``In(1)``
        A program runs; otherwise the count is zero.
    expired : ``Out(1)``
        Level: the limit was passed.
    """

    limit: In(WATCHDOG_BITS)
    kick: In(1)
    enable: In(1)
    expired: Out(1)

    def elaborate(self, platform):
        m = Module()
        # Counting down to zero keeps a comparison of 32 bits out of the path to the fault.
        left = Signal(WATCHDOG_BITS)
        m.d.comb += self.expired.eq(self.enable & (self.limit != 0) & (left == 0))
        with m.If(~self.enable | self.kick):
            m.d.sync += left.eq(self.limit)
        with m.Elif(left != 0):
            m.d.sync += left.eq(left - 1)
        return m


class Sequencer(wiring.Component):
    """Run programs: fetch, decode, dispatch, completion, faults.

    A program ends at its HALT, when every engine has completed what it was given, or at a fault.
    Then nothing is dispatched any more, `stop` rises, and as soon as all is idle, the program is
    over. If that takes longer than the watchdog's limit, a fault is reported while `busy` stays,
    because only a reset helps against a bus that does not answer.

    Timing: the first fetch is requested 3 cycles after `start`. From the last beat of an
    instruction to an idle engine without waits it takes 6 cycles. 1 instruction per cycle.

    Parameters
    ----------
    rules : sequence of systolith.arch.rules.Rule
        Rules of the configuration.
    queue_depth : int
        Commands that wait in front of each engine.
    axi_bytes : int
        Bytes of an AXI beat.
    protected : bool
        Whether the queues have parity, and soft errors stop a program.

    Members
    -------
    start, abort : ``In(1)``
        Pulses from software.
    region : ``In(REGION)``
        Region 0.
    program_offset, program_count, watchdog : ``In(32)``
        Where the program is in region 0 (bytes), its instructions, and the limit in cycles.
    fetch_request, fetch_data : streams
        To and from the read master, as of `Fetch`.
    commands : ``Out(stream.Signature(COMMAND)).array(4)``
        One stream per engine; nothing is offered from the cycle after the rise of `stop` on.
    engine_done, engine_fault_stb, engine_idle : ``In(4)``
        Of each engine.
    engine_fault : ``In(FAULT_REPORT).array(4)``
        Of each engine.
    bus_idle : ``In(1)``
        Nothing is in flight on the bus.
    progress : ``Out(PROGRESS)``
        Instructions completed by each engine.
    waiting : ``Out(4).array(4)``
        Bit x of member e: the next command of engine e waits for engine x.
    stop : ``Out(1)``
        Level: begin nothing new.
    engine_reset : ``Out(1)``
        Level: forget everything, nothing is in flight; from a program's end to the next one's start.
    clear : ``Out(1)``
        Pulse: that of a program's start.
    running : ``Out(1)``
        Level: from start to HALT's completion or fault, for the counters.
    busy, done, faulted : ``Out(1)``
        State for software.
    done_stb, fault_stb : ``Out(1)``
        Pulses before `done` and `faulted` rise.
    fault : ``Out(FIRST_FAULT)``
        The first fault; of those in one cycle, that of the lowest engine.
    soft_error : ``In(8)``, if `protected`
        Where a soft error was noticed, an `arch.csr.Part`; 0 for nowhere. It comes before all others.
    """

    def __init__(self, *, rules, queue_depth, axi_bytes, protected=False):
        self._rules = tuple(rules)
        self._queue_depth = queue_depth
        self._axi_bytes = axi_bytes
        self._protected = protected
        super().__init__(
            {
                "start": In(1),
                "abort": In(1),
                "region": In(REGION),
                "program_offset": In(32),
                "program_count": In(32),
                "watchdog": In(WATCHDOG_BITS),
                "fetch_request": Out(stream.Signature(FETCH_REQUEST)),
                "fetch_data": In(stream.Signature(fetch_layout(8 * axi_bytes))),
                "commands": Out(stream.Signature(COMMAND)).array(ENGINE_COUNT),
                "engine_done": In(ENGINE_COUNT),
                "engine_fault": In(FAULT_REPORT).array(ENGINE_COUNT),
                "engine_fault_stb": In(ENGINE_COUNT),
                "engine_idle": In(ENGINE_COUNT),
                "bus_idle": In(1),
                "progress": Out(PROGRESS),
                "waiting": Out(ENGINE_COUNT).array(ENGINE_COUNT),
                "stop": Out(1),
                "engine_reset": Out(1, init=1),
                "clear": Out(1),
                "running": Out(1),
                "busy": Out(1),
                "done": Out(1),
                "faulted": Out(1),
                "done_stb": Out(1),
                "fault_stb": Out(1),
                "fault": Out(FIRST_FAULT),
            }
            | ({"soft_error": In(PART_BITS)} if protected else {})
        )

    @property
    def rules(self):
        return self._rules

    @property
    def queue_depth(self):
        return self._queue_depth

    @property
    def axi_bytes(self):
        return self._axi_bytes

    @property
    def protected(self):
        return self._protected

    def elaborate(self, platform):
        m = Module()
        fetch, dispatcher, missing = self._connect_front(m)
        self._queue_errors = [fetch.soft_error] if self.protected else []
        self._connect_queues(m, dispatcher)
        m.submodules.watchdog = watchdog = Watchdog()
        m.d.comb += [watchdog.limit.eq(self.watchdog), watchdog.enable.eq(self.busy)]
        # Registered, because it comes from everywhere and goes to everything. Cleared before it counts.
        first = Signal(FIRST_FAULT, reset_less=True)
        m.d.sync += first.eq(self._choose_fault(m, dispatcher, fetch, missing, watchdog))

        completed = Signal()
        m.d.sync += completed.eq(
            dispatcher.halted
            & self.engine_idle.all()
            & (self.progress.as_value() == dispatcher.dispatched.as_value())
        )
        # Whoever hears of `stop` late may still begin something: only then does idleness count.
        heard, quiet = Signal(_STOP_LATENCY), Signal()
        m.d.sync += [
            heard.eq(Cat(self.stop, heard)),
            quiet.eq(self.stop & heard[-1] & self.engine_idle.all() & self.bus_idle),
        ]
        self._control(m, first, completed, quiet, watchdog, fetch.fault.index)
        if self.protected:
            self._take_late_error(m, first)
        with m.If(self.done_stb):
            m.d.sync += self.done.eq(1)
        with m.If(self.fault_stb):
            m.d.sync += self.faulted.eq(1)
        return m

    def _control(self, m, first, completed, quiet, watchdog, index):
        """Go through the states of a program; `index` is of the instruction that is fetched next."""
        with m.FSM():
            with m.State("Idle"):
                with m.If(self.start):
                    m.d.sync += [
                        self.busy.eq(1),
                        self.done.eq(0),
                        self.faulted.eq(0),
                        self.fault.eq(0),
                        self.progress.eq(0),
                    ]
                    m.next = "Clear"
            with m.State("Clear"):
                m.d.comb += self.clear.eq(1)
                m.d.sync += [first.eq(0), self.engine_reset.eq(0)]
                m.next = "Run"
            with m.State("Run"):
                m.d.comb += self.running.eq(1)
                with m.If(first.code != int(Fault.NONE)):
                    m.d.comb += watchdog.kick.eq(1)
                    m.d.sync += [self.fault.eq(first), self.stop.eq(1)]
                    m.next = "Stop"
                with m.Elif(completed):
                    m.d.sync += self.stop.eq(1)
                    m.next = "Stop"
            with m.State("Stop"):
                with m.If(quiet):
                    m.d.sync += self.engine_reset.eq(1)
                    m.next = "Clean"
                with m.Elif(watchdog.expired | (self.fault.code == int(Fault.WATCHDOG))):
                    m.d.comb += self.fault_stb.eq(~self.faulted)
                    with m.If(self.fault.code == int(Fault.NONE)):
                        m.d.sync += [
                            self.fault.code.eq(int(Fault.WATCHDOG)),
                            self.fault.engine.eq(int(isa.Engine.SEQUENCER)),
                            self.fault.index.eq(index),
                        ]
            with m.State("Clean"):
                succeeded = self.fault.code == int(Fault.NONE)
                m.d.comb += [
                    self.done_stb.eq(succeeded),
                    self.fault_stb.eq(~succeeded & ~self.faulted),
                ]
                m.d.sync += [self.busy.eq(0), self.stop.eq(0)]
                m.next = "Idle"

    def _take_late_error(self, m, first):
        """Let a soft error that is noticed after the last instruction still count."""
        late = (first.code == int(Fault.SOFT_ERROR)) & (self.fault.code == int(Fault.NONE))
        with m.If(self.stop & ~self.engine_reset & late):
            m.d.sync += self.fault.eq(first)

    def _connect_front(self, m):
        """Connect fetch, decoder and dispatcher; return whether the next instruction is missing."""
        restart = ResetInserter(self.engine_reset)
        fetch = Fetch(axi_bytes=self.axi_bytes, protected=self.protected)
        decoder = Decoder(rules=self.rules)
        dispatcher = Dispatcher()
        m.submodules.fetch = restart(fetch)
        m.submodules.decoder = restart(decoder)
        m.submodules.dispatcher = restart(dispatcher)
        wiring.connect(m, fetch.request, wiring.flipped(self.fetch_request))
        wiring.connect(m, wiring.flipped(self.fetch_data), fetch.data)
        wiring.connect(m, fetch.o, decoder.i)
        wiring.connect(m, decoder.o, dispatcher.i)
        m.d.comb += [
            fetch.enable.eq(self.running),
            fetch.region.eq(self.region),
            fetch.offset.eq(self.program_offset),
            fetch.count.eq(self.program_count),
        ]
        missing = fetch.fault_stb & ~decoder.o.valid & ~dispatcher.halted & ~dispatcher.fault_stb
        return fetch, dispatcher, missing

    def _connect_queues(self, m, dispatcher):
        """Connect the queues and count what the engines complete."""
        # What begins a cycle too late is forgotten with all the rest.
        stopped = Signal()
        m.d.sync += stopped.eq(self.stop)
        for engine in range(ENGINE_COUNT):
            waits = EARLY_WAITS.get(isa.Engine(engine), _ALL_WAITS)
            queue = CommandQueue(depth=self.queue_depth, waits=waits, protected=self.protected)
            m.submodules[f"queue{engine}"] = ResetInserter(self.engine_reset)(queue)
            wiring.connect(m, dispatcher.o[engine], queue.i)
            if self.protected:
                self._queue_errors.append(queue.soft_error)
            command = self.commands[engine]
            m.d.comb += [
                queue.progress.eq(self.progress),
                self.waiting[engine].eq(queue.waiting),
                command.p.eq(queue.o.p),
                command.valid.eq(queue.o.valid & ~stopped),
                queue.o.ready.eq(command.ready & ~stopped),
            ]
            with m.If(self.engine_done[engine]):
                m.d.sync += self.progress[engine].eq(self.progress[engine] + 1)

    def _choose_fault(self, m, dispatcher, fetch, missing, watchdog):
        """Return the fault of this cycle, code NONE if there is none; lower engines come first."""
        first = Signal(FIRST_FAULT)
        kick = Signal()
        # Reports come late in their cycle: they are judged in the next one.
        reported = Signal(ENGINE_COUNT)
        reports = Signal(data.ArrayLayout(FAULT_REPORT, ENGINE_COUNT), reset_less=True)
        expired, aborted, absent = Signal(), Signal(), Signal()
        m.d.sync += [kick.eq(self.engine_done.any()), reported.eq(self.engine_fault_stb)]
        m.d.sync += [expired.eq(watchdog.expired), aborted.eq(self.abort), absent.eq(missing)]
        m.d.sync += [report.eq(now) for report, now in zip(reports, self.engine_fault, strict=True)]
        m.d.comb += watchdog.kick.eq(kick)
        chosen = self._report_of_lowest(m, reported, reports)
        with m.If(reported.any()):
            m.d.comb += first.eq(chosen)
        with m.Elif(dispatcher.fault_stb):
            self._set_fault(m, first, isa.Engine.SEQUENCER, dispatcher.fault)
        with m.Elif(absent):
            self._set_fault(m, first, isa.Engine.SEQUENCER, fetch.fault)
        with m.Elif(expired | aborted):
            code = Mux(expired, Fault.WATCHDOG, Fault.ABORTED)
            m.d.comb += [
                first.code.eq(code),
                first.engine.eq(int(isa.Engine.SEQUENCER)),
                first.index.eq(fetch.fault.index),
            ]
        if self.protected:
            self._choose_soft_error(m, first, fetch)
        return first

    def _report_of_lowest(self, m, reported, reports):
        """Return the report of the lowest engine that has one, zero if none has: all side by side."""
        lowest = Signal(FIRST_FAULT)
        words = []
        for engine in range(ENGINE_COUNT):
            report = Signal(FIRST_FAULT, name=f"report{engine}")
            self._set_fault(m, report, engine, reports[engine])
            ours = reported[engine] & ~reported[:engine].any()
            words.append(report.as_value() & ours.replicate(len(report.as_value())))
        m.d.comb += lowest.eq(reduce(or_, words))
        return lowest

    def _choose_soft_error(self, m, first, fetch):
        """Let soft errors come before the faults that they may have caused."""
        part = Signal.like(self.soft_error, name="part")
        m.d.comb += part.eq(self.soft_error)
        with m.If(Cat(self._queue_errors).any()):
            m.d.comb += part.eq(int(Part.QUEUES))
        with m.If(part != 0):
            m.d.comb += [
                first.code.eq(int(Fault.SOFT_ERROR)),
                first.engine.eq(int(isa.Engine.SEQUENCER)),
                first.index.eq(fetch.fault.index),
                first.addr.eq(part),
            ]

    @staticmethod
    def _set_fault(m, first, engine, report):
        m.d.comb += [
            first.code.eq(report.code),
            first.engine.eq(int(engine)),
            first.index.eq(report.index),
            first.addr.eq(report.addr),
        ]
