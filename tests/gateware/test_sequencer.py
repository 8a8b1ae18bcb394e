"""Sequencer with a program memory and engines that the test plays."""

from collections import deque
from functools import partial

import pytest
from amaranth.sim import Simulator

from systolith.arch import isa, rules
from systolith.arch.csr import Fault
from systolith.arch.isa import Engine
from systolith.arch.presets import PRESETS
from systolith.gateware.fetch import PREFETCH_DEPTH
from systolith.gateware.sequencer import Sequencer

CONFIG = PRESETS["tiny-4x4"]
BASE = 0x1_2345_6000
OFFSET = 0x240
LIMIT_CYCLES = 4000
ENGINES = [Engine.LOAD, Engine.EXECUTE, Engine.DRAIN, Engine.STORE]

MAKE = {
    Engine.LOAD: isa.Load,
    Engine.EXECUTE: isa.Geometry,
    Engine.DRAIN: isa.Quantize,
    Engine.STORE: isa.Store,
}


class Bench:
    """Runs programs; each engine takes `busy[engine]` cycles for a command.

    Records (cycle, index, targets) of each command in `accepted[engine]` and the completions
    of all engines in the order of time in `completed`.
    """

    def __init__(self, rng, *, axi_bytes=8, queue_depth=4, latency=6, stalls=0.0):
        self.dut = Sequencer(
            rules=rules.field_rules(CONFIG), queue_depth=queue_depth, axi_bytes=axi_bytes
        )
        self.rng, self.latency, self.stalls, self.axi_bytes = rng, latency, stalls, axi_bytes
        self.busy = dict.fromkeys(ENGINES, 3)
        self.fault_at = {}  # engine -> (index, FAULT_REPORT fields): instead of completing
        self.bus_fault_at = None  # (beat number, code, addr)
        self.hang_bus = False
        self.hang_idle = False
        self.words = b""
        self.region_size = 1 << 20
        self.reset_records()

    def reset_records(self):
        self.accepted = {engine: [] for engine in ENGINES}
        self.completed = []
        self.resets = 0
        self.requests = []
        self.beats = deque()
        self.cycle = 0

    def load(self, program, count=None):
        self.words = b"".join(i if isinstance(i, bytes) else i.to_bytes() for i in program)
        self.count = len(program) if count is None else count

    def run(self, scenario):
        simulator = Simulator(self.dut)
        simulator.add_clock(1e-8)
        simulator.add_testbench(self.memory, background=True)
        for engine in ENGINES:
            simulator.add_testbench(partial(self.engine, engine=engine), background=True)
        simulator.add_testbench(self.watch, background=True)
        simulator.add_testbench(scenario)
        simulator.run()

    async def watch(self, ctx):
        before = True
        async for _, _reset, held in ctx.tick().sample(self.dut.engine_reset):
            self.cycle += 1
            self.resets += held and not before
            before = held

    async def memory(self, ctx):
        dut = self.dut
        ctx.set(dut.fetch_request.ready, 1)
        ctx.set(dut.bus_idle, 1)
        number, sent = 0, False
        async for _, _, taken, offset, size, accepted, stop in ctx.tick().sample(
            dut.fetch_request.valid,
            dut.fetch_request.p.offset,
            dut.fetch_request.p.bytes,
            dut.fetch_data.ready,
            dut.stop,
        ):
            if sent and accepted:
                self.beats.popleft()
                number += 1
            if stop and not self.hang_bus:
                self.beats.clear()
            elif taken:
                self.requests.append((offset, size))
                for at in range(0, size, self.axi_bytes):
                    start = offset + at - OFFSET
                    data = self.words[start : start + self.axi_bytes]
                    last = at + self.axi_bytes >= size
                    self.beats.append((self.cycle + self.latency, data, last))
            ctx.set(dut.bus_idle, not self.beats and not self.hang_idle)
            due = self.beats and self.beats[0][0] <= self.cycle and not self.hang_bus
            keep = sent and not accepted
            sent = bool(due and (keep or self.rng.random() >= self.stalls) and not stop)
            ctx.set(dut.fetch_data.valid, sent)
            if sent:
                _, data, last = self.beats[0]
                failure = self.bus_fault_at and number >= self.bus_fault_at[0]
                ctx.set(dut.fetch_data.p.data, int.from_bytes(data, "little"))
                ctx.set(dut.fetch_data.p.last, last)
                ctx.set(dut.fetch_data.p.code, self.bus_fault_at[1] if failure else 0)
                ctx.set(dut.fetch_data.p.addr, self.bus_fault_at[2] if failure else 0)

    async def engine(self, ctx, engine):
        dut, command = self.dut, self.dut.commands[engine]
        idle = 1 << engine
        self.set_bit(ctx, dut.engine_idle, idle, True)
        while True:
            ctx.set(command.ready, 1)
            offered = False
            while not offered:
                _, _, offered, index, targets = await ctx.tick().sample(
                    command.valid, command.p.index, command.p.targets
                )
            ctx.set(command.ready, 0)
            self.accepted[engine].append((self.cycle, index, list(targets)))
            self.set_bit(ctx, dut.engine_idle, idle, False)
            stopped = 0
            for _ in range(self.busy[engine]):
                _, _, stop = await ctx.tick().sample(dut.stop)
                stopped |= stop
            report = self.fault_at.get(engine)
            strobe = None
            if report and report["index"] == index and not stopped:
                ctx.set(dut.engine_fault[engine], report)
                strobe = dut.engine_fault_stb
            elif not stopped:
                strobe = dut.engine_done
                self.completed.append((self.cycle, engine, index))
            self.set_bit(ctx, dut.engine_idle, idle, True)
            if strobe is not None:
                self.set_bit(ctx, strobe, idle, True)
            await ctx.tick()
            if strobe is not None:
                self.set_bit(ctx, strobe, idle, False)

    @staticmethod
    def set_bit(ctx, signal, mask, value):
        old = ctx.get(signal)
        ctx.set(signal, old | mask if value else old & ~mask)

    async def start(self, ctx, *, watchdog=0, offset=OFFSET):
        ctx.set(self.dut.region, {"base": BASE, "size": self.region_size, "read": 1})
        ctx.set(self.dut.program_offset, offset)
        ctx.set(self.dut.program_count, self.count)
        ctx.set(self.dut.watchdog, watchdog)
        ctx.set(self.dut.start, 1)
        await ctx.tick()
        ctx.set(self.dut.start, 0)
        await ctx.tick()

    async def wait_for(self, ctx, signal, what):
        for _ in range(LIMIT_CYCLES):
            if ctx.get(signal):
                return
            await ctx.tick()
        pytest.fail(f"{what} did not come within {LIMIT_CYCLES} cycles")

    async def finish(self, ctx):
        for _ in range(LIMIT_CYCLES):
            if not ctx.get(self.dut.busy):
                return
            await ctx.tick()
        pytest.fail(f"the program did not end within {LIMIT_CYCLES} cycles")

    def fault(self, ctx):
        fault = ctx.get(self.dut.fault)
        return Fault(fault.code), Engine(fault.engine), fault.index, fault.addr

    def assert_done(self, ctx, program):
        assert (ctx.get(self.dut.done), ctx.get(self.dut.faulted)) == (1, 0)
        assert self.fault(ctx)[0] is Fault.NONE
        counts = [sum(i.ENGINE is e for i in program) for e in ENGINES]
        assert list(ctx.get(self.dut.progress)) == counts


def random_program(rng, length):
    """Return a program with random waits, and the targets that each instruction must get."""
    program, targets = [], []
    sent = [0, 0, 0, 0]
    for _ in range(length):
        engine = ENGINES[rng.integers(4)]
        waits = [int(rng.choice([0, 1, 2, 7, 254, isa.NO_WAIT, isa.NO_WAIT])) for _ in ENGINES]
        names = ("wait_load", "wait_execute", "wait_drain", "wait_store")
        program.append(MAKE[engine](**dict(zip(names, waits, strict=True))))
        pairs = list(zip(sent, waits, strict=True))
        targets.append([n - w if w != isa.NO_WAIT and w <= n else 0 for n, w in pairs])
        sent[engine] += 1
    return [*program, isa.Halt()], targets


def check_order(bench, targets, early=(Engine.EXECUTE,)):
    """Check that every command had its targets, and none was offered before they were met."""
    for engine in ENGINES:
        for cycle, index, got in bench.accepted[engine]:
            assert got == targets[index], f"targets of instruction {index}"
            for other in ENGINES:
                if engine in early and other is not Engine.LOAD:
                    continue
                done = sum(c < cycle and e is other for c, e, _ in bench.completed)
                assert done >= got[other], f"instruction {index} came before {other.name}"


@pytest.mark.parametrize("axi_bytes", [4, 8, 32, 64])
@pytest.mark.parametrize("stalls", [0.0, 0.6])
def test_random_program_runs_in_order_with_waits(axi_bytes, stalls, rng):
    bench = Bench(rng, axi_bytes=axi_bytes, stalls=stalls, latency=20)
    bench.busy = {engine: int(rng.integers(1, 12)) for engine in ENGINES}
    program, targets = random_program(rng, 75)
    bench.load(program)

    async def scenario(ctx):
        await bench.start(ctx)
        await bench.finish(ctx)
        bench.assert_done(ctx, program)

    bench.run(scenario)
    check_order(bench, targets)
    for engine in ENGINES:
        expected = [n for n, i in enumerate(program) if i.ENGINE is engine]
        assert [index for _, index, _ in bench.accepted[engine]] == expected
    assert bench.resets == 1, "at the end"
    assert sum(size for _, size in bench.requests) == 32 * len(program)


def test_execute_is_offered_before_drain_and_store_have_come_so_far(rng):
    bench = Bench(rng)
    bench.busy[Engine.DRAIN] = 60
    program = [isa.Quantize(), isa.Geometry(wait_drain=0), isa.Quantize(wait_execute=0), isa.Halt()]
    bench.load(program)

    async def scenario(ctx):
        await bench.start(ctx)
        await bench.finish(ctx)
        bench.assert_done(ctx, program)

    bench.run(scenario)
    (execute,) = bench.accepted[Engine.EXECUTE]
    first, second = bench.accepted[Engine.DRAIN]
    assert execute[2] == [0, 0, 1, 0]
    assert execute[0] < first[0] + 10
    assert second[0] > bench.completed[-2][0]


def test_latency_from_start_and_from_memory(rng):
    bench = Bench(rng, latency=0)
    bench.load([isa.Load(), isa.Load(), isa.Halt()])
    seen = {}

    async def scenario(ctx):
        dut = bench.dut
        await bench.start(ctx)  # two cycles
        assert not ctx.get(dut.fetch_request.valid)
        await ctx.tick()
        assert ctx.get(dut.fetch_request.valid)
        beats = 0
        while beats < 4:
            beats += ctx.get(dut.fetch_data.valid)
            seen["last beat"] = bench.cycle
            await ctx.tick()
        await bench.finish(ctx)

    bench.run(scenario)
    first, _ = bench.accepted[Engine.LOAD]
    assert first[0] - seen["last beat"] == 6


def test_queue_that_is_full_holds_up_only_what_is_behind_it(rng):
    bench = Bench(rng, queue_depth=2)
    bench.busy[Engine.LOAD] = 100
    program = [isa.Store(), *[isa.Load()] * 6, isa.Store(), isa.Halt()]
    bench.load(program)

    async def scenario(ctx):
        await bench.start(ctx)
        await bench.finish(ctx)
        bench.assert_done(ctx, program)

    bench.run(scenario)
    stores = [cycle for cycle, _, _ in bench.accepted[Engine.STORE]]
    loads = [cycle for cycle, _, _ in bench.accepted[Engine.LOAD]]
    assert stores[0] < loads[1] and stores[1] > loads[2]


def test_prefetch_asks_for_no_more_than_it_has_room_for(rng):
    bench = Bench(rng)
    bench.busy = dict.fromkeys(ENGINES, 10_000)
    bench.load([isa.Load()] * 90 + [isa.Halt()])

    async def scenario(ctx):
        await bench.start(ctx)
        await ctx.tick().repeat(600)
        asked = sum(size for _, size in bench.requests) // isa.INSTRUCTION_BYTES
        in_front = 1 + bench.dut.queue_depth + 3
        assert PREFETCH_DEPTH <= asked <= PREFETCH_DEPTH + in_front
        assert not ctx.get(bench.dut.fetch_data.valid), "an answer was not taken"

    bench.run(scenario)


def corrupt(instruction, bit):
    return (instruction.encode() ^ (1 << bit)).to_bytes(isa.INSTRUCTION_BYTES, "little")


BAD = {
    "opcode 0": (bytes(32), Fault.ILLEGAL_OPCODE),
    "opcode 0xff": (b"\xff" * 32, Fault.ILLEGAL_OPCODE),
    "reserved bit": (corrupt(isa.Load(), 245), Fault.RESERVED_BITS),
    "reserved bit of HALT": (corrupt(isa.Halt(), 255), Fault.RESERVED_BITS),
    "lanes": (isa.Geometry(lanes=5).to_bytes(), Fault.FIELD_RANGE),
    "out_shift": (isa.Elementwise(out_shift=1).to_bytes(), Fault.FIELD_RANGE),
    "cols": (isa.Pass(cols=3, line_vectors=2).to_bytes(), Fault.FIELD_RANGE),
}


@pytest.mark.parametrize(("word", "code"), BAD.values(), ids=BAD)
def test_illegal_instruction_stops_and_the_next_program_runs(word, code, rng):
    bench = Bench(rng)
    bench.load([isa.Load(), isa.Quantize(), word, isa.Load(), isa.Halt()])
    good, targets = random_program(rng, 20)

    async def scenario(ctx):
        await bench.start(ctx)
        await bench.finish(ctx)
        assert (ctx.get(bench.dut.done), ctx.get(bench.dut.faulted)) == (0, 1)
        assert bench.fault(ctx) == (code, Engine.SEQUENCER, 2, 0)
        assert all(index < 2 for records in bench.accepted.values() for _, index, _ in records)
        bench.reset_records()
        bench.load(good)
        await bench.start(ctx)
        await bench.finish(ctx)
        bench.assert_done(ctx, good)

    bench.run(scenario)
    check_order(bench, targets)


def test_program_without_halt_is_a_region_fault_behind_its_end(rng):
    bench = Bench(rng)
    program = [isa.Load()] * 9
    bench.load(program)

    async def scenario(ctx):
        await bench.start(ctx)
        await bench.finish(ctx)
        end = BASE + OFFSET + 32 * len(program)
        assert bench.fault(ctx) == (Fault.REGION_BOUNDS, Engine.SEQUENCER, len(program), end)

    bench.run(scenario)


def test_program_without_instructions_is_a_region_fault(rng):
    bench = Bench(rng)
    bench.load([])

    async def scenario(ctx):
        await bench.start(ctx)
        await bench.finish(ctx)
        assert bench.fault(ctx) == (Fault.REGION_BOUNDS, Engine.SEQUENCER, 0, BASE + OFFSET)

    bench.run(scenario)
    assert bench.requests == []


def test_program_that_is_not_at_a_beat_is_an_alignment_fault(rng):
    bench = Bench(rng)
    bench.load([isa.Halt()])

    async def scenario(ctx):
        await bench.start(ctx, offset=OFFSET + 4)
        await bench.finish(ctx)
        assert bench.fault(ctx) == (Fault.ALIGNMENT, Engine.SEQUENCER, 0, BASE + OFFSET + 4)

    bench.run(scenario)


@pytest.mark.parametrize("code", [Fault.BUS_READ, Fault.REGION_PERMISSION])
def test_fault_of_the_fetch_is_raised_when_its_instruction_is_next(code, rng):
    bench = Bench(rng)
    bench.load([isa.Load(), isa.Load(), isa.Load(), isa.Halt()])
    bench.bus_fault_at = (9, code, 0xABCD)  # the second beat of the third instruction

    async def scenario(ctx):
        await bench.start(ctx)
        await bench.finish(ctx)
        assert bench.fault(ctx) == (code, Engine.SEQUENCER, 2, 0xABCD)

    bench.run(scenario)


def test_requests_are_single_at_the_end_of_the_region(rng):
    bench = Bench(rng)
    bench.load([isa.Load()] * 20 + [isa.Halt()])
    bench.region_size = OFFSET + 32 * 11

    async def scenario(ctx):
        await bench.start(ctx)
        await bench.finish(ctx)

    bench.run(scenario)
    sizes = [size // isa.INSTRUCTION_BYTES for _, size in bench.requests]
    assert sizes[:5] == [8, 1, 1, 1, 1], "so that only the twelfth instruction is refused"


def test_fault_of_the_fetch_behind_halt_is_never_seen(rng):
    bench = Bench(rng)
    program = [isa.Load(), isa.Halt()]
    bench.load([*program, *[isa.Load()] * 20])
    bench.bus_fault_at = (8, Fault.REGION_BOUNDS, 0xABCD)

    async def scenario(ctx):
        await bench.start(ctx)
        await bench.finish(ctx)
        bench.assert_done(ctx, program)

    bench.run(scenario)


def test_fault_of_an_engine_stops_all_and_the_next_program_runs(rng):
    bench = Bench(rng)
    bench.busy[Engine.STORE] = 90
    report = {"code": Fault.LOCAL_ADDRESS, "index": 2, "addr": 0x123}
    bench.fault_at = {Engine.DRAIN: report}
    bench.load([isa.Store(), isa.Quantize(), isa.Quantize(), *[isa.Load()] * 30, isa.Halt()])
    good, targets = random_program(rng, 20)

    async def scenario(ctx):
        dut = bench.dut
        await bench.start(ctx)
        await bench.wait_for(ctx, dut.stop, "stop")
        await ctx.tick().repeat(2)
        before = {engine: len(records) for engine, records in bench.accepted.items()}
        assert not ctx.get(dut.faulted), "an engine is still at work"
        await bench.finish(ctx)
        assert ctx.get(dut.faulted)
        assert bench.fault(ctx) == (Fault.LOCAL_ADDRESS, Engine.DRAIN, 2, 0x123)
        assert before == {engine: len(records) for engine, records in bench.accepted.items()}
        bench.fault_at = {}
        bench.reset_records()
        bench.load(good)
        await bench.start(ctx)
        assert bench.fault(ctx)[0] is Fault.NONE
        assert (ctx.get(dut.faulted), ctx.get(dut.done)) == (0, 0)
        await bench.finish(ctx)
        bench.assert_done(ctx, good)

    bench.run(scenario)
    check_order(bench, targets)


def test_of_simultaneous_faults_the_lowest_engine_is_kept(rng):
    bench = Bench(rng)
    bench.load([isa.Load(wait_load=0)] * 20 + [isa.Halt()])

    async def scenario(ctx):
        dut = bench.dut
        await bench.start(ctx)
        await ctx.tick().repeat(5)
        ctx.set(dut.engine_fault[1], {"code": Fault.PORT_CONFLICT, "index": 5, "addr": 1})
        ctx.set(dut.engine_fault[3], {"code": Fault.BUS_WRITE, "index": 4, "addr": 3})
        ctx.set(dut.engine_fault_stb, 0b1010)
        ctx.set(dut.abort, 1)
        await ctx.tick()
        ctx.set(dut.engine_fault_stb, 0b0001)  # too late: the first is kept
        await ctx.tick()
        ctx.set(dut.engine_fault_stb, 0)
        ctx.set(dut.abort, 0)
        await bench.finish(ctx)
        assert bench.fault(ctx) == (Fault.PORT_CONFLICT, Engine.EXECUTE, 5, 1)

    bench.run(scenario)


def test_abort_stops_and_is_ignored_while_idle(rng):
    bench = Bench(rng)
    bench.busy = dict.fromkeys(ENGINES, 40)
    bench.load([isa.Load(wait_load=0)] * 20 + [isa.Halt()])

    async def scenario(ctx):
        dut = bench.dut
        ctx.set(dut.abort, 1)
        await ctx.tick()
        ctx.set(dut.abort, 0)
        await ctx.tick().repeat(3)
        assert not ctx.get(dut.busy) and not ctx.get(dut.faulted)
        await bench.start(ctx)
        await ctx.tick().repeat(100)
        ctx.set(dut.abort, 1)
        await ctx.tick()
        ctx.set(dut.abort, 0)
        await bench.finish(ctx)
        code, engine, _, _ = bench.fault(ctx)
        assert (code, engine) == (Fault.ABORTED, Engine.SEQUENCER)
        assert ctx.get(dut.faulted)

    bench.run(scenario)


def test_watchdog_stops_a_program_in_which_nothing_completes(rng):
    bench = Bench(rng)
    bench.load([isa.Load()] * 5 + [isa.Store(), isa.Load(wait_store=0), isa.Halt()])
    bench.busy = dict.fromkeys(ENGINES, 50)
    seen = {}

    async def scenario(ctx):
        dut = bench.dut
        await bench.start(ctx, watchdog=80)
        await bench.finish(ctx)
        assert ctx.get(dut.done), "each instruction is faster than the limit"
        bench.reset_records()
        bench.busy[Engine.STORE] = 500
        await bench.start(ctx, watchdog=80)
        await bench.wait_for(ctx, dut.stop, "stop")
        seen["stop"] = bench.cycle
        await bench.finish(ctx)
        code, engine, _, _ = bench.fault(ctx)
        assert (code, engine) == (Fault.WATCHDOG, Engine.SEQUENCER)

    bench.run(scenario)
    assert 80 <= seen["stop"] - bench.completed[-1][0] <= 86


@pytest.mark.parametrize("cause", ["watchdog", "abort"])
def test_fault_is_reported_although_the_bus_never_answers(cause, rng):
    bench = Bench(rng)
    bench.load([isa.Halt()])
    bench.hang_bus = True

    async def scenario(ctx):
        dut = bench.dut
        await bench.start(ctx, watchdog=100)
        await ctx.tick().repeat(20)
        if cause == "abort":
            ctx.set(dut.abort, 1)
            await ctx.tick()
            ctx.set(dut.abort, 0)
        await bench.wait_for(ctx, dut.fault_stb, "the fault's event")
        await ctx.tick()
        for _ in range(50):
            assert (ctx.get(dut.faulted), ctx.get(dut.busy), ctx.get(dut.fault_stb)) == (1, 1, 0)
            await ctx.tick()
        expected = Fault.WATCHDOG if cause == "watchdog" else Fault.ABORTED
        assert bench.fault(ctx)[0] is expected
        bench.hang_bus = False
        await bench.finish(ctx)
        assert ctx.get(dut.faulted) and not ctx.get(dut.done)

    bench.run(scenario)


def test_bus_that_hangs_after_halt_is_a_watchdog_fault(rng):
    bench = Bench(rng)
    bench.load([isa.Halt()])
    bench.hang_idle = True

    async def scenario(ctx):
        dut = bench.dut
        await bench.start(ctx, watchdog=100)
        await bench.wait_for(ctx, dut.faulted, "the fault")
        assert bench.fault(ctx)[0] is Fault.WATCHDOG
        assert not ctx.get(dut.done)

    bench.run(scenario)
