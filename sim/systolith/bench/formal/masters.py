"""Proofs of the bus masters: the rules of AXI4, and that no burst leaves its region."""

from typing import Any

from amaranth.hdl import Cat, Mux, Signal, Value
from amaranth.lib import data
from amaranth.utils import exact_log2

from systolith.arch import isa
from systolith.gateware import axi, burst, dma

from .axi import ReadPins, WritePins, in_window
from .case import Case, Control
from .edit import Edit
from .fifo import FifoProbe
from .ghost import Ghost
from .monitor import Monitor, implies
from .stream import suppose_stream

BEAT_BYTES = 4
BEATS = 4
OUTSTANDING = 2

SHORT_BURSTS = (Edit("burst", "BURST_BEATS = 16", f"BURST_BEATS = {BEATS}"),)
"""Bursts of at most 4 beats."""

SIZE_BITS, RUN_BITS, ADDR_BITS = 10, 8, 16
NARROW = (
    Edit("words", '{"base": 64, "size": 32, ', f'{{"base": {ADDR_BITS}, "size": {SIZE_BITS}, '),
    Edit("axi", "ADDR_BITS = 64", f"ADDR_BITS = {ADDR_BITS}"),
    Edit("burst", "OFFSET_BITS = 33", f"OFFSET_BITS = {SIZE_BITS + 1}"),
    Edit("burst", '"size": isa.LOCAL_ADDR_BITS', f'"size": {RUN_BITS}'),
    Edit(
        "burst", "Signal(isa.LOCAL_ADDR_BITS + 1 - lane_bits", f"Signal({RUN_BITS} + 1 - lane_bits"
    ),
    Edit("dma", '{"offset": 32, "bytes": 12}', f'{{"offset": {SIZE_BITS}, "bytes": {RUN_BITS}}}'),
)
"""Addresses of 16 bits, regions of 1 KiB, runs of 256 bytes: all relations between widths are kept."""


class SplitterProbe:
    """Inside of a `BurstSplitter`, and the region that each of its stages stands for.

    Parameters
    ----------
    t : Monitor
        Monitor of the master.
    path : str
        The splitter inside the design.
    request : stream
        Its input on the master's pins.
    index : Value
        Region of the request.
    write : bool
        Permission that it asks for.

    Attributes
    ----------
    region : View
        Region of the burst that it offers.
    """

    def __init__(
        self, t: Monitor, path: str, request: Any, index: Value | int, *, write: bool
    ) -> None:
        name = path.rpartition(".")[2]
        lane_bits = exact_log2(BEAT_BYTES)
        regions = t.dut.regions
        s1_valid, s1_ready = t.probe(f"{path}.s1_valid"), t.probe(f"{path}.s1_ready")
        s2_valid, frozen = t.probe(f"{path}.s2_valid"), t.probe(f"{path}.frozen")
        s1_region = t.probe(f"{path}.s1_region", burst.REGION)
        s2 = t.probe(f"{path}.s2", burst.burst_layout(BEAT_BYTES))
        beats = t.probe(f"{path}.s2_beats", burst.RUN["size"].width + 1 - lane_bits)
        index_shape = range(isa.REGION_COUNT)
        s1_index = Signal(index_shape, name=f"{name}_s1_index", reset_less=True)
        self.index = Signal(index_shape, name=f"{name}_s2_index", reset_less=True)
        self.region = Signal(burst.REGION, name=f"{name}_s2_region", reset_less=True)
        with t.m.If(request.valid & request.ready):
            t.m.d.sync += s1_index.eq(index)
        with t.m.If(s1_ready):
            t.m.d.sync += [self.index.eq(s1_index), self.region.eq(s1_region)]
        is_named(t, f"{name}_s1_region", s1_valid, s1_region, regions, s1_index)
        is_named(t, f"{name}_s2_region", s2_valid, self.region, regions, self.index)
        begin = Cat(s2.lo, s2.addr[lane_bits:])
        extra = (beats << lane_bits) + s2.hi - s2.lo
        permission = self.region.write if write else self.region.read
        aligned = self.region.base[:lane_bits] == 0
        running = s2_valid & ~frozen & (s2.code == 0)
        t.invariant(f"{name}_permitted", implies(running, permission & aligned))
        t.invariant(f"{name}_extra", implies(running, extra >= 0))
        inside = in_window(self.region, begin, extra)
        t.invariant(f"{name}_inside", implies(running, inside))


def is_named(t: Monitor, name: str, valid: Value, copy: Any, regions: Any, index: Value) -> None:
    """Require that a copy is the region of that index."""
    same = Value.cast(copy) == Value.cast(regions[index])
    t.invariant(name, implies(valid, same))


class _Slot:
    """A burst that the read master has under way: on the bus or a fault, and whose it is."""

    def __init__(self, used: Value, code: Value, length: Value, for_load: Value) -> None:
        self.used = used
        self.on_bus = used & (code == 0)
        self.length = length
        self.for_load = for_load


def _read_slots(t: Monitor) -> list[_Slot]:
    """Return the bursts under way, oldest first: in the expander, then in the queue."""
    layout = burst.burst_layout(BEAT_BYTES)
    entry = data.StructLayout({"burst": layout, "for_load": 1})
    queue = FifoProbe(t, "dut.queue", OUTSTANDING, entry.size)
    rest = t.probe("dut.expander.rest", layout)
    active = t.probe("dut.expander.active")
    owner = t.probe("dut.beat_for_load")
    slots = [_Slot(active, rest.code, rest.len, owner)]
    for row, raw in enumerate(queue.rows):
        view = data.View(entry, raw)
        slots.append(_Slot(queue.holds(row), view.burst.code, view.burst.len, view.for_load))
    in_flight = t.probe("dut.in_flight", range(OUTSTANDING + 1))
    t.invariant("in_flight", in_flight == queue.level + active)
    t.invariant("in_flight_fits", in_flight <= OUTSTANDING)
    return slots


def _describe_reads(t: Monitor) -> None:
    dut = t.dut
    t.hold("regions", dut.regions)
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


def _expect_read_windows(t: Monitor) -> None:
    """Require that AR stays in the window of the region asked for, which must be readable."""
    dut = t.dut
    load_index, fetch_index = dut.load_request.p.region, 0
    load = SplitterProbe(t, "dut.load", dut.load_request, load_index, write=False)
    fetch = SplitterProbe(t, "dut.fetch", dut.fetch_request, fetch_index, write=False)
    issue, for_load = t.probe("dut.issue"), t.probe("dut.for_load")
    index = Mux(for_load, load.index, fetch.index)
    region = Mux(for_load, Value.cast(load.region), Value.cast(fetch.region))
    _expect_window(t, "ar", dut.ar, issue, index, region, "read")


def _expect_window(
    t: Monitor, name: str, port: Any, issue: Value, index: Value, region: Value, permission: str
) -> None:
    """Require that the burst on a channel lies in the region that it was issued for."""
    ours = Signal(range(isa.REGION_COUNT), name=f"{name}_index", reset_less=True)
    copy = Signal(burst.REGION, name=f"{name}_region", reset_less=True)
    with t.m.If(issue):
        t.m.d.sync += [ours.eq(index), copy.eq(region)]
    is_named(t, f"{name}_region", port.valid, copy, t.dut.regions, ours)
    extra = port.p.len << exact_log2(BEAT_BYTES)
    # Beats are whole: the last one begins in the window, whose begin is that of a beat.
    t.expect(f"{name}_in_window", implies(port.valid, in_window(copy, port.p.addr, extra)))
    t.expect(f"{name}_permitted", implies(port.valid, copy[permission]))
    end = (port.p.addr - copy.base)[: len(copy.base)] + extra + BEAT_BYTES
    t.reach(f"{name}_ends_with_window", port.valid & (end == copy.size) & (port.p.len != 0))


def _describe_read_window(t: Monitor) -> None:
    t.hold("regions", t.dut.regions)
    suppose_stream(t, "load_request", t.dut.load_request, unless=t.dut.stop)
    suppose_stream(t, "fetch_request", t.dut.fetch_request, unless=t.dut.stop)
    _expect_read_windows(t)


def _describe_writes(t: Monitor) -> None:
    dut = t.dut
    t.hold("regions", dut.regions)
    suppose_stream(t, "request", dut.request, unless=dut.stop)
    suppose_stream(t, "data", dut.data, unless=dut.stop)
    pins = WritePins(t, beat_bytes=BEAT_BYTES, beats=BEATS, outstanding=OUTSTANDING)
    _match_beats(t, pins)
    _match_answers(t, pins)
    nothing = (pins.accepted == 0) & (pins.announced.count == 0) & ~dut.aw.valid & ~dut.w.valid
    t.expect("idle_means_idle", implies(dut.idle, nothing))
    stopped = t.was_live & t.past(dut.stop & (~dut.w.valid | dut.w.ready))
    t.expect("stop_ends_without_strobes", implies(stopped & dut.w.valid, dut.w.p.strb == 0))
    t.reach("stops_with_beats_to_come", stopped & dut.w.valid & dut.w.p.last)
    t.reach("idle_after_writing", dut.idle & t.was_live & t.past(dut.b.valid & dut.b.ready))


def _match_beats(t: Monitor, pins: WritePins) -> None:
    """Relate the lengths that the master keeps to the bursts that AW has shown."""
    w, announced = t.dut.w, pins.announced
    length_bits = exact_log2(BEATS)
    lengths = FifoProbe(t, "dut.lengths", OUTSTANDING, length_bits)
    count = t.probe("dut.count", length_bits)
    closing = w.valid & w.p.last
    t.invariant("bursts", announced.count == lengths.level + closing)
    for n, length in enumerate(lengths.rows):
        same = length == Mux(closing, announced.values[(n + 1) % OUTSTANDING], announced.values[n])
        t.invariant(f"length{n}", implies(lengths.holds(n), same))
    t.invariant("beats", pins.done == Mux(closing, announced.values[0], count - w.valid))
    t.invariant("closing", implies(closing, count == 0))
    t.invariant("none", implies(lengths.level == 0, count == 0))
    t.invariant("opening", implies(w.valid & ~closing, (count != 0) & (lengths.level != 0)))
    t.invariant("within", implies(lengths.level != 0, count <= lengths.rows[0]))


def _match_answers(t: Monitor, pins: WritePins) -> None:
    """Relate the bursts that the master waits for to those that the slave may answer."""
    dut = t.dut
    queue = FifoProbe(t, "dut.responses", OUTSTANDING, axi.ADDR_BITS + 1)
    t.invariant("accepted", queue.level == pins.accepted + dut.aw.valid)
    t.invariant("written", queue.level == pins.written + pins.announced.count)
    t.invariant("addresses", queue.level == pins.addresses.count)
    for n, row in enumerate(queue.rows):
        same = row[:-1] == pins.addresses.values[n]
        t.invariant(f"address{n}", implies(queue.holds(n), same))
    answer = dut.b.valid & dut.b.ready
    okay = dut.b.p.resp == axi.OKAY
    t.expect("error", dut.error == (answer & ~okay))
    t.expect("error_addr", implies(dut.error, dut.error_addr == pins.addresses.values[0]))
    t.expect("done", implies(dut.done, answer & okay))
    t.reach("error_of_the_second", dut.error & (pins.addresses.count == 1))


def _describe_write_window(t: Monitor) -> None:
    dut = t.dut
    t.hold("regions", dut.regions)
    suppose_stream(t, "request", dut.request, unless=dut.stop)
    probe = SplitterProbe(t, "dut.splitter", dut.request, dut.request.p.region, write=True)
    taken = t.probe("dut.splitter.o__valid") & t.probe("dut.splitter.o__ready")
    _expect_window(t, "aw", dut.aw, taken, probe.index, Value.cast(probe.region), "write")


def _control(breaks: str, module: str, old: str, new: str) -> Control:
    return Control(breaks, (Edit(module, old, new),))


CASES = (
    Case(
        name="axi-read",
        design=lambda: dma.ReadMaster(data_bits=8 * BEAT_BYTES, outstanding=OUTSTANDING),
        describe=_describe_reads,
        depth=1,
        cover_depth=12,
        edits=SHORT_BURSTS,
        controls=(
            _control("outstanding_reads", "dma", "in_flight != self", "in_flight != 1 + self"),
            _control(
                "ar_valid_stays", "dma", "with m.If(ar_free):", "with m.If(ar_free | self.stop):"
            ),
            _control(
                "ar_within_4_kib",
                "burst",
                "room.eq(~s2.addr[lane_bits : lane_bits + exact_log2(BURST_BEATS)])",
                "room.eq(BURST_BEATS - 1)",
            ),
            _control(
                "*_data_is_*",
                "dma",
                "beat_for_load.eq(queue.r_data[-1])",
                "beat_for_load.eq(for_load)",
            ),
        ),
    ),
    Case(
        name="window-read",
        design=lambda: dma.ReadMaster(data_bits=8 * BEAT_BYTES, outstanding=OUTSTANDING),
        describe=_describe_read_window,
        depth=1,
        cover_depth=7,
        edits=(*NARROW, *SHORT_BURSTS),
        controls=(
            _control("ar_in_window", "burst", "run.size >= region.size", "run.size > region.size"),
            _control("ar_in_window", "burst", "region.base[:lane_bits] != 0", "0"),
            _control("ar_permitted", "burst", "else region.read", "else region.write"),
        ),
    ),
    Case(
        name="axi-write",
        design=lambda: dma.WriteMaster(data_bits=8 * BEAT_BYTES, outstanding=OUTSTANDING),
        describe=_describe_writes,
        depth=1,
        cover_depth=12,
        edits=SHORT_BURSTS,
        fast=True,
        controls=(
            _control("w_last", "dma", "last = count == queue.r_data", "last = count == 0"),
            _control("w_after_aw", "dma", "send.eq(queue.r_rdy & free &", "send.eq(free &"),
            _control(
                "b_is_taken",
                "dma",
                "self.b.ready.eq(queue.r_rdy)",
                "self.b.ready.eq(queue.r_rdy & ~self.stop)",
            ),
            _control(
                "stop_ends_without_strobes",
                "dma",
                "Mux(self.stop, 0, self.data.p.strb)",
                "self.data.p.strb",
            ),
            _control("*write*", "dma", "room.eq(queue.w_rdy)", "room.eq(1)"),
        ),
    ),
    Case(
        name="window-write",
        design=lambda: dma.WriteMaster(data_bits=8 * BEAT_BYTES, outstanding=OUTSTANDING),
        describe=_describe_write_window,
        depth=1,
        cover_depth=7,
        edits=(*NARROW, *SHORT_BURSTS),
        controls=(
            _control("aw_in_window", "burst", "run.size >= region.size", "run.size > region.size"),
            _control("aw_permitted", "burst", "= region.write if", "= region.read if"),
        ),
    ),
)
