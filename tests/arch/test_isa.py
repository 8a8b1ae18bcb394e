from dataclasses import fields

import pytest

from systolith.arch import isa
from systolith.arch.errors import EncodingError

CLASSES = list(isa.INSTRUCTIONS.values())


def every_class(function):
    return pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.OPCODE.name)(function)


def every_field(function):
    pairs = [(cls, f) for cls in CLASSES for f in fields(cls)]
    ids = [f"{cls.OPCODE.name}-{f.name}" for cls, f in pairs]
    return pytest.mark.parametrize(("cls", "field"), pairs, ids=ids)(function)


def legal_values(field):
    """Smallest, largest and some values between of a field."""
    if field.metadata["enum"]:
        return list(field.metadata["enum"])
    low, high = isa.field_range(field.metadata)
    return sorted({low, high, (low + high) // 2, min(low + 1, high)})


def random_instruction(cls, rng):
    values = {}
    for field in fields(cls):
        if field.metadata["enum"]:
            values[field.name] = rng.choice(list(field.metadata["enum"]))
        else:
            low, high = isa.field_range(field.metadata)
            values[field.name] = int(rng.integers(low, high, endpoint=True))
    return cls(**values)


def place_of(cls, name):
    """Lowest bit and width of a field, from the layout alone."""
    low = 0
    for field, width in cls.layout():
        if field == name:
            return low, width
        low += width
    raise KeyError(name)


@every_class
def test_random_instructions_survive_encoding(cls, rng):
    for _ in range(50):
        item = random_instruction(cls, rng)
        word = item.encode()
        assert 0 <= word < 1 << isa.INSTRUCTION_BITS
        assert isa.decode(word) == item
        assert item.to_bytes() == word.to_bytes(isa.INSTRUCTION_BYTES, "little")


@every_class
def test_random_words_survive_decoding(cls, rng):
    used = sum(width for name, width in cls.layout() if name != "reserved")
    decoded = 0
    for _ in range(50):
        word = int.from_bytes(rng.bytes(32), "little") & ((1 << used) - 1)
        word = word & ~0xFF | int(cls.OPCODE)
        try:
            item = isa.decode(word)
        except EncodingError as error:
            assert "must be one of" in str(error)
        else:
            assert isinstance(item, cls)
            assert item.encode() == word
            decoded += 1
    assert decoded


@every_class
def test_layout_fills_the_word_and_begins_with_opcode_and_waits(cls):
    layout = cls.layout()
    assert sum(width for _, width in layout) == isa.INSTRUCTION_BITS
    assert layout[:5] == [
        ("opcode", 8), ("wait_load", 8), ("wait_execute", 8), ("wait_drain", 8), ("wait_store", 8),
    ]  # fmt: skip
    assert layout[-1][0] == "reserved"


@every_field
def test_field_is_stored_where_the_layout_says(cls, field):
    low, width = place_of(cls, field.name)
    for value in legal_values(field):
        word = cls(**{field.name: value}).encode()
        stored = value - 1 if field.metadata["count"] else value
        assert word >> low & ((1 << width) - 1) == stored % (1 << width)
        assert getattr(isa.decode(word), field.name) == value


@every_field
def test_value_out_of_range_is_refused(cls, field):
    low, high = isa.field_range(field.metadata)
    for value in (low - 1, high + 1):
        message = f"{cls.OPCODE.name} field {field.name} must be in {low}..{high}, not {value}"
        with pytest.raises(EncodingError) as caught:
            cls(**{field.name: value}).encode()
        assert str(caught.value) == message


@every_class
def test_each_reserved_bit_is_refused(cls):
    used = sum(width for name, width in cls.layout() if name != "reserved")
    for bit in range(used, isa.INSTRUCTION_BITS):
        with pytest.raises(EncodingError, match=f"has reserved bits set above bit {used - 1}"):
            isa.decode(cls().encode() | 1 << bit)


def test_every_other_opcode_is_refused():
    for opcode in set(range(256)) - {int(opcode) for opcode in isa.INSTRUCTIONS}:
        with pytest.raises(EncodingError, match=f"Opcode must be .*, not {opcode:#04x}"):
            isa.decode(opcode)


def test_unknown_member_of_an_enumeration_is_refused():
    low, _ = place_of(isa.Pass, "first_op")
    with pytest.raises(EncodingError) as caught:
        isa.decode(isa.Pass().encode() | 3 << low)
    assert str(caught.value) == (
        "PASS field first_op must be one of 0 (WRITE), 1 (ADD), 2 (MAX), not 3"
    )


def test_declaration_wider_than_a_word_is_refused():
    from dataclasses import dataclass

    @dataclass(frozen=True, kw_only=True)
    class Wide(isa.Instruction):
        OPCODE = isa.Opcode.HALT
        ENGINE = isa.Engine.SEQUENCER
        immediate: int = isa.bits(240, "too wide")

    with pytest.raises(EncodingError, match="Wide needs 24 bits more than it may have"):
        Wide.layout()


def test_first_words_are_what_they_always_were():
    """Encodings are a binary interface: these words may change with the version only."""
    assert isa.ISA_VERSION == 1
    assert isa.Halt().encode() == 0xFFFFFFFF01
    assert isa.Halt(wait_load=0, wait_store=2).encode() == 0x02FFFF0001
    assert isa.Quantize(zero_point=-1, low=-128, high=127).encode() == (
        0x7F << 99 | 0x80 << 91 | 0xFF << 83 | 0xFFFFFFFF40
    )
    item = isa.Load(space=isa.Space.PARAMS, region=5, offset=0x12345678, run=16, total=16, addr=64)
    assert item.encode() == (
        64 << 145 | 15 << 123 | 15 << 77 | 0x12345678 << 45 | 5 << 42 | 2 << 40 | 0xFFFFFFFF10
    )


def test_text_names_waits_and_what_is_not_default():
    item = isa.Pass(wait_load=0, wait_drain=3, next_op=isa.AccOp.ADD, x=-2)
    assert str(item) == "pass [load drain-3] next_op=add x=-2"
    assert str(isa.Halt()) == "halt"


def test_disassembly_numbers_the_instructions():
    code = isa.Quantize(shift=-3).to_bytes() + isa.Halt().to_bytes()
    assert isa.disassemble(code) == "    0  quantize shift=-3\n    1  halt"
    assert list(isa.iterate(code)) == [isa.Quantize(shift=-3), isa.Halt()]


def test_code_that_is_no_multiple_of_an_instruction_is_refused():
    with pytest.raises(EncodingError, match="Code must be a multiple of 32 bytes long, not 33"):
        list(isa.iterate(bytes(33)))


def test_illegal_word_is_named_by_its_index():
    with pytest.raises(EncodingError, match="Instruction 1: Opcode must be"):
        list(isa.iterate(isa.Halt().to_bytes() + bytes(32)))
