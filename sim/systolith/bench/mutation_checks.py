"""What the fast tier runs on one small configuration, in order of cost, until something is noticed.

The same programs, layers, streams and faults as the tests of `tests/cosim`, with their seeds. What
the golden machine gives is computed once, for all mutants.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import DeviceError
from systolith.bench import (
    bus_faults,
    counter_laws,
    differential,
    drain_program,
    fault_program,
    hostile,
    hostile_reports,
    long_moves,
    random_extremes,
    registers,
    wait_program,
    windows,
)
from systolith.bench.campaign_random import STALL_LEVELS, ProgramRunner
from systolith.bench.differential import Case, Outcome
from systolith.bench.late_counts import Late
from systolith.bench.rtl import RtlDevice
from systolith.bench.rtl.device import MEMORY_BASE
from systolith.golden.device import GoldenDevice

SEED = 20260
"""Seed of the fast tier."""

PROGRAMS, DRAINS, LAYER_SEEDS, STALLED, STREAMS, BATCHES = 110, 5, 5, 8, 300, 4
WAITS, EXTREMES, LONG = 4, 12, 1
STRIDE, HANGS, CYCLES = 61, 12, 400
"""What `tests/cosim` runs on this configuration; a test compares."""

ELSEWHERE = 0xA5C3_96E1_5A3C_0000
"""Another first address of the memory: both values of nearly every bit are seen."""

_CHUNK = 20
_PAGE = 4096
_FEW = 8
_TIMEOUT_S = 2.0


@dataclass(frozen=True)
class Check:
    """One kind of stimulus.

    Parameters
    ----------
    name : str
        What it is called in the table.
    run : callable
        Runs all of it, and returns what was noticed, or None.
    """

    name: str
    run: Callable[[], str | None]


@dataclass(frozen=True)
class Prepared:
    """A case, the seed of its memory, and what golden leaves."""

    case: Case
    seed: int
    outcome: Outcome


def checks(config: AcceleratorConfig) -> list[Check]:
    """Return all checks: those first that cost next to nothing and notice most mutants.

    The golden machine's share, and what the hardware without mutants must say first, is done here.
    All of it is no more than what the fast tier runs.
    """
    random = programs(config, range(SEED, SEED + PROGRAMS))
    layers = _prepare(config, _layers(config))
    kinds = len(layers) // LAYER_SEEDS
    batches = [batch_of(config, SEED, n) for n in range(BATCHES)]
    judged = [(batch, batch.accepted()) for batch in batches]
    faults = _fault_rows(config)
    return [
        Check("registers", lambda: next(iter(registers.problems(config, SEED)), None)),
        Check("counters", lambda: next(iter(counter_laws.problems(config)), None)),
        Check("compiled layers", lambda: run_all(config, layers[:kinds])),
        Check("random programs", lambda: run_all(config, random[:_FEW])),
        *_directed(config),
        Check("windows", lambda: next(windows.problems(config, SEED), None)),
        Check("hostile streams", lambda: _run_streams(config, judged)),
        Check("bus faults", lambda: _run_faults(config, faults)),
        Check("compiled layers", lambda: run_all(config, layers[kinds:])),
        Check("stalls and waits", lambda: _run_stalled(config)),
        Check("random programs", lambda: run_all(config, random[_FEW:])),
    ]


def _directed(config: AcceleratorConfig) -> list[Check]:
    """Return checks of what random programs seldom do."""
    waits = drawn(config, WAITS, wait_program.wait_case)
    drains = drawn(config, DRAINS, drain_program.drain_case)
    extremes = drawn(config, EXTREMES, random_extremes.extreme_case)
    long = drawn(config, LONG, long_moves.long_case)
    reports = list(fault_program.cases(config, SEED))
    late = Late.draw(config, SEED)
    return [
        Check("waits", lambda: run_all(config, waits)),
        Check("drains", lambda: run_all(config, drains)),
        Check("extremes", lambda: run_all(config, extremes)),
        Check("faults", lambda: _run_reports(config, reports)),
        Check("long moves", lambda: run_all(config, long)),
        Check("late counts", lambda: next(late.problems(), None)),
    ]


def batch_of(config: AcceleratorConfig, seed: int, number: int) -> hostile.Batch:
    """Return a batch of streams, those of every second pair in a memory elsewhere."""
    base = (MEMORY_BASE, ELSEWHERE)[number // 2 % 2]
    return hostile.Batch(config, seed + number, STREAMS, base=base)


def programs(config: AcceleratorConfig, seeds: Iterable[int]) -> list[Prepared]:
    """Return the random programs of some seeds, with what golden leaves."""
    return _prepare(config, ((n, differential.random_program_case(config, n)) for n in seeds))


def _layers(config: AcceleratorConfig) -> Iterator[tuple[int, Case]]:
    for seed in range(SEED, SEED + LAYER_SEEDS):
        for kind in differential.kinds_for(config):
            for case in differential.random_layer_cases(config, kind, seed):
                yield seed, case


def drawn(
    config: AcceleratorConfig, count: int, draw: Callable[[AcceleratorConfig, int], Case]
) -> list[Prepared]:
    """Return cases of the seeds from :data:`SEED` on."""
    return _prepare(config, ((seed, draw(config, seed)) for seed in range(SEED, SEED + count)))


def _prepare(config: AcceleratorConfig, cases: Iterable[tuple[int, Case]]) -> list[Prepared]:
    result = []
    for seed, case in cases:
        golden = GoldenDevice(config, memory_size=_memory_bytes(case))
        outcome = differential.execute(golden, (*case.body, *case.tail), case.regions)
        result.append(Prepared(case, seed, outcome))
    return result


def _memory_bytes(case: Case) -> int:
    """Return bytes of memory with room for a case, at least those that most cases have."""
    data = sum(len(image.data) + _PAGE for image in case.regions)
    code = (len(case.body) + len(case.tail)) * isa.INSTRUCTION_BYTES
    return max(differential.MEMORY_BYTES, 1 << (data + code + _PAGE).bit_length())


def run_all(config: AcceleratorConfig, cases: Sequence[Prepared]) -> str | None:
    """Run cases on the hardware, and return what the first one leaves that golden does not."""
    for item in cases:
        case = item.case
        program = (*case.body, *case.tail)
        surroundings = differential.surroundings(item.seed)
        surroundings["memory_size"] = _memory_bytes(case)
        with RtlDevice(config, **surroundings) as device:
            try:
                found = differential.execute(device, program, case.regions, _TIMEOUT_S)
            except DeviceError as error:
                return f"{case.name}: {error}"
        difference = differential.first_difference(case, item.outcome, found)
        if difference:
            return f"{case.name}: {difference}"
    return None


def _run_reports(
    config: AcceleratorConfig,
    cases: Sequence[tuple[int, fault_program.Items, fault_program.Report]],
) -> str | None:
    found = (fault_program.problem(config, *case) for case in cases)
    return next((text for text in found if text), None)


def _run_streams(
    config: AcceleratorConfig, judged: Sequence[tuple[hostile.Batch, Sequence[bool]]]
) -> str | None:
    """Run the streams in small parts, because each that does not end takes long."""
    for batch, accepted in judged:
        device = hostile.open_devices(config, batch.base)[batch.number % 2]
        streams = batch.streams
        for start in range(0, len(streams), _CHUNK):
            batch.streams = streams[start : start + _CHUNK]
            outcomes = batch.run(device)
            verdicts = accepted[start : start + _CHUNK]
            _, failed = hostile.judge(batch, outcomes, verdicts)
            if failed:
                return hostile.describe(batch, outcomes, verdicts, failed[0])
            wrong = hostile_reports.contradictions(batch, outcomes)
            if wrong:
                return wrong[0]
        batch.streams = streams
    return None


def _run_stalled(config: AcceleratorConfig) -> str | None:
    runner = ProgramRunner(config, STALL_LEVELS, every_level=True)
    for seed in range(SEED, SEED + STALLED):
        _, failures = runner.run(seed)
        if failures:
            return failures[0]
    return None


def _fault_rows(config: AcceleratorConfig) -> list[tuple[bus_faults.Subject, list[bus_faults.Row]]]:
    """Return where the bus fails, which depends on the transfers of the hardware without mutants."""
    result = []
    with bus_faults.open_device(config) as device:
        for subject in bus_faults.subjects(config):
            bench = bus_faults.Bench(config, subject, device)
            rows = bus_faults.rows_of(bench, HANGS * STRIDE // 3, range(CYCLES))
            result.append((subject, list(rows)[::STRIDE]))
    return result


def _run_faults(
    config: AcceleratorConfig, rows: Sequence[tuple[bus_faults.Subject, list[bus_faults.Row]]]
) -> str | None:
    with bus_faults.open_device(config) as device:
        for subject, chosen in rows:
            bench = bus_faults.Bench(config, subject, device)
            for start in range(0, len(chosen), _CHUNK):
                some = chosen[start : start + _CHUNK]
                for row, outcome in zip(some, bench.run(some), strict=True):
                    problem = bench.wrong(row, outcome)
                    if problem:
                        return f"{subject.name}, {row[0].name} ({row[1]}) at {row[2]}: {problem}"
    return None
