"""Coverage of the gateware: simulators that count run random programs, layers, hostile streams and faults.

Each configuration is its own design, so points are counted for each and their reached ones added up.
Each hole has a name and a reason, :data:`WAIVERS`; one without is a failure.
"""

import argparse
import contextlib
import functools
import json
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from systolith.arch.blocks import rewrite_block
from systolith.arch.config import AcceleratorConfig
from systolith.bench import coverage_data, late_start, toolchain
from systolith.bench.coverage_data import KINDS, TOGGLE, Counts, Point
from systolith.bench.coverage_stimuli import SOURCES, stimulate
from systolith.bench.coverage_waivers import WAIVERS, Waiver, waiver_of
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


def measure(config: AcceleratorConfig, verilog: str, cases: int) -> Counts:
    """Return how often each point of a configuration, which this design is of, was reached.

    Raises
    ------
    ToolchainError
        The simulator cannot be built here.
    """
    ports = coverage_data.ports_of(verilog)
    added = {n for n, line in enumerate(verilog.splitlines(), 1) if late_start.LATE in line}
    total: Counter[str] = Counter()
    with _counting(config, verilog) as folder:
        for _ in stimulate(config, cases):
            for path in folder.glob("*.dat"):
                total.update(coverage_data.tally(path))
                path.unlink()
    return coverage_data.points(total, ports, coverage_data.triggers_of(verilog) | added)


def measured(config: AcceleratorConfig, verilog: str, cases: int) -> Counts:
    """Return what :func:`measure` does, once for each state of hardware, counters and stimuli."""
    sources = [Path(name).read_text(encoding="utf-8") for name in SOURCES]
    counters = (*build.COVERAGE_FLAGS, toolchain.coverage_header())
    key = build.digest([verilog, str(cases), *counters, *sources])

    def make(path: Path) -> None:
        path.write_text(coverage_data.dump(measure(config, verilog, cases)), encoding="utf-8")

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


@dataclass(frozen=True)
class Measured:
    """What was counted on a configuration.

    Parameters
    ----------
    name : str
        The configuration.
    counts : Counts
        How often each point was reached.
    verilog : str
        The design that they are points of.
    """

    name: str
    counts: Counts
    verilog: str

    @functools.cached_property
    def holes(self) -> list[tuple[str, Point, str]]:
        """Points never reached: name of the waiver, "" if there is none, point and its text."""
        names = coverage_data.Names(self.verilog)
        texts = ((point, names.text_of(point)) for point in coverage_data.holes(self.counts))
        return [(_name_of(waiver_of(text)), point, text) for point, text in texts]


def _name_of(waiver: Waiver | None) -> str:
    return waiver.name if waiver else ""


def report(results: Sequence[Measured]) -> tuple[list[str], bool]:
    """Return the lines of the document, and whether goals are met and all holes have a name."""
    rows = []
    named: Counter[tuple[str, str]] = Counter()
    sums = {kind: [0, 0] for kind in KINDS}
    for result in results:
        named.update((waiver, point.kind) for waiver, point, _ in result.holes)
        row = [f"`{result.name}`"]
        for kind in KINDS:
            reached, points = coverage_data.share(result.counts, kind)
            sums[kind][0] += reached
            sums[kind][1] += points
            row.append(_percent(reached, points))
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


def by_block(results: Sequence[Measured]) -> dict[str, dict[str, list[int]]]:
    """Return how many points were reached, and how many there are, by block and kind of point.

    A block is an instance of the core, with all below it; the core itself and the top are two more.
    """
    sums: dict[str, dict[str, list[int]]] = {}
    for result in results:
        for point, count in result.counts.items():
            kinds = sums.setdefault(block_of(point), {kind: [0, 0] for kind in KINDS})
            kinds[point.kind][0] += count > 0
            kinds[point.kind][1] += 1
    return {block: sums[block] for block in sorted(sums)}


def block_of(point: Point) -> str:
    """Return the block that a point belongs to."""
    path = point.place.removeprefix(coverage_data.ABOVE).split(".")
    return path[:_BLOCK_DEPTH][-1]


def _list_holes(result: Measured) -> str:
    return "".join(
        f"{result.name}: {waiver or '(without a name)'}: {text}\n"
        for waiver, _, text in result.holes
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
        verilog = design_of(config)
        counts = measured(config, verilog, options.cases)
        results.append(Measured(name, counts, verilog))
        print(name, *(_percent(*coverage_data.share(counts, kind)) for kind in KINDS), flush=True)
    lines, met = report(results)
    print("\n".join(lines))
    if options.holes:
        options.holes.write_text("".join(_list_holes(result) for result in results), "utf-8")
    if options.json:
        options.json.write_text(json.dumps(by_block(results), indent=1) + "\n", encoding="utf-8")
    if options.document:
        rewrite_block(options.document, BLOCK, lines)
    return 0 if met else _FAILED


if __name__ == "__main__":
    sys.exit(main())
