# amaranth: UnusedElaboratable=no
"""The region table: what is written is read, everywhere, and a reset clears it."""

import random

import pytest
from amaranth.hdl import Module, ResetInserter, Signal
from amaranth.sim import Simulator

from systolith.arch import csr, isa
from systolith.gateware.region_table import RegionTable, in_table
from systolith.gateware.words import REGION

LOOKUPS = 2
WORDS = 4


def simulate(scenario):
    """Run a scenario with a table and the signal of its reset."""
    m = Module()
    reset, table = Signal(), RegionTable(lookups=LOOKUPS)
    m.submodules.table = ResetInserter(reset)(table)
    simulator = Simulator(m)
    simulator.add_clock(1e-8)

    async def testbench(ctx):
        await scenario(ctx, table, reset)

    simulator.add_testbench(testbench)
    simulator.run()


async def clear(ctx, table):
    """Wait until the table is ready and return the cycles that it took."""
    cycles = 0
    while not ctx.get(table.ready):
        await ctx.tick()
        cycles += 1
        assert cycles <= isa.REGION_COUNT
    return cycles


async def write(ctx, table, index, which, data, strobes=0b1111):
    ctx.set(table.w_index, index)
    ctx.set(table.w_which, which)
    ctx.set(table.w_data, data)
    ctx.set(table.w_en, strobes)
    await ctx.tick()
    ctx.set(table.w_en, 0)


def check(ctx, table, expected):
    """Compare all that the table shows with `expected`, an entry of bits for each region."""
    for index, entry in enumerate(expected):
        ctx.set(table.index, index)
        for which in range(WORDS):
            ctx.set(table.which, which)
            assert ctx.get(table.word) == entry >> 32 * which & 0xFFFF_FFFF
        for reader in table.lookup:
            ctx.set(reader.index, index)
            assert ctx.get(reader.region.as_value()) == entry
    assert ctx.get(table.first.as_value()) == expected[0]


def test_every_reader_sees_what_was_written(seed):
    rng = random.Random(seed)

    async def scenario(ctx, table, reset):
        assert await clear(ctx, table) == isa.REGION_COUNT
        expected = [0] * isa.REGION_COUNT
        check(ctx, table, expected)
        for _ in range(200):
            index, which = rng.randrange(isa.REGION_COUNT), rng.randrange(WORDS)
            data, strobes = rng.getrandbits(32), rng.getrandbits(4)
            await write(ctx, table, index, which, data, strobes)
            mask = sum(0xFF << 8 * byte for byte in range(4) if strobes >> byte & 1) << 32 * which
            merged = (expected[index] & ~mask) | (data << 32 * which & mask)
            expected[index] = merged & ((1 << REGION.size) - 1)
            check(ctx, table, expected)

    simulate(scenario)


def test_reset_clears_each_entry_before_the_table_is_ready():
    async def scenario(ctx, table, reset):
        await clear(ctx, table)
        for index in range(isa.REGION_COUNT):
            for which in range(WORDS):
                await write(ctx, table, index, which, 0xFFFF_FFFF)
        ctx.set(reset, 1)
        await ctx.tick()
        ctx.set(reset, 0)
        assert await clear(ctx, table) == isa.REGION_COUNT
        check(ctx, table, [0] * isa.REGION_COUNT)

    simulate(scenario)


def test_registers_of_the_table_are_those_of_the_regions():
    for register in csr.REGISTERS:
        assert in_table(register.addr) == register.name.startswith("region"), register.name


@pytest.mark.parametrize("lookups", [0, 1.5])
def test_a_table_has_readers(lookups):
    with pytest.raises(ValueError, match="Lookups must be at least 1"):
        RegionTable(lookups=lookups)
