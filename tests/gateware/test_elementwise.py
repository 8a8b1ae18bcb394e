"""Elementwise lane against `arch.numerics`."""

import inspect
import itertools

import numpy as np
import pytest
from amaranth.sim import Simulator

from systolith.arch import float32, isa, numerics
from systolith.gateware.elementwise import Elementwise

EDGES = (-128, -127, -65, -1, 0, 1, 64, 126, 127)
SAME_SCALE = {
    "left_shift": 20,
    "a_zero": 0,
    "a_multiplier": 1 << 30,
    "a_shift": 0,
    "b_zero": 0,
    "b_multiplier": 1 << 30,
    "b_shift": 0,
    "out_multiplier": 1 << 30,
    "out_shift": -18,
    "out_zero": 0,
    "low": -128,
    "high": 127,
}
INT32_MIN, INT32_MAX = numerics.INT32_MIN, numerics.INT32_MAX
ONCE = (isa.ElementwiseOp.SUM, isa.ElementwiseOp.PRODUCT)


def expected(a, b, settings):
    """Return what `arch` says, of the settings that the operation uses."""
    functions = {
        isa.ElementwiseOp.ADD: numerics.add,
        isa.ElementwiseOp.MUL: numerics.mul,
        isa.ElementwiseOp.SUM: float32.add,
        isa.ElementwiseOp.PRODUCT: float32.mul,
    }
    op = settings.get("op", isa.ElementwiseOp.ADD)
    used = inspect.signature(functions[op]).parameters
    settings = {name: value for name, value in settings.items() if name in used}
    if op in ONCE:
        # Further right there is nothing left either.
        settings["out_shift"] = max(settings["out_shift"], 31 - 48)
    return functions[op](a, b, **settings)


def check(settings, a, b):
    check_all([(settings, a, b)])


def check_all(cases, *, deep=False):
    """Send pairs through one lane, each case with settings of its own."""
    dut = Elementwise(deep=deep)
    assert dut.latency == 13 + deep
    results = []

    async def testbench(ctx):
        for settings, a, b in cases:
            ctx.set(dut.settings, settings)
            values = []
            for cycle in range(len(a) + dut.latency):
                if cycle < len(a):
                    ctx.set(dut.a, int(a[cycle]))
                    ctx.set(dut.b, int(b[cycle]))
                if cycle >= dut.latency:
                    values.append(ctx.get(dut.result))
                await ctx.tick()
            results.append(values)

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run()
    assert len(results) == len(cases)
    for (settings, a, b), values in zip(cases, results, strict=True):
        want = expected(a, b, settings)
        wrong = np.flatnonzero(np.array(values) != want)
        assert not wrong.size, (settings, [(a[k], b[k], values[k], want[k]) for k in wrong[:5]])


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"out_zero": -128, "a_zero": -128, "b_zero": 127},
        {"a_multiplier": INT32_MAX, "b_multiplier": INT32_MIN, "out_shift": -20},
        {"a_shift": -31, "b_shift": -1, "out_multiplier": INT32_MIN, "out_shift": -17},
        {"left_shift": 0, "out_shift": 0, "out_multiplier": INT32_MAX},
        {"left_shift": 0, "a_multiplier": -1, "b_multiplier": 0, "out_shift": -31},
        {"left_shift": 3, "a_shift": -2, "b_shift": -3, "out_shift": 0, "low": -5, "high": 6},
        {"left_shift": 20, "out_shift": 0, "low": 9, "high": -9},
    ],
)
def test_edge_values(change):
    a, b = np.array(list(itertools.product(EDGES, EDGES))).T
    check(SAME_SCALE | change, a, b)


def test_random_settings(rng):
    for _ in range(12):
        settings = {
            "left_shift": int(rng.integers(0, 21)),
            "out_shift": -int(rng.integers(0, 32)),
            "out_multiplier": int(rng.integers(INT32_MIN, INT32_MAX)),
            "out_zero": int(rng.integers(-128, 128)),
            "low": int(rng.integers(-128, 0)),
            "high": int(rng.integers(0, 128)),
        }
        for side in "ab":
            settings |= {
                f"{side}_zero": int(rng.integers(-128, 128)),
                f"{side}_multiplier": int(rng.integers(1 << 30, 1 << 31)),
                f"{side}_shift": -int(rng.choice([0, 0, 1, 2, 5, 9])),
            }
        settings["out_shift"] = int(np.clip(-settings["left_shift"] + rng.integers(-3, 3), -31, 0))
        check(settings, rng.integers(-128, 128, 60), rng.integers(-128, 128, 60))


@pytest.mark.parametrize("op", [isa.ElementwiseOp.MUL, *ONCE], ids=lambda op: op.name)
@pytest.mark.parametrize(
    "change",
    [
        {},
        {"out_zero": -128, "a_zero": -128, "b_zero": 127},
        {"out_zero": -127, "a_zero": 127, "b_zero": -128},
        {"a_multiplier": INT32_MIN, "b_multiplier": INT32_MIN, "out_multiplier": INT32_MIN},
        {"a_multiplier": INT32_MAX, "b_multiplier": -1, "out_multiplier": INT32_MAX, "out_zero": 5},
        {"a_multiplier": 0, "b_multiplier": 3, "out_multiplier": 3, "low": -5, "high": 6},
        {"low": 9, "high": -9},
    ],
)
def test_edge_values_of_other_operations(op, change):
    a, b = np.array(list(itertools.product(EDGES, EDGES))).T
    highest = 30 if op in ONCE else 0
    exponents = [e for e in (-31, -17, -16, -9, -7, -1, 0, 1, 8, 20, 21, 30) if e <= highest]
    settings = [SAME_SCALE | change | {"op": op, "out_shift": e} for e in exponents]
    check_all([(item, a, b) for item in settings])


@pytest.mark.parametrize("op", ONCE, ids=lambda op: op.name)
@pytest.mark.parametrize("out_zero", [0, 1, -3])
def test_ties_go_to_the_even_result(op, out_zero):
    """Halves at every shift, also where the sum gives up its lowest bits."""
    a = np.arange(-9, 10)
    cases = []
    for right, near in itertools.product(range(1, 32), (-1, 0, 1)):
        one = 1 << (right - 1)
        factors = {"a_multiplier": one, "b_multiplier": near, "out_multiplier": one}
        change = factors | {"op": op, "out_shift": 31 - right, "out_zero": out_zero}
        cases.append((SAME_SCALE | change, a, np.ones_like(a)))
    check_all(cases)


@pytest.mark.parametrize("op", isa.ElementwiseOp, ids=lambda op: op.name)
@pytest.mark.parametrize("deep", [False, True])
def test_random_settings_of_every_operation(rng, op, deep):
    pairs = [(random_settings(rng, op), *rng.integers(-128, 128, (2, 40))) for _ in range(20)]
    check_all(pairs, deep=deep)


def random_settings(rng, op):
    """Settings whose results mostly lie near int8."""
    right = int(rng.integers(20, 48))
    size = {isa.ElementwiseOp.SUM: right, isa.ElementwiseOp.PRODUCT: right - 8}.get(op, 31)
    limit = 1 << int(np.clip(size + rng.integers(-2, 1), 1, 31))
    settings = {
        "op": op,
        "left_shift": 20,
        "out_multiplier": int(rng.integers(1, limit)),
        "out_shift": 31 - right if op in ONCE else -int(rng.integers(4, 20)),
        "out_zero": int(rng.integers(-128, 128)),
        "low": int(rng.integers(-128, -60)),
        "high": int(rng.integers(60, 128)),
    }
    for side in "ab":
        settings |= {
            f"{side}_zero": int(rng.integers(-128, 128)),
            f"{side}_multiplier": int(rng.integers(1, limit)) * int(rng.choice([1, -1])),
            f"{side}_shift": -int(rng.integers(0, 4)),
        }
    return settings
