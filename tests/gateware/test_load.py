# amaranth: UnusedElaboratable=no
"""LOAD through the read master from a memory that stalls, errs and watches the protocol."""

import random
from dataclasses import replace

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from systolith.arch.csr import Fault
from systolith.arch.isa import Load, Space
from systolith.arch.presets import PRESETS
from systolith.bench.axi_memory import AxiMemory, Stalls
from systolith.bench.moves import local_addresses, random_move, region_offsets
from systolith.bench.region_lookup import answer_lookup
from systolith.gateware.load import TABLE_BYTES, LoadEngine
from systolith.gateware.read_master import ReadMaster
from systolith.gateware.words import HEADER_BITS

REGION = 3
BASE = 0x1_0000_4000
MEMORY_BYTES = 1 << 14
CANARY = 0xC5
CYCLE_LIMIT = 60_000
WRITE_LATENCY = 3


class Bench:
    """Load engine, read master, memory, and local memories that record what is written."""

    def __init__(self, config, *, stalls=0.0, latency=4, seed=0, errors=()):
        self.config = config
        self.random = random.Random(seed)
        self.stall = stalls
        self.memory = AxiMemory(
            config.axi_data_bits,
            base=BASE,
            size=MEMORY_BYTES,
            latency=latency,
            stalls=Stalls.uniform(stalls),
            seed=seed,
            errors=errors,
        )
        self.memory.data[:] = random.Random(seed).randbytes(MEMORY_BYTES)
        self.region = {"base": BASE, "size": MEMORY_BYTES, "read": 1, "write": 0}
        self.local = {
            space: bytearray([CANARY]) * size
            for space, size in zip(
                Space,
                (config.scratchpad_bytes, config.weight_bytes, config.param_bytes, TABLE_BYTES),
                strict=True,
            )
        }
        self.engine = LoadEngine(config, write_latency=WRITE_LATENCY)
        self.master = ReadMaster(data_bits=config.axi_data_bits, outstanding=config.axi_outstanding)
        self.done, self.faults, self.writes = [], [], []
        self.cycle = 0

    def top(self):
        m = Module()
        m.submodules.engine = self.engine
        m.submodules.master = self.master
        wiring.connect(m, self.engine.request, self.master.load_request)
        wiring.connect(m, self.master.load_data, self.engine.beats)
        m.d.comb += self.master.stop.eq(self.engine.stop)
        answer_lookup(m, self.master.load_region, {REGION: self.region})
        return m

    async def sink(self, ctx):
        write, engine, ready = self.engine.write, self.engine, False
        samples = ctx.tick().sample(
            write.valid, write.p, engine.done, engine.fault_stb, engine.fault
        )
        async for _, _, valid, beat, done, fault_stb, fault in samples:
            self.cycle += 1
            if valid and ready:
                self.writes.append(self.cycle)
                self.take(beat)
            if done:
                self.done.append(self.cycle)
            if fault_stb:
                self.faults.append((Fault(fault.code), fault.index, fault.addr))
            ready = self.random.random() >= self.stall
            ctx.set(write.ready, ready)

    def take(self, beat):
        space = Space(beat.space)
        for lane in range(self.config.axi_bytes):
            if beat.mask >> lane & 1:
                self.local[space][(beat.addr + lane) % (1 << 22)] = beat.data[lane]

    def run(self, loads, *, stop_at=None, observe=None):
        async def source(ctx):
            command = self.engine.command
            for index, load in enumerate(loads):
                ctx.set(command.p.body, load.encode() >> HEADER_BITS)
                ctx.set(command.p.index, index + 100)
                ctx.set(command.valid, 1)
                async for _, _, ready, faulted in ctx.tick().sample(
                    command.ready, self.engine.stop
                ):
                    if ready or self.faults or faulted:
                        break
            ctx.set(command.valid, 0)

        async def control(ctx):
            for _ in range(CYCLE_LIMIT):
                await ctx.tick()
                if stop_at is not None and self.cycle >= stop_at:
                    ctx.set(self.engine.stop, 1)
                if self.faults:
                    ctx.set(self.engine.stop, 1)
                ended = self.faults or len(self.done) == len(loads) or ctx.get(self.engine.stop)
                if ended and ctx.get(self.engine.idle & self.master.idle) and self.memory.idle:
                    break
            else:
                pytest.fail(f"{len(self.done)} of {len(loads)} loads done, faults {self.faults}")
            await ctx.tick().repeat(5)

        sim = Simulator(self.top())
        sim.add_clock(1e-8)
        sim.add_process(self.memory.reader(self.master.ar, self.master.r))
        sim.add_process(self.sink)
        sim.add_process(source)
        if observe:
            sim.add_process(observe)
        sim.add_testbench(control)
        sim.run()

    def expected(self, loads):
        local = {space: bytearray([CANARY]) * len(data) for space, data in self.local.items()}
        for load in loads:
            for offset, addr in zip(region_offsets(load), local_addresses(load), strict=True):
                local[load.space][addr] = self.memory.data[offset]
        return local


def config_of(bits, **changes):
    return replace(PRESETS["tiny-4x4"], axi_data_bits=bits, weight_bytes=8 << 10, **changes)


def random_loads(config, rng, count):
    sizes = {
        Space.SCRATCHPAD: config.scratchpad_bytes,
        Space.WEIGHTS: config.weight_bytes,
        Space.PARAMS: config.param_bytes,
        Space.TABLES: TABLE_BYTES,
    }
    loads = []
    for _ in range(count):
        space = rng.choice([Space.SCRATCHPAD] * 3 + list(Space))
        unit = 1 if space == Space.SCRATCHPAD else config.axi_bytes
        move = random_move(
            Load, rng, region_bytes=MEMORY_BYTES, local_bytes=sizes[space], unit=unit
        )
        loads.append(replace(move, space=space, region=REGION))
    return loads


@pytest.mark.parametrize("bits", [32, 64, 128, 256])
@pytest.mark.parametrize("stalls", [0.0, 0.4])
def test_load_moves_the_bytes_of_random_instructions(bits, stalls, seed):
    config = config_of(bits, param_bytes=2048)
    loads = random_loads(config, random.Random(seed + bits), 12)
    bench = Bench(config, stalls=stalls, seed=seed)
    bench.run(loads)
    assert not bench.faults
    assert bench.local == bench.expected(loads)


@pytest.mark.parametrize("outstanding", [1, 2])
def test_load_works_with_few_outstanding_bursts(outstanding, seed):
    config = config_of(64, axi_outstanding=outstanding)
    loads = random_loads(config, random.Random(seed), 5)
    bench = Bench(config, stalls=0.2, seed=seed)
    bench.run(loads)
    assert bench.local == bench.expected(loads)


@pytest.mark.parametrize("bits", [64, 128])
def test_load_runs_at_one_beat_per_cycle_across_instructions(bits):
    config = config_of(bits)
    load = Load(region=REGION, offset=256, run=2048, total=2048, segment=2048, segments=1, addr=64)
    loads = [load, replace(load, offset=4096, addr=4096), replace(load, offset=9000, addr=32)]
    bench = Bench(config, latency=40)
    bench.run(loads)
    assert bench.local == bench.expected(loads)
    first = 2 * 2048 // config.axi_bytes
    assert bench.writes[first - 1] - bench.writes[0] == first - 1
    # The third one starts within a beat: one beat more, still without a gap.
    assert bench.writes[-1] - bench.writes[0] == len(bench.writes) - 1
    assert bench.done[0] - bench.writes[first // 2 - 1] == WRITE_LATENCY


PLAIN = Load(region=REGION, offset=0, run=100, total=100, segment=100, addr=8)


def test_load_has_the_latencies_of_its_documentation():
    bench = Bench(config_of(64), latency=9)
    first = {}

    async def observe(ctx):
        engine, master = bench.engine, bench.master
        names = ("command", "ar", "r", "write")
        streams = (engine.command, master.ar, master.r, engine.write)
        cycle = 0
        async for _, _, *valids in ctx.tick().sample(*(stream.valid for stream in streams)):
            cycle += 1
            for name, valid in zip(names, valids, strict=True):
                if valid:
                    first.setdefault(name, cycle)

    bench.run([PLAIN], observe=observe)
    assert first["ar"] - first["command"] == 4
    assert first["write"] - first["r"] == 3


def fault_case(load, *, before=(), errors=(), **region):
    config = config_of(64)
    bench = Bench(config, errors=errors, latency=10)
    bench.region |= region
    loads = [*before, load]
    bench.run(loads)
    assert len(bench.faults) <= 1
    return bench


@pytest.mark.parametrize(
    ("changes", "region", "fault"),
    [
        ({"offset": 900, "run": 101, "total": 101}, {}, (Fault.REGION_BOUNDS, BASE + 1000)),
        ({"offset": 999, "run": 1, "total": 1}, {}, None),
        ({"offset": 1000, "run": 1, "total": 1}, {}, (Fault.REGION_BOUNDS, BASE + 1000)),
        ({"offset": 1000, "run": 1, "total": 1}, {"size": 1001}, None),
        (
            {"offset": 1001, "run": 1, "total": 1},
            {"size": 1001},
            (Fault.REGION_BOUNDS, BASE + 1001),
        ),
        ({"offset": 901}, {"size": 1001}, None),
        ({"offset": 902}, {"size": 1001}, (Fault.REGION_BOUNDS, BASE + 1001)),
        ({"run": 50, "run_step": 952}, {"size": 1001}, (Fault.REGION_BOUNDS, BASE + 1001)),
        ({"run": 50, "run_step": 951}, {"size": 1001}, None),
        (
            {"run": 50, "offset": 2**32 - 60, "run_step": 70},
            {"size": 2**32 - 1},
            (Fault.BUS_READ, BASE + 2**32 - 60),
        ),
        (
            {"run": 50, "offset": 2**32 - 51, "run_step": 51},
            {"size": 2**32 - 1, "base": BASE - 2**32 + 1024},
            (Fault.REGION_BOUNDS, BASE + 1024),
        ),
        ({}, {"read": 0}, (Fault.REGION_PERMISSION, BASE)),
        ({"offset": 999}, {"read": 0}, (Fault.REGION_PERMISSION, BASE + 999)),
        ({"offset": 1000}, {"read": 0}, (Fault.REGION_BOUNDS, BASE + 1000)),
        ({}, {"size": 0}, (Fault.REGION_BOUNDS, BASE)),
        ({}, {"base": BASE + 4}, (Fault.REGION_BOUNDS, BASE + 4)),
    ],
)
def test_load_raises_a_region_fault_exactly_beyond_the_edge(changes, region, fault):
    bench = fault_case(replace(PLAIN, **changes), **{"size": 1000, **region})
    assert bench.faults == ([(fault[0], 100, fault[1])] if fault else [])
    assert len(bench.done) == (fault is None)


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"addr": (8 << 10) - 100}, None),
        ({"addr": (8 << 10) - 99}, (Fault.LOCAL_ADDRESS, 8 << 10)),
        ({"addr": 9000}, (Fault.LOCAL_ADDRESS, 9000)),
        ({"addr": 4194303}, (Fault.LOCAL_ADDRESS, 4194303)),
        ({"segment": 50, "segment_step": 4194303, "segments": 2}, (Fault.LOCAL_ADDRESS, 4194311)),
        ({"segment": 50, "group_step": 9000}, (Fault.LOCAL_ADDRESS, 9008)),
        ({"space": Space.WEIGHTS}, (Fault.ALIGNMENT, 8)),
        ({"space": Space.TABLES, "total": 104, "run": 104, "segment": 104}, None),
        (
            {"space": Space.TABLES, "addr": 928, "total": 104, "run": 104, "segment": 104},
            (Fault.LOCAL_ADDRESS, 1024),
        ),
    ],
)
def test_load_raises_a_local_fault_exactly_beyond_the_edge(changes, fault):
    load = replace(PLAIN, **changes)
    bench = fault_case(load, before=[PLAIN])
    if fault is None:
        assert not bench.faults
        assert bench.local == bench.expected([PLAIN, load])
    else:
        assert bench.faults == [(fault[0], 101, fault[1])]


ALIGNED = Load(
    region=REGION, space=Space.PARAMS, offset=8, run=16, run_step=24, total=64, addr=32,
    segment=32, segment_step=40, segments=1, group_step=48,
)  # fmt: skip


@pytest.mark.parametrize(
    "name",
    ["offset", "run", "run_step", "total", "addr", "segment", "segment_step", "group_step"],
)
def test_load_demands_whole_beats_outside_the_scratchpad(name):
    assert not fault_case(ALIGNED).faults
    load = replace(ALIGNED, **{name: getattr(ALIGNED, name) + 4})
    bench = fault_case(load)
    assert bench.faults == [(Fault.ALIGNMENT, 100, load.addr)]
    assert not bench.memory.reads


def test_load_reports_bus_errors_in_program_order_with_the_address_of_the_beat():
    bench = fault_case(
        replace(PLAIN, addr=9000), before=[replace(PLAIN, offset=500, run=700, total=700, segment=700)],
        errors=[BASE + 500],
    )  # fmt: skip
    assert bench.faults == [(Fault.BUS_READ, 100, BASE + 500)]


@pytest.mark.parametrize("stop_at", [1, 3, 5, 8, 20, 31, 50, 77])
def test_load_stops_in_mid_flight_with_a_clean_bus(stop_at, seed):
    config = config_of(64)
    load = Load(region=REGION, run=100, run_step=130, total=4000, segment=4000)
    bench = Bench(config, stalls=0.3, latency=20, seed=seed + stop_at)
    bench.run([load, load, load], stop_at=stop_at)
    assert bench.memory.idle
    assert bench.memory.read_beats == sum(beats for _, beats in bench.memory.reads)


def test_load_engine_refuses_a_negative_latency():
    with pytest.raises(ValueError, match="Write latency must be at least 0 cycles, not -1"):
        LoadEngine(PRESETS["tiny-4x4"], write_latency=-1)
