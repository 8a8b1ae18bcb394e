"""The instruction word: its sizes, how fields are declared, packed into bits and written as text."""

import enum
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Self

from ..errors import EncodingError

ISA_VERSION = 1
INSTRUCTION_BYTES = 32
INSTRUCTION_BITS = 8 * INSTRUCTION_BYTES
NO_WAIT = 255
"""Value of a wait field that asks for nothing; the largest real lag is one less."""

LOCAL_ADDR_BITS = 22
"""Bits of a local byte address."""

WINDOW_ADDR_BITS = 24
"""Bits of the signed local byte address of a window, which padding may put below zero."""

COUNTER_BITS = 24
"""Bits of an engine's progress counter; a program may not send more instructions to an engine."""

REGION_COUNT = 8


class Engine(enum.IntEnum):
    """The four engines, in the order of the wait fields, and the sequencer."""

    LOAD = 0
    EXECUTE = 1
    DRAIN = 2
    STORE = 3
    SEQUENCER = 4


class Opcode(enum.IntEnum):
    """Operation of an instruction; any other value is a fault."""

    HALT = 0x01
    LOAD = 0x10
    STORE = 0x20
    GEOMETRY = 0x30
    PASS = 0x31
    QUANTIZE = 0x40
    ELEMENTWISE = 0x41
    DRAIN = 0x42
    VECTOR = 0x43


def bits(
    width: int,
    doc: str,
    *,
    signed: bool = False,
    count: bool = False,
    enum: Any = None,
    default: Any = None,
) -> Any:
    """Declare an instruction field.

    Parameters
    ----------
    width : int
        Width in bits.
    doc : str
        Meaning, for the manual.
    signed : bool
        Two's complement.
    count : bool
        Stored minus one: values 1 to `2 ** width`.
    enum : type, optional
        `IntEnum` of the legal values.
    default : optional
        Value when the field is not given: 1 for counts and 0 for others if not said.
    """
    if default is None:
        default = 1 if count else (enum(0) if enum else 0)
    return field(
        default=default,
        metadata={"bits": width, "doc": doc, "signed": signed, "count": count, "enum": enum},
    )


def field_range(metadata: Any) -> tuple[int, int]:
    """Return the smallest and the largest value of a field, from its metadata."""
    width = metadata["bits"]
    if metadata["count"]:
        return 1, 1 << width
    if metadata["signed"]:
        return -(1 << (width - 1)), (1 << (width - 1)) - 1
    return 0, (1 << width) - 1


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """Base of the instructions: encoding, decoding, text form.

    Class attributes `OPCODE` and `ENGINE` say which opcode it has and which engine executes it.
    """

    OPCODE: ClassVar[Opcode]
    ENGINE: ClassVar[Engine]

    wait_load: int = bits(8, "lag behind LOAD", default=NO_WAIT)
    wait_execute: int = bits(8, "lag behind EXECUTE", default=NO_WAIT)
    wait_drain: int = bits(8, "lag behind DRAIN", default=NO_WAIT)
    wait_store: int = bits(8, "lag behind STORE", default=NO_WAIT)

    @property
    def waits(self) -> tuple[int, int, int, int]:
        """The four waits, in the order of :class:`Engine`."""
        return self.wait_load, self.wait_execute, self.wait_drain, self.wait_store

    @classmethod
    def layout(cls) -> list[tuple[str, int]]:
        """Return (name, bits) of each field from bit 0 upwards, opcode first, reserved bits last."""
        items = [("opcode", 8)] + [(f.name, f.metadata["bits"]) for f in fields(cls)]
        reserved = INSTRUCTION_BITS - sum(width for _, width in items)
        if reserved < 0:
            raise EncodingError(f"{cls.__name__} needs {-reserved} bits more than it may have")
        return [*items, ("reserved", reserved)] if reserved else items

    def encode(self) -> int:
        """Return the instruction word, an integer of 256 bits.

        Raises
        ------
        EncodingError
            A field is outside its range; the message names field, range and value.
        """
        word, shift = int(self.OPCODE), 8
        for f in fields(self):
            value = getattr(self, f.name)
            low, high = field_range(f.metadata)
            if not low <= value <= high:
                raise EncodingError(
                    f"{self.OPCODE.name} field {f.name} must be in {low}..{high}, not {value}"
                )
            if f.metadata["count"]:
                value -= 1
            word |= (int(value) & ((1 << f.metadata["bits"]) - 1)) << shift
            shift += f.metadata["bits"]
        return word

    def to_bytes(self) -> bytes:
        """Return the 32 bytes of the instruction."""
        return self.encode().to_bytes(INSTRUCTION_BYTES, "little")

    @classmethod
    def from_word(cls, word: int) -> Self:
        """Return the instruction of a word, whose opcode is not looked at.

        Raises
        ------
        EncodingError
            An enumerated field has no such value, or reserved bits are set.
        """
        shift, values = 8, {}
        for f in fields(cls):
            width = f.metadata["bits"]
            value = (word >> shift) & ((1 << width) - 1)
            shift += width
            if f.metadata["count"]:
                value += 1
            elif f.metadata["signed"] and value >> (width - 1):
                value -= 1 << width
            if f.metadata["enum"]:
                try:
                    value = f.metadata["enum"](value)
                except ValueError:
                    names = ", ".join(f"{int(v)} ({v.name})" for v in f.metadata["enum"])
                    raise EncodingError(
                        f"{cls.OPCODE.name} field {f.name} must be one of {names}, not {value}"
                    ) from None
            values[f.name] = value
        if word >> shift:
            raise EncodingError(f"{cls.OPCODE.name} has reserved bits set above bit {shift - 1}")
        return cls(**values)

    def __str__(self) -> str:
        """Return the text form: opcode, waits in brackets, fields that are not at their default."""
        parts = [self.OPCODE.name.lower()]
        waits = [
            f"{name}-{lag}" if lag else name
            for name, lag in zip(("load", "execute", "drain", "store"), self.waits, strict=True)
            if lag != NO_WAIT
        ]
        if waits:
            parts.append("[" + " ".join(waits) + "]")
        for f in fields(self):
            if f.name.startswith("wait_"):
                continue
            value = getattr(self, f.name)
            if value != f.default:
                text = value.name.lower() if isinstance(value, enum.IntEnum) else str(value)
                parts.append(f"{f.name}={text}")
        return " ".join(parts)
