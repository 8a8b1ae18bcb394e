# amaranth: UnusedElaboratable=no
"""STORE through the write master to a memory that stalls, errs and watches the protocol."""

import random
from collections import deque
from dataclasses import replace

import pytest
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.sim import Simulator

from systolith.arch.csr import Fault
from systolith.arch.isa import Store
from systolith.arch.presets import PRESETS
from systolith.bench.axi_memory import AxiMemory, Stalls
from systolith.bench.moves import local_addresses, random_move, region_offsets
from systolith.bench.region_lookup import answer_lookup
from systolith.gateware.store import StoreEngine
from systolith.gateware.words import HEADER_BITS
from systolith.gateware.write_master import WriteMaster

REGION = 5
BASE = 0x2_0000_8000
MEMORY_BYTES = 1 << 14
CYCLE_LIMIT = 60_000
FIRST_INDEX = 200


class Bench:
    """Store engine, write master, memory, and a scratchpad of random bytes."""

    def __init__(self, config, *, stalls=0.0, seed=0, errors=(), read_latency=3, write_latency=3):
        self.config = config
        self.random = random.Random(seed)
        self.stall = stalls
        self.memory = AxiMemory(
            config.axi_data_bits,
            base=BASE,
            size=MEMORY_BYTES,
            write_latency=write_latency,
            stalls=Stalls.uniform(stalls),
            seed=seed,
            errors=errors,
        )
        self.memory.data[:] = random.Random(seed).randbytes(MEMORY_BYTES)
        self.before = bytes(self.memory.data)
        self.scratchpad = random.Random(seed + 1).randbytes(config.scratchpad_bytes)
        self.region = {"base": BASE, "size": MEMORY_BYTES, "read": 0, "write": 1}
        self.read_latency = read_latency
        self.engine = StoreEngine(config, read_latency=read_latency)
        self.master = WriteMaster(
            data_bits=config.axi_data_bits, outstanding=config.axi_outstanding
        )
        self.done, self.faults, self.beats = [], [], []
        self.bytes_written = 0
        self.windows = deque([None] * (read_latency - 1))
        self.cycle = 0

    def top(self):
        m = Module()
        engine, master = self.engine, self.master
        m.submodules.engine = engine
        m.submodules.master = master
        wiring.connect(m, engine.request, master.request)
        wiring.connect(m, engine.bus_data, master.data)
        wiring.connect(m, master.beats, engine.beats)
        m.d.comb += [
            engine.bus_done.eq(master.done),
            engine.bus_error.eq(master.error),
            engine.bus_error_addr.eq(master.error_addr),
            master.stop.eq(engine.stop),
        ]
        answer_lookup(m, master.region, {REGION: self.region})
        return m

    async def serve_windows(self, ctx):
        engine, ready = self.engine, False
        pipeline = self.windows
        async for _, _, valid, addr in ctx.tick().sample(engine.read.valid, engine.read.p):
            pipeline.append(addr if valid and ready else None)
            window = pipeline.popleft()
            ctx.set(engine.data_valid, window is not None)
            if window is not None:
                lanes = range(self.config.axi_bytes)
                size = len(self.scratchpad)
                word = bytes(self.scratchpad[(window + lane) % size] for lane in lanes)
                ctx.set(engine.data, int.from_bytes(word, "little"))
            else:
                ctx.set(engine.data, self.random.getrandbits(self.config.axi_data_bits))
            ready = self.random.random() >= self.stall
            ctx.set(engine.read.ready, ready)

    async def watch(self, ctx):
        engine, w = self.engine, self.master.w
        samples = ctx.tick().sample(
            engine.done, engine.fault_stb, engine.fault, w.valid & w.ready, self.master.write_bytes
        )
        async for _, _, done, fault_stb, fault, beat, strobes in samples:
            self.cycle += 1
            self.bytes_written += strobes
            if beat:
                self.beats.append(self.cycle)
            if done:
                self.done.append(self.cycle)
            if fault_stb:
                self.faults.append((Fault(fault.code), fault.index, fault.addr))

    def run(self, stores, *, stop_at=None, observe=None):
        async def source(ctx):
            command = self.engine.command
            for index, store in enumerate(stores):
                ctx.set(command.p.body, store.encode() >> HEADER_BITS)
                ctx.set(command.p.index, index + FIRST_INDEX)
                ctx.set(command.valid, 1)
                async for _, _, ready, stop in ctx.tick().sample(command.ready, self.engine.stop):
                    if ready or stop:
                        break
            ctx.set(command.valid, 0)

        async def control(ctx):
            for _ in range(CYCLE_LIMIT):
                await ctx.tick()
                if self.faults or (stop_at is not None and self.cycle >= stop_at):
                    ctx.set(self.engine.stop, 1)
                ended = len(self.done) == len(stores) or ctx.get(self.engine.stop)
                if ended and ctx.get(self.engine.idle):
                    assert not any(window is not None for window in self.windows)
                    if ctx.get(self.master.idle) and self.memory.idle:
                        break
            else:
                pytest.fail(f"{len(self.done)} of {len(stores)} stores done, faults {self.faults}")
            await ctx.tick().repeat(5)

        sim = Simulator(self.top())
        sim.add_clock(1e-8)
        sim.add_process(self.memory.writer(self.master.aw, self.master.w, self.master.b))
        sim.add_process(self.serve_windows)
        sim.add_process(self.watch)
        sim.add_process(source)
        if observe:
            sim.add_process(observe)
        sim.add_testbench(control)
        sim.run()

    def expected(self, stores):
        data = bytearray(self.before)
        for store in stores:
            for offset, addr in zip(region_offsets(store), local_addresses(store), strict=True):
                data[offset] = self.scratchpad[addr]
        return data


def config_of(bits, **changes):
    return replace(PRESETS["tiny-4x4"], axi_data_bits=bits, weight_bytes=8 << 10, **changes)


def random_stores(config, rng, count):
    return [
        replace(
            random_move(Store, rng, region_bytes=MEMORY_BYTES, local_bytes=config.scratchpad_bytes),
            region=REGION,
        )
        for _ in range(count)
    ]


@pytest.mark.parametrize("bits", [32, 64, 128, 256])
@pytest.mark.parametrize("stalls", [0.0, 0.4])
def test_store_moves_the_bytes_of_random_instructions(bits, stalls, seed):
    config = config_of(bits, param_bytes=2048)
    stores = random_stores(config, random.Random(seed + bits), 10)
    bench = Bench(config, stalls=stalls, seed=seed)
    bench.run(stores)
    assert not bench.faults
    assert bench.memory.data == bench.expected(stores)
    assert bench.bytes_written == sum(store.total for store in stores)


@pytest.mark.parametrize("outstanding", [1, 2])
@pytest.mark.parametrize("read_latency", [1, 6])
def test_store_works_with_few_bursts_and_any_latency(outstanding, read_latency, seed):
    config = config_of(64, axi_outstanding=outstanding)
    stores = random_stores(config, random.Random(seed), 4)
    bench = Bench(config, stalls=0.2, seed=seed, read_latency=read_latency)
    bench.run(stores)
    assert bench.memory.data == bench.expected(stores)


@pytest.mark.parametrize("addr", [64, 67])
@pytest.mark.parametrize("bits", [64, 128])
def test_store_runs_at_one_beat_per_cycle_across_instructions(bits, addr):
    config = config_of(bits)
    store = Store(region=REGION, offset=256, run=2048, total=2048, segment=2048, addr=addr)
    stores = [store, replace(store, offset=4096, addr=4096 + addr)]
    bench = Bench(config, write_latency=20)
    bench.run(stores)
    assert bench.memory.data == bench.expected(stores)
    assert len(bench.beats) == 4096 // config.axi_bytes
    assert bench.beats[-1] - bench.beats[0] == len(bench.beats) - 1


PLAIN = Store(region=REGION, offset=0, run=100, total=100, segment=100, addr=8)


@pytest.mark.parametrize("read_latency", [1, 4])
def test_store_has_the_latencies_of_its_documentation(read_latency):
    bench = Bench(config_of(64), read_latency=read_latency)
    first = {}

    async def observe(ctx):
        engine, master = bench.engine, bench.master
        names = ("command", "aw", "read", "w")
        streams = (engine.command, master.aw, engine.read, master.w)
        cycle = 0
        async for _, _, *valids in ctx.tick().sample(*(stream.valid for stream in streams)):
            cycle += 1
            for name, valid in zip(names, valids, strict=True):
                if valid:
                    first.setdefault(name, cycle)

    bench.run([PLAIN], observe=observe)
    assert first["aw"] - first["command"] == 4
    assert first["read"] - first["command"] == 7
    assert first["w"] - first["read"] == read_latency + 2


def fault_case(store, *, before=(), errors=(), **region):
    bench = Bench(config_of(64), errors=errors)
    bench.region |= region
    bench.run([*before, store])
    return bench


@pytest.mark.parametrize(
    ("changes", "region", "fault"),
    [
        ({"offset": 900}, {}, None),
        ({"offset": 901}, {}, (Fault.REGION_BOUNDS, BASE + 1000)),
        ({"offset": 999, "run": 1, "total": 1}, {}, None),
        ({"offset": 1000, "run": 1, "total": 1}, {}, (Fault.REGION_BOUNDS, BASE + 1000)),
        ({"run": 50, "run_step": 951}, {}, (Fault.REGION_BOUNDS, BASE + 1000)),
        ({}, {"read": 1, "write": 0}, (Fault.REGION_PERMISSION, BASE)),
        ({}, {"size": 0}, (Fault.REGION_BOUNDS, BASE)),
        ({}, {"base": BASE + 1}, (Fault.REGION_BOUNDS, BASE + 1)),
        ({"addr": (8 << 10) - 100}, {}, None),
        ({"addr": (8 << 10) - 99}, {}, (Fault.LOCAL_ADDRESS, 8 << 10)),
        ({"segment": 50, "group_step": 9000}, {}, (Fault.LOCAL_ADDRESS, 9008)),
    ],
)
def test_store_raises_a_fault_exactly_beyond_the_edge(changes, region, fault):
    store = replace(PLAIN, **changes)
    bench = fault_case(store, **{"size": 1000, **region})
    if fault is None:
        assert bench.faults == []
        assert bench.memory.data == bench.expected([store])
    else:
        assert bench.faults == [(fault[0], FIRST_INDEX, fault[1])]
        assert not bench.done
        # Nothing but the bytes before the fault may have changed.
        for offset in {*range(MEMORY_BYTES)} - {*region_offsets(PLAIN)}:
            assert bench.memory.data[offset] == bench.before[offset]


def test_store_reports_a_bus_error_with_the_burst_and_the_instruction():
    bench = fault_case(replace(PLAIN, offset=512), before=[PLAIN], errors=[BASE + 610])
    assert bench.faults == [(Fault.BUS_WRITE, FIRST_INDEX + 1, BASE + 512)]
    assert len(bench.done) == 1


@pytest.mark.parametrize("stop_at", [1, 3, 5, 8, 20, 31, 50, 77])
def test_store_stops_in_mid_flight_with_a_clean_bus(stop_at, seed):
    store = Store(region=REGION, run=100, run_step=130, total=4000, segment=4000)
    bench = Bench(config_of(64), stalls=0.3, seed=seed + stop_at, read_latency=6)
    bench.run([store] * 3, stop_at=stop_at)
    assert bench.memory.idle
    assert bench.memory.write_beats == sum(beats for _, beats in bench.memory.writes)
    moved = bench.expected([store])
    for offset in range(MEMORY_BYTES):
        assert bench.memory.data[offset] in {bench.before[offset], moved[offset]}


def test_store_engine_refuses_a_latency_of_zero():
    with pytest.raises(ValueError, match="Read latency must be at least 1 cycle, not 0"):
        StoreEngine(PRESETS["tiny-4x4"], read_latency=0)
