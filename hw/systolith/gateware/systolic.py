"""Systolic array: weight-stationary cells, fed from the left or down the columns.

```text
                    weights, lane c delayed by c         feed j, lane c delayed by c + j * G
                    |     |     |                        |     |     |
 feed 0, lane 0 -> cell  cell  cell   row 0, group 0   every cell of a row of group j
 lane 1, by 1   -> cell  cell  cell   row 1, group 0   may take the lane of its column
 lane 2, by 2   -> cell  cell  cell   row 2, group 1   instead of its left neighbor's
                    |     |     |
                    sums, column c delayed by c
```

A cell has registers `x` (activation), `act` and `next` (weights), `q` (product) and `p` (sum):
`x <= depthwise ? feed : left; q <= x * act; p <= p_above + q`. The tokens `depthwise` and `switch`
go down one row and right one column per cycle, so one delay line serves all anti-diagonals.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .delay import delay_line, delayed
from .parity import noticed

WEIGHT = signed(8)
PRODUCT = signed(16)


def sum_shape(rows):
    """Return the shape of the sum of `rows` products of two int8."""
    return signed(16 + ceil_log2(rows))


class SystolicArray(wiring.Component):
    """Array of `rows * cols` multiply-accumulate cells with double-buffered weights.

    Position s of the stream is what is fed in one cycle. Dense: sum s of column c is the sum over
    rows r of `feed[0][r]` at s times the weight (r, c). Depthwise: the sum over rows r of
    `feed[j][c]` at position `s + r - j * G` times the weight (r, c), with `G = rows // feeds` and
    `j = min(r // G, feeds - 1)`; positions of a later step count as zero. A position's mode is the
    one given with it, so modes may alternate from step to step without gap. Arithmetic is exact.

    Weights are shifted in last row first: `rows` cycles of `w_en`, the first with `w_first`,
    with gaps if need be. The tile becomes active at the position with `switch`, which comes one
    cycle after the last row or later; the next tile may start in that same cycle.

    Timing: sums of column c come `latency + c` cycles after `feed`; 1 position per cycle; a new
    tile every `rows` cycles; no backpressure.

    Parameters
    ----------
    rows, cols : int
        Cells.
    feeds : int
        Column feeds.
    protected : bool
        Whether parity travels with the dense activations, the tokens and the enables of weights.

    Members
    -------
    feed : ``In(signed(8)).array(feeds, max(rows, cols))``
        Vectors; feed 0 is the dense one. Zero in cycles without a position.
    first : ``In(1)``
        First position of a step.
    depthwise : ``In(1)``
        Mode of this position.
    switch : ``In(1)``
        First position of a step with a new tile.
    w_en, w_first : ``In(1)``
        A row of weights; it is the first of its tile.
    w_row : ``In(signed(8)).array(cols)``
        Weights of the row.
    sums : ``Out(sum_shape(rows)).array(cols)``
        Sums.
    joins : ``Out(rows)``, if `protected`
        Rows that take part in the shift of this cycle, in column 0.
    soft_error : ``Out(1)``, if `protected`
        What left a delay line has wrong parity.
    """

    def __init__(self, *, rows, cols, feeds, protected=False):
        if rows < 1 or cols < 1:
            raise ValueError(f"Rows and columns must be positive, not {rows!r} and {cols!r}")
        if feeds not in range(1, rows + 1):
            raise ValueError(f"Feeds must be in 1..{rows} (rows), not {feeds!r}")
        self._rows, self._cols, self._feeds = rows, cols, feeds
        self._protected = protected
        super().__init__(
            {
                "feed": In(WEIGHT).array(feeds, max(rows, cols)),
                "first": In(1),
                "depthwise": In(1),
                "switch": In(1),
                "w_en": In(1),
                "w_first": In(1),
                "w_row": In(WEIGHT).array(cols),
                "sums": Out(sum_shape(rows)).array(cols),
            }
            | ({"joins": Out(rows), "soft_error": Out(1)} if protected else {})
        )

    @property
    def rows(self):
        return self._rows

    @property
    def cols(self):
        return self._cols

    @property
    def feeds(self):
        return self._feeds

    @property
    def protected(self):
        return self._protected

    @property
    def group_rows(self):
        """Rows that listen to one feed (G)."""
        return self.rows // self.feeds

    @property
    def latency(self):
        """Cycles from a position to its sum in column 0: `x` and `q`, then one `p` per row."""
        return self.rows + 2

    def group(self, row):
        """Return the feed that a row listens to."""
        return min(row // self.group_rows, self.feeds - 1)

    def elaborate(self, platform):
        m = Module()
        self._broken = []
        weights = self._elaborate_active(m, *self._elaborate_tile(m))
        operands = self._elaborate_operands(m)
        for col in range(self.cols):
            above = Const(0, PRODUCT)
            for row in range(self.rows):
                product = self._product(m, row, col, operands[row][col], weights[row][col])
                total = Signal(sum_shape(row + 1), name=f"p_{row}_{col}", reset_less=True)
                m.d.sync += total.eq(above + product if row else product)
                above = total
            m.d.comb += self.sums[col].eq(above)
        if self.protected:
            m.d.comb += self.soft_error.eq(noticed(m, *self._broken, name="broken"))
        return m

    def _watch(self, m, entering, leaving, cycles, name):
        """Let the parity of a delay line travel beside it, and compare what comes out."""
        if self.protected:
            bit = delayed(m, Cat(entering).xor(), cycles, name=f"{name}_parity")
            self._broken.append(Cat(leaving, bit).xor())

    def _operand(self, m, row, col, value):
        """Return the register `x` of a cell."""
        operand = Signal(WEIGHT, name=f"x_{row}_{col}", reset_less=True)
        m.d.sync += operand.eq(value)
        return operand

    def _product(self, m, row, col, operand, weight):
        """Return the register `q` of a cell."""
        product = Signal(PRODUCT, name=f"q_{row}_{col}", reset_less=True)
        m.d.sync += product.eq(operand * weight)
        return product

    def _elaborate_operands(self, m):
        """Return the operands of the products, by row and column."""
        rows, cols = range(self.rows), range(self.cols)
        lefts = [delayed(m, self.feed[0][row], row, name=f"left_{row}") for row in rows]
        broadcasts = [
            [
                # Feed 0 shares the registers of the dense lanes.
                lefts[col]
                if feed == 0 and col < self.rows
                else delayed(
                    m, self.feed[feed][col], col + feed * self.group_rows, name=f"feed_{feed}_{col}"
                )
                for col in cols
            ]
            for feed in range(self.feeds)
        ]
        over = self._elaborate_ends(m)
        last = self.rows + self.cols - 2
        depthwise = delay_line(m, self.depthwise, last, name="depthwise")
        self._watch(m, self.depthwise, depthwise[-1], last, "depthwise")
        operands = []
        for row in rows:
            feed, left = self.group(row), lefts[row]
            offset = row - feed * self.group_rows
            operands.append([])
            for col in cols:
                tap = broadcasts[feed][col]
                if offset:
                    tap = Mux(over[offset][col + feed * self.group_rows], 0, tap)
                value = Mux(depthwise[row + col], tap, left)
                operands[row].append(self._operand(m, row, col, value))
                if col + 1 < self.cols:
                    left = delayed(m, left, 1, name=f"right_{row}_{col}")
            self._watch(m, self.feed[0][row], left, row + self.cols - 1, f"left_{row}")
        return operands

    def _elaborate_ends(self, m):
        """Return, by offset and delay, whether a position that far ahead is of a later step."""
        offsets = range(1, self.rows - (self.feeds - 1) * self.group_rows)
        farthest = self.cols - 1 + (self.feeds - 1) * self.group_rows
        firsts = delay_line(m, self.first, max(offsets, default=0), name="first")
        return {
            offset: delay_line(m, Cat(firsts[:offset]).any(), farthest, name=f"over_{offset}")
            for offset in offsets
        }

    def _elaborate_tile(self, m):
        """Return the weights that shift in, by row and column, and the switch token, by delay."""
        rows, cols = range(self.rows), range(self.cols)
        # Row r joins the shift from the r-th load cycle on: all rows end in the same cycle, and
        # none is overwritten before the switch, which goes down one row per cycle, has passed it.
        joined, joins = Signal(self.rows), Signal(self.rows)
        with m.If(self.w_en):
            m.d.comb += joins.eq(Mux(self.w_first, 1, Cat(Const(1, 1), joined)))
            m.d.sync += joined.eq(joins)
        delays = [self._load_delay(col) for col in cols]
        enables = delay_line(m, joins, max(delays), name="w_join")
        self._watch(m, joins, enables[-1], max(delays), "w_join")
        lanes = [delayed(m, self.w_row[col], delays[col], name=f"w_lane_{col}") for col in cols]
        last = max(self._switch_delay(row, col) for row in rows for col in cols)
        switches = delay_line(m, self.switch, last, name="switch")
        self._watch(m, self.switch, switches[-1], last, "switch")
        if self.protected:
            m.d.comb += self.joins.eq(joins)
        following = [
            [Signal(WEIGHT, name=f"next_{row}_{col}", reset_less=True) for col in cols]
            for row in rows
        ]
        for row in rows:
            for col in cols:
                with m.If(enables[delays[col]][row]):
                    above = following[row - 1][col] if row else lanes[col]
                    m.d.sync += following[row][col].eq(above)
        return following, switches

    def _elaborate_active(self, m, following, switches):
        """Return the registers of the active weights, by row and column."""
        rows, cols = range(self.rows), range(self.cols)
        active = [
            [Signal(WEIGHT, name=f"act_{row}_{col}", reset_less=True) for col in cols]
            for row in rows
        ]
        for delay, switch in enumerate(switches):
            with m.If(switch):
                for row in rows:
                    for col in cols:
                        if self._switch_delay(row, col) == delay:
                            m.d.sync += active[row][col].eq(following[row][col])
        return active

    def _load_delay(self, col):
        """Return by how many cycles a column's weights and their enables are delayed."""
        return col

    def _switch_delay(self, row, col):
        """Return how many cycles after its position the token `switch` is at a cell."""
        return row + col
