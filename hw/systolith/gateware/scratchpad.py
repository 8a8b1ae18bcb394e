"""Banked local memory with windows of bytes at any address."""

from amaranth.hdl import Array, Cat, Module, Mux, Signal, unsigned
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from .delay import delayed
from .parity import Parity, check_read
from .rotator import rotate_left, rotate_right


def write_layout(size_bytes, word_bytes):
    """Return the layout of a masked write of up to a word at any byte address."""
    return data.StructLayout(
        {
            "addr": exact_log2(size_bytes),
            "data": data.ArrayLayout(unsigned(8), word_bytes),
            "mask": word_bytes,
        }
    )


class Scratchpad(wiring.Component):
    """Byte-addressed memory of word-interleaved banks with several read ports and one write port.

    Word w is in bank `w % banks`. A window of `word_bytes` bytes at any address touches two
    neighbouring banks, at a multiple of `word_bytes` one. Each bank is one memory of
    `size_bytes / banks / word_bytes` words with one read and one write port and an enable per byte;
    a word that is read while it is written yields its old bytes. Contents are undefined at first
    (zero in simulation) and survive every reset. Addresses wrap modulo the size.

    Of the read ports, the feeds always win; `drain_read` comes next, and `store_read` is
    granted when `drain_read` is not valid. All writes take the one port, `drain_write` first.

    Timing: one window per read port and cycle; data comes `read_latency` cycles after the
    transfer: 4, or 5 if `registered`. Writes are visible to reads that start `write_latency` cycles
    after the transfer. `ready` and `conflict` depend combinationally on the feeds and on the valids.

    Parameters
    ----------
    size_bytes : int
        Size, a power of two.
    word_bytes : int
        Bytes of a word and of a window (L), a power of two.
    banks : int
        Banks, a power of two.
    feeds : int
        Feed ports: feed 0 reads at any address, the others at multiples of `word_bytes`.
    protected : bool
        Whether each byte is stored with parity.
    registered : bool
        Whether a register follows each bank, as block RAMs have one.

    Members
    -------
    feed_en : ``In(feeds)`` as an array of bits
        Feed j reads in this cycle.
    feed_addr : ``In(ArrayLayout(addr, feeds))``
        Byte address of its window; the offset in the word is ignored for feeds 1 and up.
    feed_data : ``Out(ArrayLayout(word of bytes, feeds))``
        The windows.
    conflict : ``Out(1)``
        Two feeds need the same bank in this cycle; the data of both is undefined.
    drain_read, store_read : ``In(stream.Signature(addr))``
        Windows at any byte address; `ready` is the grant.
    drain_data, store_data : ``Out(word of bytes)``, with ``drain_data_valid``, ``store_data_valid``
        Their answers, in order, without backpressure.
    drain_write, load_write : ``In(stream.Signature(write_layout))``
        Byte k of `data` goes to `addr + k` if `mask[k]`.
    soft_error : ``Out(1)``, if `protected`
        A byte of a word that was read has wrong parity, wanted or not.
    """

    write_latency = 2
    """A read that transfers this many cycles after a write's transfer sees it."""

    def __init__(self, size_bytes, word_bytes, banks, feeds, *, protected=False, registered=False):
        for name, value, low in (
            ("size_bytes", size_bytes, 4),
            ("word_bytes", word_bytes, 2),
            ("banks", banks, 2),
        ):
            if not isinstance(value, int) or value < low or value & (value - 1):
                raise ValueError(f"{name} must be a power of two of at least {low}, not {value!r}")
        if not isinstance(feeds, int) or feeds < 1:
            raise ValueError(f"feeds must be an integer of at least 1, not {feeds!r}")
        if size_bytes < 2 * banks * word_bytes:
            raise ValueError(
                f"size_bytes must be at least two words of {word_bytes} bytes for each of "
                f"{banks} banks, not {size_bytes}"
            )
        self._size_bytes = size_bytes
        self._word_bytes = word_bytes
        self._banks = banks
        self._feeds = feeds
        self._protected = protected
        self._registered = registered
        addr = unsigned(exact_log2(size_bytes))
        word = data.ArrayLayout(unsigned(8), word_bytes)
        write = stream.Signature(write_layout(size_bytes, word_bytes))
        super().__init__(
            {
                "feed_en": In(1).array(feeds),
                "feed_addr": In(addr).array(feeds),
                "feed_data": Out(word).array(feeds),
                "conflict": Out(1),
                "drain_read": In(stream.Signature(addr)),
                "drain_data": Out(word),
                "drain_data_valid": Out(1),
                "store_read": In(stream.Signature(addr)),
                "store_data": Out(word),
                "store_data_valid": Out(1),
                "drain_write": In(write),
                "load_write": In(write),
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
    def banks(self):
        return self._banks

    @property
    def feeds(self):
        return self._feeds

    @property
    def protected(self):
        return self._protected

    @property
    def registered(self):
        return self._registered

    @property
    def read_latency(self):
        """Cycles from a read's transfer to its data: bank address, memory, choice, rotation."""
        return 3 + self._bank_latency

    @property
    def _bank_latency(self):
        """Cycles from the address of a bank to its word where it is chosen."""
        return 2 if self.registered else 1

    def elaborate(self, platform):
        m = Module()
        words = self._split
        parity = Parity(8, enabled=self.protected)
        byte_bits, word_bits = parity.granularity, parity.width(8 * self.word_bytes)
        bank_words = self.size_bytes // self.word_bytes // self.banks
        memories = []
        for bank in range(self.banks):
            memory = Memory(shape=unsigned(word_bits), depth=bank_words, init=[])
            m.submodules[f"bank{bank}"] = memory
            memories.append((memory.read_port(), memory.write_port(granularity=byte_bits)))

        aux_addr = Signal.like(self.drain_read.p)
        m.d.comb += aux_addr.eq(Mux(self.drain_read.valid, self.drain_read.p, self.store_read.p))
        feeds = [
            self._needs(m, f"feed{j}", words(self.feed_addr[j]), aligned=j > 0)
            for j in range(self.feeds)
        ]
        aux = [
            self._needs(m, name, words(getattr(self, name).p), aligned=False)
            for name in ("drain_read", "store_read")
        ]
        self._arbitrate(m, feeds)
        self._address_banks(m, [port for port, _ in memories], feeds, aux)

        outputs = [
            delayed(m, parity.word(port.data), self._bank_latency - 1, name=f"bank{index}_data")
            for index, (port, _) in enumerate(memories)
        ]
        for j in range(self.feeds):
            window = self._window(m, f"feed{j}", words(self.feed_addr[j]), outputs, aligned=j > 0)
            m.d.comb += self.feed_data[j].eq(window)
        window = self._window(m, "aux", words(aux_addr), outputs, aligned=False)
        for side, name in (("drain", "drain_read"), ("store", "store_read")):
            request = getattr(self, name)
            m.d.comb += [
                getattr(self, f"{side}_data").eq(window),
                getattr(self, f"{side}_data_valid").eq(
                    delayed(
                        m,
                        request.valid & request.ready,
                        self.read_latency,
                        name=f"{side}_valid",
                        reset_less=False,
                    )
                ),
            ]
        self._write(m, [port for _, port in memories], parity)
        if self.protected:
            # Every word that is read counts, whichever of its bytes are wanted.
            broken = [
                check_read(m, parity, *ports, name=f"bank{index}")
                for index, ports in enumerate(memories)
            ]
            m.d.comb += self.soft_error.eq(Cat(broken).any())
        return m

    def _split(self, addr):
        """Return offset in the word, bank, and row in the bank of a byte address."""
        offset_bits = exact_log2(self.word_bytes)
        row_start = offset_bits + exact_log2(self.banks)
        return addr[:offset_bits], addr[offset_bits:row_start], addr[row_start:]

    def _needs(self, m, name, words, *, aligned):
        """Return, for each bank, a bit that says that a window needs it, and the row it needs."""
        offset, bank, row = words
        needs = Signal(self.banks, name=f"{name}_needs")
        for index in range(self.banks):
            need = bank == index
            if not aligned:
                need |= (offset != 0) & (bank == (index - 1) % self.banks)
            m.d.comb += needs[index].eq(need)
        # Only the word behind the last bank's is in another row: the next one of bank 0.
        next_row = row if aligned else (row + (bank == self.banks - 1))[: len(row)]
        return needs, [next_row] + [row] * (self.banks - 1)

    def _arbitrate(self, m, feeds):
        """Grant the auxiliary port if no feed is in its banks; report feeds that meet.

        Judged for both users at once, because which of them has the port is known late.
        """
        drain_read, store_read = self.drain_read, self.store_read
        taken, clash = 0, 0
        for en, (needs, _) in zip(self.feed_en, feeds, strict=True):
            active = needs & en.replicate(self.banks)
            clash |= active & taken
            taken |= active
        m.d.comb += [
            self.conflict.eq(Cat(clash).any()),
            drain_read.ready.eq(~self._meets_feed(drain_read.p)),
            store_read.ready.eq(~self._meets_feed(store_read.p) & ~drain_read.valid),
        ]

    def _meets_feed(self, addr):
        """Return whether a window shares a bank with a feed: shorter than by all banks needed."""
        offset, bank, _ = self._split(addr)
        behind = (bank + 1)[: len(bank)]
        meets = 0
        for j, enable in enumerate(self.feed_en):
            feed_offset, feed_bank, _ = self._split(self.feed_addr[j])
            same = (feed_bank == bank) | ((offset != 0) & (feed_bank == behind))
            if j == 0:
                same |= (feed_offset != 0) & (bank == (feed_bank + 1)[: len(bank)])
            meets |= enable & same
        return meets

    def _address_banks(self, m, ports, feeds, aux):
        """Register the row of the port that has each bank; a read not granted is not looked at."""
        (drain_needs, drain_rows), (store_needs, store_rows) = aux
        for index, port in enumerate(ports):
            addr = Signal.like(port.addr, name=f"bank{index}_addr", reset_less=True)
            en = Signal(name=f"bank{index}_en")
            draining = self.drain_read.valid & drain_needs[index]
            row = Mux(self.drain_read.valid, drain_rows[index], store_rows[index])
            active = draining | (self.store_read.valid & store_needs[index])
            for enable, (needs, rows) in zip(self.feed_en, feeds, strict=True):
                row = Mux(enable & needs[index], rows[index], row)
                active |= enable & needs[index]
            m.d.sync += [addr.eq(row), en.eq(active)]
            m.d.comb += [port.addr.eq(addr), port.en.eq(en)]

    def _window(self, m, name, words, outputs, *, aligned):
        """Return the window of a port from the outputs of the banks, `read_latency` cycles late."""
        offset, bank, _ = words
        size, wait = self.word_bytes, self._bank_latency
        choice = Signal(8 * size, name=f"{name}_choice", reset_less=True)
        result = Signal(8 * size, name=f"{name}_window", reset_less=True)
        if aligned:
            which = delayed(m, bank, 1 + wait, name=f"{name}_bank")
            m.d.sync += [choice.eq(Array(outputs)[which]), result.eq(choice)]
            return result
        start = delayed(m, Cat(bank, offset), wait, name=f"{name}_start")
        first, shift = start[: len(bank)], start[len(bank) :]
        rotation = delayed(m, shift, 2, name=f"{name}_offset")
        for index in range(size):
            # Bytes below the offset are those of the second word.
            which = Signal(len(bank), name=f"{name}_bank{index}", reset_less=True)
            m.d.sync += which.eq(first + (shift > index))
            lanes = Array(output.word_select(index, 8) for output in outputs)
            m.d.sync += choice.word_select(index, 8).eq(lanes[which])
        m.d.sync += result.eq(rotate_right(choice, rotation, unit_bits=8))
        return result

    def _write(self, m, ports, parity):
        """Choose a write, rotate it into place, and offer it to the banks: two registers."""
        chosen = Signal(self.drain_write.p.shape(), reset_less=True)
        valid = Signal()
        m.d.comb += [
            self.drain_write.ready.eq(1),
            self.load_write.ready.eq(~self.drain_write.valid),
        ]
        m.d.sync += [
            chosen.eq(Mux(self.drain_write.valid, self.drain_write.p, self.load_write.p)),
            valid.eq(self.drain_write.valid | self.load_write.valid),
        ]
        offset, bank, row = self._split(chosen.addr)
        size = self.word_bytes
        in_place = Signal(8 * size, name="write_data", reset_less=True)
        mask = rotate_left(chosen.mask, offset, unit_bits=1)
        m.d.sync += in_place.eq(rotate_left(chosen["data"].as_value(), offset, unit_bits=8))
        wrapped = Cat(offset > index for index in range(size))
        for index, port in enumerate(ports):
            addr = Signal.like(port.addr, name=f"bank{index}_write_addr", reset_less=True)
            en = Signal(size, name=f"bank{index}_write_en")
            first = (mask & ~wrapped) & (valid & (bank == index)).replicate(size)
            behind = (bank == (index - 1) % self.banks) & valid
            second = (mask & wrapped) & behind.replicate(size)
            next_row = (row + behind)[: len(row)] if index == 0 else row
            m.d.sync += [addr.eq(next_row), en.eq(first | second)]
            m.d.comb += [port.addr.eq(addr), port.data.eq(parity.encode(in_place)), port.en.eq(en)]
