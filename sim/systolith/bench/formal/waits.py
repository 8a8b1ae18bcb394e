"""Proofs that no instruction passes its waits: from the instruction word to the engine."""

from typing import Any

from amaranth.hdl import Cat, Mux, Signal, Value
from amaranth.lib import data

from systolith.arch import isa, rules
from systolith.arch.presets import PRESETS
from systolith.gateware import decoder, queue, sequencer, streamer
from systolith.gateware.words import COMMAND

from .case import Case, Control
from .edit import Edit
from .fifo import FlowFifoProbe
from .handshakes import SHORT_PREFETCH
from .monitor import Monitor, implies
from .stream import suppose_stream
from .surroundings import follow_life, leaving

TINY = PRESETS["tiny-4x4"]
QUEUE_DEPTH = 2
ENGINES = range(queue.ENGINE_COUNT)
WAIT_BITS, FIRST_WAIT_BIT = 8, 8
BEAT_BYTES = isa.INSTRUCTION_BYTES
"""One instruction per beat, which keeps the proof small."""


def _checked(engine: int) -> tuple[int, ...]:
    """Return the engines whose progress the sequencer waits for before it offers a command."""
    return tuple(sequencer.EARLY_WAITS.get(isa.Engine(engine), ENGINES))


class _Dispatch:
    """What the dispatcher has taken since the program's start, counted beside it.

    Attributes
    ----------
    counts : list of Signal
        Instructions of each engine.
    total : Signal
        Instructions.
    seen : Signal
        The instruction of index `watched` was among them.
    engine : Signal
        Its engine.
    targets : list of Signal
        Progress that each engine must reach before it, by the definition of the instruction set.
    """

    def __init__(self, t: Monitor, watched: Value) -> None:
        bits = isa.COUNTER_BITS
        self.counts = [Signal(bits, name=f"dispatched{engine}") for engine in ENGINES]
        self.total = Signal(bits, name="dispatched")
        self.seen = Signal(name="seen")
        self.engine = Signal(range(len(isa.Engine)), name="seen_engine", reset_less=True)
        self.targets = [Signal(bits, name=f"seen_target{x}", reset_less=True) for x in ENGINES]
        path = "dut.decoder.o"
        raw = t.probe(f"{path}__payload", decoder.DECODED.size)
        item = data.View(decoder.DECODED, raw)
        self.valid, self.index = t.probe(f"{path}__valid"), item.index
        t.invariant("engine", implies(self.valid, item.engine <= int(isa.Engine.SEQUENCER)))
        taken = self.valid & t.probe(f"{path}__ready")
        legal = item.fault == 0
        restart = t.dut.engine_reset
        with t.m.If(taken):
            t.m.d.sync += self.total.eq(self.total + 1)
        for engine, count in enumerate(self.counts):
            with t.m.If(taken & legal & (item.engine == engine)):
                t.m.d.sync += count.eq(count + 1)
            t.suppose(f"dispatched{engine}_does_not_wrap", ~count.all())
        with t.m.If(taken & legal & (item.index == watched)):
            t.m.d.sync += [self.seen.eq(1), self.engine.eq(item.engine)]
            for x, target in enumerate(self.targets):
                lag = item.word[FIRST_WAIT_BIT + WAIT_BITS * x :][:WAIT_BITS]
                no_wait = (lag == isa.NO_WAIT) | (lag > self.counts[x])
                t.m.d.sync += target.eq(Mux(no_wait, 0, self.counts[x] - lag))
        with t.m.If(restart):
            t.m.d.sync += [count.eq(0) for count in (*self.counts, self.total, self.seen)]


def _describe_sequencer(t: Monitor) -> None:
    """Engines complete only what they were given, and nothing in the cycle in which they are reset."""
    dut = t.dut
    for name in ("region", "program_offset", "program_count"):
        t.hold(name, getattr(dut, name))
    suppose_stream(t, "fetch_data", dut.fetch_data)
    watched = t.constant("watched", isa.COUNTER_BITS)
    dispatch = _Dispatch(t, watched)
    _number_instructions(t, dispatch)
    follow_life(t)
    on_the_way = _leaving(t, dispatch, watched)
    for engine in ENGINES:
        _expect_engine(t, dispatch, engine, watched, on_the_way[engine])


def _number_instructions(t: Monitor, dispatch: _Dispatch) -> None:
    """Show that instructions are numbered in the order of dispatch."""
    fetched = t.probe("dut.fetch.taken", isa.COUNTER_BITS)
    t.suppose("program_does_not_wrap", ~dispatch.total.all())
    t.expect("index", implies(dispatch.valid, dispatch.index == dispatch.total))
    counted = t.probe("dut.dispatcher.dispatched", isa.COUNTER_BITS * len(ENGINES))
    t.invariant("dispatched", counted == Cat(*dispatch.counts))
    t.invariant("fetched", fetched == dispatch.total + dispatch.valid)


def _leaving(t: Monitor, dispatch: _Dispatch, watched: Value) -> list[Value]:
    """Return how many commands of each engine are between dispatcher and queues."""
    counts: list[Any] = [0 for _ in ENGINES]
    for n, (used, entry) in enumerate(leaving(t, "dut.dispatcher.leave")):
        for engine in ENGINES:
            ours = used & entry.engine[engine]
            seen = _is_as_seen(dispatch, engine, entry.command, watched)
            t.invariant(f"leaving{n}_{engine}", implies(ours, seen))
            counts[engine] = counts[engine] + ours
    return counts


def _expect_engine(
    t: Monitor, dispatch: _Dispatch, engine: int, watched: Value, on_the_way: Value
) -> None:
    dut = t.dut
    command, progress = dut.commands[engine], dut.progress[engine]
    taken = Signal(isa.COUNTER_BITS, name=f"taken{engine}")
    with t.m.If(dut.engine_reset):
        t.m.d.sync += taken.eq(0)
    with t.m.Elif(command.valid & command.ready):
        t.m.d.sync += taken.eq(taken + 1)
    done = dut.engine_done[engine]
    t.suppose(f"done{engine}", implies(done, (progress < taken) & ~dut.engine_reset))

    path = f"dut.queue{engine}"
    inside = FlowFifoProbe(t, f"{path}.queue", QUEUE_DEPTH, COMMAND.size)
    count = dispatch.counts[engine]
    t.invariant(f"given{engine}", count == taken + inside.level + on_the_way)
    head = data.View(COMMAND, inside.value)
    reached = Cat(*(dut.progress[x] >= head.targets[x] for x in _checked(engine))).all()
    met = implies(t.probe(f"{path}.met"), inside.valid & reached)
    t.invariant(f"met{engine}", dut.engine_reset | met)
    t.invariant(f"cleared{engine}", implies(dut.clear, progress == 0))
    t.expect(f"progress{engine}", implies(dut.busy, (progress <= taken) & (taken <= count)))
    for n, (used, raw) in enumerate(inside.occupied()):
        t.invariant(
            f"entry{engine}_{n}",
            implies(used, _is_as_seen(dispatch, engine, data.View(COMMAND, raw), watched)),
        )
    ours = command.valid & (command.p.index == watched)
    t.expect(f"known{engine}", implies(ours, dispatch.seen & (dispatch.engine == engine)))
    for x in _checked(engine):
        met = dut.progress[x] >= dispatch.targets[x]
        t.expect(f"wait{engine}_{x}", implies(ours, met))
        t.reach(f"wait{engine}_{x}_met", ours & (dispatch.targets[x] != 0))


def _is_as_seen(dispatch: _Dispatch, engine: int, entry: Any, watched: Value) -> Value:
    """Return whether a command in a queue, if it is the watched one, has its targets."""
    same = [entry.targets[x] == target for x, target in enumerate(dispatch.targets)]
    known = dispatch.seen & (dispatch.engine == engine)
    for each in same:
        known = known & each
    before: Any = entry.index < dispatch.total
    return before & implies(entry.index == watched, known)


def _describe_streamer(t: Monitor) -> None:
    """EXECUTE checks its other waits at the first step of each instruction."""
    dut = t.dut
    suppose_stream(t, "steps", dut.steps)
    for engine, count in enumerate(dut.progress):
        t.suppose(f"progress{engine}_grows", implies(t.was_live, count >= t.past(count)))
    begins = dut.steps.valid & dut.steps.ready & dut.steps.p.first
    for engine in streamer.CHECKED:
        met = dut.progress[engine] >= dut.steps.p.targets[engine]
        t.expect(f"wait_{engine.name.lower()}", implies(begins, met))
        t.reach(f"wait_{engine.name.lower()}_met", begins & (dut.steps.p.targets[engine] != 0))
    begun = Signal(name="begun")
    with t.m.If(dut.steps.valid & dut.steps.ready & ~dut.steps.p.setup):
        t.m.d.sync += begun.eq(1)
    with t.m.Elif(dut.valid):
        t.m.d.sync += begun.eq(0)
    t.expect("first_vector_of_a_step", implies(dut.valid & dut.vector.first, begun))
    t.invariant("fresh", dut.vector.first == begun)
    there = dut.steps.valid & ~dut.steps.p.setup
    t.invariant("ready", implies(t.probe("dut.ready"), there))


CASES = (
    Case(
        name="waits-sequencer",
        design=lambda: sequencer.Sequencer(
            rules=rules.field_rules(TINY), queue_depth=QUEUE_DEPTH, axi_bytes=BEAT_BYTES
        ),
        describe=_describe_sequencer,
        depth=1,
        cover_depth=16,
        edits=SHORT_PREFETCH,
        controls=(
            Control(
                "wait*",
                (
                    Edit(
                        "queue",
                        "command.targets[engine] > self.progress[engine]",
                        "command.targets[engine] > self.progress[engine] + 1",
                    ),
                ),
            ),
        ),
    ),
    Case(
        name="waits-execute",
        design=lambda: streamer.VectorStreamer(acc_rows=64, turnaround=4),
        describe=_describe_streamer,
        depth=1,
        cover_depth=6,
        controls=(
            Control(
                "wait_*",
                (Edit("streamer", "met & seen.replicate(len(CHECKED))", "met"),),
            ),
        ),
    ),
)
