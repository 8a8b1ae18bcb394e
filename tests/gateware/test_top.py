# amaranth: UnusedElaboratable=no
"""The composed core on a memory, from doorbell to interrupt, and the pins around it."""

import pytest
from amaranth.lib.wiring import In
from amaranth.sim import Simulator

from systolith.arch import csr, isa
from systolith.arch.csr import Fault
from systolith.arch.isa import Engine, Space
from systolith.arch.presets import PRESETS
from systolith.bench.axi_memory import AxiMemory, Stalls
from systolith.gateware.core import Core
from systolith.gateware.top import PROGRESS_NAMES, Top

CONFIG = PRESETS["tiny-4x4"]
BASE = 0x8000_0000
PROGRAM, SOURCE, TARGET = 0, 1, 2
REGION_BYTES = 0x1000
LIMIT_CYCLES = 3000


class Machine:
    """The core with a memory of three regions, and the registers as a driver sees them."""

    def __init__(self, *, stalls=0.0, seed=0, errors=()):
        self.core = Core(CONFIG)
        self.memory = AxiMemory(
            data_bits=CONFIG.axi_data_bits,
            base=BASE,
            size=3 * REGION_BYTES,
            stalls=Stalls.uniform(stalls),
            seed=seed,
            errors=errors,
        )

    def run(self, scenario):
        simulator = Simulator(self.core)
        simulator.add_clock(1e-8)
        bus = self.core.memory
        simulator.add_process(self.memory.reader(bus.ar, bus.r))
        simulator.add_process(self.memory.writer(bus.aw, bus.w, bus.b))
        simulator.add_testbench(scenario)
        simulator.run()

    async def transfer(self, ctx, channel):
        for _ in range(LIMIT_CYCLES):
            _, _, valid, ready, payload = await ctx.tick().sample(
                channel.valid, channel.ready, channel.payload
            )
            if valid and ready:
                return payload
        pytest.fail("the register bank does not answer")

    async def read(self, ctx, name):
        bus = self.core.control
        ctx.set(bus.ar.p.addr, csr.BY_NAME[name].addr)
        ctx.set(bus.ar.valid, 1)
        await self.transfer(ctx, bus.ar)
        ctx.set(bus.ar.valid, 0)
        ctx.set(bus.r.ready, 1)
        value = await self.transfer(ctx, bus.r)
        ctx.set(bus.r.ready, 0)
        return value.data

    async def write(self, ctx, name, value):
        bus = self.core.control
        ctx.set(bus.aw.p.addr, csr.BY_NAME[name].addr)
        ctx.set(bus.w.p, {"data": value, "strb": 0b1111})
        ctx.set(bus.aw.valid, 1)
        ctx.set(bus.w.valid, 1)
        await self.transfer(ctx, bus.w)
        ctx.set(bus.aw.valid, 0)
        ctx.set(bus.w.valid, 0)
        ctx.set(bus.b.ready, 1)
        await self.transfer(ctx, bus.b)
        ctx.set(bus.b.ready, 0)

    async def start(self, ctx, program, *, read=True, write=True, program_bytes=REGION_BYTES):
        code = b"".join(item if isinstance(item, bytes) else item.to_bytes() for item in program)
        self.memory.data[: len(code)] = code
        for region, flags in (
            (PROGRAM, {"read": 1}),
            (SOURCE, {"read": read}),
            (TARGET, {"write": write}),
        ):
            await self.write(ctx, f"region{region}_base_lo", BASE + region * REGION_BYTES)
            size = program_bytes if region == PROGRAM else REGION_BYTES
            await self.write(ctx, f"region{region}_size", size)
            await self.write(ctx, f"region{region}_flags", csr.pack("region0_flags", **flags))
        await self.write(ctx, "program_count", len(program))
        await self.write(ctx, "irq_enable", csr.pack("irq_enable", done=1, fault=1))
        await self.write(ctx, "control", csr.pack("control", start=1))

    async def finish(self, ctx):
        for _ in range(LIMIT_CYCLES):
            if ctx.get(self.core.interrupt):
                break
            await ctx.tick()
        else:
            pytest.fail(f"no interrupt within {LIMIT_CYCLES} cycles")
        status = await self.read(ctx, "status")
        await self.write(ctx, "irq_status", 0b11)
        assert not ctx.get(self.core.interrupt)
        return {name: csr.field_value("status", name, status) for name in ("busy", "done", "fault")}

    async def fault(self, ctx):
        word = await self.read(ctx, "fault")
        addr = await self.read(ctx, "fault_addr_lo") | await self.read(ctx, "fault_addr_hi") << 32
        code = Fault(csr.field_value("fault", "code", word))
        engine = Engine(csr.field_value("fault", "engine", word))
        return code, engine, await self.read(ctx, "fault_index"), addr


DONE = {"busy": 0, "done": 1, "fault": 0}
FAULTED = {"busy": 0, "done": 0, "fault": 1}


def copy_program(size, source=3, target=5):
    """Return a program that moves bytes from SOURCE through the scratchpad to TARGET."""
    return [
        isa.Load(region=SOURCE, offset=source, run=size, total=size, addr=9, segment=size),
        isa.Store(
            region=TARGET, offset=target, run=size, total=size, addr=9, segment=size, wait_load=0
        ),
        isa.Halt(),
    ]


def fill(machine, rng):
    """Fill SOURCE with random bytes and TARGET with canaries."""
    start = SOURCE * REGION_BYTES
    machine.memory.data[start : start + REGION_BYTES] = rng.bytes(REGION_BYTES)
    machine.memory.data[start + REGION_BYTES :] = b"\xa5" * REGION_BYTES


def assert_copied(machine, size, source=3, target=5):
    data, end = machine.memory.data, TARGET * REGION_BYTES
    start = SOURCE * REGION_BYTES + source
    expected = bytearray(b"\xa5" * REGION_BYTES)
    expected[target : target + size] = data[start : start + size]
    assert data[end:] == expected


@pytest.mark.parametrize("stalls", [0.0, 0.5])
def test_bytes_go_through_the_scratchpad(stalls, seed, rng):
    machine, size = Machine(stalls=stalls, seed=seed), 300
    fill(machine, rng)

    async def scenario(ctx):
        await machine.start(ctx, copy_program(size))
        assert await machine.finish(ctx) == DONE
        assert await machine.read(ctx, "progress_load") == 1
        assert await machine.read(ctx, "progress_store") == 1
        assert await machine.read(ctx, "write_bytes") == size
        beats = machine.memory.read_beats
        assert await machine.read(ctx, "read_bytes") == beats * CONFIG.axi_bytes
        cycles = await machine.read(ctx, "cycles")
        assert cycles == await machine.read(ctx, "cycles")
        assert 2 * size // CONFIG.axi_bytes < cycles < LIMIT_CYCLES
        assert await machine.read(ctx, "execute_idle") == cycles
        for name in ("load_busy", "store_busy"):
            assert size // CONFIG.axi_bytes <= await machine.read(ctx, name) < cycles

    machine.run(scenario)
    assert_copied(machine, size)


def test_halt_alone_takes_few_cycles():
    machine = Machine()

    async def scenario(ctx):
        await machine.start(ctx, [isa.Halt()])
        assert await machine.finish(ctx) == DONE
        latency = machine.memory.latency
        assert await machine.read(ctx, "cycles") <= latency + 20

    machine.run(scenario)


BROKEN = {
    "opcode": ([bytes(32)], {}, (Fault.ILLEGAL_OPCODE, Engine.SEQUENCER, 0, 0)),
    "end of the program": (
        [isa.Load(region=SOURCE, total=8)],
        {},
        (Fault.REGION_BOUNDS, Engine.SEQUENCER, 1, BASE + 32),
    ),
    "end of the program's region": (
        [isa.Load(region=SOURCE)] * 8 + [isa.Halt()],
        {"program_bytes": 5 * 32},
        (Fault.REGION_BOUNDS, Engine.SEQUENCER, 5, BASE + 5 * 32),
    ),
    "region": (
        [isa.Load(region=SOURCE, offset=REGION_BYTES - 4, run=8, total=8), isa.Halt()],
        {},
        (Fault.REGION_BOUNDS, Engine.LOAD, 0, BASE + 2 * REGION_BYTES),
    ),
    "region not set": (
        [isa.Load(region=7), isa.Halt()],
        {},
        (Fault.REGION_BOUNDS, Engine.LOAD, 0, 0),
    ),
    "read permission": (
        [isa.Load(region=SOURCE), isa.Halt()],
        {"read": False},
        (Fault.REGION_PERMISSION, Engine.LOAD, 0, BASE + REGION_BYTES),
    ),
    "write permission": (
        [isa.Load(region=SOURCE), isa.Store(region=TARGET, offset=64), isa.Halt()],
        {"write": False},
        (Fault.REGION_PERMISSION, Engine.STORE, 1, BASE + 2 * REGION_BYTES + 64),
    ),
    "alignment": (
        [isa.Load(region=SOURCE, space=Space.WEIGHTS, run=8, total=8, segment=8, addr=4), isa.Halt()],
        {},
        (Fault.ALIGNMENT, Engine.LOAD, 0, 4),
    ),
    "local address": (
        [isa.Load(region=SOURCE, addr=CONFIG.scratchpad_bytes - 1, run=2, total=2, segment=2), isa.Halt()],
        {},
        (Fault.LOCAL_ADDRESS, Engine.LOAD, 0, CONFIG.scratchpad_bytes),
    ),
}  # fmt: skip


def test_fault_is_reported_and_the_next_program_is_exact(rng):
    machine, size = Machine(), 100

    async def scenario(ctx):
        # One machine for all, so that each case follows the others.
        for name, (program, flags, expected) in BROKEN.items():
            fill(machine, rng)
            await machine.start(ctx, program, **flags)
            assert await machine.finish(ctx) == FAULTED, name
            assert await machine.fault(ctx) == expected, name
            await machine.start(ctx, copy_program(size))
            assert await machine.finish(ctx) == DONE, name
            assert (await machine.fault(ctx))[0] is Fault.NONE, name
            assert_copied(machine, size)

    machine.run(scenario)


@pytest.mark.parametrize(
    ("error", "code", "engine"),
    [
        (BASE + REGION_BYTES + 64, Fault.BUS_READ, Engine.LOAD),
        (BASE + 2 * REGION_BYTES + 64, Fault.BUS_WRITE, Engine.STORE),
        (BASE + 32, Fault.BUS_READ, Engine.SEQUENCER),
    ],
)
def test_error_answer_of_the_bus_is_a_fault(error, code, engine):
    machine = Machine(errors=[error])

    async def scenario(ctx):
        await machine.start(ctx, copy_program(200, source=0, target=0))
        assert await machine.finish(ctx) == FAULTED
        assert (await machine.fault(ctx))[:2] == (code, engine)

    machine.run(scenario)
    assert machine.memory.idle


def test_abort_while_bytes_move_leaves_the_bus_idle_and_the_next_program_exact(rng):
    machine, size = Machine(stalls=0.3), 300
    fill(machine, rng)

    async def scenario(ctx):
        await machine.start(ctx, copy_program(1000))
        await ctx.tick().repeat(150)
        await machine.write(ctx, "control", csr.pack("control", abort=1))
        assert await machine.finish(ctx) == FAULTED
        assert (await machine.fault(ctx))[:2] == (Fault.ABORTED, Engine.SEQUENCER)
        assert machine.memory.idle
        fill(machine, rng)
        await machine.start(ctx, copy_program(size))
        assert await machine.finish(ctx) == DONE

    machine.run(scenario)
    assert_copied(machine, size)


def test_settings_are_locked_while_a_program_runs():
    machine = Machine()

    async def scenario(ctx):
        await machine.start(ctx, copy_program(500))
        await machine.write(ctx, "region1_size", 1)
        assert csr.field_value("status", "busy", await machine.read(ctx, "status"))
        assert await machine.read(ctx, "region1_size") == REGION_BYTES
        assert await machine.finish(ctx) == DONE

    machine.run(scenario)


def test_pins_have_the_names_that_tools_infer():
    top = Top(CONFIG)
    names = set(top.signature.members)
    write_address = ("id", "addr", "len", "size", "burst", "lock", "cache", "prot", "qos", "region")
    expected = {
        "aw": (*write_address, "valid", "ready"),
        "w": ("data", "strb", "last", "valid", "ready"),
        "b": ("id", "resp", "valid", "ready"),
        "ar": (*write_address, "valid", "ready"),
        "r": ("id", "data", "resp", "last", "valid", "ready"),
    }
    memory = {f"m_axi_gmem_{c}{name}" for c, fields in expected.items() for name in fields}
    lite = {"aw": ("addr", "prot"), "w": ("data", "strb"), "b": ("resp",), "ar": ("addr", "prot"),
            "r": ("data", "resp")}  # fmt: skip
    control = {
        f"s_axi_control_{c}{name}" for c, f in lite.items() for name in (*f, "valid", "ready")
    }
    assert names == memory | control | {"ap_clk", "ap_rst_n", "interrupt"}
    inputs = {name for name, member in top.signature.members.items() if member.flow is In}
    assert {"m_axi_gmem_rdata", "m_axi_gmem_arready", "m_axi_gmem_bvalid"} <= inputs
    assert {"s_axi_control_awaddr", "s_axi_control_rready", "ap_clk", "ap_rst_n"} <= inputs
    assert not {"m_axi_gmem_awaddr", "s_axi_control_rdata", "interrupt"} & inputs
    assert top.signature.members["m_axi_gmem_rdata"].shape == CONFIG.axi_data_bits
    assert PROGRESS_NAMES == (
        "progress_load", "progress_execute", "progress_drain", "progress_store",
    )  # fmt: skip


def test_registers_are_read_through_the_pins_after_reset():
    """The identity, read on the pins of `Top`, whose clock is a pin too."""
    top = Top(CONFIG)

    async def scenario(ctx):
        ctx.set(top.s_axi_control_araddr, csr.BY_NAME["id"].addr)
        ctx.set(top.s_axi_control_arvalid, 1)
        for _ in range(5):
            await ctx.tick()
            assert not ctx.get(top.s_axi_control_rvalid), "reset is active"
        ctx.set(top.ap_rst_n, 1)
        for _ in range(20):
            taken = ctx.get(top.s_axi_control_arready)
            await ctx.tick()
            if taken:
                ctx.set(top.s_axi_control_arvalid, 0)
            if ctx.get(top.s_axi_control_rvalid):
                break
        assert ctx.get(top.s_axi_control_rvalid)
        assert ctx.get(top.s_axi_control_rdata) == csr.ID_VALUE

    simulator = Simulator(top)
    simulator.add_clock(1e-8)
    simulator.add_testbench(scenario)
    simulator.run()
