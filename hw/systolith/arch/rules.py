"""Rules that an instruction must obey in a given configuration, beyond the ranges of its fields.

One list, checked by the compiler's validator, by the golden model, and in gateware by the decoder,
where a broken rule is fault FIELD_RANGE. Each rule is a comparison of one field with a limit or
with another field, for some or all operations, so that hardware can check it.
"""

from dataclasses import dataclass

from . import isa
from .config import AcceleratorConfig
from .errors import EncodingError
from .isa import Opcode


@dataclass(frozen=True)
class Rule:
    """Field `field` of `opcode` must be in `low`..`high`; `high` may be the name of a field.

    If `ops` is given, the rule is for instructions whose field `op` has one of these values.
    """

    opcode: Opcode
    field: str
    low: int
    high: int | str
    ops: tuple[int, ...] = ()


_OPERATION = "op"
"""Field that `Rule.ops` is about."""

_ROUND_TWICE = (int(isa.ElementwiseOp.ADD), int(isa.ElementwiseOp.MUL))
_ROUND_ONCE = (int(isa.ElementwiseOp.SUM), int(isa.ElementwiseOp.PRODUCT))


def field_rules(config: AcceleratorConfig) -> tuple[Rule, ...]:
    """Return the rules of a configuration. Enumerated fields have their legal values as a range."""
    widest = max(config.rows, config.cols)
    return (
        Rule(Opcode.STORE, "space", 0, int(isa.Space.SCRATCHPAD)),
        Rule(Opcode.GEOMETRY, "lanes", 1, widest),
        Rule(Opcode.GEOMETRY, "lanes_last", 1, widest),
        Rule(Opcode.GEOMETRY, "weight_rows", 1, config.rows),
        Rule(Opcode.GEOMETRY, "weight_rows_last", 1, config.rows),
        Rule(Opcode.PASS, "weights", 0, int(isa.WeightMode.KEEP)),
        Rule(Opcode.PASS, "first_op", 0, int(isa.AccOp.MAX)),
        Rule(Opcode.PASS, "next_op", 0, int(isa.AccOp.MAX)),
        Rule(Opcode.PASS, "cols", 1, "line_vectors"),
        Rule(Opcode.QUANTIZE, "shift", -31, 30),
        Rule(Opcode.ELEMENTWISE, "op", 0, int(isa.ElementwiseOp.PRODUCT)),
        Rule(Opcode.ELEMENTWISE, "left_shift", 0, 20),
        Rule(Opcode.ELEMENTWISE, "a_shift", -31, 0),
        Rule(Opcode.ELEMENTWISE, "b_shift", -31, 0),
        Rule(Opcode.ELEMENTWISE, "out_shift", -31, 0, _ROUND_TWICE),
        Rule(Opcode.ELEMENTWISE, "out_shift", -31, 30, _ROUND_ONCE),
        Rule(Opcode.DRAIN, "lanes", 1, config.cols),
        Rule(Opcode.DRAIN, "lanes_last", 1, config.cols),
        Rule(Opcode.DRAIN, "params", 0, int(isa.ParamMode.KEEP)),
        Rule(Opcode.VECTOR, "op", 0, int(isa.VectorOp.ELEMENTWISE)),
    )


def check(instruction: isa.Instruction, config: AcceleratorConfig) -> None:
    """Check one instruction against the rules of a configuration.

    Raises
    ------
    EncodingError
        A rule is broken; the message names field, rule and value.
    """
    for rule in field_rules(config):
        if rule.opcode != instruction.OPCODE:
            continue
        if rule.ops and getattr(instruction, _OPERATION) not in rule.ops:
            continue
        value = int(getattr(instruction, rule.field))
        high = getattr(instruction, rule.high) if isinstance(rule.high, str) else rule.high
        if not rule.low <= value <= high:
            name = f"{rule.high} ({high})" if isinstance(rule.high, str) else high
            raise EncodingError(
                f"{rule.opcode.name} field {rule.field} must be in {rule.low}..{name} on "
                f'"{config.name}", not {value}'
            )
