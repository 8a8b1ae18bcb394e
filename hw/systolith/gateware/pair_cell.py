"""Two int8 x int8 products in one wide multiplier.

Two weights that meet the same activation share an operand: `(high << S) + low`. Its product with
the activation has `low * x` in its S lower bits and `high * x` above them, less one if the lower
product is negative. Such words may be added up: as long as the lower sum stays within
`-2**(S-1) < sum <= 2**(S-1)`, :func:`unpack` finds both sums. int8 products lie in
-16256..16384, so `2**(S-15)` of them may be added, whatever their operands are. That the largest
sum is included, which a two's complement field has no room for, is what all-minimum operands need.
"""

from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .systolic import WEIGHT


@dataclass(frozen=True)
class PairFormat:
    """Where the two products lie.

    Parameters
    ----------
    shift : int
        Bits of the lower field (S).
    """

    shift: int

    @property
    def depth(self):
        """Words that may be added up before they are unpacked."""
        return 1 << (self.shift - 15)

    @property
    def operand(self):
        """Shape of two weights: 9 bits above the lower field."""
        return signed(self.shift + 9)

    @property
    def total(self):
        """Shape of a sum of `depth` words, of which the largest is 2**(2S-1) + 2**(S-1)."""
        return signed(2 * self.shift + 1)


PAIR_FORMATS = {
    # 25 x 18 bits, DSP48E1. A lower field of 17 bits, for sums of four, would fit all pairs but
    # those with a higher weight of -128 and a negative lower one.
    "pair25": PairFormat(shift=16),
    # 27 x 18 bits, DSP48E2.
    "pair27": PairFormat(shift=18),
}
"""Formats by name of the choice (`AcceleratorConfig.multiplier`)."""


def pack(fmt, high, low):
    """Return the operand of two int8 weights: a subtraction of 9 bits, no full adder."""
    upper = Cat(high, high[-1]).as_signed() - low[-1]
    return Cat(low, low[-1].replicate(fmt.shift - len(low)), upper[:9]).as_signed()


def unpack(fmt, word):
    """Return both sums of a word: upper field, borrow of one bit that belongs to it, lower sum."""
    field = word[: fmt.shift]
    borrow = field[-1] & field[:-1].any()
    return word[fmt.shift :].as_signed(), borrow, Cat(field, borrow).as_signed()


def add_with_carry(a, b, carry):
    """Return `a + b + carry` of two signed values and a bit, in one adder."""
    return (Cat(Const(1, 1), a).as_signed() + Cat(carry, b).as_signed()) >> 1


class PairCell(wiring.Component):
    """Multiply two weights by one activation and add both products to the word from above.

    Timing: operands are registered, as are the products and the sum: 3 cycles from `high`, `low`
    and `x` to `total`, 1 from `above`; no backpressure.

    Parameters
    ----------
    fmt : PairFormat
        Where the products lie.
    chained : bool
        Whether there is a word from above; otherwise it counts as zero.

    Members
    -------
    high, low, x : ``In(signed(8))``
        Weights and activation.
    above : ``In(fmt.total)``
        Word of the cell above.
    total : ``Out(fmt.total)``
        Sum of words.
    """

    def __init__(self, fmt, *, chained):
        self._fmt, self._chained = fmt, chained
        super().__init__(
            {
                "high": In(WEIGHT),
                "low": In(WEIGHT),
                "x": In(WEIGHT),
                "above": In(fmt.total),
                "total": Out(fmt.total),
            }
        )

    @property
    def fmt(self):
        return self._fmt

    @property
    def chained(self):
        return self._chained

    def elaborate(self, platform):
        m = Module()
        # Registers that a DSP block has itself: no reset, and nothing else reads them.
        weights = Signal(self.fmt.operand, reset_less=True)
        x = Signal(WEIGHT, reset_less=True)
        products = Signal(self.fmt.operand.width + WEIGHT.width, reset_less=True)
        total = Signal(self.fmt.total, reset_less=True)
        m.d.sync += [
            weights.eq(pack(self.fmt, self.high, self.low)),
            x.eq(self.x),
            products.eq(weights * x),
            total.eq(self.above + products.as_signed() if self.chained else products.as_signed()),
        ]
        m.d.comb += self.total.eq(total)
        return m


class PairSum(wiring.Component):
    """Add the two sums of a word to those of the words before it.

    Timing: 1 cycle from `word` and `before_*` to `high` and `low`; no backpressure.

    Parameters
    ----------
    fmt : PairFormat
        Where the sums lie.
    shape : Shape
        Shape of the results, which must hold them.
    chained : bool
        Whether there are sums before; otherwise they count as zero.

    Members
    -------
    word : ``In(fmt.total)``
        Sum of at most `fmt.depth` products.
    before_high, before_low : ``In(shape)``
        Sums so far.
    high, low : ``Out(shape)``
        Sums.
    """

    def __init__(self, fmt, shape, *, chained):
        self._fmt, self._shape, self._chained = fmt, shape, chained
        super().__init__(
            {
                "word": In(fmt.total),
                "before_high": In(shape),
                "before_low": In(shape),
                "high": Out(shape),
                "low": Out(shape),
            }
        )

    @property
    def fmt(self):
        return self._fmt

    @property
    def shape(self):
        return self._shape

    @property
    def chained(self):
        return self._chained

    def elaborate(self, platform):
        m = Module()
        upper, borrow, lower = unpack(self.fmt, self.word)
        high, low = (Signal(self.shape, reset_less=True) for _ in range(2))
        if self.chained:
            m.d.sync += [
                high.eq(add_with_carry(self.before_high, upper, borrow)),
                low.eq(self.before_low + lower),
            ]
        else:
            m.d.sync += [high.eq(upper + borrow), low.eq(lower)]
        m.d.comb += [self.high.eq(high), self.low.eq(low)]
        return m
