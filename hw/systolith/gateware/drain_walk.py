"""The loops of DRAIN and VECTOR: from an instruction to rows, one after the other."""

from amaranth.hdl import Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from systolith.arch import isa

_ADDR_BITS = isa.LOCAL_ADDR_BITS + 3
"""Bits of an address that may be a few steps beyond its memory before the walk is halted."""

_ACC_BITS = 12
"""Bits of an accumulator row, likewise."""

_STEP = isa.LOCAL_ADDR_BITS

JOB = data.StructLayout(
    {
        "vector": 1,  # no accumulators: operand a comes from the scratchpad
        "operand": 1,  # something is read from the scratchpad
        "pair": 1,  # two operands are
        "rows": 12,
        "cols": 11,
        "reduce": 11,
        "narrow": 1,  # one output per row
        "single": 1,  # one row of accumulators per output
        "short": 1,  # outputs of one group
        "short_last": 1,  # the last ones of a row too
        "count": 18,
        "count_last": 18,
        "acc": 11,
        "addr": _STEP,
        "row_step": _STEP,
        "col_step": 16,
        "b": _STEP,
        "b_row_step": _STEP,
        "b_col_step": 16,
        "a": _STEP,
        "a_row_step": _STEP,
    }
)
"""A DRAIN or VECTOR in terms of loops; counts are stored minus one.

`rows` of `cols` outputs of `count` bytes (`count_last` in the last output of a row), each of which
is `reduce` rows of accumulators. A VECTOR has one output per row. Flags follow from the counts; who
makes a job knows them sooner than who gets it.
"""


def row_layout(lanes):
    """Return the layout of one step: one row of accumulators, or one write of up to `lanes` bytes."""
    return data.StructLayout(
        {
            "acc": _ACC_BITS,
            "addr": _ADDR_BITS,
            "a": _ADDR_BITS,
            "b": _ADDR_BITS,
            "count": range(lanes),  # bytes minus one
            "first": 1,  # of the rows that are added up
            "write": 1,  # the last of them: bytes are written
            "last": 1,  # of the instruction
        }
    )


class DrainWalker(wiring.Component):
    """Walk over the rows of a job: outputs in order, each in groups of `lanes` bytes.

    A row with operands is issued in the cycle in which the last of them is granted.

    Timing: the first row is offered in the cycle after `start`; one row per cycle, one in two cycles
    if two values are combined, and a cycle more for every read that is not granted. `issue`
    depends combinationally on `read.ready`, `read` on registers and `halt`. The walk
    is a row ahead of a read that waits.

    Parameters
    ----------
    lanes : int
        Bytes of a group.
    groups : int
        Groups of all columns.

    Members
    -------
    start : ``In(1)``
        Take `job`; only while not `active`.
    job : ``In(JOB)``
    halt : ``In(1)``
        Do nothing.
    read : ``Out(stream.Signature(addr))``
        Windows of operands; for pairs, a and b in turn. Low bits of the address only, if the
        surroundings take fewer.
    read_first : ``Out(1)``
        The read of this cycle is for operand a of a pair.
    issue : ``Out(1)``
        Plain wire: `row` starts down the pipeline in this cycle.
    row : ``Out(row_layout(lanes))``
    group : ``Out(range(groups))``
    active : ``Out(1)``
        There are rows to issue.
    """

    def __init__(self, *, lanes, groups):
        self._lanes, self._groups = lanes, groups
        super().__init__(
            {
                "start": In(1),
                "job": In(JOB),
                "halt": In(1),
                "read": Out(stream.Signature(unsigned(_STEP))),
                "read_first": Out(1),
                "issue": Out(1),
                "row": Out(row_layout(lanes)),
                "group": Out(range(groups)),
                "active": Out(1),
            }
        )

    @property
    def lanes(self):
        return self._lanes

    @property
    def groups(self):
        return self._groups

    def elaborate(self, platform):
        m = Module()
        job = Signal(JOB, reset_less=True)
        walking = Signal()
        full = Signal()
        room = Signal(init=1)
        shape = self.row.shape()
        here, kept = Signal(shape), Signal(shape, reset_less=True)
        group, kept_group = (
            Signal.like(self.group, name=name, reset_less=True) for name in ("group", "kept_group")
        )
        m.d.comb += [
            self.row.eq(Mux(full, kept, here)),
            self.group.eq(Mux(full, kept_group, group)),
            self.active.eq(walking | ~room),
        ]
        # A row that is not issued at once is kept, so that the walk does not wait for the grant.
        keeps = self.active & ~self.issue
        # Twice, because the choice of the row is a large fan-out.
        m.d.sync += [full.eq(keeps), room.eq(~keeps)]
        with m.If(room):
            m.d.sync += [kept.eq(here), kept_group.eq(group)]
        step = Signal()
        m.d.comb += step.eq(walking & room)

        steps, following = self._loops(m, job, step, here)
        ended = here.last & step
        with m.If(self.start):
            m.d.sync += [walking.eq(1), job.eq(self.job)]
        with m.Elif(ended):
            m.d.sync += walking.eq(0)
        self._walk_accumulators(m, here, group, step, steps)
        after = {}
        for name, prefix in (("addr", ""), ("b", "b_"), ("a", "a_")):
            row_step = job[f"{prefix}row_step"]
            # Operand a has one output per row.
            col_step = job[f"{prefix}col_step"] if name != "a" else 0
            after[name] = self._walk_address(m, here, name, row_step, col_step, steps)
        there = Mux(full, walking & here.write, ~ended & following)
        addresses = [Mux(full, here[name], after[name])[:_STEP] for name in ("a", "b")]
        self._issue(m, job, there, Mux(job.vector, *addresses))
        return m

    def _loops(self, m, job, step, here):
        """Count down rows, outputs of the row, bytes of the output and summands, all minus one.

        What is compared is known a cycle ahead. Return the steps to the next group, output and row
        of outputs, and whether the next row of all is the last of its sum.
        """
        rows, cols, reduce, count = (
            Signal(JOB[name].shape, name=name, reset_less=True)
            for name in ("rows", "cols", "reduce", "count")
        )
        last_row, last_col, last_group, last_sum = (
            Signal(name=name, reset_less=True)
            for name in ("last_row", "last_col", "last_group", "last_sum")
        )
        next_row, next_cell, next_group, following = (
            Signal(name=name) for name in ("next_row", "next_cell", "next_group", "following")
        )
        moves = step & last_sum
        m.d.comb += [
            next_row.eq(moves & last_group & last_col),
            next_cell.eq(moves & last_group & ~last_col),
            next_group.eq(moves & ~last_group),
            following.eq(Mux(last_sum, job.single, reduce == 1)),
            here.count.eq(Mux(last_group, count, self.lanes - 1)),
            here.first.eq(first := Signal(name="first", reset_less=True)),
            here.write.eq(last_sum),
            here.last.eq(last_sum & last_group & last_col & last_row),
        ]
        with m.If(step):
            m.d.sync += [
                first.eq(last_sum),
                last_sum.eq(following),
                reduce.eq(Mux(last_sum, job.reduce, reduce - 1)),
            ]
        with m.If(next_group):
            m.d.sync += [count.eq(count - self.lanes), last_group.eq(count < 2 * self.lanes)]
        with m.If(next_cell):
            before_last = cols == 1
            m.d.sync += [
                cols.eq(cols - 1),
                last_col.eq(before_last),
                count.eq(Mux(before_last, job.count_last, job.count)),
                last_group.eq(Mux(before_last, job.short_last, job.short)),
            ]
        with m.If(next_row):
            m.d.sync += [
                rows.eq(rows - 1),
                last_row.eq(rows == 1),
                cols.eq(job.cols),
                last_col.eq(job.narrow),
                count.eq(Mux(job.narrow, job.count_last, job.count)),
                last_group.eq(Mux(job.narrow, job.short_last, job.short)),
            ]
        with m.If(self.start):
            given = self.job
            m.d.sync += [
                rows.eq(given.rows),
                last_row.eq(given.rows == 0),
                cols.eq(given.cols),
                last_col.eq(given.narrow),
                count.eq(Mux(given.narrow, given.count_last, given.count)),
                last_group.eq(Mux(given.narrow, given.short_last, given.short)),
                reduce.eq(given.reduce),
                last_sum.eq(given.single),
                first.eq(1),
            ]
        return (next_group, next_cell, next_row), following

    def _issue(self, m, job, there, address):
        """Offer the reads of a row, and issue it together with its last one.

        The request is in registers, because the grant of the scratchpad depends on it: `address` and
        `there` say what is read for the row behind, if anything.
        """
        asks = Signal()
        second = Signal()
        place = Signal(_STEP, reset_less=True)
        granted = Signal()
        reads = job.operand & self.row.write
        m.d.comb += [
            self.read.valid.eq(asks & ~self.halt),
            self.read.p.eq(place),
            granted.eq(self.read.valid & self.read.ready),
            self.read_first.eq(job.pair & ~second & granted),
            self.issue.eq(
                Mux(
                    asks,
                    granted & ~(job.pair & ~second),
                    self.active & ~reads & ~self.halt,
                )
            ),
        ]
        with m.If(granted & job.pair):
            m.d.sync += second.eq(~second)
        with m.If(self.start):
            given = self.job
            m.d.sync += [
                asks.eq(given.operand & given.single),
                place.eq(Mux(given.vector, given.a, given.b)),
            ]
        with m.Elif(self.issue):
            # Two lanes share an elementwise unit: its rows need a cycle between them.
            m.d.sync += [
                asks.eq(job.operand & there & ~(reads & ~job.vector)),
                place.eq(address),
            ]
        with m.Else():
            m.d.sync += asks.eq(asks | (self.active & reads))
            with m.If(granted):
                m.d.sync += place.eq(self.row.b[:_STEP])

    def _walk_accumulators(self, m, here, group, step, steps):
        """Rows of accumulators follow each other; every group of an output reads the same ones."""
        next_group, next_cell, next_row = steps
        output = Signal(_ACC_BITS, reset_less=True)
        row = Signal(_ACC_BITS, reset_less=True)
        m.d.comb += here.acc.eq(row)
        with m.If(self.start):
            m.d.sync += [row.eq(self.job.acc), output.eq(self.job.acc), group.eq(0)]
        with m.Elif(next_group):
            m.d.sync += [row.eq(output), group.eq(group + 1)]
        with m.Elif(step):
            m.d.sync += row.eq(row + 1)
            with m.If(next_cell | next_row):
                m.d.sync += [output.eq(row + 1), group.eq(0)]

    def _walk_address(self, m, here, name, row_step, col_step, steps):
        """Three levels of one address: first output of the row, output, group.

        Return the address of the row behind.
        """
        next_group, next_cell, next_row = steps
        row = Signal(_ADDR_BITS, name=f"{name}_row", reset_less=True)
        cell = Signal(_ADDR_BITS, name=f"{name}_cell", reset_less=True)
        group = Signal(_ADDR_BITS, name=f"{name}_group", reset_less=True)
        after = Signal(_ADDR_BITS, name=f"{name}_after")
        row_after = row + row_step
        cell_after = cell + col_step
        m.d.comb += [here[name].eq(group), after.eq(group)]
        with m.If(next_group):
            m.d.comb += after.eq(group + self.lanes)
        with m.If(next_cell):
            m.d.comb += after.eq(cell_after)
            m.d.sync += cell.eq(cell_after)
        with m.If(next_row):
            m.d.comb += after.eq(row_after)
            m.d.sync += [row.eq(row_after), cell.eq(row_after)]
        m.d.sync += group.eq(after)
        with m.If(self.start):
            m.d.sync += [level.eq(self.job[name]) for level in (row, cell, group)]
        return after
