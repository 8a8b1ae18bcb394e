"""What runs where coverage is counted: programs, layers, hostile streams, faults, registers, windows."""

import itertools
from collections.abc import Iterator

from systolith.arch import csr, isa
from systolith.arch.config import AcceleratorConfig
from systolith.bench import (
    bus_faults,
    counter_laws,
    differential,
    drain_program,
    fault_program,
    hostile,
    late_counts,
    registers,
    wait_program,
    windows,
)
from systolith.bench.differential import MEMORY_BYTES
from systolith.bench.mutation_checks import ELSEWHERE
from systolith.bench.random_instruction import block
from systolith.bench.random_program import RegionImage
from systolith.bench.rtl import RtlDevice
from systolith.bench.rtl.device import MEMORY_BASE

SOURCES = (
    __file__,
    bus_faults.__file__,
    differential.__file__,
    drain_program.__file__,
    fault_program.__file__,
    hostile.__file__,
    late_counts.__file__,
    wait_program.__file__,
    windows.__file__,
)
"""Files that decide what runs."""

_STREAMS, _BATCHES = 250, 2
_TURNS = 4200
_LATENCY = 7
_FAULT_STRIDE = 60
_COUNTS = (0x5555_5555, 0xAAAA_AAAA, 0x5555_5555, 0)
"""Where counters begin: each bit rises and falls, and at last they begin as ever."""

_CHAINS = 17
_FAULT_PROGRAM_STRIDE = 10


def stimulate(config: AcceleratorConfig, cases: int) -> Iterator[None]:
    """Run what should reach everything; yield after each device was closed.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    cases : int
        Random programs and layers.
    """
    for seed, _, case in itertools.islice(differential.cases(config, 0), cases):
        found = differential.compare_rtl(case, config, seed=seed)
        assert found is None, found
        yield
    for number in range(_BATCHES):
        base = (ELSEWHERE, MEMORY_BASE)[number % 2]
        with RtlDevice(
            config, latency=_LATENCY, memory_size=MEMORY_BYTES, memory_base=base,
            stall=0.3 * number, seed=1,
        ) as device:  # fmt: skip
            batch = hostile.Batch(config, number, _STREAMS, base=base)
            _, failed = hostile.judge(batch, batch.run(device), batch.accepted())
            assert not failed, hostile.replay_command(config, number, failed[0])
            run_long(config, device)
        yield
    wrong = registers.problems(config, 0) + counter_laws.problems(config)
    assert not wrong, wrong[0]
    yield
    wrong = list(windows.problems(config, 0))
    assert not wrong, wrong[0]
    run_late(config)
    yield
    found = differential.compare_rtl(drain_program.drain_case(config, 0), config, seed=0)
    assert found is None, found
    yield
    _, failures = bus_faults.run(config, stride=_FAULT_STRIDE, base=ELSEWHERE)
    assert not failures, failures[0]
    yield
    for number, items, report in itertools.islice(
        fault_program.cases(config, 0), 0, None, _FAULT_PROGRAM_STRIDE
    ):
        found = fault_program.problem(config, number, items, report)
        assert found is None, found
        yield


def run_late(config: AcceleratorConfig) -> None:
    """Run a program again and again, as if millions of instructions and cycles lay behind it."""
    case, wanted = late_counts.chain_of(config, 0, _CHAINS)
    items = (*case.body, *case.tail)
    with RtlDevice(config, latency=_LATENCY, memory_size=MEMORY_BYTES) as device:
        for count in _COUNTS:
            device.count_from(count)
            found = differential.execute(device, items, case.regions)
            assert found == wanted, f"counted from {count:#x} on"
            for register in csr.BY_NAME.values():
                device.read_register(register.addr)


def run_long(config: AcceleratorConfig, device: RtlDevice) -> None:
    """Run one program of very many instructions for all engines, then a short one."""
    turn = (
        block(isa.Load, isa.Space.SCRATCHPAD, 1, 0, 0, 1),
        isa.Geometry(lanes=1, lanes_last=1, weight_rows=config.rows, weight_rows_last=config.rows),
        isa.Quantize(low=-128, high=127),
        block(isa.Store, isa.Space.SCRATCHPAD, 2, 0, 0, 1),
    )
    regions = (RegionImage(b"1", read=True, write=False), RegionImage(b"0", read=False, write=True))
    for turns in (_TURNS, 1):
        outcome = differential.execute(device, [*turn * turns, isa.Halt()], regions)
        assert outcome.fault is None, outcome.fault
