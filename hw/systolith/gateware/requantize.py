"""Requantizer lane: int32 sums to int8 values."""

from amaranth.hdl import C, Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from systolith.arch.float32 import EXPONENT_BIAS, FRACTION_BITS, SIGNIFICAND_BITS
from systolith.arch.isa import Rounding

from .rescale import ROUNDING_BITS, SHIFT_BITS, Rescaler

_DROPPED = 31 - SIGNIFICAND_BITS
"""Bits of a sum's 31 without sign that do not fit a float32's significand."""

# With value S * 2^6 and multiplier M * 2^2 for significands S and M, the product has its highest
# bit where the rescaler wants it. With the sum normalized by `count` and the factor's exponent
# field E, it is to be shifted right by 151 + count - E.
_VALUE_ZEROS, _MULTIPLIER_ZEROS = _DROPPED - 1, 2
_RIGHT = EXPONENT_BIAS + FRACTION_BITS - _DROPPED + _VALUE_ZEROS + _MULTIPLIER_ZEROS
_RIGHT_MIN, _RIGHT_MAX = 32, 63
"""Shifts to the right below give results beyond int8, shifts above give zero."""

_FINE_BITS = 2
"""Bits of the shift to the left that are left to the second of its two stages."""

_GROUP = 1 << _FINE_BITS


class Requantizer(wiring.Component):
    """Sum up int32 values on a bias, and bring the sum to the scale of the output.

    Computes `clamp(requantize(bias + sums) + zero_point, low, high)` by
    :func:`systolith.arch.numerics.requantize`; additions wrap to int32. Every `sum` belongs to a group that starts with `start`; the result of a group is
    the one behind its last sum (the results behind the others are those of partial sums).

    Timing: latency 11 cycles from the last sum of a group; one sum per cycle; no stalls. `rounding`,
    `zero_point`, `low` and `high` must be constant while sums are inside, `rounding` from the cycle
    before the first one on; the others belong to the sum beside them.

    Members
    -------
    valid : ``In(1)``
        There is a sum in this cycle.
    sum : ``In(signed(32))``
    start : ``In(1)``
        This sum is the first of its group, and added to `bias`.
    bias, multiplier : ``In(signed(32))``
    shift : ``In(signed(6))``
        Binary exponent, -31..30, positive is left; ignored by AVERAGE and FLOAT32.
    rounding : ``In(2)``
    zero_point, low, high : ``In(signed(8))``
    value : ``Out(signed(8))``
    """

    latency = 4 + Rescaler.latency

    def __init__(self):
        super().__init__(
            {
                "valid": In(1),
                "sum": In(signed(32)),
                "start": In(1),
                "bias": In(signed(32)),
                "multiplier": In(signed(32)),
                "shift": In(signed(SHIFT_BITS)),
                "rounding": In(ROUNDING_BITS),
                "zero_point": In(signed(8)),
                "low": In(signed(8)),
                "high": In(signed(8)),
                "value": Out(signed(8)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.rescaler = rescaler = Rescaler()
        total = Signal(signed(32), reset_less=True)
        new = Signal(signed(32))
        groups = self._repeating_groups(new)
        same = Signal(len(groups), reset_less=True)
        multiplier = Signal(signed(32), reset_less=True)
        shift = Signal.like(self.shift, reset_less=True)
        float32 = Signal()
        double = Signal()
        m.d.sync += [
            float32.eq(self.rounding == Rounding.FLOAT32),
            double.eq(self.rounding == Rounding.DOUBLE),
        ]
        # DOUBLE shifts by the exponent, FLOAT32 until the highest bit is none but the sign: a
        # power of two below zero once more than its magnitude asks for, which rounds nothing.
        # The others shift by nothing: no group of theirs repeats the sign, and `lifted` is zero.
        coarse_bits = self.shift[_FINE_BITS : SHIFT_BITS - 1]
        lifted = Signal(len(coarse_bits), reset_less=True)
        m.d.comb += new.eq(Mux(self.start, self.bias, total) + self.sum)
        with m.If(self.valid):
            m.d.sync += [
                total.eq(new),
                same.eq(Cat(groups) & float32.replicate(len(groups))),
            ]
        m.d.sync += [
            multiplier.eq(self.multiplier),
            shift.eq(self.shift),
            lifted.eq(Mux(double & ~self.shift[-1], coarse_bits, 0)),
        ]
        count = self._leading_groups(same) | lifted
        value, multiplier, shift = self._scale_up(
            m, total, count, multiplier, shift, float32=float32, double=double
        )
        m.d.comb += [
            rescaler.value.eq(value),
            rescaler.multiplier.eq(multiplier),
            rescaler.shift.eq(shift),
            rescaler.rounding.eq(self.rounding),
            rescaler.zero_point.eq(self.zero_point),
            rescaler.low.eq(self.low),
            rescaler.high.eq(self.high),
            self.value.eq(rescaler.result),
        ]
        return m

    def _scale_up(self, m, total, coarse_count, multiplier, shift, *, float32, double):
        """Three stages: what DOUBLE and FLOAT32 do to the operands of the multiplication."""
        coarse = Signal(signed(32), reset_less=True)
        coarse_shift = Signal.like(shift, reset_less=True)
        counts = [Signal.like(coarse_count, name=f"count{n}", reset_less=True) for n in range(2)]
        multipliers = [
            Signal.like(multiplier, name=f"multiplier{n}", reset_less=True) for n in range(2)
        ]
        m.d.sync += [
            coarse.eq(total << Cat(C(0, _FINE_BITS), coarse_count)),
            coarse_shift.eq(shift),
            counts[0].eq(coarse_count),
            multipliers[0].eq(multiplier),
        ]

        lifted = Mux(double & ~coarse_shift[-1], coarse_shift[:_FINE_BITS], 0)
        fine_count = Mux(float32, self._leading_bits(coarse), lifted)
        fine = Signal(signed(32), reset_less=True)
        fine_shift = Signal.like(shift, reset_less=True)
        count = Signal.like(fine_count, reset_less=True)
        m.d.sync += [
            fine.eq(coarse << fine_count),
            fine_shift.eq(coarse_shift),
            count.eq(fine_count),
            counts[1].eq(counts[0]),
            multipliers[1].eq(multipliers[0]),
        ]
        return self._round_operand(
            m, float32, fine, Cat(count, counts[1]), multipliers[1], fine_shift
        )

    def _repeating_groups(self, value):
        """Return for each group of bits below the sign, but for the lowest, whether it repeats it."""
        repeats = ~(value[:-1] ^ value[-1].replicate(31))
        top = len(repeats)
        return [
            repeats[top - (index + 1) * _GROUP : top - index * _GROUP].all()
            for index in range((1 << (SHIFT_BITS - 1 - _FINE_BITS)) - 1)
        ]

    def _leading_groups(self, same):
        """Return how many groups of bits below the sign repeat it, before one that does not."""

        def leading(a, b, c):
            return Cat(a & (~b | c), a & b)

        first, second = leading(*same[0:3]), leading(*same[4:7])
        upper = Cat(same[:4]).all()
        return Cat(Mux(upper, second, first), upper)

    def _leading_bits(self, value):
        """Return how many bits below the sign repeat it, up to three."""
        a, b, c = (value[-1] == value[-2 - place] for place in range(_GROUP - 1))
        both = a & b
        return Cat(Mux(both, c, a), both)

    def _round_operand(self, m, float32, fine, count, multiplier, shift):
        """One stage: FLOAT32 rounds the sum to a significand, and takes the factor apart."""
        significand = fine[_DROPPED:].as_signed()
        rest = fine[: _DROPPED - 1].any()
        rounded = significand + (fine[_DROPPED - 1] & (rest | significand[0]))
        factor = Cat(C(0, _MULTIPLIER_ZEROS), multiplier[:FRACTION_BITS], C(1, 1))
        right = Signal(signed(10))
        m.d.comb += right.eq(_RIGHT + count - multiplier[FRACTION_BITS:].as_signed())
        limited = Mux(right < _RIGHT_MIN, _RIGHT_MIN, Mux(right > _RIGHT_MAX, _RIGHT_MAX, right))
        value = Signal(signed(32), reset_less=True)
        scale = Signal(signed(32), reset_less=True)
        power = Signal.like(shift, reset_less=True)
        m.d.sync += [
            value.eq(Mux(float32, Cat(C(0, _VALUE_ZEROS), rounded), fine)),
            scale.eq(Mux(float32, factor, multiplier)),
            power.eq(Mux(float32, 31 - limited, shift)),
        ]
        return value, scale, power
