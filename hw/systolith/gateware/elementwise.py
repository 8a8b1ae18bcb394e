"""Elementwise lane: two int8 values of different scales to one."""

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from systolith.arch import isa
from systolith.arch.isa import Rounding

from .rescale import SHIFT_BITS, Rescaler
from .words import body_layout

SETTINGS = body_layout(isa.Elementwise)
"""The fields of an `ELEMENTWISE` instruction."""

_ROUNDING_PLACE = 30
"""Bit of the doubled product's low half that decides how it is rounded."""


class Elementwise(wiring.Component):
    """Add two int8 values of different scales.

    Implements :func:`systolith.arch.numerics.add`. As the operands have 9 bits with their zero
    point taken off, the headroom shift is applied to the 41-bit product, where it is a smaller
    shift to the right.

    Timing: latency 11 cycles; one pair per cycle; no stalls. `settings` must be constant while
    operands are inside.

    Members
    -------
    a, b : ``In(signed(8))``
    settings : ``In(SETTINGS)``
        `left_shift` is 0..20, `a_shift`, `b_shift` and `out_shift` are -31..0.
    result : ``Out(signed(8))``
    """

    _operand_latency = 6
    latency = _operand_latency + Rescaler.latency

    def __init__(self):
        super().__init__(
            {
                "a": In(signed(8)),
                "b": In(signed(8)),
                "settings": In(SETTINGS),
                "result": Out(signed(8)),
            }
        )

    def elaborate(self, platform):
        m = Module()
        m.submodules.rescaler = rescaler = Rescaler()
        settings = self.settings
        half_a = self._scale_operand(m, "a", self.a)
        half_b = self._scale_operand(m, "b", self.b)
        total = Signal(signed(32), reset_less=True)
        m.d.sync += total.eq((((half_a + 1) >> 1) + ((half_b + 1) >> 1))[:32])
        m.d.comb += [
            rescaler.value.eq(total),
            rescaler.multiplier.eq(settings.out_multiplier),
            rescaler.shift.eq(settings.out_shift),
            rescaler.rounding.eq(Rounding.DOUBLE),
            rescaler.zero_point.eq(settings.out_zero),
            rescaler.low.eq(settings.low),
            rescaler.high.eq(settings.high),
            self.result.eq(rescaler.result),
        ]
        return m

    def _scale_operand(self, m, name, operand):
        """Five stages; return twice the scaled operand, to be rounded half up."""
        zero, multiplier, exponent = (
            self.settings[f"{name}_{field}"] for field in ("zero", "multiplier", "shift")
        )
        centered = Signal(signed(9), name=f"{name}_centered", reset_less=True)
        product = Signal(signed(41), name=f"{name}_product", reset_less=True)
        doubled = Signal(signed(32), name=f"{name}_doubled", reset_less=True)
        high = Signal(signed(32), name=f"{name}_high", reset_less=True)
        scaled = Signal(signed(33), name=f"{name}_scaled", reset_less=True)
        down = Signal(5, name=f"{name}_down")
        right = Signal(SHIFT_BITS - 1, name=f"{name}_right")
        # Ties go away from zero, so a negative value is one less before it is shifted right.
        lower = (exponent != 0) & doubled[-1] & ~doubled.all()
        m.d.comb += [down.eq(_ROUNDING_PLACE - self.settings.left_shift), right.eq(-exponent)]
        m.d.sync += [
            centered.eq(operand - zero),
            product.eq(centered * multiplier),
            doubled.eq(product >> down),
            high.eq((doubled + Mux(lower, -1, 1)) >> 1),
            scaled.eq((high << 1) >> right),
        ]
        return scaled
