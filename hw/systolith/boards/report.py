"""What accelerators take of devices, from runs of real tools, and the table that shows it.

Figures are kept in a JSON file, one entry per run, written as soon as the run is over; the table is
made of what is there. Nothing in it is estimated.
"""

import json
import re
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from amaranth.back import rtlil

from systolith.arch.config import DEEP
from systolith.arch.errors import ConfigError, InputError
from systolith.arch.presets import PRESETS
from systolith.gateware.top import Top

from .build import build, count_cells, usage_ecp5
from .catalog import board_config, find
from .tools import run_tool, version_of

BLOCK = "report"
"""Block of a document that holds the tables."""

_TOP = "systolith"
_ULX3S = find("ulx3s")
_MHZ = 1e6

# Largest LUT of a family first; a carry cell counts as what it is, not as LUTs.
_XILINX_LUTS = tuple(f"LUT{inputs}" for inputs in range(1, 7))
_XILINX_REGISTERS = ("FDRE", "FDSE", "FDCE", "FDPE")
_XILINX_MULTIPLIERS = ("DSP48E1", "DSP48E2")
_XILINX_RAMS = {"RAMB36E1": 1.0, "RAMB18E1": 0.5, "RAMB36E2": 1.0, "RAMB18E2": 0.5}
_XILINX_LUT_RAMS = {"RAM32M": 4, "RAM64M": 4, "RAM32X1D": 2, "RAM64X1D": 2, "RAM32M16": 8}
_SHIFT_REGISTERS = ("SRL16E", "SRLC32E")
_ICE40_RAMS = ("SB_RAM40_4K", "SB_RAM40_4KNR", "SB_RAM40_4KNW", "SB_RAM40_4KNRNW")


@dataclass(frozen=True, kw_only=True)
class Run:
    """One run: a configuration on a target.

    Parameters
    ----------
    target : str
        `ulx3s` (place and route of the whole board), `ecp5`, `xc7`, `xcup`, `ice40up5k` (synthesis
        of the accelerator), or `gates` (the same in simple gates, memories left out).
    config : str
        Preset.
    """

    target: str
    config: str

    @property
    def name(self):
        """What the figures are kept under."""
        return f"{self.target}/{self.config}"


RUNS = (
    Run(target="ulx3s", config="edge-8x8"),
    Run(target="ulx3s", config="tiny-4x4"),
    Run(target="ulx3s", config="edge-10x12"),
    Run(target="ecp5", config="tiny-4x4"),
    Run(target="ecp5", config="edge-8x8"),
    Run(target="ecp5", config="edge-10x12"),
    Run(target="xc7", config="tiny-4x4"),
    Run(target="xc7", config="edge-8x8"),
    Run(target="xcup", config="tiny-4x4"),
    Run(target="xcup", config="edge-8x8"),
    Run(target="ice40up5k", config="tiny-4x4"),
    Run(target="gates", config="tiny-4x4"),
    Run(target="gates", config="edge-8x8"),
)

SCRIPTS = {
    "ecp5": "synth_ecp5 -top {top}",
    "xc7": "synth_xilinx -family xc7 -flatten -abc9 -top {top}",
    "xcup": "synth_xilinx -family xcup -flatten -abc9 -top {top}",
    "ice40up5k": "synth_ice40 -device u -dsp -top {top}",
    # As `synth`, but memories stay what they are.
    "gates": (
        "synth -top {top} -flatten -run begin:fine; opt -fast -full; techmap; opt -fast; "
        "abc -g AND,NAND,OR,NOR,XOR,XNOR,MUX,AOI3,OAI3; opt_clean"
    ),
}
"""Commands of yosys for each target that is only synthesized."""

_DEVICES = {
    "ulx3s": "ECP5 LFE5U-85F, speed 6",
    "ecp5": "ECP5",
    "xc7": "Xilinx 7-series",
    "xcup": "Xilinx UltraScale+",
    "ice40up5k": "iCE40 UP5K",
    "gates": "simple gates, memories apart",
}
_UP5K = {"luts": 5280, "multipliers": 8, "block_rams": 30}
"""What an iCE40 UP5K has."""
_NOTHING = {"runs": {}, "tools": {}}
"""Figures before the first run."""


def chosen_runs(names, path):
    """Return the runs of these names, or all of which there are no figures.

    Raises
    ------
    ConfigError
        There is no run of a name.
    """
    known = {run.name: run for run in RUNS}
    for name in names:
        if name not in known:
            raise ConfigError(f'Run "{name}" must be one of {", ".join(known)}')
    if names:
        return [known[name] for name in names]
    done = _read(path)["runs"]
    return [run for name, run in known.items() if name not in done]


def measure(run, path):
    """Run the tools, and write the figures beside those of other runs.

    Raises
    ------
    AllocationError, ToolchainError
        As of :func:`~systolith.boards.build.build`.
    """
    figures = _place(run) if run.target == "ulx3s" else _synthesize(run)
    everything = _read(path)
    runs = everything["runs"] | {run.name: figures}
    tools = {"yosys"} | ({"nextpnr-ecp5"} if run.target == "ulx3s" else set())
    versions = everything["tools"] | {tool: version_of(tool) for tool in sorted(tools)}
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"runs": runs, "tools": versions}, indent=1, sort_keys=True) + "\n"
    Path(path).write_text(text, encoding="utf-8")


def _place(run):
    """Build the whole board."""
    result = build(
        _ULX3S,
        board_config(_ULX3S, run.config),
        Path("build") / "report" / run.config,
        must_meet=False,
    )
    return {
        **asdict(result.usage),
        "fmax_mhz": round(result.fmax_hz / _MHZ, 2),
        "clock_mhz": round(result.clock_hz / _MHZ, 2),
        "limit": result.limit,
    }


def _synthesize(run):
    """Count the cells of the accelerator alone."""
    config = board_config(_ULX3S, run.config) if run.target == "ecp5" else PRESETS[run.config]
    with tempfile.TemporaryDirectory() as folder:
        design = Path(folder) / "design.il"
        text = rtlil.convert(Top(config), name=_TOP, emit_src=False)
        design.write_text(text, encoding="utf-8")
        script = SCRIPTS[run.target].format(top=_TOP)
        final = "write_json netlist.json"
        if run.target == "gates":
            final += "; tee -o stat.txt stat -tech cmos"
        run_tool("yosys", ["-q", "-p", f"read_rtlil design.il; {script}; {final}"], folder=folder)
        cells = count_cells(Path(folder) / "netlist.json")
        if run.target == "gates":
            return _gates(cells, (Path(folder) / "stat.txt").read_text(encoding="utf-8"))
    counts = {"ecp5": _ecp5, "ice40up5k": _ice40}
    return counts.get(run.target, _xilinx)(cells)


def _total(cells, names):
    if isinstance(names, dict):
        return sum(weight * cells.get(name, 0) for name, weight in names.items())
    return sum(cells.get(name, 0) for name in names)


def _ecp5(cells):
    return asdict(usage_ecp5(cells))


def _xilinx(cells):
    return {
        "luts": _total(cells, _XILINX_LUTS)
        + _total(cells, _XILINX_LUT_RAMS)
        + _total(cells, _SHIFT_REGISTERS),
        "registers": _total(cells, _XILINX_REGISTERS),
        "multipliers": _total(cells, _XILINX_MULTIPLIERS),
        "block_rams": _total(cells, _XILINX_RAMS),
    }


def _ice40(cells):
    return {
        "luts": cells.get("SB_LUT4", 0),
        "registers": sum(n for name, n in cells.items() if name.startswith("SB_DFF")),
        "multipliers": cells.get("SB_MAC16", 0),
        "block_rams": _total(cells, _ICE40_RAMS),
    }


def _gates(cells, statistics):
    """Count gates, and transistors as yosys does."""
    logic = {
        name: count
        for name, count in cells.items()
        if name.startswith("$_") and "DFF" not in name and "LATCH" not in name
    }
    found = re.search(r"Estimated number of transistors:\s*(\d+)", statistics)
    return {
        "gates": sum(logic.values()),
        "registers": sum(n for name, n in cells.items() if name.startswith("$_") and "DFF" in name),
        "transistors": int(found[1]) if found else 0,
    }


def _read(path, absent=_NOTHING):
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return absent
    except (OSError, ValueError) as error:
        raise InputError(
            f'Figures "{path}" must be JSON as systolith wrote them: {error}'
        ) from error


def render(path, results="docs/results.json"):
    """Return the tables in Markdown.

    Parameters
    ----------
    path : str or Path
        Figures.
    results : str or Path
        Cycles per inference, as `systolith bench --json` writes them; may be missing.
    """
    figures = _read(path)
    runs = {run: figures["runs"].get(run.name) for run in RUNS}
    done = [(run, found) for run, found in runs.items() if found]
    placed = [(run, found) for run, found in done if "fmax_mhz" in found]
    missing = [run.name for run, found in runs.items() if not found]
    parts = [
        _device_table([(run, found) for run, found in done if run.target != "gates"]),
        _limits(placed),
        _rate_table(placed, _cycles(results)),
        _gate_table([(run, found) for run, found in done if run.target == "gates"]),
        [f"Not measured: {', '.join(f'`{name}`' for name in missing)}."] if missing else [],
        ["Tools: " + ", ".join(found for _, found in sorted(figures["tools"].items())) + "."],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines) + "\n"


def _table(header, rows):
    """Return the lines of a table, none without rows."""
    if not rows:
        return []
    return [f"| {' | '.join(row)} |" for row in (header, ["---"] * len(header), *rows)]


def _device_table(runs):
    header = [
        "target", "configuration", "LUT", "FF", "multipliers", "block RAM", "Fmax MHz",
        "LUT per MAC", "multipliers per MAC",
    ]  # fmt: skip
    rows = []
    for run, found in runs:
        macs = PRESETS[run.config].macs
        target = _DEVICES[run.target] + (", whole board" if run.target == "ulx3s" else "")
        over = run.target == "ice40up5k" and any(found[name] > n for name, n in _UP5K.items())
        rows.append(
            [
                target + (" (does not fit)" if over else ""),
                f"`{run.config}`",
                *(
                    f"{found[name]:,.10g}"
                    for name in ("luts", "registers", "multipliers", "block_rams")
                ),
                f"{found['fmax_mhz']:.1f}" if "fmax_mhz" in found else "",
                f"{found['luts'] / macs:.0f}",
                f"{found['multipliers'] / macs:.2f}",
            ]
        )
    return _table(header, rows)


def _limits(runs):
    return [
        f"`{run.config}` on the {_DEVICES[run.target]} was built for {found['clock_mhz']:g} MHz; its "
        f"slowest path goes from `{found['limit'].replace(' to ', '` to `')}`."
        for run, found in runs
    ]


def _gate_table(runs):
    header = ["configuration", "gates", "flip-flops", "transistors", "gates per MAC"]
    rows = [
        [
            f"`{run.config}`",
            f"{found['gates']:,}",
            f"{found['registers']:,}",
            f"{found['transistors']:,}",
            f"{found['gates'] / PRESETS[run.config].macs:.0f}",
        ]
        for run, found in runs
    ]
    return _table(header, rows)


def _rate_table(runs, cycles):
    """Inferences per second: the frequency reached by cycles with a deep pipeline."""
    header = ["network", "configuration", "cycles", "MHz", "inferences per second"]
    rows = [
        [network, f"`{run.config}`", f"{count:,}", f"{found['fmax_mhz']:.1f}",
         f"{found['fmax_mhz'] * _MHZ / count:,.0f}"]
        for run, found in runs
        for (network, config), count in cycles.items()
        if config == run.config + DEEP
    ]  # fmt: skip
    return _table(header, rows)


def _cycles(results):
    """Return cycles by network and configuration."""
    networks = _read(results, {"networks": []})["networks"]
    return {(figure["model"], figure["config"]): figure["cycles"] for figure in networks}
