"""Streams that nobody compiles: legal ones, damaged ones, and noise, for the walls of the hardware."""

import random
from collections.abc import Callable, Sequence
from dataclasses import fields

from systolith.arch import isa

_WORD_MASK = (1 << isa.INSTRUCTION_BITS) - 1
_MOST_GROUPS = 5
_MOST_FLIPS = 3
_COUNTS = (0, 1, 2, 127, 128, 129, 1 << 16, (1 << 24) - 1, 1 << 24, (1 << 32) - 1)

_WAIT_SHIFTS = (8, 16, 24, 32)
_WAIT_BITS = 8


def _positions() -> dict[int, list[tuple[int, int]]]:
    """Return (lowest bit, width) of the fields of each opcode, waits left out."""
    result = {}
    for opcode, cls in isa.INSTRUCTIONS.items():
        low, found = 8, []
        for item in fields(cls):
            if not item.name.startswith("wait_"):
                found.append((low, item.metadata["bits"]))
            low += item.metadata["bits"]
        result[int(opcode)] = found
    return result


_POSITIONS = _positions()
_OPCODES = tuple(_POSITIONS)
_MOVES = (int(isa.Opcode.LOAD), int(isa.Opcode.STORE))
_REGION = _POSITIONS[int(isa.Opcode.LOAD)][1]
assert _POSITIONS[int(isa.Opcode.STORE)][1] == _REGION, "both moves have their region in one place"

Words = list[int]


class StreamSource:
    """Draws streams of instruction words.

    Parameters
    ----------
    groups : sequence of sequence of int
        Legal instructions, those together that need each other.
    rng : random.Random
        Where every choice comes from.
    """

    def __init__(self, groups: Sequence[Sequence[int]], rng: random.Random) -> None:
        self._groups = groups
        self._rng = rng
        self._halt = isa.Halt().encode()

    def draw(self) -> tuple[bytes, int]:
        """Return the code of a stream, and the number of instructions that it is said to have."""
        rng = self._rng
        words = [
            word
            for _ in range(1 + int(_MOST_GROUPS * rng.random() ** 2))
            for word in rng.choice(self._groups)
        ]
        words.append(self._halt)
        ticket = rng.random()
        for share, mutate in self._mutations():
            ticket -= share
            if ticket < 0:
                mutate(words)
                break
        count = len(words)
        if rng.random() < 0.02:
            count = rng.choice(_COUNTS)
        size = isa.INSTRUCTION_BYTES
        return b"".join((word & _WORD_MASK).to_bytes(size, "little") for word in words), count

    def _mutations(self) -> tuple[tuple[float, Callable[[Words], None]], ...]:
        return (
            (0.30, self._field),
            (0.15, self._flip),
            (0.15, self._waits),
            (0.10, self._structure),
            (0.05, self._shuffle_fields),
            (0.05, self._noise),
            (0.06, self._region),
        )

    def _flip(self, words: Words) -> None:
        for _ in range(self._rng.randint(1, _MOST_FLIPS)):
            index = self._rng.randrange(len(words))
            words[index] ^= 1 << self._rng.randrange(isa.INSTRUCTION_BITS)

    def _field(self, words: Words) -> None:
        """Set a field to an end of its range, near to its value, or to anything."""
        index = self._rng.randrange(len(words))
        self._set_field(words, index)

    def _set_field(self, words: Words, index: int) -> None:
        rng = self._rng
        positions = _POSITIONS.get(words[index] & 0xFF)
        if not positions:
            return
        low, width = rng.choice(positions)
        most = (1 << width) - 1
        old = words[index] >> low & most
        step = rng.choice((1, -1, 2, 16, -16, 64))
        new = rng.choice((0, most, most >> 1, (most >> 1) + 1, old + step, old + step, None, None))
        if new is None:
            new = rng.getrandbits(width) >> rng.randrange(width)
        words[index] = words[index] & ~(most << low) | (new & most) << low

    def _shuffle_fields(self, words: Words) -> None:
        """Set several fields of one instruction."""
        index = self._rng.randrange(len(words))
        for _ in range(self._rng.randint(2, 6)):
            self._set_field(words, index)

    def _region(self, words: Words) -> None:
        """Point the moves of a stream to any regions."""
        low, width = _REGION
        for index, word in enumerate(words):
            if word & 0xFF in _MOVES and self._rng.random() < 0.7:
                cleared = word & ~(((1 << width) - 1) << low)
                words[index] = cleared | self._rng.getrandbits(width) << low

    def _waits(self, words: Words) -> None:
        rng = self._rng
        for index in range(len(words)):
            shift = rng.choice(_WAIT_SHIFTS)
            most = (1 << _WAIT_BITS) - 1
            lag = rng.choice((most, most, 0, 1, rng.getrandbits(_WAIT_BITS)))
            words[index] = words[index] & ~(most << shift) | lag << shift

    def _structure(self, words: Words) -> None:
        """Drop, repeat, exchange or insert instructions."""
        rng = self._rng
        index, other = rng.randrange(len(words)), rng.randrange(len(words))
        choice = rng.randrange(5)
        if choice == 0:
            del words[index]
        elif choice == 1:
            words[index:index] = [words[index]] * rng.randint(1, 40)
        elif choice == 2:
            words[index], words[other] = words[other], words[index]
        elif choice == 3:
            words.insert(index, self._halt)
        else:
            words.insert(index, rng.choice(rng.choice(self._groups)))

    def _noise(self, words: Words) -> None:
        """Replace an instruction by random bits, often behind a known opcode."""
        rng = self._rng
        index = rng.randrange(len(words))
        word = rng.getrandbits(isa.INSTRUCTION_BITS)
        if rng.random() < 0.8:
            opcode = rng.choice(_OPCODES)
            used = sum(width for _, width in _POSITIONS[opcode]) + 40
            word = word & ((1 << used) - 1) & ~0xFF | opcode
        words[index] = word
