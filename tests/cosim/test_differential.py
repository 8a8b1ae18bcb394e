"""Generated hardware against golden model on random programs and layers: every byte of memory.

Programs wait for everything before each instruction and so compare what instructions mean; layers
run with the waits as compiled and so compare what engines do at the same time.
"""

import dataclasses

import pytest

from systolith.arch import isa
from systolith.arch.presets import PRESETS
from systolith.bench import differential
from systolith.bench.differential import (
    MEMORY_BYTES,
    compare,
    compare_rtl,
    random_layer_cases,
    random_program_case,
)
from systolith.bench.drain_program import drain_case
from systolith.bench.long_moves import long_case
from systolith.bench.mutation_checks import (
    DRAINS,
    EXTREMES,
    LAYER_SEEDS,
    LONG,
    PROGRAMS,
    SEED,
    WAITS,
    drawn,
    run_all,
)
from systolith.bench.random_extremes import extreme_case
from systolith.bench.random_layer import KINDS, ODD_CONFIGS
from systolith.bench.wait_program import wait_case
from systolith.golden.device import GoldenDevice

# Rows, columns and lanes that divide nothing, and all three feeds.
ODD = ODD_CONFIGS["odd-7x3"]
CONFIGS = {"tiny-4x4": PRESETS["tiny-4x4"], ODD.name: ODD}
SLOW_CONFIGS = {**ODD_CONFIGS, "edge-8x16": PRESETS["edge-8x16"]}
PROGRAMS_OF_A_TEST = 10
PROGRAM_TESTS = 11
assert PROGRAM_TESTS * PROGRAMS_OF_A_TEST >= PROGRAMS
SLOW_SEEDS = 150

all_configs = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)


def check(cases, config, seed):
    for case in cases:
        found = compare_rtl(case, config, seed=seed)
        assert found is None, found


@pytest.mark.cosim
@all_configs
@pytest.mark.parametrize("number", range(PROGRAM_TESTS))
def test_random_programs_leave_equal_memories(config, number, seed):
    for case_seed in range(PROGRAMS_OF_A_TEST):
        case_seed += seed + number * PROGRAMS_OF_A_TEST
        check([random_program_case(config, case_seed)], config, case_seed)


@pytest.mark.cosim
@all_configs
@pytest.mark.parametrize("number", range(DRAINS))
def test_drains_of_sums_of_every_size_leave_equal_memories(config, number, seed):
    check([drain_case(config, seed + number)], config, seed + number)


@pytest.mark.cosim
@all_configs
def test_fields_at_their_limits_leave_equal_memories(config, seed):
    for case_seed in range(seed, seed + EXTREMES):
        check([extreme_case(config, case_seed)], config, case_seed)


@pytest.mark.cosim
@all_configs
def test_what_waits_for_each_other_moves_the_right_bytes(config, seed):
    for case_seed in range(seed, seed + WAITS):
        check([wait_case(config, case_seed)], config, case_seed)


@pytest.mark.cosim
@all_configs
def test_moves_of_millions_of_bytes_leave_equal_memories(config, seed):
    assert seed == SEED
    assert run_all(config, drawn(config, LONG, long_case)) is None


@pytest.mark.cosim
@all_configs
@pytest.mark.parametrize("kind", KINDS)
def test_random_layers_leave_equal_memories(config, kind, seed):
    if kind not in differential.kinds_for(config):
        pytest.skip("this configuration has no products")
    for case_seed in range(seed, seed + LAYER_SEEDS):
        check(random_layer_cases(config, kind, case_seed), config, case_seed)


@pytest.mark.slow
@pytest.mark.cosim
@pytest.mark.parametrize("config", SLOW_CONFIGS.values(), ids=SLOW_CONFIGS)
def test_many_random_programs_and_layers_leave_equal_memories(config, seed):
    for case_seed, _, case in differential.cases(config, seed):
        if case_seed == seed + SLOW_SEEDS:
            return
        check([case], config, case_seed)


class WrongDevice(GoldenDevice):
    """A golden device that inverts the lowest bit of a place after one instruction."""

    def __init__(self, config, instruction, place):
        super().__init__(config, memory_size=MEMORY_BYTES, trace=self.spoil)
        self.instruction, self.place = instruction, place

    def spoil(self, index, item):
        if item == self.instruction:
            memory, at = self.place
            getattr(self.machine, memory)[at] ^= 1


def test_golden_equals_itself(tiny, seed):
    case = random_program_case(tiny, seed)
    device = lambda: GoldenDevice(tiny, memory_size=MEMORY_BYTES)  # noqa: E731
    assert compare(case, device, device) is None


@pytest.mark.parametrize(
    ("place", "text"),
    [
        (("scratchpad", 4321), "1 bytes of scratchpad differ, the first is byte 4321: "),
        (("acc", (77, 2)), f"of accumulators differ, the first is byte {77 * 4 + 2}: "),
    ],
)
def test_report_names_seed_instruction_and_byte(tiny, seed, place, text):
    case = random_program_case(tiny, seed)
    passes = [i for i, item in enumerate(case.body) if isinstance(item, isa.Pass)]
    number = next(i for i in reversed(passes) if case.body.count(case.body[i]) == 1)
    found = compare(
        case,
        lambda: GoldenDevice(tiny, memory_size=MEMORY_BYTES),
        lambda: WrongDevice(tiny, case.body[number], place),
    )
    assert found is not None
    assert found.startswith(f"random program of seed {seed}, 40 steps, on tiny-4x4: after ")
    assert f"after instruction {number} ({case.body[number]}), " in found
    assert text in found


def test_faults_that_differ_are_reported(tiny, seed):
    case = random_program_case(tiny, seed)
    wrong = dataclasses.replace(isa.Store(region=7), wait_load=0)
    broken = dataclasses.replace(case, body=(*case.body, wrong))
    golden = differential.execute(
        GoldenDevice(tiny, memory_size=MEMORY_BYTES), (*broken.body, *broken.tail), case.regions
    )
    assert differential.first_difference(case, golden, golden) is None
    fine = differential.execute(
        GoldenDevice(tiny, memory_size=MEMORY_BYTES), (*case.body, *case.tail), case.regions
    )
    assert differential.first_difference(case, golden, fine) == (
        f"golden ends with REGION_BOUNDS of STORE at instruction {len(case.body)}, address 0x0, "
        "the device with no fault"
    )
