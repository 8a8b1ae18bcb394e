# amaranth: UnusedElaboratable=no
"""Block RAM of a board: bursts, strobes, full rate, errors, and the host beside them."""

import pytest
from amaranth.sim import Simulator

from systolith.boards.ram import BlockRam
from systolith.gateware import axi

BYTES = 8192
LIMIT_CYCLES = 400


class Bench:
    """A memory and its model."""

    def __init__(self, data_bits=64):
        self.dut = BlockRam(data_bits, BYTES)
        self.beat_bytes = data_bits // 8
        self.model = bytearray(BYTES)

    def run(self, *scenarios):
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-8)
        for scenario in scenarios:
            simulator.add_testbench(scenario)
        simulator.run()

    async def send(self, ctx, channel, **fields):
        for name, value in fields.items():
            ctx.set(channel.p[name], value)
        ctx.set(channel.valid, 1)
        for _ in range(LIMIT_CYCLES):
            _, _, ready = await ctx.tick().sample(channel.ready)
            if ready:
                ctx.set(channel.valid, 0)
                return
        pytest.fail("the channel was never ready")

    async def address(self, ctx, channel, addr, beats, **fields):
        size = self.beat_bytes.bit_length() - 1
        burst = {"burst": axi.INCR, "size": size, "id": 1} | fields
        await self.send(ctx, channel, addr=addr, len=beats - 1, **burst)

    async def receive(self, ctx, channel, ready=lambda: True):
        for _ in range(LIMIT_CYCLES):
            accept = int(ready())
            ctx.set(channel.ready, accept)
            _, _, valid, payload = await ctx.tick().sample(channel.valid, channel.p)
            if valid and accept:
                ctx.set(channel.ready, 0)
                return payload
        pytest.fail("the answer never came")

    async def read(self, ctx, addr, beats, ready=lambda: True, **fields):
        await self.address(ctx, self.dut.bus.ar, addr, beats, **fields)
        return await self.take(ctx, beats, ready)

    async def take(self, ctx, beats, ready=lambda: True):
        """Return the bytes and the responses of a burst."""
        got, responses = b"", set()
        for n in range(beats):
            beat = await self.receive(ctx, self.dut.bus.r, ready)
            assert beat.last == (n == beats - 1)
            assert beat.id == 1
            got += beat.data.to_bytes(self.beat_bytes, "little")
            responses.add(beat.resp)
        (response,) = responses
        return got, response

    async def put(self, ctx, data, strobes, last):
        word = int.from_bytes(data, "little")
        await self.send(ctx, self.dut.bus.w, data=word, strb=strobes, last=last)

    async def write(self, ctx, addr, data, strobes, **fields):
        """Write a burst, note it in the model, and return the response."""
        beats = len(strobes)
        await self.address(ctx, self.dut.bus.aw, addr, beats, **fields)
        for n, mask in enumerate(strobes):
            beat = data[n * self.beat_bytes : (n + 1) * self.beat_bytes]
            await self.put(ctx, beat, mask, n == beats - 1)
        answer = await self.receive(ctx, self.dut.bus.b)
        assert answer.id == 1
        if answer.resp == axi.OKAY:
            start = addr // self.beat_bytes * self.beat_bytes
            for n, value in enumerate(data):
                if strobes[n // self.beat_bytes] >> n % self.beat_bytes & 1:
                    self.model[start + n] = value
        return answer.resp

    async def host_write(self, ctx, addr, value):
        self.model[addr] = value
        ctx.set(self.dut.host.addr, addr)
        ctx.set(self.dut.host.data, value)
        ctx.set(self.dut.host.write, 1)
        await ctx.tick()
        ctx.set(self.dut.host.write, 0)
        # As long as the contract asks for before the byte can be read.
        await ctx.tick()

    async def host_read(self, ctx, addr):
        ctx.set(self.dut.host.addr, addr)
        ctx.set(self.dut.host.read, 1)
        await ctx.tick()
        ctx.set(self.dut.host.read, 0)
        for _ in range(4):
            _, _, valid, value = await ctx.tick().sample(
                self.dut.host.result_valid, self.dut.host.result
            )
            if valid:
                return value
        pytest.fail("the byte never came")


@pytest.mark.parametrize("data_bits", [8, 64, 256])
def test_random_bursts_and_bytes_equal_the_model(data_bits, rng):
    bench = Bench(data_bits)
    size = bench.beat_bytes

    async def scenario(ctx):
        for _ in range(40):
            beats = int(rng.integers(1, 17))
            addr = int(rng.integers(0, BYTES // size - beats + 1)) * size
            kind = rng.integers(4)
            if kind == 0:
                strobes = [int.from_bytes(rng.bytes(size)) % (1 << size) for _ in range(beats)]
                answer = await bench.write(ctx, addr, rng.bytes(beats * size), strobes)
                assert answer == axi.OKAY
            elif kind == 1:
                got, response = await bench.read(ctx, addr, beats, lambda: rng.integers(3) > 0)
                assert (got, response) == (bytes(bench.model[addr : addr + len(got)]), axi.OKAY)
            elif kind == 2:
                await bench.host_write(ctx, addr + size - 1, int(rng.integers(256)))
            else:
                assert await bench.host_read(ctx, addr) == bench.model[addr]

    bench.run(scenario)


def test_reads_take_a_beat_per_cycle_over_several_bursts():
    bench = Bench()
    bursts, beats = 4, 16
    cycles = []

    async def ask(ctx):
        for n in range(bursts):
            await bench.address(ctx, bench.dut.bus.ar, 128 * n, beats)

    async def take(ctx):
        ctx.set(bench.dut.bus.r.ready, 1)
        for cycle in range(LIMIT_CYCLES):
            _, _, valid = await ctx.tick().sample(bench.dut.bus.r.valid)
            if valid:
                cycles.append(cycle)

    bench.run(ask, take)
    # The first beat comes as early as the docstring says, and all others follow without gap.
    assert cycles == list(range(6, 6 + bursts * beats))


def test_writes_take_a_beat_per_cycle_over_several_bursts():
    bench = Bench()
    bursts, beats = 4, 16
    cycles = []

    async def ask(ctx):
        for n in range(bursts):
            await bench.address(ctx, bench.dut.bus.aw, 128 * n, beats)

    async def put(ctx):
        ctx.set(bench.dut.bus.w.valid, 1)
        ctx.set(bench.dut.bus.w.p.strb, 0xFF)
        ctx.set(bench.dut.bus.b.ready, 1)
        for cycle in range(LIMIT_CYCLES):
            if len(cycles) == bursts * beats:
                ctx.set(bench.dut.bus.w.valid, 0)
            _, _, ready, valid = await ctx.tick().sample(
                bench.dut.bus.w.ready, bench.dut.bus.w.valid
            )
            if ready and valid:
                cycles.append(cycle)

    bench.run(ask, put)
    assert len(cycles) == bursts * beats
    # The first one is taken before its address is known, and waits.
    assert cycles[1:] == list(range(cycles[1], cycles[1] + bursts * beats - 1))


def test_host_is_served_while_the_bus_is_busy(rng):
    bench = Bench()
    data = rng.bytes(128)

    async def bus(ctx):
        for _ in range(20):
            await bench.write(ctx, 0, data, [0xFF] * 16)
            got, _ = await bench.read(ctx, 0, 16)
            assert got == data

    async def host(ctx):
        for n in range(60):
            await bench.host_write(ctx, 4096 + n, n)
            assert await bench.host_read(ctx, 4096 + n) == n
            await ctx.tick().repeat(n % 5 + 1)

    bench.run(bus, host)


def test_unanswered_writes_stop_the_bus_and_lose_nothing(rng):
    bench = Bench()
    data = rng.bytes(8)

    async def scenario(ctx):
        for addr in (0, 8):
            await bench.address(ctx, bench.dut.bus.aw, addr, 1)
            await bench.put(ctx, data, 0xFF, 1)
        # The second beat waits at the entry of the memory, and there is room for one.
        for _ in range(20):
            _, _, ready = await ctx.tick().sample(bench.dut.bus.w.ready)
            assert not ready
        await bench.receive(ctx, bench.dut.bus.b)
        await bench.receive(ctx, bench.dut.bus.b)
        got, _ = await bench.read(ctx, 0, 2)
        assert got == data + data

    bench.run(scenario)


def test_bursts_outside_or_of_another_kind_are_answered_with_an_error_and_write_nothing(rng):
    bench = Bench()
    cases = [
        (BYTES, {}, axi.DECERR),
        (1 << 40, {}, axi.DECERR),
        (0, {"size": 2}, axi.SLVERR),
        (0, {"burst": 0}, axi.SLVERR),
    ]

    async def scenario(ctx):
        for addr, fields, expected in cases:
            got = await bench.write(ctx, addr, rng.bytes(16), [0xFF, 0xFF], **fields)
            assert got == expected
            _, response = await bench.read(ctx, addr, 2, **fields)
            assert response == expected
        got, response = await bench.read(ctx, 0, 2)
        assert (got, response) == (bytes(16), axi.OKAY)

    bench.run(scenario)


@pytest.mark.parametrize("size", [0, 4095, 6000])
def test_memory_is_made_of_pages(size):
    with pytest.raises(ValueError, match=f"positive multiple of 4096 bytes, not {size}"):
        BlockRam(64, size)
