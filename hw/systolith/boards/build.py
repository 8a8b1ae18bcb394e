"""From a board and a configuration to a bitstream, or to sources and a script."""

import json
from dataclasses import dataclass
from pathlib import Path

from systolith.arch.errors import ConfigError, ToolchainError

from .fit import Usage, check_bounds, check_usage
from .tools import find_tool, run_tool
from .wrapper import BoardWrapper

OPEN_TOOLS = ("yosys", "nextpnr-ecp5", "ecppack")

ROUTE_MINUTES = 120.0
"""Time for place and route: for half of a chip, both took 27 minutes of a processor."""

ROUTE_SEED = 2
"""Start of the random numbers of place and route; another one makes about 10 % of the frequency."""

_FAST_ROUTER_SHARE = 0.45
"""Share of the lookup tables up to which router2 ends; it was seen to at 38 %, and not at 52 %."""

_DEVICE_OPTION = {"LFE5U-85F": "--85k", "LFE5UM5G-85F": "--um5g-85k"}
_PACKAGE_OPTION = {"BG381": "CABGA381", "MG285": "CSFBGA285"}

# Names of cells after `synth_ecp5`. A carry cell of two bits and a distributed memory of four take
# the place of two and six lookup tables.
_LUT_WEIGHTS = {"LUT4": 1, "CCU2C": 2, "TRELLIS_DPR16X4": 6}
_BLOCK_RAMS = ("DP16KD", "PDPW16KD")


@dataclass(frozen=True, kw_only=True)
class BuildResult:
    """What a build has made.

    Parameters
    ----------
    files : list of Path
        The files for users; of a bitstream, it is the first.
    usage : Usage or None
        What the design takes; None where no tool has run.
    fmax_hz, clock_hz : float
        Frequency that place and route reached, and the one it was built for; 0 where none.
    limit : str
        Where the slowest path begins and ends.
    """

    files: list[Path]
    usage: Usage | None = None
    fmax_hz: float = 0
    clock_hz: float = 0
    limit: str = ""


def _file_stem(board):
    """Return what the files of a build are called, and the module of its top."""
    return board.name.replace("-", "_")


def count_cells(netlist):
    """Return the cells of a netlist that yosys wrote as JSON, by type."""
    modules = json.loads(Path(netlist).read_text(encoding="utf-8"))["modules"]
    top = next(m for m in modules.values() if int(m["attributes"].get("top", "0"), 2))
    counts: dict[str, int] = {}
    for cell in top["cells"].values():
        counts[cell["type"]] = counts.get(cell["type"], 0) + 1
    return counts


def usage_ecp5(cells):
    """Return what cells of an ECP5 take."""
    return Usage(
        luts=sum(weight * cells.get(name, 0) for name, weight in _LUT_WEIGHTS.items()),
        registers=cells.get("TRELLIS_FF", 0),
        multipliers=cells.get("MULT18X18D", 0),
        block_rams=sum(cells.get(name, 0) for name in _BLOCK_RAMS),
    )


def slowest_path(report):
    """Return the lowest frequency of a report of nextpnr in Hz, the one asked for, and its path."""
    name, clock = min(report["fmax"].items(), key=lambda item: item[1]["achieved"])
    for path in report["critical_paths"]:
        if path["from"] == path["to"] and path["from"].split()[-1] == name:
            steps = path["path"]
            begin, end = steps[0]["from"]["cell"], steps[-1]["to"]["cell"]
            return clock["achieved"] * 1e6, clock["constraint"] * 1e6, f"{begin} to {end}"
    return clock["achieved"] * 1e6, clock["constraint"] * 1e6, ""


def build(
    board,
    config,
    folder,
    *,
    clock_hz=None,
    do_build=True,
    must_meet=True,
    minutes=ROUTE_MINUTES,
    seed=ROUTE_SEED,
):
    """Build for a board: a bitstream with open tools, else sources and a script.

    Parameters
    ----------
    board : Board
        The board; one whose processor is the host takes a package instead (:mod:`systolith.package`).
    config : AcceleratorConfig
        The accelerator, see :func:`~systolith.boards.catalog.board_config`.
    folder : str or Path
        Where to write; made if need be.
    clock_hz : int, optional
        Its frequency; by default the one of :meth:`~systolith.boards.base.Board.clock_of`.
    do_build : bool
        Run the open tools; otherwise their inputs are written only.
    must_meet : bool
        A frequency below the one asked for is an error.
    minutes : float
        Time for place and route.
    seed : int
        Start of its random numbers.

    Raises
    ------
    ConfigError
        The board's host is a processor, or its PLL cannot make the clock.
    AllocationError
        The design does not fit: the resource is named, with what is needed and available.
    ToolchainError
        A tool is missing, failed or took too long, or the timing was not met.
    """
    if board.processor:
        raise ConfigError(
            f'Board "{board.name}" must be built as a package, because its host is a processor'
        )
    clock_hz = clock_hz or board.clock_of(config.name)
    check_bounds(config, board.device, board.memory_bytes)
    opens = board.tools == "open" and do_build
    for tool in OPEN_TOOLS if opens else ():
        find_tool(tool)
    platform = board.load_platform()
    folder = Path(folder)
    plan = platform.prepare(BoardWrapper(board, config, clock_hz), _file_stem(board))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        plan.extract(folder)
    except OSError as error:
        raise ToolchainError(
            f'Folder "{folder}" must be writable for the build: {error.strerror}'
        ) from error
    if not opens:
        return BuildResult(files=sorted(folder / file for file in plan.files), clock_hz=clock_hz)
    result = _build_ecp5(
        board, config, platform, folder, clock_hz=clock_hz, minutes=minutes, seed=seed
    )
    if must_meet and result.fmax_hz < result.clock_hz:
        raise ToolchainError(
            f'Board "{board.name}" must run at {result.clock_hz / 1e6:.1f} MHz, but place and route '
            f"reached {result.fmax_hz / 1e6:.1f} MHz ({result.limit}); ask for a slower clock"
        )
    return result


def _build_ecp5(board, config, platform, folder, *, clock_hz, minutes, seed):
    """Run synthesis, place and route, and the packer on what `platform` has written."""
    name = _file_stem(board)
    run_tool("yosys", ["-q", "-l", f"{name}.rpt", f"{name}.ys"], folder=folder)
    usage = usage_ecp5(count_cells(folder / f"{name}.json"))
    check_usage(f'Configuration "{config.name}" on board "{board.name}"', board.device, usage)
    fast = usage.luts <= _FAST_ROUTER_SHARE * board.device.luts
    arguments = [
        "--quiet", _DEVICE_OPTION[platform.device], "--package", _PACKAGE_OPTION[platform.package],
        "--speed", platform.speed, "--freq", clock_hz / 1e6, "--seed", seed,
        # What the default placer makes needs two fifths more wire, and could not be routed.
        "--placer", "static", "--router", "router2" if fast else "router1",
        "--timing-allow-fail",
        "--json", f"{name}.json", "--lpf", f"{name}.lpf", "--textcfg", f"{name}.config",
        "--log", f"{name}.tim", "--report", f"{name}_timing.json",
    ]  # fmt: skip
    remedy = "choose a smaller configuration, or give it more time"
    run_tool("nextpnr-ecp5", arguments, folder=folder, seconds=60 * minutes, remedy=remedy)
    report = json.loads((folder / f"{name}_timing.json").read_text(encoding="utf-8"))
    reached, asked, limit = slowest_path(report)
    packed = ["--compress", "--input", f"{name}.config", "--bit", f"{name}.bit"]
    run_tool("ecppack", packed, folder=folder)
    return BuildResult(
        files=[folder / f"{name}.bit", folder / f"{name}_timing.json", folder / f"{name}.tim"],
        usage=usage,
        fmax_hz=reached,
        clock_hz=asked,
        limit=limit,
    )
