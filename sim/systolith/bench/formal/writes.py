"""Environment and properties of the write master."""

from amaranth.hdl import Cat, Mux, Signal, Value
from amaranth.utils import exact_log2

from systolith.gateware import axi, burst

from .axi import WritePins, in_window
from .fifo import FifoProbe
from .monitor import Monitor, implies
from .splitter import (
    BEAT_BYTES,
    BEATS,
    OUTSTANDING,
    SplitterProbe,
    expect_last_beat,
    expect_lengths,
    expect_window,
    region_table,
)
from .stream import suppose_stream


def describe_writes(t: Monitor) -> None:
    """The rules of AW, W and B, and legal ends after `stop`."""
    dut = t.dut
    region_table(t, dut.region)
    suppose_stream(t, "request", dut.request, unless=dut.stop)
    suppose_stream(t, "data", dut.data, unless=dut.stop)
    pins = WritePins(t, beat_bytes=BEAT_BYTES, beats=BEATS, outstanding=OUTSTANDING)
    expect_lengths(t, "dut.splitter", BEAT_BYTES, BEATS)
    expect_last_beat(t, "dut.expander")
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


def describe_write_window(t: Monitor) -> None:
    """No burst on AW and no lane of its beats leaves its region, which must be writable."""
    dut = t.dut
    regions = region_table(t, dut.region)
    suppose_stream(t, "request", dut.request, unless=dut.stop)
    expect_lengths(t, "dut.splitter", BEAT_BYTES, BEATS)
    probe = SplitterProbe(
        t, "dut.splitter", dut.request, dut.request.p.region, regions=regions, write=True
    )
    taken = t.probe("dut.splitter.o__valid") & t.probe("dut.splitter.o__ready")
    probed = probe.index, Value.cast(probe.region)
    expect_window(t, "aw", dut.aw, taken, probed, regions, "write")
    _expect_lanes(t, Value.cast(probe.region))


def _expect_lanes(t: Monitor, region: Value) -> None:
    """Require that the bytes which the client is told to write lie in the window, each of them."""
    beats = t.dut.beats
    expect_last_beat(t, "dut.expander")
    rest = t.probe("dut.expander.rest", burst.burst_layout(BEAT_BYTES))
    copy = Signal(burst.REGION, name="beats_region", reset_less=True)
    with t.m.If(t.probe("dut.expander.i__valid") & t.probe("dut.expander.i__ready")):
        t.m.d.sync += copy.eq(region)
    lane_bits = exact_log2(BEAT_BYTES)
    begin = Cat(rest.lo, rest.addr[lane_bits:])
    extra = (rest.len << lane_bits) + rest.hi - rest.lo
    good = beats.valid & (rest.code == 0)
    t.invariant("rest_extra", implies(good, extra >= 0))
    t.invariant("rest_inside", implies(good, in_window(copy, begin, extra)))
    t.invariant("rest_permitted", implies(good, copy.write))
    whole = (rest.len + 1) << lane_bits
    below = (rest.addr % axi.BOUNDARY_BYTES) - rest.addr[:lane_bits] + whole <= axi.BOUNDARY_BYTES
    t.invariant("rest_within_4_kib", implies(good, below))
    first = Cat(beats.p.lo, beats.p.addr[lane_bits:])
    good = beats.valid & (beats.p.code == 0)
    inside = in_window(copy, first, (beats.p.hi - beats.p.lo).as_unsigned())
    t.expect("lanes_in_window", implies(good, inside & (beats.p.lo <= beats.p.hi)))
    t.expect("lanes_permitted", implies(good, copy.write))
    t.reach("lanes_end_within_a_beat", good & beats.p.last & (beats.p.hi != BEAT_BYTES - 1))
