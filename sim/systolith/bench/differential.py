"""Two devices run the same program, and every byte that either can reach is compared.

A case ends with a dump: scratchpad and accumulators are stored to regions of their own, so that
local memories are compared too. When something differs, the program is shortened until the
instruction after which it differs is found. A case is known by its seed alone. Campaigns of many
cases are those of `systolith.bench.campaign_random`.
"""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.arch import csr, isa, rules
from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Fault
from systolith.arch.program import REGION_PERMISSIONS, AcceleratorSegment, Program, Region
from systolith.bench.random_layer import KINDS, random_model
from systolith.bench.random_program import MEMORY, RandomProgram, RegionImage, dump, random_program
from systolith.bench.rtl import RtlDevice
from systolith.bench.rtl.device import MEMORY_BASE
from systolith.compiler import pipeline
from systolith.compiler.frontend import tflite
from systolith.driver.device import Device
from systolith.driver.runtime import run_sample
from systolith.driver.transport import Transport
from systolith.golden.device import GoldenDevice

STEPS = 40
"""Random steps of a random program."""

MEMORY_BYTES = 4 << 20
_PRODUCTS = ("mul", "broadcast_mul")
_PAGE = 4096
_WATCHDOG_CYCLES = 1 << 20
_TIMEOUT_S = 120.0
_EVENTS = csr.pack("irq_enable", done=1, fault=1)
_WORD = 0xFFFFFFFF
_LAYER_MEMORY, _LAYER_SUMS = len(Region), len(Region) + 1
_MOST_STALL = 0.6
_HIGHEST_PAGE = (1 << 64) // _PAGE - MEMORY_BYTES // _PAGE

Array = NDArray[Any]
Open = Callable[[], Transport]


@dataclass(frozen=True)
class Case:
    """A program in two parts, and the memory that it works on.

    Parameters
    ----------
    name : str
        What the case is and the seed that makes it.
    body : tuple of Instruction
        The program that is tested.
    tail : tuple of Instruction
        Instructions that store the local memories, and HALT.
    regions : tuple of RegionImage
        Regions from number 1 on; region 0 is the program.
    dumped : mapping of int to str
        What the regions hold that the tail writes.
    """

    name: str
    body: tuple[isa.Instruction, ...]
    tail: tuple[isa.Instruction, ...]
    regions: tuple[RegionImage, ...]
    dumped: dict[int, str]


@dataclass(frozen=True)
class Outcome:
    """How a program ended.

    Parameters
    ----------
    fault : tuple or None
        Code, engine, instruction index and address of the fault.
    regions : tuple of bytes
        Contents of the regions from number 1 on.
    """

    fault: tuple[Fault, isa.Engine, int, int] | None
    regions: tuple[bytes, ...]


def dumping_case(name: str, program: RandomProgram, items: Sequence[isa.Instruction]) -> Case:
    """Return the case of a random program with some waits: its tail dumps the memories."""
    first = next(i for i, item in enumerate(items) if getattr(item, "region", 0) == MEMORY)
    return Case(
        name=name,
        body=tuple(items[:first]),
        tail=tuple(items[first:]),
        regions=program.regions[1:],
        dumped={MEMORY: "scratchpad", MEMORY + 1: "accumulators"},
    )


def random_program_case(config: AcceleratorConfig, seed: int, steps: int = STEPS) -> Case:
    """Return random legal instructions, each of which waits for all before it."""
    program = random_program(config, np.random.default_rng(seed), steps)
    name = f"random program of seed {seed}, {steps} steps, on {config.name}"
    return dumping_case(name, program, program.instructions)


def random_layer_cases(config: AcceleratorConfig, kind: str, seed: int) -> list[Case]:
    """Return each accelerator segment of a compiled random model, with the waits as compiled.

    What a segment reads is computed on the golden device.
    """
    drawn = random_model(kind, seed)
    program = pipeline.compile_graph(tflite.parse(drawn.model), config, keep_tensors=True)
    tensors = _tensors_read(program, {name: array[0] for name, array in drawn.inputs.items()})
    cases = []
    for index, segment in enumerate(program.segments):
        if not isinstance(segment, AcceleratorSegment):
            continue
        inputs = bytearray(segment.input_bytes)
        for binding in segment.inputs:
            data = np.ascontiguousarray(tensors[binding.tensor]).tobytes()
            inputs[binding.offset : binding.offset + len(data)] = data
        contents = {
            Region.CONSTANTS: program.constants,
            Region.INPUT: bytes(inputs),
            Region.OUTPUT: bytes(segment.output_bytes),
            Region.ARENA: bytes(segment.arena_bytes),
        }
        sums = 2 * config.acc_rows * config.cols * 4
        items = list(isa.iterate(segment.code))
        assert isinstance(items[-1], isa.Halt)
        cases.append(
            Case(
                name=f"{kind} of seed {seed}, segment {index}, on {config.name}",
                body=tuple(items[:-1]),
                tail=tuple(dump(config, _LAYER_MEMORY, _LAYER_SUMS)),
                regions=(
                    *(RegionImage(d, *REGION_PERMISSIONS[r]) for r, d in contents.items()),
                    RegionImage(bytes(config.scratchpad_bytes), read=False, write=True),
                    RegionImage(bytes(sums), read=False, write=True),
                ),
                dumped={_LAYER_MEMORY: "scratchpad", _LAYER_SUMS: "accumulators"},
            )
        )
    return cases


def _tensors_read(program: Program, sample: Mapping[str, Array]) -> Mapping[str, Array]:
    """Return what the accelerator's segments read; if that is not the sample only, it is run."""
    segments = [part for part in program.segments if isinstance(part, AcceleratorSegment)]
    if all(binding.tensor in sample for segment in segments for binding in segment.inputs):
        return sample
    device = Device(GoldenDevice(program.config, memory_size=MEMORY_BYTES))
    return run_sample(device, program, sample).tensors


def kinds_for(config: AcceleratorConfig) -> tuple[str, ...]:
    """Return the kinds of random models that a configuration can run."""
    limits = [
        rule.high
        for rule in rules.field_rules(config)
        if (rule.opcode, rule.field) == (isa.Opcode.ELEMENTWISE, "op")
        and isinstance(rule.high, int)
    ]
    products = min(limits, default=isa.ElementwiseOp.MUL) >= isa.ElementwiseOp.MUL
    return tuple(kind for kind in KINDS if products or kind not in _PRODUCTS)


class _Registers:
    """Registers of a device, by name."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def write(self, name: str, value: int) -> None:
        self._transport.write_register(csr.BY_NAME[name].addr, value & _WORD)

    def read(self, name: str) -> int:
        return self._transport.read_register(csr.BY_NAME[name].addr)


def execute(
    transport: Transport,
    items: Sequence[isa.Instruction],
    regions: Sequence[RegionImage],
    timeout_s: float = _TIMEOUT_S,
) -> Outcome:
    """Run instructions on a device from doorbell to interrupt.

    Parameters
    ----------
    transport : Transport
        Device.
    items : sequence of Instruction
        Program, placed in region 0.
    regions : sequence of RegionImage
        Regions from number 1 on.
    timeout_s : float
        Time in which it must end.

    Raises
    ------
    DeviceError
        The device does not end, or breaks a rule of its bus.
    """
    registers = _Registers(transport)
    code = b"".join(item.to_bytes() for item in items)
    images = (RegionImage(code, read=True, write=False), *regions)
    bases = _place(transport, registers, images)
    registers.write("program_count", len(items))
    registers.write("watchdog", _WATCHDOG_CYCLES)
    registers.write("irq_enable", _EVENTS)
    registers.write("control", csr.pack("control", start=1))
    transport.wait_interrupt(timeout_s)
    registers.write("irq_status", _EVENTS)
    contents = (
        transport.read_memory(base, len(image.data))
        for base, image in zip(bases[1:], images[1:], strict=True)
    )
    return Outcome(_fault_of(registers), tuple(contents))


def _place(transport: Transport, registers: _Registers, images: Sequence[RegionImage]) -> list[int]:
    """Write regions into memory, each on a page of its own, and announce them."""
    bases = []
    addr = -(-transport.memory_base // _PAGE) * _PAGE
    for number, image in enumerate(images):
        bases.append(addr)
        transport.write_memory(addr, image.data)
        registers.write(f"region{number}_base_lo", addr)
        registers.write(f"region{number}_base_hi", addr >> 32)
        registers.write(f"region{number}_size", len(image.data))
        flags = csr.pack("region0_flags", read=int(image.read), write=int(image.write))
        registers.write(f"region{number}_flags", flags)
        addr += -(-len(image.data) // _PAGE) * _PAGE
    return bases


def _fault_of(registers: _Registers) -> tuple[Fault, isa.Engine, int, int] | None:
    """Return code, engine, index and address of the fault of a program that has ended, if any."""
    if not csr.field_value("status", "fault", registers.read("status")):
        return None
    word = registers.read("fault")
    return (
        Fault(csr.field_value("fault", "code", word)),
        isa.Engine(csr.field_value("fault", "engine", word)),
        registers.read("fault_index"),
        registers.read("fault_addr_lo") | registers.read("fault_addr_hi") << 32,
    )


def first_difference(case: Case, golden: Outcome, device: Outcome) -> str | None:
    """Return the first byte in which two outcomes differ, dumped memories first, or None."""
    if golden.fault != device.fault:
        return f"golden ends with {_fault(golden)}, the device with {_fault(device)}"
    numbers = range(1, len(golden.regions) + 1)
    for number in sorted(numbers, key=lambda n: (n not in case.dumped, n)):
        here = np.frombuffer(golden.regions[number - 1], np.uint8)
        there = np.frombuffer(device.regions[number - 1], np.uint8)
        unequal = np.flatnonzero(here != there)
        if unequal.size:
            byte = int(unequal[0])
            place = case.dumped.get(number, f"region {number}")
            return (
                f"{unequal.size} bytes of {place} differ, the first is byte {byte}: "
                f"{here[byte]} in golden, {there[byte]} in the device"
            )
    return None


def _fault(outcome: Outcome) -> str:
    if outcome.fault is None:
        return "no fault"
    code, engine, index, addr = outcome.fault
    return f"{code.name} of {engine.name} at instruction {index}, address {addr:#x}"


def compare(case: Case, open_golden: Open, open_device: Open) -> str | None:
    """Run a case on two new devices.

    Returns
    -------
    str or None
        None if both end equal; else a sentence with the case, the instruction after which they
        differ, and the first differing byte.

    Raises
    ------
    DeviceError
        As of :func:`execute`.
    """

    def difference(length: int) -> str | None:
        items = (*case.body[:length], *case.tail)
        golden, device = (_run_on(open_, items, case) for open_ in (open_golden, open_device))
        return first_difference(case, golden, device)

    found = difference(len(case.body))
    if found is None:
        return None
    # Equal after `low` instructions, different after `high`.
    low, high = 0, len(case.body)
    while high - low > 1:
        middle = (low + high) // 2
        shorter = difference(middle)
        if shorter is None:
            low = middle
        else:
            high, found = middle, shorter
    return f"{case.name}: after instruction {high - 1} ({case.body[high - 1]}), {found}"


def _run_on(open_: Open, items: Sequence[isa.Instruction], case: Case) -> Outcome:
    transport = open_()
    try:
        return execute(transport, items, case.regions)
    finally:
        transport.close()


def surroundings(seed: int) -> dict[str, Any]:
    """Return the arguments of the RTL device of a seed: its memory, and how that behaves.

    Half of the seeds have random stalls, and half a memory somewhere in 64 bits of address.
    """
    rng = np.random.default_rng(seed)
    stall = _MOST_STALL * float(rng.random()) if seed % 2 else 0.0
    base = MEMORY_BASE if seed // 2 % 2 == 0 else int(rng.integers(_HIGHEST_PAGE)) * _PAGE
    return {
        "stall": stall,
        "seed": seed,
        "memory_base": base,
        "memory_size": MEMORY_BYTES,
    }


def compare_rtl(case: Case, config: AcceleratorConfig, *, seed: int) -> str | None:
    """Compare the generated hardware with the golden device; see :func:`compare`."""
    arguments = surroundings(seed)
    found = compare(
        case,
        lambda: GoldenDevice(config, memory_size=MEMORY_BYTES),
        lambda: RtlDevice(config, **arguments),
    )
    return found and (
        f"{found} (stall {arguments['stall']:.3f}, seed of stalls {seed}, "
        f"memory at {arguments['memory_base']:#x})"
    )


def cases(config: AcceleratorConfig, first_seed: int) -> Iterator[tuple[int, str, Case]]:
    """Yield seed, kind and case without end: random programs and each kind of layer in turn."""
    for seed in itertools.count(first_seed):
        yield seed, "random program", random_program_case(config, seed)
        for kind in kinds_for(config):
            for case in random_layer_cases(config, kind, seed):
                yield seed, kind, case
