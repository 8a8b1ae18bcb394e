# amaranth: UnusedElaboratable=no
"""Queues: order, rate, latency, and waits at the head."""

import pytest
from amaranth.sim import Simulator

from systolith.arch import isa
from systolith.gateware.queue import CommandQueue
from systolith.gateware.slices import FlowFifo


def simulate(dut, scenario):
    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(scenario)
    simulator.run()


@pytest.mark.parametrize("depth", [2, 5, 16])
@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.6, 0.1), (0.1, 0.6)])
def test_fifo_keeps_order_and_never_holds_more_than_its_depth(depth, stalls, rng):
    dut = FlowFifo(32, depth, bypass=False)
    values = rng.integers(1 << 32, size=150).tolist()
    received, sent = [], 0

    async def scenario(ctx):
        nonlocal sent
        for _ in range(2000):
            if not ctx.get(dut.i.valid) and sent < len(values) and rng.random() >= stalls[0]:
                ctx.set(dut.i.payload, values[sent])
                ctx.set(dut.i.valid, 1)
            ctx.set(dut.o.ready, rng.random() >= stalls[1])
            _, _, pushed, popped, payload = await ctx.tick().sample(
                dut.i.valid & dut.i.ready, dut.o.valid & dut.o.ready, dut.o.payload
            )
            if pushed:
                ctx.set(dut.i.valid, 0)
                sent += 1
            if popped:
                received.append(payload)
            assert ctx.get(dut.level) == sent - len(received) <= depth
            if len(received) == len(values):
                return
        pytest.fail("the values did not come out within 2000 cycles")

    simulate(dut, scenario)
    assert received == values


def test_without_bypass_latency_is_two_and_rate_is_full():
    dut = FlowFifo(8, 4, bypass=False)

    async def scenario(ctx):
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.o.ready, 1)
        for cycle in range(20):
            ctx.set(dut.i.payload, cycle)
            assert ctx.get(dut.i.ready)
            assert ctx.get(dut.o.valid) == (cycle >= 2)
            if cycle >= 2:
                assert ctx.get(dut.o.payload) == cycle - 2
            await ctx.tick()

    simulate(dut, scenario)


@pytest.mark.parametrize("waits", [(), (isa.Engine.LOAD,), tuple(isa.Engine)[:4]])
def test_head_waits_for_the_engines_named_only(waits, rng):
    dut = CommandQueue(depth=4, waits=waits)
    assert dut.waits == set(waits)

    async def scenario(ctx):
        ctx.set(dut.i.p.targets, [7, 8, 9, 10])
        ctx.set(dut.i.valid, 1)
        await ctx.tick()
        ctx.set(dut.i.valid, 0)
        for _ in range(100):
            progress = rng.integers(5, 13, 4).tolist()
            ctx.set(dut.progress, progress)
            await ctx.tick()
            behind = [e for e in waits if progress[e] < (7, 8, 9, 10)[e]]
            assert ctx.get(dut.waiting) == sum(1 << e for e in behind)
            assert ctx.get(dut.o.valid) == (not behind)
        ctx.set(dut.progress, [7, 8, 9, 10])
        await ctx.tick()
        assert ctx.get(dut.o.valid) and ctx.get(dut.level) == 1
        ctx.set(dut.o.ready, 1)
        await ctx.tick()
        assert (ctx.get(dut.o.valid), ctx.get(dut.waiting), ctx.get(dut.level)) == (0, 0, 0)

    simulate(dut, scenario)


def test_arguments_that_are_wrong_are_refused():
    with pytest.raises(ValueError, match="Depth must be an integer of at least 2, not 1"):
        FlowFifo(8, 1)
    with pytest.raises(ValueError, match="must name engines that execute instructions"):
        CommandQueue(depth=4, waits=[isa.Engine.SEQUENCER])
