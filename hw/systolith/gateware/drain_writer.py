"""The far end of the drain: checks rows, and writes what the lanes made of them."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from .delay import delay_line, delayed
from .drain_walk import row_layout
from .parity import Parity, noticed
from .scratchpad import write_layout

CHECK_LATENCY = 3
"""Cycles from a row to the judgement: its ends, whether they are outside, which comes first."""


class DrainWriter(wiring.Component):
    """Keep the addresses of rows while they are in the lanes; write them if they are legal.

    Timing: `write` is valid one cycle after `result`; `done` comes `write_latency` cycles later;
    `outside` comes three cycles after `issue`.

    Parameters
    ----------
    lanes : int
    latency, plain_latency : int
        Cycles from `issue` to `result`, with and without `uses_b`. Results come in the order of
        their rows.
    size_bytes, word_bytes : int
        Of the scratchpad.
    acc_rows : int
        Rows of both accumulator banks together.
    write_latency : int
        Of the scratchpad.
    protected : bool
        Whether addresses are kept with a parity bit.

    Members
    -------
    issue : ``In(1)``
        A row starts.
    row : ``In(row_layout(lanes))``
    uses_acc, uses_a, uses_b, combines : ``In(1)``
        What rows read, and whether they take the longer way.
    result : ``In(ArrayLayout(8, lanes))``
        From the lanes.
    outside : ``Out(1)``
        This row leaves a memory; it and all that follow are dropped.
    outside_addr : ``Out(24)``
        First byte address or accumulator row outside.
    write : ``Out(stream.Signature(write_layout))``
        `ready` is ignored.
    done : ``Out(1)``
        The last byte of an instruction is visible.
    soft_error : ``Out(1)``, if `protected`
        What was read has wrong parity.
    """

    def __init__(
        self, *, lanes, latency, plain_latency, size_bytes, word_bytes, acc_rows, write_latency,
        protected=False,
    ):  # fmt: skip
        self._lanes, self._latency, self._plain_latency = lanes, latency, plain_latency
        self._size_bytes, self._word_bytes = size_bytes, word_bytes
        self._acc_rows, self._write_latency = acc_rows, write_latency
        self._protected = protected
        row = row_layout(lanes)
        super().__init__(
            {
                "issue": In(1),
                "row": In(row),
                "uses_acc": In(1),
                "uses_a": In(1),
                "uses_b": In(1),
                "combines": In(1),
                "result": In(data.ArrayLayout(unsigned(8), lanes)),
                "outside": Out(1),
                "outside_addr": Out(row["addr"].shape),
                "write": Out(stream.Signature(write_layout(size_bytes, word_bytes))),
                "done": Out(1),
            }
            | ({"soft_error": Out(1)} if protected else {})
        )

    @property
    def protected(self):
        return self._protected

    @property
    def lanes(self):
        return self._lanes

    @property
    def latency(self):
        return self._latency

    @property
    def plain_latency(self):
        return self._plain_latency

    @property
    def size_bytes(self):
        return self._size_bytes

    @property
    def word_bytes(self):
        return self._word_bytes

    @property
    def acc_rows(self):
        return self._acc_rows

    @property
    def write_latency(self):
        return self._write_latency

    def elaborate(self, platform):
        m = Module()
        legal, row, combines = self._check(m)
        kept = data.StructLayout(
            {"addr": exact_log2(self.size_bytes), "count": range(self.lanes), "last": 1}
        )
        # At most one row per cycle is in the lanes.
        parity = Parity(kept.size, enabled=self.protected)
        stored = unsigned(parity.granularity) if self.protected else kept
        memory = Memory(shape=stored, depth=1 << ceil_log2(self.latency), init=[])
        m.submodules.memory = memory
        w_port, r_port = memory.write_port(), memory.read_port()
        entry = Signal(kept) if self.protected else w_port.data
        m.d.comb += [
            w_port.en.eq(legal),
            entry.addr.eq(row.addr[: exact_log2(self.size_bytes)]),
            entry.count.eq(row.count),
            entry.last.eq(row.last),
        ]
        # The memory takes one of the cycles that the check leaves.
        layout = data.StructLayout({"plain": 1, "combined": 1})
        entering = Signal(layout)
        m.d.comb += [entering.plain.eq(legal & ~combines), entering.combined.eq(legal & combines)]
        stages = delay_line(
            m, entering, self.latency - CHECK_LATENCY - 1, name="valid", reset_less=False
        )
        found_now = Signal()
        m.d.comb += found_now.eq(
            data.View(layout, stages[self.plain_latency - CHECK_LATENCY - 1]).plain
            | data.View(layout, stages[self.latency - CHECK_LATENCY - 1]).combined
        )
        arrives = delayed(m, found_now, 1, name="arrives", reset_less=False)
        m.d.comb += r_port.en.eq(found_now)
        with m.If(legal):
            m.d.sync += w_port.addr.eq(w_port.addr + 1)
        with m.If(found_now):
            m.d.sync += r_port.addr.eq(r_port.addr + 1)

        found = data.View(kept, parity.word(r_port.data))
        written = self.write.p
        valid, last = Signal(), Signal()
        m.d.sync += [
            valid.eq(arrives),
            last.eq(arrives & found.last),
            written.addr.eq(found.addr),
            written["data"].eq(self.result.as_value()),
            written.mask.eq(Cat(found.count >= lane for lane in range(self.lanes))),
        ]
        m.d.comb += [
            self.write.valid.eq(valid),
            self.done.eq(delayed(m, last, self.write_latency, name="done", reset_less=False)),
        ]
        if self.protected:
            m.d.comb += w_port.data.eq(parity.encode(entry))
            broken = parity.broken(r_port.data) & arrives
            m.d.comb += self.soft_error.eq(noticed(m, broken, name="broken"))
        return m

    def _check(self, m):
        """Judge rows in three stages: their ends, whether these are outside, which is the first.

        Return whether there is a row that is legal and to be written, the row, and whether it
        takes the longer way.
        """
        flow = data.StructLayout({"row": self.row.shape(), "uses": 3, "combines": 1})
        entering = Signal(flow)
        m.d.comb += [
            entering.row.eq(self.row),
            entering.uses.eq(Cat(self.uses_acc, self.uses_a, self.uses_b)),
            entering.combines.eq(self.combines),
        ]
        stages = delay_line(m, entering, CHECK_LATENCY, name="checked")
        arrived, summed, judged = (data.View(flow, stage) for stage in stages[1:])
        valid = delayed(m, self.issue, CHECK_LATENCY, name="judged", reset_less=False)
        size_bits = exact_log2(self.size_bytes)
        rows_bits = exact_log2(self.acc_rows)
        checks = [(summed.uses[0] & summed.row.acc[rows_bits:].any(), summed.row.acc)]
        for name, used in (("addr", C(1)), ("a", summed.uses[1]), ("b", summed.uses[2])):
            end = Signal(len(arrived.row[name]) + 1, name=f"{name}_end", reset_less=True)
            m.d.sync += end.eq(arrived.row[name] + arrived.row.count)
            outside = used & summed.row.write & end[size_bits:].any()
            first = summed.row[name]
            checks.append((outside, Mux(first[size_bits:].any(), first, self.size_bytes)))

        broken = Signal(len(checks), reset_less=True)
        halted = Signal()
        m.d.sync += broken.eq(Cat(outside for outside, _ in checks))
        for index in reversed(range(len(checks))):
            addr = Signal.like(self.outside_addr, name=f"outside{index}_addr", reset_less=True)
            m.d.sync += addr.eq(checks[index][1])
            with m.If(broken[index]):
                m.d.comb += self.outside_addr.eq(addr)
        m.d.comb += self.outside.eq(valid & ~halted & broken.any())
        with m.If(self.outside):
            m.d.sync += halted.eq(1)
        legal = valid & judged.row.write & ~halted & ~broken.any()
        return legal, judged.row, judged.combines
