"""Which array a configuration asks for."""

from amaranth.back import rtlil

from .checker import CheckedArray
from .mult18x18d import Mult18x18dArray
from .pair_array import PairArray
from .pair_cell import PAIR_FORMATS
from .systolic import SystolicArray


def make_array(multiplier, *, rows, cols, feeds, checked=False, protected=False):
    """Return an array; all kinds have the members of :class:`~.systolic.SystolicArray`.

    Parameters
    ----------
    multiplier : str
        What its cells are made of, one of `systolith.arch.config.MULTIPLIERS`.
    rows, cols, feeds : int
        Its size.
    checked : bool
        Whether it is a :class:`~.checker.CheckedArray`, with a checksum column.
    protected : bool
        Whether parity travels through it; not for pairs.
    """
    size = {"rows": rows, "cols": cols, "feeds": feeds}
    if multiplier in PAIR_FORMATS:
        array = PairArray(**size, fmt=PAIR_FORMATS[multiplier])
    else:
        kind = {"plain": SystolicArray, "mult18x18d": Mult18x18dArray}[multiplier]
        array = kind(**size, protected=protected)
    return CheckedArray(array) if checked else array


def rtlil_of(multiplier, *, rows, cols, feeds, checked=False, protected=False):
    """Return an array alone as RTLIL, top `top`, to be synthesized by itself; arguments as above."""
    array = make_array(
        multiplier, rows=rows, cols=cols, feeds=feeds, checked=checked, protected=protected
    )
    return rtlil.convert(array, name="top", emit_src=False)
