# amaranth: UnusedElaboratable=no
"""Cells of other multipliers: every combination of operands, in NumPy and in the generated Verilog."""

import ctypes
import subprocess

import numpy as np
import pytest
from amaranth.back import verilog
from amaranth.hdl import Fragment, Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from systolith.arch.config import MULTIPLIERS
from systolith.bench import ecp5_model
from systolith.bench.toolchain import environment
from systolith.gateware.array import make_array
from systolith.gateware.mult18x18d import Mult18x18d, Mult18x18dArray
from systolith.gateware.pair_array import PairArray
from systolith.gateware.pair_cell import PAIR_FORMATS, PairCell, PairFormat, PairSum
from systolith.gateware.systolic import PRODUCT, WEIGHT, SystolicArray

INT8 = np.arange(-128, 128)
LEAST, MOST = -128 * 127, 128 * 128
BUILD_SECONDS = 600

all_formats = pytest.mark.parametrize("fmt", PAIR_FORMATS.values(), ids=PAIR_FORMATS)


def unpacked(fmt, word):
    """What `unpack` describes, of int64 words: the field is signed, but its least value is read as
    the largest, one more than two's complement has."""
    field = word & (1 << fmt.shift) - 1
    low = np.where(field > 1 << (fmt.shift - 1), field - (1 << fmt.shift), field)
    return (word - low) >> fmt.shift, low


@all_formats
def test_all_pairs_of_weights_times_all_activations_are_taken_apart(fmt):
    low, x = INT8[:, None], INT8[None, :]
    for high in INT8:
        operand = (high << fmt.shift) + low
        assert np.abs(operand).max() < 1 << (fmt.operand.width - 1)
        products = unpacked(fmt, operand * x)
        assert np.array_equal(products[0], np.broadcast_to(high * x, products[0].shape))
        assert np.array_equal(products[1], low * x)


@all_formats
def test_all_lower_sums_of_full_depth_are_taken_apart(fmt):
    low = np.arange(LEAST * fmt.depth, MOST * fmt.depth + 1)
    for high in (LEAST * fmt.depth, -1, 0, 1, MOST * fmt.depth):
        word = (high << fmt.shift) + low
        assert word.min() >= -(1 << (fmt.total.width - 1)) and word.max() < 1 << (
            fmt.total.width - 1
        )
        sums = unpacked(fmt, word)
        assert (sums[0] == high).all() and np.array_equal(sums[1], low)


@all_formats
def test_one_product_more_than_the_depth_is_too_many(fmt):
    most = np.array([MOST * (fmt.depth + 1)])
    assert unpacked(fmt, most)[1] != most


def test_lower_field_of_17_bits_leaves_no_room_in_25():
    fmt = PairFormat(shift=17)
    assert fmt.operand.width > 25
    too_small = [(h, w) for h in INT8 for w in INT8 if (h << 17) + w < -(1 << 24)]
    assert len(too_small) == 128 and {h for h, _ in too_small} == {-128}


class Cells(wiring.Component):
    """A cell and its sum per format, and the twin of the ECP5's multiplier, on the same operands."""

    LATENCY = 4

    def __init__(self):
        members = {"high": In(WEIGHT), "low": In(WEIGHT), "x": In(WEIGHT), "switch": In(1)}
        for name in PAIR_FORMATS:
            members[f"high_{name}"] = members[f"low_{name}"] = Out(WEIGHT.width + 8)
        super().__init__(members | {"product": Out(PRODUCT)})

    def elaborate(self, platform):
        m = Module()
        m.submodules.multiplier = multiplier = Mult18x18d()
        m.d.comb += [
            multiplier.operand.eq(self.x),
            multiplier.weight.eq(self.low),
            multiplier.switch.eq(self.switch),
            self.product.eq(multiplier.product),
        ]
        for name, fmt in PAIR_FORMATS.items():
            m.submodules[f"cell_{name}"] = cell = PairCell(fmt, chained=False)
            m.submodules[f"sum_{name}"] = total = PairSum(fmt, PRODUCT, chained=False)
            m.d.comb += [
                cell.high.eq(self.high),
                cell.low.eq(self.low),
                cell.x.eq(self.x),
                total.word.eq(cell.total),
                getattr(self, f"high_{name}").eq(total.high),
                getattr(self, f"low_{name}").eq(total.low),
            ]
        return m


HARNESS = """
#include "Vcells.h"
#include "verilated.h"
#include <cstdint>
// Every triple of operands once; returns their number, and how many results of each kind differ.
extern "C" long run(long *wrong) {{
  Vcells cells;
  const long count = 1L << 24;
  cells.rst = 0;
  for (long cycle = 0; cycle < count + {latency}; ++cycle) {{
    cells.high = cycle >> 16;
    cells.low = cycle >> 8;
    cells.x = cycle;
    cells.on = (cycle * 0x9E3779B1u) >> 30 == 0 || cycle == 0;
    cells.clk = 0;
    cells.eval();
    const long then = cycle - {latency};
    if (then >= 0) {{
      const int high = int8_t(then >> 16), low = int8_t(then >> 8), x = int8_t(then);
      {checks}
      wrong[0] += cells.twin != cells.vendor;
    }}
    cells.clk = 1;
    cells.eval();
  }}
  return count;
}}
"""

TOP = """
module cells(input clk, rst, on, input [7:0] high, low, x,
             output [15:0] {results}, twin, vendor);
  twin twins(.clk(clk), .rst(rst), .switch(on), .high(high), .low(low), .x(x), .product(twin),
             {connections});
  vendor vendors(.clk(clk), .rst(rst), .switch(on), .high(high), .low(low), .x(x),
                       .product(vendor));
endmodule
"""


def convert(name, platform):
    return verilog.convert(Cells(), name=name, platform=platform, strip_internal_attrs=True)


@pytest.mark.cosim
def test_generated_cells_are_right_for_every_triple_of_operands(tmp_path):
    results = [f"{part}_{name}" for name in PAIR_FORMATS for part in ("high", "low")]
    top = TOP.format(
        results=", ".join(results), connections=", ".join(f".{name}({name})" for name in results)
    )
    vendor = convert("vendor", ecp5_model.PLATFORM)
    assert vendor.count("MULT18X18D") == 1
    texts = [top, convert("twin", None), vendor, ecp5_model.mult18x18d()]
    (tmp_path / "cells.v").write_text("\n".join(texts))
    checks = (
        f"wrong[{place}] += int16_t(cells.{name}) != {name.split('_')[0]} * x;"
        for place, name in enumerate(results, 1)
    )
    harness = HARNESS.format(latency=Cells.LATENCY, checks="\n".join(checks))
    (tmp_path / "run.cpp").write_text(harness)
    command = (
        "verilator --cc --exe --build -O3 --x-assign fast --x-initial fast -Wno-lint -Wno-style "
        "--top-module cells -CFLAGS -fPIC -LDFLAGS -shared -o cells.so cells.v run.cpp"
    )
    subprocess.run(
        command.split(),
        cwd=tmp_path,
        env=environment(),
        check=True,
        timeout=BUILD_SECONDS,
    )
    run = ctypes.CDLL(str(tmp_path / "obj_dir" / "cells.so")).run
    run.restype = ctypes.c_long
    wrong = (ctypes.c_long * (1 + len(results)))()
    assert run(wrong) == 1 << 24
    assert dict(zip(["vendor", *results], wrong, strict=True)) == dict.fromkeys(
        ["vendor", *results], 0
    )


KINDS = {
    "plain": SystolicArray,
    "pair25": PairArray,
    "pair27": PairArray,
    "mult18x18d": Mult18x18dArray,
}


@pytest.mark.parametrize("multiplier", MULTIPLIERS)
def test_multiplier_chooses_the_array(multiplier):
    array = make_array(multiplier, rows=5, cols=6, feeds=2)
    assert type(array) is KINDS[multiplier]
    assert (array.rows, array.cols, array.feeds) == (5, 6, 2)
    Fragment.get(array, None)  # or Amaranth warns of what was made for nothing


@pytest.mark.parametrize(
    ("rows", "cols", "feeds", "multipliers"),
    [(8, 8, 2, 32), (16, 16, 1, 128), (16, 16, 3, 144), (16, 16, 4, 128), (5, 3, 5, 20)],
)
def test_pairs_take_half_the_multipliers_of_groups_of_even_size(rows, cols, feeds, multipliers):
    array = PairArray(rows=rows, cols=cols, feeds=feeds, fmt=PAIR_FORMATS["pair27"])
    assert array.multipliers == multipliers
