"""Requantizer lane: int32 sums to int8 values."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from systolith.arch.isa import Rounding

from .rescale import ROUNDING_BITS, SHIFT_BITS, Rescaler


class Requantizer(wiring.Component):
    """Sum up int32 values on a bias, and bring the sum to the scale of the output.

    Computes `clamp(requantize(bias + sums) + zero_point, low, high)` by
    :func:`systolith.arch.numerics.requantize` with rounding DOUBLE, SINGLE or AVERAGE; additions
    wrap to int32. Every `sum` belongs to a group that starts with `start`; the result of a group is
    the one behind its last sum (the results behind the others are those of partial sums).

    Timing: latency 7 cycles from the last sum of a group; one sum per cycle; no stalls. `rounding`,
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
        Binary exponent, -31..30, positive is left; ignored by AVERAGE.
    rounding : ``In(2)``
    zero_point, low, high : ``In(signed(8))``
    value : ``Out(signed(8))``
    """

    latency = 2 + Rescaler.latency

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

        lifts = (self.rounding == Rounding.DOUBLE) & ~shift[-1]
        left = Signal(SHIFT_BITS - 1)
        m.d.comb += left.eq(Mux(lifts, shift[:-1], 0))
        shifted = Signal(signed(32), reset_less=True)
        shifted_multiplier = Signal(signed(32), reset_less=True)
        shifted_shift = Signal.like(self.shift, reset_less=True)
        m.d.sync += [
            shifted.eq((total << left)[:32]),
            shifted_multiplier.eq(multiplier),
            shifted_shift.eq(shift),
        ]

        m.d.comb += [
            rescaler.value.eq(shifted),
            rescaler.multiplier.eq(shifted_multiplier),
            rescaler.shift.eq(shifted_shift),
            rescaler.rounding.eq(self.rounding),
            rescaler.zero_point.eq(self.zero_point),
            rescaler.low.eq(self.low),
            rescaler.high.eq(self.high),
            self.value.eq(rescaler.result),
        ]
        return m
