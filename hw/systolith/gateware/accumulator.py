"""Accumulators: sums of the array, collected by rows until the drain reads them."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2, exact_log2

from systolith.arch import isa

from .delay import delay_line, delayed
from .parity import Parity, noticed

ACC = signed(32)
BANK_COUNT = 2

LEAD = 2
"""Cycles from a memory's address to the register behind its output, which is when sums count."""

TURNAROUND = LEAD + 2
"""Cycles after which a row may be operated on again: read, operate, write."""


class Accumulators(wiring.Component):
    """Two banks of `bank_rows` rows of `cols` int32, one memory per bank and column.

    An operation (WRITE, ADD or MAX; int32, wraps) travels one column per cycle, as the sums of
    the array do, so no sum is ever deskewed; a read travels one lane per cycle in the same way.
    Row a is in bank `a // bank_rows`. Each memory has one read port and one write port; ADD and MAX
    take the read port in front of a reader, who gets an undefined value and raises `conflict`.
    Nothing is forwarded: a row may be modified again, or read, `turnaround` cycles later.

    Timing: `w_*` come `lead` cycles before the sum at column 0; a sum is visible to operations
    and reads `turnaround` cycles after its `w_en` (column c: c cycles later); 1 operation and 1
    read per cycle; no backpressure.

    Parameters
    ----------
    cols : int
        Columns.
    bank_rows : int
        Rows of a bank; a power of two.
    lanes : int
        Columns read at once; divides `cols`.
    protected : bool
        Whether each sum is stored with parity.

    Members
    -------
    w_en : ``In(1)``
        Operate on a row.
    w_addr : ``In(range(2 * bank_rows))``
        Row.
    w_op : ``In(2)``
        Operation, an `AccOp`.
    sums : ``In(sum_shape).array(cols)``
        From the array: column c is taken `lead + c` cycles after `w_en`.
    r_en : ``In(1)``
        Read a row.
    r_addr : ``In(range(2 * bank_rows))``
        Row.
    r_group : ``In(range(cols // lanes))``
        Columns `r_group * lanes` to `r_group * lanes + lanes - 1`.
    r_data : ``Out(signed(32)).array(lanes)``
        Lane l, `read_latency + l` cycles after `r_en`.
    conflict : ``Out(1)``
        Together with `r_en`: the read will meet an operation in the read port of a memory.
    soft_error : ``Out(1)``, if `protected`
        A sum that was read has wrong parity.
    """

    def __init__(self, *, cols, bank_rows, lanes, sum_shape=ACC, protected=False):
        if cols < 1 or lanes < 1 or cols % lanes:
            raise ValueError(f"Lanes must divide the columns ({cols!r}), not be {lanes!r}")
        exact_log2(bank_rows)
        self._cols, self._bank_rows, self._lanes = cols, bank_rows, lanes
        self._parity = Parity(ACC.width, enabled=protected)
        super().__init__(
            {
                "w_en": In(1),
                "w_addr": In(range(BANK_COUNT * bank_rows)),
                "w_op": In(2),
                "sums": In(sum_shape).array(cols),
                "r_en": In(1),
                "r_addr": In(range(BANK_COUNT * bank_rows)),
                "r_group": In(range(cols // lanes)),
                "r_data": Out(ACC).array(lanes),
                "conflict": Out(1),
            }
            | ({"soft_error": Out(1)} if protected else {})
        )

    @property
    def protected(self):
        return self._parity.enabled

    @property
    def cols(self):
        return self._cols

    @property
    def bank_rows(self):
        return self._bank_rows

    @property
    def lanes(self):
        return self._lanes

    @property
    def groups(self):
        """Groups of columns that are read one at a time."""
        return self.cols // self.lanes

    @property
    def lead(self):
        """Cycles from `w_en` to the sum of column 0."""
        return LEAD

    @property
    def turnaround(self):
        """Cycles after which a row may be modified again: read, operate, write."""
        return TURNAROUND

    @property
    def read_latency(self):
        """Cycles from `r_en` to lane 0: read, then choose bank and group."""
        return LEAD + 1

    def elaborate(self, platform):
        m = Module()
        addr_bits = ceil_log2(self.bank_rows)
        wave = data.StructLayout({"row": addr_bits, "bank": 1, "op": 2})
        last = self.cols - 1
        w_en = delay_line(m, self.w_en, last + self.turnaround - 1, name="w_en", reset_less=False)
        w_wave = Signal(wave)
        m.d.comb += [
            w_wave.row.eq(self.w_addr[:addr_bits]),
            w_wave.bank.eq(self.w_addr[addr_bits]),
            w_wave.op.eq(self.w_op),
        ]
        waves = [
            data.View(wave, stage)
            for stage in delay_line(m, w_wave, last + self.turnaround - 1, name="w_wave")
        ]
        # Judged once for all columns: what has the read port of a bank's memories.
        modify = self.w_en & (w_wave.op != isa.AccOp.WRITE)
        modifies = [
            delay_line(
                m, modify & (w_wave.bank == bank), last, name=f"modify{bank}", reset_less=False
            )
            for bank in range(BANK_COUNT)
        ]
        reads = delay_line(m, self.r_addr, self.lanes + LEAD - 1, name="r_addr")
        groups = delay_line(m, self.r_group, self.lanes + LEAD - 1, name="r_group")
        raw, checks = [], []
        for col in range(self.cols):
            behind, old = self._elaborate_column(
                m, col, w_en, waves, modifies, reads[col % self.lanes]
            )
            raw.append(behind)
            at = col + LEAD
            checks.append((old, w_en[at] & (waves[at].op != isa.AccOp.WRITE)))
        for lane in range(self.lanes):
            chosen = Array(raw[lane :: self.lanes])[groups[lane + LEAD]]
            bank = reads[lane + LEAD][addr_bits]
            checks.append(self._elaborate_lane(m, lane, Mux(bank, chosen[1], chosen[0])))
        if self.protected:
            broken = [self._parity.broken(stored) & used for stored, used in checks]
            m.d.comb += self.soft_error.eq(noticed(m, *broken, name="broken"))
        meets = Cat(
            (self.r_group == group)
            & Mux(
                self.r_addr[addr_bits],
                modifies[1][group * self.lanes],
                modifies[0][group * self.lanes],
            )
            for group in range(self.groups)
        )
        m.d.comb += self.conflict.eq(self.r_en & meets.any())
        return m

    def _elaborate_lane(self, m, lane, stored):
        """Add the register of a lane; return what is in it with its parity, and whether it counts."""
        m.d.sync += self.r_data[lane].eq(self._parity.word(stored))
        if not self.protected:
            return stored, 0
        bit = Signal(name=f"r_parity_{lane}", reset_less=True)
        m.d.sync += bit.eq(stored[-1])
        reads = delayed(m, self.r_en, lane + LEAD + 1, name=f"r_en_{lane}", reset_less=False)
        return Cat(self.r_data[lane], bit), reads

    def _elaborate_column(self, m, col, w_en, waves, modifies, r_addr):
        """Add the memories of a column; return the registers behind them: of each bank, of the ALU."""
        addr_bits = ceil_log2(self.bank_rows)
        write, parity = col + self.turnaround - 1, self._parity
        stored = unsigned(parity.width(ACC.width)) if self.protected else ACC
        result = Signal(ACC, name=f"result_{col}", reset_less=True)
        raw, found = [], []
        for bank in range(BANK_COUNT):
            memory = Memory(shape=unsigned(parity.width(ACC.width)), depth=self.bank_rows, init=[])
            m.submodules[f"bank_{bank}_{col}"] = memory
            w_port, r_port = memory.write_port(), memory.read_port()
            behind = Signal(stored, name=f"raw_{bank}_{col}", reset_less=True)
            modify = modifies[bank][col]
            m.d.comb += [
                r_port.addr.eq(Mux(modify, waves[col].row, r_addr[:addr_bits])),
                w_port.en.eq(w_en[write] & (waves[write].bank == bank)),
                w_port.addr.eq(waves[write].row),
                w_port.data.eq(parity.encode(result)),
            ]
            m.d.sync += behind.eq(r_port.data)
            raw.append(behind)
            found.append(r_port.data)
        # The bank is chosen in front of the register; the sum meets no choice any more.
        kept = Signal(stored, name=f"old_{col}", reset_less=True)
        old = parity.word(kept).as_signed() if self.protected else kept
        m.d.sync += kept.eq(Mux(waves[col + LEAD - 1].bank, found[1], found[0]))
        stage, new = waves[col + LEAD], self.sums[col]
        with m.Switch(stage.op):
            with m.Case(isa.AccOp.ADD):
                m.d.sync += result.eq(old + new)
            with m.Case(isa.AccOp.MAX):
                m.d.sync += result.eq(Mux(old > new, old, new))
            with m.Default():
                m.d.sync += result.eq(new)
        return raw, kept
