"""Coverage: files read by kind, ports told from other signals, merged, waived by name, judged."""

from collections import Counter

import pytest

from systolith.bench import coverage, coverage_data, coverage_waivers
from systolith.bench.coverage import Measured
from systolith.bench.coverage_data import BRANCH, LINE, TOGGLE, Point
from systolith.bench.coverage_waivers import Waiver

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
    return coverage_data.points(coverage_data.tally(path), coverage_data.ports_of(VERILOG))


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
    tallied = coverage_data.tally(path)
    found = coverage_data.points(tallied, coverage_data.ports_of(VERILOG), {12, 3})
    assert coverage_data.share(found, LINE) == (1, 1)
    assert coverage_data.share(found, TOGGLE) == (3, 4)


def test_counts_are_kept_as_text(tmp_path):
    found = counts(tmp_path)
    assert coverage_data.load(coverage_data.dump(found)) == found


def test_runs_are_summed_by_entry(tmp_path):
    path = tmp_path / "coverage.dat"
    fallen = "1->0\1h\2TOP.top' "
    tallied = Counter()
    for text in (DATA, DATA.replace(f"{fallen}0", f"{fallen}2")):
        path.write_text(text)
        tallied.update(coverage_data.tally(path))
    summed = coverage_data.points(tallied, coverage_data.ports_of(VERILOG))
    assert coverage_data.share(summed, TOGGLE) == (4, 4)
    assert coverage_data.share(summed, LINE) == (1, 2)
    assert sum(summed.values()) == 2 * sum(counts(tmp_path).values()) + 2


NAMED = r"""
module \top.child (i__payload, \taken$5 , ap_clk);
  input [11:0] i__payload;
  wire [11:0] i__payload;
  assign \i__payload.walk  = i__payload[11:4];
  assign \i__payload.walk.code  = i__payload[7:4];
  assign \i__payload.first  = i__payload[0];
  assign \taken$5 [1]  = \taken$5 [15:8];
  assign \other  = i__payload[3:1];
endmodule
"""


@pytest.mark.parametrize(
    ("bit", "text"),
    [
        ("i__payload[5]", "i__payload.walk.code[1]"),
        ("i__payload[9]", "i__payload.walk[5]"),
        ("i__payload[0]", "i__payload.first[0]"),
        ("i__payload[2]", "i__payload[2]"),
        ("valid[0]", "valid[0]"),
    ],
)
def test_bits_are_called_by_their_field(bit, text):
    point = Point(TOGGLE, "TOP.pins.top.child", f"{bit}:0->1")
    assert coverage_data.Names(NAMED).text_of(point) == f"{TOGGLE} {point.place} {text}:0->1"


def test_lines_are_shown_with_their_text():
    names = coverage_data.Names(VERILOG)
    point = Point(LINE, "TOP.top", "3.1 block")
    assert names.text_of(point) == "line TOP.top 3.1 block: input [3:0] addr;"
    single = Point(TOGGLE, "TOP.top", "hit:0->1")
    assert names.text_of(single) == str(single)


@pytest.fixture
def one_waiver(monkeypatch):
    waiver = Waiver("upper bits", (r"addr\[[1-3]\]", "output"), "no memory is that large")
    for module in (coverage, coverage_waivers):
        monkeypatch.setattr(module, "WAIVERS", (waiver,))


def test_holes_have_the_name_of_their_waiver_or_none(one_waiver):
    reached, other = (Point(TOGGLE, "TOP", f"{n}[1]:0->1") for n in ("addr", "hit"))
    hole, line = Point(TOGGLE, "TOP", "addr[2]:0->1"), Point(LINE, "TOP", "4.1 block")
    counts = coverage_data.Counts({reached: 1, hole: 0, other: 0, line: 0})
    found = [(waiver, point) for waiver, point, _ in Measured("tiny", counts, VERILOG).holes]
    assert found == [("upper bits", line), ("upper bits", hole), ("", other)]


def points(missing=()):
    reached = {Point(kind, "TOP", f"1.{n} x"): 1 for kind in coverage_data.KINDS for n in range(30)}
    return coverage_data.Counts(reached | dict.fromkeys(missing, 0))


def test_report_says_whether_the_goals_are_met(one_waiver, tmp_path):
    lines, met = coverage.report([Measured("tiny", counts(tmp_path), "\n" * 12)])
    assert not met
    assert any("50.00 % of 2" in line for line in lines)
    assert coverage.report([Measured("tiny", points(), VERILOG)])[1]


def test_report_asks_for_a_name_of_every_hole(one_waiver):
    named, nameless = (Point(TOGGLE, "TOP", f"addr[{n}]:0->1") for n in (1, 0))
    lines, met = coverage.report([Measured("tiny", points([named]), VERILOG)])
    assert met
    assert "| upper bits | no memory is that large | 0 | 0 | 1 |" in lines
    assert "| `tiny` | 100.00 % of 30 | 100.00 % of 30 | 96.77 % of 31 |" in lines
    lines, met = coverage.report([Measured("tiny", points([named, nameless]), VERILOG)])
    assert not met
    assert "| without a name |  | 0 | 0 | 1 |" in lines


def test_points_are_summed_by_block():
    places = {
        "TOP.pins.systolith": "systolith",
        "TOP.pins.systolith.core": "core",
        "TOP.pins.systolith.core.load": "load",
        "TOP.pins.systolith.core.load.queue": "load",
    }
    assert {place: coverage.block_of(Point(LINE, place, "1.1 x")) for place in places} == places
    counts = coverage_data.Counts(
        {Point(LINE, place, "1.1 x"): n for n, place in enumerate(places)}
    )
    found = coverage.by_block([Measured(name, counts, "") for name in ("tiny", "odd")])
    assert list(found) == ["core", "load", "systolith"]
    assert found["load"] == {LINE: [4, 4], BRANCH: [0, 0], TOGGLE: [0, 0]}
    assert found["systolith"][LINE] == [0, 2]
