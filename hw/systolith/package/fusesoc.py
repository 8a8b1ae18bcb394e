"""The FuseSoC core file (CAPI2) of a package."""

from systolith.gateware.verilog import MODULE

CORE_FILE = f"{MODULE}.core"

_TEMPLATE = """\
CAPI=2:
# Try: fusesoc --cores-root . run --target lint {vlnv}
name: "{vlnv}"
description: "{description}"

filesets:
  rtl:
    files:
      - {design}
      - {memories}
    file_type: verilogSource
  lint:
    files:
      - {waivers}: {{file_type: vlt}}
  xdc:
    files:
      - {xdc}: {{file_type: xdc}}
  sdc:
    files:
      - {sdc}: {{file_type: SDC}}

targets:
  default:
    filesets: [rtl]
    toplevel: {module}

  lint:
    description: Verilator, every warning on
    flow: lint
    flow_options:
      tool: verilator
      verilator_options: [-Wall]
    filesets: [lint, rtl]
    toplevel: {module}

  synth:
    description: Vivado, out of context
    default_tool: vivado
    filesets: [rtl, xdc]
    toplevel: {module}
    tools:
      vivado:
        part: xczu3eg-sbva484-1-e
        pnr: none
"""


def core_file(vlnv: str, description: str, paths: dict[str, str]) -> str:
    """Return the core file.

    Parameters
    ----------
    vlnv : str
        Vendor, library, name and version, joined by colons.
    description : str
        One sentence, without quotes.
    paths : dict of str to str
        Files of the package by use: `design`, `memories`, `waivers`, `xdc`, `sdc`.
    """
    return _TEMPLATE.format(vlnv=vlnv, description=description, module=MODULE, **paths)
