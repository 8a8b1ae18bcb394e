"""Coverage of the gateware: simulators that count run random programs, layers, hostile streams and faults.

Each configuration is its own design, so points are counted for each and their reached ones added up.
Holes that are waived have a name and a reason, :data:`WAIVERS`.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from systolith.arch.blocks import rewrite_block
from systolith.arch.config import AcceleratorConfig
from systolith.bench import coverage_data, late_start, toolchain
from systolith.bench.coverage_data import KINDS, TOGGLE, Counts, Point
from systolith.bench.coverage_stimuli import SOURCES, stimulate
from systolith.bench.coverage_waivers import WAIVERS, waiver_of
from systolith.bench.markdown import table
from systolith.bench.random_config import find_any_config
from systolith.bench.rtl import build, mutant, verilog_of

CONFIGS = (
    "micro-4x3",
    "micro-4x3-deep",
    "micro-4x3-full",
    "micro-4x4-pair25",
    "micro-3x2-lean",
    "tiny-4x4",
    "odd-5x6",
    "odd-7x3",
)
GOALS = {"line": 0.95, "branch": 0.95, TOGGLE: 0.90}
BLOCK = "coverage"
DOCUMENT = Path("docs/VERIFICATION.md")
FIGURES = Path("docs/coverage.json")
"""What the plan of verification shows of the coverage of each block."""

_FAILED = 3
_BLOCK_DEPTH = 3  # top, core, block


def design_of(config: AcceleratorConfig) -> str:
    """Return the Verilog in which coverage is counted: its counters may begin late."""
    return late_start.count_late_in_modules(verilog_of(config), build.TOP)


def measure(config: AcceleratorConfig, cases: int) -> Counts:
    """Return how often each point of a configuration was reached.

    Raises
    ------
    ToolchainError
        The simulator cannot be built here.
    """
    verilog = design_of(config)
    ports = coverage_data.ports_of(verilog)
    added = {n for n, line in enumerate(verilog.splitlines(), 1) if late_start.LATE in line}
    total: Counter[str] = Counter()
    with _counting(config, verilog) as folder:
        for _ in stimulate(config, cases):
            for path in folder.glob("*.dat"):
                total.update(coverage_data.tally(path))
                path.unlink()
    return coverage_data.points(total, ports, coverage_data.triggers_of(verilog) | added)


def measured(config: AcceleratorConfig, cases: int) -> Counts:
    """Return what :func:`measure` does, once for each state of hardware, counters and stimuli."""
    sources = [Path(name).read_text(encoding="utf-8") for name in SOURCES]
    counters = (*build.COVERAGE_FLAGS, toolchain.coverage_header())
    key = build.digest([design_of(config), str(cases), *counters, *sources])

    def make(path: Path) -> None:
        path.write_text(coverage_data.dump(measure(config, cases)), encoding="utf-8")

    path = build.cached(build.cache_folder() / "coverage" / f"{config.name}-{key}.json", make)
    return coverage_data.load(path.read_text(encoding="utf-8"))


@contextlib.contextmanager
def _counting(config: AcceleratorConfig, verilog: str) -> Iterator[Path]:
    """Let all simulators of a configuration be one that leaves its coverage in a folder."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory(prefix="systolith-coverage-") as name:
        os.environ[build.COVERAGE_VARIABLE] = name
        try:
            library = build.build_library(
                verilog, axi_bytes=config.axi_bytes, extras=(mutant.SOURCE,)
            )
            os.environ[mutant.VARIABLE] = str(mutant.Mutant(config.name, library, 0))
            yield Path(name)
        finally:
            os.environ.clear()
            os.environ.update(before)


def sort_holes(counts: Counts, verilog: str) -> dict[str, list[Point]]:
    """Return the points that were never reached by the name of their waiver, "" if they have none."""
    found: dict[str, list[Point]] = {}
    names = coverage_data.Names(verilog)
    for point in coverage_data.holes(counts):
        waiver = waiver_of(names.text_of(point))
        found.setdefault(waiver.name if waiver else "", []).append(point)
    return found


def report(measured: Sequence[tuple[str, Counts, str]]) -> tuple[list[str], bool]:
    """Return the lines of the document, and whether goals are met and all holes have a name.

    Parameters
    ----------
    measured : sequence of (str, Counts, str)
        Configurations: name, points, Verilog.
    """
    rows = []
    named: Counter[tuple[str, str]] = Counter()
    sums = {kind: [0, 0] for kind in KINDS}
    for name, counts, verilog in measured:
        for waiver, points in sort_holes(counts, verilog).items():
            named.update((waiver, point.kind) for point in points)
        row = [f"`{name}`"]
        for kind in KINDS:
            reached, points_of_kind = coverage_data.share(counts, kind)
            sums[kind][0] += reached
            sums[kind][1] += points_of_kind
            row.append(_percent(reached, points_of_kind))
        rows.append(row)
    rows.append(["**all**", *(_percent(*sums[kind]) for kind in KINDS)])
    lines = table(("configuration", *KINDS), rows, text=1)
    lines += ["", "Not reached, in all configurations together:", ""]
    holes = [
        [waiver.name, waiver.reason, *(f"{named[waiver.name, kind]:,}" for kind in KINDS)]
        for waiver in WAIVERS
    ]
    unnamed = [named["", kind] for kind in KINDS]
    holes.append(["without a name", "", *(f"{count:,}" for count in unnamed)])
    lines += table(("what", "why", *KINDS), holes)
    met = all(sums[kind][0] >= goal * sums[kind][1] for kind, goal in GOALS.items())
    return lines, met and not any(unnamed)


def _percent(reached: int, points: int) -> str:
    return f"{100 * reached / points:.2f} % of {points:,}" if points else "nothing to reach"


def by_block(measured: Sequence[tuple[str, Counts, str]]) -> dict[str, dict[str, list[int]]]:
    """Return how many points were reached, and how many there are, by block and kind of point.

    A block is an instance of the core, with all below it; the core itself and the top are two more.
    """
    sums: dict[str, dict[str, list[int]]] = {}
    for _, counts, _ in measured:
        for point, count in counts.items():
            kinds = sums.setdefault(block_of(point), {kind: [0, 0] for kind in KINDS})
            kinds[point.kind][0] += count > 0
            kinds[point.kind][1] += 1
    return {block: sums[block] for block in sorted(sums)}


def block_of(point: Point) -> str:
    """Return the block that a point belongs to."""
    path = point.place.removeprefix(coverage_data.ABOVE).split(".")
    return path[:_BLOCK_DEPTH][-1]


def _list_holes(name: str, counts: Counts, verilog: str) -> str:
    names = coverage_data.Names(verilog)
    return "".join(
        f"{name}: {waiver or '(without a name)'}: {names.text_of(point)}\n"
        for waiver, points in sort_holes(counts, verilog).items()
        for point in points
    )


def main() -> int:
    """Measure configurations, print and write the report; return 3 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", action="append", help=f"default: {', '.join(CONFIGS)}")
    parser.add_argument("--cases", type=int, default=25, help="programs and layers of each")
    parser.add_argument("--holes", type=Path, help="file for the points that were never reached")
    parser.add_argument("--json", type=Path, help=f"file for sums by block, such as {FIGURES}")
    parser.add_argument("--document", type=Path, help=f"file to update, such as {DOCUMENT}")
    options = parser.parse_args()
    results = []
    for name in options.config or CONFIGS:
        config = find_any_config(name)
        counts = measured(config, options.cases)
        results.append((name, counts, design_of(config)))
        print(name, *(_percent(*coverage_data.share(counts, kind)) for kind in KINDS), flush=True)
    lines, met = report(results)
    print("\n".join(lines))
    if options.holes:
        options.holes.write_text("".join(_list_holes(*result) for result in results), "utf-8")
    if options.json:
        options.json.write_text(json.dumps(by_block(results), indent=1) + "\n", encoding="utf-8")
    if options.document:
        rewrite_block(options.document, BLOCK, lines)
    return 0 if met else _FAILED


if __name__ == "__main__":
    sys.exit(main())
