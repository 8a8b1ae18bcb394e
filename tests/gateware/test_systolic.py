# amaranth: UnusedElaboratable=no
import numpy as np
import pytest
from amaranth.sim import Simulator

from systolith.gateware.mult18x18d import Mult18x18dArray
from systolith.gateware.pair_array import PairArray
from systolith.gateware.pair_cell import PAIR_FORMATS
from systolith.gateware.systolic import SystolicArray
from systolith.golden.array_model import ArrayModel

SHAPES = [(4, 4, 1), (6, 5, 2), (5, 8, 2), (9, 9, 3), (3, 2, 3), (8, 3, 3)]
# Chains of several segments, groups of odd and of even size, and as deep as words can be added.
PAIR_SHAPES = [*SHAPES, (10, 2, 1), (16, 2, 3), (16, 4, 1)]

all_formats = pytest.mark.parametrize("fmt", PAIR_FORMATS.values(), ids=PAIR_FORMATS)


def group(rows, feeds, row):
    return min(row // (rows // feeds), feeds - 1)


def make_steps(rng, rows, cols, feeds, count):
    """Random steps: mode, whether the tile is new, vectors, and cycles to the next step."""
    steps, lanes = [], max(rows, cols)
    for number in range(count):
        new = number == 0 or rng.random() < 0.7
        vectors = int(rng.integers(1, 3 * rows)) if rng.random() < 0.6 else 1
        steps.append(
            {
                "depthwise": bool(rng.random() < 0.5),
                "new": new,
                "tile": rng.integers(-128, 128, (rows, cols)) if new else steps[-1]["tile"],
                "data": rng.integers(-128, 128, (vectors, feeds, lanes)),
                "length": vectors + (int(rng.integers(0, 4)) if rng.random() < 0.3 else 0),
            }
        )
    if rng.random() < 0.5:
        steps[0]["tile"][:] = steps[0]["data"][:] = -128
    return steps


def make_inputs(steps, rows, cols, feeds, latency):
    """Return one dictionary of inputs per cycle, and (cycle, step, position) of every vector."""
    begin, switched, positions = rows, 0, []
    for step in steps:
        if step["new"]:
            begin = switched = max(begin, switched + rows)
        step["begin"] = begin
        begin += step["length"]
    total = steps[-1]["begin"] + steps[-1]["length"] + latency + cols + 1
    zero = np.zeros((feeds, max(rows, cols)), np.int64)
    cycles = [{"feed": zero} for _ in range(total)]
    for number, step in enumerate(steps):
        for position, vector in enumerate(step["data"]):
            cycle = step["begin"] + position
            positions.append((cycle, number, position))
            cycles[cycle] |= {
                "feed": vector,
                "depthwise": step["depthwise"],
                "first": position == 0,
                "switch": position == 0 and step["new"],
            }
        if step["new"]:
            # As late as possible: the last row of weights one cycle before the switch.
            for row in range(rows):
                cycles[step["begin"] - 1 - row] |= {
                    "w_en": True,
                    "w_first": row == rows - 1,
                    "w_row": step["tile"][row],
                }
    return cycles, positions


def expected_sum(step, position, rows, cols, feeds):
    """What the array is for, written from the definition, one position at a time."""
    data, tile = step["data"], step["tile"]
    if not step["depthwise"]:
        return data[position, 0, :rows] @ tile
    result = np.zeros(cols, np.int64)
    for row in range(rows):
        feed = group(rows, feeds, row)
        source = position + row - feed * (rows // feeds)
        if source < len(data):
            result += data[source, feed, :cols] * tile[row]
    return result


def run_gateware(array, cycles):
    """Return the sums of every cycle, int64[cycles, cols]."""
    seen = []

    async def bench(ctx):
        for inputs in cycles:
            for feed, vector in zip(array.feed, inputs["feed"], strict=True):
                for lane, value in zip(feed, vector, strict=True):
                    ctx.set(lane, int(value))
            for name in ("depthwise", "first", "switch", "w_en", "w_first"):
                ctx.set(getattr(array, name), inputs.get(name, False))
            for lane, value in zip(array.w_row, inputs.get("w_row", [0] * array.cols), strict=True):
                ctx.set(lane, int(value))
            seen.append([ctx.get(total) for total in array.sums])
            await ctx.tick()

    sim = Simulator(array)
    sim.add_clock(1e-6)
    sim.add_testbench(bench)
    sim.run()
    return np.array(seen)


@pytest.mark.parametrize(("rows", "cols", "feeds"), SHAPES)
def test_model_random_steps_gives_the_defined_sums_at_the_defined_time(rng, rows, cols, feeds):
    model = ArrayModel(rows, cols, feeds)
    steps = make_steps(rng, rows, cols, feeds, 60)
    cycles, positions = make_inputs(steps, rows, cols, feeds, model.latency)
    shown = np.array([model.step(**inputs) for inputs in cycles])
    for cycle, number, position in positions:
        expected = expected_sum(steps[number], position, rows, cols, feeds)
        got = [shown[cycle + model.latency + col, col] for col in range(cols)]
        assert np.array_equal(got, expected), (number, position)


@pytest.mark.parametrize(("rows", "cols", "feeds"), SHAPES)
def test_gateware_random_steps_equals_the_model_in_every_cycle(rng, rows, cols, feeds):
    array, model = SystolicArray(rows=rows, cols=cols, feeds=feeds), ArrayModel(rows, cols, feeds)
    assert array.latency == model.latency
    steps = make_steps(rng, rows, cols, feeds, 14)
    cycles, _ = make_inputs(steps, rows, cols, feeds, array.latency)
    shown = np.array([model.step(**inputs) for inputs in cycles])
    assert np.array_equal(run_gateware(array, cycles), shown)


def check_pairs(array, steps):
    """Compare with the model in every cycle, but for the latency."""
    rows, cols, feeds = array.rows, array.cols, array.feeds
    model = ArrayModel(rows, cols, feeds)
    cycles, _ = make_inputs(steps, rows, cols, feeds, max(array.latency, model.latency))
    expected = np.array([model.step(**inputs) for inputs in cycles])
    later, shown = array.latency - model.latency, run_gateware(array, cycles)
    if later < 0:
        expected, shown, later = shown, expected, -later
    assert np.array_equal(shown[later:], expected[: len(expected) - later])


@all_formats
@pytest.mark.parametrize(("rows", "cols", "feeds"), PAIR_SHAPES)
def test_pairs_random_steps_equal_the_model(rng, fmt, rows, cols, feeds):
    array = PairArray(rows=rows, cols=cols, feeds=feeds, fmt=fmt)
    check_pairs(array, make_steps(rng, rows, cols, feeds, 14))


@all_formats
@pytest.mark.parametrize("extremes", [(-128, -128), (-128, 127), (127, -128)])
@pytest.mark.parametrize("depthwise", [False, True])
def test_pairs_largest_sums_equal_the_model(rng, fmt, extremes, depthwise):
    rows, cols, feeds = 2 * fmt.depth, 2, 1
    steps = make_steps(rng, rows, cols, feeds, 3)
    for step in steps:
        step["depthwise"] = depthwise
        step["tile"][:], step["data"][:] = extremes
    check_pairs(PairArray(rows=rows, cols=cols, feeds=feeds, fmt=fmt), steps)


@pytest.mark.parametrize(("rows", "cols", "feeds"), SHAPES)
def test_twin_of_the_vendor_cell_equals_the_model_in_every_cycle(rng, rows, cols, feeds):
    array, model = Mult18x18dArray(rows=rows, cols=cols, feeds=feeds), ArrayModel(rows, cols, feeds)
    assert array.latency == model.latency
    cycles, _ = make_inputs(
        make_steps(rng, rows, cols, feeds, 14), rows, cols, feeds, array.latency
    )
    shown = np.array([model.step(**inputs) for inputs in cycles])
    assert np.array_equal(run_gateware(array, cycles), shown)


def test_gateware_load_with_gaps_equals_the_model(rng):
    rows, cols = 4, 3
    array, model = SystolicArray(rows=rows, cols=cols, feeds=1), ArrayModel(rows, cols, 1)
    tile, vector = rng.integers(-128, 128, (rows, cols)), rng.integers(-128, 128, (1, rows))
    zero = np.zeros((1, rows), np.int64)
    cycles = []
    for row in reversed(range(rows)):
        cycles.append({"feed": zero, "w_en": True, "w_first": row == rows - 1, "w_row": tile[row]})
        cycles += [{"feed": zero}] * int(rng.integers(0, 3))
    cycles.append({"feed": vector, "first": True, "switch": True})
    start = len(cycles) - 1
    cycles += [{"feed": zero}] * (array.latency + cols)
    shown = np.array([model.step(**inputs) for inputs in cycles])
    got = [shown[start + model.latency + col, col] for col in range(cols)]
    assert np.array_equal(got, (vector @ tile)[0])
    assert np.array_equal(run_gateware(array, cycles), shown)


@pytest.mark.parametrize("feeds", [0, 5])
def test_array_with_wrong_feeds_is_refused(feeds):
    with pytest.raises(ValueError, match=rf"Feeds must be in 1\.\.4 \(rows\), not {feeds}"):
        SystolicArray(rows=4, cols=4, feeds=feeds)
