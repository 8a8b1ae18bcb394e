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
        # What a job begins with is loaded until there is a start, which is known late.
        loads = Signal(init=1)
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
        with m.If(~full):
            m.d.sync += [kept.eq(here), kept_group.eq(group)]
        step = Signal()
        m.d.comb += step.eq(walking & room)

        steps, following = self._loops(m, job, loads, step, here)
        ended = here.last & step
        goes_on = self.start | (walking & ~ended)
        m.d.sync += [walking.eq(goes_on), loads.eq(~goes_on & ~keeps)]
        with m.If(loads):
            m.d.sync += job.eq(self.job)
        self._walk_accumulators(m, here, group, loads, step, steps)
        after = {}
        for name, prefix in (("addr", ""), ("b", "b_"), ("a", "a_")):
            row_step = job[f"{prefix}row_step"]
            # Operand a has one output per row.
            col_step = job[f"{prefix}col_step"] if name != "a" else 0
            pace = row_step, col_step
            after[name] = self._walk_address(m, here, name, pace, loads, step, steps)
        behind = Mux(full, walking, ~ended), job.operand & Mux(full, here.write, following)
        stays = full | ~here.write
        addresses = [Mux(stays, here[name], after[name])[:_STEP] for name in ("a", "b")]
        self._issue(m, job, loads, behind, Mux(job.vector, *addresses))
        return m

    def _loops(self, m, job, loads, step, here):
        """Walk over summands, groups, outputs and rows of outputs; all is compared a cycle ahead.

        Return what `step` means: whether the sum is complete, and if it is, whether the next group
        follows, or the next row of outputs; else the next output does. Further, whether the
        row behind is the last of its sum.
        """
        names = ("first", "last_col", "last_group", "last_sum", "to_group", "to_row")
        first, last_col, last_group, last_sum, to_group, to_row = (
            Signal(name=name, reset_less=True) for name in names
        )
        reduce = Signal(JOB["reduce"].shape, reset_less=True)
        col = Signal()
        last_row, second_last_col, second_last_group = self._count(
            m, job, loads, step & last_sum, here, (last_group, to_group, to_row, col)
        )
        following = Mux(last_sum, job.single, reduce == 1)
        m.d.comb += [
            col.eq(Mux(to_row, job.narrow, second_last_col)),
            here.first.eq(first),
            here.write.eq(last_sum),
            here.last.eq(to_row & last_row),
        ]
        given = self.job
        group = Mux(to_group, second_last_group, Mux(col, job.short_last, job.short))
        first_group = Mux(given.narrow, given.short_last, given.short)
        next_sum = Mux(loads, given.single, following)
        next_group = Mux(loads, first_group, Mux(last_sum, group, last_group))
        next_col = Mux(loads, given.narrow, Mux(last_sum & ~to_group, col, last_col))
        with m.If(loads | step):
            m.d.sync += [
                first.eq(loads | last_sum),
                reduce.eq(Mux(loads, given.reduce, Mux(last_sum, job.reduce, reduce - 1))),
                last_sum.eq(next_sum),
                last_group.eq(next_group),
                last_col.eq(next_col),
                to_group.eq(next_sum & ~next_group),
                to_row.eq(next_sum & next_group & next_col),
            ]
        return (last_sum, to_group, to_row), following

    def _count(self, m, job, loads, step, here, states):
        """Count down rows, outputs of the row and bytes of the output, all minus one.

        Return whether this is the last row, the last output but one, and the last group but one.
        """
        last_group, to_group, to_row, col = states
        rows, cols, count = (
            Signal(JOB[name].shape, name=name, reset_less=True)
            for name in ("rows", "cols", "count")
        )
        last_row = Signal(reset_less=True)
        m.d.comb += here.count.eq(Mux(last_group, count, self.lanes - 1))
        given = self.job
        with m.If(loads):
            m.d.sync += [
                rows.eq(given.rows),
                last_row.eq(given.rows == 0),
                cols.eq(given.cols),
                count.eq(Mux(given.narrow, given.count_last, given.count)),
            ]
        with m.Elif(step):
            behind = Mux(col, job.count_last, job.count)
            m.d.sync += count.eq(Mux(to_group, count - self.lanes, behind))
            with m.If(~to_group):
                m.d.sync += cols.eq(Mux(to_row, job.cols, cols - 1))
            with m.If(to_row):
                m.d.sync += [rows.eq(rows - 1), last_row.eq(rows == 1)]
        return last_row, cols == 1, count < 2 * self.lanes

    def _issue(self, m, job, loads, behind, address):
        """Offer the reads of a row, and issue it together with its last one.

        What a row needs is in registers, because the grant of the scratchpad depends on it: `behind`
        says whether there is a row behind this one, and whether it has reads, `address` where the first is.
        """
        asks, plain, spaced, second = (
            Signal(name=name) for name in ("asks", "plain", "spaced", "second")
        )
        place = Signal(_STEP, reset_less=True)
        granted = Signal()
        m.d.comb += [
            self.read.valid.eq(asks & ~self.halt),
            self.read.p.eq(place),
            granted.eq(self.read.valid & self.read.ready),
            self.read_first.eq(job.pair & ~second & granted),
            self.issue.eq((plain & ~self.halt) | (granted & ~(job.pair & ~second))),
        ]
        with m.If(granted & job.pair):
            m.d.sync += second.eq(~second)
        exists, reads = behind
        with m.If(loads):
            given = self.job
            first_reads = given.operand & given.single
            m.d.sync += [
                asks.eq(self.start & first_reads),
                plain.eq(self.start & ~first_reads),
            ]
        with m.Elif(self.issue):
            # Two lanes share an elementwise unit: its rows need a cycle between them.
            apart = asks & ~job.vector
            m.d.sync += [
                asks.eq(exists & reads & ~apart),
                spaced.eq(exists & reads & apart),
                plain.eq(exists & ~reads),
            ]
        with m.Else():
            m.d.sync += [asks.eq(asks | spaced), spaced.eq(0)]
        # Not when a row is issued, which much waits for: the second read of a pair is one of those.
        with m.If(loads | plain | granted):
            again = asks & job.pair & ~second
            first_place = Mux(self.job.vector, self.job.a, self.job.b)
            next_place = Mux(again, self.row.b[:_STEP], address)
            m.d.sync += place.eq(Mux(loads, first_place, next_place))

    def _walk_accumulators(self, m, here, group, loads, step, steps):
        """Rows of accumulators follow each other; every group of an output reads the same ones."""
        last_sum, to_group, _to_row = steps
        output = Signal(_ACC_BITS, reset_less=True)
        row = Signal(_ACC_BITS, reset_less=True)
        m.d.comb += here.acc.eq(row)
        with m.If(loads):
            m.d.sync += [row.eq(self.job.acc), output.eq(self.job.acc), group.eq(0)]
        with m.Elif(step):
            m.d.sync += row.eq(Mux(to_group, output, row + 1))
            with m.If(last_sum):
                m.d.sync += group.eq(Mux(to_group, group + 1, 0))
                with m.If(~to_group):
                    m.d.sync += output.eq(row + 1)

    def _walk_address(self, m, here, name, pace, loads, step, steps):
        """Three levels of one address: first output of the row, output, group.

        Return the address of the row behind, if that is of another sum.
        """
        row_step, col_step = pace
        last_sum, to_group, to_row = steps
        row = Signal(_ADDR_BITS, name=f"{name}_row", reset_less=True)
        cell = Signal(_ADDR_BITS, name=f"{name}_cell", reset_less=True)
        group = Signal(_ADDR_BITS, name=f"{name}_group", reset_less=True)
        after = Signal(_ADDR_BITS, name=f"{name}_after")
        output_after = Mux(to_row, row + row_step, cell + col_step)
        m.d.comb += [
            here[name].eq(group),
            after.eq(Mux(to_group, group + self.lanes, output_after)),
        ]
        with m.If(loads):
            m.d.sync += [level.eq(self.job[name]) for level in (row, cell, group)]
        with m.Elif(step & last_sum):
            m.d.sync += group.eq(after)
            with m.If(~to_group):
                m.d.sync += cell.eq(output_after)
            with m.If(to_row):
                m.d.sync += row.eq(output_after)
        return after
