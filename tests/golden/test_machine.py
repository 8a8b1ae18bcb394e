import numpy as np
import pytest

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Fault
from systolith.arch.errors import ProgramError
from systolith.golden.machine import Machine, MachineFault, Region

SPACES = isa.Space


@pytest.fixture
def config():
    """Three feeds, words of 8 bytes, 4 banks, a rectangular array."""
    return AcceleratorConfig(
        name="test", rows=6, cols=4, scratchpad_bytes=1 << 10, weight_bytes=1 << 9, acc_rows=16,
        param_bytes=256, lanes=4, feeds=3, axi_data_bits=64,
    )  # fmt: skip


@pytest.fixture
def machine(config):
    return Machine(config)


def code_of(*items, halt=True):
    return b"".join(item.to_bytes() for item in (*items, *([isa.Halt()] if halt else [])))


def region(size=256, **permissions):
    return Region(np.zeros(size, np.uint8), base=0x1000, **permissions)


def move(kind=isa.Load, size=64, **fields):
    steps = {"run": size, "run_step": size, "segment": size, "segment_step": size}
    return kind(**({"region": 1, "total": size, "group_step": size} | steps | fields))


def fault_of(machine, *items, regions=None, halt=True):
    regions = regions or [region(), region(), region()]
    with pytest.raises(MachineFault) as caught:
        machine.run(code_of(*items, halt=halt), regions)
    fault = caught.value
    return fault.code, fault.engine, fault.index, fault.addr


# A pass over an image of one line that covers the whole scratchpad.
WALK = {"lines": 1, "line_bytes": 1 << 10, "lanes": 6, "lanes_last": 6, "weight_rows": 6}


def test_program_without_halt_runs_off_its_end(machine):
    assert fault_of(machine, isa.Quantize(), halt=False) == (
        Fault.REGION_BOUNDS,
        isa.Engine.SEQUENCER,
        1,
        isa.INSTRUCTION_BYTES,
    )


def test_empty_program_runs_off_its_end(machine):
    assert fault_of(machine, halt=False)[:3] == (Fault.REGION_BOUNDS, isa.Engine.SEQUENCER, 0)


def test_instructions_after_halt_have_no_effect(machine):
    machine.run(code_of(isa.Halt(), move(region=7)), [])
    assert machine.completed == [0, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("word", "code"),
    [
        (0, Fault.ILLEGAL_OPCODE),
        (0xFF, Fault.ILLEGAL_OPCODE),
        (int(isa.Opcode.HALT) | 1 << 40, Fault.RESERVED_BITS),
        (int(isa.Opcode.PASS) | 1 << 255, Fault.RESERVED_BITS),
        # Reserved bits are looked at before fields.
        (isa.Elementwise(out_shift=1).encode() | 1 << 255, Fault.RESERVED_BITS),
        (isa.Elementwise(out_shift=1).encode(), Fault.FIELD_RANGE),
        (int(isa.Opcode.PASS) | 3 << 40, Fault.FIELD_RANGE),
        (isa.Store(space=SPACES.WEIGHTS).encode(), Fault.FIELD_RANGE),
        (isa.Pass(cols=3, line_vectors=2).encode(), Fault.FIELD_RANGE),
        (isa.Geometry(lanes=7).encode(), Fault.FIELD_RANGE),
        (isa.Drain(lanes=5).encode(), Fault.FIELD_RANGE),
    ],
)
def test_illegal_word_faults_in_the_decoder(machine, word, code):
    items = isa.Quantize().to_bytes() + word.to_bytes(isa.INSTRUCTION_BYTES, "little")
    with pytest.raises(MachineFault, match=code.name) as caught:
        machine.run(items, [])
    assert (caught.value.code, caught.value.engine, caught.value.index) == (
        code,
        isa.Engine.SEQUENCER,
        1,
    )


@pytest.mark.parametrize(
    ("item", "code", "addr"),
    [
        (move(offset=193), Fault.REGION_BOUNDS, 0x1100),
        (move(offset=256), Fault.REGION_BOUNDS, 0x1100),
        (move(offset=1 << 20), Fault.REGION_BOUNDS, 0x1000 + (1 << 20)),
        (move(run=8, run_step=40), Fault.REGION_BOUNDS, 0x1000 + 7 * 40),
        (move(region=7), Fault.REGION_BOUNDS, 0),
        (move(region=3), Fault.REGION_PERMISSION, 0x1000),
        (move(region=3, offset=4), Fault.REGION_PERMISSION, 0x1004),
        (move(region=3, offset=256), Fault.REGION_BOUNDS, 0x1100),
        (move(region=5, offset=100), Fault.BUS_READ, 0x1080),
        (move(addr=961), Fault.LOCAL_ADDRESS, 1024),
        (move(addr=1024), Fault.LOCAL_ADDRESS, 1024),
        (move(space=SPACES.TABLES, addr=1000), Fault.LOCAL_ADDRESS, 1024),
        (move(space=SPACES.WEIGHTS, addr=456), Fault.LOCAL_ADDRESS, 512),
        (move(space=SPACES.PARAMS, addr=200), Fault.LOCAL_ADDRESS, 256),
        (move(space=SPACES.WEIGHTS, addr=12), Fault.ALIGNMENT, 12),
        (move(space=SPACES.PARAMS, offset=4), Fault.ALIGNMENT, 0),
        (move(space=SPACES.TABLES, size=63), Fault.ALIGNMENT, 0),
        (move(space=SPACES.WEIGHTS, group_step=4), Fault.ALIGNMENT, 0),
    ],
)
def test_load_faults(machine, item, code, addr):
    regions = [region() for _ in range(7)]
    regions[3] = region(read=False)
    regions[5] = Region(np.zeros(128, np.uint8), base=0x1000, size=256)
    assert fault_of(machine, item, regions=regions) == (code, isa.Engine.LOAD, 0, addr)


@pytest.mark.parametrize(
    ("item", "code", "addr"),
    [
        (move(isa.Store, offset=193), Fault.REGION_BOUNDS, 0x1100),
        (move(isa.Store, region=3), Fault.REGION_PERMISSION, 0x1000),
        (move(isa.Store, region=5, offset=128), Fault.BUS_WRITE, 0x1080),
        (move(isa.Store, addr=1000), Fault.LOCAL_ADDRESS, 1024),
    ],
)
def test_store_faults(machine, item, code, addr):
    regions = [region() for _ in range(7)]
    regions[3] = region(write=False)
    regions[5] = Region(np.zeros(128, np.uint8), base=0x1000, size=256)
    assert fault_of(machine, item, regions=regions) == (code, isa.Engine.STORE, 0, addr)


@pytest.mark.parametrize(
    ("walk", "item", "addr"),
    [
        ({}, {"addr": -1}, -1),
        ({}, {"addr": 1019}, 1024),
        ({}, {"addr": 1025}, 1025),
        ({"col_step": 6}, {"addr": 1014, "cols": 2, "line_vectors": 2}, 1024),
        # Vectors whose sums are dropped are streamed all the same.
        ({"col_step": 6}, {"addr": 1014, "line_vectors": 2}, 1024),
        ({"col_step": 6}, {"addr": 1014, "tail": 1, "line_vectors": 1}, None),
        ({"row_step": 6}, {"addr": 1014, "tail": 1}, 1024),
        ({"lanes_last": 5}, {"addr": 1019}, None),
        ({"line_bytes": 5}, {"addr": 1019}, None),
        ({"lines": 0}, {"addr": 4096}, None),
        ({}, {"addr": -3, "x": -3}, None),
        ({}, {"addr": -4, "x": -3}, -1),
        ({}, {"weight_addr": 59}, 64),
        ({"weight_rows_last": 1}, {"weight_addr": 63}, None),
        ({"chunk_count": 2}, {"weight_addr": 53}, 64),
        ({"chunk_count": 2, "weight_rows_last": 5}, {"weight_addr": 53}, None),
        ({"chunk_count": 2}, {"weight_addr": 53, "weights": isa.WeightMode.ONCE}, None),
        ({}, {"weight_addr": 900, "weights": isa.WeightMode.KEEP}, None),
        ({}, {"acc": 32}, 32),
        ({}, {"acc": 31, "cols": 2, "line_vectors": 2}, 32),
        ({}, {"acc": 31}, None),
    ],
)
def test_pass_stays_in_its_memories(machine, walk, item, addr):
    geometry = isa.Geometry(**(WALK | {"weight_rows_last": 6} | walk))
    if addr is None:
        machine.run(code_of(geometry, isa.Pass(**item)), [])
    else:
        fault = fault_of(machine, geometry, isa.Pass(**item))
        assert fault == (Fault.LOCAL_ADDRESS, isa.Engine.EXECUTE, 1, addr)


@pytest.mark.parametrize(
    ("ky_step", "addr", "lines", "code"),
    [
        (8, 0, 3, None),
        (8, 8, 3, None),
        # Feed 0 at another address than a word's needs two banks, the others cannot be there.
        (8, 4, 3, Fault.ALIGNMENT),
        (4, 4, 2, Fault.PORT_CONFLICT),
        (16, 0, 3, Fault.PORT_CONFLICT),
        (32, 0, 3, Fault.PORT_CONFLICT),
        (24, 0, 3, None),
        # Lines outside the image are not read.
        (32, 0, 1, None),
        (12, 4, 2, None),
    ],
)
def test_feeds_must_not_meet_in_a_bank(machine, ky_step, addr, lines, code):
    geometry = isa.Geometry(
        mode=isa.FeedMode.DEPTHWISE, lines=lines, line_bytes=32, ky_lines=1, ky_step=ky_step,
        lanes=4, lanes_last=4,
    )  # fmt: skip
    item = isa.Pass(addr=addr)
    if code:
        fault = fault_of(machine, geometry, item)
        assert fault[:3] == (code, isa.Engine.EXECUTE, 1)
    else:
        machine.run(code_of(geometry, item), [])


@pytest.mark.parametrize(
    ("item", "addr"),
    [
        (isa.Drain(acc=32), 32),
        (isa.Drain(acc=30, reduce=3), 32),
        (isa.Drain(addr=1021, lanes_last=4), 1024),
        (isa.Drain(addr=1021, cols=2, lanes=4, lanes_last=1), 1024),
        (isa.Drain(addr=1023, lanes=4, lanes_last=1), None),
        (isa.Drain(use_residual=1, residual=1022, lanes_last=3), 1024),
        (isa.Drain(residual=1022, lanes_last=3), None),
        (isa.Drain(params=isa.ParamMode.LOAD, param_addr=31), 32),
        (isa.Drain(params=isa.ParamMode.LOAD, param_addr=30), None),
        (isa.Drain(params=isa.ParamMode.KEEP, param_addr=40), None),
        (isa.Vector(addr=1020, length=5), 1024),
        (isa.Vector(a=1020, length=5), 1024),
        (isa.Vector(b=1020, length=5), None),
        (isa.Vector(op=isa.VectorOp.ELEMENTWISE, b=1020, length=5), 1024),
        (isa.Vector(rows=2, a_step=1000, length=25), 1024),
        (isa.Vector(rows=2, a_step=1000, length=24), None),
        (isa.Vector(a=1030, length=5), 1030),
        (isa.Vector(rows=3, row_step=700, length=5), 1400),
        (isa.Drain(addr=1030), 1030),
    ],
)
def test_drain_engine_stays_in_its_memories(machine, item, addr):
    if addr is None:
        machine.run(code_of(item), [])
    else:
        assert fault_of(machine, item) == (Fault.LOCAL_ADDRESS, isa.Engine.DRAIN, 0, addr)


def test_faulting_instruction_changes_nothing(machine):
    before = machine.scratchpad.copy()
    machine.acc[...] = 77
    fault_of(machine, isa.Quantize(multiplier=1 << 30, shift=1, high=127),
             isa.Drain(rows=2, row_step=1023, lanes_last=4))  # fmt: skip
    assert (machine.scratchpad == before).all()


def test_engines_are_reset_at_start_and_memories_are_not(machine):
    machine.scratchpad[:6] = 1
    machine.weights[:6, :4] = 1
    setup = (
        isa.Geometry(**WALK, weight_rows_last=6),
        isa.Quantize(multiplier=1 << 30, shift=1, low=-128, high=127),
    )
    drain = isa.Drain(lanes_last=4, addr=100)
    machine.run(code_of(*setup, isa.Pass(), drain), [])
    assert machine.scratchpad[100:104].tolist() == [6] * 4
    # Without its setup the drain is one of zeros, and the kept tile is gone.
    machine.run(code_of(drain, setup[0], isa.Pass(weights=isa.WeightMode.KEEP, acc=1)), [])
    assert machine.scratchpad[100:104].tolist() == [0] * 4
    assert machine.acc[:2].tolist() == [[6] * 4, [0] * 4]


def test_accumulators_wrap(machine):
    machine.acc[0] = 2**31 - 1
    machine.scratchpad[0] = machine.weights[0, 0] = 1
    machine.run(
        code_of(isa.Geometry(**WALK, weight_rows_last=1), isa.Pass(first_op=isa.AccOp.ADD)), []
    )
    assert machine.acc[0].tolist() == [-(2**31)] + [2**31 - 1] * 3


@pytest.mark.parametrize("chunks", [1, 1024])
def test_largest_products_are_exact(machine, chunks):
    machine.scratchpad[...] = machine.weights[...] = 128
    geometry = isa.Geometry(**WALK, weight_rows_last=6, chunk_count=chunks)
    item = isa.Pass(weights=isa.WeightMode.ONCE, next_op=isa.AccOp.ADD)
    machine.run(code_of(geometry, item), [])
    assert machine.acc[0].tolist() == [6 * chunks * 128 * 128] * 4


def test_shift_without_meaning_is_refused(machine):
    quantize = isa.Quantize(per_channel=1)
    machine.params[...] = 31
    with pytest.raises(ProgramError, match=r"Shifts in the parameter memory must be in -31\.\.30"):
        machine.run(code_of(quantize, isa.Drain(params=isa.ParamMode.LOAD)), [])


def test_trace_sees_each_completed_instruction(config):
    seen = []
    machine = Machine(config, trace=lambda index, item: seen.append((index, str(item))))
    items = (isa.Quantize(shift=3), isa.Drain(rows=2, row_step=8))
    machine.run(code_of(*items), [])
    assert seen == [(0, str(items[0])), (1, str(items[1])), (2, "halt")]


def test_counts_instructions_and_bytes(machine):
    regions = [region(), Region(np.zeros(256, np.uint8), base=0x1004)]
    program = code_of(
        move(size=64),
        move(size=10, offset=3, run=1, run_step=20, segment=1, segment_step=3),
        move(isa.Store, size=33, addr=7),
        isa.Vector(),
        isa.Geometry(),
    )
    machine.run(program, regions)
    assert machine.completed == [2, 1, 1, 1, 1]
    # 64 bytes from an address that is no multiple of a beat take 9 beats; each lone byte takes one.
    assert machine.read_bytes == len(program) + 9 * 8 + 10 * 8
    assert machine.write_bytes == 33


def test_too_many_regions_are_refused(machine):
    with pytest.raises(ValueError, match="Regions must be at most 8, not 9"):
        machine.run(code_of(), [region()] * 9)
