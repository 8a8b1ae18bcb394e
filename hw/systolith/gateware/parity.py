"""Parity of words in memories: one even parity bit behind each lane of bits.

An unprotected word is the word itself, so that components have one way to say both.
"""

from amaranth.hdl import Cat, Signal, Value

from .delay import delayed


class Parity:
    """How the words of one memory are stored.

    Parameters
    ----------
    lane_bits : int
        Bits that are written together, and share a parity bit.
    enabled : bool
        Whether there is parity at all.
    """

    def __init__(self, lane_bits, *, enabled):
        self._lane_bits, self._enabled = lane_bits, enabled

    @property
    def enabled(self):
        return self._enabled

    @property
    def granularity(self):
        """Bits of a lane as it is stored."""
        return self._lane_bits + self._enabled

    def width(self, bits):
        """Return the bits that a word of `bits` bits takes."""
        return bits // self._lane_bits * self.granularity

    def encode(self, word):
        """Return a word as it is stored."""
        word = Value.cast(word)
        if not self._enabled:
            return word
        lanes = self._lanes(word, self._lane_bits)
        return Cat(Cat(lane, lane.xor()) for lane in lanes)

    def word(self, stored):
        """Return the word in what was stored, not judged."""
        stored = Value.cast(stored)
        if not self._enabled:
            return stored
        return Cat(lane[: self._lane_bits] for lane in self._lanes(stored, self.granularity))

    def broken(self, stored):
        """Return, for each lane, whether an odd number of its bits has changed."""
        return Cat(lane.xor() for lane in self._lanes(Value.cast(stored), self.granularity))

    @staticmethod
    def _lanes(value, bits):
        return [value[low : low + bits] for low in range(0, len(value), bits)]


def check_read(m, parity, r_port, w_port, *, name):
    """Return a register that says that a word of a memory was read with wrong parity.

    Lanes that are written in the cycle of the read are not judged: what a memory then gives is
    nobody's business, and whoever reads the word wants others of its lanes.
    """
    read = delayed(m, r_port.en, 1, name=f"{name}_read", reset_less=False)
    meets = (w_port.addr == r_port.addr).replicate(len(w_port.en))
    written = delayed(m, w_port.en & meets, 1, name=f"{name}_written")
    broken = parity.broken(r_port.data) & ~written
    return noticed(m, broken.any() & read, name=f"{name}_broken")


def noticed(m, *conditions, name):
    """Return a register, cleared by the reset, that says that a condition held a cycle ago."""
    found = Signal(name=name)
    m.d.sync += found.eq(Cat(*conditions).any())
    return found
