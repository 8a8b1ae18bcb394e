"""The fixed-point multiplication that requantizer and elementwise lane share."""

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from systolith.arch.isa import Rounding

from .mult18x18d import registered_product

ROUNDING_BITS = 2
SHIFT_BITS = 6
"""Bits of a binary exponent: -31..30."""

_NARROW_BITS = 11
"""Twice the result and its rounding bit, saturated: beyond 9 bits the clamp to int8 decides alone."""

_FINE_BITS = 3
"""Bits of the shift that are left to the second of its two stages."""


class Rescaler(wiring.Component):
    """Multiply by `multiplier * 2^(shift - 31)`, round, add a zero point, clamp to int8.

    Implements :func:`systolith.arch.numerics.requantize` without the left shift of DOUBLE, which is
    done before, and the clamp. With p the 64-bit product and h its half-up rounded bits from 31 on,

    - DOUBLE is h shifted right by -shift, rounded with ties away from zero;
    - SINGLE is p shifted right by 31 - shift, rounded with ties away from zero;
    - AVERAGE is p shifted right by 31, ties going up if the operand is positive and else down;
    - FLOAT32 is p rounded to 24 significant bits, then shifted right by 31 - shift, both with ties to
      even. Of a p that is not zero bit 54 or 55 must be the highest (of -p, if p is negative).

    "x >> n, half up" is `((x >> (n - 1)) + 1) >> 1`; a tie goes down if one is taken from x before,
    and to even if the one is not added to ties that would become odd. Neither saturation of the
    source can be seen behind a clamp to int8: 2^31 and 2^31 - 1 give the same result for every
    shift.

    Timing: latency 7 cycles; one operand per cycle; no stalls. `rounding`, `half_even`,
    `zero_point`, `low` and `high` must be constant while operands are inside.

    Members
    -------
    value, multiplier : ``In(signed(32))``
        Operands; registered by the surroundings.
    shift : ``In(signed(6))``
        Binary exponent, -31..30; positive ones count for SINGLE only. FLOAT32 also takes -32.
    rounding : ``In(2)``
        One of :class:`systolith.arch.isa.Rounding`.
    half_even : ``In(1)``
        With SINGLE, ties go to the even *result*, zero point included, instead of away from zero.
    zero_point, low, high : ``In(signed(8))``
        Added to the rounded product; limits of the sum, the upper one wins.
    result : ``Out(signed(8))``
    """

    latency = 7

    def __init__(self):
        super().__init__(
            {
                "value": In(signed(32)),
                "multiplier": In(signed(32)),
                "shift": In(signed(SHIFT_BITS)),
                "rounding": In(ROUNDING_BITS),
                "half_even": In(1),
                "zero_point": In(signed(8)),
                "low": In(signed(8)),
                "high": In(signed(8)),
                "result": Out(signed(8)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        product, shift, negative = self._multiply(m, platform)
        scaled, amount = self._round_product(m, product, shift, negative)
        narrow, rest = self._shift(m, scaled, amount)
        to_even = self.half_even | (self.rounding == Rounding.FLOAT32)
        odd = narrow[1] ^ (self.half_even & self.zero_point[0])
        # Half up or half to even, and the zero point, in one addition.
        total = (narrow >> 1) + (narrow[0] & (~to_even | rest | odd)) + self.zero_point
        # Both limits at once; the upper one also wins over a lower one above it.
        below = total < self.low
        above = (total > self.high) | (below & (self.low > self.high))
        m.d.sync += self.result.eq(Mux(above, self.high, Mux(below, self.low, total)))
        return m

    def _multiply(self, m, platform):
        """Two stages: four 16-bit products, which any DSP block has, and their sum."""
        value_low, value_high = self.value[:16], self.value[16:].as_signed()
        factor_low, factor_high = self.multiplier[:16], self.multiplier[16:].as_signed()
        outer = Signal(signed(64), reset_less=True)
        inner_a = Signal(signed(33), reset_less=True)
        inner_b = Signal(signed(33), reset_less=True)
        product = Signal(signed(64), reset_less=True)
        shifts = [Signal.like(self.shift, name=f"shift{n}", reset_less=True) for n in range(2)]
        negatives = [Signal(name=f"negative{n}", reset_less=True) for n in range(2)]
        domain, times = registered_product(m, platform)
        m.d[domain] += [
            outer.eq(Cat(times(value_low, factor_low), times(value_high, factor_high)[:32])),
            inner_a.eq(times(value_low, factor_high)),
            inner_b.eq(times(value_high, factor_low)),
        ]
        m.d.sync += [
            product.eq(outer + ((inner_a + inner_b) << 16)),
            shifts[0].eq(self.shift),
            shifts[1].eq(shifts[0]),
            negatives[0].eq(self.value < 0),
            negatives[1].eq(negatives[0]),
        ]
        return product, shifts[1], negatives[1]

    def _round_product(self, m, product, shift, negative):
        """Two stages: what happens before the shift, and the amount left to shift."""
        double, float32, average = Signal(), Signal(), Signal()
        m.d.sync += [
            double.eq(self.rounding == Rounding.DOUBLE),
            float32.eq(self.rounding == Rounding.FLOAT32),
            average.eq(self.rounding == Rounding.AVERAGE),
        ]
        right = shift[-1]
        # DOUBLE rounds bits 31 and up; that result is negative unless it is rounded up to zero.
        below_zero = product[-1] & ~product[30:63].all()
        increment = Signal(signed(2))
        m.d.comb += increment.eq(product[30] - (right & below_zero))
        # The next two take one from the whole product, AVERAGE by the sign of its operand.
        decrement = Mux(average, negative, product[-1] & ~self.half_even)
        # FLOAT32 keeps 24 bits from the highest one on: bits 31 and up, or 32 and up.
        high = product[55] ^ product[-1]
        up = Mux(
            high,
            product[31] & (product[:31].any() | product[32]),
            product[30] & (product[:30].any() | product[31]),
        )
        adjustment = Signal(signed(34), reset_less=True)
        with m.If(double):
            m.d.sync += adjustment.eq(Cat(C(0, 31), increment).as_signed())
        with m.Elif(float32):
            m.d.sync += adjustment.eq(Cat(C(0, 31), up & ~high, up & high, C(0, 1)))
        with m.Else():
            m.d.sync += adjustment.eq(-decrement)
        unrounded = Signal(signed(64), reset_less=True)
        scaled = Signal(signed(64), reset_less=True)
        amounts = [Signal(SHIFT_BITS, name=f"amount{n}", reset_less=True) for n in range(2)]
        exponent = Mux((double & ~right) | average, 0, shift)
        kept = Cat(
            product[:31] & (~(double | float32)).replicate(31),
            product[31] & ~(float32 & high),
            product[32:],
        )
        m.d.sync += [
            unrounded.eq(kept.as_signed()),
            scaled.eq(unrounded + adjustment),
            amounts[0].eq(30 - exponent),
            amounts[1].eq(amounts[0]),
        ]
        return scaled, amounts

    def _shift(self, m, scaled, amounts):
        """Two stages: shift right in a coarse and a fine step, saturating.

        `amounts` are the amount one cycle before `scaled`, and together with it. Return twice the
        shifted value, and whether ones were shifted out.
        """
        step = 1 << _FINE_BITS
        keep = _NARROW_BITS + step - 1
        early, amount = amounts
        sign = scaled[-1]
        coarse = amount[_FINE_BITS:]
        kept = Signal(signed(keep), reset_less=True)
        beyond = Signal(reset_less=True)
        below = Signal(reset_less=True)
        negative = Signal(reset_less=True)
        fine = Signal(_FINE_BITS, reset_less=True)
        magnitude = scaled.as_unsigned() ^ sign.replicate(len(scaled))
        m.d.sync += [
            kept.eq(scaled >> Cat(C(0, _FINE_BITS), coarse)),
            beyond.eq(self._any_beyond(m, magnitude, keep - 1, early)),
            below.eq(self._any_below(m, scaled, early)),
            negative.eq(sign),
            fine.eq(amount[:_FINE_BITS]),
        ]
        shifted = Signal(signed(keep))
        narrow = Signal(signed(_NARROW_BITS), reset_less=True)
        rest = Signal(reset_less=True)
        # Whether what is shifted fits, for each shift, so that it need not wait for the shifter.
        wide = Array(
            top.any() & ~top.all() for top in (kept[_NARROW_BITS - 1 + n :] for n in range(step))
        )
        saturated = Cat((~negative).replicate(_NARROW_BITS - 1), negative)
        # One bit for each of the lowest ones that the fine step shifts out.
        out = Cat(fine > place for place in range(step - 1))
        m.d.comb += shifted.eq(kept >> fine)
        m.d.sync += [
            narrow.eq(Mux(beyond | wide[fine], saturated, shifted[:_NARROW_BITS])),
            rest.eq(below | (kept[: step - 1].as_unsigned() & out).any()),
        ]
        return narrow, rest

    def _any_below(self, m, scaled, early):
        """Return whether the coarse shift, known a cycle before, shifts ones out."""
        step = 1 << _FINE_BITS
        groups = (1 << (SHIFT_BITS - _FINE_BITS)) - 1
        out = Signal(groups, reset_less=True)
        m.d.sync += out.eq(Cat(index < early[_FINE_BITS:] for index in range(groups)))
        ones = Cat(scaled[index * step : (index + 1) * step].any() for index in range(groups))
        return (ones & out).any()

    def _any_beyond(self, m, magnitude, width, early):
        """Return whether the coarse shift, known a cycle before, leaves bits from `width` on.

        Cheaper than to shift them all and to look.
        """
        step = 1 << _FINE_BITS
        starts = range(width, len(magnitude), step)
        left = Signal(len(starts), reset_less=True)
        m.d.sync += left.eq(Cat(index >= early[_FINE_BITS:] for index in range(len(starts))))
        ones = Cat(magnitude[start : start + step].any() for start in starts)
        return (ones & left).any()
