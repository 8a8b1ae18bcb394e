"""Every bus-facing block on its pins, between cocotbext-axi's models, with our checkers on each bus.

Here are the shortest runs, without and with stalls, and blocks that were broken on purpose, which the
benches must not let pass; `make pins` runs the whole campaign. The second simulator has four values, so it
sees what was never given one.
"""

import dataclasses
import os
import re
import shutil
from pathlib import Path

import pytest

from systolith.bench import cocotb_campaign as campaign
from systolith.bench import cocotb_points as points
from systolith.bench.cocotb_blocks import block_verilog, state_value
from systolith.bench.cocotb_simulator import (
    ICARUS,
    VERILATOR,
    BlockSimulator,
    without_initial_values,
)

pytestmark = pytest.mark.cosim

# On a desk without the second simulator its tests are left out; where CI runs, they fail.
icarus = pytest.mark.skipif(
    shutil.which("iverilog") is None and not os.environ.get("CI"),
    reason="iverilog is not on the path",
)

SIMULATORS = Path(__file__).parents[2] / "build" / "cosim" / "simulators"

BLOCKS = (points.REGISTERS, points.READ, points.WRITE, points.FETCH)
CYCLES = 500
DATA_BITS = 64
NO_STALLS, SOME_STALLS, MANY_STALLS = 0, 1, 3
MEMORY_BITS = dict.fromkeys(BLOCKS, DATA_BITS) | {points.REGISTERS: points.LITE_BITS}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("blocks")


def short(block, bits, *numbers, cycles=CYCLES):
    runs = points.points(block, bits)
    return [dataclasses.replace(runs[number], cycles=cycles) for number in numbers]


def failures(outcomes):
    return {name: outcome.failure for name, outcome in outcomes.items() if outcome.failure}


def check(outcomes):
    assert failures(outcomes) == {}
    assert all(outcome.counts["transactions"] for outcome in outcomes.values())


@pytest.mark.parametrize("block", BLOCKS)
def test_block_obeys_its_bus_and_moves_the_right_bytes(block, folder):
    bits = MEMORY_BITS[block]
    simulator = BlockSimulator(block, bits, SIMULATORS)
    runs = short(block, bits, NO_STALLS, SOME_STALLS, MANY_STALLS)
    check(simulator.run(runs, folder / block))


@icarus
@pytest.mark.parametrize("block", [*BLOCKS, points.TOP])
def test_no_output_of_a_block_is_ever_unknown(block, folder):
    bits = points.widths(block)[0]
    simulator = BlockSimulator(block, bits, SIMULATORS, simulator=ICARUS)
    outcomes = simulator.run(
        short(block, bits, SOME_STALLS), folder / f"{block}-x", outputs=simulator.outputs()
    )
    check(outcomes)
    assert all(outcome.counts["samples"] > CYCLES for outcome in outcomes.values())


@icarus
@pytest.mark.parametrize("block", [*BLOCKS, points.TOP])
def test_reset_alone_makes_every_handshake_of_a_block_known(block, folder):
    bits = points.widths(block)[0]
    verilog = without_initial_values(block_verilog(block, bits))
    assert not re.search(r"^\s*reg (?!.*auto).*=", verilog, re.MULTILINE)
    simulator = BlockSimulator(block, bits, SIMULATORS, simulator=ICARUS, verilog=verilog)
    outputs = simulator.outputs(payloads_while_valid=True)
    check(simulator.run(short(block, bits, SOME_STALLS), folder / f"{block}-u", outputs=outputs))


def broken(verilog, pin, expression):
    """Verilog in which an output is an expression of what it was, `{}`."""
    text, count = re.subn(
        rf"assign {pin} = (.*);", lambda found: f"assign {pin} = {expression.format(found[1])};",
        verilog,
    )  # fmt: skip
    assert count == 1, f"{pin} is assigned {count} times"
    return text


BROKEN = {
    "an address changes before READY": (
        points.WRITE, "m_axi_gmem_awaddr", "{} ^ {{ m_axi_gmem_awready, 12'd0 }}", "payload held",
    ),
    "the last beat is not marked": (points.WRITE, "m_axi_gmem_wlast", "{} & 1'b0", "wlast"),
    "a burst is too long": (points.READ, "m_axi_gmem_arlen", "{} | 8'd64", "length"),
    "a burst leaves its region": (
        points.FETCH, "m_axi_gmem_araddr", "{} + 64'd65536", "window",
    ),
    "a register answers EXOKAY": (points.REGISTERS, "s_axi_control_bresp", "2'd1 | {}", "EXOKAY"),
    "a wrong byte is loaded": (points.READ, "write_data", "{} ^ 32'd1", "Arrays are not equal"),
    "a wrong byte is stored": (points.WRITE, "m_axi_gmem_wdata", "{} ^ 32'd1", "region 0 differs"),
    "a wrong word is fetched": (points.FETCH, "o_word", "{} ^ 256'd1", "instruction 0"),
    "a bit is unknown": (points.READ, "m_axi_gmem_arprot", "{} ^ 3'b00x", "X"),
}  # fmt: skip


@icarus
@pytest.mark.parametrize("case", BROKEN)
def test_a_block_that_breaks_a_rule_does_not_pass(case, folder):
    block, pin, expression, text = BROKEN[case]
    bits = points.widths(block)[0]
    verilog = broken(block_verilog(block, bits), pin, expression)
    simulator = BlockSimulator(block, bits, SIMULATORS, simulator=ICARUS, verilog=verilog)
    (failure,) = failures(simulator.run(short(block, bits, SOME_STALLS), folder / "b")).values()
    assert text in failure


@icarus
def test_a_register_with_another_value_does_not_pass(folder):
    block, bits = points.REGISTERS, points.LITE_BITS
    value = state_value("status")
    verilog = block_verilog(block, bits).replace(f"{value:08x}", f"{value ^ 1:08x}")
    simulator = BlockSimulator(block, bits, SIMULATORS, simulator=ICARUS, verilog=verilog)
    (failure,) = failures(simulator.run(short(block, bits, NO_STALLS), folder / "r")).values()
    assert f"status is {value ^ 1:#x}, not {value:#x}" in failure


def test_campaign_has_every_width_latency_and_level_of_stalls():
    runs = points.campaign()
    assert len(runs) >= 200
    assert len({run.name for run in runs}) == len(runs)
    assert {run.data_bits for run in runs} == set(points.DATA_BITS)
    for block in (*BLOCKS, points.TOP):
        mine = [run for run in runs if run.block == block]
        for channel in points.stalls_of(block):
            levels = {run.stalls.get(channel, 0.0) for run in mine}
            assert {0.0, 0.97} < levels, f"{channel} of {block}"
            assert any(run.stalls == {channel: 0.97} for run in mine)
    assert points.campaign() == runs
    assert points.campaign(seed=1) != runs


def test_campaign_resumes_and_writes_its_totals(folder, monkeypatch):
    runs = short(points.REGISTERS, points.LITE_BITS, NO_STALLS, SOME_STALLS, cycles=100)
    assert campaign.run(runs[:1], folder, seconds=600) == 0
    begun = []
    original = BlockSimulator.run
    monkeypatch.setattr(
        BlockSimulator,
        "run",
        lambda self, some, *rest, **options: (
            begun.extend(some) or original(self, some, *rest, **options)
        ),
    )
    assert campaign.run(runs, folder, seconds=600) == 0
    assert begun == runs[1:]
    assert "| registers | 32 | 2 |" in "\n".join(campaign.totals(runs, folder, 0))


@pytest.mark.slow
@pytest.mark.parametrize("block", [*BLOCKS, points.TOP])
@pytest.mark.parametrize("bits", points.DATA_BITS)
def test_every_width(block, bits, folder):
    if bits not in points.widths(block):
        pytest.skip("the registers have one width")
    simulator = BlockSimulator(block, bits, SIMULATORS, simulator=VERILATOR)
    check(simulator.run(short(block, bits, NO_STALLS, SOME_STALLS), folder / f"{block}{bits}"))
