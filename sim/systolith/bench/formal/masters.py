"""Proofs of the bus masters: the rules of AXI4, and that no burst leaves its region."""

from systolith.gateware import read_master, write_master

from .axi import expect_address
from .case import Case, Control
from .edit import Edit
from .monitor import Monitor
from .reads import describe_read_window, describe_reads
from .splitter import BEAT_BYTES, NARROW, OUTSTANDING, SHORT_BURSTS, expect_lengths
from .writes import describe_write_window, describe_writes

FULL_BEATS = 16
"""Beats of our longest bursts."""

WIDEST_BYTES = 128
"""The widest beats that AxSIZE can name."""

WIDE_BYTES = 16
"""Narrower, because counting the strobes of the widest beats makes a large model of a small thing."""


def _describe_full_read(t: Monitor) -> None:
    for splitter in ("fetch", "load"):
        expect_lengths(t, f"dut.{splitter}", WIDEST_BYTES, FULL_BEATS)
    expect_address(t, "ar", t.dut.ar, beat_bytes=WIDEST_BYTES, beats=FULL_BEATS)


def _describe_full_write(t: Monitor) -> None:
    expect_lengths(t, "dut.splitter", WIDE_BYTES, FULL_BEATS)
    expect_address(t, "aw", t.dut.aw, beat_bytes=WIDE_BYTES, beats=FULL_BEATS)


LONGER_BURSTS = (
    "burst",
    "last_beat - first_beat",
    "last_beat",
)
"""Bursts that do not end at multiples of their longest size."""


def _control(breaks: str, module: str, old: str, new: str) -> Control:
    return Control(breaks, (Edit(module, old, new),))


CASES = (
    Case(
        name="axi-read",
        design=lambda: read_master.ReadMaster(data_bits=8 * BEAT_BYTES, outstanding=OUTSTANDING),
        describe=describe_reads,
        depth=1,
        cover_depth=12,
        edits=SHORT_BURSTS,
        controls=(
            _control(
                "outstanding_reads",
                "read_master",
                "in_flight != self.out",
                "in_flight != 1 + self.out",
            ),
            _control(
                "ar_valid_stays",
                "read_master",
                "with m.If(ar_free):",
                "with m.If(ar_free | self.stop):",
            ),
            _control("ar_within_4_kib", *LONGER_BURSTS),
            _control(
                "*_data_is_*",
                "read_master",
                "beat_for_load.eq(queue.o.p.for_load)",
                "beat_for_load.eq(for_load)",
            ),
        ),
    ),
    Case(
        name="window-read",
        design=lambda: read_master.ReadMaster(data_bits=8 * BEAT_BYTES, outstanding=OUTSTANDING),
        describe=describe_read_window,
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
        design=lambda: write_master.WriteMaster(data_bits=8 * BEAT_BYTES, outstanding=OUTSTANDING),
        describe=describe_writes,
        depth=1,
        cover_depth=12,
        edits=SHORT_BURSTS,
        fast=True,
        controls=(
            _control("w_last", "write_master", "last = count == queue.r_data", "last = count == 0"),
            _control(
                "w_after_aw", "write_master", "send.eq(queue.r_rdy & free &", "send.eq(free &"
            ),
            _control(
                "b_is_taken",
                "write_master",
                "self.b.ready.eq(queue.r_rdy)",
                "self.b.ready.eq(queue.r_rdy & ~self.stop)",
            ),
            _control(
                "stop_ends_without_strobes",
                "write_master",
                "Mux(self.stop, 0, self.data.p.strb)",
                "self.data.p.strb",
            ),
            _control("*write*", "write_master", "room.eq(queue.w_rdy)", "room.eq(1)"),
        ),
    ),
    Case(
        name="window-write",
        design=lambda: write_master.WriteMaster(data_bits=8 * BEAT_BYTES, outstanding=OUTSTANDING),
        describe=describe_write_window,
        depth=1,
        cover_depth=7,
        edits=(*NARROW, *SHORT_BURSTS),
        controls=(
            _control("*_in_window", "burst", "run.size >= region.size", "run.size > region.size"),
            _control(
                "lanes_in_window",
                "burst",
                "leave.i.p.hi.eq(Mux(s2_final, s2.hi,",
                "leave.i.p.hi.eq(Mux(0, s2.hi,",
            ),
            _control("aw_permitted", "burst", "= region.write if", "= region.read if"),
        ),
    ),
    Case(
        name="axi-read-16-beats",
        design=lambda: read_master.ReadMaster(data_bits=8 * WIDEST_BYTES, outstanding=OUTSTANDING),
        describe=_describe_full_read,
        depth=1,
        cover_depth=6,
        controls=(_control("ar_within_4_kib", *LONGER_BURSTS),),
    ),
    Case(
        name="axi-write-16-beats",
        design=lambda: write_master.WriteMaster(data_bits=8 * WIDE_BYTES, outstanding=OUTSTANDING),
        describe=_describe_full_write,
        depth=1,
        cover_depth=6,
        controls=(_control("aw_within_4_kib", *LONGER_BURSTS),),
    ),
)
