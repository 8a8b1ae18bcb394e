"""Proofs of the register bank: the rules of AXI4-Lite, and that registers change only as declared."""

from amaranth.hdl import Cat, Const, Mux, Signal, Value

from systolith.arch import csr
from systolith.arch.csr import Access
from systolith.arch.isa import REGION_COUNT
from systolith.arch.presets import PRESETS
from systolith.gateware import axi, csr_bank, region_table
from systolith.gateware.region_table import ENTRY_BITS, in_table

from .case import Case, Control
from .edit import Edit
from .monitor import Monitor, implies
from .stream import add_contracts

WORD_BITS = 2
"""Address bits within a register."""

_COPIES = 3
"""Memories of the region table: one for each reader."""

TINY = PRESETS["tiny-4x4"]


def _count(t: Monitor, name: str, request: Value, answer: Value) -> Signal:
    """Return how many requests wait for their answer."""
    owed = Signal(2, name=name)
    t.m.d.sync += owed.eq(owed + request - answer)
    return owed


def _follow_clearing(t: Monitor) -> Signal:
    """Require that the region table is ready as soon as each entry was cleared; return that it is."""
    ready = t.probe("dut.regions.ready")
    cleared = t.probe("dut.regions.cleared", range(REGION_COUNT + 1))
    t.invariant("cleared", (cleared <= REGION_COUNT) & (ready == (cleared == REGION_COUNT)))
    before = t.past(cleared)
    idle = ~t.probe("dut.asked") & ~t.dut.bus.r.valid & ~t.dut.bus.b.valid
    t.invariant("no_answer_at_first", implies(~ready, idle))
    t.expect("clears", implies(t.was_live & t.past(~ready), cleared == before + 1))
    return ready


def _table_values(t: Monitor) -> dict[str, Value]:
    """Return the values of the region table's registers; all its copies must hold the same.

    What a memory holds before its row is cleared cannot be read, and counts as zero.
    """
    cleared = t.probe("dut.regions.cleared", range(REGION_COUNT + 1))
    copies = [
        t.probe_memory(f"dut.regions.entries_{n}", REGION_COUNT, ENTRY_BITS) for n in range(_COPIES)
    ]
    values: dict[str, Value] = {}
    for number, rows in enumerate(zip(*copies, strict=True)):
        there = cleared > number
        same = Cat(copy == rows[0] for copy in rows).all()
        t.invariant(f"copies{number}", implies(there, same))
        entry = Mux(there, rows[0], 0)
        for word, name in enumerate(("base_lo", "base_hi", "size", "flags")):
            values[f"region{number}_{name}"] = entry[32 * word : 32 * word + 32]
        if number == 0:
            first = Value.cast(t.dut.first_region)
            t.expect("first_region", first == entry[: len(first)])
    return values


def _describe_bus(t: Monitor) -> None:
    """One answer for each request, no answer without one, and none is held up for long."""
    bus = t.dut.bus
    add_contracts(t)
    ready = _follow_clearing(t)
    read, data = bus.ar.valid & bus.ar.ready, bus.r.valid & bus.r.ready
    reads = _count(t, "reads", read, data)
    asked = _follow_read(t, read)
    t.expect("r_for_each_ar", bus.r.valid == ((reads != 0) & ~asked))
    t.invariant("reads", reads == asked + bus.r.valid)
    t.expect("one_read", reads <= 1)
    free = (reads == 0) | (bus.r.valid & bus.r.ready)
    t.expect("ar_is_taken", implies(ready & bus.ar.valid & free, bus.ar.ready))
    answer = bus.b.valid & bus.b.ready
    addresses = _count(t, "addresses", bus.aw.valid & bus.aw.ready, answer)
    words = _count(t, "words", bus.w.valid & bus.w.ready, answer)
    t.expect("b_for_each_write", bus.b.valid == ((addresses != 0) & (words != 0)))
    t.invariant("together", addresses == words)
    t.expect("one_write", (addresses <= 1) & (words <= 1))
    both = ready & bus.aw.valid & bus.w.valid & ~bus.b.valid
    t.expect("write_is_taken", implies(both, bus.aw.ready & bus.w.ready))
    t.expect("r_okay", implies(bus.r.valid, bus.r.p.resp == axi.OKAY))
    t.expect("b_okay", implies(bus.b.valid, bus.b.p.resp == axi.OKAY))
    once = Signal(name="read_once")
    t.m.d.sync += once.eq(once | data)
    t.reach("read_after_read", data & once)
    t.reach("read_beside_write", data & answer)


def _follow_read(t: Monitor, read: Value) -> Value:
    """Return whether there was a read one cycle ago; the bank knows, too."""
    asked = Signal(name="asked")
    t.m.d.sync += asked.eq(read)
    t.invariant("asked", t.probe("dut.asked") == asked)
    t.invariant("one_at_a_time", ~(asked & t.dut.bus.r.valid))
    return asked


def _describe_registers(t: Monitor) -> None:
    """A register changes by a write to its address that is not locked out, and is read as it is.

    The proof is about one register, any of them: the solver chooses its address.
    """
    dut, bus = t.dut, t.dut.bus
    address = t.constant("address", axi.LITE_ADDR_BITS - WORD_BITS)
    values = {
        Access.RW: {name: dut.setting[name] for name in dut.setting.shape().members}
        | _table_values(t),
        Access.RO: {name: dut.state[name] for name in dut.state.shape().members},
    }
    values[Access.RO] |= dut.constants
    value, mask = Signal(32, name="value"), Signal(32, name="mask")
    writable, readable = Signal(name="writable"), Signal(name="readable")
    pulse = Signal(32, name="pulse")
    with t.m.Switch(address):
        for register in csr.REGISTERS:
            with t.m.Case(register.addr >> WORD_BITS):
                t.m.d.comb += mask.eq(csr_bank.writable_mask(register))
                if register.access in values:
                    t.m.d.comb += value.eq(values[register.access][register.name])
                if register.access is Access.W1:
                    t.m.d.comb += pulse.eq(dut.command[register.name])
                t.m.d.comb += writable.eq(register.access is Access.RW)
                # Those that are cleared by writing have no pin that shows their value.
                t.m.d.comb += readable.eq(register.access is not Access.W1C)
        with t.m.Default():
            t.m.d.comb += readable.eq(1)
    write = bus.aw.valid & bus.aw.ready & bus.w.valid & bus.w.ready
    hit = write & (bus.aw.p.addr[WORD_BITS:] == address)
    was, may = t.past(value), t.past(hit & ~dut.busy)
    stays = value == was
    t.expect("kept", implies(t.was_live & writable & ~may, stays))
    word, strobes = t.past(bus.w.p.data & mask), t.past(bus.w.p.strb)
    for byte in range(4):
        bits = slice(8 * byte, 8 * byte + 8)
        expected = Mux(strobes[byte], word[bits], was[bits])
        written = value[bits] == expected
        t.expect(f"written{byte}", implies(t.was_live & writable & may, written))
    ready = _follow_clearing(t)
    t.invariant(
        "clear_at_first", implies(~ready & in_table(Cat(Const(0, WORD_BITS), address)), value == 0)
    )
    t.invariant("only_fields", implies(writable, value & ~mask == 0))
    _expect_read(t, address, value, readable)
    t.expect("acts", implies(t.was_live & ~t.past(hit), pulse == 0))
    t.reach("pulses", pulse != 0)
    t.reach("changed", t.was_live & writable & may & ~stays)
    t.reach("locked", writable & hit & dut.busy)


def _expect_read(t: Monitor, address: Value, value: Value, readable: Value) -> None:
    """Require that an answer is what the register was in the cycle after its address."""
    bus = t.dut.bus
    read = bus.ar.valid & bus.ar.ready
    asked = _follow_read(t, read)
    place = Signal(len(address), name="place")
    with t.m.If(read):
        t.m.d.sync += place.eq(bus.ar.p.addr[WORD_BITS:])
    tabled = in_table(Cat(Const(0, WORD_BITS), place))
    table_place = Cat(
        t.probe("dut.regions.which", region_table.WORD_BITS),
        t.probe("dut.regions.index", region_table.INDEX_BITS),
    )
    t.invariant("tabled", implies(asked, t.probe("dut.tabled") == tabled))
    t.invariant("table_place", implies(asked, table_place == place[: len(table_place)]))
    places = [
        r.addr >> WORD_BITS
        for r in csr.REGISTERS
        if r.access is not Access.W1 and not in_table(r.addr)
    ]
    wanted = t.probe("dut.wanted", len(places))
    known = wanted == Cat(*(place == number for number in places))
    t.invariant("wanted", implies(asked, known))
    mine = asked & (place == address) & readable
    t.expect("read", implies(t.was_live & t.past(mine), bus.r.p.data == t.past(value)))


def _bank() -> csr_bank.CsrBank:
    return csr_bank.CsrBank(constants=csr.constants(TINY))


CASES = (
    Case(
        name="axi-lite",
        design=_bank,
        describe=_describe_bus,
        depth=1,
        cover_depth=17,
        controls=(
            Control(
                "one_write",
                (
                    Edit(
                        "csr_bank",
                        "both = address.valid & word.valid & ~self.bus.b.valid",
                        "both = address.valid & word.valid",
                    ),
                ),
            ),
            Control(
                "r_for_each_ar",
                (
                    Edit(
                        "csr_bank",
                        "with m.If(asked):\n            m.d.sync += [answer.valid",
                        "with m.If(1):\n            m.d.sync += [answer.valid",
                    ),
                ),
            ),
        ),
        fast=True,
    ),
    Case(
        name="registers",
        design=_bank,
        describe=_describe_registers,
        depth=1,
        cover_depth=15,
        controls=(
            Control("kept", (Edit("csr_bank", "with m.If(hit & ~self.busy):", "with m.If(hit):"),)),
            Control(
                "written?",
                (Edit("csr_bank", "(value & ~strobe_bits & mask)", "(value & mask)"),),
            ),
            Control(
                "read",
                (Edit("csr_bank", "value & want.replicate(REGISTER_BITS)", "value"),),
            ),
        ),
    ),
)
