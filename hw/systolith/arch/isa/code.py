"""From the bytes of a program's code to instructions."""

from collections.abc import Iterator

from ..errors import EncodingError
from .formats import (
    INSTRUCTIONS,
)
from .word import (
    INSTRUCTION_BYTES,
    Instruction,
    Opcode,
)


def decode(word: int) -> Instruction:
    """Return the instruction of a 256-bit word.

    Raises
    ------
    EncodingError
        The opcode is unknown, an enumerated field has no such value, or reserved bits are set.
    """
    opcode = word & 0xFF
    if opcode not in INSTRUCTIONS:
        raise EncodingError(f"Opcode must be one of the instruction set's, not {opcode:#04x}")
    return INSTRUCTIONS[Opcode(opcode)].from_word(word)


def iterate(code: bytes) -> Iterator[Instruction]:
    """Decode a program's code, one instruction after the other.

    Raises
    ------
    EncodingError
        The code is no multiple of 32 bytes, or a word is illegal; the message has its index.
    """
    if len(code) % INSTRUCTION_BYTES:
        raise EncodingError(
            f"Code must be a multiple of {INSTRUCTION_BYTES} bytes long, not {len(code)}"
        )
    for start in range(0, len(code), INSTRUCTION_BYTES):
        word = int.from_bytes(code[start : start + INSTRUCTION_BYTES], "little")
        try:
            yield decode(word)
        except EncodingError as error:
            raise EncodingError(f"Instruction {start // INSTRUCTION_BYTES}: {error}") from error


def disassemble(code: bytes) -> str:
    """Return the text form of a program's code, one numbered instruction per line."""
    return "\n".join(f"{index:5d}  {item}" for index, item in enumerate(iterate(code)))
