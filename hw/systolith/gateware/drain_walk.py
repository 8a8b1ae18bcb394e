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
is `reduce` rows of accumulators. A VECTOR has one output per row.
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
    depends combinationally on `read.ready`.

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
        rows = Signal(JOB["rows"].shape, reset_less=True)
        cols = Signal(JOB["cols"].shape, reset_less=True)
        reduce = Signal(JOB["reduce"].shape, reset_less=True)
        count = Signal(JOB["count"].shape, reset_less=True)
        first = Signal(reset_less=True)

        group_end = count < self.lanes
        cell_end = group_end & (cols == 0)
        end = cell_end & (rows == 0)
        self._issue(m, job, reduce == 0)
        m.d.comb += [
            self.row.count.eq(Mux(group_end, count, self.lanes - 1)),
            self.row.first.eq(first),
            self.row.write.eq(reduce == 0),
            self.row.last.eq(end & (reduce == 0)),
        ]
        next_row = Signal()
        next_cell = Signal()
        next_group = Signal()
        with m.If(self.issue & (reduce == 0)):
            m.d.comb += [
                next_row.eq(cell_end),
                next_cell.eq(group_end & ~cell_end),
                next_group.eq(~group_end),
            ]

        with m.If(self.start):
            m.d.sync += [self.active.eq(1), job.eq(self.job)]
        with m.Elif(next_row):
            m.d.sync += self.active.eq(~end)
        self._count(m, job, rows, cols, count, (next_group, next_cell, next_row))
        with m.If(self.start):
            m.d.sync += [reduce.eq(self.job.reduce), first.eq(1)]
        with m.Elif(self.issue):
            m.d.sync += [first.eq(reduce == 0), reduce.eq(Mux(reduce == 0, job.reduce, reduce - 1))]
        self._walk_accumulators(m, next_group, next_group | next_cell | next_row)
        for name, prefix in (("addr", ""), ("b", "b_"), ("a", "a_")):
            row_step = job[f"{prefix}row_step"]
            # Operand a has one output per row.
            col_step = job[f"{prefix}col_step"] if name != "a" else 0
            steps = next_group, next_cell, next_row
            self._walk_address(m, name, row_step, col_step, steps)
        return m

    def _count(self, m, job, rows, cols, count, steps):
        """Count down rows, outputs of the row, and bytes of the output, all minus one."""
        next_group, next_cell, next_row = steps
        first = data.View(JOB, Mux(self.start, self.job, job))
        with m.If(self.start | next_row):
            m.d.sync += [
                rows.eq(Mux(self.start, self.job.rows, rows - 1)),
                cols.eq(first.cols),
                count.eq(Mux(first.cols == 0, first.count_last, first.count)),
            ]
        with m.Elif(next_cell):
            m.d.sync += [
                cols.eq(cols - 1),
                count.eq(Mux(cols == 1, job.count_last, job.count)),
            ]
        with m.Elif(next_group):
            m.d.sync += count.eq(count - self.lanes)

    def _issue(self, m, job, writes):
        """Offer the reads of a row, and issue it together with its last one."""
        second = Signal()
        spaced = Signal()
        reads = job.operand & writes
        running = self.active & ~self.halt
        address_a = job.vector & ~second
        m.d.comb += [
            # Two lanes share an elementwise unit: its rows need a cycle between them.
            self.read.valid.eq(running & reads & ~spaced),
            self.read.p.eq(Mux(address_a, self.row.a, self.row.b)[:_STEP]),
            self.read_first.eq(job.pair & ~second & self.read.valid & self.read.ready),
            self.issue.eq(
                Mux(
                    reads,
                    self.read.valid & self.read.ready & ~(job.pair & ~second),
                    running,
                )
            ),
        ]
        with m.If(self.read.valid & self.read.ready & job.pair):
            m.d.sync += second.eq(~second)
        m.d.sync += spaced.eq(self.issue & reads & ~job.vector)

    def _walk_accumulators(self, m, next_group, next_output):
        """Rows of accumulators follow each other; every group of an output reads the same ones."""
        output = Signal(_ACC_BITS, reset_less=True)
        row = Signal(_ACC_BITS, reset_less=True)
        m.d.comb += self.row.acc.eq(row)
        with m.If(self.start):
            m.d.sync += [row.eq(self.job.acc), output.eq(self.job.acc), self.group.eq(0)]
        with m.Elif(next_group):
            m.d.sync += [row.eq(output), self.group.eq(self.group + 1)]
        with m.Elif(self.issue):
            m.d.sync += row.eq(row + 1)
            with m.If(next_output):
                m.d.sync += [output.eq(row + 1), self.group.eq(0)]

    def _walk_address(self, m, name, row_step, col_step, steps):
        """Three levels of one address: first output of the row, output, group."""
        next_group, next_cell, next_row = steps
        row = Signal(_ADDR_BITS, name=f"{name}_row", reset_less=True)
        cell = Signal(_ADDR_BITS, name=f"{name}_cell", reset_less=True)
        group = Signal(_ADDR_BITS, name=f"{name}_group", reset_less=True)
        row_after = row + row_step
        cell_after = cell + col_step
        m.d.comb += self.row[name].eq(group)
        with m.If(self.start):
            m.d.sync += [level.eq(self.job[name]) for level in (row, cell, group)]
        with m.If(next_group):
            m.d.sync += group.eq(group + self.lanes)
        with m.If(next_cell):
            m.d.sync += [cell.eq(cell_after), group.eq(cell_after)]
        with m.If(next_row):
            m.d.sync += [row.eq(row_after), cell.eq(row_after), group.eq(row_after)]
