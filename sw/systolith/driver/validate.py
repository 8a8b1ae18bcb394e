"""Look at a program before a device does: every extent is computed again, from the encoded words.

Nothing that a compiler or a file says about a program is believed. What passes raises no fault in
the hardware but those of the bus: every word decodes and obeys the configuration's rules, every
access lies inside its region, with permission, or inside its memory, feeds and accumulator banks
never meet, and no instruction outlasts the watchdog. That results do not depend on time is more:
the compiler proves it (`systolith.compiler.race`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NoReturn

from systolith.arch import isa, rules
from systolith.arch.config import AcceleratorConfig, ceil_div
from systolith.arch.csr import Fault
from systolith.arch.errors import EncodingError, ValidationError
from systolith.arch.extents import BEAT_FIELDS, Extent, Extents, Memory, sizes
from systolith.arch.feeds import meeting
from systolith.arch.order import ENGINES, Clocks
from systolith.arch.program import REGION_PERMISSIONS, AcceleratorSegment, Program, Region

WATCHDOG_CYCLES = 1 << 22
"""Watchdog that programs are validated for: longer than any instruction takes that does some work,
even through a slow bus."""

_LENGTHS = (1 << isa.COUNTER_BITS) - 1
# Engines take turns at ports, and a bus may need some cycles for a beat.
_MARGIN = 8
_CYCLES_OF_A_DRAIN = 2
_TURNAROUND = 8


@dataclass(frozen=True)
class RegionExtent:
    """Bytes and permissions of a DRAM region."""

    size: int
    read: bool
    write: bool


NO_REGION = RegionExtent(0, read=False, write=False)


def check_program(program: Program) -> None:
    """Check all accelerator segments of a program against the regions that a driver gives them.

    Raises
    ------
    ValidationError
        A rule is broken; the message names segment, instruction, operand, rule and value.
    """
    code_bytes = sum(
        len(segment.code) for segment in program.segments if isinstance(segment, AcceleratorSegment)
    )
    for number, segment in enumerate(program.segments):
        if not isinstance(segment, AcceleratorSegment):
            continue
        try:
            _check_bindings(program, segment)
            sizes_of = _region_sizes(program, segment, code_bytes)
            regions = {
                int(region): RegionExtent(size, *REGION_PERMISSIONS[region])
                for region, size in sizes_of.items()
            }
            check_code(segment.code, program.config, regions)
        except ValidationError as error:
            raise ValidationError(
                error.index,
                error.operand,
                error.rule,
                error.value,
                f'Program "{program.model}", segment {number}: {error}',
            ) from error


def _region_sizes(
    program: Program, segment: AcceleratorSegment, code_bytes: int
) -> dict[Region, int]:
    return {
        Region.PROGRAM: code_bytes,
        Region.CONSTANTS: len(program.constants),
        Region.INPUT: segment.input_bytes,
        Region.OUTPUT: segment.output_bytes,
        Region.ARENA: segment.arena_bytes,
    }


def _check_bindings(program: Program, segment: AcceleratorSegment) -> None:
    for name in ("input_bytes", "output_bytes", "arena_bytes"):
        value = getattr(segment, name)
        if not 0 <= value < 1 << 32:
            _fail(None, name, "REGION_SIZE", value, f"{name} must be in 0..2^32 - 1, not {value}")
    for bindings, size, name in (
        (segment.inputs, segment.input_bytes, "inputs"),
        (segment.outputs, segment.output_bytes, "outputs"),
    ):
        for binding in bindings:
            end = binding.offset + program.tensors[binding.tensor].nbytes
            if binding.offset < 0 or end > size:
                message = (
                    f'{name} must lie inside their region of {size} bytes, but "{binding.tensor}" '
                    f"takes bytes {binding.offset} to {end - 1}"
                )
                _fail(None, name, "BINDING", binding.offset, message)


def check_code(
    code: bytes,
    config: AcceleratorConfig,
    regions: Mapping[int, RegionExtent],
    *,
    watchdog_cycles: int = WATCHDOG_CYCLES,
) -> None:
    """Check the code of one program.

    Parameters
    ----------
    code : bytes
        Instructions, the last of them, and no other, `HALT`.
    config : AcceleratorConfig
        Machine that will execute it.
    regions : mapping of int to RegionExtent
        Regions by number; those not named have no bytes.
    watchdog_cycles : int
        Limit that the device's watchdog will have.

    Raises
    ------
    ValidationError
        A rule is broken; the message names instruction, operand, rule and value.
    """
    Validator(config, regions, watchdog_cycles=watchdog_cycles).check(code)


class Validator:
    """Checks programs for one machine and one table of regions; see :func:`check_code`."""

    def __init__(
        self,
        config: AcceleratorConfig,
        regions: Mapping[int, RegionExtent],
        *,
        watchdog_cycles: int = WATCHDOG_CYCLES,
    ) -> None:
        self._config = config
        self._regions = regions
        self._sizes = sizes(config)
        self._longest = watchdog_cycles // _MARGIN
        self._decoded: dict[bytes, isa.Instruction] = {}

    def check(self, code: bytes) -> None:
        """Check the code of one program; see :func:`check_code`."""
        size, count = isa.INSTRUCTION_BYTES, len(code) // isa.INSTRUCTION_BYTES
        if len(code) % size or not 1 <= count <= _LENGTHS:
            message = f"code must be 1 to {_LENGTHS} words of {size} bytes, not {len(code)} bytes"
            _fail(None, "code", "CODE_SIZE", len(code), message)
        state = _State(self._config)
        for index in range(count):
            item = self._decode(index, code[index * size : (index + 1) * size])
            if isinstance(item, isa.Halt) != (index == count - 1):
                message = f"HALT must be the last instruction, and no other; this one is {item}"
                _fail(index, "opcode", "HALT", int(item.OPCODE), message)
            self._check(index, item, state)

    def _decode(self, index: int, raw: bytes) -> isa.Instruction:
        item = self._decoded.get(raw)
        if item is None:
            word = int.from_bytes(raw, "little")
            try:
                item = isa.decode(word)
                rules.check(item, self._config)
            except EncodingError as error:
                _fail(index, "word", "ENCODING", word, str(error))
            self._decoded[raw] = item
        return item

    def _check(self, index: int, item: isa.Instruction, state: "_State") -> None:
        self._check_waits(index, item, state.clocks)
        if isinstance(item, isa.Load):
            self._check_beats(index, item)
        extents = list(state.extents.of(item))
        for extent in extents:
            if isinstance(item, isa.Load | isa.Store) and extent.memory == Memory.DRAM:
                self._check_region(index, item, extent)
            else:
                self._check_local(index, item, extent)
        if isinstance(item, isa.Pass):
            self._check_feeds(index, item, state.extents.geometry)
        self._check_duration(index, item, state.extents.geometry)
        if item.ENGINE in ENGINES:
            self._check_banks(index, item, extents, state)

    @staticmethod
    def _check_waits(index: int, item: isa.Instruction, clocks: Clocks) -> None:
        for engine, lag in zip(ENGINES, item.waits, strict=True):
            if lag != isa.NO_WAIT and lag > clocks.dispatched(engine):
                name = f"wait_{engine.name.lower()}"
                message = (
                    f"{item} must wait for an instruction that exists: {name} is at most "
                    f"{clocks.dispatched(engine)} here, not {lag}"
                )
                _fail(index, name, "WAIT", lag, message)

    def _check_beats(self, index: int, item: isa.Load) -> None:
        if item.space == isa.Space.SCRATCHPAD:
            return
        for name in BEAT_FIELDS:
            value = getattr(item, name)
            if value % self._config.axi_bytes:
                message = f"{name} of {item} must be a multiple of {self._config.axi_bytes} bytes"
                _fail(index, name, "ALIGNMENT", value, f"{message}, not {value}")

    def _check_region(self, index: int, item: isa.Load | isa.Store, extent: Extent) -> None:
        region = self._regions.get(item.region, NO_REGION)
        if extent.high >= region.size:
            message = f"{item} must stay inside region {item.region} of {region.size} bytes"
            message = f"{message}, but reaches byte {extent.high}"
            _fail(index, extent.operand, "REGION_BOUNDS", extent.high, message)
        if not (region.write if extent.write else region.read):
            verb = "written" if extent.write else "read"
            message = f"{item} must not touch region {item.region}, which may not be {verb}"
            _fail(index, "region", "REGION_PERMISSION", item.region, message)

    def _check_local(self, index: int, item: isa.Instruction, extent: Extent) -> None:
        limit = self._sizes[extent.memory]
        if extent.low < 0 or extent.high >= limit:
            value = extent.low if extent.low < 0 else extent.high
            message = f"{extent.operand} of {item} must stay inside the {limit} locations of the"
            message = f"{message} machine, but reaches {extent.memory.value} {value}"
            _fail(index, extent.operand, "LOCAL_ADDRESS", value, message)

    def _check_feeds(self, index: int, item: isa.Pass, geometry: isa.Geometry) -> None:
        found = meeting(item, geometry, self._config)
        if found is None:
            return
        if found.fault is None:
            message = f"{item} has more windows than can be looked at"
            _fail(index, "line_vectors", "FEEDS", item.line_vectors, message)
        aligned = found.fault == Fault.ALIGNMENT
        rule = "start at a word" if aligned else "not meet another one in a bank"
        _fail(
            index, "addr", found.fault.name, item.addr, f"Feed {found.feed} of {item} must {rule}"
        )

    def _check_duration(self, index: int, item: isa.Instruction, geometry: isa.Geometry) -> None:
        cycles = _cycles(item, geometry, self._config)
        if cycles > self._longest:
            message = f"{item} must take at most {self._longest} cycles, and may take {cycles}"
            _fail(index, "opcode", "DURATION", cycles, message)

    @staticmethod
    def _check_banks(
        index: int, item: isa.Instruction, extents: Iterable[Extent], state: "_State"
    ) -> None:
        """Refuse a drain and a pass that may be in one accumulator bank at the same time."""
        clock = state.clocks.start(item)
        spans = ((e.low, e.high) for e in extents if e.memory == Memory.BANK)
        for bank in (bank for low, high in spans for bank in range(low, high + 1)):
            for engine, count in state.last[bank].items():
                if engine != item.ENGINE and count > clock[engine]:
                    message = (
                        f"{item} must wait for the {engine.name} instruction that was in "
                        f"accumulator bank {bank} before it (its number {count})"
                    )
                    _fail(index, f"wait_{engine.name.lower()}", "BANK_ORDER", bank, message)
            state.last[bank][item.ENGINE] = state.clocks.dispatched(item.ENGINE)


class _State:
    """What the instructions before the next one have set up."""

    def __init__(self, config: AcceleratorConfig) -> None:
        self.extents = Extents(config)
        self.clocks = Clocks()
        self.last: list[dict[isa.Engine, int]] = [{}, {}]


def _cycles(item: isa.Instruction, g: isa.Geometry, config: AcceleratorConfig) -> int:
    """Return the cycles that an instruction may take if no other engine stands in its way."""
    match item:
        case isa.Load() | isa.Store():
            # Each run, segment and beat costs a cycle at most; a table takes four bytes of each.
            width = 4 if item.space == isa.Space.TABLES else config.axi_bytes
            pieces = ceil_div(item.total, item.run) + ceil_div(item.total, item.segment)
            return pieces + ceil_div(item.total, width)
        case isa.Pass():
            steps = g.ky_count * g.kx_count * g.chunk_count
            vectors = item.rows * item.line_vectors + item.tail
            return steps * max(vectors, config.rows, _TURNAROUND)
        case isa.Drain():
            groups = ceil_div(config.cols, config.lanes)
            return item.rows * item.cols * item.reduce * groups * _CYCLES_OF_A_DRAIN
        case isa.Vector():
            return item.rows * ceil_div(item.length, config.lanes) * _CYCLES_OF_A_DRAIN
    return 1


def _fail(index: int | None, operand: str, rule: str, value: int, message: str) -> NoReturn:
    if index is not None:
        message = f"Instruction {index}: {message}"
    raise ValidationError(index, operand, rule, value, message)
