from dataclasses import fields

import pytest

from systolith.arch import isa, rules
from systolith.arch.errors import EncodingError
from systolith.arch.presets import PRESETS

TALL = PRESETS["edge-8x16"]
ALL = rules.field_rules(TALL)


def name_of(rule):
    return f"{rule.opcode.name}-{rule.field}" + "".join(f"-{op}" for op in rule.ops)


def with_field(rule, value):
    operation = {"op": rule.ops[0]} if rule.ops else {}
    return isa.INSTRUCTIONS[rule.opcode](**operation, **{rule.field: value})


def stored_values(rule):
    """Smallest and largest value that the field's bits can hold."""
    metadata = {f.name: f.metadata for f in fields(isa.INSTRUCTIONS[rule.opcode])}[rule.field]
    return isa.field_range(metadata)


@pytest.mark.parametrize("rule", [r for r in ALL if isinstance(r.high, int)], ids=name_of)
def test_limits_are_legal_and_their_neighbors_are_not(rule):
    smallest, largest = stored_values(rule)
    for value in (rule.low, rule.high):
        rules.check(with_field(rule, value), TALL)
    illegal = [v for v in (rule.low - 1, rule.high + 1) if smallest <= v <= largest]
    for value in illegal:
        with pytest.raises(EncodingError) as caught:
            rules.check(with_field(rule, value), TALL)
        assert str(caught.value) == (
            f"{rule.opcode.name} field {rule.field} must be in {rule.low}..{rule.high} on "
            f'"edge-8x16", not {value}'
        )


def test_limit_may_be_another_field():
    rules.check(isa.Pass(cols=7, line_vectors=7), TALL)
    with pytest.raises(EncodingError) as caught:
        rules.check(isa.Pass(cols=8, line_vectors=7), TALL)
    assert str(caught.value) == (
        'PASS field cols must be in 1..line_vectors (7) on "edge-8x16", not 8'
    )


@pytest.mark.parametrize(
    ("field", "limit"),
    [("lanes", 16), ("lanes_last", 16), ("weight_rows", 8), ("weight_rows_last", 8)],
)
def test_limits_of_geometry_are_those_of_the_array(field, limit):
    (rule,) = [r for r in ALL if r.opcode == isa.Opcode.GEOMETRY and r.field == field]
    assert (rule.low, rule.high) == (1, limit)


def test_every_rounding_and_operation_is_legal():
    for rounding in isa.Rounding:
        rules.check(isa.Quantize(rounding=rounding), TALL)
    for op in isa.ElementwiseOp:
        rules.check(isa.Elementwise(op=op), TALL)


def test_only_one_rounding_takes_positive_exponents():
    for op in (isa.ElementwiseOp.SUM, isa.ElementwiseOp.PRODUCT):
        rules.check(isa.Elementwise(op=op, out_shift=30), TALL)
    for op in (isa.ElementwiseOp.ADD, isa.ElementwiseOp.MUL):
        with pytest.raises(EncodingError, match="field out_shift must be in -31..0"):
            rules.check(isa.Elementwise(op=op, out_shift=1), TALL)


def test_instructions_at_their_defaults_are_legal(preset):
    for cls in isa.INSTRUCTIONS.values():
        rules.check(cls(), preset)


def test_every_enumeration_with_spare_codes_has_a_rule():
    """The decoder knows only rules, so that a spare code without one would pass it."""
    covered = {(rule.opcode, rule.field) for rule in ALL}
    for opcode, cls in isa.INSTRUCTIONS.items():
        for field in fields(cls):
            enum, width = field.metadata["enum"], field.metadata["bits"]
            if enum and len(enum) < 1 << width:
                assert (opcode, field.name) in covered
