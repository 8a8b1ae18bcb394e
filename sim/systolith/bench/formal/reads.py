"""Environment and properties of the read master."""

from typing import Any

from amaranth.hdl import Const, Mux, Signal, Value
from amaranth.lib import data

from systolith.gateware import burst

from .axi import ReadPins
from .fifo import FlowFifoProbe
from .ghost import Ghost
from .monitor import Monitor, implies
from .splitter import (
    BEAT_BYTES,
    BEATS,
    OUTSTANDING,
    SplitterProbe,
    expect_last_beat,
    expect_lengths,
    expect_window,
    reader_table,
)
from .stream import suppose_stream


class _Slot:
    """A burst that the read master has under way: on the bus or a fault, and whose it is."""

    def __init__(self, used: Value, code: Value, length: Value, for_load: Value) -> None:
        self.used = used
        self.on_bus = used & (code == 0)
        self.length = length
        self.for_load = for_load


def _read_slots(t: Monitor) -> list[_Slot]:
    """Return the bursts under way, oldest first: awaited by beats, in the expander, in the queue.

    Of those of which the beats are awaited, the place of the last beat stands for the burst.
    """
    layout = burst.burst_layout(BEAT_BYTES)
    entry = data.StructLayout({"burst": layout, "for_load": 1})
    queue = FlowFifoProbe(t, "dut.queue", OUTSTANDING, entry.size)
    rest = t.probe("dut.expander.rest", layout)
    active = t.probe("dut.expander.active")
    owner = t.probe("dut.beat_for_load")
    slots, before = _awaited_slots(t, active, rest, owner)
    slots.append(_Slot(active, rest.code, rest.len + before, owner))
    for used, raw in queue.occupied():
        view = data.View(entry, raw)
        slots.append(_Slot(used, view.burst.code, view.burst.len, view.for_load))
    for n, slot in enumerate(slots):
        t.invariant(f"fault{n}", implies(slot.used & ~slot.on_bus, slot.length == 0))
    expect_last_beat(t, "dut.expander")
    for splitter in ("fetch", "load"):
        held = t.probe(f"dut.{splitter}.leave.held", layout)
        full = t.probe(f"dut.{splitter}.leave.full")
        t.invariant(f"{splitter}_fault", implies(full & (held.code != 0), held.len == 0))
        expect_lengths(t, f"dut.{splitter}", BEAT_BYTES, BEATS)
    in_flight = t.probe("dut.in_flight", range(OUTSTANDING + 1))
    t.invariant("in_flight", in_flight == sum(slot.used for slot in slots))
    t.invariant("in_flight_fits", in_flight <= OUTSTANDING)
    t.invariant("in_flight_room", t.probe("dut.room") == (in_flight < OUTSTANDING))
    return slots


def awaited_places(t: Monitor, beat_bytes: int) -> list[tuple[Value, Any]]:
    """Return the beats that the read master awaits, oldest first, and whether they are there."""
    layout = data.StructLayout(
        {"beat": burst.beat_layout(beat_bytes), "for_load": 1, "from_bus": 1}
    )
    places = []
    for n, (used, raw) in enumerate(FlowFifoProbe(t, "dut.awaited", 2, layout.size).occupied()):
        place = data.View(layout, raw)
        known = implies(used, place.from_bus == (place.beat.code == 0))
        t.invariant(f"awaited{n}_from_bus", known)
        places.append((used, place))
    return places


def _awaited_slots(t: Monitor, active: Value, rest: Any, owner: Value) -> tuple[list[_Slot], Value]:
    """Return the bursts whose last beats are awaited, and the beats of the one behind them."""
    places = awaited_places(t, BEAT_BYTES)
    slots: list[_Slot] = []
    before: Any = Const(0, 1)
    for n, (used, place) in enumerate(places):
        beat, on_bus = place.beat, place.beat.code == 0
        # What is not the last beat is followed by another one of the same burst.
        follows = used & ~beat.burst_last
        next_place = places[n + 1] if n + 1 < len(places) else (Const(0, 1), place)
        same = Mux(
            next_place[0],
            (next_place[1].beat.code == 0) & (next_place[1].for_load == place.for_load),
            active & (rest.code == 0) & (owner == place.for_load),
        )
        t.invariant(f"awaited{n}_goes_on", implies(follows, on_bus & same))
        slots.append(_Slot(used & beat.burst_last, beat.code, before, place.for_load))
        before = Mux(used, Mux(beat.burst_last, 0, before + 1), before)
    return slots, before


def describe_reads(t: Monitor) -> None:
    """The rules of AR and R, and that each client gets its own answers."""
    dut = t.dut
    reader_table(t)
    suppose_stream(t, "load_request", dut.load_request, unless=dut.stop)
    suppose_stream(t, "fetch_request", dut.fetch_request, unless=dut.stop)
    pins = ReadPins(t, beat_bytes=BEAT_BYTES, beats=BEATS, outstanding=OUTSTANDING)
    slots = _read_slots(t)
    _match_reads(t, pins, slots)
    _expect_owners(t, slots)
    nothing = (pins.accepted.count == 0) & ~dut.ar.valid
    t.expect("idle_means_idle", implies(dut.idle, nothing))
    t.reach("stops_in_flight", dut.stop & (pins.accepted.count == OUTSTANDING))
    t.reach("idle_after_reading", dut.idle & t.was_live & t.past(dut.r.valid & dut.r.ready))
    bad = dut.load_data.valid & (dut.load_data.p.code != 0) & ~dut.r.valid
    t.reach("refuses_a_run", bad)


def _match_reads(t: Monitor, pins: ReadPins, slots: list[_Slot]) -> None:
    """Relate the bursts that the master keeps to those that the slave has been shown."""
    ar, accepted = t.dut.ar, pins.accepted
    # As the slave sees them: those accepted, the one taken now, the one on AR.
    shown = accepted.count + ar.valid
    t.invariant("bursts", shown == sum(slot.on_bus for slot in slots))
    for n in range(OUTSTANDING):
        length = Mux(accepted.count == n, ar.p.len, accepted.values[n])
        left = length - (pins.done if n == 0 else 0)
        before: Any = 0
        for slot in slots:
            this = slot.on_bus & (before == n)
            t.invariant(f"burst{n}_{slots.index(slot)}", implies(this, slot.length == left))
            before = before + slot.on_bus
    t.invariant("done_of_none", implies(accepted.count == 0, pins.done == 0))
    t.invariant("done", implies(accepted.count != 0, pins.done <= accepted.values[0]))


def _expect_owners(t: Monitor, slots: list[_Slot]) -> None:
    """Require that answers go to the client that asked, in the order of the bursts."""
    issue, for_load = t.probe("dut.issue"), t.probe("dut.for_load")
    ended = t.probe("dut.ended")
    later, owner = Signal(name="issued"), Signal(name="issued_for_load", reset_less=True)
    t.m.d.sync += [later.eq(issue), owner.eq(for_load)]
    owners = Ghost(t, "owner", OUTSTANDING + 1, 1, push=later, value=owner, pop=ended)
    t.invariant("owners", owners.count == sum(slot.used for slot in slots))
    before: Any = 0
    for slot in slots:
        for n in range(OUTSTANDING):
            same = slot.for_load == owners.values[n]
            name = f"owner{n}_{slots.index(slot)}"
            t.invariant(name, implies(slot.used & (before == n), same))
        before = before + slot.used
    load, fetch = t.dut.load_data, t.dut.fetch_data
    mine = owners.values[0]
    t.expect("load_data_is_loads", implies(load.valid, (owners.count != 0) & (mine == 1)))
    t.expect("fetch_data_is_fetches", implies(fetch.valid, (owners.count != 0) & (mine == 0)))


def _expect_read_windows(t: Monitor, regions: Any) -> None:
    """Require that AR stays in the window of the region asked for, which must be readable."""
    dut = t.dut
    load_index, fetch_index = dut.load_request.p.region, 0
    load = SplitterProbe(t, "dut.load", dut.load_request, load_index, regions=regions, write=False)
    fetch = SplitterProbe(t, "dut.fetch", None, fetch_index, regions=regions, write=False)
    issue, for_load = t.probe("dut.issue"), t.probe("dut.for_load")
    index = Mux(for_load, load.index, fetch.index)
    region = Mux(for_load, Value.cast(load.region), Value.cast(fetch.region))
    expect_window(t, "ar", dut.ar, issue, (index, region), regions, "read")


def describe_read_window(t: Monitor) -> None:
    """No burst on AR leaves its region, which must be readable."""
    regions = reader_table(t)
    suppose_stream(t, "load_request", t.dut.load_request, unless=t.dut.stop)
    suppose_stream(t, "fetch_request", t.dut.fetch_request, unless=t.dut.stop)
    _expect_read_windows(t, regions)
