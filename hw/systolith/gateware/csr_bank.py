"""Register bank on AXI4-Lite, made from the declarations in `systolith.arch.csr`."""

from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from systolith.arch import csr
from systolith.arch.csr import Access

from . import axi
from .region_table import RegionTable, in_table, lookup_signature
from .words import REGION

REGISTER_BITS = 32
_REGISTER_BYTES = REGISTER_BITS // 8

_TABLE = tuple(r for r in csr.REGISTERS if in_table(r.addr))
"""Registers that are kept in the region table."""


def writable_mask(register):
    """Return the bits of a register that exist: those of its fields, or all if it declares none."""
    if not register.fields:
        return (1 << REGISTER_BITS) - 1
    return sum(((1 << field.width) - 1) << field.low for field in register.fields)


def registers_layout(*access, without=()):
    """Return a layout with the value of each register of the given kinds, by name.

    Those of the region table are left out.
    """
    return data.StructLayout(
        {
            register.name: REGISTER_BITS
            for register in csr.REGISTERS
            if register.access in access and register.name not in without and register not in _TABLE
        }
    )


def register_value(register, **values):
    """Return the value of a register made of the values of its fields; others are zero."""
    fields = {field.name: field for field in csr.BY_NAME[register].fields}
    word = Const(0, REGISTER_BITS)
    for name, value in values.items():
        field = fields.pop(name)
        word = word | (Value.cast(value)[: field.width] << field.low)
    return word[:REGISTER_BITS]


def register_field(register, name, value):
    """Return the bits of a field in the value of its register."""
    (field,) = (f for f in csr.BY_NAME[register].fields if f.name == name)
    return value[field.low :][: field.width]


def _table_place(addr, index, which):
    """Return the assignment of a register's place in the region table, from its address."""
    first = exact_log2(_REGISTER_BYTES)
    return Cat(which, index).eq(addr[first : first + len(which) + len(index)])


class CsrBank(wiring.Component):
    """Registers of the accelerator on AXI4-Lite: one write, and up to three reads, at a time.

    Address and data of a write may come in any order. Byte strobes are obeyed. Reads of undeclared
    addresses return zero, writes to them, to read-only registers, and to locked ones while `busy`
    do nothing; every answer is OKAY. Bits that no field declares read zero. Nothing is taken in the
    cycles after a reset in which the region table is cleared, one for each region.

    Timing: a read is answered two cycles after its address, a write in the cycle after the later
    of address and data; `command` pulses with the answer.

    Parameters
    ----------
    constants : mapping of str to int
        Values of the read-only registers that never change, by name of the register.

    Members
    -------
    bus : ``In(axi.LiteSignature())``
        The host.
    busy : ``In(1)``
        Level: writes to read-write registers are ignored.
    state : ``In``
        Values of the other read-only registers, by name.
    setting : ``Out``
        Values of the read-write registers, by name; the region table has members of its own.
    command : ``Out``
        Pulses of the write-one-to-act registers, by name.
    event : ``In``
        Pulses that set bits of the write-one-to-clear registers, by name.
    load_region, store_region : ``In(lookup_signature())``
        Readers of the region table.
    first_region : ``Out(REGION)``
        Region 0.
    interrupt : ``Out(1)``
        Level: an enabled event has not been cleared.
    """

    def __init__(self, *, constants):
        known = {r.name for r in csr.REGISTERS if r.access is Access.RO}
        if unknown := sorted(set(constants) - known):
            raise ValueError(f"Constants must name read-only registers, not {unknown}")
        self._constants = dict(constants)
        super().__init__(
            {
                "bus": In(axi.LiteSignature()),
                "busy": In(1),
                "state": In(registers_layout(Access.RO, without=constants)),
                "setting": Out(registers_layout(Access.RW)),
                "command": Out(registers_layout(Access.W1)),
                "event": In(registers_layout(Access.W1C)),
                "load_region": In(lookup_signature()),
                "store_region": In(lookup_signature()),
                "first_region": Out(REGION),
                "interrupt": Out(1),
            }
        )

    @property
    def constants(self):
        return dict(self._constants)

    def elaborate(self, platform):
        m = Module()
        pending = Signal(registers_layout(Access.W1C))
        m.submodules.regions = table = RegionTable(lookups=2)
        wiring.connect(m, wiring.flipped(self.load_region), table.lookup[0])
        wiring.connect(m, wiring.flipped(self.store_region), table.lookup[1])
        m.d.comb += self.first_region.eq(table.first)
        self._connect_write(m, pending, table)
        self._connect_read(m, pending, table)
        m.d.comb += self.interrupt.eq((pending.irq_status & self.setting.irq_enable).any())
        return m

    def _connect_write(self, m, pending, table):
        """Take an address and a word, in any order, write, and answer."""
        address, word = self.bus.aw, self.bus.w
        both = address.valid & word.valid & ~self.bus.b.valid & table.ready
        m.d.comb += [address.ready.eq(both), word.ready.eq(both), self.bus.b.p.resp.eq(axi.OKAY)]
        with m.If(both):
            m.d.sync += self.bus.b.valid.eq(1)
        with m.Elif(self.bus.b.ready):
            m.d.sync += self.bus.b.valid.eq(0)

        strobe_bits = Cat(bit.replicate(8) for bit in word.p.strb)
        m.d.sync += self.command.as_value().eq(0)
        tabled = both & in_table(address.p.addr) & ~self.busy
        m.d.comb += [
            table.w_en.eq(word.p.strb & tabled.replicate(_REGISTER_BYTES)),
            _table_place(address.p.addr, table.w_index, table.w_which),
            table.w_data.eq(word.p.data),
        ]
        for register in csr.REGISTERS:
            if register.access is Access.RO or register in _TABLE:
                continue
            hit = Signal(name=f"write_{register.name}")
            m.d.comb += hit.eq(both & (address.p.addr[2:] == register.addr // _REGISTER_BYTES))
            mask = writable_mask(register)
            written = word.p.data & strobe_bits & mask
            if register.access is Access.RW:
                value = self.setting[register.name]
                with m.If(hit & ~self.busy):
                    m.d.sync += value.eq(written | (value & ~strobe_bits & mask))
            elif register.access is Access.W1:
                with m.If(hit):
                    m.d.sync += self.command[register.name].eq(written)
            elif register.access is Access.W1C:
                value = pending[register.name]
                cleared = written & hit.replicate(REGISTER_BITS)
                # An event in the very cycle of the write is a new one, so it stays.
                m.d.sync += value.eq((value & ~cleared) | (self.event[register.name] & mask))

    def _connect_read(self, m, pending, table):
        """Take an address and find its register; in the next cycle answer with its value."""
        address, answer = self.bus.ar, self.bus.r
        readable = [r for r in csr.REGISTERS if r.access is not Access.W1 and r not in _TABLE]
        # An address is taken once the answer to the one before is out of the way, or leaves.
        asked = Signal()
        wanted = Signal(len(readable), reset_less=True)
        tabled = Signal(reset_less=True)
        m.d.comb += [
            address.ready.eq(~asked & (~answer.valid | answer.ready) & table.ready),
            answer.p.resp.eq(axi.OKAY),
        ]
        places = [register.addr // _REGISTER_BYTES for register in readable]
        m.d.sync += [
            asked.eq(address.valid & address.ready),
            wanted.eq(Cat(address.p.addr[2:] == place for place in places)),
            tabled.eq(in_table(address.p.addr)),
            _table_place(address.p.addr, table.index, table.which),
        ]
        values = {Access.RO: self.state, Access.RW: self.setting, Access.W1C: pending}
        words = [table.word & tabled.replicate(REGISTER_BITS)]
        for want, register in zip(wanted, readable, strict=True):
            if register.name in self._constants:
                value = Const(self._constants[register.name], REGISTER_BITS)
            else:
                value = values[register.access][register.name]
            words.append(value & want.replicate(REGISTER_BITS))
        with m.If(asked):
            m.d.sync += [answer.valid.eq(1), answer.p.data.eq(reduce(or_, words))]
        with m.Elif(answer.ready):
            m.d.sync += answer.valid.eq(0)
