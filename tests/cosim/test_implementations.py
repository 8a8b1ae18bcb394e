"""Other multipliers and a deep pipeline: golden model and programs stay the same."""

import dataclasses

import pytest

from systolith.arch.config import MULTIPLIERS
from systolith.arch.presets import PRESETS
from systolith.bench import differential
from systolith.bench.differential import compare_rtl, random_layer_cases, random_program_case
from systolith.bench.random_layer import ODD_CONFIGS

VARIANTS = {name: {"multiplier": name} for name in MULTIPLIERS if name != "plain"}
VARIANTS["mult18x18d"]["deep_pipeline"] = True  # as boards with an ECP5 are built
PROGRAMS, SLOW_SEEDS = 20, 150


def variant_of(config, name):
    return dataclasses.replace(config, name=f"{config.name}-{name}", **VARIANTS[name])


def check(cases, config, seed):
    for case in cases:
        found = compare_rtl(case, config, seed=seed)
        assert found is None, found


@pytest.mark.cosim
@pytest.mark.parametrize("variant", VARIANTS)
def test_random_programs_and_layers_leave_equal_memories(tiny, variant, seed):
    config = variant_of(tiny, variant)
    for case_seed in range(seed, seed + PROGRAMS):
        check([random_program_case(config, case_seed)], config, case_seed)
    for kind in differential.kinds_for(config):
        check(random_layer_cases(config, kind, seed), config, seed)


@pytest.mark.slow
@pytest.mark.cosim
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "base", [PRESETS["tiny-4x4"], ODD_CONFIGS["odd-7x3"]], ids=lambda c: c.name
)
def test_many_random_programs_and_layers_leave_equal_memories(base, variant, seed):
    config = variant_of(base, variant)
    for case_seed, _, case in differential.cases(config, seed):
        if case_seed == seed + SLOW_SEEDS:
            return
        check([case], config, case_seed)
