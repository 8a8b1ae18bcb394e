"""Vector streamer: walks over the vectors of the tile steps, one per cycle."""

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from systolith.arch import isa
from systolith.arch.isa import Engine

from .queue import PROGRESS
from .slices import complement_of
from .steps import (
    ADDR,
    ADDR_LIMIT_LOG2,
    LINE,
    LINE_LIMIT_LOG2,
    STEP,
    WALK,
    X_LIMIT_LOG2,
    X,
    held_sum,
)

CHECKED = (Engine.EXECUTE, Engine.DRAIN, Engine.STORE)
"""Engines whose targets are checked here; LOAD's is checked before the command is offered."""

_ROW_FIELD_BITS = 11

_SECOND_LAST = 2
"""What is left of a tail in the cycle before its last."""


def vector_layout(acc_rows):
    """Return what the streamer says of a vector; `acc_rows` is the rows of both banks."""
    return data.StructLayout(
        {
            "first": 1,  # of its step
            "switch": 1,  # to a new tile
            "keep": 1,  # its sum is kept: acc and op count
            "done": 1,  # last of its instruction
            "op": 2,
            # Wide enough for a whole pass that begins in range to be found out of range.
            "acc": max(_ROW_FIELD_BITS, ceil_log2(acc_rows)) + 1,
            "x": X,
            "line": LINE,
            "addr": ADDR,
            "walk": WALK,
        }
    )


class VectorStreamer(wiring.Component):
    """Issues the vectors of the tile steps in order.

    A step begins when everything that it waits for is there; once begun, its vectors are issued
    in consecutive cycles, which depthwise sums rely on. `turnaround` is kept between the
    first vectors of two steps, and between two operations on one row of the accumulators.

    Timing: 1 vector per cycle; a step begins in the cycle after the last vector of the step
    before, or later; a wait ends 2 cycles after `progress` shows the target.

    Parameters
    ----------
    acc_rows : int
        Accumulator rows, both banks.
    turnaround : int
        Cycles after which an accumulator row may be modified again.

    Members
    -------
    steps : ``In(stream of STEP)``
        Steps.
    progress : ``In(PROGRESS)``
        Instructions completed by each engine.
    tile_ready, tile_soon, tile_bad : ``In(1)``
        The next tile may be switched to in the next cycle, in the one after it; it is a faulty one.
    stop : ``In(1)``
        Level: issue nothing.
    valid : ``Out(1)``
        A vector is issued in this cycle.
    vector : ``Out(vector_layout(acc_rows))``
        The vector.
    tile_fault : ``Out(1)``
        A step needs the faulty tile; `tile_fault_index` is its instruction.
    setup_done : ``Out(1)``
        Pulse: everything before a setup instruction has been issued.
    busy : ``Out(1)``
        A step is under way or waits.
    wait_drain, wait_store, wait_weights, idle_command : ``Out(1)``
        Why no vector is issued, at most one at a time.
    """

    def __init__(self, *, acc_rows, turnaround):
        self._acc_rows, self._turnaround = acc_rows, turnaround
        super().__init__(
            {
                "steps": In(stream.Signature(STEP)),
                "progress": In(PROGRESS),
                "tile_ready": In(1),
                "tile_soon": In(1),
                "tile_bad": In(1),
                "stop": In(1),
                "valid": Out(1),
                "vector": Out(vector_layout(acc_rows)),
                "tile_fault": Out(1),
                "tile_fault_index": Out(isa.COUNTER_BITS),
                "setup_done": Out(1),
                "busy": Out(1),
                "wait_drain": Out(1),
                "wait_store": Out(1),
                "wait_weights": Out(1),
                "idle_command": Out(1),
            }
        )

    @property
    def acc_rows(self):
        return self._acc_rows

    @property
    def turnaround(self):
        return self._turnaround

    def elaborate(self, platform):
        m = Module()
        head = self.steps.p
        current = Signal(STEP, reset_less=True)
        active, fresh, take, pop_setup, owed, ready = (
            Signal(name=name) for name in ("active", "fresh", "take", "pop_setup", "owed", "ready")
        )
        ends = Signal(reset_less=True)

        reaching, reached = self._elaborate_waits(m)
        final = self.valid & ends
        free = self._elaborate_turnaround(m, fresh, active & ~ends)
        # Everything but the end of the step before is known a cycle ahead.
        m.d.sync += ready.eq(
            (self.steps.valid & ~self.steps.ready & ~head.setup)
            & (reaching.all() & free & (~head.new_tile | self.tile_soon))
        )
        # What a step begins with is loaded until one does: its start, which is late, moves little.
        vacant, inactive = ~active | ends, complement_of(active)
        may_begin = ready & (inactive | ends) & ~self.stop
        m.d.comb += [
            self.valid.eq(active & ~self.stop),
            take.eq(may_begin & ~(head.new_tile & self.tile_bad)),
            self.tile_fault.eq(may_begin & head.new_tile & self.tile_bad),
            self.tile_fault_index.eq(head.walk.index),
            pop_setup.eq(self.steps.valid & head.setup & reached.all() & ~owed & ~self.stop),
            self.steps.ready.eq(take | pop_setup),
            self.busy.eq(active | self.steps.valid | owed),
        ]
        # A setup instruction takes effect on later ones at once, but is done in its turn: when
        # the pass before it, which may still be under way, has issued its last vector.
        m.d.comb += self.setup_done.eq(owed & (~active | (self.vector.done & self.valid)))
        m.d.sync += owed.eq(pop_setup | (owed & ~self.setup_done))
        with m.If(final):
            m.d.sync += [active.eq(0), inactive.eq(1)]
        with m.If(take):
            m.d.sync += [active.eq(1), inactive.eq(0), fresh.eq(1)]
        with m.Elif(self.valid):
            m.d.sync += fresh.eq(0)
        with m.If(vacant):
            m.d.sync += current.eq(head)
        self._elaborate_walk(m, current, fresh, ends, vacant)
        self._elaborate_status(m, active, reached)
        return m

    def _elaborate_waits(self, m):
        """Return the bits of the head's targets that are reached, one per checked engine.

        First as they are now, then as they were in the cycle before, if it was the same head.
        """
        seen, met = Signal(), Signal(len(CHECKED))
        reaching = Cat(
            ~self.steps.p.first | (self.progress[engine] >= self.steps.p.targets[engine])
            for engine in CHECKED
        )
        m.d.sync += [seen.eq(self.steps.valid & ~self.steps.ready), met.eq(reaching)]
        return reaching, met & seen.replicate(len(CHECKED))

    def _elaborate_turnaround(self, m, fresh, goes_on):
        """Return whether the accumulators allow the next step to begin in the next cycle.

        That is judged for a cycle without a vector or with the last one of its step, which
        `goes_on` says. Rows are consecutive within a step, so with `behind` rows between the first
        row of the next step and the last one operated on, `turnaround` cycles lie between two
        operations on one row if that last one was at least `turnaround - behind` cycles ago.
        """
        spare = self.turnaround - 1
        vector, head = self.vector, self.steps.p
        kept, last_kept = self.valid & vector.keep, Signal(reset_less=True)
        with m.If(~goes_on):
            m.d.sync += last_kept.eq((head.tail == 0) & (head.cols >= head.line_vectors))
        row = Signal(vector.acc.shape(), reset_less=True)
        age = Signal(range(spare + 1), init=spare)
        with m.If(kept):
            m.d.sync += [row.eq(vector.acc), age.eq(1)]
        with m.Elif(age != spare):
            m.d.sync += age.eq(age + 1)
        # All differences, because which of them counts is known late.
        now, before = vector.acc - head.acc, row - head.acc
        near_last = (now >= -1) & (now < spare - 1)
        near_same = (now >= 0) & (now < spare)
        near_row = (now >= 0) & (now < spare - 1)
        near_before = (before >= 0) & (before + age < spare - 1)
        hazard = Mux(
            goes_on & last_kept, Mux(kept, near_last, near_same), Mux(kept, near_row, near_before)
        )
        pause, begun = Signal(range(spare)), self.valid & fresh
        with m.If(begun):
            m.d.sync += pause.eq(spare - 1)
        with m.Elif(pause != 0):
            m.d.sync += pause.eq(pause - 1)
        apart = Mux(begun, spare == 1, pause <= 1)
        return apart & ~((head.op != isa.AccOp.WRITE) & hazard)

    def _elaborate_walk(self, m, current, fresh, ends, vacant):
        """Add the loops over the rows and columns of a step, in raster order, then the tail."""
        vector, head = self.vector, self.steps.p
        x, row_addr = Signal(X, reset_less=True), Signal(ADDR, reset_less=True)
        addr, line = Signal(ADDR, reset_less=True), Signal(LINE, reset_less=True)
        acc = Signal(vector.acc.shape(), reset_less=True)
        col, row = (Signal(_ROW_FIELD_BITS, name=n, reset_less=True) for n in ("col", "row"))
        in_tail, tail = Signal(reset_less=True), Signal.like(current.tail, reset_less=True)
        # Comparisons of the counts, made one cycle ahead: everything waits for them.
        line_end, last_row, in_cols, no_tail = (
            Signal(name=name, reset_less=True)
            for name in ("line_end", "last_row", "in_cols", "no_tail")
        )
        next_line_end = Mux(line_end, current.line_vectors == 0, col + 1 == current.line_vectors)
        next_last_row = Mux(line_end, row + 1 == current.rows, last_row)
        m.d.comb += [
            vector.first.eq(fresh),
            vector.switch.eq(fresh & current.new_tile),
            vector.keep.eq(~in_tail & in_cols),
            vector.done.eq(self.valid & ends & current.last),
            vector.op.eq(current.op),
            vector.acc.eq(acc),
            vector.x.eq(x),
            vector.line.eq(line),
            vector.addr.eq(addr),
            vector.walk.eq(current.walk),
        ]
        with m.If(self.valid):
            m.d.sync += acc.eq(acc + vector.keep)
            with m.If(in_tail):
                m.d.sync += [tail.eq(tail - 1), ends.eq(tail == _SECOND_LAST)]
            with m.Elif(line_end & last_row):
                m.d.sync += [in_tail.eq(1), tail.eq(current.tail), ends.eq(current.tail == 1)]
            with m.Else():
                m.d.sync += ends.eq(no_tail & next_line_end & next_last_row)
            m.d.sync += [line_end.eq(next_line_end), last_row.eq(next_last_row)]
            with m.If(line_end):
                next_addr = held_sum(row_addr, current.row_step, ADDR_LIMIT_LOG2)
                m.d.sync += [col.eq(0), in_cols.eq(1), row.eq(row + 1), x.eq(current.x)]
                m.d.sync += [row_addr.eq(next_addr), addr.eq(next_addr)]
                m.d.sync += line.eq(held_sum(line, current.row_lines, LINE_LIMIT_LOG2))
            with m.Else():
                m.d.sync += [
                    col.eq(col + 1),
                    in_cols.eq(in_cols & (col != current.cols)),
                    x.eq(held_sum(x, current.col_step, X_LIMIT_LOG2)),
                    addr.eq(held_sum(addr, current.col_step, ADDR_LIMIT_LOG2)),
                ]
        with m.If(vacant):
            m.d.sync += [col.eq(0), row.eq(0), in_tail.eq(0), acc.eq(head.acc)]
            one_per_line, one_line = head.line_vectors == 0, head.rows == 0
            m.d.sync += [line_end.eq(one_per_line), last_row.eq(one_line)]
            m.d.sync += ends.eq(one_per_line & one_line & (head.tail == 0))
            m.d.sync += [in_cols.eq(1), no_tail.eq(head.tail == 0)]
            m.d.sync += [x.eq(head.x), line.eq(head.line)]
            m.d.sync += [addr.eq(head.addr), row_addr.eq(head.addr)]

    def _elaborate_status(self, m, active, reached):
        """Say why there is no vector: the first reason in the order of the list counts."""
        behind = {engine: ~reached[bit] for bit, engine in enumerate(CHECKED)}
        waits = ~active & self.steps.valid & ~self.stop
        others = behind[Engine.DRAIN] | behind[Engine.STORE] | behind[Engine.EXECUTE]
        needs_tile = self.steps.p.new_tile & ~self.steps.p.setup & ~self.tile_ready
        m.d.comb += [
            self.wait_drain.eq(waits & behind[Engine.DRAIN]),
            self.wait_store.eq(waits & ~behind[Engine.DRAIN] & behind[Engine.STORE]),
            self.wait_weights.eq(waits & ~others & needs_tile),
            self.idle_command.eq(~active & ~self.steps.valid & ~self.stop),
        ]
