"""The plan of verification: each block of the hardware, what it is for, its tests, proofs and coverage.

    python -m systolith.bench.verification_plan

Made of what is there: test files are those that import a block's modules, proofs those whose design
is one of them, mutants and coverage the figures that `make mutation` and `make coverage` left.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from systolith.arch.blocks import rewrite_block
from systolith.arch.csr import Fault
from systolith.bench import bus_faults, hostile
from systolith.bench.campaign_totals import Totals
from systolith.bench.coverage_data import KINDS
from systolith.bench.flips import core
from systolith.bench.formal.catalog import CASES
from systolith.bench.markdown import table
from systolith.bench.mutation import EQUIVALENT, Verdict, load
from systolith.bench.rtl.jobs import Action

BLOCK = "plan"
DOCUMENT = Path("docs/VERIFICATION.md")
TESTS = Path("tests/gateware")

_IMPORT = re.compile(r"^from systolith\.gateware(?:\.(\w+))? import (.+)$", re.MULTILINE)
_FAULT_OF = {
    bus_faults.NAMES[action]: fault.name
    for action, fault in {
        Action.READ_ERROR: Fault.BUS_READ,
        Action.WRITE_ERROR: Fault.BUS_WRITE,
        Action.HANG: Fault.WATCHDOG,
        Action.ABORT: Fault.ABORTED,
    }.items()
}
"""Faults that end what the campaign of bus faults counts."""


@dataclass(frozen=True)
class Part:
    """One block of the hardware.

    Parameters
    ----------
    name : str
        Its instance in the core.
    features : str
        What it is for.
    modules : tuple of str
        Modules of the gateware that it alone is made of.
    """

    name: str
    features: str
    modules: tuple[str, ...]


PARTS = (
    Part("csr_bank", "registers, locks, interrupts, regions", ("csr_bank", "region_table")),
    Part(
        "sequencer",
        "fetch, decoding, waits, faults, watchdog, clean stop",
        ("sequencer", "fetch", "decoder", "dispatcher", "queue"),
    ),
    Part("reader", "AXI reads: bursts, windows, errors", ("read_master",)),
    Part("writer", "AXI writes: bursts, windows, strobes, errors", ("write_master",)),
    Part("load", "moves into the memories", ("load",)),
    Part("store", "moves out of the scratchpad", ("store",)),
    Part(
        "execute",
        "convolution, depthwise, fully connected; padding, strides; checksum",
        (
            *("execute", "steps", "loader", "streamer", "window", "array", "systolic", "checker"),
            *("pair_array", "pair_cell", "mult18x18d"),
        ),
    ),
    Part("accumulators", "sums of 32 bits, kept and added to", ("accumulator",)),
    Part(
        "drain",
        "requantization, pooling, elementwise, tables, transposition of results",
        (
            *("drain", "drain_lanes", "drain_loader", "drain_params", "drain_walk", "drain_writer"),
            *("requantize", "rescale", "elementwise", "tables"),
        ),
    ),
    Part("scratchpad", "banks, windows at any byte, order of ports", ("scratchpad", "rotator")),
    Part("weights", "tiles of weights", ("local_memory",)),
    Part("params", "biases and scales", ("local_memory",)),
    Part("counters", "performance counters", ("counters",)),
    Part("core", "what is between them", ("core",)),
    Part("systolith", "pins, names, reset", ("top", "verilog")),
)

SHARED = Part(
    "",
    "what several blocks are made of: queues, bursts, walks of addresses, parity",
    ("axi", "burst", "delay", "move", "parity", "slices", "words"),
)
"""Mutants and coverage of these are those of the blocks that they are in."""


def tests_of(folder: Path) -> dict[str, list[str]]:
    """Return the test files of each module of the gateware: those that import it, or have its name."""
    modules = {module for part in (*PARTS, SHARED) for module in part.modules}
    found: dict[str, list[str]] = {}
    for path in sorted(folder.glob("test_*.py")):
        test = path.stem.removeprefix("test_")
        used = {module for module in modules if f"{test}_".startswith(f"{module}_")}
        for module, names in _IMPORT.findall(path.read_text(encoding="utf-8")):
            used |= {module} if module else set(names.split(", "))
        for module in used:
            found.setdefault(module, []).append(test)
    return found


def proofs() -> Counter[str]:
    """Return the number of proofs about each module of the gateware."""
    designs = [case.design() for case in CASES]
    for design in designs:
        design._MustUse__silence = True  # only its class is wanted
    return Counter(type(design).__module__.rpartition(".")[2] for design in designs)


def blocks(docs: Path, tests: Path) -> list[str]:
    """Return the lines of the table of blocks.

    Parameters
    ----------
    docs : Path
        Folder of `coverage.json` and `mutation.json`.
    tests : Path
        Folder of the tests of single blocks.
    """
    coverage: dict[str, dict[str, list[int]]] = json.loads(
        (docs / "coverage.json").read_text(encoding="utf-8")
    )
    mutants: dict[str, list[Verdict]] = {}
    for verdict in load(docs / "mutation.json"):
        if verdict.by != EQUIVALENT:
            mutants.setdefault(verdict.mutation.group, []).append(verdict)
    files, proven = tests_of(tests), proofs()
    rows = []
    for part in (*PARTS, SHARED):
        names = sorted({name for module in part.modules for name in files.get(module, ())})
        rows.append(
            [
                part.name and f"`{part.name}`",
                part.features,
                ", ".join(names),
                str(sum(proven[module] for module in part.modules) or "-"),
                _noticed(mutants.get(part.name, ())),
                *(_percent(*coverage.get(part.name, {}).get(kind, (0, 0))) for kind in KINDS),
            ]
        )
    header = ("block", "for", "tests of its own", "proofs", "mutants noticed", *KINDS)
    return table(header, rows, text=3)


def faults(docs: Path) -> list[str]:
    """Return the lines of the table of faults: how often the campaigns raised each.

    Parameters
    ----------
    docs : Path
        Folder of `campaigns.json` and `soft_errors.json`.
    """
    campaigns, flips = Totals(docs / "campaigns.json"), Totals(docs / "soft_errors.json")
    raised: Counter[str] = Counter()
    for campaign in (hostile.CAMPAIGN, bus_faults.CAMPAIGN):
        for entry in campaigns.entries(campaign):
            for name, count in entry.counts.items():
                raised[_FAULT_OF.get(name, name)] += count
    for entry in flips.entries(core.CAMPAIGN):
        noticed = (n for name, n in entry.counts.items() if name.endswith(f": {core.End.NOTICED}"))
        raised[Fault.SOFT_ERROR.name] += sum(noticed)
    rows = [[fault.name, f"{raised[fault.name]:,}"] for fault in Fault if fault]
    return table(("fault", "raised in campaigns"), rows, text=1)


def lines(docs: Path, tests: Path) -> list[str]:
    """Return the lines of the plan."""
    return [*blocks(docs, tests), "", *faults(docs)]


def _noticed(verdicts: Sequence[Verdict]) -> str:
    killed = sum(verdict.killed for verdict in verdicts)
    return f"{killed} of {len(verdicts)}" if verdicts else "-"


def _percent(reached: int, points: int) -> str:
    return f"{100 * reached / points:.1f} %" if points else "-"


def main() -> int:
    """Write the plan into the document."""
    rewrite_block(DOCUMENT, BLOCK, lines(DOCUMENT.parent, TESTS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
