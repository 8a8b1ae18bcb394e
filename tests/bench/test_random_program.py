import numpy as np
import pytest

from systolith.arch import isa, rules
from systolith.bench.random_program import MEMORY, SUMS, random_program
from systolith.golden.machine import Machine


def programs(config, seed, count=12):
    return [random_program(config, np.random.default_rng([seed, n]), 30) for n in range(count)]


def test_same_seed_gives_the_same_program(tiny, seed):
    first, second = programs(tiny, seed, 1) + programs(tiny, seed, 1)
    assert first == second
    assert first != programs(tiny, seed + 1, 1)[0]


def test_program_is_legal_and_waits_for_everything(preset, seed):
    program = programs(preset, seed, 1)[0]
    decoded = list(isa.iterate(program.code))
    assert tuple(decoded) == program.instructions
    assert program.regions[0].data == program.code
    for item in decoded:
        rules.check(item, preset)
        assert item.waits == (0, 0, 0, 0)


def test_last_stores_show_scratchpad_and_accumulators(preset, seed):
    program = programs(preset, seed, 1)[0]
    regions, machine = program.golden_regions(), Machine(preset)
    dumped = program.instructions.index(
        next(item for item in program.instructions if getattr(item, "region", 0) == MEMORY)
    )
    snapshot = []

    def trace(index, item):
        if index == dumped:
            snapshot.append((machine.scratchpad.tobytes(), machine.acc.copy()))

    machine.trace = trace
    machine.run(program.code, regions)
    ((scratchpad, acc),) = snapshot
    assert regions[MEMORY].data.tobytes() == scratchpad
    lowest = regions[SUMS].data.view(np.int8).reshape(4, *acc.shape)[0]
    assert (lowest == acc.astype(np.int8)).all()
    highest = regions[SUMS].data.view(np.int8).reshape(4, *acc.shape)[3]
    assert (highest == np.clip((acc.astype(np.int64) + (1 << 23)) >> 24, -128, 127)).all()


@pytest.mark.parametrize(
    ("cls", "field", "values"),
    [
        (isa.Geometry, "mode", isa.FeedMode),
        (isa.Pass, "weights", isa.WeightMode),
        (isa.Pass, "first_op", isa.AccOp),
        (isa.Pass, "next_op", isa.AccOp),
        (isa.Quantize, "per_channel", (0, 1)),
        (isa.Quantize, "rounding", isa.Rounding),
        (isa.Elementwise, "op", isa.ElementwiseOp),
        (isa.Drain, "params", isa.ParamMode),
        (isa.Drain, "use_table", (0, 1)),
        (isa.Drain, "use_residual", (0, 1)),
        (isa.Drain, "reduce", (1, 2, 3, 4)),
        (isa.Vector, "op", isa.VectorOp),
        (isa.Load, "space", isa.Space),
    ],
    ids=lambda value: getattr(value, "__name__", value) if not isinstance(value, tuple) else "",
)
def test_all_modes_occur(edge, seed, cls, field, values):
    items = [item for program in programs(edge, seed) for item in program.instructions]
    assert {getattr(item, field) for item in items if isinstance(item, cls)} >= set(values)
