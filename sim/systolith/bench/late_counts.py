"""Programs whose counters begin late: as if millions of instructions and cycles lay behind them.

Only simulators with mutants in them can begin late (:mod:`systolith.bench.late_start`). There, waits must
mean what they mean in a program that begins at zero, faults must name an instruction as much later, and
every counter of instructions, cycles and bytes must end as much higher.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from systolith.arch import csr, isa
from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import DeviceError
from systolith.bench import differential, fault_program, wait_program
from systolith.bench.differential import Case, Outcome
from systolith.bench.rtl import RtlDevice, mutant
from systolith.golden.device import GoldenDevice

_PATTERNS = (0x5555_5555, 0xAAAA_AAAA, 0x7FFF_FF00)
"""Counts, of which the last one carries up to the highest bit while its program runs."""

_ANY_COUNTS = 2
_CHAINS, _FAULTS = (17, 18, 19, 20), 40
_WORD, _INSTRUCTIONS = (1 << 32) - 1, (1 << isa.COUNTER_BITS) - 1
_MOST_INSTRUCTIONS = 4096
"""More than a program of these has."""

_TIMEOUT_S = 0.1


@dataclass(frozen=True)
class Late:
    """Programs and how they end on the golden device.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    seed : int
        Seed of everything.
    chains : sequence of (Case, Outcome)
        Chains of waits, which take different times: a bit that changes in each cycle is seen.
    faults : sequence
        Seed, program and report of programs that end in a fault.
    """

    config: AcceleratorConfig
    seed: int
    chains: Sequence[tuple[Case, Outcome]]
    faults: Sequence[tuple[int, fault_program.Items, fault_program.Report]]

    @classmethod
    def draw(cls, config: AcceleratorConfig, seed: int) -> "Late":
        """Return the programs of a seed."""
        chains = [chain_of(config, seed, count) for count in _CHAINS]
        faults = list(itertools.islice(fault_program.cases(config, seed), _FAULTS))
        return cls(config, seed, chains, faults)

    def problems(self) -> Iterator[str]:
        """Yield one sentence for each thing that depends on where counts begin, and must not."""
        rng = np.random.default_rng(self.seed)
        limit = _INSTRUCTIONS - _MOST_INSTRUCTIONS
        counts = [*_PATTERNS]
        for _ in range(_ANY_COUNTS):
            counts.append(
                int(rng.integers(1 << 8)) << isa.COUNTER_BITS | int(rng.integers(1, limit))
            )
        before = [self._run(0, *chain)[0] for chain in self.chains]
        for count in counts:
            with counting_from(self.config, count):
                for chain, values in zip(self.chains, before, strict=True):
                    after, problem = self._run(count, *chain)
                    if problem:
                        yield problem
                    for name, value in after.items():
                        wanted = (values.get(name, 0) + count) & _mask(name)
                        if value != wanted:
                            yield f"{name} from {count:#x} on: {value:#x}, not {wanted:#x}"
                yield from self._faulty(count)

    def _run(self, count: int, case: Case, outcome: Outcome) -> tuple[dict[str, int], str | None]:
        """Run chains; return the counters, and what is wrong with the bytes."""
        with RtlDevice(self.config, memory_size=differential.MEMORY_BYTES) as device:
            try:
                found = differential.execute(
                    device, (*case.body, *case.tail), case.regions, _TIMEOUT_S
                )
            except DeviceError as error:
                return {}, f"chains from {count:#x} on: {error}"
            values = {name: device.read_register(csr.BY_NAME[name].addr) for name in _NAMES}
        problem = differential.first_difference(case, outcome, found)
        return values, problem and f"chains from {count:#x} on: {problem}"

    def _faulty(self, count: int) -> Iterator[str]:
        """Run the programs that end in faults, which must name an instruction as much later."""
        for seed, items, report in self.faults:
            if report is None or (count & _INSTRUCTIONS) + len(items) > _INSTRUCTIONS:
                continue
            code, engine, index, addr = report
            later = code, engine, index + (count & _INSTRUCTIONS), addr
            problem = fault_program.problem(self.config, seed, items, later)
            if problem:
                yield f"fault from {count:#x} on: {problem}"


_PROGRESS = tuple(name for name in csr.BY_NAME if name.startswith("progress_"))
_NAMES = (*_PROGRESS, "cycles", *(name for name, _ in csr.COUNTERS))


def _mask(name: str) -> int:
    return _INSTRUCTIONS if name in _PROGRESS else _WORD


def chain_of(config: AcceleratorConfig, seed: int, count: int) -> tuple[Case, Outcome]:
    """Return a program of so many chains of waits, and how it ends on the golden device."""
    case = wait_program.wait_case(config, seed, count)
    golden = GoldenDevice(config, memory_size=differential.MEMORY_BYTES)
    return case, differential.execute(golden, (*case.body, *case.tail), case.regions)


@contextlib.contextmanager
def counting_from(config: AcceleratorConfig, count: int) -> Iterator[None]:
    """Let the counters of RTL devices begin at a value; a simulator with mutants must be chosen."""
    chosen = mutant.chosen(config)
    if chosen is None:
        raise ValueError(f"Variable {mutant.VARIABLE} must name a simulator of {config.name}")
    os.environ[mutant.VARIABLE] = str(replace(chosen, late=count))
    try:
        yield
    finally:
        os.environ[mutant.VARIABLE] = str(chosen)
