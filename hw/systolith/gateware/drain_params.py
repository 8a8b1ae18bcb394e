"""Parameters of the drain: two sets of biases and scales, filled while rows are on their way."""

from amaranth.hdl import Array, Cat, Module, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from .parity import Parity
from .rescale import SHIFT_BITS

_FIELD_BYTES = {"bias": 4, "multiplier": 4, "shift": 1}
"""Per-channel parameters in the order of the parameter memory, and their sizes."""

SETS = data.StructLayout({"bias": 1, "scale": 1})
"""Which of the two sets holds the biases, and which the scales."""


class ParameterStore(wiring.Component):
    """Two sets of per-channel parameters, written by words, read by lanes at their own time.

    Two sets, so that one can be filled for the next `DRAIN` while rows that use the other one are
    still on their way; biases and scales (multiplier and shift) choose their set separately,
    because a `DRAIN` may load biases alone. One memory of two rows for each column and field, read
    without a register: distributed memory on an FPGA.

    Timing: reads are combinational; a word is visible in the cycle after its write.

    Parameters
    ----------
    cols, lanes : int
        Columns, and lanes that read `lanes` neighbouring columns; `lanes` divides `cols`.
    word_bytes : int
        Bytes of a word of the parameter memory (W).
    protected : bool
        Whether each parameter is stored with parity.

    Members
    -------
    write : ``In(write_layout)``
        Word `index` of the parameters of a column tile, in the order of `DRAIN`, for `sets`.
    r_set : ``In(SETS).array(lanes)``
    r_group : ``In(range(cols // lanes)).array(lanes)``
        Lane l reads column `r_group * lanes + l`.
    bias, multiplier : ``Out(signed(32)).array(lanes)``
    shift : ``Out(signed(6)).array(lanes)``
    bias_broken, scale_broken : ``Out(lanes)``, if `protected`
        What lane l reads has wrong parity.
    """

    def __init__(self, *, cols, lanes, word_bytes, protected=False):
        if lanes < 1 or cols % lanes:
            raise ValueError(f"Lanes must divide the columns ({cols}), not be {lanes}")
        self._cols, self._lanes, self._word_bytes = cols, lanes, word_bytes
        self._protected = protected
        super().__init__(
            {
                "write": In(self.write_layout),
                "r_set": In(SETS).array(lanes),
                "r_group": In(range(cols // lanes)).array(lanes),
                "bias": Out(signed(32)).array(lanes),
                "multiplier": Out(signed(32)).array(lanes),
                "shift": Out(signed(SHIFT_BITS)).array(lanes),
            }
            | ({"bias_broken": Out(lanes), "scale_broken": Out(lanes)} if protected else {})
        )

    @property
    def cols(self):
        return self._cols

    @property
    def lanes(self):
        return self._lanes

    @property
    def word_bytes(self):
        return self._word_bytes

    @property
    def protected(self):
        return self._protected

    @property
    def write_layout(self):
        """Layout of a write."""
        return data.StructLayout(
            {"en": 1, "sets": SETS, "index": range(self.words), "data": 8 * self.word_bytes}
        )

    @property
    def words(self):
        """Words of all parameters of a column tile."""
        return sum(self._field_words(size) for size in _FIELD_BYTES.values())

    def _field_words(self, size):
        return -(-size * self.cols // self.word_bytes)

    def elaborate(self, platform):
        m = Module()
        first_word = 0
        broken = {"bias": [0] * self.lanes, "scale": [0] * self.lanes}
        for field, size in _FIELD_BYTES.items():
            outputs = getattr(self, field)
            read = [self._column(m, field, size, first_word, column) for column in range(self.cols)]
            for lane in range(self.lanes):
                columns = Array(value for value, _ in read[lane :: self.lanes])
                m.d.comb += outputs[lane].eq(columns[self.r_group[lane]])
                wrong = Array(wrong for _, wrong in read[lane :: self.lanes])
                broken[_kind(field)][lane] |= wrong[self.r_group[lane]]
            first_word += self._field_words(size)
        if self.protected:
            m.d.comb += [
                self.bias_broken.eq(Cat(broken["bias"])),
                self.scale_broken.eq(Cat(broken["scale"])),
            ]
        return m

    def _column(self, m, field, size, first_word, column):
        """Add the memory of one field of one column; return what its lane reads, and whether it changed."""
        parity = Parity(8 * size, enabled=self.protected)
        memory = Memory(shape=unsigned(parity.granularity), depth=2, init=[])
        m.submodules[f"{field}{column}"] = memory
        w_port, r_port = memory.write_port(), memory.read_port(domain="comb")
        word, offset = divmod(size * column, self.word_bytes)
        kind = _kind(field)
        m.d.comb += [
            w_port.en.eq(self.write.en & (self.write.index == first_word + word)),
            w_port.addr.eq(self.write.sets[kind]),
            w_port.data.eq(parity.encode(self.write["data"][8 * offset : 8 * (offset + size)])),
            r_port.addr.eq(self.r_set[column % self.lanes][kind]),
        ]
        value = Signal(signed(8 * size), name=f"{field}{column}_value")
        m.d.comb += value.eq(parity.word(r_port.data))
        return value, parity.broken(r_port.data) if self.protected else 0


def _kind(field):
    """Return which of `SETS` a field belongs to."""
    return "bias" if field == "bias" else "scale"
