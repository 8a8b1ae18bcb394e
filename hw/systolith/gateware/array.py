"""Which array a configuration asks for."""

from .mult18x18d import Mult18x18dArray
from .pair_array import PairArray
from .pair_cell import PAIR_FORMATS
from .systolic import SystolicArray


def make_array(config):
    """Return the array of a configuration; all have the members of :class:`SystolicArray`.

    Parameters
    ----------
    config : systolith.arch.config.AcceleratorConfig
        The accelerator; `rows`, `cols`, `feeds` and `multiplier` matter.
    """
    size = {"rows": config.rows, "cols": config.cols, "feeds": config.feeds}
    if config.multiplier in PAIR_FORMATS:
        return PairArray(**size, fmt=PAIR_FORMATS[config.multiplier])
    return {"plain": SystolicArray, "mult18x18d": Mult18x18dArray}[config.multiplier](**size)
