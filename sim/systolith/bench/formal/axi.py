"""Rules of AXI4 on the pins of a master (Arm IHI 0022), and what a legal slave may answer."""

from typing import Any

from amaranth.hdl import Signal, Value
from amaranth.utils import exact_log2

from systolith.gateware import axi

from .ghost import Ghost
from .monitor import Monitor, implies
from .stream import expect_stream, suppose_stream

LEN_BITS = 8
"""Width of AxLEN."""


def expect_address(t: Monitor, name: str, port: Any, *, beat_bytes: int, beats: int) -> None:
    """Require a legal burst on AR or AW: ours are incrementing, full width, aligned, one ID."""
    p = port.p
    bytes_after = (p.len + 1) << exact_log2(beat_bytes)
    rules = {
        "size": p.size == exact_log2(beat_bytes),
        "burst": p.burst == axi.INCR,
        "cache": p.cache == axi.CACHE,
        "prot": p.prot == axi.PROT,
        "length": p.len < beats,
        "aligned": p.addr[: exact_log2(beat_bytes)] == 0,
        "within_4_kib": (p.addr % axi.BOUNDARY_BYTES) + bytes_after <= axi.BOUNDARY_BYTES,
    }
    expect_stream(t, name, port)
    for rule, holds in rules.items():
        t.expect(f"{name}_{rule}", implies(port.valid, holds))
    t.expect(f"{name}_id", p.id == 0)
    t.reach(f"{name}_longest", port.valid & (p.len == beats - 1))
    t.reach(f"{name}_ends_at_4_kib", port.valid & ((p.addr + bytes_after)[:12] == 0))


class ReadPins:
    """AR and R of a master: the rules, and a slave that answers in order.

    Parameters
    ----------
    t : Monitor
        Monitor of the master.
    beat_bytes, beats, outstanding : int
        Bytes of a beat, beats of the longest burst, bursts in flight.

    Attributes
    ----------
    accepted : Ghost
        Lengths (minus one) of the bursts that the slave has taken and not finished.
    done : Signal
        Beats of the oldest one that were transferred.
    """

    def __init__(self, t: Monitor, *, beat_bytes: int, beats: int, outstanding: int) -> None:
        ar, r = t.dut.ar, t.dut.r
        expect_address(t, "ar", ar, beat_bytes=beat_bytes, beats=beats)
        suppose_stream(t, "r", r)
        taken = Signal(name="ar_was_taken")
        length = Signal(LEN_BITS, name="ar_was_taken_len", reset_less=True)
        # The slave answers in the cycle after AR at the earliest.
        t.m.d.sync += [taken.eq(ar.valid & ar.ready), length.eq(ar.p.len)]
        beat = r.valid & r.ready
        self.accepted = Ghost(
            t,
            "read",
            outstanding,
            LEN_BITS,
            push=taken,
            value=length,
            pop=beat & r.p.last,
        )
        self.done = Signal(LEN_BITS, name="read_done")
        self.remaining = self.accepted.values[0] - self.done
        with t.m.If(beat):
            t.m.d.sync += self.done.eq(self.done + 1)
            with t.m.If(r.p.last):
                t.m.d.sync += self.done.eq(0)
        t.suppose("r_was_asked_for", implies(r.valid, self.accepted.count != 0))
        t.suppose("r_last", implies(r.valid, r.p.last == (self.remaining == 0)))
        t.expect("outstanding_reads", self.accepted.count + ar.valid <= outstanding)
        t.reach("all_reads_in_flight", self.accepted.count + ar.valid == outstanding)
        t.reach("r_ends_a_burst_of_two", beat & r.p.last & (self.done == 1))


class WritePins:
    """AW, W and B of a master: the rules, and a slave that answers in order.

    Parameters
    ----------
    t : Monitor
        Monitor of the master.
    beat_bytes, beats, outstanding : int
        Bytes of a beat, beats of the longest burst, bursts in flight.

    Attributes
    ----------
    shown : Value
        A new burst is on AW for the first cycle.
    announced : Ghost
        Lengths (minus one) of the bursts that AW has shown and W has not finished.
    done : Signal
        Beats of the oldest one that were transferred.
    addresses : Ghost
        Addresses of the bursts that were shown and not answered.
    accepted, written : Signal
        Bursts taken from AW, and finished on W, without those answered.
    """

    def __init__(self, t: Monitor, *, beat_bytes: int, beats: int, outstanding: int) -> None:
        aw, w, b = t.dut.aw, t.dut.w, t.dut.b
        expect_address(t, "aw", aw, beat_bytes=beat_bytes, beats=beats)
        expect_stream(t, "w", w)
        suppose_stream(t, "b", b)
        old = Signal(name="aw_is_old")
        t.m.d.sync += old.eq(aw.valid & ~aw.ready)
        self.shown = aw.valid & ~old
        beat, answer = w.valid & w.ready, b.valid & b.ready
        self.announced = Ghost(
            t,
            "write",
            outstanding,
            LEN_BITS,
            push=self.shown,
            value=aw.p.len,
            pop=beat & w.p.last,
        )
        self.addresses = Ghost(
            t,
            "write_addr",
            outstanding,
            axi.ADDR_BITS,
            push=self.shown,
            value=aw.p.addr,
            pop=answer,
        )
        self.done = Signal(LEN_BITS, name="write_done")
        with t.m.If(beat):
            t.m.d.sync += self.done.eq(self.done + 1)
            with t.m.If(w.p.last):
                t.m.d.sync += self.done.eq(0)
        self._count_answers(t, aw, w, b, outstanding)
        t.expect("w_after_aw", implies(w.valid, self.announced.count != 0))
        last = self.done == self.announced.values[0]
        t.expect("w_last", implies(w.valid, w.p.last == last))
        t.reach("w_ends_a_burst_of_two", beat & w.p.last & (self.done == 1))
        t.reach("w_before_aw_is_taken", beat & aw.valid & old & (self.announced.count == 1))

    def _count_answers(self, t: Monitor, aw: Any, w: Any, b: Any, outstanding: int) -> None:
        """Count what a slave may answer: bursts of which it has both address and data."""
        counts = range(outstanding + 2)
        self.accepted = Signal(counts, name="writes_accepted")
        self.written = Signal(counts, name="writes_written")
        answer = b.valid & b.ready
        finished = w.valid & w.ready & w.p.last
        t.m.d.sync += [
            self.accepted.eq(self.accepted + (aw.valid & aw.ready) - answer),
            self.written.eq(self.written + finished - answer),
        ]
        complete = (self.accepted != 0) & (self.written != 0)
        t.suppose("b_was_earned", implies(b.valid, complete))
        t.expect("b_is_taken", implies(b.valid, b.ready))
        t.expect("outstanding_writes", self.accepted + aw.valid <= outstanding)
        t.reach("all_writes_in_flight", self.accepted + aw.valid == outstanding)
        t.reach("b_answers", answer)


def in_window(region: Any, addr: Value, extra: Value | int = 0) -> Value:
    """Return whether the bytes from `addr` to `addr + extra` lie in a region.

    Addresses wrap, as the end of a region does.
    """
    offset = (addr - region.base)[: len(region.base)]
    return offset + extra < region.size
