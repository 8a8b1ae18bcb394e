"""Coverage: files read by kind, ports told from other signals, merged, waived by name, judged."""

from systolith.bench import coverage, coverage_data
from systolith.bench.coverage_data import BRANCH, LINE, TOGGLE, Point

VERILOG = """module top(clk, addr, hit);
  input clk;
  input [3:0] addr;
  output hit ;
  output [7:0] \\bus__ready$ ;
  wire inner;
endmodule

module \\top.child (clk, en);
  input clk;
  input en;
endmodule
"""


def entry(page, count, **fields):
    parts = {"f": "device.v", "page": page, **fields}
    return f"C '{''.join(f'{chr(1)}{k}{chr(2)}{v}' for k, v in parts.items())}' {count}\n"


DATA = "# SystemC::Coverage-3\n" + "".join(
    [
        entry("v_line/top", 3, l="10", n="1", o="block", h="TOP.top"),
        entry("v_line/top", 0, l="12", n="1", o="block", h="TOP.top"),
        entry("v_branch/top.child", 1, l="20", n="1", o="if", h="TOP.top.child"),
        entry("v_toggle/top", 4, l="3", n="1", o="addr[0]:0->1", h="TOP.top"),
        entry("v_toggle/top", 0, l="3", n="1", o="addr[0]:1->0", h="TOP.top"),
        entry("v_toggle/top", 7, l="5", n="1", o="inner:0->1", h="TOP.top"),
        entry("v_toggle/top.child", 1, l="9", n="1", o="en:0->1", h="TOP.top.child"),
        entry("v_toggle/top", 1, l="9", n="1", o="\\$auto$x:0->1", h="TOP.top"),
        entry("v_toggle/top", 1, l="9", n="1", o="bus___05Fready__024[3]:0->1", h="TOP.top"),
        entry("v_line/pins", 1, l="1", n="1", o="block", h="TOP"),
        entry("v_user/top", 1, l="1", n="1", o="cover", h="TOP"),
    ]
)


def counts(tmp_path, text=DATA):
    path = tmp_path / "coverage.dat"
    path.write_text(text)
    return coverage_data.read(path, coverage_data.ports_of(VERILOG))


def test_ports_are_those_of_each_module():
    ports = coverage_data.ports_of(VERILOG)
    assert ports == {"top": {"clk", "addr", "hit", "bus__ready$"}, "top.child": {"clk", "en"}}


def test_points_are_lines_branches_and_toggles_of_ports(tmp_path):
    found = counts(tmp_path)
    assert coverage_data.share(found, LINE) == (1, 2)
    assert coverage_data.share(found, BRANCH) == (1, 1)
    assert coverage_data.share(found, TOGGLE) == (3, 4)
    assert [str(point) for point in coverage_data.holes(found)] == [
        "line TOP.top 12.1 block", "port toggle TOP.top addr[0]:1->0",
    ]  # fmt: skip


def test_lines_that_only_start_a_simulation_are_left_out(tmp_path):
    trigger = r"    if (\$auto$verilog_backend.cc:2355:dump_module$1 ) begin end"
    assert coverage_data.triggers_of(f"module top;\n{trigger}\n  if (a) begin end") == {2}
    path = tmp_path / "coverage.dat"
    path.write_text(DATA)
    found = coverage_data.read(path, coverage_data.ports_of(VERILOG), {12, 3})
    assert coverage_data.share(found, LINE) == (1, 1)
    assert coverage_data.share(found, TOGGLE) == (3, 4)


def test_counts_are_kept_as_text(tmp_path):
    found = counts(tmp_path)
    assert coverage_data.load(coverage_data.dump(found)) == found


def test_runs_are_merged_by_point(tmp_path):
    fallen = "1->0\1h\2TOP.top' "
    again = counts(tmp_path, DATA.replace(f"{fallen}0", f"{fallen}2"))
    merged = coverage_data.merge([counts(tmp_path), again])
    assert coverage_data.share(merged, TOGGLE) == (4, 4)
    assert coverage_data.share(merged, LINE) == (1, 2)


def test_only_holes_are_waived_and_each_waiver_is_counted(monkeypatch):
    waiver = coverage.Waiver("upper bits", r"addr\[\d+\]", "no memory is that large")
    monkeypatch.setattr(coverage, "WAIVERS", (waiver,))
    reached, other = (Point(TOGGLE, "TOP", f"{n}[0]:0->1") for n in ("addr", "hit"))
    hole = Point(TOGGLE, "TOP", "addr[1]:0->1")
    kept, waived = coverage.judge(coverage_data.Counts({reached: 1, hole: 0, other: 0}))
    assert set(kept) == {reached, other}
    assert waived == {"upper bits": 1}


def test_report_says_whether_the_goals_are_met(tmp_path):
    lines, met = coverage.report([("tiny", counts(tmp_path))])
    assert not met
    assert any("50.00 % of 2" in line for line in lines)
    full = coverage_data.Counts({Point(kind, "TOP", "x"): 1 for kind in coverage_data.KINDS})
    assert coverage.report([("tiny", full)])[1]
