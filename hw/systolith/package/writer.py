"""Puts a package together, and writes it."""

import hashlib
import json
import re
from collections.abc import Mapping
from importlib import metadata, resources
from pathlib import Path

from systolith.arch import docgen
from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import ConfigError, ToolchainError
from systolith.gateware.verilog import MODULE

from . import constraint, design, fusesoc, ipxact, lint, register
from .constraint import DEFAULT_CLOCK_MHZ

DESIGN = f"rtl/{MODULE}.v"
MEMORIES = "rtl/systolith_ram.v"
WAIVERS = "lint/systolith.vlt"
XDC = "constraints/systolith.xdc"
SDC = "constraints/systolith.sdc"
SCRIPT = "scripts/vivado_zynq.tcl"
MANIFEST = "manifest.json"
VENDOR, LIBRARY = "systolith", "ip"

CLOCK_RANGE_MHZ = (1.0, 2000.0)

PORTABLE_MULTIPLIERS = ("plain", "pair25", "pair27")
"""Multipliers that synthesis infers, of :data:`systolith.arch.config.MULTIPLIERS`."""

_AS_THEY_ARE = {
    MEMORIES: "systolith_ram.v",
    "driver/systolith.h": "systolith.h",
    "driver/systolith.c": "systolith.c",
    "driver/example/digits.c": "digits.c",
}
"""Files that are the same in every package, by their path there."""

_FILE_TYPES = {
    DESIGN: "verilogSource",
    MEMORIES: "verilogSource",
    SDC: "sdc",
    XDC: "xdc",
    SCRIPT: "tclSource",
    "driver/systolith.h": "cSource",
    "driver/systolith_regs.h": "cSource",
    "driver/systolith.c": "cSource",
}
"""Files that IP-XACT lists, with its words for their types (those it has)."""

_STANDARD_TYPES = ("verilogSource", "tclSource", "cSource")


def files(
    config: AcceleratorConfig,
    *,
    clock_mhz: float = DEFAULT_CLOCK_MHZ,
    verilog: str | None = None,
) -> dict[str, str]:
    """Return the texts of a package by path; the same input gives the same texts.

    Parameters
    ----------
    config : AcceleratorConfig
        The accelerator.
    clock_mhz : float
        Clock that the constraints ask for.
    verilog : str, optional
        What :func:`systolith.package.design.generate` returned for this configuration before, to
        save time.

    Raises
    ------
    ConfigError
        The clock is out of range, or the multipliers are primitives of one vendor.
    ToolchainError
        The Verilog could not be made.
    """
    _check(config, clock_mhz)
    verilog = design.generate(config) if verilog is None else verilog
    texts = _texts(config, clock_mhz, verilog)
    return texts | {MANIFEST: _manifest(config, clock_mhz, texts)}


def write(
    config: AcceleratorConfig,
    folder: str | Path,
    *,
    clock_mhz: float = DEFAULT_CLOCK_MHZ,
    verilog: str | None = None,
) -> list[Path]:
    """Write a package to a folder, made if it does not exist, and return the paths of its files.

    Files of the same names are replaced. Parameters and errors are those of :func:`files`; nothing
    is written unless all texts could be made.

    Raises
    ------
    ToolchainError
        Also if the folder cannot be written.
    """
    texts = files(config, clock_mhz=clock_mhz, verilog=verilog)
    folder = Path(folder)
    try:
        for path, text in texts.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(text, encoding="utf-8", newline="\n")
    except OSError as error:
        raise ToolchainError(
            f'Folder "{folder}" must be writable for the package: {error.strerror}'
        ) from error
    return [folder / path for path in texts]


def _check(config: AcceleratorConfig, clock_mhz: float) -> None:
    low, high = CLOCK_RANGE_MHZ
    if not low <= clock_mhz <= high:
        raise ConfigError(f"Clock must be {low:g} to {high:g} MHz, not {clock_mhz:g}")
    if config.multiplier not in PORTABLE_MULTIPLIERS:
        raise ConfigError(
            f'Configuration "{config.name}": multiplier must be one of '
            f"{', '.join(PORTABLE_MULTIPLIERS)} in a package, which holds no primitives of one "
            f'vendor, not {config.multiplier!r}; build a board with "systolith boards build"'
        )


def _texts(config: AcceleratorConfig, clock_mhz: float, verilog: str) -> dict[str, str]:
    """Return the texts of all files but the manifest, by path."""
    ports = design.ports_of(verilog)
    vlnv = _vlnv(config)
    title = f"INT8 accelerator, {config.rows} x {config.cols} multipliers, {config.digest:016x}"
    paths = {"design": DESIGN, "memories": MEMORIES, "waivers": WAIVERS, "xdc": XDC, "sdc": SDC}
    script = _source("vivado_zynq.tcl").replace("@CLOCK_MHZ@", f"{clock_mhz:g}")
    types = {
        path: kind if kind in _STANDARD_TYPES else "unknown" for path, kind in _FILE_TYPES.items()
    }
    return {
        "README.md": _readme(config, vlnv),
        DESIGN: verilog,
        **{path: _source(name) for path, name in _AS_THEY_ARE.items()},
        "filelist.f": f"{DESIGN}\n{MEMORIES}\n",
        WAIVERS: lint.waivers(),
        XDC: constraint.xdc(clock_mhz),
        SDC: constraint.sdc(clock_mhz, ports),
        SCRIPT: script,
        fusesoc.CORE_FILE: fusesoc.core_file(vlnv, title, paths),
        ipxact.FILE: ipxact.component(config, vlnv, ports, types),
        "driver/systolith_regs.h": docgen.c_header(),
        "registers/registers.json": register.as_json(config),
        "registers/registers.md": register.as_markdown(config),
        "config.toml": config.to_toml(),
    }


def _vlnv(config: AcceleratorConfig) -> str:
    """Return vendor, library, name and version; the name in letters that all tools take."""
    name = re.sub(r"[^a-z0-9]+", "_", config.name.lower()).strip("_")
    return f"{VENDOR}:{LIBRARY}:{'_'.join(filter(None, (MODULE, name)))}:{_version('systolith')}"


def _version(package: str) -> str:
    return metadata.version(package)


def _source(name: str) -> str:
    return (resources.files(__package__) / "files" / name).read_text(encoding="utf-8")


def _readme(config: AcceleratorConfig, vlnv: str) -> str:
    values = {
        "NAME": json.dumps(config.name),
        "DIGEST": f"{config.digest:016x}",
        "ROWS": str(config.rows),
        "COLS": str(config.cols),
        "BITS": str(config.axi_data_bits),
        "VLNV": vlnv,
    }
    text = _source("README.md")
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _manifest(config: AcceleratorConfig, clock_mhz: float, texts: Mapping[str, str]) -> str:
    """Return what was made, from what, and by what; it has no date, so that it can be compared."""
    memories = [
        {
            "module": shape.module,
            "WIDTH": shape.width,
            "DEPTH": shape.depth,
            "LANES": shape.lanes,
            "instances": count,
        }
        for shape, count in design.memories_of(texts[DESIGN]).items()
    ]
    document = {
        "configuration": config.to_dict(),
        "digest": f"{config.digest:016x}",
        "clock_mhz": clock_mhz,
        "top": MODULE,
        "generator": {name: _version(name) for name in ("systolith", "amaranth", design.YOSYS)},
        "memories": memories,
        "files": {
            path: hashlib.sha256(text.encode()).hexdigest() for path, text in sorted(texts.items())
        },
    }
    return json.dumps(document, indent=2) + "\n"
