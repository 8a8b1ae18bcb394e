"""The IP-XACT description (IEEE 1685-2014) of a package."""

import re
from collections.abc import Iterable, Mapping
from xml.etree import ElementTree

from systolith.arch import csr
from systolith.arch.config import AcceleratorConfig
from systolith.gateware.top import CONTROL_PREFIX, MEMORY_PREFIX
from systolith.gateware.verilog import MODULE

from .port import Port

FILE = "component.xml"
NAMESPACE = "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"
_SCHEMA = f"{NAMESPACE}/index.xsd"
_INSTANCE = "http://www.w3.org/2001/XMLSchema-instance"
_REGISTER_BITS = 32
_BYTE_BITS = 8
_ADDRESS_BITS = 64

_AXI4 = ("amba.com", "AMBA4", "AXI4", "r0p0_0")
_AXI4_LITE = ("amba.com", "AMBA4", "AXI4Lite", "r0p0_0")
_BOTH_BUSES = f"{MEMORY_PREFIX}:{CONTROL_PREFIX}"
_ACCESS = {
    csr.Access.RO: ("read-only", None),
    csr.Access.RW: ("read-write", None),
    csr.Access.W1: ("write-only", None),
    csr.Access.W1C: ("read-write", "oneToClear"),
}
"""Access by IP-XACT's word, and what a write does other than to store."""


class _Writer:
    """Element with children in the namespace, for documents written from top to bottom."""

    def __init__(self, element: ElementTree.Element) -> None:
        self.element = element

    def add(self, tag: str, text: object = None, **attributes: str) -> "_Writer":
        """Append a child and return it."""
        child = ElementTree.SubElement(self.element, f"{{{NAMESPACE}}}{tag}", attributes)
        if text is not None:
            child.text = str(text)
        return _Writer(child)


def component(
    config: AcceleratorConfig,
    vlnv: str,
    ports: Iterable[Port],
    files: Mapping[str, str],
) -> str:
    """Return `component.xml`.

    Parameters
    ----------
    config : AcceleratorConfig
        The accelerator.
    vlnv : str
        Vendor, library, name and version, joined by colons.
    ports : iterable of Port
        Pins of the top module.
    files : mapping of str to str
        Files of the package and their IP-XACT file types, the design's first.
    """
    ports = list(ports)
    ElementTree.register_namespace("ipxact", NAMESPACE)
    ElementTree.register_namespace("xsi", _INSTANCE)
    root = ElementTree.Element(
        f"{{{NAMESPACE}}}component",
        {f"{{{_INSTANCE}}}schemaLocation": f"{NAMESPACE} {_SCHEMA}"},
    )
    top = _Writer(root)
    for tag, text in zip(("vendor", "library", "name", "version"), vlnv.split(":"), strict=True):
        top.add(tag, text)
    _add_buses(top.add("busInterfaces"), ports)
    _add_address_space(top, config)
    _add_registers(top, config)
    _add_model(top.add("model"), ports)
    file_set = top.add("fileSets").add("fileSet")
    file_set.add("name", "fs_all")
    for name, kind in files.items():
        entry = file_set.add("file")
        entry.add("name", name)
        entry.add("fileType", kind)
    top.add("description", f"INT8 accelerator, {config.rows} x {config.cols} multipliers")
    ElementTree.indent(root)
    text = ElementTree.tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _add_buses(buses: _Writer, ports: list[Port]) -> None:
    for prefix, kind, role, reference in (
        (MEMORY_PREFIX, _AXI4, "master", "addressSpaceRef"),
        (CONTROL_PREFIX, _AXI4_LITE, "slave", "memoryMapRef"),
    ):
        mapped = {
            re.sub("^.*_", "", port.name).upper(): port.name
            for port in ports
            if port.name.startswith(f"{prefix}_")
        }
        bus = _add_bus(buses, prefix, kind, {"ACLK": "ap_clk", "ARESETn": "ap_rst_n"} | mapped)
        bus.add(role).add(reference, **{reference: prefix})
    for name, signal, pin, role, key, value in (
        ("ap_clk", "clock", "CLK", "slave", "ASSOCIATED_BUSIF", _BOTH_BUSES),
        ("ap_rst_n", "reset", "RST", "slave", "POLARITY", "ACTIVE_LOW"),
        ("interrupt", "interrupt", "INTERRUPT", "master", "SENSITIVITY", "LEVEL_HIGH"),
    ):
        bus = _add_bus(buses, name, ("xilinx.com", "signal", signal, "1.0"), {pin: name})
        bus.add(role)
        parameter = bus.add("parameters").add("parameter", parameterId=f"{name}_{key}".lower())
        parameter.add("name", key)
        parameter.add("value", value)


def _add_bus(
    buses: _Writer, name: str, kind: tuple[str, str, str, str], pins: dict[str, str]
) -> _Writer:
    """Append a bus interface up to its role; pins are physical by logical name."""
    vendor, library, bus_type, version = kind
    origin = {"vendor": vendor, "library": library, "version": version}
    bus = buses.add("busInterface")
    bus.add("name", name)
    bus.add("busType", name=bus_type, **origin)
    abstraction = bus.add("abstractionTypes").add("abstractionType")
    abstraction.add("abstractionRef", name=f"{bus_type}_rtl", **origin)
    maps = abstraction.add("portMaps")
    for logical, physical in pins.items():
        entry = maps.add("portMap")
        entry.add("logicalPort").add("name", logical)
        entry.add("physicalPort").add("name", physical)
    return bus


def _add_address_space(top: _Writer, config: AcceleratorConfig) -> None:
    space = top.add("addressSpaces").add("addressSpace")
    space.add("name", MEMORY_PREFIX)
    space.add("range", f"'h{1 << _ADDRESS_BITS:x}")
    space.add("width", config.axi_data_bits)
    space.add("addressUnitBits", _BYTE_BITS)


def _add_registers(top: _Writer, config: AcceleratorConfig) -> None:
    memory_map = top.add("memoryMaps").add("memoryMap")
    memory_map.add("name", CONTROL_PREFIX)
    block = memory_map.add("addressBlock")
    block.add("name", "registers")
    block.add("baseAddress", "'h0")
    block.add("range", f"'h{1 << csr.ADDR_BITS:x}")
    block.add("width", _REGISTER_BITS)
    block.add("usage", "register")
    constants = csr.constants(config)
    for register in csr.REGISTERS:
        _add_register(block, register, constants.get(register.name, register.reset))
    memory_map.add("addressUnitBits", _BYTE_BITS)


def _add_register(block: _Writer, register: csr.Register, reset: int) -> None:
    access, modified = _ACCESS[register.access]
    entry = block.add("register")
    entry.add("name", register.name)
    entry.add("description", register.doc)
    entry.add("addressOffset", f"'h{register.addr:03x}")
    entry.add("size", _REGISTER_BITS)
    entry.add("access", access)
    whole = csr.Field("value", 0, _REGISTER_BITS, register.doc)
    for field in register.fields or (whole,):
        bits = entry.add("field")
        bits.add("name", field.name)
        bits.add("description", field.doc)
        bits.add("bitOffset", field.low)
        value = reset >> field.low & (1 << field.width) - 1
        bits.add("resets").add("reset").add("value", f"'h{value:x}")
        bits.add("bitWidth", field.width)
        bits.add("access", access)
        if modified:
            bits.add("modifiedWriteValue", modified)


def _add_model(model: _Writer, ports: list[Port]) -> None:
    view = model.add("views").add("view")
    view.add("name", "rtl")
    view.add("envIdentifier", ":*Simulation:")
    view.add("envIdentifier", ":*Synthesis:")
    view.add("componentInstantiationRef", "verilog")
    instantiation = model.add("instantiations").add("componentInstantiation")
    instantiation.add("name", "verilog")
    instantiation.add("language", "verilog")
    instantiation.add("moduleName", MODULE)
    instantiation.add("fileSetRef").add("localName", "fs_all")
    entries = model.add("ports")
    for port in ports:
        entry = entries.add("port")
        entry.add("name", port.name)
        wire = entry.add("wire")
        wire.add("direction", port.direction)
        if port.width > 1:
            vector = wire.add("vectors").add("vector")
            vector.add("left", port.width - 1)
            vector.add("right", 0)
