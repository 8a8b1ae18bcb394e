"""Campaign on the pins: every run of :mod:`systolith.bench.cocotb_points`, resumable, and its totals.

A record belongs to the Verilog and the parameters of its run; what has one is not run again, so a
campaign that was interrupted goes on, and one after a change of the gateware starts anew.
"""

import argparse
import hashlib
import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from systolith.arch.blocks import rewrite_block
from systolith.bench.cocotb_blocks import block_verilog
from systolith.bench.cocotb_points import Point, campaign
from systolith.bench.cocotb_simulator import BlockSimulator, Outcome
from systolith.bench.markdown import table

RUNS_OF_A_PROCESS = 8
"""Runs after which results are kept and the time is looked at."""

DOCUMENT = Path("docs/VERIFICATION.md")
BLOCK = "pins"

_FAILED = 3
_HEADER = (
    "block", "widths in bits", "runs", "clock cycles", "transactions", "data beats",
    "most reads, writes in flight", "runs that failed",
)  # fmt: skip


def _record_of(folder: Path, verilog: str, point: Point) -> Path:
    key = hashlib.sha256(f"{point.to_json()}\n{verilog}".encode()).hexdigest()[:24]
    return folder / "records" / f"{point.name}-{key}.json"


def _groups(points: Sequence[Point]) -> Iterator[tuple[str, int, list[Point]]]:
    """Yield the runs that share a simulator."""
    for (block, bits), group in itertools.groupby(points, lambda p: (p.block, p.data_bits)):
        yield block, bits, list(group)


def run(points: Sequence[Point], folder: Path, seconds: float) -> int:
    """Carry out the runs that have no record yet; return how many failed.

    Parameters
    ----------
    points : sequence of Point
        Runs; those that share a simulator stand behind each other.
    folder : Path
        Where simulators and records are kept.
    seconds : float
        Time after which nothing new is begun.

    Raises
    ------
    ToolchainError
        A simulator cannot be built here.
    """
    end, failed = time.monotonic() + seconds, 0
    (folder / "records").mkdir(parents=True, exist_ok=True)
    for block, bits, group in _groups(points):
        verilog = block_verilog(block, bits)
        missing = [p for p in group if not _record_of(folder, verilog, p).exists()]
        if not missing or time.monotonic() > end:
            continue
        simulator = BlockSimulator(block, bits, folder / "simulators", verilog=verilog)
        for begin in range(0, len(missing), RUNS_OF_A_PROCESS):
            if time.monotonic() > end:
                break
            some = missing[begin : begin + RUNS_OF_A_PROCESS]
            outcomes = simulator.run(some, folder / "runs" / f"{block}_{bits}")
            failed += _keep(some, outcomes, folder, verilog)
    return failed


def _keep(points: Sequence[Point], outcomes: dict[str, Outcome], folder: Path, verilog: str) -> int:
    """Write the records of runs that passed, print the others, and return how many those are."""
    failed = 0
    for point in points:
        outcome = outcomes[point.name]
        if outcome.failure is None:
            _record_of(folder, verilog, point).write_text(json.dumps(outcome.counts))
            print(f"{point.name}: {outcome.counts}", flush=True)
        else:
            failed += 1
            print(f"{point.name} failed: {point.to_json()}\n{outcome.failure}", flush=True)
    return failed


def totals(points: Sequence[Point], folder: Path, failed: int) -> list[str]:
    """Return the lines of the document: one row for each block, and what they add up to."""
    rows: dict[str, list[int]] = {}
    digest = hashlib.sha256()
    widths: dict[str, list[int]] = {}
    missing = 0
    for block, bits, group in _groups(points):
        verilog = block_verilog(block, bits)
        digest.update(verilog.encode())
        row = rows.setdefault(block, [0] * 6)
        widths.setdefault(block, []).append(bits)
        for point in group:
            path = _record_of(folder, verilog, point)
            if not path.exists():
                missing += 1
                continue
            counts = json.loads(path.read_text())
            row[0] += 1
            for place, name in enumerate(("cycles", "transactions", "beats"), start=1):
                row[place] += counts[name]
            for place, name in enumerate(("most_reads", "most_writes"), start=4):
                row[place] = max(row[place], counts.get(name, 0))
    lines = [
        (
            block,
            ", ".join(map(str, widths[block])),
            *(f"{value:,}" for value in row[:4]),
            f"{row[4]}, {row[5]}",
            "0",
        )
        for block, row in rows.items()
    ]
    runs, cycles, transactions, beats = (sum(row[n] for row in rows.values()) for n in range(4))
    lines.append(
        ("**all**", "", f"{runs:,}", f"{cycles:,}", f"{transactions:,}", f"{beats:,}", "",
         str(failed))
    )  # fmt: skip
    text = table(_HEADER, lines)
    text += ["", f"Digest of the Verilog: `{digest.hexdigest()[:16]}`."]
    if missing or failed:
        text.append(f"{missing - failed} runs were not begun, {failed} failed.")
    return text


def main() -> int:
    """Run the campaign, print its totals, write them to the document; return 3 if a run failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="begin nothing new afterwards")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--block", action="append", help="only these blocks; may be repeated")
    parser.add_argument("--folder", type=Path, default=Path("build/cosim"))
    parser.add_argument("--document", type=Path, help=f"file to update, such as {DOCUMENT}")
    options = parser.parse_args()
    points = [p for p in campaign(options.seed) if not options.block or p.block in options.block]
    folder = options.folder.resolve()
    failed = run(points, folder, options.minutes * 60)
    lines = totals(points, folder, failed)
    print("\n".join(lines))
    if options.document:
        rewrite_block(options.document, BLOCK, lines)
    return _FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main())
