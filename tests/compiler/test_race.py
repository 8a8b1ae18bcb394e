from dataclasses import replace

import pytest

from systolith.arch import isa
from systolith.arch.errors import EncodingError, ProgramError, RaceError
from systolith.arch.presets import PRESETS
from systolith.bench.random_kernel import conv_kernel, graph_of
from systolith.compiler import backend, race

_NO_WAITS = {f"wait_{name}": isa.NO_WAIT for name in ("load", "execute", "drain", "store")}


def _program(rng, config):
    first = conv_kernel(rng, size=(9, 8), channels=6, out_channels=9, target="m")
    second = conv_kernel(
        rng, size=(9, 8), channels=9, out_channels=5, layer=1, source="m", target="y"
    )
    program = backend.lower(graph_of(first, second), PRESETS[config])
    return list(isa.iterate(program.segments[0].code))


def _bytes(instructions):
    return b"".join(instruction.to_bytes() for instruction in instructions)


@pytest.mark.parametrize("config", ["tiny-4x4", "edge-8x8"])
def test_compiled_program_is_proved(rng, config):
    assert race.check(_bytes(_program(rng, config)), PRESETS[config]) > 20


def test_each_wait_that_nothing_else_implies_is_needed(rng, tiny):
    """Taking away one wait is noticed, unless the other waits order the same accesses."""
    instructions = _program(rng, "tiny-4x4")
    caught = 0
    for index, instruction in enumerate(instructions):
        for name in _NO_WAITS:
            if getattr(instruction, name) == isa.NO_WAIT:
                continue
            mutant = list(instructions)
            mutant[index] = replace(instruction, **{name: isa.NO_WAIT})
            try:
                race.check(_bytes(mutant), tiny)
            except RaceError:
                caught += 1
    assert caught > 20


def test_race_message_names_both_instructions(tiny):
    load = isa.Load(region=1, run=8, total=8, segment=8)
    vector = isa.Vector(length=8, addr=64, a=0)
    with pytest.raises(
        RaceError,
        match=r"Instruction 1 \(vector .*\) reads scratchpad byte 0 .*"
        r"no order to instruction 0, which touches them as well; add a wait",
    ):
        race.check(_bytes([load, vector, isa.Halt()]), tiny)
    race.check(_bytes([load, replace(vector, wait_load=0), isa.Halt()]), tiny)


def test_transitive_order_is_enough(tiny):
    load = isa.Load(region=1, run=8, total=8, segment=8)
    vector = isa.Vector(length=8, addr=64, a=0, wait_load=0)
    store = isa.Store(region=3, run=8, total=8, addr=0, segment=8, wait_drain=0)
    race.check(_bytes([load, vector, store, isa.Halt()]), tiny)
    with pytest.raises(RaceError, match=r"Instruction 2 \(store .*no order to instruction 0"):
        race.check(_bytes([load, replace(vector, a=512, wait_load=isa.NO_WAIT), store]), tiny)


def test_weights_need_a_wait_that_the_weight_loader_checks(tiny):
    """The loader starts a tile before the waits for DRAIN are met, so those order no weights."""
    load = isa.Load(space=isa.Space.WEIGHTS, region=1, run=8, total=8, segment=8)
    image = replace(load, space=isa.Space.SCRATCHPAD)
    vector = isa.Vector(length=8, addr=64, a=0, wait_load=0)
    geometry = isa.Geometry(lines=1, line_bytes=4)
    issue = isa.Pass(addr=64, wait_drain=0)
    with pytest.raises(RaceError, match="reads weight word 0"):
        race.check(_bytes([load, image, vector, geometry, issue]), tiny)
    race.check(_bytes([load, image, vector, geometry, replace(issue, wait_load=1)]), tiny)


def test_drain_and_adding_pass_may_not_share_an_accumulator_bank(tiny):
    drain = isa.Drain(acc=0, addr=0)
    adding = {"first_op": isa.AccOp.ADD, "weights": isa.WeightMode.KEEP}
    issue = isa.Pass(**adding, y=-1, acc=tiny.acc_rows - 1)
    geometry = isa.Geometry(lines=1, line_bytes=4)
    with pytest.raises(RaceError, match="accumulator bank 0"):
        race.check(_bytes([drain, geometry, issue]), tiny)
    other = replace(issue, acc=tiny.acc_rows)
    race.check(_bytes([drain, geometry, other]), tiny)
    # A pass that reads no sums back needs the bank's write port only.
    writing = replace(issue, first_op=isa.AccOp.WRITE)
    race.check(_bytes([drain, geometry, writing]), tiny)


def test_rules_and_memories_are_checked_too(tiny):
    with pytest.raises(EncodingError, match="Instruction 0: DRAIN field lanes must be in 1..4"):
        race.check(_bytes([isa.Drain(lanes=5)]), tiny)
    with pytest.raises(ProgramError, match="scratchpad byte 8192"):
        race.check(_bytes([isa.Vector(length=2, a=8191)]), tiny)
