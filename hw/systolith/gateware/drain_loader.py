"""Loading of the drain's parameters, ahead of the rows that need them."""

from amaranth.hdl import Array, Module, Mux, Signal, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from .delay import delayed
from .drain_params import SETS

_ADDR_BITS = 13
"""Bits of the address of a parameter word, one more than instructions hold."""


class ParameterLoader(wiring.Component):
    """Copy the parameters of the next DRAIN into the sets that no row on its way uses.

    Timing: `ready` comes `words + 2` cycles after `request`, if the sets are free.

    Parameters
    ----------
    bias_words, shift_words : int
        Words of the biases (or multipliers) and of the shifts of a column tile.
    memory_words : int
        Words of the parameter memory.
    word_bytes : int
        Bytes of a word (W).
    write_shape : ShapeLike
        Shape of :class:`~.drain_params.ParameterStore`'s `write`.
    hold_cycles : int
        Cycles after its issue in which a row still needs its parameters.

    Members
    -------
    request : ``In(1)``
        Level: the next DRAIN wants parameters; until `take`.
    addr : ``In(13)``, per_channel : ``In(1)``
        Where they start in the parameter memory, and whether scales follow the biases.
    outside : ``Out(1)``
        They leave the parameter memory; nothing is loaded.
    outside_addr : ``Out(13)``
        The first word outside.
    ready : ``Out(1)``
        They are there.
    take : ``In(1)``
        That DRAIN starts: make them current.
    sets : ``Out(SETS)``
        Sets that a DRAIN which starts in this cycle uses.
    has_bias, has_scale : ``Out(1)``
        They were loaded at all.
    issue : ``In(1)``, use : ``In(1)``, use_sets : ``In(SETS)``
        A row starts; it uses parameters, of these sets.
    param_en, param_addr, param_data
        Parameter memory: a word, one cycle after `param_en`.
    write : ``Out(write_shape)``
    """

    def __init__(
        self, *, bias_words, shift_words, memory_words, word_bytes, write_shape, hold_cycles
    ):
        self._bias_words, self._shift_words = bias_words, shift_words
        self._memory_words, self._hold_cycles = memory_words, hold_cycles
        super().__init__(
            {
                "request": In(1),
                "addr": In(_ADDR_BITS),
                "per_channel": In(1),
                "outside": Out(1),
                "outside_addr": Out(_ADDR_BITS),
                "ready": Out(1),
                "take": In(1),
                "sets": Out(SETS),
                "has_bias": Out(1),
                "has_scale": Out(1),
                "issue": In(1),
                "use": In(1),
                "use_sets": In(SETS),
                "param_en": Out(1),
                "param_addr": Out(range(memory_words)),
                "param_data": In(data.ArrayLayout(unsigned(8), word_bytes)),
                "write": Out(write_shape),
            }
        )

    @property
    def bias_words(self):
        return self._bias_words

    @property
    def shift_words(self):
        return self._shift_words

    @property
    def memory_words(self):
        return self._memory_words

    @property
    def hold_cycles(self):
        return self._hold_cycles

    def elaborate(self, platform):
        m = Module()
        all_words = 2 * self.bias_words + self.shift_words
        last_word = Mux(self.per_channel, all_words, self.bias_words) - 1
        current = Signal(SETS)
        following = Signal(SETS)
        index = Signal(range(all_words))
        loading = Signal()
        m.d.comb += [
            following.bias.eq(~current.bias),
            following.scale.eq(current.scale ^ self.per_channel),
            self.outside.eq(self.request & (self.addr + last_word >= self.memory_words)),
            self.outside_addr.eq(Mux(self.addr < self.memory_words, self.memory_words, self.addr)),
        ]

        free = self._free(m, following)
        ends = loading & (index == last_word)
        with m.If(loading):
            m.d.sync += index.eq(index + 1)
        with m.Else():
            m.d.sync += index.eq(0)
        pending = Signal()
        with m.If(self.take):
            m.d.sync += pending.eq(0)
        with m.Elif(self.request & ~self.outside & free & ~pending):
            m.d.sync += [pending.eq(1), loading.eq(1)]
        with m.If(ends):
            m.d.sync += loading.eq(0)

        arrived = delayed(m, ends, 1, name="arrived", reset_less=False)
        with m.If(arrived):
            m.d.sync += self.ready.eq(1)
        loaded = self.take & self.ready
        with m.If(loaded):
            m.d.sync += [
                self.ready.eq(0),
                current.eq(following),
                self.has_bias.eq(1),
                self.has_scale.eq(self.has_scale | self.per_channel),
            ]
        m.d.comb += [
            # Not from `take`, which is late: without `ready`, a DRAIN that wants them cannot start.
            self.sets.eq(Mux(self.request & self.ready, following, current)),
            self.param_en.eq(loading),
            self.param_addr.eq(self.addr + index),
            self.write.en.eq(delayed(m, loading, 1, name="write_en", reset_less=False)),
            self.write.index.eq(delayed(m, index, 1, name="write_index")),
            self.write.sets.eq(following),
            self.write["data"].eq(self.param_data),
        ]
        return m

    def _free(self, m, following):
        """Return whether no row on its way reads the sets that would be written."""
        free = {}
        for kind in ("bias", "scale"):
            ages = [
                Signal(range(self.hold_cycles + 1), name=f"{kind}{index}_age") for index in range(2)
            ]
            for index, age in enumerate(ages):
                with m.If(self.issue & self.use & (self.use_sets[kind] == index)):
                    m.d.sync += age.eq(self.hold_cycles)
                with m.Elif(age != 0):
                    m.d.sync += age.eq(age - 1)
            free[kind] = Array(ages)[following[kind]] == 0
        return free["bias"] & (free["scale"] | ~self.per_channel)
