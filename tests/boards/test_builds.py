"""Boards: what is written for the tools, what is said of what they made, and errors."""

import json

import pytest

from systolith.arch.config import ceil_div
from systolith.arch.errors import AllocationError, ConfigError, InputError, ToolchainError
from systolith.arch.presets import PRESETS
from systolith.boards import build, catalog, fit, report, tools, wrapper
from systolith.cli import main

MHZ = 1_000_000


def prepared(board, folder):
    config = catalog.board_config(catalog.find(board), "tiny-4x4")
    return build.build(catalog.find(board), config, folder, do_build=False)


def test_ulx3s_has_its_pins_its_clock_and_cells_for_multipliers(tmp_path):
    result = prepared("ulx3s", tmp_path)
    constraints = (tmp_path / "ulx3s.lpf").read_text()
    for port, site in (("clk25_0__io", "G2"), ("uart_0__rx__io", "M1"), ("uart_0__tx__io", "L4")):
        assert f'LOCATE COMP "{port}" SITE "{site}";' in constraints
    assert 'FREQUENCY NET "pll_clock" 40000000.0 HZ;' in constraints
    design = (tmp_path / "ulx3s.il").read_text()
    tiny = PRESETS["tiny-4x4"]
    # 32 x 32 bits in each lane and in each unit of two lanes, which has two of 9 x 32, too.
    lanes = 4 * tiny.lanes + 8 * ceil_div(tiny.lanes, 2)
    assert design.count("cell \\MULT18X18D") == tiny.macs + lanes
    assert design.count("cell \\EHXPLLL") == 1
    assert tmp_path / "ulx3s.ys" in result.files
    assert result.usage is None


def test_arty_is_written_as_verilog_with_a_script(tmp_path):
    prepared("arty-a7", tmp_path)
    assert "PLLE2_BASE" in (tmp_path / "arty_a7.v").read_text()
    assert "xc7a100ti" in (tmp_path / "arty_a7.tcl").read_text()
    assert "set_property LOC" in (tmp_path / "arty_a7.xdc").read_text()


@pytest.mark.parametrize("board", catalog.BOARDS, ids=lambda board: board.name)
def test_boards_are_consistent(board):
    config = catalog.board_config(board)
    fit.check_bounds(config, board.device, board.memory_bytes)
    assert config.multiplier == board.multiplier
    assert board.load_platform().default_clk
    if not board.processor:
        for clock_hz in (board.clock_hz, *board.clocks.values()):
            wrapper.pll_settings(board.device.family, board.oscillator_hz, clock_hz)


@pytest.mark.parametrize("family", wrapper.PLL)
def test_pll_settings_are_exact_and_legal(family, rng):
    limits = wrapper.PLL[family]
    found = 0
    for output in rng.integers(20, 200, 60).tolist():
        for source in (12, 25, 100, 125):
            try:
                settings = wrapper.pll_settings(family, source * MHZ, output * MHZ)
            except ConfigError:
                continue
            found += 1
            vco = output * settings.output_divider
            turned = output if limits.output_in_feedback else vco
            assert source * settings.multiplier == turned * settings.input_divider
            assert limits.vco_min_hz <= vco * MHZ <= limits.vco_max_hz
            assert source * MHZ >= settings.input_divider * limits.phase_min_hz
            assert settings.multiplier <= limits.multiplier
    assert found > 60


def test_clock_that_no_divider_makes_is_refused():
    with pytest.raises(ConfigError, match=r"PLL of ecp5 makes of 25 MHz, not 76\.543 MHz"):
        wrapper.pll_settings("ecp5", 25 * MHZ, 76_543_000)


def test_unknown_names_are_listed():
    with pytest.raises(ConfigError, match='"ulx4s" must be one of ulx3s, ecp5-evn, arty-a7'):
        catalog.find("ulx4s")
    with pytest.raises(ConfigError, match='Run "x" must be one of ulx3s/edge-8x8'):
        report.chosen_runs(["x"], "nowhere.json")


def test_what_does_not_fit_is_named_before_any_tool_runs(tmp_path):
    board = catalog.find("ulx3s")
    config = catalog.board_config(board, "edge-16x16")
    with pytest.raises(AllocationError) as error:
        build.build(board, config, tmp_path)
    assert str(error.value) == (
        'Configuration "edge-16x16" does not fit LFE5U-85F: it needs at least 320 multipliers, '
        "available are 156; choose a smaller configuration"
    )
    with pytest.raises(AllocationError, match="at least 394 block RAMs, available are 208"):
        fit.check_bounds(PRESETS["tiny-4x4"], board.device, 768 << 10)
    assert not list(tmp_path.iterdir())


def test_largest_configuration_fits_by_its_multipliers():
    board = catalog.find("ulx3s")
    config = catalog.board_config(board, "edge-10x12")
    fit.check_bounds(config, board.device, board.memory_bytes)
    units = -(-config.lanes // 2)
    assert config.macs + 4 * config.lanes + 8 * units == 152


def test_cells_that_were_counted_are_held_against_the_device():
    device = catalog.find("ulx3s").device
    cells = {"LUT4": 70_000, "CCU2C": 5_000, "TRELLIS_DPR16X4": 1_000, "TRELLIS_FF": 9, "DP16KD": 7}
    usage = build.usage_ecp5(cells)
    assert usage == fit.Usage(luts=86_000, registers=9, multipliers=0, block_rams=7)
    with pytest.raises(
        AllocationError, match="X does not fit .* 86000 lookup tables, .* are 83640"
    ):
        fit.check_usage("X", device, usage)


def test_missing_tool_is_named_with_the_command_that_installs_it(tmp_path, monkeypatch):
    board = catalog.find("ulx3s")
    monkeypatch.setenv("NEXTPNR_ECP5", "no-such-tool")
    with pytest.raises(ToolchainError, match=r"\"nextpnr-ecp5\" must be .* no-such-tool was found"):
        build.build(board, catalog.board_config(board, "tiny-4x4"), tmp_path)
    with pytest.raises(
        ToolchainError, match=r"install it with \"pip install 'systolith\[boards\]'"
    ):
        tools.find_tool("nextpnr-ecp5")


def test_tool_that_fails_is_quoted(tmp_path):
    with pytest.raises(ToolchainError, match=r'Tool "yosys" must succeed .* no_such_command'):
        tools.run_tool("yosys", ["-q", "-p", "no_such_command"], folder=tmp_path)


def test_tool_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nexec sleep 60\n")
    slow.chmod(0o755)
    monkeypatch.setenv("NEXTPNR_ECP5", str(slow))
    with pytest.raises(ToolchainError, match="must end within 0.5 s, and did not; ask for less"):
        tools.run_tool("nextpnr-ecp5", [], folder=tmp_path, seconds=0.5, remedy="ask for less")


def test_cells_are_counted_as_yosys_makes_them(tmp_path):
    source = tmp_path / "top.v"
    source.write_text(
        "module top(input clk, input signed [15:0] a, b, output reg signed [31:0] p);\n"
        "always @(posedge clk) p <= a * b;\nendmodule\n"
    )
    script = "read_verilog top.v; synth_ecp5 -top top; write_json top.json"
    tools.run_tool("yosys", ["-q", "-p", script], folder=tmp_path)
    usage = build.usage_ecp5(build.count_cells(tmp_path / "top.json"))
    assert (usage.multipliers, usage.registers, usage.block_rams) == (1, 32, 0)


@pytest.mark.parametrize("target", report.SCRIPTS)
def test_synthesis_of_the_report_is_what_yosys_takes(tmp_path, target):
    source = tmp_path / "top.v"
    source.write_text(
        "module top(input clk, input [7:0] a, b, output reg [7:0] q);\n"
        "always @(posedge clk) q <= a + b;\nendmodule\n"
    )
    script = f"read_verilog top.v; {report.SCRIPTS[target].format(top='top')}; write_json top.json"
    tools.run_tool("yosys", ["-q", "-p", script], folder=tmp_path)
    cells = build.count_cells(tmp_path / "top.json")
    assert sum(count for name, count in cells.items() if "FF" in name or name.startswith("FD")) == 8


def test_slowest_clock_is_reported_with_its_path():
    step = {"from": {"cell": "a", "port": "Q"}, "to": {"cell": "b", "port": "D"}}
    path = {"from": "posedge slow", "to": "posedge slow", "path": [step]}
    found = {
        "fmax": {
            "fast": {"achieved": 200.0, "constraint": 100.0},
            "slow": {"achieved": 80.0, "constraint": 75.0},
        },
        "critical_paths": [{**path, "from": "<async>"}, path],
    }
    assert build.slowest_path(found) == (80e6, 75e6, "a to b")


FIGURES = {
    "tools": {"yosys": "Yosys 1", "nextpnr-ecp5": "nextpnr 2"},
    "runs": {
        "ulx3s/edge-8x8": {
            "luts": 64_000, "registers": 1_000, "multipliers": 128, "block_rams": 100,
            "fmax_mhz": 80.0, "clock_mhz": 75.0, "limit": "a to b",
        },
        "ice40up5k/tiny-4x4": {"luts": 9_000, "registers": 1, "multipliers": 8, "block_rams": 1},
        "gates/tiny-4x4": {"gates": 1_600, "registers": 5, "transistors": 70},
    },
}  # fmt: skip


def test_report_shows_what_was_measured_and_nothing_else(tmp_path):
    figures = tmp_path / "boards.json"
    figures.write_text(json.dumps(FIGURES))
    results = tmp_path / "results.json"
    cycles = {"edge-8x8-deep": 4_000, "edge-8x8": 3_900}
    networks = [{"model": "digits", "config": name, "cycles": n} for name, n in cycles.items()]
    results.write_text(json.dumps({"networks": networks}))
    text = report.render(figures, results)
    board = "| ECP5 LFE5U-85F, speed 6, whole board | `edge-8x8` | 64,000 | 1,000 | 128 | 100 "
    assert f"{board}| 80.0 | 1000 | 2.00 |" in text
    assert "| iCE40 UP5K (does not fit) | `tiny-4x4` | 9,000 |" in text
    assert "| `tiny-4x4` | 1,600 | 5 | 70 | 100 |" in text
    assert "| digits | `edge-8x8` | 4,000 | 80.0 | 20,000 |" in text
    assert "from `a` to `b`" in text
    assert "Not measured: `ulx3s/tiny-4x4`" in text
    assert text.count("`edge-8x8`") == 3, "a row, its path and its rate"
    assert "xc7/edge-8x8" in [run.name for run in report.chosen_runs([], figures)]
    assert "Tools: nextpnr 2, Yosys 1." in text


def test_damaged_figures_are_refused(tmp_path):
    (tmp_path / "boards.json").write_text("{")
    with pytest.raises(InputError, match=r"boards\.json\" must be JSON"):
        report.render(tmp_path / "boards.json")


def test_command_lists_boards_and_refuses_what_it_cannot(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["boards", "list"]) == 0
    assert "LFE5U-85F, edge-8x8 at 75 MHz, bitstream" in capsys.readouterr().out
    assert main(["boards", "build", "nothing"]) == 1
    assert '"nothing" must be one of ulx3s' in capsys.readouterr().err
    assert main(["boards", "build", "ulx3s", "--config", "edge-32x32"]) == 1
    assert "available are 156" in capsys.readouterr().err
    assert main(["boards", "build", "ulx3s", "--clock-mhz", "-1"]) == 1
    assert "must be a positive frequency" in capsys.readouterr().err
    assert main(["boards", "build", "ulx3s", "--minutes", "0"]) == 1
    assert "Time for place and route must be positive, not 0 minutes" in capsys.readouterr().err


def test_command_writes_a_package_where_the_processor_is_the_host(tmp_path, capsys):
    folder = tmp_path / "z7"
    options = ["--config", "tiny-4x4", "-o", str(folder)]
    assert main(["boards", "build", "arty-z7", *options]) == 0
    assert "vivado_zynq.tcl" in capsys.readouterr().out
    assert any(path.suffix == ".v" for path in folder.rglob("*"))


@pytest.mark.slow
def test_smallest_preset_becomes_a_bitstream(tmp_path):
    """Place and route of the whole board at a clock that it meets with ease."""
    board = catalog.find("ulx3s")
    config = catalog.board_config(board, "tiny-4x4")
    result = build.build(board, config, tmp_path, clock_hz=25 * MHZ)
    assert result.fmax_hz >= result.clock_hz == 25 * MHZ
    assert result.files[0].stat().st_size > 100_000
