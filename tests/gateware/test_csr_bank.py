# amaranth: UnusedElaboratable=no
"""Register bank: every register by its declaration, and the bus rules."""

import pytest
from amaranth.sim import Simulator

from systolith.arch import csr
from systolith.arch.csr import Access
from systolith.arch.presets import PRESETS
from systolith.gateware.csr_bank import CsrBank, writable_mask
from systolith.gateware.region_table import in_table

CONFIG = PRESETS["tiny-4x4"]
CONSTANTS = csr.constants(CONFIG)
LIMIT_CYCLES = 50
ALL_ONES = 0xFFFFFFFF


class Host:
    """AXI4-Lite master: one access at a time, with a chosen order of address and data."""

    def __init__(self, dut):
        self.dut = dut
        self.pulses = {r.name: [] for r in csr.REGISTERS if r.access is Access.W1}

    def run(self, scenario):
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-8)
        simulator.add_process(self.record)
        simulator.add_testbench(scenario)
        simulator.run()

    async def record(self, ctx):
        names = list(self.pulses)
        signals = [self.dut.command[name] for name in names]
        async for _, _, *values in ctx.tick().sample(*signals):
            for name, value in zip(names, values, strict=True):
                if value:
                    self.pulses[name].append(value)

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

    async def receive(self, ctx, channel, delay=0):
        await ctx.tick().repeat(delay) if delay else None
        ctx.set(channel.ready, 1)
        for _ in range(LIMIT_CYCLES):
            _, _, valid, payload = await ctx.tick().sample(channel.valid, channel.p)
            if valid:
                ctx.set(channel.ready, 0)
                return payload
        pytest.fail("the answer never came")

    async def read(self, ctx, addr, delay=0):
        await self.send(ctx, self.dut.bus.ar, addr=addr)
        answer = await self.receive(ctx, self.dut.bus.r, delay)
        assert answer.resp == 0
        return answer.data

    async def write(self, ctx, addr, value, strobes=0b1111, *, lead=0, delay=0):
        """Write with the address `lead` cycles before the data, or after it if negative."""
        address, word = self.dut.bus.aw, self.dut.bus.w
        ctx.set(address.p.addr, addr)
        ctx.set(word.p.data, value)
        ctx.set(word.p.strb, strobes)
        ctx.set(address.valid, lead >= 0)
        ctx.set(word.valid, lead <= 0)
        for _ in range(abs(lead)):
            await ctx.tick()
            assert not ctx.get(self.dut.bus.b.valid)
        ctx.set(address.valid, 1)
        ctx.set(word.valid, 1)
        for _ in range(LIMIT_CYCLES):
            _, _, a, w = await ctx.tick().sample(address.ready, word.ready)
            if a:
                ctx.set(address.valid, 0)
            if w:
                ctx.set(word.valid, 0)
            if not ctx.get(address.valid) and not ctx.get(word.valid):
                break
        else:
            pytest.fail("the write was never taken")
        assert (await self.receive(ctx, self.dut.bus.b, delay)).resp == 0


@pytest.fixture
def host():
    return Host(CsrBank(constants=CONSTANTS))


def test_every_register_obeys_its_declaration(host, rng):
    async def scenario(ctx):
        state = {}
        for register in csr.REGISTERS:
            if register.access is Access.RO and register.name not in CONSTANTS:
                state[register.name] = int(rng.integers(1 << 32))
                ctx.set(host.dut.state[register.name], state[register.name])
        for register in csr.REGISTERS:
            before = await host.read(ctx, register.addr)
            await host.write(ctx, register.addr, ALL_ONES)
            after = await host.read(ctx, register.addr)
            expected = {
                Access.RO: {**CONSTANTS, **state}.get(register.name),
                Access.RW: writable_mask(register),
            }.get(register.access, 0)
            assert after == expected, register.name
            assert before == (expected if register.access is Access.RO else 0), register.name

    host.run(scenario)
    control = csr.BY_NAME["control"]
    assert host.pulses == {"control": [writable_mask(control)]}


def test_settings_keep_random_values_and_obey_strobes(host, rng):
    registers = [r for r in csr.REGISTERS if r.access is Access.RW]
    expected = dict.fromkeys((r.name for r in registers), 0)

    async def scenario(ctx):
        for _ in range(4 * len(registers)):
            register = registers[rng.integers(len(registers))]
            value, strobes = int(rng.integers(1 << 32)), int(rng.integers(16))
            lead, delay = int(rng.integers(-3, 4)), int(rng.integers(3))
            await host.write(ctx, register.addr, value, strobes, lead=lead, delay=delay)
            mask = sum(0xFF << 8 * byte for byte in range(4) if strobes >> byte & 1)
            old = expected[register.name]
            expected[register.name] = (old & ~mask | value & mask) & writable_mask(register)
        for register in registers:
            assert await host.read(ctx, register.addr) == expected[register.name]
            if not in_table(register.addr):
                assert ctx.get(host.dut.setting[register.name]) == expected[register.name]

    host.run(scenario)


def test_settings_are_locked_while_busy(host):
    async def scenario(ctx):
        for register in csr.REGISTERS:
            if register.access is Access.RW:
                await host.write(ctx, register.addr, 1)
                ctx.set(host.dut.busy, 1)
                await host.write(ctx, register.addr, 2)
                assert await host.read(ctx, register.addr) == 1, register.name
                ctx.set(host.dut.busy, 0)

    host.run(scenario)


def test_undeclared_addresses_read_zero_and_swallow_writes(host):
    declared = {register.addr for register in csr.REGISTERS}
    holes = [addr for addr in range(0, 1 << csr.ADDR_BITS, 4) if addr not in declared]

    async def scenario(ctx):
        for addr in [*holes[:12], *holes[-4:]]:
            await host.write(ctx, addr, ALL_ONES)
            assert await host.read(ctx, addr) == 0
        for register in csr.REGISTERS:
            if register.access is Access.RW:
                assert await host.read(ctx, register.addr) == 0, register.name

    host.run(scenario)
    assert host.pulses == {"control": []}


def test_commands_of_control_are_separate_pulses(host):
    async def scenario(ctx):
        addr = csr.BY_NAME["control"].addr
        await host.write(ctx, addr, csr.pack("control", start=1))
        await host.write(ctx, addr, csr.pack("control", abort=1))
        await host.write(ctx, addr, ALL_ONES, strobes=0b1110)
        await ctx.tick().repeat(3)

    host.run(scenario)
    pulses = [csr.pack("control", start=1), csr.pack("control", abort=1)]
    assert host.pulses == {"control": pulses}


def test_interrupt_is_a_level_of_enabled_events(host):
    enable, status = csr.BY_NAME["irq_enable"].addr, csr.BY_NAME["irq_status"].addr
    done, fault = csr.pack("irq_status", done=1), csr.pack("irq_status", fault=1)

    async def scenario(ctx):
        dut = host.dut

        async def pulse(event):
            ctx.set(dut.event.irq_status, event)
            await ctx.tick()
            ctx.set(dut.event.irq_status, 0)
            await ctx.tick()

        await pulse(done)
        assert not ctx.get(dut.interrupt)
        assert await host.read(ctx, status) == done
        await host.write(ctx, enable, fault)
        assert not ctx.get(dut.interrupt)
        await pulse(fault)
        await ctx.tick().repeat(5)
        assert ctx.get(dut.interrupt)
        await host.write(ctx, status, done)
        assert ctx.get(dut.interrupt)
        assert await host.read(ctx, status) == fault
        await host.write(ctx, status, ALL_ONES)
        assert not ctx.get(dut.interrupt)
        assert await host.read(ctx, status) == 0

    host.run(scenario)


def test_event_in_the_cycle_of_its_clearing_is_kept(host):
    status = csr.BY_NAME["irq_status"].addr

    async def scenario(ctx):
        dut = host.dut
        ctx.set(dut.event.irq_status, 1)
        await host.write(ctx, status, 1)  # the event lasts over the whole write
        ctx.set(dut.event.irq_status, 0)
        assert await host.read(ctx, status) == 1

    host.run(scenario)


def test_region_table_has_the_fields_of_the_registers(host, rng):
    values = {r.name: int(rng.integers(1 << 32)) for r in csr.REGISTERS if "region" in r.name}

    async def scenario(ctx):
        for name, value in values.items():
            await host.write(ctx, csr.BY_NAME[name].addr, value)
        for n in range(8):
            for reader in (host.dut.load_region, host.dut.store_region):
                ctx.set(reader.index, n)
            region = ctx.get(host.dut.load_region.region)
            assert ctx.get(host.dut.store_region.region) == region
            if n == 0:
                assert ctx.get(host.dut.first_region) == region
            assert region.base == values[f"region{n}_base_hi"] << 32 | values[f"region{n}_base_lo"]
            assert region.size == values[f"region{n}_size"]
            flags = f"region{n}_flags"
            assert region.read == csr.field_value(flags, "read", values[flags])
            assert region.write == csr.field_value(flags, "write", values[flags])

    host.run(scenario)


def test_answers_wait_for_the_host(host):
    async def scenario(ctx):
        dut = host.dut
        await host.send(ctx, dut.bus.ar, addr=csr.BY_NAME["id"].addr)
        assert not ctx.get(dut.bus.r.valid)
        assert not ctx.get(dut.bus.ar.ready)
        await ctx.tick()
        for _ in range(5):
            assert ctx.get(dut.bus.r.valid)
            assert ctx.get(dut.bus.r.p.data) == csr.ID_VALUE
            assert not ctx.get(dut.bus.ar.ready)
            await ctx.tick()
        assert (await host.receive(ctx, dut.bus.r)).data == csr.ID_VALUE
        assert not ctx.get(dut.bus.r.valid)

    host.run(scenario)


def test_constants_of_unknown_registers_are_refused():
    with pytest.raises(ValueError, match=r"must name read-only registers, not \['watchdog'\]"):
        CsrBank(constants={"watchdog": 1})
