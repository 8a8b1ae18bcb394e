# amaranth: UnusedElaboratable=no
"""Verilog: every configuration can be written, the same twice, and the linter finds no defect."""

import dataclasses
import os
import re
import subprocess
import sys

import pytest

from systolith.arch import docgen
from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import ConfigError, ToolchainError
from systolith.arch.presets import PRESETS
from systolith.bench import toolchain
from systolith.gateware import verilog
from systolith.gateware.top import PROGRESS_NAMES

TINY = PRESETS["tiny-4x4"]

WAIVED = {
    "ASCRANGE": "memories of one bit are written with a range",
    "CASEINCOMPLETE": "values that cannot occur have no case",
    "CMPCONST": "comparisons with a constant operand stay as they were built",
    "DECLFILENAME": "the file is named after the configuration, the module is not",
    "PROCASSINIT": "initial values are what reset gives, too",
    "SYMRSVDWORD": "escaped names may be words of C++",
    "UNSIGNED": "comparisons with zero stay as they were built",
    "UNUSEDSIGNAL": "every layout shows all its fields, used or not",
    "VARHIDDEN": "a signal may be called as a module",
    "WIDTHEXPAND": "operands grow by themselves as Verilog defines",
    "WIDTHTRUNC": "conditions are widened to true or false as Verilog defines",
}
"""Warnings about how Yosys writes Verilog, not about the design, and why they are none."""


@pytest.fixture(scope="module")
def tiny_verilog():
    return verilog.generate(TINY)


def lint(path, *flags):
    root = toolchain.verilator_root()
    return subprocess.run(
        [root / "bin" / "verilator", "--lint-only", "-Wall", "--top-module", verilog.MODULE,
         *flags, path],
        env=toolchain.environment(),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )  # fmt: skip


def test_verilog_has_no_warning_but_the_waived(tiny_verilog, tmp_path):
    path = tmp_path / "design.v"
    path.write_text(tiny_verilog)
    result = lint(path, *(f"-Wno-{name}" for name in WAIVED))
    assert result.returncode == 0, result.stderr[-4000:]
    assert "%Warning" not in result.stderr


def test_linter_would_find_a_defect(tiny_verilog, tmp_path):
    path = tmp_path / "design.v"
    # Two drivers of the interrupt.
    end = tiny_verilog.index("endmodule")
    path.write_text(f"{tiny_verilog[:end]}assign interrupt = ap_clk;\n{tiny_verilog[end:]}")
    result = lint(path, *(f"-Wno-{name}" for name in WAIVED))
    assert result.returncode != 0


def test_waivers_are_all_needed(tiny_verilog, tmp_path):
    path = tmp_path / "design.v"
    path.write_text(tiny_verilog)
    found = set(re.findall(r"%Warning-(\w+):", lint(path).stderr))
    assert found == set(WAIVED)


def test_verilog_is_the_same_whatever_the_order_of_hashes(tiny_verilog):
    script = (
        "import sys; from systolith.arch.presets import PRESETS;"
        "from systolith.gateware.verilog import generate;"
        "sys.stdout.write(generate(PRESETS['tiny-4x4']))"
    )
    other = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": "1"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    assert other.stdout == tiny_verilog


def test_top_module_shows_pins_and_progress(tiny_verilog):
    top = tiny_verilog[: tiny_verilog.index("endmodule")]
    assert re.search(rf"^module {verilog.MODULE}\(", top, re.MULTILINE)
    for port in ("input ap_clk", "input ap_rst_n", "output interrupt", "output m_axi_gmem_awvalid"):
        assert f"  {port};" in top
    assert "  output [31:0] s_axi_control_rdata;" in top
    for name in PROGRESS_NAMES:
        assert f"  wire [23:0] {name};" in top


def test_verilog_has_no_path_of_this_machine(tiny_verilog):
    assert not re.search(r"\.py\b|(?<!\w)/(?:usr|home|tmp|work)/", tiny_verilog)
    assert "(* src" not in tiny_verilog


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n != TINY.name)) for n in PRESETS],
)
def test_every_preset_can_be_written(name, tmp_path):
    config = PRESETS[name]
    paths = verilog.write_package(config, tmp_path / "out")
    assert [path.name for path in paths] == [
        f"{name}.v", "systolith_regs.h", "filelist.f", "config.toml",
    ]  # fmt: skip
    design, header, files, toml = paths
    text = design.read_text()
    assert f"{config.digest:016x}" in text.splitlines()[0]
    assert f"  input [{config.axi_data_bits - 1}:0] m_axi_gmem_rdata;" in text
    assert header.read_text() == docgen.c_header()
    assert files.read_text() == f"{name}.v\n"
    assert AcceleratorConfig.from_toml(toml) == config


CORNERS = {
    "one column group per lane": {"rows": 2, "cols": 6, "lanes": 1, "axi_data_bits": 32},
    "beat of two instructions": {"axi_data_bits": 512, "param_bytes": 2048, "weight_bytes": 8192},
    "odd array": {"rows": 5, "cols": 3, "lanes": 3, "feeds": 3},
    "shallow": {"queue_depth": 2, "axi_outstanding": 1, "banks": 2},
}


@pytest.mark.slow
@pytest.mark.parametrize("fields", CORNERS.values(), ids=CORNERS)
def test_corners_of_the_configuration_can_be_written(fields, tmp_path):
    config = dataclasses.replace(TINY, name="corner", **fields)
    path = tmp_path / "design.v"
    path.write_text(verilog.generate(config))
    result = lint(path, *(f"-Wno-{name}" for name in WAIVED))
    assert result.returncode == 0, result.stderr[-4000:]


@pytest.mark.parametrize("name", ["a/b", "/", "tab\there"])
def test_name_that_is_no_file_name_is_refused(name, tmp_path):
    config = dataclasses.replace(TINY, name=name)
    with pytest.raises(ConfigError, match="name must be usable as the name of a file, not"):
        verilog.write_package(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_folder_that_cannot_be_written_is_refused(tiny_verilog, tmp_path, monkeypatch):
    monkeypatch.setattr(verilog, "generate", lambda config: tiny_verilog)
    (tmp_path / "file").write_text("")
    with pytest.raises(ToolchainError, match='Folder ".*file" must be writable'):
        verilog.write_package(TINY, tmp_path / "file")


def test_failure_of_yosys_is_a_toolchain_error(monkeypatch):
    def fail(*args, **kwargs):
        raise verilog.verilog.YosysError("no Yosys")

    # Hardware that is never used would warn.
    monkeypatch.setattr(verilog, "Top", lambda config: None)
    monkeypatch.setattr(verilog.verilog, "convert", fail)
    with pytest.raises(ToolchainError, match='failed with: no Yosys; run "make setup"'):
        verilog.generate(TINY)
