"""The bench of soft errors: what it flips, and that what must be noticed is."""

import dataclasses

import pytest

from systolith.bench.campaign_totals import Entry, Totals
from systolith.bench.flips import campaign, report
from systolith.bench.flips.blocks import array_block
from systolith.bench.flips.campaign import Injector, Plan, all_blocks, run_blocks
from systolith.bench.flips.core import MEMORIES, CoreInjector, End, part_of
from systolith.bench.flips.cost import count
from systolith.bench.flips.instrument import Site, instrument
from systolith.bench.flips.memory_blocks import memory_blocks
from systolith.bench.random_config import PROTECTED

VERILOG = """\
module block(clk, d, q);
  input clk;
  input [3:0] d;
  output [3:0] q;
  reg [3:0] q = 4'h0;
  reg [7:0] \\memory$1  [15:0];
  reg one;
  always @(posedge clk)
    q <= d;
  always @(posedge clk) begin
    if (d[0])
      \\memory$1 [d] <= 8'h00;
  end
  always @(posedge clk) begin
    if (d[1])
      one <= d[2];
  end
endmodule
"""


def test_instrument_finds_registers_and_memories():
    text, sites = instrument(VERILOG)
    assert sites == [
        Site(1, "block", "\\memory$1", 8, 16),
        Site(2, "block", "q", 4, 0),
        Site(3, "block", "one", 1, 0),
    ]
    assert sum(site.size for site in sites) == 8 * 16 + 4 + 1
    assert "q <= (d) ^ (flip::which == 2 ? 4'd1 << flip::place : 4'd0);" in text
    # A register that keeps its value is flipped where it is.
    assert "else if (flip::which == 3) one <= one ^" in text
    bit = "\\memory$1 [flip::row][flip::place]"
    assert f"if (flip::which == 1) {bit} <= ~{bit};" in text


def test_instrument_refuses_what_it_cannot_flip():
    with pytest.raises(ValueError, match="must be of a whole register"):
        instrument("  always @(posedge clk)\n    {a, b} <= c;\n")


def test_parts_are_told_by_path():
    def part(module, rows=0):
        return part_of(Site(1, module, "x", 1, rows))

    assert part("\\systolith.core.scratchpad", rows=4) == MEMORIES
    assert part("\\systolith.core.execute.array.array") == "array"
    assert part("\\systolith.core.execute.array.checker") == "checksum column"
    assert part("\\systolith.core.drain.lanes.requantizer0").startswith("requantizer")
    assert part("\\systolith.core.sequencer.queue0").startswith("sequencer")


def test_count_adds_bits_of_flip_flops_and_multipliers():
    text = "      185   $dff_1\n      287   $dffe_16\n       16   $mul_20\n        1   $mux_8\n"
    assert dataclasses.astuple(count(text)) == (185 + 287 * 16, 16)


def test_tables_say_what_was_counted():
    entry = Entry(
        counts={
            "cases": 1000, "corrupting": 400, "of these noticed": 400, "runs without flip": 2,
            "of these by the checksum": 399, "noticed without harm": 7, "false alarms": 0,
        }
    )  # fmt: skip
    table = report.block_table({"array 4x4": entry, "array 4x3, depthwise steps": entry})
    row = "1,000 | 400 | 400 (100.000%) | 399 (99.750%) | 7 | 2 | 0 |"
    assert f"| array 4x4 | {row}" in table
    assert f"| all but depthwise | {row}" in table
    core = Entry(counts={"cases": 3, f"DMA: {End.SILENT}": 1, f"DMA: {End.MASKED}": 2})
    assert "| DMA | 3 | 2 | 0 | 0 | 1 |" in report.core_table(core)


def test_shares_of_blocks_add_up_to_all_flips():
    shares = [share for block, share in all_blocks() if not block.depthwise]
    assert sum(shares) == pytest.approx(1)


@pytest.mark.cosim
@pytest.mark.parametrize(
    "block", [array_block(4, 4, 1), *memory_blocks()[:3]], ids=lambda block: block.name
)
def test_every_corrupting_flip_is_noticed_and_nothing_else_raises_an_alarm(block):
    counts, failures = Injector(block).run(0, flips=400)
    assert failures == []
    assert counts["corrupting"] > 20
    assert counts["of these noticed"] == counts["corrupting"]
    assert counts["false alarms"] == 0


@pytest.mark.cosim
def test_without_parity_and_checksum_a_flip_is_unnoticed():
    block = dataclasses.replace(array_block(4, 4, 1), alarms=("activation_error",))
    counts, failures = Injector(block).run(0, flips=200)
    assert counts["of these noticed"] < counts["corrupting"]
    assert "went unnoticed" in failures[0]


@pytest.mark.cosim
def test_campaign_continues_with_the_next_batch(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "all_blocks", lambda: [(array_block(4, 4, 1), 1.0)])
    path = tmp_path / "totals.json"
    for flips in (300, 900):
        assert not run_blocks(Plan(flips, float("inf"), path))
    entry = Totals(path).entry(campaign.CAMPAIGN, "array 4x4", "")
    assert (entry.next, entry.counts["cases"]) == (2, 1000)


@pytest.mark.cosim
def test_whole_accelerator_programs_end_as_golden_says_or_notice_a_flip():
    injector = CoreInjector(PROTECTED)
    try:
        counts, failures = injector.run(0, 60)
        assert failures == []
        assert counts["cases"] == 60
        assert counts[f"{MEMORIES}: {End.NOTICED}"] > 0
        assert counts[f"{MEMORIES}: {End.SILENT}"] == 0
        # Nothing is left of a flip: programs without one end as golden says.
        for seed in range(1, 8):
            assert injector.run(seed, 0) == ({"cases": 0}, [])
    finally:
        injector.close()
