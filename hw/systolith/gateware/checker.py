"""Checksum column: notices when a dense sum of the array is wrong (Huang and Abraham, 1984).

The sum over the columns of a position's sums is the sum over the rows of its activations times the
sums over the columns of the weights. The latter are made here, from the weights on their way into
the array, and multiplied here, by the activations on their way into the array:

```text
 w_row --> sum over columns --> following --> active         sums[0] -> + -> + -> ... -> + -> zero?
                                                |                       ^    ^          ^
 x ------------ delayed -------------------> products -> tree -> - -----'  sums[1]   sums[c]
```

Nothing is shared with the array but its inputs, so that a change of one register in the array
changes one side alone. What changes one column only is always noticed, because all is counted
modulo the width of a sum. What changes an activation for several columns goes unnoticed if their
weights add up to zero; that is what parity is for.
"""

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import ceil_log2

from .delay import delayed
from .parity import noticed
from .systolic import WEIGHT, sum_shape

_WEIGHT_LATENCY = 2
"""Cycles from a row of weights to their sum: groups of columns, then all of them."""

_ADDED_AT_ONCE = 4
"""Values that are added in one cycle in the tree of products."""


class ArrayChecker(wiring.Component):
    """Compare the sums of dense positions with a checksum.

    Positions before the first `switch` after a reset are not judged, as the weights may be
    anything. Tiles are switched for all rows at once.

    Timing: `soft_error` comes `latency + cols + 1` cycles after a position that is wrong; 1 position
    per cycle.

    Parameters
    ----------
    rows, cols : int
        Size of the array.
    latency : int
        Cycles from a position to its sum in column 0.

    Members
    -------
    x : ``In(signed(8)).array(rows)``
        Dense vector, as the array gets it.
    valid : ``In(1)``
        There is a position.
    depthwise, switch, w_en, w_first, w_row, sums
        As the array gets and gives them; all In.
    joins : ``Out(rows)``
        Rows that take part in the shift of this cycle.
    soft_error : ``Out(1)``
        A dense position's sums do not add up.
    """

    def __init__(self, *, rows, cols, latency):
        self._rows, self._cols, self._latency = rows, cols, latency
        super().__init__(
            {
                "x": In(WEIGHT).array(rows),
                "valid": In(1),
                "depthwise": In(1),
                "switch": In(1),
                "w_en": In(1),
                "w_first": In(1),
                "w_row": In(WEIGHT).array(cols),
                "sums": In(sum_shape(rows)).array(cols),
                "joins": Out(rows),
                "soft_error": Out(1),
            }
        )

    @property
    def rows(self):
        return self._rows

    @property
    def cols(self):
        return self._cols

    @property
    def latency(self):
        return self._latency

    def elaborate(self, platform):
        m = Module()
        weights = self._elaborate_weights(m)
        products = []
        width = len(self.sums[0])
        for row, weight in enumerate(weights):
            x = _apart(m, self.x[row], _WEIGHT_LATENCY + 1, name=f"x_{row}")
            product = Signal(
                signed(min(width, len(x) + len(weight))), name=f"q_{row}", reset_less=True
            )
            m.d.sync += product.eq(x * weight)
            products.append(product)
        expected, cycles = products, _WEIGHT_LATENCY + 2
        while len(expected) > 1:
            expected = self._add(m, expected, _ADDED_AT_ONCE, width, f"tree_{cycles}")
            cycles += 1
        total = self._elaborate_difference(m, expected[0], cycles)
        seen = Signal()
        with m.If(self.switch):
            m.d.sync += seen.eq(1)
        judged = self.valid & ~self.depthwise & (seen | self.switch)
        judged = delayed(m, judged, self.latency + self.cols, name="judged", reset_less=False)
        m.d.comb += self.soft_error.eq(noticed(m, judged & (total != 0), name="wrong"))
        return m

    @staticmethod
    def _add(m, values, count, width, name):
        """Return registers with the sums of `count` neighbors each."""
        results = []
        for first in range(0, len(values), count):
            group = values[first : first + count]
            size = max(map(len, group)) + ceil_log2(len(group))
            result = Signal(signed(min(width, size)), name=f"{name}_{first}", reset_less=True)
            m.d.sync += result.eq(sum(group[1:], group[0]))
            results.append(result)
        return results

    def _elaborate_weights(self, m):
        """Return the sums of the active weights, by row."""
        out = Signal(self.rows, init=-1)
        with m.If(self.w_en):
            m.d.comb += self.joins.eq(Mux(self.w_first, 1, Cat(Const(1, 1), ~out)))
            m.d.sync += out.eq(~self.joins)
        width = WEIGHT.width + ceil_log2(self.cols)
        group = 1 << -(-ceil_log2(self.cols) // 2)
        partial = self._add(m, list(self.w_row), group, width, "columns")
        (above,) = self._add(m, partial, len(partial), width, "row")
        enables = _apart(m, self.joins, _WEIGHT_LATENCY, name="joins")
        switch = _apart(m, self.switch, _WEIGHT_LATENCY, name="switch")
        weights = []
        for row in range(self.rows):
            following = Signal(signed(width), name=f"next_{row}", reset_less=True)
            active = Signal(signed(width), name=f"act_{row}", reset_less=True)
            with m.If(enables[row]):
                m.d.sync += following.eq(above)
            with m.If(switch):
                m.d.sync += active.eq(following)
            weights.append(active)
            above = following
        return weights

    def _elaborate_difference(self, m, expected, cycles):
        """Return the sum of a position's sums less the expected one, `latency + cols` cycles late."""
        # It is subtracted as early as both are there; that is in column 0 but for tiny arrays.
        place = max(0, cycles - self.latency)
        expected = delayed(m, expected, self.latency + place - cycles, name="expected")
        width = len(self.sums[0])
        total = Const(0, signed(width))
        for col in range(self.cols):
            above = total + self.sums[col] - (expected if col == place else 0)
            total = Signal(signed(width), name=f"difference_{col}", reset_less=True)
            m.d.sync += total.eq(above)
        return total


def _apart(m, value, cycles, name):
    """Return a delayed value whose registers hold its complement.

    Synthesis would make one register of two that always hold the same, and the array has these, too.
    """
    return ~delayed(m, ~value, cycles, name=f"not_{name}")


class CheckedArray(wiring.Component):
    """An array with a checksum column beside it.

    Timing: that of the array.

    Parameters
    ----------
    array : SystolicArray
        Array of any kind; if it is protected, parity travels through it.

    Members
    -------
    valid : ``In(1)``
        There is a position.
    feed, first, depthwise, switch, w_en, w_first, w_row, sums
        As of the array.
    sum_error : ``Out(1)``
        A dense position's sums do not add up.
    activation_error : ``Out(1)``, if the array is protected
        Parity that travels through the array is wrong.
    """

    def __init__(self, array):
        self._array = array
        inner = array.signature.members
        self._shared = [name for name in inner if name not in ("joins", "soft_error")]
        members = {name: inner[name] for name in self._shared}
        members |= {"valid": In(1), "sum_error": Out(1)}
        super().__init__(members | ({"activation_error": Out(1)} if array.protected else {}))

    @property
    def array(self):
        return self._array

    @property
    def latency(self):
        """Cycles from a position to its sum in column 0."""
        return self._array.latency

    def elaborate(self, platform):
        m = Module()
        m.submodules.array = array = self._array
        m.submodules.checker = checker = ArrayChecker(
            rows=array.rows, cols=array.cols, latency=array.latency
        )
        for name in self._shared:
            for outer, inner in zip(_leaves(self, name), _leaves(array, name), strict=True):
                m.d.comb += outer.eq(inner) if name == "sums" else inner.eq(outer)
        tokens = ("valid", "depthwise", "switch", "w_en", "w_first")
        m.d.comb += [getattr(checker, name).eq(getattr(self, name)) for name in tokens]
        m.d.comb += [checker.x[row].eq(self.feed[0][row]) for row in range(array.rows)]
        for col in range(array.cols):
            m.d.comb += [
                checker.w_row[col].eq(self.w_row[col]),
                checker.sums[col].eq(array.sums[col]),
            ]
        m.d.comb += self.sum_error.eq(checker.soft_error)
        if array.protected:
            # Both keep, each by itself, which rows take part in the shift.
            apart = noticed(m, checker.joins != array.joins, name="apart")
            m.d.comb += self.activation_error.eq(array.soft_error | apart)
        return m


def _leaves(component, name):
    """Return the signals of a member, which may be an array of arrays."""
    found = [getattr(component, name)]
    while isinstance(found[0], list):
        found = [part for parts in found for part in parts]
    return found
