"""A handful of mutants in a simulator: chosen by a variable, noticed, and absent from number zero."""

import contextlib
import os

import pytest

from systolith.arch.presets import PRESETS
from systolith.bench import late_counts, mutation, mutation_checks, registers
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


@pytest.fixture
def as_it_is(design, monkeypatch):
    chosen = mutation.mutant.Mutant(TINY.name, library_of(TINY, design), 0)
    monkeypatch.setenv(mutation.mutant.VARIABLE, str(chosen))


@pytest.mark.usefixtures("as_it_is")
def test_programs_do_not_depend_on_where_counts_begin(seed):
    assert list(late_counts.Late.draw(TINY, seed).problems()) == []


@pytest.mark.usefixtures("as_it_is")
def test_counts_that_do_not_begin_late_are_noticed(seed, monkeypatch):
    monkeypatch.setattr(late_counts, "counting_from", lambda *_: contextlib.nullcontext())
    found = list(late_counts.Late.draw(TINY, seed).problems())
    assert sum(text.startswith("cycles from 0x55555555 on: ") for text in found) == 4
    assert sum(text.startswith("fault from 0x55555555 on: ") for text in found) > 3


def test_only_simulators_with_mutants_begin_late(monkeypatch):
    monkeypatch.delenv(mutation.mutant.VARIABLE, raising=False)
    with pytest.raises(ValueError, match="SYSTOLITH_MUTANT must name a simulator of tiny-4x4"):
        late_counts.counting_from(TINY, 1).__enter__()
