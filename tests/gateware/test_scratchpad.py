"""Scratchpad: every port at any alignment, under random contention, against a byte array."""

import gc
import warnings

import numpy as np
import pytest
from amaranth.hdl import UnusedElaboratable
from amaranth.sim import Simulator

from systolith.gateware.scratchpad import Scratchpad

CASES = [
    # size, word, banks, feeds
    (256, 4, 4, 3),
    (128, 8, 2, 1),
    (512, 8, 8, 2),
    (64, 2, 4, 1),
]


def banks_of(addr, word, banks):
    """Banks that a window needs."""
    first = addr // word % banks
    return {first} if addr % word == 0 else {first, (first + 1) % banks}


def take(ctx, stream):
    return ctx.get(stream.valid) and ctx.get(stream.ready)


class Model:
    """Bytes, and what was promised: reads due, writes that become visible."""

    def __init__(self, dut, rng):
        self.dut = dut
        self.memory = rng.integers(0, 256, dut.size_bytes).astype(np.uint8)
        self.pending_writes = []
        self.due = {}

    def window(self, addr):
        return self.memory[(addr + np.arange(self.dut.word_bytes)) % self.dut.size_bytes].tolist()

    def read(self, cycle, port, addr):
        self.due.setdefault(cycle + self.dut.read_latency, []).append((port, self.window(addr)))

    def write(self, cycle, addr, values, mask):
        self.pending_writes.append((cycle + self.dut.write_latency, addr, values, mask))

    def advance(self, cycle):
        while self.pending_writes and self.pending_writes[0][0] <= cycle:
            _, addr, values, mask = self.pending_writes.pop(0)
            for k, value in enumerate(values):
                if mask >> k & 1:
                    self.memory[(addr + k) % self.dut.size_bytes] = value


async def fill(ctx, dut, memory):
    word = dut.word_bytes
    ctx.set(dut.load_write.valid, 1)
    ctx.set(dut.load_write.p.mask, (1 << word) - 1)
    for addr in range(0, dut.size_bytes, word):
        ctx.set(dut.load_write.p.addr, addr)
        ctx.set(dut.load_write.p["data"], memory[addr : addr + word].tolist())
        await ctx.tick()
    ctx.set(dut.load_write.valid, 0)
    await ctx.tick().repeat(dut.write_latency)


def check(ctx, dut, due, drained, stored):
    for port, want in due:
        if port == "drain":
            assert drained, "drain_data_valid is missing"
            got = dut.drain_data
        elif port == "store":
            assert stored, "store_data_valid is missing"
            got = dut.store_data
        else:
            got = dut.feed_data[port]
        assert [ctx.get(got[k]) for k in range(dut.word_bytes)] == want, port
    ports = [port for port, _ in due]
    assert drained == ("drain" in ports)
    assert stored == ("store" in ports)


@pytest.mark.parametrize("registered", [False, True])
@pytest.mark.parametrize(("size", "word", "banks", "feeds"), CASES)
def test_random_traffic(rng, size, word, banks, feeds, registered):
    dut = Scratchpad(size, word, banks, feeds, registered=registered)
    assert dut.read_latency == 4 + registered
    model = Model(dut, rng)
    stalled = {"drain": 0, "store": 0, "load": 0}

    def request(ctx, stream, addr_of, rate):
        # A request stays as it is until it is taken.
        if not ctx.get(stream.valid) and rng.random() < rate:
            ctx.set(stream.valid, 1)
            ctx.set(addr_of, int(rng.integers(size)))
            return True
        return False

    def drive_feeds(ctx):
        """Set random feeds that do not meet; return the banks that they need."""
        taken = set()
        for j in range(feeds):
            addr = int(rng.integers(size))
            needs = banks_of(addr if j == 0 else addr - addr % word, word, banks)
            enable = rng.random() < 0.4 and not needs & taken
            ctx.set(dut.feed_en[j], enable)
            # The offset of feeds that are aligned must not matter.
            ctx.set(dut.feed_addr[j], addr)
            taken |= needs if enable else set()
        return taken

    def check_grants(ctx, taken):
        for name, stream, wins in (
            ("drain", dut.drain_read, True),
            ("store", dut.store_read, not ctx.get(dut.drain_read.valid)),
        ):
            if ctx.get(stream.valid):
                free = not banks_of(ctx.get(stream.p), word, banks) & taken
                assert ctx.get(stream.ready) == (free and wins), name
                stalled[name] += not (free and wins)

    async def testbench(ctx):
        await fill(ctx, dut, model.memory)
        for cycle in range(400):
            request(ctx, dut.drain_read, dut.drain_read.p, 0.5)
            request(ctx, dut.store_read, dut.store_read.p, 0.5)
            for stream, rate in ((dut.drain_write, 0.3), (dut.load_write, 0.5)):
                if request(ctx, stream, stream.p.addr, rate):
                    ctx.set(stream.p["data"], rng.integers(0, 256, word).tolist())
                    ctx.set(stream.p.mask, int(rng.integers(1 << word)))
            taken = drive_feeds(ctx)
            await ctx.delay(1e-7)

            model.advance(cycle)
            assert not ctx.get(dut.conflict)
            check_grants(ctx, taken)
            assert ctx.get(dut.drain_write.ready)
            assert ctx.get(dut.load_write.ready) == (not ctx.get(dut.drain_write.valid))
            check(
                ctx,
                dut,
                model.due.pop(cycle, []),
                ctx.get(dut.drain_data_valid),
                ctx.get(dut.store_data_valid),
            )
            for j in range(feeds):
                if ctx.get(dut.feed_en[j]):
                    addr = ctx.get(dut.feed_addr[j])
                    model.read(cycle, j, addr if j == 0 else addr - addr % word)
            done = []
            for name, stream in (("drain", dut.drain_read), ("store", dut.store_read)):
                if take(ctx, stream):
                    model.read(cycle, name, ctx.get(stream.p))
                    done.append(stream)
            for name, stream in (("drain", dut.drain_write), ("load", dut.load_write)):
                if take(ctx, stream):
                    values = [ctx.get(stream.p["data"][k]) for k in range(word)]
                    model.write(cycle, ctx.get(stream.p.addr), values, ctx.get(stream.p.mask))
                    done.append(stream)
                elif ctx.get(stream.valid):
                    stalled[name] += 1
            await ctx.tick()
            for stream in done:
                ctx.set(stream.valid, 0)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()
    assert all(stalled.values()), stalled


def test_conflict_is_reported():
    dut = Scratchpad(256, 4, 4, 2)
    cases = [
        # feed 0, feed 1, do they meet
        (0, 4, False),
        (1, 4, True),
        (1, 0, True),
        (4, 4, True),
        (4, 8, False),
        (6, 8, True),
        (15, 0, True),
        (12, 0, False),
        (255, 0, True),
    ]

    async def testbench(ctx):
        for first, second, meet in cases:
            ctx.set(dut.feed_addr[0], first)
            ctx.set(dut.feed_addr[1], second)
            for enables in range(4):
                ctx.set(dut.feed_en[0], enables & 1)
                ctx.set(dut.feed_en[1], enables >> 1)
                await ctx.delay(1e-7)
                assert ctx.get(dut.conflict) == (meet and enables == 3), (first, second)
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((100, 4, 4, 1), "size_bytes must be a power of two of at least 4, not 100"),
        ((256, 3, 4, 1), "word_bytes must be a power of two of at least 2, not 3"),
        ((256, 4, 1, 1), "banks must be a power of two of at least 2, not 1"),
        ((256, 4, 4, 0), "feeds must be an integer of at least 1, not 0"),
        ((64, 16, 4, 1), "size_bytes must be at least two words"),
    ],
)
def test_bad_parameters_are_refused(arguments, message):
    text = ""
    with warnings.catch_warnings():
        # A component that refused its parameters is never elaborated.
        warnings.simplefilter("ignore", UnusedElaboratable)
        try:
            Scratchpad(*arguments)
        except ValueError as error:
            text = str(error)
        gc.collect()
    assert message in text
