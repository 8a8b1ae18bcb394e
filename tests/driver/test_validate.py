"""The host's validator: what it refuses, and how it says so."""

import dataclasses

import numpy as np
import pytest

from systolith.arch import isa
from systolith.arch.errors import ProgramError, ValidationError
from systolith.arch.isa import AccOp, Drain, FeedMode, Geometry, Halt, Load, Pass, Store, Vector
from systolith.arch.presets import PRESETS
from systolith.arch.program import Region
from systolith.bench.random_layer import ODD_CONFIGS
from systolith.bench.random_program import random_program
from systolith.driver.device import Device
from systolith.driver.validate import RegionExtent, check_code, check_program
from systolith.golden.device import GoldenDevice

TINY = PRESETS["tiny-4x4"]
FEEDS = ODD_CONFIGS["odd-7x3"]
REGIONS = {
    1: RegionExtent(1000, read=True, write=False),
    2: RegionExtent(1000, read=False, write=True),
    3: RegionExtent(1 << 22, read=True, write=True),
}


def move(kind, size=8, **fields):
    sizes = {"run": size, "run_step": size, "total": size, "segment": size, "segment_step": size}
    return kind(**{"region": 1 if kind is Load else 2, **sizes, **fields})


def check(*items, config=TINY, **options):
    check_code(b"".join(item.to_bytes() for item in (*items, Halt())), config, REGIONS, **options)


PASS = Pass(cols=4, line_vectors=4)
WALK = Geometry(lines=1, line_bytes=64, col_step=4, lanes=4, lanes_last=4)
FEED_WALK = Geometry(
    mode=FeedMode.DEPTHWISE, lines=9, line_bytes=64, col_step=8, ky_lines=1, ky_step=8, lanes=3,
    lanes_last=3,
)  # fmt: skip
SUMS = dataclasses.replace(PASS, first_op=AccOp.ADD, wait_drain=0)

GOOD = {
    "load to the last byte": [move(Load, offset=992)],
    "store to the last byte": [move(Store, offset=992, addr=8184)],
    "weights": [move(Load, space=isa.Space.WEIGHTS, addr=4088)],
    "padding before the scratchpad": [
        WALK, dataclasses.replace(PASS, addr=-8, x=-8), Drain(cols=4, wait_execute=0),
    ],
    "all padding, anywhere": [
        dataclasses.replace(WALK, lines=0), dataclasses.replace(PASS, addr=-8000000),
    ],
    "last accumulator rows": [WALK, dataclasses.replace(PASS, acc=124)],
    "drain behind the pass that adds": [WALK, SUMS, Drain(cols=4, wait_execute=0), Halt()][:-1],
    "other bank": [WALK, SUMS, Drain(acc=64, cols=4)],
    "write passes share a bank": [WALK, PASS, Drain(cols=4, wait_execute=0), PASS],
}  # fmt: skip

BAD = {
    "one byte too far": ([move(Load, offset=993)], "REGION_BOUNDS", 0, "offset", 1000),
    "second run": ([move(Load, run=4, run_step=997)], "REGION_BOUNDS", 0, "offset", 1000),
    "no such region": ([move(Load, region=7)], "REGION_BOUNDS", 0, "offset", 7),
    "may not be read": ([move(Load, region=2)], "REGION_PERMISSION", 0, "region", 2),
    "may not be written": ([move(Store, region=1)], "REGION_PERMISSION", 0, "region", 1),
    "scratchpad": ([move(Load, addr=8185)], "LOCAL_ADDRESS", 0, "addr", 8192),
    "group": (
        [move(Load, segment=1, segments=2, segment_step=1, group_step=4096)],
        "LOCAL_ADDRESS", 0, "addr", 12289,
    ),
    "half a beat": (
        [move(Load, space=isa.Space.WEIGHTS, addr=4)], "ALIGNMENT", 0, "addr", 4,
    ),
    "weight word": (
        [WALK, dataclasses.replace(PASS, weight_addr=512)], "LOCAL_ADDRESS", 1, "weight_addr", 512,
    ),
    "window": ([WALK, dataclasses.replace(PASS, addr=8180)], "LOCAL_ADDRESS", 1, "addr", 8195),
    "window below": ([WALK, dataclasses.replace(PASS, addr=-1)], "LOCAL_ADDRESS", 1, "addr", -1),
    "accumulators": ([WALK, dataclasses.replace(PASS, acc=125)], "LOCAL_ADDRESS", 1, "acc", 128),
    "parameters": (
        [Drain(params=isa.ParamMode.LOAD, param_addr=127)], "LOCAL_ADDRESS", 0, "param_addr", 128,
    ),
    "residual": (
        [Drain(use_residual=1, residual=8189, lanes=4, lanes_last=4)],
        "LOCAL_ADDRESS", 0, "residual", 8192,
    ),
    "vector": ([Vector(length=10, rows=3, a=8100, a_step=42)], "LOCAL_ADDRESS", 0, "a", 8193),
    "operation of the configuration": ([Drain(lanes=5)], "ENCODING", 0, "word", None),
    "wait for nobody": ([move(Load, wait_store=1)], "WAIT", 0, "wait_store", 1),
    "halt within": ([Halt(), move(Load)], "HALT", 0, "opcode", 1),
    "drain beside a pass that adds": ([WALK, SUMS, Drain(cols=4)], "BANK_ORDER", 2, None, 0),
    "pass that adds beside a drain": (
        [Drain(cols=4), WALK, dataclasses.replace(SUMS, wait_drain=255)], "BANK_ORDER", 2,
        "wait_drain", 0,
    ),
    "for ever": (
        [
            dataclasses.replace(WALK, ky_count=64, kx_count=64, chunk_count=2048, ky_step=0),
            dataclasses.replace(PASS, weights=isa.WeightMode.KEEP),
        ],
        "DURATION", 1, "opcode", 64 * 64 * 2048 * 8,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_legal_code_is_accepted(name):
    check(*GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_illegal_code_is_refused_by_name(name):
    items, rule, index, operand, value = BAD[name]
    with pytest.raises(ValidationError, match=f"^Instruction {index}: ") as info:
        check(*items)
    error = info.value
    assert (error.rule, error.index) == (rule, index)
    assert operand in (None, error.operand)
    assert value in (None, error.value)
    assert isinstance(error, ProgramError)


@pytest.mark.parametrize(
    ("geometry", "item", "rule"),
    [
        (FEED_WALK, {}, None),
        (FEED_WALK, {"addr": 1}, "ALIGNMENT"),
        (dataclasses.replace(FEED_WALK, ky_step=32), {}, "PORT_CONFLICT"),
        (dataclasses.replace(FEED_WALK, ky_step=32, lines=1), {}, None),
        (
            dataclasses.replace(FEED_WALK, kx_count=64, chunk_count=2048, col_step=0),
            {"line_vectors": 2048, "weights": isa.WeightMode.KEEP},
            "FEEDS",
        ),
    ],
)
def test_feeds_may_not_meet(geometry, item, rule):
    items = geometry, dataclasses.replace(Pass(cols=2, line_vectors=2), **item)
    if rule is None:
        check(*items, config=FEEDS)
        return
    with pytest.raises(ValidationError) as info:
        check(*items, config=FEEDS)
    assert info.value.rule == rule


@pytest.mark.parametrize("code", [b"", bytes(31), Halt().to_bytes() + b"\1"])
def test_code_must_be_whole_instructions(code):
    with pytest.raises(ValidationError, match="must be 1 to 16777215 words") as info:
        check_code(code, TINY, REGIONS)
    assert (info.value.rule, info.value.index) == ("CODE_SIZE", None)


def test_code_must_end_with_halt():
    with pytest.raises(ValidationError, match="HALT must be the last"):
        check_code(move(Load).to_bytes(), TINY, REGIONS)


def test_no_loop_of_a_hostile_instruction_is_unrolled():
    walk = Geometry(
        lines=1 << 13, line_bytes=1 << 17, row_lines=31, row_step=1 << 21, ky_count=64, ky_lines=63,
        kx_count=64, chunk_count=2048, lanes=4, lanes_last=4,
    )  # fmt: skip
    item = Pass(rows=2048, cols=2048, line_vectors=2048, weights=isa.WeightMode.KEEP)
    with pytest.raises(ValidationError):
        check(walk, item)
    with pytest.raises(ValidationError):
        check(move(Load, run=1, run_step=0, total=1 << 22, segment=1, segment_step=0))


@pytest.mark.parametrize("name", ["tiny-4x4", "odd-5x6", "odd-7x3", "odd-12x10"])
def test_random_legal_programs_are_accepted(name, seed):
    config = {**PRESETS, **ODD_CONFIGS}[name]
    for number in range(10):
        program = random_program(config, np.random.default_rng([seed, number]), 30)
        regions = {
            n: RegionExtent(len(image.data), image.read, image.write)
            for n, image in enumerate(program.regions)
        }
        for items in (program.instructions, program.relaxed(config)):
            check_code(b"".join(item.to_bytes() for item in items), config, regions)


def test_bindings_must_lie_in_their_regions(copy_program, softmax_program):
    good = copy_program()
    check_program(good)
    check_program(softmax_program)
    (segment,) = good.segments
    for change in ({"input_bytes": 26}, {"output_bytes": 28}, {"arena_bytes": -1}):
        bad = dataclasses.replace(good, segments=(dataclasses.replace(segment, **change),))
        with pytest.raises(ValidationError, match='Program "copy", segment 0: '):
            check_program(bad)


def test_nothing_is_loaded_that_the_validator_refuses(tiny, copy_program):
    device = Device(GoldenDevice(tiny), tiny)
    bad = copy_program(load_region=Region.OUTPUT)
    with pytest.raises(ValidationError, match="region 3, which may not be read") as info:
        device.load(bad)
    assert (info.value.rule, info.value.index, info.value.value) == ("REGION_PERMISSION", 0, 3)
    with pytest.raises(ProgramError, match="must be loaded"):
        device.run(0, {})
