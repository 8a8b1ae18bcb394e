# amaranth: UnusedElaboratable=no
"""Bursts: how runs are cut, and how two clients share the read channels."""

import random

import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from systolith.arch.csr import Fault
from systolith.arch.presets import PRESETS
from systolith.bench.axi_memory import AxiMemory, Stalls
from systolith.bench.region_lookup import answer_lookup
from systolith.gateware import axi
from systolith.gateware.burst import BurstSplitter
from systolith.gateware.read_master import ReadMaster
from systolith.gateware.write_master import WriteMaster

BASE = 0x7FFF_F000
REGION_BYTES = 1 << 14
CYCLE_LIMIT = 6_000


def simulate(top, *processes, until, limit=CYCLE_LIMIT):
    """Run until `until()` is true, then a few cycles more; fail at the limit."""

    async def watch(ctx):
        for _ in range(limit):
            await ctx.tick()
            if until():
                break
        else:
            pytest.fail(f"nothing more came in {limit} cycles")
        await ctx.tick().repeat(8)

    sim = Simulator(top)
    sim.add_clock(1e-8)
    for process in processes:
        sim.add_process(process)
    sim.add_testbench(watch)
    sim.run()


def source(stream, items, rng=None, stall=0.0):
    """Return a process that offers payloads, each a dictionary of fields."""

    async def process(ctx):
        for item in items:
            while rng and rng.random() < stall:
                await ctx.tick()
            for name, value in item.items():
                ctx.set(stream.p[name], value)
            ctx.set(stream.valid, 1)
            await ctx.tick().until(stream.ready)
            ctx.set(stream.valid, 0)

    return process


def sink(stream, taken, rng=None, stall=0.0):
    """Return a process that appends (cycle, payload) to `taken`."""

    async def process(ctx):
        cycle, ready = 0, False
        async for _, _, valid, payload in ctx.tick().sample(stream.valid, stream.p):
            cycle += 1
            if valid and ready:
                taken.append((cycle, payload))
            ready = not (rng and rng.random() < stall)
            ctx.set(stream.ready, ready)

    return process


REGION = {"base": BASE, "size": REGION_BYTES, "read": 1, "write": 1}


def random_runs(rng, count, region):
    runs = []
    for _ in range(count):
        size = rng.choice([1, 3, 64, 300, 2000])
        size = rng.randint(1, size)
        runs.append(
            {
                "region": region,
                "offset": rng.randint(0, REGION_BYTES - size),
                "size": size - 1,
                "last": rng.randint(0, 1),
            }
        )
    return runs


def split(beat_bytes, runs, *, rng=None, stall=0.0):
    splitter = BurstSplitter(beat_bytes=beat_bytes, write=False)
    m = Module()
    m.submodules.splitter = splitter
    answer_lookup(m, splitter.lookup, {2: REGION})
    bursts = []
    wanted = sum(run["last"] for run in runs)
    simulate(
        m,
        source(splitter.i, runs, rng, stall),
        sink(splitter.o, bursts, rng, stall),
        until=lambda: len(bursts) >= wanted and sum(burst.last for _, burst in bursts) == wanted,
    )
    return bursts


@pytest.mark.parametrize("beat_bytes", [4, 8, 32, 64])
@pytest.mark.parametrize("stall", [0.0, 0.3])
def test_splitter_covers_each_run_exactly(beat_bytes, stall, seed):
    rng = random.Random(seed)
    runs = random_runs(rng, 30, region=2)
    runs[-1]["last"] = 1
    bursts = [burst for _, burst in split(beat_bytes, runs, rng=rng, stall=stall)]
    for run in runs:
        covered = []
        while len(covered) <= run["size"]:
            burst = bursts.pop(0)
            beats = burst.len + 1
            assert burst.code == Fault.NONE
            assert burst.addr % beat_bytes == 0
            assert burst.addr // 4096 == (burst.addr + beats * beat_bytes - 1) // 4096
            end = burst.addr + burst.len * beat_bytes + burst.hi
            covered += range(burst.addr + burst.lo, end + 1)
            ended = len(covered) == run["size"] + 1
            assert burst.last == (ended and run["last"])
        first = BASE + run["offset"]
        assert covered == list(range(first, first + run["size"] + 1))
    assert not bursts


def test_splitter_gives_one_burst_per_cycle():
    runs = [{"region": 2, "offset": 128 * n, "size": 127, "last": n == 19} for n in range(20)]
    cycles = [cycle for cycle, _ in split(8, runs)]
    assert cycles == list(range(cycles[0], cycles[0] + 20))


def read_memory(seed, stall=0.0, latency=10, bits=64):
    memory = AxiMemory(
        bits,
        base=BASE,
        size=REGION_BYTES,
        latency=latency,
        stalls=Stalls.uniform(stall),
        seed=seed,
    )
    memory.data[:] = random.Random(seed).randbytes(REGION_BYTES)
    return memory


def read_top(master, **region):
    m = Module()
    m.submodules.master = master
    m.d.comb += [master.fetch_region[name].eq(value) for name, value in (REGION | region).items()]
    answer_lookup(m, master.load_region, {2: REGION})
    return m


@pytest.mark.parametrize("bits", [32, 64, 256])
@pytest.mark.parametrize("stall", [0.0, 0.4])
def test_fetch_and_load_each_get_their_bytes_in_order(bits, stall, seed):
    rng = random.Random(seed + bits)
    beat = bits // 8
    master = ReadMaster(data_bits=bits, outstanding=3)
    memory = read_memory(seed, stall, bits=bits)
    runs = random_runs(rng, 12, region=2)
    fetches = [
        {"offset": 64 * rng.randint(0, 190), "bytes": 32 * rng.randint(1, 16)} for _ in range(12)
    ]
    load_beats = sum((run["offset"] % beat + run["size"]) // beat + 1 for run in runs)
    fetch_beats = sum(-(-fetch["bytes"] // beat) for fetch in fetches)
    loaded, fetched = [], []
    simulate(
        read_top(master),
        memory.reader(master.ar, master.r),
        source(master.load_request, runs, rng, stall),
        source(master.fetch_request, fetches, rng, stall),
        sink(master.load_data, loaded, rng, stall),
        sink(master.fetch_data, fetched, rng, stall),
        until=lambda: len(loaded) == load_beats and len(fetched) == fetch_beats,
    )
    moved = b"".join(
        beat.data.to_bytes(bits // 8, "little")[beat.lo : beat.hi + 1] for _, beat in loaded
    )
    assert moved == b"".join(
        memory.data[run["offset"] : run["offset"] + run["size"] + 1] for run in runs
    )
    assert sum(beat.last for _, beat in loaded) == sum(run["last"] for run in runs)
    words = b"".join(word.data.to_bytes(beat, "little") for _, word in fetched)
    expected = b"".join(
        memory.data[fetch["offset"] : fetch["offset"] + -(-fetch["bytes"] // beat) * beat]
        for fetch in fetches
    )
    assert words == expected


def test_fetch_goes_before_the_bursts_of_a_long_load():
    master = ReadMaster(data_bits=64, outstanding=2)
    memory = read_memory(0)
    run = {"region": 2, "offset": 0, "size": 4095, "last": 1}
    fetch = {"offset": 8192, "bytes": 256}
    loaded, fetched = [], []

    async def late_fetch(ctx):
        await ctx.tick().repeat(40)
        await source(master.fetch_request, [fetch])(ctx)

    simulate(
        read_top(master),
        memory.reader(master.ar, master.r),
        source(master.load_request, [run]),
        late_fetch,
        sink(master.load_data, loaded),
        sink(master.fetch_data, fetched),
        until=lambda: loaded and loaded[-1][1].last,
    )
    first = memory.reads.index((BASE + 8192, 16))
    assert memory.reads[first + 1] == (BASE + 8192 + 128, 16)
    # Not more than what was under way when the request came stands before it.
    assert first <= 2 + 40 // 16 + 1
    assert len(fetched) == 32


@pytest.mark.parametrize(
    ("region", "offset", "codes"),
    [
        ({"read": 0}, 64, [(Fault.REGION_PERMISSION, BASE)]),
        ({"size": 127}, 64, [*[(Fault.NONE, None)] * 8, (Fault.REGION_BOUNDS, BASE + 127)]),
        ({"size": 128}, 64, [(Fault.NONE, None)] * 16),
        (
            {"size": 1 << 16},
            REGION_BYTES - 8,
            [*[(Fault.NONE, None)] * 9, (Fault.BUS_READ, BASE + REGION_BYTES)],
        ),
    ],
)
def test_fetch_gets_its_fault_behind_its_bytes(region, offset, codes):
    master = ReadMaster(data_bits=64, outstanding=8)
    memory = read_memory(0)
    taken = []
    fetches = [{"offset": 0, "bytes": 64}, {"offset": offset, "bytes": 64}]
    simulate(
        read_top(master, **region),
        memory.reader(master.ar, master.r),
        source(master.fetch_request, fetches),
        sink(master.fetch_data, taken),
        until=lambda: len(taken) >= len(codes),
    )
    for (_, beat), (code, addr) in zip(taken, codes, strict=False):
        assert beat.code == code
        assert addr in {None, beat.addr}


def test_nothing_is_read_behind_a_run_that_is_not_allowed():
    master = ReadMaster(data_bits=64, outstanding=8)
    memory = read_memory(0)
    run = {"region": 2, "size": 99, "last": 0}
    runs = [run | {"offset": offset} for offset in (0, REGION_BYTES, 256, 512)]
    taken = []
    simulate(
        read_top(master),
        memory.reader(master.ar, master.r),
        source(master.load_request, runs),
        sink(master.load_data, taken),
        until=lambda: memory.cycle > 100,
    )
    assert [beat.code for _, beat in taken] == [Fault.NONE] * 13 + [Fault.REGION_BOUNDS]
    assert memory.reads == [(BASE, 13)]


@pytest.mark.parametrize("stop_at", [3, 5, 12, 25])
def test_stop_drops_what_no_client_takes(stop_at):
    master = ReadMaster(data_bits=64, outstanding=8)
    memory = read_memory(0)
    idle = []

    async def stop(ctx):
        await ctx.tick().repeat(stop_at)
        ctx.set(master.stop, 1)
        async for _, _, now in ctx.tick().sample(master.idle):
            idle.append(now)

    simulate(
        read_top(master),
        memory.reader(master.ar, master.r),
        source(master.load_request, [{"region": 2, "offset": 0, "size": 999, "last": 1}]),
        source(master.fetch_request, [{"offset": 0, "bytes": 512}]),
        stop,
        until=lambda: memory.cycle > 200,
    )
    assert idle[-1]
    assert memory.idle
    assert memory.read_beats == sum(beats for _, beats in memory.reads)
    assert len(memory.reads) < 4 + 8


@pytest.mark.parametrize("outstanding", [1, 4])
def test_bursts_in_flight_never_exceed_the_limit(outstanding):
    master = ReadMaster(data_bits=64, outstanding=outstanding)
    memory = read_memory(0, latency=30)
    most = 0

    async def observe(ctx):
        nonlocal most
        async for _ in ctx.tick():
            waiting = len(memory.reads) - memory.read_beats
            most = max(most, waiting)

    loaded = []
    runs = [{"region": 2, "offset": 64 * n, "size": 7, "last": n == 29} for n in range(30)]
    simulate(
        read_top(master),
        memory.reader(master.ar, master.r),
        source(master.load_request, runs),
        sink(master.load_data, loaded),
        observe,
        until=lambda: loaded and loaded[-1][1].last,
    )
    assert most == outstanding


def test_address_comes_three_cycles_after_the_request():
    master = ReadMaster(data_bits=64, outstanding=4)
    memory = read_memory(0)
    cycles = []

    async def observe(ctx):
        samples = ctx.tick().sample(master.load_request.valid, master.ar.valid)
        cycle = 0
        async for _, _, *valids in samples:
            cycle += 1
            cycles.append((cycle, *valids))

    run = {"region": 2, "offset": 0, "size": 7, "last": 1}
    loaded = []
    simulate(
        read_top(master),
        memory.reader(master.ar, master.r),
        source(master.load_request, [run]),
        sink(master.load_data, loaded),
        observe,
        until=lambda: loaded,
    )
    request = next(cycle for cycle, valid, _ in cycles if valid)
    address = next(cycle for cycle, _, valid in cycles if valid)
    assert address - request == 3


@pytest.mark.parametrize("master", [ReadMaster, WriteMaster])
@pytest.mark.parametrize("outstanding", [0, 1.5])
def test_masters_refuse_to_have_nothing_outstanding(master, outstanding):
    with pytest.raises(ValueError, match=f"must be at least 1, not {outstanding}"):
        master(data_bits=64, outstanding=outstanding)


@pytest.mark.parametrize("beat_bytes", [0, 1, 12, 512])
def test_splitter_refuses_beats_that_could_cross_a_boundary(beat_bytes):
    with pytest.raises(ValueError, match=f"power of two in 2..256, not {beat_bytes}"):
        BurstSplitter(beat_bytes=beat_bytes, write=False)


@pytest.mark.parametrize("bits", [0, 48, "64"])
def test_axi_signature_refuses_other_widths(bits):
    with pytest.raises(ValueError, match="must be a power of two from 8 bits"):
        axi.Signature(bits)


def test_axi_signatures_of_equal_width_are_equal():
    assert axi.Signature(64) == axi.Signature(64)
    assert axi.Signature(64) != axi.Signature(128)
    assert axi.LiteSignature() == axi.LITE


@pytest.mark.parametrize("name", PRESETS)
def test_masters_exist_for_every_configuration(name):
    config = PRESETS[name]
    size = {"data_bits": config.axi_data_bits, "outstanding": config.axi_outstanding}
    assert ReadMaster(**size).outstanding == WriteMaster(**size).outstanding
