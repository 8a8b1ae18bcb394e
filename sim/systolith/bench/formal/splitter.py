"""Inside of the bus masters: which region each burst stands for, and that it stays there."""

from typing import Any

from amaranth.hdl import Cat, Mux, Signal, Value
from amaranth.lib import data
from amaranth.utils import exact_log2

from systolith.arch import isa
from systolith.gateware import burst

from .axi import in_window
from .edit import Edit
from .monitor import Monitor, implies

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
        "read_master",
        '{"offset": 32, "bytes": 12}',
        f'{{"offset": {SIZE_BITS}, "bytes": {RUN_BITS}}}',
    ),
)
"""Addresses of 16 bits, regions of 1 KiB, runs of 256 bytes: all relations between widths are kept."""


def region_table(t: Monitor, *lookups: Any) -> Any:
    """Return a region table of any content, which never changes and answers the readers given."""
    regions = t.constant("regions", data.ArrayLayout(burst.REGION, isa.REGION_COUNT))
    for number, lookup in enumerate(lookups):
        same = Value.cast(lookup.region) == Value.cast(regions[lookup.index])
        t.suppose(f"lookup{number}", same)
    return regions


def reader_table(t: Monitor) -> Any:
    """Return the region table of a read master."""
    regions = region_table(t, t.dut.load_region)
    t.suppose("fetch_region", Value.cast(t.dut.fetch_region) == Value.cast(regions[0]))
    return regions


class SplitterProbe:
    """Inside of a `BurstSplitter`, and the region that each of its stages stands for.

    Parameters
    ----------
    t : Monitor
        Monitor of the master.
    path : str
        The splitter inside the design.
    request : stream or None
        Its input on the master's pins; none if all its requests are of one region.
    index : Value
        Region of the request.
    regions : View
        The table, see :func:`region_table`.
    write : bool
        Permission that it asks for.

    Attributes
    ----------
    region : View
        Region of the burst that it offers.
    """

    def __init__(
        self,
        t: Monitor,
        path: str,
        request: Any,
        index: Value | int,
        *,
        regions: Any,
        write: bool,
    ) -> None:
        name = path.rpartition(".")[2]
        lane_bits, beat_bits = exact_log2(BEAT_BYTES), exact_log2(BEATS)
        s1_valid, s1_ready = t.probe(f"{path}.s1_valid"), t.probe(f"{path}.s1_ready")
        s2_valid, frozen = t.probe(f"{path}.s2_valid"), t.probe(f"{path}.frozen")
        s1_region = t.probe(f"{path}.s1_region", burst.REGION)
        s2 = t.probe(f"{path}.s2", burst.burst_layout(BEAT_BYTES))
        more_bits = burst.RUN["size"].width + 1 - lane_bits - beat_bits
        more, last = t.probe(f"{path}.s2_more", more_bits), t.probe(f"{path}.s2_end", beat_bits)
        final, full = t.probe(f"{path}.s2_final"), t.probe(f"{path}.leave.full")
        held = t.probe(f"{path}.leave.held", burst.burst_layout(BEAT_BYTES))
        index_shape = range(isa.REGION_COUNT)
        s1_index = Signal(index_shape, name=f"{name}_s1_index", reset_less=True)
        s2_index = Signal(index_shape, name=f"{name}_s2_index", reset_less=True)
        s2_region = Signal(burst.REGION, name=f"{name}_s2_region", reset_less=True)
        held_index = Signal(index_shape, name=f"{name}_held_index", reset_less=True)
        held_region = Signal(burst.REGION, name=f"{name}_held_region", reset_less=True)
        if request is None:
            t.m.d.comb += s1_index.eq(index)
        else:
            with t.m.If(request.valid & request.ready):
                t.m.d.sync += s1_index.eq(index)
        with t.m.If(s1_ready):
            t.m.d.sync += [s2_index.eq(s1_index), s2_region.eq(s1_region)]
        with t.m.If(~full):
            t.m.d.sync += [held_index.eq(s2_index), held_region.eq(s2_region)]
        self.index = Mux(full, held_index, s2_index)
        self.region = data.View(
            burst.REGION, Mux(full, Value.cast(held_region), Value.cast(s2_region))
        )
        is_named(t, f"{name}_s1_region", s1_valid, s1_region, regions, s1_index)
        is_named(t, f"{name}_s2_region", s2_valid, s2_region, regions, s2_index)
        is_named(t, f"{name}_held_region", full, held_region, regions, held_index)
        first = s2.addr[lane_bits : lane_bits + beat_bits]
        extra = (((more << beat_bits) + last - first) << lane_bits) + s2.hi - s2.lo
        running = s2_valid & ~frozen & (s2.code == 0)
        t.invariant(f"{name}_final", implies(running, final == (more == 0)))
        permission = "write" if write else "read"
        self._stays_inside(t, f"{name}_s2", running, s2_region, s2, extra, permission)
        extra = (held.len << lane_bits) + held.hi - held.lo
        waiting = full & (held.code == 0)
        t.invariant(f"{name}_held_begins", implies(waiting, held.addr[:lane_bits] == 0))
        self._stays_inside(t, f"{name}_held", waiting, held_region, held, extra, permission)

    @staticmethod
    def _stays_inside(
        t: Monitor, name: str, valid: Value, region: Any, run: Any, extra: Value, permission: str
    ) -> None:
        """Require that what begins at a burst, and has `extra` more bytes, is in its region."""
        lane_bits = exact_log2(BEAT_BYTES)
        aligned = region.base[:lane_bits] == 0
        t.invariant(f"{name}_permitted", implies(valid, region[permission] & aligned))
        t.invariant(f"{name}_extra", implies(valid, extra >= 0))
        inside = in_window(region, Cat(run.lo, run.addr[lane_bits:]), extra)
        t.invariant(f"{name}_inside", implies(valid, inside))


def expect_lengths(t: Monitor, path: str, beat_bytes: int, beats: int) -> None:
    """Require that no burst inside a splitter ends behind the block that it begins in."""
    name = path.rpartition(".")[2]
    lane_bits, beat_bits = exact_log2(beat_bytes), exact_log2(beats)
    layout = burst.burst_layout(beat_bytes)
    s2, held = t.probe(f"{path}.s2", layout), t.probe(f"{path}.leave.held", layout)
    last = t.probe(f"{path}.s2_end", beat_bits)
    ends = t.probe(f"{path}.s2_valid") & t.probe(f"{path}.s2_final") & (s2.code == 0)
    first = s2.addr[lane_bits : lane_bits + beat_bits]
    t.invariant(f"{name}_s2_block", implies(ends, last >= first))
    full = t.probe(f"{path}.leave.full") & (held.code == 0)
    first = held.addr[lane_bits : lane_bits + beat_bits]
    begins = held.addr[:lane_bits] == 0
    t.invariant(f"{name}_held_block", implies(full, begins & (first + held.len < beats)))


def expect_last_beat(t: Monitor, path: str) -> None:
    """Require that the expander knows which beat is the last one of its burst."""
    rest = t.probe(f"{path}.rest", burst.burst_layout(BEAT_BYTES))
    last = t.probe(f"{path}.burst_last") == (rest.len == 0)
    t.invariant("burst_last", implies(t.probe(f"{path}.active"), last))


def is_named(t: Monitor, name: str, valid: Value, copy: Any, regions: Any, index: Value) -> None:
    """Require that a copy is the region of that index."""
    same = Value.cast(copy) == Value.cast(regions[index])
    t.invariant(name, implies(valid, same))


def expect_window(
    t: Monitor,
    name: str,
    port: Any,
    issue: Value,
    probed: tuple[Value, Value],
    regions: Any,
    permission: str,
) -> None:
    """Require that the burst on a channel lies in the region that it was issued for.

    `probed` are index and copy of the region of the burst that is issued.
    """
    index, region = probed
    ours = Signal(range(isa.REGION_COUNT), name=f"{name}_index", reset_less=True)
    copy = Signal(burst.REGION, name=f"{name}_region", reset_less=True)
    with t.m.If(issue):
        t.m.d.sync += [ours.eq(index), copy.eq(region)]
    is_named(t, f"{name}_region", port.valid, copy, regions, ours)
    extra = port.p.len << exact_log2(BEAT_BYTES)
    # Beats are whole: the last one begins in the window, whose begin is that of a beat.
    t.expect(f"{name}_in_window", implies(port.valid, in_window(copy, port.p.addr, extra)))
    t.expect(f"{name}_permitted", implies(port.valid, copy[permission]))
    end = (port.p.addr - copy.base)[: len(copy.base)] + extra + BEAT_BYTES
    t.reach(f"{name}_ends_with_window", port.valid & (end == copy.size) & (port.p.len != 0))
