# amaranth: UnusedElaboratable=no
from collections import deque
from dataclasses import dataclass, field

import numpy as np
import pytest
from amaranth.hdl import Module
from amaranth.sim import Simulator

from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Fault
from systolith.arch.isa import AccOp, Engine, FeedMode, Geometry, Pass, WeightMode
from systolith.gateware.accumulator import TURNAROUND, Accumulators
from systolith.gateware.execute import ExecuteEngine
from systolith.gateware.words import HEADER_BITS

CYCLE_LIMIT = 20_000
WRAP = 1 << 32


def make_config(rows, cols, feeds, lanes=None):
    return AcceleratorConfig(
        name=f"test-{rows}x{cols}", rows=rows, cols=cols, scratchpad_bytes=4096, banks=16,
        weight_bytes=4096, acc_rows=32, param_bytes=1024, lanes=lanes or cols, feeds=feeds,
        axi_data_bits=32,
    )  # fmt: skip


@dataclass
class Memories:
    """Local memories, filled at random; `acc` is what the reference makes of them."""

    scratchpad: np.ndarray
    weights: np.ndarray
    acc: np.ndarray
    tile: np.ndarray

    @classmethod
    def random(cls, rng, config):
        weights = rng.integers(-128, 128, (config.weight_words, config.weight_word_bytes))
        return cls(
            scratchpad=rng.integers(-128, 128, config.scratchpad_bytes),
            weights=weights,
            acc=np.zeros((2 * config.acc_rows, config.cols), np.int64),
            tile=np.zeros((config.rows, config.cols), np.int64),
        )


def reference(program, memories, config):
    """Execute a legal program on `memories`, one output at a time, from the words of ISA.md."""
    geometry = Geometry()
    for item in program:
        if isinstance(item, Geometry):
            geometry = item
        else:
            reference_pass(item, geometry, memories, config)


def window(item, g, memories, config, ky, kx, chunk, s, feed):
    """Return the lanes of feed `feed` at stream position s, and the needed byte addresses."""
    row, col = divmod(s, item.line_vectors)
    fold = config.feeds if g.mode == FeedMode.DEPTHWISE else 1
    x = item.x + col * g.col_step + kx * g.kx_step + chunk * g.chunk_step
    line = item.y + row * g.row_lines + (ky * fold + feed) * g.ky_lines
    addr = item.addr + row * g.row_step + (ky * fold + feed) * g.ky_step + x - item.x
    lanes = g.lanes_last if chunk == g.chunk_count - 1 else g.lanes
    vector, needed = np.zeros(max(config.rows, config.cols), np.int64), []
    for lane in range(lanes):
        if 0 <= x + lane < g.line_bytes and 0 <= line < g.lines:
            needed.append(addr + lane)
            if 0 <= addr + lane < config.scratchpad_bytes:
                vector[lane] = memories.scratchpad[addr + lane]
        else:
            vector[lane] = g.pad
    return vector, addr, needed


def reference_pass(item, g, memories, config):
    weight_addr, steps = item.weight_addr, 0
    total = item.rows * item.line_vectors + item.tail
    for ky in range(g.ky_count):
        for kx in range(g.kx_count):
            for chunk in range(g.chunk_count):
                if item.weights == WeightMode.EACH or (
                    item.weights == WeightMode.ONCE and steps == 0
                ):
                    last = chunk == g.chunk_count - 1
                    count = g.weight_rows_last if last else g.weight_rows
                    memories.tile[:] = 0
                    words = memories.weights[weight_addr : weight_addr + count]
                    memories.tile[:count] = words[:, : config.cols]
                    weight_addr += count
                feeds = config.feeds if g.mode == FeedMode.DEPTHWISE else 1
                vectors = np.array(
                    [
                        [
                            window(item, g, memories, config, ky, kx, chunk, s, feed)[0]
                            for s in range(total)
                        ]
                        for feed in range(feeds)
                    ]
                )
                op = item.next_op if steps else item.first_op
                steps += 1
                for row in range(item.rows):
                    for col in range(item.cols):
                        s = row * item.line_vectors + col
                        new = sum_of(s, vectors, g.mode, memories.tile, config)
                        place = item.acc + row * item.cols + col
                        old = memories.acc[place]
                        new = {
                            AccOp.WRITE: new,
                            AccOp.ADD: old + new,
                            AccOp.MAX: np.maximum(old, new),
                        }[op]
                        memories.acc[place] = (new + WRAP // 2) % WRAP - WRAP // 2


def sum_of(s, vectors, mode, tile, config):
    if mode == FeedMode.DENSE:
        return vectors[0, s, : config.rows] @ tile
    total = np.zeros(config.cols, np.int64)
    for row in range(config.rows):
        feed = min(row // config.group_rows, config.feeds - 1)
        source = s + row - feed * config.group_rows
        if source < vectors.shape[1]:
            total += vectors[feed, source, : config.cols] * tile[row]
    return total


@dataclass
class Run:
    """What a simulation showed: cycles of vectors and of `done`, the first fault, accumulators."""

    streaming: list = field(default_factory=list)
    done: list = field(default_factory=list)
    fault: tuple | None = None
    waits: dict = field(default_factory=dict)
    feed_reads: int = 0
    acc: np.ndarray | None = None


class Bench:
    """ExecuteEngine and Accumulators with memories of plain arrays and perfect sequencing.

    Parameters
    ----------
    offer : callable, optional
        `offer(cycle, index)`: whether the sequencer offers the instruction yet.
    progress : callable, optional
        `progress(cycle)`: progress of DRAIN and STORE.
    conflict, acc_conflict : callable, optional
        Of the cycle: whether scratchpad or accumulators report a conflict.
    """

    def __init__(
        self, config, *, read_latency=3, offer=None, progress=None, conflict=None,
        acc_conflict=None,
    ):  # fmt: skip
        self.config, self.read_latency = config, read_latency
        self.offer = offer or (lambda cycle, index: True)
        self.progress = progress or (lambda cycle: (0, 0))
        self.conflict = conflict or (lambda cycle: False)
        self.acc_conflict = acc_conflict or (lambda cycle: False)
        self.engine = ExecuteEngine(config, read_latency=read_latency)
        self.acc = Accumulators(cols=config.cols, bank_rows=config.acc_rows, lanes=config.lanes)

    def top(self):
        m = Module()
        m.submodules.engine, m.submodules.acc = self.engine, self.acc
        for name in ("w_en", "w_addr", "w_op"):
            m.d.comb += getattr(self.acc, name).eq(getattr(self.engine, name))
        for left, right in zip(self.acc.sums, self.engine.sums, strict=True):
            m.d.comb += left.eq(right)
        return m

    def run(self, program, memories, *, targets=None, extra_cycles=0, until=None):
        """Run a program; `targets` maps an index to the absolute targets of its four waits."""
        run = Run()

        async def bench(ctx):
            await self._drive(ctx, run, program, memories, targets or {}, extra_cycles, until)
            run.acc = await self._read_back(ctx)

        sim = Simulator(self.top())
        sim.add_clock(1e-6)
        sim.add_testbench(bench)
        sim.run()
        return run

    async def _drive(self, ctx, run, program, memories, targets, extra_cycles, until):
        engine, config = self.engine, self.config
        next_index, spare = 0, None
        depth = self.read_latency + 1
        windows = deque([[None] * config.feeds] * depth, depth)
        causes = ("wait_drain", "wait_store", "wait_weights", "idle_command")
        run.waits = dict.fromkeys(causes, 0)
        for cycle in range(CYCLE_LIMIT):
            drain, store = self.progress(cycle)
            ctx.set(engine.progress, [0, len(run.done), drain, store])
            valid = next_index < len(program) and self.offer(cycle, next_index)
            ctx.set(engine.command.valid, valid)
            if valid:
                word = program[next_index].encode()
                ctx.set(engine.command.p.opcode, word & 0xFF)
                ctx.set(engine.command.p.body, word >> HEADER_BITS)
                ctx.set(engine.command.p.index, 100 + next_index)
                ctx.set(engine.command.p.targets, list(targets.get(next_index, (0, 0, 0, 0))))
            self._serve(ctx, windows, memories, run)
            ctx.set(engine.feed_conflict, self.conflict(cycle))
            ctx.set(engine.acc_conflict, self.acc_conflict(cycle))
            if ctx.get(engine.streaming):
                run.streaming.append(cycle)
            for name in causes:
                run.waits[name] += ctx.get(getattr(engine, name))
            assert sum(ctx.get(getattr(engine, name)) for name in (*causes, "streaming")) <= 1
            if ctx.get(engine.done):
                run.done.append(cycle)
                assert len(run.done) <= len(program)
            if ctx.get(engine.fault_stb):
                assert run.fault is None
                fault = engine.fault
                run.fault = tuple(ctx.get(v) for v in (fault.code, fault.index, fault.addr))
                run.fault_cycle = cycle
            next_index += valid and bool(ctx.get(engine.command.ready))
            weight = ctx.get(engine.weight_addr) if ctx.get(engine.weight_en) else None
            await ctx.tick()
            word = memories.weights[weight] & 0xFF if weight is not None else []
            filler = (cycle * 37 + np.arange(config.weight_word_bytes)) & 0xFF
            ctx.set(engine.weight_data, [int(v) for v in (word if len(word) else filler)])
            ended = run.fault or len(run.done) == len(program) or (until and until(run))
            if ended and ctx.get(engine.idle):
                spare = extra_cycles if spare is None else spare - 1
                if spare <= 0:
                    return
        raise AssertionError(f"{len(run.done)} of {len(program)} instructions done")

    def _serve(self, ctx, windows, memories, run):
        """Answer the reads of `read_latency` cycles ago, and note this cycle's."""
        engine, config = self.engine, self.config
        windows.append(
            [
                ctx.get(engine.feed_addr[j]) if ctx.get(engine.feed_en[j]) else None
                for j in range(config.feeds)
            ]
        )
        run.feed_reads += sum(addr is not None for addr in windows[-1])
        for feed, addr in enumerate(windows[0]):
            # Without a read there is rubbish, which must not reach a sum.
            lane = np.arange(config.word_bytes)
            place = (addr if addr is not None else 7 * feed) + lane
            value = memories.scratchpad[place % config.scratchpad_bytes] & 0xFF
            ctx.set(engine.feed_data[feed], [int(v) for v in value ^ (addr is None) * 0x55])

    async def _read_back(self, ctx):
        acc, config = self.acc, self.config
        rows = 2 * config.acc_rows
        result = np.zeros((rows, config.cols), np.int64)
        requests = [(row, group) for row in range(rows) for group in range(acc.groups)]
        lanes = config.lanes
        for cycle in range(len(requests) + acc.read_latency + lanes):
            ctx.set(acc.r_en, cycle < len(requests))
            if cycle < len(requests):
                ctx.set(acc.r_addr, requests[cycle][0])
                ctx.set(acc.r_group, requests[cycle][1])
            for lane in range(lanes):
                answered = cycle - acc.read_latency - lane
                if 0 <= answered < len(requests):
                    row, group = requests[answered]
                    result[row, group * lanes + lane] = ctx.get(acc.r_data[lane])
            await ctx.tick()
        return result


def random_geometry(rng, config, mode):
    widest = max(config.rows, config.cols)
    chunk = int(rng.integers(1, widest + 1))
    return Geometry(
        mode=mode,
        pad=int(rng.integers(-128, 128)),
        lines=int(rng.integers(1, 9)),
        line_bytes=int(rng.integers(1, 60)),
        row_lines=int(rng.integers(0, 4)),
        row_step=int(rng.integers(0, 80)),
        col_step=int(rng.integers(0, 20)),
        ky_count=int(rng.integers(1, 3)),
        ky_lines=int(rng.integers(0, 4)),
        ky_step=config.word_bytes * int(rng.integers(0, 5)),
        kx_count=int(rng.integers(1, 3)),
        kx_step=int(rng.integers(0, 20)),
        chunk_count=int(rng.integers(1, 4)),
        chunk_step=int(rng.integers(0, 20)),
        lanes=chunk,
        lanes_last=int(rng.integers(1, chunk + 1)),
        weight_rows=int(rng.integers(1, config.rows + 1)),
        weight_rows_last=int(rng.integers(1, config.rows + 1)),
    )


def aligned(geometry, config):
    """Make every window of a geometry begin at a word, as feeds above 0 ask for."""
    word = config.word_bytes
    steps = ("row_step", "col_step", "kx_step", "chunk_step")
    rounded = {name: getattr(geometry, name) // word * word for name in steps}
    return Geometry(**(vars(geometry) | rounded))


def random_pass(rng, config, weights, unit):
    cols = int(rng.integers(1, 5))
    rows = int(rng.integers(1, 4))
    return Pass(
        weights=weights,
        first_op=AccOp(int(rng.integers(0, 3))),
        next_op=AccOp(int(rng.integers(0, 3))),
        weight_addr=int(rng.integers(0, config.weight_words // 2)),
        addr=1024 + unit * int(rng.integers(0, 16)),
        y=int(rng.integers(-4, 4)),
        x=int(rng.integers(-30, 30)),
        acc=int(rng.integers(0, 2 * config.acc_rows - rows * cols + 1)),
        rows=rows,
        cols=cols,
        line_vectors=cols + int(rng.integers(0, 3)),
        tail=int(rng.integers(0, 6)) if rng.random() < 0.5 else 0,
    )


def random_program(rng, config, passes):
    program = []
    for number in range(passes):
        depthwise = rng.random() < 0.5
        unit = 1
        if number == 0 or rng.random() < 0.6:
            mode = FeedMode.DEPTHWISE if depthwise else FeedMode.DENSE
            geometry = random_geometry(rng, config, mode)
            if depthwise and config.feeds > 1:
                geometry = aligned(geometry, config)
            program.append(geometry)
        if geometry.mode == FeedMode.DEPTHWISE and config.feeds > 1:
            unit = config.word_bytes
        # A program may begin with a kept tile: the array counts as zero then.
        weights = WeightMode(int(rng.integers(0, 3)))
        program.append(random_pass(rng, config, weights, unit))
    return program


def schedule(program, config):
    """Return the cycles of all vectors, the first one in cycle 0, by the documented rules."""
    cycles, begin, switched, has_tile = [], 0, -config.rows, False
    geometry, written, previous = None, {}, -TURNAROUND
    for item in program:
        if isinstance(item, Geometry):
            geometry = item
            continue
        g = geometry
        for step in range(g.ky_count * g.kx_count * g.chunk_count):
            first = step == 0
            new = item.weights == WeightMode.EACH or (
                first and (item.weights == WeightMode.ONCE or not has_tile)
            )
            begin = max(begin, previous + TURNAROUND)
            if new:
                begin = max(begin, switched + config.rows)
                switched, has_tile = begin, True
            op = item.first_op if first else item.next_op
            kept = [
                row * item.line_vectors + col
                for row in range(item.rows)
                for col in range(item.cols)
            ]
            if op != AccOp.WRITE:
                for number in range(TURNAROUND):
                    if item.acc + number in written:
                        # Rows are judged as if the step's vectors were all kept.
                        ready = written[item.acc + number] + TURNAROUND - number
                        begin = max(begin, ready)
                        if new:
                            switched = begin
            written = {item.acc + n: begin + s for n, s in enumerate(kept)}
            # Only the last row operated on is compared with, the ones before are older.
            last = item.acc + len(kept) - 1
            written = {last: written[last]}
            previous = begin
            count = item.rows * item.line_vectors + item.tail
            cycles += range(begin, begin + count)
            begin += count
    return cycles


CONFIGS = [(4, 4, 1, 4), (6, 5, 2, 1), (9, 9, 3, 3), (3, 6, 1, 2), (2, 3, 2, 3), (8, 4, 3, 2)]


@pytest.mark.parametrize(("rows", "cols", "feeds", "lanes"), CONFIGS)
@pytest.mark.parametrize("trial", range(3))
def test_random_programs_give_the_sums_of_the_isa(rng, rows, cols, feeds, lanes, trial):
    rng = np.random.default_rng([trial, rows, cols, *rng.integers(0, 1 << 30, 1)])
    config = make_config(rows, cols, feeds, lanes)
    program = random_program(rng, config, 10)
    memories = Memories.random(rng, config)
    run = Bench(config, read_latency=int(rng.integers(1, 5))).run(program, memories)
    reference(program, memories, config)
    assert run.fault is None
    assert np.array_equal(run.acc, memories.acc)
    expected = schedule(program, config)
    assert [cycle - run.streaming[0] for cycle in run.streaming] == expected


DENSE_ROW = Geometry(
    lines=1, line_bytes=64, col_step=4, lanes=4, lanes_last=4, weight_rows=4, weight_rows_last=4
)


def simple_pass(**fields):
    return Pass(**({"addr": 0, "rows": 1} | fields))


def run_tiny(rng, program, *, feeds=1, memories=None, **bench):
    """Run a program on 4 x 4 cells and check the sums unless it faults."""
    config = make_config(4, 4, feeds)
    memories = memories or Memories.random(rng, config)
    targets, options = bench.pop("targets", None), {}
    for name in ("extra_cycles", "until"):
        if name in bench:
            options[name] = bench.pop(name)
    engine = Bench(config, **bench)
    run = engine.run(program, memories, targets=targets, **options)
    if run.fault is None and "until" not in options:
        reference(program, memories, config)
        assert np.array_equal(run.acc, memories.acc)
    return run, engine.engine


def test_single_vector_passes_with_new_tiles_take_a_load_each(rng):
    program = [DENSE_ROW, *[simple_pass(weight_addr=4 * n, acc=n) for n in range(12)]]
    run, _ = run_tiny(rng, program)
    assert np.diff(run.streaming).tolist() == [4] * 11


def test_single_vector_passes_on_a_kept_tile_take_a_turnaround_each(rng):
    keep = [simple_pass(weights=WeightMode.KEEP, acc=3, first_op=AccOp.ADD)] * 9
    run, _ = run_tiny(rng, [DENSE_ROW, simple_pass(acc=3), *keep])
    assert np.diff(run.streaming).tolist() == [TURNAROUND] * 9


def test_setup_between_passes_costs_nothing(rng):
    program = [DENSE_ROW]
    for number in range(8):
        program += [simple_pass(weight_addr=4 * number, acc=number), DENSE_ROW]
    run, _ = run_tiny(rng, program)
    assert np.diff(run.streaming).tolist() == [4] * 7


def test_dense_and_depthwise_passes_alternate_without_gap(rng):
    depthwise = Geometry(**(vars(DENSE_ROW) | {"mode": FeedMode.DEPTHWISE, "lines": 3}))
    program = []
    for number in range(6):
        program.append(depthwise if number % 2 else DENSE_ROW)
        program.append(
            simple_pass(weight_addr=4 * number, acc=6 * number, cols=4, line_vectors=5, tail=2)
        )
    run, _ = run_tiny(rng, program)
    assert len(run.streaming) == 6 * 7
    assert np.diff(run.streaming).tolist() == [1] * 41


def test_pass_that_adds_to_the_rows_before_waits_for_them(rng):
    program = [
        DENSE_ROW,
        simple_pass(cols=6, line_vectors=6, acc=0),
        # Row 5 was operated on one cycle before: four cycles must lie between.
        simple_pass(cols=6, line_vectors=6, acc=5, first_op=AccOp.ADD, weights=WeightMode.KEEP),
        simple_pass(cols=6, line_vectors=6, acc=8, first_op=AccOp.MAX, weights=WeightMode.KEEP),
        simple_pass(cols=6, line_vectors=6, acc=13, first_op=AccOp.WRITE, weights=WeightMode.KEEP),
    ]
    run, _ = run_tiny(rng, program)
    gaps = np.diff(run.streaming)
    assert gaps[gaps > 1].tolist() == [TURNAROUND, TURNAROUND - 2]


def test_done_comes_with_the_documented_latency_and_in_order(rng):
    second = simple_pass(acc=20, cols=3, line_vectors=3)
    program = [DENSE_ROW, simple_pass(cols=9, line_vectors=9), DENSE_ROW, second]
    run, engine = run_tiny(rng, program)
    ends = [run.streaming[8], run.streaming[11]]
    assert run.done[1] == ends[0] + engine.latency
    assert run.done[3] == ends[1] + engine.latency
    assert run.done == sorted(run.done)
    # The setup between them is done when the pass before it is, in the next cycle.
    assert run.done[2] == run.done[1] + 1


@pytest.mark.parametrize("engine", [Engine.DRAIN, Engine.STORE])
def test_pass_waits_for_the_progress_of_its_targets(rng, engine):
    release = 60
    counter = f"wait_{engine.name.lower()}"
    targets = [0, 0, 0, 0]
    targets[engine] = 7

    def progress(cycle):
        reached = 7 if cycle >= release else 6
        return (reached, 0) if engine == Engine.DRAIN else (0, reached)

    run, _ = run_tiny(
        rng, [DENSE_ROW, simple_pass()], targets={1: tuple(targets)}, progress=progress
    )
    # The tile was shifted in meanwhile: only the comparison's register and the step's take time.
    assert run.streaming == [release + 2]
    assert run.waits[counter] > 40


def test_pass_waits_for_earlier_instructions_of_its_own(rng):
    program = [DENSE_ROW, simple_pass(), simple_pass(acc=1)]
    run, _ = run_tiny(rng, program, targets={2: (0, 2, 0, 0)})
    assert run.streaming[1] > run.done[1]


def test_waiting_for_the_first_tile_is_counted(rng):
    run, _ = run_tiny(rng, [DENSE_ROW, simple_pass()])
    assert run.waits["wait_weights"] > 0


def test_windows_of_padding_only_are_not_read(rng):
    outside = simple_pass(y=1, cols=5, line_vectors=5, addr=-5000)
    left = simple_pass(x=-4, addr=-4, acc=8)
    right = simple_pass(x=64, addr=8000, acc=9)
    run, _ = run_tiny(rng, [DENSE_ROW, outside, left, right])
    assert run.fault is None
    assert run.feed_reads == 0


def test_kept_tile_before_any_tile_is_zero(rng):
    run, _ = run_tiny(rng, [DENSE_ROW, simple_pass(weights=WeightMode.KEEP)])
    assert not run.acc[0].any()


FAULTS = {
    "window-below": (simple_pass(x=-1, addr=-2), Fault.LOCAL_ADDRESS, (1 << 64) - 1),
    "window-above": (simple_pass(addr=4093), Fault.LOCAL_ADDRESS, 4096),
    "window-far-above": (simple_pass(addr=5000), Fault.LOCAL_ADDRESS, 5000),
    "vector-above": (simple_pass(addr=4088, cols=9, line_vectors=9), Fault.LOCAL_ADDRESS, 4096),
    "weights": (simple_pass(weight_addr=1021), Fault.LOCAL_ADDRESS, 1024),
    "weights-far": (simple_pass(weight_addr=5000), Fault.LOCAL_ADDRESS, 5000),
    "accumulator": (simple_pass(acc=60, cols=9, line_vectors=9), Fault.LOCAL_ADDRESS, 64),
    "accumulator-far": (simple_pass(acc=2000), Fault.LOCAL_ADDRESS, 2000),
}


@pytest.mark.parametrize("name", FAULTS)
def test_illegal_pass_raises_its_fault_and_nothing_follows(rng, name):
    item, code, addr = FAULTS[name]
    good = simple_pass(cols=5, line_vectors=5)
    run, _ = run_tiny(rng, [DENSE_ROW, good, item, good], extra_cycles=60)
    assert run.fault == (code, 102, addr)
    # At most the vectors that were issued before the report came.
    assert max(run.streaming) <= run.fault_cycle


@pytest.mark.parametrize(
    "item",
    [
        simple_pass(x=-1, addr=-1),  # the byte below is padding
        simple_pass(addr=4092),  # the last byte is needed
        simple_pass(addr=4094, x=62),  # bytes beyond the line are padding
        simple_pass(weight_addr=1020),
        simple_pass(acc=63),
        simple_pass(acc=62, cols=2, line_vectors=6, tail=9),
    ],
)
def test_pass_at_a_limit_is_legal(rng, item):
    run, _ = run_tiny(rng, [DENSE_ROW, item])
    assert run.fault is None


def test_unaligned_window_of_a_second_feed_is_a_fault(rng):
    geometry = Geometry(
        **(vars(DENSE_ROW) | {"mode": FeedMode.DEPTHWISE, "lines": 4, "ky_lines": 1, "ky_step": 64})
    )
    run, _ = run_tiny(rng, [geometry, simple_pass(addr=66, cols=3, line_vectors=3)], feeds=2)
    assert run.fault == (Fault.ALIGNMENT, 101, 130)


@pytest.mark.parametrize("name", ["conflict", "acc_conflict"])
def test_conflict_is_a_fault(rng, name):
    conflicts = {name: lambda cycle: cycle == 30}
    item = simple_pass(cols=30, line_vectors=30, addr=16)
    run, _ = run_tiny(rng, [Geometry(**(vars(DENSE_ROW) | {"col_step": 0})), item], **conflicts)
    assert run.fault == (Fault.PORT_CONFLICT, 101, 16 if name == "conflict" else 0)
