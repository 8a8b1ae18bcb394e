"""Performance counters against the sums of their events."""

from amaranth.sim import Simulator

from systolith.arch import csr
from systolith.gateware.counters import PerformanceCounters

AXI_BYTES = 16
NAMES = [name for name, _ in csr.COUNTERS]


def test_events_are_counted_while_enabled_and_kept_afterwards(rng):
    dut = PerformanceCounters(axi_bytes=AXI_BYTES)

    async def scenario(ctx):
        for _run in range(2):
            ctx.set(dut.clear, 1)
            await ctx.tick()
            ctx.set(dut.clear, 0)
            assert all(ctx.get(dut.values[name]) == 0 for name in ["cycles", *NAMES])
            sums = dict.fromkeys(["cycles", *NAMES], 0)
            for enable in rng.integers(0, 2, 200).tolist():
                events = {
                    name: int(rng.integers(AXI_BYTES + 1 if name.endswith("_bytes") else 2))
                    for name in NAMES
                }
                ctx.set(dut.enable, enable)
                ctx.set(dut.events, events)
                await ctx.tick()
                for name, count in {"cycles": 1, **events}.items():
                    sums[name] += enable * count
            ctx.set(dut.enable, 0)
            await ctx.tick().repeat(5)
            assert {name: ctx.get(dut.values[name]) for name in sums} == sums

    simulator = Simulator(dut)
    simulator.add_clock(1e-8)
    simulator.add_testbench(scenario)
    simulator.run()
