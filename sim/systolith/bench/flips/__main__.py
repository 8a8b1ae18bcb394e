"""Flip bits and count what is noticed; totals grow with each run.

python -m systolith.bench.flips blocks --flips 1000000
python -m systolith.bench.flips core --flips 5000
python -m systolith.bench.flips cost
python -m systolith.bench.flips replay --block "array 4x4" --batch 17
"""

import argparse
import sys
import time
from pathlib import Path

from systolith.arch.presets import PRESETS
from systolith.bench.campaign_totals import Entry, Totals
from systolith.bench.random_config import PROTECTED

from . import campaign, cost, report
from .blocks import Block
from .campaign import TOTALS, Injector, Plan, all_blocks
from .core import CAMPAIGN, CoreInjector

_FAILED = 3
_FLIPS_OF_A_PROGRAM = 100
_COST_CONFIG = "edge-16x16"


def run_core(plan: Plan) -> bool:
    """Flip bits of a whole accelerator; return whether a program ended wrongly without flip."""
    config = PROTECTED
    injector = CoreInjector(config)
    failed = False
    while True:
        totals = Totals(plan.totals)
        entry = totals.entry(CAMPAIGN, config.name, injector.key)
        if entry.on_this_hardware >= plan.flips or time.monotonic() > plan.end:
            break
        counts, failures = injector.run(entry.next, _FLIPS_OF_A_PROGRAM)
        failed |= bool(failures)
        totals.add(
            CAMPAIGN, config.name, injector.key, counts, following=entry.next + 1, failures=failures
        )
    injector.close()
    return failed


def render(path: Path, document: Path) -> None:
    """Put what was counted into a document."""
    totals = Totals(path)
    blocks: dict[str, Entry] = {}
    for block, _ in all_blocks():
        entry = totals.entry(campaign.CAMPAIGN, block.name, "")
        if entry.counts:
            blocks[block.name] = entry
    tables = [report.block_table(blocks)]
    core = totals.entry(CAMPAIGN, PROTECTED.name, "")
    if core.counts:
        tables.append(report.core_table(core))
    report.render(tables, totals.failures(), document)


def replay(block: Block, batch: int) -> int:
    """Run a batch of a block again, and print what went unnoticed."""
    counts, failures = Injector(block).run(batch)
    print(dict(counts), *failures, sep="\n")
    return _FAILED if failures else 0


def main() -> int:
    """Run what is asked for; return 3 if a flip went unnoticed or an alarm was false."""
    blocks = {block.name: block for block, _ in all_blocks()}
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("blocks", "core", "cost", "table", "replay"))
    parser.add_argument("--flips", type=int, default=10_000, help="on the present hardware, in all")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--totals", type=Path, default=TOTALS)
    parser.add_argument("--document", type=Path, default=report.DOCUMENT)
    parser.add_argument("--block", default="array 4x4", choices=blocks, help="to replay")
    parser.add_argument("--batch", type=int, default=0)
    options = parser.parse_args()
    if options.what == "replay":
        return replay(blocks[options.block], options.batch)
    if options.what == "cost":
        print(cost.table(PRESETS[_COST_CONFIG]))
        return 0
    plan = Plan(options.flips, time.monotonic() + 60 * options.minutes, options.totals)
    failed = False
    if options.what == "blocks":
        failed = campaign.run_blocks(plan)
    elif options.what == "core":
        failed = run_core(plan)
    render(options.totals, options.document)
    return _FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main())
