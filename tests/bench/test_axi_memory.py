"""The memory model must notice when a master breaks the rules of AXI."""

import pytest
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator

from systolith.bench.axi_memory import AxiMemory, AxiProtocolError, Stalls
from systolith.gateware import axi

LEGAL = {"addr": 0x1000, "len": 3, "size": 3, "burst": axi.INCR, "cache": axi.CACHE}


def simulate(memory, master, cycles=60):
    bus = axi.Signature(memory.data_bits).create()
    m = Module()
    m.d.sync += Signal().eq(1)  # the clock must exist

    async def limited(ctx):
        await master(ctx, bus)
        # Not `repeat`: it warns when an error elsewhere ends the simulation.
        for _ in range(cycles):
            await ctx.tick()

    sim = Simulator(m)
    sim.add_clock(1e-8)
    sim.add_process(memory.reader(bus.ar, bus.r))
    sim.add_process(memory.writer(bus.aw, bus.w, bus.b))
    sim.add_testbench(limited)
    sim.run()


def offer(ctx, channel, **fields):
    for name, value in fields.items():
        ctx.set(channel.p[name], value)
    ctx.set(channel.valid, 1)


async def accepted(ctx, stream):
    """Wait for `ready`, without `until`, for the reason given above."""
    ready = False
    while not ready:
        *_, ready = await ctx.tick().sample(stream.ready)


@pytest.mark.parametrize("channel", ["ar", "aw"])
@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"id": 1}, "AxID must be 0"),
        ({"burst": 2}, "AxBURST must be INCR"),
        ({"size": 2}, "AxSIZE must be the full width"),
        ({"cache": 0}, "AxCACHE must be 0b0011"),
        ({"prot": 1}, "AxPROT must be 0"),
        ({"addr": 0x1004}, "AxADDR must be a multiple of the beat"),
        ({"len": 16}, "AxLEN must be at most 15"),
        ({"addr": 0x1FF0}, "a burst must not cross 4 KiB"),
    ],
)
def test_memory_refuses_an_illegal_burst(channel, change, rule):
    async def master(ctx, bus):
        offer(ctx, getattr(bus, channel), **LEGAL | change)

    with pytest.raises(AxiProtocolError, match=rule):
        simulate(AxiMemory(64), master)


@pytest.mark.parametrize("channel", ["ar", "aw", "w"])
@pytest.mark.parametrize("withdraw", [True, False])
def test_memory_refuses_an_offer_that_changes(channel, withdraw):
    async def master(ctx, bus):
        stream = getattr(bus, channel)
        offer(ctx, stream, **(LEGAL if channel != "w" else {"data": 1, "strb": 1}))
        await ctx.tick()
        await ctx.tick()
        if withdraw:
            ctx.set(stream.valid, 0)
        else:
            ctx.set(stream.payload[("data" if channel == "w" else "addr")], 8)

    with pytest.raises(AxiProtocolError, match=f"{channel.upper()} must stay valid and stable"):
        simulate(AxiMemory(64, stalls=Stalls.uniform(1.0)), master)


@pytest.mark.parametrize(("beats", "marked"), [(4, 2), (1, None)])
def test_memory_refuses_a_misplaced_last(beats, marked):
    async def master(ctx, bus):
        offer(ctx, bus.aw, **LEGAL | {"len": beats - 1})
        await accepted(ctx, bus.aw)
        ctx.set(bus.aw.valid, 0)
        for beat in range(beats):
            offer(ctx, bus.w, data=0, strb=0, last=beat == marked)
            await accepted(ctx, bus.w)

    with pytest.raises(AxiProtocolError, match="WLAST must mark the last"):
        simulate(AxiMemory(64), master)


def test_memory_answers_after_its_latency_then_one_beat_per_cycle():
    memory = AxiMemory(64, size=1 << 13, latency=7)
    memory.data[:] = bytes(n % 251 for n in range(1 << 13))
    came = []

    async def master(ctx, bus):
        ctx.set(bus.r.ready, 1)
        offer(ctx, bus.ar, **LEGAL)
        await accepted(ctx, bus.ar)
        ctx.set(bus.ar.valid, 0)
        for cycle in range(1, 20):
            *_, valid, beat = await ctx.tick().sample(bus.r.valid, bus.r.p)
            if valid:
                came.append((cycle, beat.data, beat.last))

    simulate(memory, master)
    words = [memory.data[0x1000 + 8 * n : 0x1008 + 8 * n] for n in range(4)]
    assert came == [(7 + n, int.from_bytes(word, "little"), n == 3) for n, word in enumerate(words)]
    assert memory.idle
    assert memory.reads == [(0x1000, 4)]
