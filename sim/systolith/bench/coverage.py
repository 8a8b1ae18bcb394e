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

from systolith.arch import isa
from systolith.arch.blocks import rewrite_block
from systolith.arch.config import AcceleratorConfig
from systolith.bench import (
    bus_faults,
    counter_laws,
    coverage_data,
    differential,
    drain_program,
    hostile,
    registers,
    windows,
)
from systolith.bench.coverage_data import KINDS, TOGGLE, Counts, Point
from systolith.bench.differential import MEMORY_BYTES
from systolith.bench.markdown import table
from systolith.bench.mutation_checks import ELSEWHERE
from systolith.bench.random_config import find_any_config
from systolith.bench.random_instruction import block
from systolith.bench.random_program import RegionImage
from systolith.bench.rtl import RtlDevice, build, verilog_of
from systolith.bench.rtl.device import MEMORY_BASE

CONFIGS = (
    "micro-4x3",
    "micro-4x4-pair25",
    "micro-3x2-lean",
    "tiny-4x4",
    "odd-5x6",
    "odd-7x3",
)
GOALS = {"line": 0.95, "branch": 0.95, TOGGLE: 0.90}
BLOCK = "coverage"
DOCUMENT = Path("docs/VERIFICATION.md")

_FAILED = 3
_STREAMS, _BATCHES = 250, 2
_TURNS = 4200
_LATENCY = 7
_FAULT_STRIDE = 60


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
        "bits without a meaning",
        r"csr_bank (command|event)\[([2-9]|[12]\d|3[01])\]",
        "commands and events have two bits, the others of their registers are constant",
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
    for number in range(_BATCHES):
        base = (ELSEWHERE, MEMORY_BASE)[number % 2]
        with RtlDevice(
            config, latency=_LATENCY, memory_size=MEMORY_BYTES, memory_base=base,
            stall=0.3 * number, seed=1,
        ) as device:  # fmt: skip
            batch = hostile.Batch(config, number, _STREAMS, base=base)
            _, failed = hostile.judge(batch, batch.run(device), batch.accepted())
            assert not failed, hostile.replay_command(config, number, failed[0])
            run_long(config, device)
        yield
    wrong = registers.problems(config, 0) + counter_laws.problems(config)
    assert not wrong, wrong[0]
    yield
    wrong = list(windows.problems(config, 0))
    assert not wrong, wrong[0]
    found = differential.compare_rtl(drain_program.drain_case(config, 0), config, seed=0)
    assert found is None, found
    yield
    _, failures = bus_faults.run(config, stride=_FAULT_STRIDE, base=ELSEWHERE)
    assert not failures, failures[0]
    yield


def run_long(config: AcceleratorConfig, device: RtlDevice) -> None:
    """Run one program of very many instructions for all engines, then a short one."""
    turn = (
        block(isa.Load, isa.Space.SCRATCHPAD, 1, 0, 0, 1),
        isa.Geometry(lanes=1, lanes_last=1, weight_rows=config.rows, weight_rows_last=config.rows),
        isa.Quantize(low=-128, high=127),
        block(isa.Store, isa.Space.SCRATCHPAD, 2, 0, 0, 1),
    )
    regions = (RegionImage(b"1", read=True, write=False), RegionImage(b"0", read=False, write=True))
    for turns in (_TURNS, 1):
        outcome = differential.execute(device, [*turn * turns, isa.Halt()], regions)
        assert outcome.fault is None, outcome.fault


def measure(config: AcceleratorConfig, cases: int) -> Counts:
    """Return how often each point of a configuration was reached.

    Raises
    ------
    ToolchainError
        The simulator cannot be built here.
    """
    verilog = verilog_of(config)
    ports, triggers = coverage_data.ports_of(verilog), coverage_data.triggers_of(verilog)
    total: Counts = Counter()
    with _collected() as folder:
        for _ in stimulate(config, cases):
            for path in folder.glob("*.dat"):
                total = coverage_data.merge((total, coverage_data.read(path, ports, triggers)))
                path.unlink()
    return total


def measured(config: AcceleratorConfig, cases: int) -> Counts:
    """Return what :func:`measure` does, which is done once for each state of hardware and stimuli."""
    stimuli = (
        __file__,
        differential.__file__,
        hostile.__file__,
        bus_faults.__file__,
        windows.__file__,
        drain_program.__file__,
    )
    sources = [Path(name).read_text(encoding="utf-8") for name in stimuli]
    key = build.digest([verilog_of(config), str(cases), *sources])

    def make(path: Path) -> None:
        path.write_text(coverage_data.dump(measure(config, cases)), encoding="utf-8")

    path = build.cached(build.cache_folder() / "coverage" / f"{config.name}-{key}.json", make)
    return coverage_data.load(path.read_text(encoding="utf-8"))


@contextlib.contextmanager
def _collected() -> Iterator[Path]:
    """Let simulators leave their coverage in a folder."""
    before = os.environ.get(build.COVERAGE_VARIABLE)
    with tempfile.TemporaryDirectory(prefix="systolith-coverage-") as name:
        os.environ[build.COVERAGE_VARIABLE] = name
        try:
            yield Path(name)
        finally:
            os.environ.pop(build.COVERAGE_VARIABLE)
            if before is not None:
                os.environ[build.COVERAGE_VARIABLE] = before


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
    parser.add_argument("--cases", type=int, default=25, help="programs and layers of each")
    parser.add_argument("--holes", type=Path, help="file for the points that were never reached")
    parser.add_argument("--document", type=Path, help=f"file to update, such as {DOCUMENT}")
    options = parser.parse_args()
    results = []
    for name in options.config or CONFIGS:
        counts = measured(find_any_config(name), options.cases)
        results.append((name, counts))
        print(name, *(_percent(*coverage_data.share(counts, kind)) for kind in KINDS), flush=True)
    lines, met = report(results)
    print("\n".join(lines))
    if options.holes:
        texts = (f"{n}: {p}" for n, c in results for p in coverage_data.holes(judge(c)[0]))
        options.holes.write_text("\n".join([*texts, ""]), encoding="utf-8")
    if options.document:
        rewrite_block(options.document, BLOCK, lines)
    return 0 if met else _FAILED


if __name__ == "__main__":
    sys.exit(main())
