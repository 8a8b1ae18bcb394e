"""Coverage of the gateware: simulators that count run random programs, layers, hostile streams and faults.

Each configuration is its own design, so points are counted for each and their reached ones added up.
Holes that are waived have a name and a reason, :data:`WAIVERS`.
"""

import argparse
import contextlib
import itertools
import os
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from systolith.arch.config import AcceleratorConfig
from systolith.bench import bus_faults, coverage_data, differential, hostile
from systolith.bench.coverage_data import KINDS, TOGGLE, Counts, Point
from systolith.bench.differential import MEMORY_BYTES
from systolith.bench.markdown import table
from systolith.bench.random_config import find_any_config
from systolith.bench.rtl import RtlDevice, verilog_of
from systolith.bench.rtl.build import COVERAGE_VARIABLE

CONFIGS = ("tiny-4x4", "micro-4x3", "odd-5x6", "odd-7x3", "odd-12x10", "random-1")
GOALS = {"line": 0.95, "branch": 0.95, TOGGLE: 0.90}
BEGIN, END = "<!-- coverage: begin -->", "<!-- coverage: end -->"
DOCUMENT = Path("docs/VERIFICATION.md")

_FAILED = 3
_STREAMS = 500
_LATENCY = 7
_FAULT_STRIDE = 20


@dataclass(frozen=True)
class Waiver:
    """Holes that are no faults.

    Parameters
    ----------
    name : str
        What is not reached.
    pattern : str
        Regular expression for the text of the points.
    reason : str
        Why it need not be.
    """

    name: str
    pattern: str
    reason: str


WAIVERS = (
    Waiver(
        "constant pins",
        r"m_axi_gmem_\w*(id|size|burst|lock|cache|prot|qos|region|resp)\b|axi_control_[br]resp",
        "AXI attributes that the core declares to be constant, and responses of registers: always OKAY",
    ),
    Waiver(
        "addresses beyond memory",
        r"m_axi_gmem_a[rw]addr\[(2[6-9]|[3-6]\d)\]",
        "the simulated memory has 64 MiB, so the address bits above never change",
    ),
)
"""Every hole that is waived; the document lists them with their numbers."""


def stimulate(config: AcceleratorConfig, cases: int) -> Iterator[None]:
    """Run what should reach everything; yield after each device was closed.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    cases : int
        Random programs and layers.
    """
    for seed, _, case in itertools.islice(differential.cases(config, 0), cases):
        found = differential.compare_rtl(case, config, seed=seed)
        assert found is None, found
        yield
    for number in range(2):
        with RtlDevice(
            config, latency=_LATENCY, memory_size=MEMORY_BYTES, stall=0.3 * number, seed=1
        ) as device:
            _, failures = hostile.run_batch(config, number, [device], _STREAMS)
            assert not failures, failures[0]
        yield
    _, failures = bus_faults.run(config, stride=_FAULT_STRIDE)
    assert not failures, failures[0]
    yield


def measure(config: AcceleratorConfig, cases: int) -> Counts:
    """Return how often each point of a configuration was reached.

    Raises
    ------
    ToolchainError
        The simulator cannot be built here.
    """
    ports = coverage_data.ports_of(verilog_of(config))
    total: Counts = Counter()
    with _collected() as folder:
        for _ in stimulate(config, cases):
            for path in folder.glob("*.dat"):
                total = coverage_data.merge((total, coverage_data.read(path, ports)))
                path.unlink()
    return total


@contextlib.contextmanager
def _collected() -> Iterator[Path]:
    """Let simulators leave their coverage in a folder."""
    before = os.environ.get(COVERAGE_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="systolith-coverage-") as name:
        os.environ[COVERAGE_VARIABLE] = name
        try:
            yield Path(name)
        finally:
            os.environ.pop(COVERAGE_VARIABLE)
            if before is not None:
                os.environ[COVERAGE_VARIABLE] = before


def waiver_of(point: Point) -> Waiver | None:
    """Return the waiver of a hole, if there is one."""
    return next((w for w in WAIVERS if re.search(w.pattern, str(point))), None)


def judge(counts: Counts) -> tuple[Counts, Counter[str]]:
    """Return the counts without the holes that are waived, and how many those are by waiver."""
    kept, waived = Counter(counts), Counter[str]()
    for point in coverage_data.holes(counts):
        waiver = waiver_of(point)
        if waiver is not None:
            del kept[point]
            waived[waiver.name] += 1
    return kept, waived


def report(measured: Sequence[tuple[str, Counts]]) -> tuple[list[str], bool]:
    """Return the lines of the document, and whether every goal is met over all configurations."""
    rows = []
    waived: Counter[str] = Counter()
    sums = {kind: [0, 0] for kind in KINDS}
    for name, counts in measured:
        kept, some = judge(counts)
        waived += some
        row = [f"`{name}`"]
        for kind in KINDS:
            reached, points = coverage_data.share(kept, kind)
            sums[kind][0] += reached
            sums[kind][1] += points
            row.append(_percent(reached, points))
        rows.append(row)
    rows.append(["**all**", *(_percent(*sums[kind]) for kind in KINDS)])
    lines = table(("configuration", *KINDS), rows, text=1)
    lines += ["", "Waived, in all configurations together:", ""]
    lines += [f"- {w.name}, {waived[w.name]:,} points: {w.reason}" for w in WAIVERS]
    met = all(sums[kind][0] >= goal * sums[kind][1] for kind, goal in GOALS.items())
    return lines, met


def _percent(reached: int, points: int) -> str:
    return f"{100 * reached / points:.2f} % of {points:,}" if points else "nothing to reach"


def main() -> int:
    """Measure configurations, print and write the report; return 3 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", action="append", help=f"default: {', '.join(CONFIGS)}")
    parser.add_argument("--cases", type=int, default=60, help="programs and layers of each")
    parser.add_argument("--holes", type=Path, help="file for the points that were never reached")
    parser.add_argument("--document", type=Path, help=f"file to update, such as {DOCUMENT}")
    options = parser.parse_args()
    measured = []
    for name in options.config or CONFIGS:
        counts = measure(find_any_config(name), options.cases)
        measured.append((name, counts))
        print(name, *(_percent(*coverage_data.share(counts, kind)) for kind in KINDS), flush=True)
    lines, met = report(measured)
    print("\n".join(lines))
    if options.holes:
        texts = (f"{n}: {p}" for n, c in measured for p in coverage_data.holes(judge(c)[0]))
        options.holes.write_text("\n".join([*texts, ""]), encoding="utf-8")
    if options.document:
        text = options.document.read_text(encoding="utf-8")
        head, _, rest = text.partition(BEGIN)
        _, _, tail = rest.partition(END)
        options.document.write_text(
            "\n".join([f"{head}{BEGIN}", *lines, "", f"{END}{tail}"]), encoding="utf-8"
        )
    return 0 if met else _FAILED


if __name__ == "__main__":
    sys.exit(main())
