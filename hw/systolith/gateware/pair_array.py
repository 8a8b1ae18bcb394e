"""Systolic array with two products per multiplier, in both modes.

Two products share a multiplier if they have the activation in common. Neighbors in a row do when the
array is dense, neighbors in a column when it is depthwise, so two multipliers serve a block of two
rows and two columns, and each mode pairs the block's four weights in its own way:

```text
               dense: row r           row s       depthwise: column c         column d
 multiplier A  (r,c) (r,d) * left r      -        (r,c) (s,c) * feed c            -
 multiplier B      -      (s,c) (s,d) * left s         -         (r,d) (s,d) * feed d
```

Blocks are stacked into two chains per pair of columns, A and B, of words with two sums each. What
the sums mean depends on the mode: dense, they are two columns, of the rows r in chain A and of the
rows s in chain B; depthwise, they are the rows r and the rows s of one column. As row s follows row
r, the latter's sum belongs to the position before. Below the chains both are taken apart and added:

```text
 column c: A.low + (dense: B.low;  depthwise: A.high of the next position)
 column d: (dense: A.high; depthwise: B.low) + (B.high; depthwise: of the next position)
```

A chain is cut into segments as long as words can be added up; their sums are added one by one.
"""

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Mux, Signal

from .delay import delayed
from .pair_cell import PairCell, PairSum
from .systolic import WEIGHT, SystolicArray, sum_shape

_CELL_LATENCY = 3
"""Cycles from operands to the total of a :class:`PairCell`."""


@dataclass(frozen=True)
class _Block:
    """Two rows, whose weights meet the same activations in depthwise mode.

    `partner` is None for the last row of a group with an odd number of them, `tap` is the row's
    number in its group, `wave` the cycles that a position takes from the first block to this one.
    """

    row: int
    partner: int | None
    feed: int
    tap: int
    wave: int


class _Taps:
    """A delay line that grows as far as it is asked for."""

    def __init__(self, m, value, name):
        self._m, self._name, self._taps = m, name, [value]

    def __getitem__(self, cycles):
        while len(self._taps) <= cycles:
            above = self._taps[-1]
            tap = Signal(above.shape(), name=f"{self._name}_{len(self._taps)}", reset_less=True)
            self._m.d.sync += tap.eq(above)
            self._taps.append(tap)
        return self._taps[cycles]


class PairArray(SystolicArray):
    """:class:`~.systolic.SystolicArray` with half as many multipliers, and a latency of its own.

    Sums, order and tiles are the same, in both modes at 1 position per cycle. A tile's first
    position must have `first` as well as `switch`, and `depthwise` may change at a `first` only;
    between steps it may have any value.

    A group of G rows takes `ceil(G / 2) * cols` multipliers, `cols` rounded up to an even number,
    so groups of even size lose none.

    Timing: as there, with `latency` = segments + their length + lead + 5. The lead is how long a
    position waits for the last of those that its sum needs, as chains are shorter than columns.

    Parameters
    ----------
    rows, cols, feeds : int
        As there.
    fmt : PairFormat
        Where two products lie in the word of a multiplier.
    """

    def __init__(self, *, rows, cols, feeds, fmt):
        super().__init__(rows=rows, cols=cols, feeds=feeds)
        self._fmt = fmt
        self._segments = self._make_segments()
        self._blocks = [block for segment in self._segments for block in segment]
        # Feed data of a depthwise sum's last row comes after that of its first one.
        self._lead = max(0, *(block.tap - block.wave - 1 for block in self._blocks))

    @property
    def fmt(self):
        return self._fmt

    @property
    def multipliers(self):
        """Wide multipliers that the array is made of."""
        return 2 * len(self._blocks) * len(self._pairs)

    @property
    def latency(self):
        """Cycles from a position to its sum in column 0."""
        return self._words_at + len(self._segments) + 2

    @property
    def _pairs(self):
        """First columns of the pairs."""
        return range(0, self.cols, 2)

    @property
    def _words_at(self):
        """Cycles from a position to the word of the first segment of column 0."""
        return self._lead + 1 + _CELL_LATENCY + max(map(len, self._segments)) - 1

    def _make_segments(self):
        rows = []
        for feed in range(self.feeds):
            group = [row for row in range(self.rows) if self.group(row) == feed]
            rows += [(feed, tap, group[tap : tap + 2]) for tap in range(0, len(group), 2)]
        count = -(-len(rows) // self.fmt.depth)
        length = -(-len(rows) // count)
        segments = []
        for number in range(count):
            part = rows[number * length : (number + 1) * length]
            # Sums are added up one segment per cycle: segments end one after the other.
            start = number + length - len(part)
            segments.append(
                [
                    _Block(row=pair[0], partner=pair[1] if len(pair) > 1 else None, feed=feed,
                           tap=tap, wave=start + place)
                    for place, (feed, tap, pair) in enumerate(part)
                ]
            )  # fmt: skip
        return segments

    def _load_delay(self, col):
        # As late as the switch, or the next tile would overtake it.
        return self._lead + col // 2 * 2

    def _switch_delay(self, row, col):
        block = next(block for block in self._blocks if row in (block.row, block.partner))
        return self._lead + block.wave + col // 2 * 2

    def elaborate(self, platform):
        m = Module()
        weights = self._elaborate_active(m, *self._elaborate_tile(m))
        taps = [
            [_Taps(m, value, f"feed_{feed}_{lane}") for lane, value in enumerate(lanes)]
            for feed, lanes in enumerate(self.feed)
        ]
        tokens = {name: _Taps(m, getattr(self, name), name) for name in ("first", "depthwise")}
        over = {}
        for block in self._blocks:
            if block.tap and block.tap not in over:
                later = Cat(tokens["first"][cycle] for cycle in range(block.tap)).any()
                over[block.tap] = _Taps(m, later, f"over_{block.tap}")
        for col in self._pairs:
            chains = [
                self._elaborate_chain(m, col, chain, weights, taps, over, tokens["depthwise"])
                for chain in ("a", "b")
            ]
            self._elaborate_sums(m, col, *chains, tokens)
        return m

    def _elaborate_chain(self, m, col, chain, weights, taps, over, depthwise):
        """Return the sums of the higher and of the lower products of one chain."""
        before = None
        shape = sum_shape(len(self._blocks))
        for number, segment in enumerate(self._segments):
            above = None
            for block in segment:
                cell = PairCell(self.fmt, chained=above is not None)
                m.submodules[f"cell_{block.row}_{col}_{chain}"] = cell
                if above is not None:
                    m.d.comb += cell.above.eq(above)
                above = cell.total
                delay = self._lead + block.wave + 1 + col
                own = self._own(block, col, chain, taps, delay)
                shared = self._shared(block, col, chain, taps, over, delay)
                high, low = self._weights(block, col, chain, weights, depthwise[delay])
                m.d.comb += [
                    cell.high.eq(high),
                    cell.low.eq(low),
                    cell.x.eq(Mux(depthwise[delay], shared, own)),
                ]
            total = PairSum(self.fmt, shape, chained=before is not None)
            m.submodules[f"sum_{number}_{col}_{chain}"] = total
            m.d.comb += total.word.eq(above)
            if before is not None:
                m.d.comb += [total.before_high.eq(before.high), total.before_low.eq(before.low)]
            before = total
        return before.high, before.low

    def _own(self, block, col, chain, taps, delay):
        """Return the activation of a dense cell: its row's."""
        row = block.row if chain == "a" else block.partner
        return Const(0, WEIGHT) if row is None else taps[0][row][delay]

    def _shared(self, block, col, chain, taps, over, delay):
        """Return the activation of a depthwise cell: its column's, or zero if of a later step."""
        if chain == "b":
            col += 1
        if col >= self.cols:
            return Const(0, WEIGHT)
        ahead = delay - block.tap
        value = taps[block.feed][col][ahead]
        return Mux(over[block.tap][ahead], 0, value) if block.tap else value

    def _weights(self, block, col, chain, weights, depthwise):
        """Return the higher and the lower weight of a cell."""

        def weight(row, col):
            return Const(0, WEIGHT) if row is None or col >= self.cols else weights[row][col]

        below, right = weight(block.partner, col), weight(block.row, col + 1)
        if chain == "a":
            return Mux(depthwise, below, right), weight(block.row, col)
        if block.partner is None:
            # Dense, its activation is zero. One reset is enough: DSP blocks take operands without.
            return Const(0, WEIGHT), right
        return weight(block.partner, col + 1), Mux(depthwise, right, below)

    def _elaborate_sums(self, m, col, a, b, tokens):
        """Add what belongs to a column, when the sums of the next position are there as well."""
        arrival = self._words_at + len(self._segments) + col
        # The next position belongs to the same step.
        continued = ~tokens["first"][arrival]
        depthwise = tokens["depthwise"][arrival + 1]
        previous = []
        for name, sums in (("a", a), ("b", b)):
            for part, value in zip(("high", "low"), sums, strict=True):
                register = Signal(value.shape(), name=f"{name}_{part}_{col}", reset_less=True)
                m.d.sync += register.eq(value)
                previous.append(register)
        a_high, a_low, b_high, b_low = previous
        results = [
            a_low + Mux(depthwise, Mux(continued, a[0], 0), b_low),
            Mux(depthwise, b_low, a_high) + Mux(depthwise, Mux(continued, b[0], 0), b_high),
        ]
        for place, result in enumerate(results[: self.cols - col]):
            total = Signal(sum_shape(self.rows), name=f"p_{col + place}", reset_less=True)
            m.d.sync += total.eq(result)
            m.d.comb += self.sums[col + place].eq(
                delayed(m, total, place, name=f"sum_{col + place}")
            )
