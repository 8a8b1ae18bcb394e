# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from systolith.arch.config import AcceleratorConfig
from systolith.arch.isa import AccOp, Engine, FeedMode, Geometry, Pass, WeightMode
from systolith.bench.execute import ExecuteBench, Memories, execute
from systolith.gateware.accumulator import TURNAROUND


def make_config(rows, cols, feeds, lanes=None):
    return AcceleratorConfig(
        name=f"test-{rows}x{cols}", rows=rows, cols=cols, scratchpad_bytes=4096, banks=16,
        weight_bytes=4096, acc_rows=32, param_bytes=1024, lanes=lanes or cols, feeds=feeds,
        axi_data_bits=32,
    )  # fmt: skip


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
@pytest.mark.parametrize("trial", range(2))
def test_random_programs_give_the_sums_of_the_isa(rng, rows, cols, feeds, lanes, trial):
    rng = np.random.default_rng([trial, rows, cols, *rng.integers(0, 1 << 30, 1)])
    config = make_config(rows, cols, feeds, lanes)
    program = random_program(rng, config, 8)
    memories = Memories.random(rng, config)
    run = ExecuteBench(config, read_latency=int(rng.integers(1, 5))).run(program, memories)
    execute(program, memories, config)
    assert run.fault is None
    assert np.array_equal(run.acc, memories.acc)
    expected = schedule(program, config)
    assert [cycle - run.streaming[0] for cycle in run.streaming] == expected


DENSE_ROW = Geometry(
    lines=1, line_bytes=64, col_step=4, lanes=4, lanes_last=4, weight_rows=4, weight_rows_last=4
)


def simple_pass(**fields):
    return Pass(**({"addr": 0, "rows": 1} | fields))


def run_tiny(rng, program, *, feeds=1, targets=None, **options):
    """Run a legal program on 4 x 4 cells and check the sums."""
    config = make_config(4, 4, feeds)
    memories, bench = Memories.random(rng, config), ExecuteBench(config, **options)
    run = bench.run(program, memories, targets=targets)
    execute(program, memories, config)
    assert run.fault is None
    assert np.array_equal(run.acc, memories.acc)
    return run, bench.engine


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
