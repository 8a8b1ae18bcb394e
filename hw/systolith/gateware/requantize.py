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

_COARSE_PLACES, _FINE_PLACES = (4, 3, 2), (1, 0)
"""Places of the shift to the left in its two stages."""


class Requantizer(wiring.Component):
    """Sum up int32 values on a bias, and bring the sum to the scale of the output.

    Computes `clamp(requantize(bias + sums) + zero_point, low, high)` by
    :func:`systolith.arch.numerics.requantize`; additions wrap to int32. Every `sum` belongs to a group that starts with `start`; the result of a group is
    the one behind its last sum (the results behind the others are those of partial sums).

    Timing: latency 8 cycles from the last sum of a group; one sum per cycle; no stalls. `rounding`,
    `zero_point`, `low` and `high` must be constant while sums are inside; the others belong to
    the sum beside them.

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

    latency = 3 + Rescaler.latency

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
        multiplier = Signal(signed(32), reset_less=True)
        shift = Signal.like(self.shift, reset_less=True)
        with m.If(self.valid):
            m.d.sync += total.eq(Mux(self.start, self.bias, total) + self.sum)
        m.d.sync += [
            multiplier.eq(self.multiplier),
            shift.eq(self.shift),
        ]
        value, multiplier, shift = self._scale_up(m, total, multiplier, shift)
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

    def _scale_up(self, m, total, multiplier, shift):
        """Two stages: what DOUBLE and FLOAT32 do to the operands of the multiplication."""
        float32 = self.rounding == Rounding.FLOAT32
        coarse = Signal(signed(32), reset_less=True)
        coarse_count = Signal(len(_COARSE_PLACES), reset_less=True)
        coarse_multiplier = Signal.like(multiplier, reset_less=True)
        coarse_shift = Signal.like(shift, reset_less=True)
        shifted, count = self._shift_left(m, total, shift, _COARSE_PLACES)
        m.d.sync += [
            coarse.eq(shifted),
            coarse_count.eq(count),
            coarse_multiplier.eq(multiplier),
            coarse_shift.eq(shift),
        ]

        fine, fine_count = self._shift_left(m, coarse, coarse_shift, _FINE_PLACES)
        significand = fine[_DROPPED:].as_signed()
        rest = fine[: _DROPPED - 1].any()
        rounded = significand + (fine[_DROPPED - 1] & (rest | significand[0]))
        factor = Cat(C(0, _MULTIPLIER_ZEROS), coarse_multiplier[:FRACTION_BITS], C(1, 1))
        right = Signal(signed(10))
        exponent = coarse_multiplier[FRACTION_BITS:].as_signed()
        m.d.comb += right.eq(_RIGHT + Cat(fine_count, coarse_count) - exponent)
        limited = Mux(right < _RIGHT_MIN, _RIGHT_MIN, Mux(right > _RIGHT_MAX, _RIGHT_MAX, right))
        value = Signal(signed(32), reset_less=True)
        scale = Signal(signed(32), reset_less=True)
        power = Signal.like(shift, reset_less=True)
        m.d.sync += [
            value.eq(Mux(float32, Cat(C(0, _VALUE_ZEROS), rounded), fine)),
            scale.eq(Mux(float32, factor, coarse_multiplier)),
            power.eq(Mux(float32, 31 - limited, coarse_shift)),
        ]
        return value, scale, power

    def _shift_left(self, m, value, shift, places):
        """Shift left by 2^place for some places, all of them below the one of the stage before.

        DOUBLE shifts by the exponent, FLOAT32 until the highest bit is none but the sign: a power
        of two below zero once more than its magnitude asks for, which rounds nothing. Return the
        shifted value and which of the places were taken, lowest first.
        """
        float32 = self.rounding == Rounding.FLOAT32
        lifts = (self.rounding == Rounding.DOUBLE) & ~shift[-1]
        taken = []
        for place in places:
            size = 1 << place
            top = value[-1 - size :]
            take = Signal(name=f"take{size}")
            shifted = Signal(signed(32), name=f"shifted{size}")
            m.d.comb += [
                take.eq(Mux(float32, top.all() | ~top.any(), lifts & shift[place])),
                shifted.eq(Mux(take, value << size, value)),
            ]
            taken.insert(0, take)
            value = shifted
        return value, Cat(taken)
