"""Flips in the protected blocks, counted in a file that grows with each run.

Each batch draws inputs, runs them once without flip, which must raise no alarm, and then with one
random bit of the block's registers or memories flipped in a random cycle, many times.
"""

import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from systolith.bench.campaign_totals import Totals

from .blocks import Block, array_block
from .instrument import Site
from .memory_blocks import memory_blocks
from .simulator import FLIP, BlockSimulator

TOTALS = Path("docs/soft_errors.json")
CAMPAIGN = "blocks"

_FLIPS_OF_A_BATCH = 500
_SETTLED = 6
"""Cycles at the end of the inputs in which a flip could not be noticed any more."""

_ARRAYS = ((4, 4, 1, 0.3), (4, 3, 2, 0.1), (8, 8, 2, 0.1), (16, 16, 3, 0.05))
"""Rows, columns, feeds, and share of all flips; memories have the rest, in equal parts."""

_DEPTHWISE_SHARE = 0.02


@dataclass(frozen=True)
class Plan:
    """What to run: flips in all blocks together, until when, and where they are counted."""

    flips: int
    end: float
    totals: Path = TOTALS


def all_blocks() -> list[tuple[Block, float]]:
    """Return all blocks and their shares of the flips; depthwise mode comes on top."""
    blocks = [(array_block(*size), share) for *size, share in _ARRAYS]
    memories = memory_blocks()
    rest = (1 - sum(share for _, share in blocks)) / len(memories)
    blocks += [(block, rest) for block in memories]
    return [*blocks, (array_block(4, 3, 2, depthwise=True), _DEPTHWISE_SHARE)]


class Injector:
    """Flips bits of a block, batch by batch.

    Parameters
    ----------
    block : Block
        The block.
    """

    def __init__(self, block: Block) -> None:
        self._block, self._simulator = block, block.simulator()
        self._sites = [site for site in self._simulator.sites if self._belongs(site)]
        sizes = np.array([site.size for site in self._sites], np.float64)
        self._shares = sizes / sizes.sum()

    @property
    def simulator(self) -> BlockSimulator:
        """What runs the block."""
        return self._simulator

    @property
    def bits(self) -> int:
        """Bits that are flipped."""
        return sum(site.size for site in self._sites)

    def _belongs(self, site: Site) -> bool:
        if self._block.memories:
            return site.rows > 0
        # The checker is no part of the array; its bits cannot make a sum wrong.
        return site.module.endswith(".array")

    def run(self, batch: int, flips: int = _FLIPS_OF_A_BATCH) -> tuple[Counter[str], list[str]]:
        """Run a batch; return counts, and what went unnoticed or was noticed without flip."""
        rng = np.random.default_rng([batch, len(self._sites)])
        stimulus = self._block.stimulus(self._simulator, rng)
        clean, alarms = self._simulator.clean(stimulus.inputs)
        name = f'batch {batch} of "{self._block.name}"'
        failures = [f"{name}: an alarm without flip"] if alarms else []
        drawn, where = self._draw(rng, len(stimulus.inputs), flips)
        results = self._simulator.run(stimulus.inputs, clean, stimulus.mask, drawn)
        wrong = results["wrong"] > 0
        noticed = results["alarms"].any(axis=1)
        counts = Counter(
            {
                "cases": flips,
                "runs without flip": 1,
                "false alarms": int(alarms != 0),
                "corrupting": int(wrong.sum()),
                "of these noticed": int((wrong & noticed).sum()),
                "noticed without harm": int((~wrong & noticed).sum()),
            }
        )
        if "sum_error" in self._block.alarms:
            by_checksum = results["alarms"][:, self._block.alarms.index("sum_error")] > 0
            counts["of these by the checksum"] = int((wrong & by_checksum).sum())
        failures += [
            f"{name}: {where[n].name} bit {drawn['place'][n]}, row {drawn['row'][n]}, in cycle "
            f"{drawn['cycle'][n]} went unnoticed"
            for n in np.flatnonzero(wrong & ~noticed)
        ]
        return counts, failures

    def _draw(
        self, rng: np.random.Generator, cycles: int, flips: int
    ) -> tuple[np.ndarray, list[Site]]:
        """Return random flips, each bit as probable as the other, and their sites."""
        drawn = np.zeros(flips, FLIP)
        where = [self._sites[n] for n in rng.choice(len(self._sites), flips, p=self._shares)]
        drawn["which"] = [site.number for site in where]
        drawn["cycle"] = rng.integers(1, cycles - _SETTLED, flips)
        drawn["place"] = [rng.integers(site.bits) for site in where]
        drawn["row"] = [rng.integers(max(1, site.rows)) for site in where]
        return drawn, where


def run_blocks(plan: Plan) -> bool:
    """Run all blocks up to their shares; return whether a flip in one that must notice did not."""
    failed = False
    for block, share in all_blocks():
        if time.monotonic() > plan.end:
            break
        injector = Injector(block)
        key, wanted = injector.simulator.key, round(plan.flips * share)
        totals = Totals(plan.totals)
        entry = totals.entry(CAMPAIGN, block.name, key)
        while entry.on_this_hardware < wanted and time.monotonic() < plan.end:
            counts, failures = injector.run(entry.next)
            if block.depthwise:
                # Nothing is promised there; what matters is how many.
                failures = []
            failed |= bool(failures)
            totals.add(
                CAMPAIGN, block.name, key, counts, following=entry.next + 1, failures=failures
            )
            entry = totals.entry(CAMPAIGN, block.name, key)
        print(block.name, injector.bits, "bits:", dict(entry.counts), flush=True)
    return failed
