"""What surrounds the components whose handshakes are proven: what they may assume, and when."""

from typing import Any

from amaranth.hdl import Cat, Mux, Signal, Value
from amaranth.lib import data
from amaranth.utils import bits_for, exact_log2

from systolith.arch import isa
from systolith.arch.presets import PRESETS
from systolith.gateware import dispatcher, fetch, queue

from .fifo import FifoProbe, FlowFifoProbe
from .monitor import Monitor, implies
from .reads import awaited_places
from .splitter import reader_table, region_table
from .stream import add_contracts

TINY = PRESETS["tiny-4x4"]

SEQUENCER_STATES = ("Idle", "Clear", "Run", "Stop", "Clean")
"""In the order of their encoding."""

LATENCY = 2
"""Of the scratchpad, where an engine asks for it; only its existence matters here."""


def ever(t: Monitor, value: Value) -> Value:
    """Return whether a condition holds or held since the reset."""
    register = Signal(name="held")
    t.m.d.sync += register.eq(register | value)
    return register | value


def keep_order(t: Monitor, progress: list[Value]) -> None:
    """Suppose that counters of completed instructions only grow."""
    for engine, count in enumerate(progress):
        t.suppose(f"progress{engine}_grows", implies(t.was_live, count >= t.past(count)))


def of_plain(t: Monitor) -> None:
    """Nothing but streams."""
    add_contracts(t)


def of_queue(t: Monitor) -> None:
    """Counters of completed instructions only grow."""
    keep_order(t, list(t.dut.progress))
    add_contracts(t)


def of_splitter(t: Monitor) -> None:
    """The region table does not change."""
    region_table(t, t.dut.lookup)
    add_contracts(t)


def of_fetch(t: Monitor) -> None:
    """Beats, of one instruction each, come only for what was asked for."""
    dut = t.dut
    for name in ("region", "offset", "count"):
        t.hold(name, getattr(dut, name))
    promised = Signal(range(fetch.PREFETCH_DEPTH + 1))
    asked = Signal.like(promised)
    with t.m.If(dut.request.valid & dut.request.ready):
        t.m.d.comb += asked.eq(dut.request.p.bytes[exact_log2(isa.INSTRUCTION_BYTES) :])
    t.m.d.sync += promised.eq(promised + asked - (dut.data.valid & dut.data.ready))
    t.suppose("data_was_asked_for", implies(dut.data.valid, promised != 0))
    words = FlowFifoProbe(t, "dut.queue", fetch.PREFETCH_DEPTH, isa.INSTRUCTION_BITS)
    beats = FlowFifoProbe(t, "dut.entry", 2, dut.data.p.shape().size)
    room, word = t.probe("dut.room", len(promised)), t.probe("dut.assembler.o__valid")
    _know_size(t)
    t.invariant("room", room + promised + beats.level + word + words.level <= fetch.PREFETCH_DEPTH)
    add_contracts(t, unless={"request": ~dut.enable})


def _know_size(t: Monitor) -> None:
    """Relate the size of the next request to what is left to ask for; both are registers."""
    counter = isa.COUNTER_BITS
    t.suppose("constant_in_the_cycle_before", implies(t.dut.enable, t.was_live))
    asked, limit = t.probe("dut.asked", counter), t.probe("dut.limit", counter)
    settled, beyond = t.probe("dut.settled"), t.probe("dut.beyond")
    size = t.probe("dut.size", bits_for(fetch.REQUEST_INSTRUCTIONS))
    offset = t.probe("dut.next_offset", len(t.dut.offset) + 1)
    lane_bits = exact_log2(t.dut.axi_bytes)
    countable = Mux(t.dut.count > fetch.MAX_INSTRUCTIONS, fetch.MAX_INSTRUCTIONS, t.dut.count)
    constant = Mux(t.dut.offset[:lane_bits].any(), 0, countable)
    t.invariant("limit", ~t.was_live | (limit == constant))
    t.invariant("settled", implies(settled, t.was_live))
    t.invariant("asked", asked <= limit)
    t.invariant("beyond", implies(settled, beyond == ((asked == limit) | offset[-1])))
    t.invariant("size", implies(settled & (asked != limit), size <= limit - asked))


def follow_life(t: Monitor) -> None:
    """Show what the states of the sequencer mean for `busy`, `stop` and the reset of the engines."""
    state = t.probe("dut.fsm_state", 3)
    clean = SEQUENCER_STATES.index("Clean")
    busy, stop, reset = t.dut.busy, t.dut.stop, t.dut.engine_reset
    t.invariant("state", state <= clean)
    for number, name in enumerate(SEQUENCER_STATES):
        here = state == number
        t.invariant(f"{name}_busy", implies(here, busy == (name != "Idle")))
        t.invariant(f"{name}_reset", implies(here, reset == (name in {"Idle", "Clear", "Clean"})))
        t.invariant(f"{name}_stop", implies(here, stop == (name in {"Stop", "Clean"})))
    stopped = t.probe("dut.stopped")
    t.invariant("stopped", implies(t.dut.running | t.dut.clear, ~stopped))


def leaving(t: Monitor, path: str) -> list[tuple[Value, Any]]:
    """Show that each command on its way from a dispatcher has one engine; return use and entry."""
    inside = FlowFifoProbe(t, path, 2, dispatcher.DISPATCHED.size)
    entries = []
    for n, (used, raw) in enumerate(inside.occupied()):
        entry = data.View(dispatcher.DISPATCHED, raw)
        one = Cat(*(entry.engine == 1 << engine for engine in range(queue.ENGINE_COUNT))).any()
        t.invariant(f"leaving{n}", implies(used, one))
        entries.append((used, entry))
    return entries


def of_dispatcher(t: Monitor) -> None:
    """The decoder knows no other engines than those that there are."""
    leaving(t, "dut.leave")
    t.suppose("known_engine", t.dut.i.p.engine <= int(isa.Engine.SEQUENCER))
    add_contracts(t)


def of_sequencer(t: Monitor) -> None:
    """A program has less than 2^24 instructions, so its counters never wrap; `Fetch` sees to that."""
    dut = t.dut
    for name in ("region", "program_offset", "program_count"):
        t.hold(name, getattr(dut, name))
    for engine, count in enumerate(dut.progress):
        t.suppose(f"progress{engine}_does_not_wrap", implies(dut.engine_done[engine], ~count.all()))
    follow_life(t)
    off = {f"commands{engine}": ~dut.running for engine in range(queue.ENGINE_COUNT)}
    # The requests are those of `Fetch`, which has a proof of its own.
    add_contracts(t, unless=off, without=("fetch_request",))


def of_reader(t: Monitor) -> None:
    """Where there is a fault, there is no data to stay unchanged."""
    dut = t.dut
    reader_table(t)
    awaited_places(t, dut.data_bits // 8)
    payloads = {}
    for name in ("fetch_data", "load_data"):
        beat = getattr(dut, name).p
        good = (beat.code == 0).replicate(len(beat.data))
        others = [beat[field] for field in beat.shape().members if field != "data"]
        payloads[name] = Cat(beat.data & good, *others)
    clients = ("fetch_request", "fetch_data", "load_request", "load_data")
    add_contracts(t, unless=dict.fromkeys(clients, dut.stop), payloads=payloads)


def of_writer(t: Monitor) -> None:
    """The region table does not change, and clients are forgotten on `stop`."""
    region_table(t, t.dut.region)
    add_contracts(t, unless=dict.fromkeys(("request", "beats", "data"), t.dut.stop))


def of_registers(t: Monitor) -> None:
    """There is one read at a time."""
    t.invariant("one_read", ~(t.probe("dut.asked") & t.dut.bus.r.valid))
    add_contracts(t)


ENGINE_STREAMS = ("command", "request", "beats", "write", "bus_data", "read")


def of_load(t: Monitor) -> None:
    """An engine that has raised a fault forgets what it wanted, as after `stop`."""
    off = ever(t, t.dut.fault_stb | t.dut.stop)
    add_contracts(t, unless=dict.fromkeys(ENGINE_STREAMS, off))


class StoreProbe:
    """Inside of a `StoreEngine` whose windows come in time, `LATENCY` cycles after the request.

    Attributes
    ----------
    off : Value
        A fault was raised or `stop` came; it lasts until reset.
    masks : FifoProbe
        What is wanted of the windows on their way: a mask of lanes, and whether it ends a beat.
    beats : FifoProbe
        Beats that are complete: data, then strobes.
    """

    def __init__(self, t: Monitor) -> None:
        dut = t.dut
        self.off = off = ever(t, dut.fault_stb | dut.stop)
        on_the_way = [dut.read.valid & dut.read.ready]
        for _cycle in range(LATENCY):
            later = Signal(name="window_on_its_way")
            t.m.d.sync += later.eq(on_the_way[-1])
            on_the_way.append(later)
        t.suppose("windows_come_in_time", dut.data_valid == on_the_way[-1])
        depth, width = LATENCY + 4, dut.config.axi_bytes
        bits = bits_for(depth)
        count, reserved = t.probe("dut.on_the_way", bits), t.probe("dut.reserved", bits)
        self.masks = FifoProbe(t, "dut.masks", depth, width + 1)
        self.beats = FifoProbe(t, "dut.beat_queue", depth, 9 * width)
        t.invariant("halted", implies(t.probe("dut.halted"), off))
        t.invariant("on_the_way", count == sum(on_the_way[1:]))
        t.invariant("masks", off | (self.masks.level == count))
        t.invariant("reserved", off | (reserved == count + self.beats.level))
        t.invariant("room", off | (reserved <= depth))


def of_store(t: Monitor) -> None:
    """Windows come in time, and `stop` lasts until reset."""
    add_contracts(t, unless=dict.fromkeys(ENGINE_STREAMS, StoreProbe(t).off))


def of_steps(t: Monitor) -> None:
    """Its consumers are queues, which do not withdraw `ready`; that of the tiles never waits.

    Of the step of a setup instruction only some fields count.
    """
    steps, tiles, command = t.dut.steps, t.dut.tiles, t.dut.command
    kept = implies(t.was_live & t.past(steps.ready & ~steps.valid), steps.ready)
    t.suppose("steps_ready_stays", kept)
    t.suppose("tiles_are_ready_when_steps_are", implies(steps.ready, tiles.ready))
    is_pass = command.p.opcode[0]
    t.invariant("command_stays", steps.p.setup | (command.valid & is_pass))
    t.expect("tiles_leave_with_their_step", implies(tiles.valid, steps.valid & tiles.ready))
    step = steps.p
    counts = Cat(step.setup, step.first, step.targets, step.walk.index)
    payload = Mux(step.setup, counts, step.as_value())
    add_contracts(t, without=("tiles",), payloads={"steps": payload})


def of_walker(t: Monitor) -> None:
    """A job starts only when there is none."""
    t.suppose("start_only_when_idle", implies(t.dut.start, ~t.dut.active))
    t.invariant("full", t.probe("dut.full") == ~t.probe("dut.room"))
    t.invariant("loads", t.probe("dut.loads") == ~t.dut.active)
    states = Cat(t.probe(f"dut.{name}") for name in ("asks", "plain", "spaced"))
    t.invariant("state_of_a_row", sum(states) == t.dut.active)
    add_contracts(t, unless={"read": t.dut.halt})
