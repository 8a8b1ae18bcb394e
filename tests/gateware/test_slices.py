# amaranth: UnusedElaboratable=no
"""Register slices: order, rate, latency, and what their ends depend on."""

import pytest
from amaranth.sim import Simulator

from systolith.gateware.slices import FlowFifo, SkidBuffer


def simulate(dut, scenario):
    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(scenario)
    simulator.run()


@pytest.mark.parametrize(
    ("make", "room"),
    [(lambda: SkidBuffer(32), 1), *((lambda n=n: FlowFifo(32, depth=n), n) for n in (2, 3, 8))],
    ids=["skid", "flow2", "flow3", "flow8"],
)
@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.6, 0.1), (0.1, 0.6)])
def test_payloads_keep_their_order(make, room, stalls, rng):
    dut = make()
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
            assert 0 <= sent - len(received) <= room
            if isinstance(dut, FlowFifo):
                assert ctx.get(dut.level) == sent - len(received)
            if len(received) == len(values):
                return
        pytest.fail("the values did not come out within 2000 cycles")

    simulate(dut, scenario)
    assert received == values


@pytest.mark.parametrize(
    ("make", "latency"), [(lambda: SkidBuffer(8), 0), (lambda: FlowFifo(8, depth=2), 1)]
)
def test_latency_and_full_rate(make, latency):
    dut = make()

    async def scenario(ctx):
        ctx.set(dut.i.valid, 1)
        ctx.set(dut.o.ready, 1)
        for cycle in range(20):
            ctx.set(dut.i.payload, cycle)
            assert ctx.get(dut.i.ready)
            assert ctx.get(dut.o.valid) == (cycle >= latency)
            if cycle >= latency:
                assert ctx.get(dut.o.payload) == cycle - latency
            await ctx.tick()

    simulate(dut, scenario)


@pytest.mark.parametrize("make", [lambda: SkidBuffer(8), lambda: FlowFifo(8, depth=3)])
def test_ready_does_not_depend_on_the_other_end(make):
    dut = make()

    async def scenario(ctx):
        ctx.set(dut.i.valid, 1)
        for _ in range(6):
            ready = ctx.get(dut.i.ready)
            for taken in (1, 0):
                ctx.set(dut.o.ready, taken)
                assert ctx.get(dut.i.ready) == ready
            await ctx.tick()
        assert not ctx.get(dut.i.ready), "it is full"

    simulate(dut, scenario)


def test_depth_that_holds_nothing_behind_the_head_is_refused():
    with pytest.raises(ValueError, match="Depth must be an integer of at least 2, not 1"):
        FlowFifo(8, depth=1)
