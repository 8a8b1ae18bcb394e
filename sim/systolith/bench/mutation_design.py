"""One design with many mutants in it, each of which acts when it is chosen.

    Verilog -> flattened netlist -> candidates of yosys -> drawn by block -> one Verilog

A mutant changes one bit of one pin of one cell of the optimized netlist: inverted, stuck at zero or
one, or combined with another bit of the same pin. Cells that cannot reach an output are gone before.
"""

import inspect
import json
import math
import re
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import ToolchainError
from systolith.bench import late_start
from systolith.bench.rtl import build, mutant, verilog_of
from systolith.boards.tools import run_tool

SELECT = "mutant_select"
"""Wire of the flattened top with the number of the mutant that acts."""

CANDIDATES = 4000
"""Candidates that yosys lists, spread over its cells and wires; mutants are drawn from them."""

_PREPARE = (
    "read_verilog device.v",
    f"hierarchy -top {build.TOP}",
    f"setattr -set keep 1 {build.TOP}/w:progress_*",
    "proc",
    "flatten",
    # What is written of parallel multiplexers would not be read again.
    "pmuxtree",
    "opt",
    "wreduce",
    "memory_collect",
    # Bits that nothing reads are no mutants: cells are split until only bits are left that are read.
    # Nor are choices between a value and none: either makes the same hardware.
    *("opt_mem", "splitcells", "opt_expr -mux_undef", "opt_clean") * 3,
    "opt",
)
_SECONDS = 900.0
_MODULE = re.compile(r"^module (\S+?)\s*\(", re.MULTILINE)
_LINE = re.compile(r"^\w+\.v:(\d+)")
_CLOCKS = re.compile(r" -port (CLK|RD_CLK|WR_CLK|RD_ARST|RD_SRST) ")  # no logic of ours
_SELECT_PORT = re.compile(rf"^  input (\[\d+:0\]) {SELECT};\n  wire \[\d+:0\] {SELECT};\n", re.M)


@dataclass(frozen=True)
class Mutation:
    """One change of the netlist.

    Parameters
    ----------
    block : str
        Module of the original Verilog that the cell comes from, without the top's name.
    signal : str
        A named bit nearby, as yosys gives it, or the cell.
    change : str
        `inv`, `const0`, `const1`, `cnot0` or `cnot1`, and the pin.
    options : str
        What yosys needs to apply it.
    """

    block: str
    signal: str
    change: str
    options: str

    @property
    def group(self) -> str:
        """Engine or memory that the block belongs to."""
        return self.block.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.block}: {self.change} at {self.signal}"


@dataclass(frozen=True)
class MutatedDesign:
    """A Verilog text and the mutants in it.

    Parameters
    ----------
    verilog : str
        Its top asks `mutant.cpp` for the number of the mutant that acts, and where counts begin.
    mutations : tuple of Mutation
        Mutant number n is the one at n - 1; number zero is the design as it is.
    netlist : str
        The flattened design without mutants, in yosys' own language.
    """

    verilog: str
    mutations: tuple[Mutation, ...]
    netlist: str


def yosys(script: Sequence[str], folder: Path, seconds: float = _SECONDS) -> str:
    """Run a script of yosys in a folder and return what it prints.

    Raises
    ------
    ToolchainError
        Yosys is missing, fails or takes too long.
    """
    (folder / "run.ys").write_text("\n".join(script) + "\n", encoding="utf-8")
    try:
        return str(run_tool("yosys", ["-q", "run.ys"], folder=folder, seconds=seconds))
    except ToolchainError as error:
        raise ToolchainError(f"Yosys must accept the design, but: {error}") from error


def mutated(config: AcceleratorConfig, count: int, seed: int) -> MutatedDesign:
    """Return the design of a configuration with mutants in it; made once per state of the gateware.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    count : int
        Mutants, at least; each group's share is rounded up.
    seed : int
        Seed of the choice.
    """
    original = verilog_of(config)
    source = Path(__file__).read_text(encoding="utf-8")
    late = inspect.getsource(late_start)
    key = build.digest([original, source, late, str(count), str(seed)])

    def make(path: Path) -> None:
        with tempfile.TemporaryDirectory(prefix="systolith-") as scratch:
            design = _make(original, count, seed, Path(scratch))
        design = replace(design, verilog=late_start.count_late(design.verilog))
        path.write_text(json.dumps(asdict(design)), encoding="utf-8")

    path = build.cached(build.cache_folder() / "mutation" / f"{key}.json", make)
    data = json.loads(path.read_text(encoding="utf-8"))
    mutations = tuple(Mutation(**fields) for fields in data["mutations"])
    return MutatedDesign(data["verilog"], mutations, data["netlist"])


def _make(original: str, count: int, seed: int, folder: Path) -> MutatedDesign:
    (folder / "device.v").write_text(original, encoding="utf-8")
    listing = f"mutate -list {CANDIDATES} -seed {seed} -o list.txt"
    yosys([*_PREPARE, listing, "write_rtlil flat.il"], folder)
    lines = (folder / "list.txt").read_text(encoding="utf-8").splitlines()
    candidates = (parse(line, original) for line in lines if not _CLOCKS.search(line))
    chosen = draw(list(candidates), count)
    width = len(chosen).bit_length()
    apply = [
        f"mutate -ctrl {SELECT} {width} {number} {mutation.options}"
        for number, mutation in enumerate(chosen, 1)
    ]
    yosys(["read_rtlil flat.il", *apply, "opt_clean", "write_verilog -noattr mutated.v"], folder)
    text = (folder / "mutated.v").read_text(encoding="utf-8")
    return MutatedDesign(_ask(text), tuple(chosen), (folder / "flat.il").read_text("utf-8"))


def _ask(text: str) -> str:
    """Replace the port that yosys adds by a register that is set once, by `mutant.cpp`."""
    text, found = _SELECT_PORT.subn(
        rf"  reg \1 {SELECT};\n"
        '  import "DPI-C" function int systolith_mutant();\n'
        f"  initial {SELECT} = systolith_mutant();\n",
        text,
    )
    text, listed = re.subn(rf"(, {SELECT}\b|\b{SELECT}, )", "", text, count=1)
    if found != 1 or listed != 1:
        raise ToolchainError(f"Yosys must add the input {SELECT} to the top, and did not")
    return text


def parse(line: str, original: str) -> Mutation:
    """Return a line of `mutate -list` as a mutation; the block follows from the line of the Verilog."""
    words = line.split()
    pairs = list(zip(words[1::2], words[2::2], strict=True))
    fields = dict(reversed(pairs))
    options = " ".join(
        f"{name} {value}" for name, value in pairs if name not in ("-wire", "-wirebit", "-src")
    )
    signal = fields.get("-wire", fields["-cell"])
    bit = f"[{fields['-wirebit']}]" if "-wirebit" in fields else ""
    pin = f"{fields['-port']}[{fields['-portbit']}]"
    if "-ctrlbit" in fields:
        pin += f" by [{fields['-ctrlbit']}]"
    return Mutation(
        block=_block(fields.get("-src", ""), original),
        signal=signal.replace("\\", "") + bit,
        change=f"{fields['-mode']} of {pin}",
        options=options,
    )


def _block(source: str, original: str) -> str:
    line = _LINE.match(source)
    if line is None:
        return build.TOP
    before = "\n".join(original.split("\n", int(line[1]))[: int(line[1])])
    name = _MODULE.findall(before)[-1].removeprefix("\\")
    return str(name).removeprefix(f"{build.TOP}.").removeprefix("core.")


def draw(candidates: Sequence[Mutation], count: int) -> list[Mutation]:
    """Return candidates of every group, each group in its order.

    A group's share is that of the square root of its candidates: large blocks are not all there is.
    """
    groups: defaultdict[str, list[Mutation]] = defaultdict(list)
    for candidate in candidates:
        groups[candidate.group].append(candidate)
    roots = {name: math.sqrt(len(members)) for name, members in groups.items()}
    scale = count / sum(roots.values())
    return [
        candidate
        for name, members in sorted(groups.items())
        for candidate in members[: math.ceil(roots[name] * scale)]
    ]


def library_of(config: AcceleratorConfig, design: MutatedDesign) -> Path:
    """Return the simulator of a mutated design, built once."""
    return build.build_library(design.verilog, axi_bytes=config.axi_bytes, extras=(mutant.SOURCE,))
