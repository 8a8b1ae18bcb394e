"""What an array takes on Xilinx devices, by the multipliers that it is made of.

The array alone is synthesized by yosys; nothing is placed or routed. Of DSP blocks it is told how
many there are, how many have registers at both operands, the product and the sum inside, and how
many take their sum from the block above.
"""

import argparse
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from systolith.arch.errors import ToolchainError
from systolith.boards.tools import run_tool, version_of

CASES: tuple[tuple[str, str, int, int, int], ...] = (
    ("xc7", "plain", 8, 8, 2),
    ("xc7", "pair25", 8, 8, 2),
    ("xc7", "plain", 16, 16, 3),
    ("xc7", "pair25", 16, 16, 3),
    ("xcup", "plain", 8, 8, 2),
    ("xcup", "pair27", 8, 8, 2),
    ("xcup", "plain", 16, 16, 3),
    ("xcup", "pair27", 16, 16, 3),
)
"""Family of `synth_xilinx`, multiplier, rows, columns and feeds."""

HEADER = """\
| family | `multiplier` | array | feeds | DSP | registers inside | cascaded | LUT | FF | SRL | carry |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""

_SECONDS = 7200
_REGISTERS = ("AREG", "BREG", "MREG", "PREG")


@dataclass(frozen=True, slots=True)
class Cells:
    """Cells of a netlist.

    Parameters
    ----------
    dsp : int
        DSP blocks.
    registered : int
        Those with both operands, product and sum in registers of their own.
    cascaded : int
        Those whose sum starts from that of another block.
    lut, ff, srl, carry : int
        Lookup tables, flip-flops, shift registers of lookup tables, carry blocks.
    """

    dsp: int
    registered: int
    cascaded: int
    lut: int
    ff: int
    srl: int
    carry: int


def count(netlist: Mapping[str, Any]) -> Cells:
    """Return the cells of a flat netlist, as `write_json` of yosys gives a module."""
    types: Counter[str] = Counter()
    registered = cascaded = 0
    for cell in netlist["cells"].values():
        types[cell["type"]] += 1
        if cell["type"].startswith("DSP48"):
            values = [cell["parameters"].get(name, "0") for name in _REGISTERS]
            registered += all(int(str(value), 2) > 0 for value in values)
            # Bits of a signal are numbers, constants are strings.
            cascaded += any(isinstance(bit, int) for bit in cell["connections"].get("PCIN", ()))

    def total(*prefixes: str) -> int:
        return sum(number for name, number in types.items() if name.startswith(prefixes))

    return Cells(
        dsp=total("DSP48"),
        registered=registered,
        cascaded=cascaded,
        lut=total("LUT"),
        ff=total("FD"),
        srl=total("SRL"),
        carry=total("CARRY"),
    )


def synthesize(rtlil: str, family: str) -> Cells:
    """Return what yosys makes of a design, whose top is `top`.

    Parameters
    ----------
    rtlil : str
        The design.
    family : str
        Family of `synth_xilinx`.

    Raises
    ------
    ToolchainError
        Yosys is missing or failed.
    """
    script = (
        f"read_rtlil design.il; synth_xilinx -family {family} -flatten -noiopad -noclkbuf "
        "-top top; write_json netlist.json"
    )
    with tempfile.TemporaryDirectory(prefix="systolith-") as scratch:
        folder = Path(scratch)
        (folder / "design.il").write_text(rtlil, encoding="utf-8")
        run_tool("yosys", ["-q", "-p", script], folder=folder, seconds=_SECONDS)
        netlist = json.loads((folder / "netlist.json").read_text(encoding="utf-8"))
    return count(netlist["modules"]["top"])


def rtlil_of(multiplier: str, rows: int, cols: int, feeds: int) -> str:
    """Return the array alone, as RTLIL with the top `top`."""
    try:
        from systolith.gateware import array
    except ImportError as error:
        raise ToolchainError(
            f'Generating hardware needs the package "amaranth", which cannot be imported ({error}); '
            'run "make setup"'
        ) from error
    return str(array.rtlil_of(multiplier, rows=rows, cols=cols, feeds=feeds))


def row(family: str, multiplier: str, rows: int, cols: int, feeds: int) -> str:
    """Synthesize one array and return its row of the table."""
    cells = synthesize(rtlil_of(multiplier, rows, cols, feeds), family)
    values = (
        family, f"`{multiplier}`", f"{rows}x{cols}", feeds, cells.dsp, cells.registered,
        cells.cascaded, f"{cells.lut:,}", f"{cells.ff:,}", f"{cells.srl:,}", f"{cells.carry:,}",
    )  # fmt: skip
    return f"| {' | '.join(map(str, values))} |"


def main() -> int:
    """Print the table of all cases, or of those whose arrays have at most some cells."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cells", type=int, help="only arrays of at most so many cells")
    options = parser.parse_args()
    print(f"{version_of('yosys')}:\n\n{HEADER}")
    for case in CASES:
        if options.cells is None or case[2] * case[3] <= options.cells:
            print(row(*case), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
