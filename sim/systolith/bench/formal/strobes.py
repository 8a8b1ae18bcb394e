"""Proof that STORE writes no byte that it was not told to write."""

from dataclasses import replace

from amaranth.hdl import Cat, Signal, Value
from amaranth.lib import data

from systolith.arch.presets import PRESETS
from systolith.gateware import move, store

from .case import Case, Control
from .edit import Edit
from .fifo import FlowFifoProbe
from .ghost import Ghost
from .monitor import Monitor, implies
from .stream import suppose_stream
from .surroundings import LATENCY, StoreProbe

CONFIG = replace(PRESETS["tiny-4x4"], name="tiny-32-bit", axi_data_bits=32)
QUEUE_DEPTH = 4
"""Of commands, in the engine."""

BEATS_UNDER_WAY = 12
"""More than fit between the bus's demand and its data."""


def _lanes(lo: Value, hi: Value) -> Value:
    return Cat(*((lo <= lane) & (hi >= lane) for lane in range(CONFIG.axi_bytes)))


def _describe(t: Monitor) -> None:
    """Windows come in time, as in the proof of the handshakes; `stop` may come at any time."""
    dut = t.dut
    inside = StoreProbe(t)
    off = inside.off
    for name in ("command", "beats"):
        suppose_stream(t, name, getattr(dut, name), unless=off)
    beat = dut.beats.p
    t.suppose("lanes_in_order", implies(dut.beats.valid, beat.lo <= beat.hi))
    told = Signal(name="told")
    told_lanes = Signal(CONFIG.axi_bytes, name="told_lanes", reset_less=True)
    lanes = _lanes(beat.lo, beat.hi)
    t.m.d.sync += [told.eq(dut.beats.valid & dut.beats.ready), told_lanes.eq(lanes)]
    out = dut.bus_data
    pop = out.valid & out.ready & ~off
    shape = CONFIG.axi_bytes
    queue = Ghost(t, "beats", BEATS_UNDER_WAY, shape, push=told & ~off, value=told_lanes, pop=pop)
    t.expect("data_was_asked_for", off | implies(out.valid, queue.count != 0))
    stray = out.p.strb & ~queue.values[0]
    t.expect("strobes_within_lanes", off | implies(out.valid, stray == 0))
    t.reach("two_beats", out.valid & out.ready & (queue.count == 2))
    whole = out.valid & (out.p.strb == queue.values[0]) & ~out.p.strb.all()
    t.reach("part_of_a_beat", whole)
    _follow_pieces(t, inside, queue)


def _follow_pieces(t: Monitor, inside: StoreProbe, queue: Ghost) -> None:
    """Relate each piece under way, oldest first, to the beat that it is a piece of."""
    off, size = inside.off, CONFIG.axi_bytes
    lane = range(size)
    piece_layout = move.piece_layout(size, 0)
    cut_layout = data.StructLayout(
        {"piece": piece_layout, "lo": lane, "hi": lane, "span": lane, "inside": 1, "final": 1}
    )
    leave = FlowFifoProbe(t, "dut.segments.leave", 2, piece_layout.size)
    s2_valid = t.probe("dut.segments.s2_valid")
    s2 = t.probe("dut.segments.s2_piece", cut_layout)

    def within(mask: Value, index: Value | int) -> Value:
        known = [implies(index == n, mask & ~value == 0) for n, value in enumerate(queue.values)]
        return Cat(*known, queue.count > index).all()

    for n, row in enumerate(inside.beats.rows):
        t.invariant(f"beat{n}", off | implies(inside.beats.holds(n), within(row[-size:], n)))
    index: Value = inside.beats.level
    held = t.probe("dut.held_mask", size)
    t.invariant("held", off | implies(held != 0, within(held, index)))
    for n, row in enumerate(inside.masks.rows):
        used = inside.masks.holds(n)
        t.invariant(f"mask{n}", off | implies(used, within(row[:-1], index)))
        index = index + (used & row[-1])
    for n, (used, raw) in enumerate(leave.occupied()):
        piece = data.View(piece_layout, raw)
        t.invariant(f"left{n}", off | implies(used, within(piece.mask, index)))
        index = index + (used & piece.beat_last)
    t.invariant("s2", off | implies(s2_valid, within(_lanes(s2.lo, s2.hi), index)))
    index = index + (s2_valid & s2.piece.beat_last)
    beat_layout = move.lanes_layout(size, 0)
    held, full = t.probe("dut.segments.held"), t.probe("dut.entry.full")
    at_hand = t.probe("dut.segments.beat", beat_layout)
    behind = t.probe("dut.entry.held", beat_layout)
    for name, used, beat in (("at_hand", held, at_hand), ("behind", full, behind)):
        known = within(_lanes(beat.lo, beat.hi), index) & (beat.lo <= beat.hi)
        t.invariant(name, off | implies(used, known))
        index = index + used
    t.invariant("told", off | (queue.count == index))
    count = t.probe("dut.segments.count", lane)
    exact = count == (at_hand.hi - at_hand.lo)[: len(count)]
    t.invariant("count", off | implies(held, exact))
    _expect_no_codes(t, off)


def _expect_no_codes(t: Monitor, off: Value) -> None:
    """Show that STORE's own commands carry no fault."""
    active = t.probe("dut.segments.active")
    walk = t.probe("dut.segments.walk", move.SEGMENTS)
    failed = t.probe("dut.segments.failed")
    t.invariant("walk", off | implies(active, (walk.code == 0) & ~failed))
    queue = FlowFifoProbe(t, "dut.queue", QUEUE_DEPTH, move.SEGMENTS.size)
    for n, (used, row) in enumerate(queue.occupied()):
        no_code = data.View(move.SEGMENTS, row).code == 0
        t.invariant(f"command{n}", off | implies(used, no_code))


CASES = (
    Case(
        name="store-strobes",
        design=lambda: store.StoreEngine(CONFIG, LATENCY),
        describe=_describe,
        depth=1,
        cover_depth=12,
        controls=(
            Control(
                "strobes_within_lanes",
                (
                    Edit(
                        "store",
                        "held_mask.eq(Mux(beat_last, 0, merged_mask))",
                        "held_mask.eq(merged_mask)",
                    ),
                ),
            ),
            Control(
                "strobes_within_lanes",
                (Edit("move", "(lane >= s2_piece.lo) &", ""),),
            ),
        ),
    ),
)
