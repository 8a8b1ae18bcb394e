"""Mutants of the hardware: drawn from every block, proven equivalent or not, judged and reported."""

import pytest

from systolith.arch.errors import ToolchainError
from systolith.bench import (
    late_start,
    mutation,
    mutation_checks,
    mutation_design,
    mutation_proof,
)
from systolith.bench.mutation import EQUIVALENT, SURVIVED, Verdict
from systolith.bench.mutation_checks import Check
from systolith.bench.mutation_design import Mutation, draw, parse

# The AND is no matter for the output, and the register is one.
VERILOG = """module \\systolith.core.block (ap_clk, a, b, y);
  input ap_clk, a, b;
  output y;
  reg q;
  wire both = a & b;
  always @(posedge ap_clk) q <= both | a;
  assign y = q;
endmodule

module systolith(ap_clk, a, b, y);
  input ap_clk, a, b;
  output y;
  \\systolith.core.block inner (.ap_clk(ap_clk), .a(a), .b(b), .y(y));
endmodule
"""

LINE = (
    r"mutate -mode cnot0 -module systolith -cell $flatten\core.\x$3 -port A -portbit 4 -ctrlbit 7 "
    r"-wire core.block.sum -wirebit 4 -src device.v:5.3-5.9 -src device.v:9.1-9.2"
)


def mutant(block, number=0):
    return Mutation(block, f"signal{number}", "inv of A[0]", "")


def test_lines_of_yosys_become_mutations():
    found = parse(LINE, VERILOG)
    assert str(found) == "block: cnot0 of A[4] by [7] at core.block.sum[4]"
    assert found.group == "block"
    assert found.options == (
        r"-mode cnot0 -module systolith -cell $flatten\core.\x$3 -port A -portbit 4 -ctrlbit 7"
    )
    outside = "mutate -mode inv -module systolith -cell c -port Q -portbit 0"
    assert str(parse(outside, VERILOG)) == "systolith: inv of Q[0] at c"


def test_every_block_has_its_share():
    candidates = [mutant("large.part", n) for n in range(900)] + [mutant("small")] * 9
    chosen = draw(candidates, 33)
    assert [m.group for m in chosen].count("large") == 30
    assert [m.group for m in chosen].count("small") == 3
    assert chosen == draw(candidates, 33)


def test_only_what_changes_no_output_is_equivalent(tmp_path):
    design = mutation_design._make(VERILOG, 40, 0, tmp_path)
    assert "reg [" in design.verilog
    assert "mutant_select = systolith_mutant();" in design.verilog
    by_change = {m.change: m for m in design.mutations if "and" in m.options}
    assert mutation_proof.is_equivalent(design, by_change["const0 of B[0]"])
    flip = next(m for m in design.mutations if m.change == "inv of D[0]")
    assert not mutation_proof.is_equivalent(design, flip)


COUNTERS = r"""
  import "DPI-C" function int systolith_mutant();
  always @(posedge ap_clk)
    if (!rst) _01_ <= 24'h000000;
    else _01_ <= _02_[23:0];
  assign \core.sequencer.progress [23:0] = _01_;
  always @(posedge ap_clk)
    if (!rst) _03_ <= 72'h000000;
  assign { \core.sequencer.progress [95:93], _04_, \core.sequencer.progress [91:24] } = _03_;
  always @(posedge ap_clk)
    if (rst) \core.sequencer.dispatcher.dispatched  <= 96'h000000;
  always @(posedge ap_clk)
    if (rst) \core.sequencer.fetch.taken [23:1] <= 23'h000000;
    else if (_05_) \core.sequencer.fetch.taken [23:1] <= \other ;
  always @(posedge ap_clk)
    if (rst) \core.sequencer.fetch.taken_reg[0]  <= 1'h0;
  assign \core.sequencer.fetch.taken [0] = \core.sequencer.fetch.taken_reg[0] ;
  always @(posedge ap_clk)
    if (rst) \core.counters.values  <= 448'h0;
  always @(posedge ap_clk)
    if (rst) _06_ <= 24'h000000;
  assign \core.sequencer.fetch.asked  = _06_;
"""


def test_counters_are_found_in_whatever_pieces_they_are():
    late = [line.strip() for line in late_start.count_late(COUNTERS).splitlines() if ">>" in line]
    assert [line.split(") ", 1)[1] for line in late] == [
        "_01_ <= {4{late_count[23:0]}} >> 0;",
        "_03_ <= {4{late_count[23:0]}} >> 24;",
        r"\core.sequencer.dispatcher.dispatched <= {4{late_count[23:0]}} >> 0;",
        r"\core.sequencer.fetch.taken [23:1] <= {1{late_count[23:0]}} >> 1;",
        r"\core.sequencer.fetch.taken_reg[0] <= {1{late_count[23:0]}} >> 0;",
        r"\core.counters.values <= {14{late_count[31:0]}} >> 0;",
    ]


def test_counters_with_bits_missing_are_refused():
    with pytest.raises(ToolchainError, match="must have 664 bits in the netlist, not 640"):
        late_start.count_late(COUNTERS.replace("_01_ <= 24'h000000", "_01_ <= 24'hffffff"))


MODULES = r"""
module \top.core.counters (clear, values, ap_clk);
    values <= \$16 ;
endmodule
module \top.core.sequencer (clear,
  progress, ap_clk);
    progress <= \$1244 ;
endmodule
module \top.core.sequencer.dispatcher (engine_reset, ap_clk);
    dispatched <= \$59 ;
endmodule
module \top.core.sequencer.fetch (engine_reset, ap_clk);
    taken <= \$5 ;
    all_taken <= \$66 ;
endmodule
"""


def test_counters_of_modules_begin_late():
    late = late_start.count_late_in_modules(MODULES, "top").splitlines()
    assert [line.strip() for line in late if "?" in line] == [
        r"values <= clear ? {14{late_count[31:0]}} : \$16 ;",
        r"progress <= clear ? {4{late_count[23:0]}} : \$1244 ;",
        r"dispatched <= engine_reset ? {4{late_count[23:0]}} : \$59 ;",
        r"taken <= engine_reset ? {1{late_count[23:0]}} : \$5 ;",
    ]
    kept = [line.replace("late", "") for line in late if late_start.LATE not in line]
    assert len(kept) == len(MODULES.splitlines()) - len(late_start._IN_MODULES)
    with pytest.raises(ToolchainError, match='must have a counter "taken", and has none'):
        late_start.count_late_in_modules(MODULES.replace("    taken", "    token"), "top")


def test_verilog_that_yosys_refuses_is_reported(tmp_path):
    with pytest.raises(ToolchainError, match="Yosys must accept the design"):
        mutation_design._make("module systolith(; endmodule", 1, 0, tmp_path)


def verdicts(killed, survived, equivalent):
    names = ["programs"] * killed + [SURVIVED] * survived + [EQUIVALENT] * equivalent
    return [Verdict(n, mutant(f"block{n % 2}.x", n), by) for n, by in enumerate(names)]


def test_report_counts_and_judges():
    lines, met = mutation.report(verdicts(190, 10, 30))
    assert met
    assert "| **all** | 230 | 30 | 190 | 10 | 95.0 % |" in lines
    assert "Noticed first by programs 190." in lines
    assert sum("not explained yet" in line for line in lines) == 10
    assert not mutation.report(verdicts(189, 11, 30))[1]
    assert not mutation.report(verdicts(199, 0, 30))[1]


def test_verdicts_are_kept_with_what_people_say_of_them(tmp_path):
    path = tmp_path / "record.json"
    assert mutation.load(path) == []
    kept = [
        Verdict(1, mutant("a"), SURVIVED, "", "a hint only"),
        Verdict(2, mutant("b"), "streams"),
    ]
    mutation.save(path, kept)
    assert mutation.load(path) == kept


def test_interrupted_runs_go_on(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "systolith" / "mutation").mkdir(parents=True)
    design = mutation_design.MutatedDesign("module systolith", (mutant("a"),) * 3, "")
    asked = []

    def judge(config, design, numbers, *, jobs):
        asked.append(list(numbers))
        yield from ((n, SURVIVED if n == 2 else "programs", "") for n in numbers)

    monkeypatch.setattr(mutation, "judge", judge)
    first = list(mutation.verdicts_of(None, design, [1, 2], jobs=1))
    assert first == [(1, "programs", ""), (2, SURVIVED, "")]
    assert list(mutation.verdicts_of(None, design, [1, 2, 3], jobs=1)) == [
        *first,
        (3, "programs", ""),
    ]
    assert asked == [[1, 2], [2, 3]]


def test_first_check_that_notices_is_named():
    silent, loud = Check("silent", lambda: None), Check("loud", lambda: "a byte differs")
    assert mutation.noticed([silent, loud, silent]) == ("loud", "a byte differs")
    assert mutation.noticed([silent]) == (SURVIVED, "")
    assert mutation_checks.SEED == 20260
