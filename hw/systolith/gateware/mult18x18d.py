"""The multiplier of the ECP5 with its registers, and what is made of it.

Vendor block: Lattice ECP5 sysDSP, primitive MULT18X18D. Synthesis infers the multiplier, but
neither its input nor its output registers; with them, a cell's `x`, `act` and `q` take no fabric.
"""

import operator

from amaranth.hdl import ClockSignal, Const, Instance, Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from .systolic import PRODUCT, WEIGHT, SystolicArray

_OPERAND_BITS = 18
_PRODUCT_BITS = 36
_OFF, _ON = Const(0, 1), Const(1, 1)


class Mult18x18d(wiring.Component):
    """Multiply by a weight that is kept: `q <= x * act; x <= operand; if switch: act <= weight`.

    Elaborated for a platform, it is the primitive; without one, which is what simulators and
    portable Verilog get, it is its twin of plain registers. Choose it for ECP5 devices only.

    Timing: 2 cycles from `operand`, and from `weight` with `switch`, to `product`; no backpressure.

    Members
    -------
    operand, weight : ``In(signed(8))``
        Factors.
    switch : ``In(1)``
        Take the weight.
    product : ``Out(signed(16))``
        Product.
    """

    def __init__(self):
        super().__init__(
            {
                "operand": In(WEIGHT),
                "weight": In(WEIGHT),
                "switch": In(1),
                "product": Out(PRODUCT),
            }
        )

    def elaborate(self, platform):
        m = Module()
        if platform is None:
            self._elaborate_twin(m)
        else:
            m.submodules.primitive = self._primitive(m)
        return m

    def _elaborate_twin(self, m):
        x, act = (Signal(WEIGHT, name=name, reset_less=True) for name in ("x", "act"))
        product = Signal(PRODUCT, reset_less=True)
        m.d.sync += [x.eq(self.operand), product.eq(x * act)]
        with m.If(self.switch):
            m.d.sync += act.eq(self.weight)
        m.d.comb += self.product.eq(product)

    def _primitive(self, m):
        product = Signal(signed(_PRODUCT_BITS))
        m.d.comb += self.product.eq(product[: len(self.product)])
        return _instance(
            m,
            self.operand,
            self.weight,
            product,
            enable=self.switch,
            p_REG_INPUTA_CLK="CLK0",
            p_REG_INPUTA_CE="CE0",
            p_REG_INPUTB_CLK="CLK0",
            p_REG_INPUTB_CE="CE1",
        )


def _instance(m, a, b, product, *, enable=_OFF, **registers):
    """Return the primitive with its output register, clock 0, and `enable` as clock enable 1."""
    # All four multipliers of a DSP block share clocks and enables; place and route renumbers them.
    ports = {"i_CLK0": ClockSignal(), "i_CE0": _ON, "i_CE1": enable}
    unused = [f"i_CLK{n}" for n in (1, 2, 3)] + [f"i_CE{n}" for n in (2, 3)]
    # Operand C belongs to the pre-adder of a neighbor.
    unused += [f"i_C{bit}" for bit in range(_OPERAND_BITS)] + [f"i_RST{n}" for n in range(4)]
    ports |= dict.fromkeys(unused, _OFF)
    for port, value in (("A", a), ("B", b)):
        wide = Signal(signed(_OPERAND_BITS), name=f"wide_{port.lower()}")
        m.d.comb += wide.eq(value)
        ports |= {f"i_{port}{bit}": wide[bit] for bit in range(_OPERAND_BITS)}
    ports |= {f"o_P{bit}": product[bit] for bit in range(_PRODUCT_BITS)}
    return Instance(
        "MULT18X18D",
        p_REG_OUTPUT_CLK="CLK0",
        p_REG_OUTPUT_CE="CE0",
        i_SIGNEDA=_ON,
        i_SIGNEDB=_ON,
        i_SOURCEA=_OFF,
        i_SOURCEB=_OFF,
        **registers,
        **ports,
    )


def registered_product(m, platform):
    """Return how to say `product <= a * b` so that it is registered where it is made.

    Parameters
    ----------
    m : Module
        Where primitives are added.
    platform : object or None
        What is built for. With an ECP5, the register is that of the primitive; else synthesis
        finds both.

    Returns
    -------
    domain : str
        Where the product is assigned: it is there a cycle after the operands.
    times : callable
        The product of two operands of at most 17 unsigned or 18 signed bits.
    """
    if getattr(platform, "family", None) != "ecp5":
        return "sync", operator.mul

    def times(a, b):
        product = Signal(signed(_PRODUCT_BITS))
        m.submodules += _instance(m, a, b, product)
        return product[: len(a) + len(b)].as_signed()

    return "comb", times


class Mult18x18dArray(SystolicArray):
    """:class:`~.systolic.SystolicArray` whose cells are :class:`Mult18x18d`, cycle for cycle equal."""

    def _elaborate_active(self, m, following, switches):
        """Return weight and token for the cells, which keep the active weight themselves."""
        return [
            [(weight, switches[self._switch_delay(row, col)]) for col, weight in enumerate(line)]
            for row, line in enumerate(following)
        ]

    def _operand(self, m, row, col, value):
        """Return the operand as it is: the register is in the multiplier."""
        return value

    def _product(self, m, row, col, operand, weight):
        cell = Mult18x18d()
        m.submodules[f"cell_{row}_{col}"] = cell
        following, switch = weight
        m.d.comb += [
            cell.operand.eq(operand),
            cell.weight.eq(following),
            cell.switch.eq(switch),
        ]
        return cell.product
