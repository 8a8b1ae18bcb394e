"""Campaigns of random programs, stalls, layers and configurations: hardware against golden model.

    python -m systolith.bench.campaign_random programs --config tiny-4x4 --cases 100000
    python -m systolith.bench.campaign_random stalls --config tiny-4x4 --cases 10000
    python -m systolith.bench.campaign_random layers --config tiny-4x4 --cases 10000
    python -m systolith.bench.campaign_random configs --cases 100

Each continues where it last stopped (`systolith.bench.campaign_totals`). Odd seeds have the waits
that the compiler would give, so that engines work at the same time; even seeds wait for everything
before each instruction.
"""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import AllocationError, DeviceError, UnsupportedModelError
from systolith.bench import differential
from systolith.bench.campaign_totals import TOTALS, Totals, hardware_key, render
from systolith.bench.differential import Outcome, execute, kinds_for, random_layer_cases
from systolith.bench.random_config import find_any_config, random_config
from systolith.bench.random_program import RandomProgram, random_program
from systolith.bench.rtl import RtlDevice
from systolith.golden.device import GoldenDevice

STEPS = 16
"""Random steps of a program of a campaign."""

STALL_LEVELS = (0.0, 0.1, 0.3, 0.5, 0.75, 0.9)
"""Probabilities, per cycle and channel, that the memory offers nothing and accepts nothing."""

PROGRAMS_OF_A_CONFIG = 200
LAYERS_OF_A_CONFIG = 20
"""Compiled layers that a random configuration runs, of all kinds; more if the last seed has more."""

MEMORY_BYTES = 1 << 20
_LATENCY = 12
_TWO_LEVELS = (0.0, 0.4)
_SAVE_SECONDS = 20.0
_FAILED = 3

Failures = list[str]


def draw_program(config: AcceleratorConfig, seed: int) -> RandomProgram:
    """Return the random program of a seed."""
    return random_program(config, np.random.default_rng([seed, STEPS]), STEPS)


def instructions_of(
    program: RandomProgram, config: AcceleratorConfig, seed: int
) -> tuple[isa.Instruction, ...]:
    """Return a program with the waits that its seed selects."""
    return program.relaxed(config) if seed % 2 else program.instructions


class ProgramRunner:
    """Runs random programs on hardware at some levels of stalls.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    levels : sequence of float
        Probabilities of stalls, one device each.
    every_level : bool
        Whether each program runs at all levels, or at one in turn.
    """

    def __init__(
        self, config: AcceleratorConfig, levels: Sequence[float], *, every_level: bool
    ) -> None:
        self._config = config
        self._levels = tuple(levels)
        self._every = every_level
        self._devices = [
            RtlDevice(config, stall=level, seed=1, latency=_LATENCY, memory_size=MEMORY_BYTES)
            for level in levels
        ]

    def run(self, seed: int) -> tuple[Counter[str], Failures]:
        """Run the program of a seed; return counts and what differed."""
        program = draw_program(self._config, seed)
        items = instructions_of(program, self._config, seed)
        numbers = range(len(self._levels)) if self._every else [seed // 2 % len(self._levels)]
        counts, failures = Counter(cases=1), []
        for number in numbers:
            device = self._devices[number]
            before = device.cycle
            found = self._difference(device, items, program)
            counts["instructions"] += len(items)
            counts["cycles"] += device.cycle - before
            counts["bytes compared"] += sum(len(data) for data in program.final)
            if found:
                failures.append(
                    f"program {seed} on {self._config.name}, stall {self._levels[number]}: {found}"
                )
        if self._every:
            counts["runs"] = len(self._levels)
        return counts, failures

    @staticmethod
    def _difference(
        device: RtlDevice, items: Sequence[isa.Instruction], program: RandomProgram
    ) -> str | None:
        try:
            outcome = execute(device, items, program.regions[1:])
        except DeviceError as error:
            return str(error)
        wanted = Outcome(None, program.final)
        if outcome == wanted:
            return None
        case = differential.Case("", (), (), program.regions[1:], {})
        return differential.first_difference(case, wanted, outcome)


class LayerRunner:
    """Compiles and runs random layers, one of each kind per seed.

    Golden and generated hardware keep their memories from layer to layer.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._golden = GoldenDevice(config, memory_size=differential.MEMORY_BYTES)
        self._devices = [
            RtlDevice(config, stall=level, seed=1, memory_size=differential.MEMORY_BYTES)
            for level in _TWO_LEVELS
        ]
        # The hardware of each level must have seen what the golden device has seen.
        self._goldens = [self._golden, GoldenDevice(config, memory_size=differential.MEMORY_BYTES)]

    def run(self, seed: int) -> tuple[Counter[str], Failures]:
        """Run a layer of each kind; return counts and what differed."""
        counts, failures = Counter(cases=0), []
        for kind in kinds_for(self._config):
            try:
                cases = random_layer_cases(self._config, kind, seed)
            except (AllocationError, UnsupportedModelError):
                # Small memories do not take every layer.
                counts["refused by the compiler"] += 1
                continue
            counts["cases"] += 1
            counts[f"of kind {kind}"] += 1
            for case in cases:
                counts["instructions"] += len(case.body) + len(case.tail)
                found = self._difference(case, seed)
                if found:
                    failures.append(found)
        return counts, failures

    def _difference(self, case: differential.Case, seed: int) -> str | None:
        items = (*case.body, *case.tail)
        number = seed % len(_TWO_LEVELS)
        try:
            golden = execute(self._goldens[number], items, case.regions)
            found = execute(self._devices[number], items, case.regions)
        except DeviceError as error:
            return f"{case.name}: {error}"
        if golden == found:
            return None
        return differential.compare_rtl(case, self._config, seed=seed) or (
            f"{case.name}: differs only behind the layers before it"
        )


@dataclass(frozen=True)
class Plan:
    """What a campaign runs, and how far.

    Parameters
    ----------
    name : str
        Name in the totals.
    cases : int
        Cases on the present hardware, those of earlier runs included.
    end : float
        Time (monotonic, seconds) at which it stops all the same.
    path : Path
        File of totals.
    """

    name: str
    cases: int
    end: float
    path: Path


def campaign(
    plan: Plan,
    config: AcceleratorConfig,
    run: Callable[[int], tuple[Counter[str], Failures]],
    replay: str,
) -> bool:
    """Run seeds until the plan is done, saving now and then; return whether anything failed."""
    key = hardware_key(config)
    failed = done = False
    while not done:
        entry = Totals(plan.path).entry(plan.name, config.name, key)
        seed, counts, failures = entry.next, Counter(cases=0), []
        save = time.monotonic() + _SAVE_SECONDS
        while time.monotonic() < save:
            done = time.monotonic() > plan.end
            done |= entry.on_this_hardware + counts["cases"] >= plan.cases
            if done:
                break
            found, problems = run(seed)
            counts.update(found)
            failures += [f"{problem}; `{replay} --seed {seed}`" for problem in problems]
            seed += 1
        if counts["cases"]:
            Totals(plan.path).add(
                plan.name, config.name, key, counts, following=seed, failures=failures
            )
        failed |= bool(failures)
        print(f"{plan.name}, {config.name}, up to {seed}: {dict(counts)}", flush=True)
        print(*failures, sep="\n", end="\n" if failures else "", flush=True)
    return failed


def _runner(kind: str, config: AcceleratorConfig) -> Callable[[int], tuple[Counter[str], Failures]]:
    if kind == "layers":
        return LayerRunner(config).run
    levels = STALL_LEVELS if kind == "stalls" else _TWO_LEVELS
    return ProgramRunner(config, levels, every_level=kind == "stalls").run


def _replay_command(kind: str, config: AcceleratorConfig) -> str:
    return f"python -m systolith.bench.campaign_random {kind} --config {config.name}"


def _run_configs(plan: Plan) -> bool:
    """Run programs and layers on random configurations, each built once."""
    failed = False
    for seed in range(plan.cases):
        if time.monotonic() > plan.end:
            break
        config = random_config(seed)
        for kind, cases in (("programs", PROGRAMS_OF_A_CONFIG), ("layers", LAYERS_OF_A_CONFIG)):
            part = Plan(f"random {kind}", cases, float("inf"), plan.path)
            key = hardware_key(config)
            entry = Totals(plan.path).entry(part.name, config.name, key)
            if entry.on_this_hardware >= cases:
                continue
            run = _runner(kind, config)
            failed |= campaign(part, config, run, _replay_command(kind, config))
    return failed


def _replay(kind: str, config: AcceleratorConfig, seed: int) -> int:
    if kind != "layers":
        program = draw_program(config, seed)
        items = instructions_of(program, config, seed)
        print(isa.disassemble(b"".join(item.to_bytes() for item in items)))
    counts, failures = _runner(kind, config)(seed)
    print(dict(counts), *failures, sep="\n")
    return _FAILED if failures else 0


def main() -> int:
    """Run a campaign; return 3 if anything differed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("programs", "stalls", "layers", "configs"))
    parser.add_argument("--config", default="tiny-4x4", help="name, or random-<seed>")
    parser.add_argument("--cases", type=int, default=1000, help="on the present hardware, in all")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--totals", type=Path, default=TOTALS)
    parser.add_argument("--seed", type=int, help="run this seed only, and count nothing")
    options = parser.parse_args()
    end = time.monotonic() + options.minutes * 60
    plan = Plan(f"random {options.kind}", options.cases, end, options.totals)
    if options.kind == "configs":
        failed = _run_configs(plan)
    else:
        config = find_any_config(options.config)
        if options.seed is not None:
            return _replay(options.kind, config, options.seed)
        command = _replay_command(options.kind, config)
        failed = campaign(plan, config, _runner(options.kind, config), command)
    render(Totals(options.totals))
    return _FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main())
