"""A handful of mutants in a simulator: chosen by a variable, noticed, and absent from number zero."""

import os

import pytest

from systolith.arch.presets import PRESETS
from systolith.bench import mutation, mutation_checks, registers
from systolith.bench.mutation import NO_END, SURVIVED
from systolith.bench.mutation_checks import Check
from systolith.bench.mutation_design import library_of, mutated

pytestmark = pytest.mark.cosim

TINY = PRESETS[mutation.CONFIG]
HANDFUL = 12
PROGRAMS = 6


@pytest.fixture(scope="module")
def design():
    return mutated(TINY, mutation.COUNT, mutation.SEED)


def few_checks(seed):
    cases = mutation_checks.programs(TINY, range(seed, seed + PROGRAMS))
    return [
        Check("registers", lambda: next(iter(registers.problems(TINY, seed)), None)),
        Check("programs", lambda: mutation_checks.run_all(TINY, cases)),
    ]


def test_mutants_are_noticed_and_the_design_as_it_is_passes(design, seed):
    step = len(design.mutations) // HANDFUL
    numbers = [0, *range(1, len(design.mutations) + 1, step)]
    found = {n: by for n, by, _ in mutation.run(TINY, design, few_checks(seed), numbers)}
    assert set(found) == set(numbers)
    assert found.pop(0) == SURVIVED
    killed = [number for number, by in found.items() if by != SURVIVED]
    assert len(killed) > len(found) / 2


def test_simulators_that_end_their_process_or_never_end_are_noticed(design, monkeypatch):
    gone = Check("gone", lambda: os._exit(1))
    assert list(mutation.run(TINY, design, [gone], [1])) == [(1, NO_END, "the simulator gave up")]
    monkeypatch.setattr(mutation, "_SECONDS", 0.2)
    endless = Check("endless", lambda: os.read(os.pipe()[0], 1) and None)
    assert list(mutation.run(TINY, design, [endless], [1])) == [(1, NO_END, "no answer in 0 s")]


def test_other_configurations_have_no_mutants(design, monkeypatch):
    chosen = mutation.mutant.Mutant(TINY.name, library_of(TINY, design), 3)
    monkeypatch.setenv(mutation.mutant.VARIABLE, str(chosen))
    assert mutation.mutant.chosen(TINY) == chosen
    assert mutation.mutant.chosen(PRESETS["edge-8x8"]) is None
    monkeypatch.delenv(mutation.mutant.VARIABLE)
    assert mutation.mutant.chosen(TINY) is None
