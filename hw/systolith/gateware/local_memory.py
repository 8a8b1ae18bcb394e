"""Weight buffer and parameter memory: written in beats by LOAD, read in words by one engine."""

from amaranth.hdl import Module, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .parity import Parity, check_read


def beat_layout(size_bytes, beat_bytes):
    """Return the layout of a beat at a byte address, a multiple of the beat."""
    return data.StructLayout(
        {
            "addr": exact_log2(size_bytes),
            "data": data.ArrayLayout(unsigned(8), beat_bytes),
            "mask": beat_bytes,
        }
    )


class LocalMemory(wiring.Component):
    """Memory of words that is written by beats, which are at most as wide.

    One memory of `size_bytes / word_bytes` words with one read and one write port and one write
    enable per beat: LOAD writes only whole beats here, so `mask` is all ones or all zeros. A word
    that is read while it is written yields its old bytes. Contents survive every reset.

    Timing: one beat and one word per cycle; data comes 1 cycle after `en`; a beat is visible to
    reads of the next cycle.

    Parameters
    ----------
    size_bytes, word_bytes, beat_bytes : int
        Sizes in bytes; powers of two.
    protected : bool
        Whether each beat is stored with parity.

    Members
    -------
    write : ``In(stream.Signature(beat_layout(size_bytes, beat_bytes)))``
        Beats; always ready.
    en, addr : ``In(1)``, ``In(word address)``
        Read a word.
    data : ``Out(word of bytes)``
        The word.
    soft_error : ``Out(1)``, if `protected`
        A word that was read has wrong parity.
    """

    def __init__(self, *, size_bytes, word_bytes, beat_bytes, protected=False):
        if beat_bytes > word_bytes or word_bytes > size_bytes:
            raise ValueError(
                f"Beat, word and memory must not be larger than the next, not {beat_bytes}, "
                f"{word_bytes} and {size_bytes} bytes"
            )
        self._size_bytes, self._word_bytes = size_bytes, word_bytes
        self._beat_bytes, self._protected = beat_bytes, protected
        beats = stream.Signature(beat_layout(size_bytes, beat_bytes), always_ready=True)
        super().__init__(
            {
                "write": In(beats),
                "en": In(1),
                "addr": In(exact_log2(size_bytes // word_bytes)),
                "data": Out(data.ArrayLayout(unsigned(8), word_bytes)),
            }
            | ({"soft_error": Out(1)} if protected else {})
        )

    @property
    def size_bytes(self):
        return self._size_bytes

    @property
    def word_bytes(self):
        return self._word_bytes

    @property
    def beat_bytes(self):
        return self._beat_bytes

    @property
    def protected(self):
        return self._protected

    def elaborate(self, platform):
        m = Module()
        beats = self.word_bytes // self.beat_bytes
        parity = Parity(8 * self.beat_bytes, enabled=self.protected)
        m.submodules.memory = memory = Memory(
            shape=data.ArrayLayout(unsigned(parity.granularity), beats),
            depth=self.size_bytes // self.word_bytes,
            init=[],
        )
        w_port = memory.write_port(granularity=1)
        r_port = memory.read_port()
        beat_bits, word_bits = exact_log2(self.beat_bytes), exact_log2(self.word_bytes)
        position = self.write.p.addr[beat_bits:word_bits]
        written = self.write.valid & self.write.p.mask.any()
        m.d.comb += [
            w_port.addr.eq(self.write.p.addr[word_bits:]),
            r_port.addr.eq(self.addr),
            r_port.en.eq(self.en),
            self.data.eq(parity.word(r_port.data)),
        ]
        for beat in range(beats):
            m.d.comb += [
                w_port.data[beat].eq(parity.encode(self.write.p.data)),
                w_port.en[beat].eq(written & (position == beat)),
            ]
        if self.protected:
            m.d.comb += self.soft_error.eq(check_read(m, parity, r_port, w_port, name="word"))
        return m
