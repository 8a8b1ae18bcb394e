"""The values of enumerated fields."""

import enum


class Space(enum.IntEnum):
    """Local memory that a `LOAD` writes. `STORE` reads the scratchpad only."""

    SCRATCHPAD = 0
    WEIGHTS = 1
    PARAMS = 2
    TABLES = 3


class FeedMode(enum.IntEnum):
    """How the vectors of a `PASS` enter the array."""

    DENSE = 0
    DEPTHWISE = 1


class WeightMode(enum.IntEnum):
    """Where a `PASS` takes its weight tiles from."""

    EACH = 0  # a new tile for each step of the loops, from consecutive words
    ONCE = 1  # one tile for all steps
    KEEP = 2  # the tile that the previous pass left in the array


class AccOp(enum.IntEnum):
    """What a sum does to its accumulator."""

    WRITE = 0
    ADD = 1
    MAX = 2


class Rounding(enum.IntEnum):
    """How the drain turns an int32 sum into an integer of the output's scale."""

    DOUBLE = 0  # saturating rounding doubling high multiply, then rounding right shift
    SINGLE = 1  # one rounding of the 64-bit product, ties away from zero
    FLOAT32 = 2  # float32 multiply, ties to even
    AVERAGE = 3  # multiply by ceil(2^31 / n), half away from zero


class ParamMode(enum.IntEnum):
    """Where a `DRAIN` takes bias (and, per channel, multiplier and shift) from."""

    NONE = 0  # bias 0, multiplier and shift of `QUANTIZE`
    LOAD = 1  # read from parameter memory before the first row
    KEEP = 2  # as the previous `LOAD` left them


class VectorOp(enum.IntEnum):
    """What a `VECTOR` does to each byte."""

    COPY = 0
    TABLE = 1
    ELEMENTWISE = 2


class ElementwiseOp(enum.IntEnum):
    """Operation of the two-operand unit."""

    ADD = 0  # both operands rescaled, added, and the sum rescaled: double rounding throughout
    MUL = 1  # the product rescaled with double rounding
    SUM = 2  # both operands multiplied, added, and the exact sum rounded once, ties to even
    PRODUCT = 3  # the product multiplied, and the exact result rounded once, ties to even
