# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Fault
from systolith.arch.isa import FeedMode, Geometry, Pass
from systolith.bench.execute import ExecuteBench, Memories, execute

DENSE_ROW = Geometry(
    lines=1, line_bytes=64, col_step=4, lanes=4, lanes_last=4, weight_rows=4, weight_rows_last=4
)


def simple_pass(**fields):
    return Pass(**({"addr": 0, "rows": 1} | fields))


def run(rng, program, *, feeds=1, extra_cycles=0, **options):
    """Run a program on 4 x 4 cells and check the sums unless it faults or is stopped."""
    config = AcceleratorConfig(
        name="test-4x4", rows=4, cols=4, scratchpad_bytes=4096, banks=16, weight_bytes=4096,
        acc_rows=32, param_bytes=1024, lanes=4, feeds=feeds, axi_data_bits=32,
    )  # fmt: skip
    memories, bench = Memories.random(rng, config), ExecuteBench(config, **options)
    result = bench.run(program, memories, extra_cycles=extra_cycles)
    if result.fault is None and "stop" not in options:
        execute(program, memories, config)
        assert np.array_equal(result.acc, memories.acc)
    return result, bench.engine


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
    result, _ = run(rng, [DENSE_ROW, good, item, good], extra_cycles=60)
    assert result.fault == (code, 102, addr)
    # At most the vectors that were issued before the report came.
    assert max(result.streaming) <= result.fault_cycle


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
    result, _ = run(rng, [DENSE_ROW, item])
    assert result.fault is None


def test_unaligned_window_of_a_second_feed_is_a_fault(rng):
    geometry = Geometry(
        **(vars(DENSE_ROW) | {"mode": FeedMode.DEPTHWISE, "lines": 4, "ky_lines": 1, "ky_step": 64})
    )
    result, _ = run(rng, [geometry, simple_pass(addr=66, cols=3, line_vectors=3)], feeds=2)
    assert result.fault == (Fault.ALIGNMENT, 101, 130)


@pytest.mark.parametrize("name", ["feed_conflict", "acc_conflict"])
def test_conflict_is_a_fault(rng, name):
    conflicts = {name: lambda cycle: cycle == 30}
    item = simple_pass(cols=30, line_vectors=30, addr=16)
    result, _ = run(rng, [Geometry(**(vars(DENSE_ROW) | {"col_step": 0})), item], **conflicts)
    assert result.fault == (Fault.PORT_CONFLICT, 101, 16 if name == "feed_conflict" else 0)


def test_stop_ends_the_stream_a_cycle_later_and_leaves_the_engine_idle(rng):
    item = simple_pass(cols=60, line_vectors=60)
    result, _ = run(rng, [DENSE_ROW, item, item], stop=lambda cycle: cycle >= 40)
    assert max(result.streaming) == 40
    assert len(result.done) == 1


def test_stop_before_a_command_lets_none_in(rng):
    result, _ = run(rng, [DENSE_ROW, simple_pass()], stop=lambda cycle: True, extra_cycles=50)
    assert result.streaming == []
    assert result.done == []
