"""Millions of values through the drain's lanes, compiled: what the edge cases of pysim cannot reach."""

import ctypes
import inspect
import subprocess

import numpy as np
import pytest
from amaranth.back import verilog

from systolith.arch import float32, isa, numerics
from systolith.bench import ecp5_model
from systolith.bench.toolchain import environment
from systolith.gateware.elementwise import SETTINGS, Elementwise
from systolith.gateware.requantize import Requantizer
from systolith.gateware.words import HEADER_BITS

pytestmark = pytest.mark.cosim

BUILD_SECONDS = 600
SETTING_WORDS = (SETTINGS.size + 31) // 32
COUNT = 1 << 18

# Values come as columns of int32, the settings as 32-bit words of one wide port.
WRAPPER = """
#include "Vlane.h"
#include "verilated.h"
#include <cstdint>
static void set(IData &port, uint32_t value, uint32_t mask) {{ port = value & mask; }}
static void set(CData &port, uint32_t value, uint32_t mask) {{ port = value & mask; }}
extern "C" void run(const uint32_t *wide, const int32_t *values, long count, int8_t *results) {{
  Vlane lane;
  lane.rst = 0;
  {constants}
  // Settings are there a cycle before the first operand.
  for (long cycle = -1; cycle < count + {latency}; ++cycle) {{
    if (cycle < count) {{
      const int32_t *row = values + (cycle < 0 ? 0 : cycle) * {columns};
      {inputs}
    }}
    lane.clk = 0;
    lane.eval();
    if (cycle >= {latency}) results[cycle - {latency}] = lane.{output};
    lane.clk = 1;
    lane.eval();
  }}
}}
"""


def build(folder, component, inputs, output, constants="", platform=None):
    """Compile a lane; return its `run`. `inputs` are the columns: names of ports and bits."""
    text = verilog.convert(component, name="lane", platform=platform, strip_internal_attrs=True)
    assert ("MULT18X18D" in text) == (platform is not None)
    (folder / "lane.v").write_text(text + (ecp5_model.mult18x18d() if platform else ""))
    lines = (
        f"set(lane.{name}, row[{column}], {(1 << width) - 1:#x}u);"
        for column, (name, width) in enumerate(inputs.items())
    )
    (folder / "run.cpp").write_text(
        WRAPPER.format(
            constants=constants,
            latency=component.latency,
            columns=len(inputs),
            inputs="\n".join(lines),
            output=output,
        )
    )
    command = [
        "verilator",
        "--cc",
        "--exe",
        "--build",
        "-O3",
        "--x-assign",
        "fast",
        "--x-initial",
        "fast",
        "--no-assert",
        "-fno-merge-cond-motion",
        "-Wno-lint",
        "-Wno-style",
        "--top-module",
        "lane",
        "-CFLAGS",
        "-fPIC",
        "-LDFLAGS",
        "-shared",
        "-o",
        "lane.so",
        "lane.v",
        "run.cpp",
    ]
    subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        check=True,
        capture_output=True,
        timeout=BUILD_SECONDS,
    )
    return ctypes.CDLL(str(folder / "obj_dir" / "lane.so")).run


def results_of(run, columns, wide=None):
    values = np.ascontiguousarray(np.stack(columns, axis=1), np.int32)
    words = np.zeros(1, np.uint32) if wide is None else wide
    results = np.zeros(len(values), np.int8)
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (words, values, results)]
    run(pointers[0], pointers[1], ctypes.c_long(len(values)), pointers[2])
    return results


def near_int8(rng, shift, multiplier):
    """Sums whose scaled value is near int8, many of them exact ties and their neighbors."""
    scale = multiplier / 2.0**31 * 2.0**shift
    target = rng.integers(-600, 600, shift.size) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        value = np.nan_to_num(np.round(target / scale))
    value = np.clip(value, numerics.INT32_MIN, numerics.INT32_MAX).astype(np.int64)
    return numerics.wrap_int32(value + rng.integers(-1, 2, shift.size))


def any_int32(rng, count):
    return numerics.wrap_int32(rng.integers(0, 1 << 32, count) >> rng.integers(0, 32, count))


PLATFORMS = pytest.mark.parametrize(
    "platform", [None, ecp5_model.PLATFORM], ids=["portable", "ecp5"]
)


@pytest.mark.slow
@PLATFORMS
def test_requantizer(rng, tmp_path, platform):
    check_requantizer(rng, tmp_path, platform, blocks=16)


def test_requantizer_of_primitives(rng, tmp_path):
    check_requantizer(rng, tmp_path, ecp5_model.PLATFORM, blocks=8)


def check_requantizer(rng, folder, platform, *, blocks):
    inputs = {
        "sum": 32,
        "bias": 32,
        "multiplier": 32,
        "shift": 6,
        "rounding": 2,
        "zero_point": 8,
        "low": 8,
        "high": 8,
    }
    constants = "lane.valid = lane.start = 1;"
    run = build(folder, Requantizer(), inputs, "value", constants, platform)
    for block in range(blocks):
        rounding = list(isa.Rounding)[block % 4]
        shift = rng.integers(-31, 31, COUNT)
        multiplier = any_int32(rng, COUNT)
        total = any_int32(rng, COUNT)
        if block >= 4:
            multiplier = rng.integers(1 << 30, 1 << 31, COUNT)
            # Powers of two make ties likely.
            multiplier = np.where(rng.random(COUNT) < 0.3, 1 << 30, multiplier)
            shift = np.where(rounding == isa.Rounding.AVERAGE, 0, shift)
            total = near_int8(rng, shift, multiplier)
        if rounding == isa.Rounding.FLOAT32 and block >= 4:
            multiplier = (multiplier * 2.0 ** (shift - 31)).astype(np.float32).view(np.int32)
            shift = any_int32(rng, COUNT) % 64 - 32
        bias = any_int32(rng, COUNT)
        zero_point, low, high = (int(v) for v in rng.integers(-128, 128, 3))
        fixed = [np.full(COUNT, v) for v in (int(rounding), zero_point, low, high)]
        got = results_of(run, [numerics.wrap_int32(total - bias), bias, multiplier, shift, *fixed])
        scaled = numerics.requantize(total, multiplier, shift, rounding)
        want = np.clip(scaled + zero_point, low, high)
        wrong = np.flatnonzero(got != want)
        assert not wrong.size, [
            (total[k], multiplier[k], shift[k], rounding, got[k], want[k]) for k in wrong[:5]
        ]


def draw_settings(rng, op):
    """Settings whose results mostly lie near int8, now and then any."""
    once = op in (isa.ElementwiseOp.SUM, isa.ElementwiseOp.PRODUCT)
    left_shift = int(rng.integers(0, 21))
    out_shift = int(np.clip(rng.integers(-4, 5) - left_shift, -31, 0))
    if once:
        out_shift = int(rng.integers(-31, 31))
    elif op == isa.ElementwiseOp.MUL:
        out_shift = int(rng.integers(-31, 1))
    # Factors that leave the result near int8; powers of two make ties likely.
    size = int(np.clip(31 - out_shift + rng.integers(-9, 2), 1, 31)) if once else 31
    draws = (rng.integers(1 << (size - 1), 1 << size), 1 << (size - 1), any_int32(rng, 1)[0])
    settings = {
        "left_shift": left_shift,
        "out_multiplier": int(rng.choice(draws)),
        "out_shift": out_shift,
        "out_zero": int(rng.integers(-128, 128)),
        "low": int(rng.integers(-128, 30)),
        "high": int(rng.integers(-30, 128)),
    }
    for side in "ab":
        settings |= {
            f"{side}_zero": int(rng.integers(-128, 128)),
            f"{side}_multiplier": int(rng.choice(draws)),
            f"{side}_shift": -int(rng.choice([0, 0, 1, 2, 5, 31])),
        }
    return settings


def combined(a, b, op, settings):
    """Return what `arch` says, of the settings that the operation uses."""
    functions = {
        isa.ElementwiseOp.ADD: numerics.add,
        isa.ElementwiseOp.MUL: numerics.mul,
        isa.ElementwiseOp.SUM: float32.add,
        isa.ElementwiseOp.PRODUCT: float32.mul,
    }
    used = inspect.signature(functions[op]).parameters
    settings = {name: value for name, value in settings.items() if name in used}
    if op in (isa.ElementwiseOp.SUM, isa.ElementwiseOp.PRODUCT):
        # Further right there is nothing left either.
        settings["out_shift"] = max(settings["out_shift"], 31 - 48)
    return functions[op](a, b, **settings)


OPERATIONS = pytest.mark.parametrize("op", isa.ElementwiseOp, ids=lambda op: op.name)


@pytest.mark.slow
@OPERATIONS
@PLATFORMS
@pytest.mark.parametrize("deep", [False, True], ids=["short", "deep"])
def test_elementwise_for_every_pair(rng, tmp_path, op, deep, platform):
    run = build_elementwise(tmp_path, platform, deep=deep)
    for _ in range(60):
        check_elementwise(rng, run, op)


def test_elementwise_of_primitives(rng, tmp_path):
    run = build_elementwise(tmp_path, ecp5_model.PLATFORM, deep=True)
    for op in isa.ElementwiseOp:
        for _ in range(6):
            check_elementwise(rng, run, op)


def build_elementwise(folder, platform, *, deep):
    constants = f"for (int k = 0; k < {SETTING_WORDS}; ++k) lane.settings[k] = wide[k];"
    unit = Elementwise(deep=deep)
    return build(folder, unit, {"a": 8, "b": 8}, "result", constants, platform)


def check_elementwise(rng, run, op):
    """Draw settings and compare the results of every pair."""
    a, b = (grid.reshape(-1) for grid in np.meshgrid(np.arange(-128, 128), np.arange(-128, 128)))
    settings = draw_settings(rng, op)
    word = isa.Elementwise(op=op, **settings).encode() >> HEADER_BITS
    wide = np.frombuffer(word.to_bytes(4 * SETTING_WORDS, "little"), np.uint32)
    got = results_of(run, [a, b], wide)
    want = combined(a, b, op, settings)
    wrong = np.flatnonzero(got != want)
    assert not wrong.size, (settings, [(a[k], b[k], got[k], want[k]) for k in wrong[:5]])
