"""Elementwise lane against `arch.numerics`."""

import itertools

import numpy as np
import pytest
from amaranth.sim import Simulator

from systolith.arch import numerics
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


def check(settings, a, b):
    dut = Elementwise()
    a, b = np.asarray(a), np.asarray(b)
    values = []

    async def testbench(ctx):
        ctx.set(
            dut.settings,
            {"opcode": 0} | settings if "opcode" in dut.settings.shape().members else settings,
        )
        for cycle in range(len(a) + dut.latency):
            if cycle < len(a):
                ctx.set(dut.a, int(a[cycle]))
                ctx.set(dut.b, int(b[cycle]))
            if cycle >= dut.latency:
                values.append(ctx.get(dut.result))
            await ctx.tick()

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    sim.add_testbench(testbench)
    sim.run_until(1e-6 * (len(a) + dut.latency + 2))
    want = numerics.add(a, b, **settings)
    wrong = np.flatnonzero(np.array(values) != want)
    assert not wrong.size, [(a[k], b[k], values[k], want[k]) for k in wrong[:5]]


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
