"""Elementwise lane: two int8 values of different scales to one."""

from amaranth.hdl import Cat, Module, Mux, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from systolith.arch import isa
from systolith.arch.isa import ElementwiseOp, Rounding

from .delay import delayed
from .mult18x18d import registered_product
from .rescale import SHIFT_BITS, Rescaler
from .words import body_layout

SETTINGS = body_layout(isa.Elementwise)
"""The fields of an `ELEMENTWISE` instruction."""

_ROUNDING_PLACE = 30
"""Bit of the doubled product's low half that decides how it is rounded."""

_SCALING_LATENCY, _NARROW_LATENCY = 3, 2
"""Stages behind the multiplication, of `ADD` and of the others."""

_OPERAND_LATENCY = 6
"""Stages in front of the rescaler, without the one that is added if `deep`."""

_HALF_BITS = 16
"""Bits of a factor's lower half, which any multiplier of 18 bits takes."""

_SHORT_BITS = 9
"""Lowest bits that a sum may give up: those above and the sign are 32."""

_LARGEST_SHORTENING = 29 - _SHORT_BITS
"""Largest exponent at which the bit that decides the rounding is above those given up."""


class Elementwise(wiring.Component):
    """Add or multiply two int8 values of different scales.

    Implements :func:`systolith.arch.numerics.add` and `mul`, :func:`systolith.arch.float32.add` and
    `mul`. As the operands have 9 bits with their zero point taken off, the headroom shift is
    applied to the 41-bit product, where it is a smaller shift to the right.

    Timing: latency 13 cycles, 14 if `deep`; one pair per cycle; no stalls. `settings` must be
    constant while operands are inside.

    Parameters
    ----------
    deep : bool
        Whether the products of the first multiplication are added a cycle later.

    Members
    -------
    a, b : ``In(signed(8))``
    settings : ``In(SETTINGS)``
        `left_shift` is 0..20, `a_shift` and `b_shift` are -31..0, `out_shift` is -31..0 for `ADD`
        and `MUL`, -31..30 for `SUM` and `PRODUCT`.
    result : ``Out(signed(8))``
    """

    def __init__(self, *, deep=False):
        self._deep = deep
        super().__init__(
            {
                "a": In(signed(8)),
                "b": In(signed(8)),
                "settings": In(SETTINGS),
                "result": Out(signed(8)),
            }
        )

    @property
    def deep(self):
        return self._deep

    @property
    def latency(self):
        """Cycles from `a` and `b` to `result`."""
        return _OPERAND_LATENCY + self.deep + Rescaler.latency

    def elaborate(self, platform):
        m = Module()
        times = registered_product(m, platform)
        m.submodules.rescaler = rescaler = Rescaler()
        settings = self.settings
        multiplies = settings.op.matches(ElementwiseOp.MUL, ElementwiseOp.PRODUCT)
        adds, is_sum, once = Signal(), Signal(), Signal()
        m.d.sync += [
            adds.eq(settings.op == ElementwiseOp.ADD),
            is_sum.eq(settings.op == ElementwiseOp.SUM),
            once.eq(settings.op.matches(ElementwiseOp.SUM, ElementwiseOp.PRODUCT)),
        ]
        centered_b = self.b - settings.b_zero
        product_a = self._multiply(
            m,
            times,
            "a",
            self.a - settings.a_zero,
            Mux(multiplies, centered_b, settings.a_multiplier),
        )
        product_b = self._multiply(
            m, times, "b", centered_b, Mux(multiplies, 0, settings.b_multiplier)
        )
        half_a = self._scale_operand(m, "a", product_a)
        half_b = self._scale_operand(m, "b", product_b)
        narrow, exponent = self._narrow(m, product_a, product_b)
        exact = delayed(m, narrow, _SCALING_LATENCY - _NARROW_LATENCY, name="exact").as_signed()
        scaled = (((half_a + 1) >> 1) + ((half_b + 1) >> 1))[:32]
        total = Signal(signed(32), reset_less=True)
        m.d.sync += total.eq(Mux(adds, scaled, exact))
        m.d.comb += [
            rescaler.value.eq(total),
            rescaler.multiplier.eq(Mux(is_sum, 1, settings.out_multiplier)),
            rescaler.shift.eq(Mux(is_sum, exponent, settings.out_shift)),
            rescaler.rounding.eq(Mux(once, Rounding.SINGLE, Rounding.DOUBLE)),
            rescaler.half_even.eq(once),
            rescaler.zero_point.eq(settings.out_zero),
            rescaler.low.eq(settings.low),
            rescaler.high.eq(settings.high),
            self.result.eq(rescaler.result),
        ]
        return m

    def _multiply(self, m, product_of, name, operand, factor):
        """Two stages, or three: take the zero point off, then multiply 9 bits with 32."""
        centered = Signal(signed(9), name=f"{name}_centered", reset_less=True)
        held = Signal(factor.shape(), name=f"{name}_factor", reset_less=True)
        product = Signal(signed(41), name=f"{name}_product", reset_less=True)
        m.d.sync += [centered.eq(operand), held.eq(factor)]
        if not self.deep:
            m.d.sync += product.eq(centered * held)
            return product
        low = Signal(signed(9 + _HALF_BITS + 1), name=f"{name}_low", reset_less=True)
        high = Signal(signed(41 - _HALF_BITS), name=f"{name}_high_half", reset_less=True)
        domain, times = product_of
        m.d[domain] += [
            low.eq(times(centered, held[:_HALF_BITS])),
            high.eq(times(centered, held[_HALF_BITS:].as_signed())),
        ]
        m.d.sync += product.eq(low + (high << _HALF_BITS))
        return product

    def _scale_operand(self, m, name, product):
        """Three stages; return twice the scaled operand, to be rounded half up."""
        exponent = self.settings[f"{name}_shift"]
        doubled = Signal(signed(32), name=f"{name}_doubled", reset_less=True)
        high = Signal(signed(32), name=f"{name}_high", reset_less=True)
        scaled = Signal(signed(33), name=f"{name}_scaled", reset_less=True)
        down = Signal(5, name=f"{name}_down")
        right = Signal(SHIFT_BITS - 1, name=f"{name}_right")
        # Ties go away from zero, so a negative value is one less before it is shifted right.
        lower = (exponent != 0) & doubled[-1] & ~doubled.all()
        m.d.sync += [
            # Settings are constant by now: what is made of them may be late.
            down.eq(_ROUNDING_PLACE - self.settings.left_shift),
            right.eq(-exponent),
            doubled.eq(product >> down),
            high.eq((doubled + Mux(lower, -1, 1)) >> 1),
            scaled.eq((high << 1) >> right),
        ]
        return scaled

    def _narrow(self, m, product_a, product_b):
        """Two stages: the sum of the products in 32 bits that are rounded and clamped like it.

        Return the sum and the exponent that goes with it. A sum that is shifted far enough gives up
        its lowest bits but for whether one of them is set. Others are saturated: that is far beyond
        int8.
        """
        total = Signal(signed(42), reset_less=True)
        narrow = Signal(signed(32), reset_less=True)
        settings = self.settings
        shortens = Signal()
        exponent = Signal(signed(SHIFT_BITS))
        shortening = (settings.op == ElementwiseOp.SUM) & (
            settings.out_shift <= _LARGEST_SHORTENING
        )
        top = total[31:]
        saturated = Cat((~total[-1]).replicate(31), total[-1])
        kept = Cat(total[:_SHORT_BITS].any() | total[_SHORT_BITS], total[_SHORT_BITS + 1 :])
        m.d.sync += [
            shortens.eq(shortening),
            exponent.eq(settings.out_shift + Mux(shortening, _SHORT_BITS, 0)),
            total.eq(product_a + product_b),
            narrow.eq(
                Mux(shortens, kept, Mux(top.any() & ~top.all(), saturated, total[:32])).as_signed()
            ),
        ]
        return narrow, exponent
