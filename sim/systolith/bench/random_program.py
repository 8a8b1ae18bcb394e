"""Random legal programs, to compare two implementations of the instruction set on all memories.

A program loads every local memory with random bytes, executes random instructions, and stores the
scratchpad and all four bytes of every accumulator. Each instruction waits for everything before
it, or (:meth:`RandomProgram.relaxed`) for what its bytes ask for, so that the result does not depend
on time. No instruction faults: each candidate is executed on a golden machine, and one that traps is
drawn again.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from systolith.arch import isa
from systolith.arch.config import TABLE_COUNT, TABLE_ENTRIES, AcceleratorConfig
from systolith.compiler.emit import Emitter
from systolith.golden.machine import Machine, Region
from systolith.golden.memory import NO_REGION, Bytes, Trap

from .random_instruction import WAIT_FOR_ALL, InstructionSource, block

PROGRAM, DATA, SCRATCH, MEMORY, SUMS = range(5)
"""Regions: code; what is loaded; where random stores go; scratchpad and accumulators at the end."""

_SCRATCH_BYTES = 1 << 14
_MAX_TRIES = 1000
_BYTE_BITS = 8
_TOP_BYTE_SHIFT = 24
_FLOAT_SHARE = 0.5
_WAIT_FOR_NOTHING = dict.fromkeys(
    ("wait_load", "wait_execute", "wait_drain", "wait_store"), isa.NO_WAIT
)


@dataclass(frozen=True)
class RegionImage:
    """Contents of a region before the program starts, and its permissions."""

    data: bytes
    read: bool
    write: bool


@dataclass(frozen=True)
class RandomProgram:
    """A program with everything that it needs.

    Parameters
    ----------
    instructions : tuple of Instruction
        The program.
    regions : tuple of RegionImage
        Regions 0 to 4: program, data to load, target of random stores, scratchpad at the end,
        accumulators at the end.
    final : tuple of bytes
        Contents of the regions from number 1 on after the program.
    """

    instructions: tuple[isa.Instruction, ...]
    regions: tuple[RegionImage, ...]
    final: tuple[bytes, ...]

    def relaxed(self, config: AcceleratorConfig) -> tuple[isa.Instruction, ...]:
        """Return the program with the waits that the compiler would give it, and no others."""
        emitter = Emitter(config)
        for item in self.instructions:
            emitter.emit(replace(item, **_WAIT_FOR_NOTHING), -1)
        return tuple(emitter.code)

    @property
    def code(self) -> bytes:
        """Bytes of the program, the contents of region 0."""
        return b"".join(item.to_bytes() for item in self.instructions)

    def golden_regions(self) -> list[Region]:
        """Return the regions on memory of their own, for a golden machine."""
        return [
            Region(np.frombuffer(image.data, np.uint8).copy(), read=image.read, write=image.write)
            for image in self.regions
        ]


@dataclass(frozen=True)
class _DataLayout:
    """Offsets in the data region of the images of the local memories, in this order."""

    scratchpad: int
    weights: int
    params: int
    tables: int
    end: int

    @classmethod
    def of(cls, config: AcceleratorConfig) -> "_DataLayout":
        sizes = (
            config.scratchpad_bytes,
            config.weight_bytes,
            config.param_bytes,
            TABLE_COUNT * TABLE_ENTRIES,
        )
        return cls(*(int(offset) for offset in np.cumsum((0, *sizes))))


class _Generator:
    """One program in the making, and a golden machine that has executed it so far."""

    def __init__(
        self, config: AcceleratorConfig, rng: np.random.Generator, source: type[InstructionSource]
    ) -> None:
        self.config = config
        self.layout = _DataLayout.of(config)
        self.source = source(config, rng)
        self.acc_rows = 2 * config.acc_rows
        data = _random_data(config, self.layout, rng, self.source.param_slots)
        sums = np.zeros(self.acc_rows * config.cols * 4, np.uint8)
        memory = np.zeros(config.scratchpad_bytes, np.uint8)
        scratch = np.zeros(_SCRATCH_BYTES, np.uint8)
        self.data = data.tobytes()
        self.code: list[isa.Instruction] = []
        self.machine = Machine(config)
        self.machine.regions = [NO_REGION, *(Region(d) for d in (data, scratch, memory, sums))]

    def append(self, *items: isa.Instruction) -> None:
        """Execute instructions and append them with waits for everything before each.

        Raises
        ------
        Trap
            The last one faults, and nothing is appended.
        """
        for item in items:
            self.machine.execute(item)
        for item in items:
            self.source.accept(item)
            self.code.append(replace(item, **WAIT_FOR_ALL))

    def draw(self, make: Callable[[], list[isa.Instruction]]) -> None:
        """Append what `make` draws, drawing again while it traps.

        Setup before the last instruction never traps, and is overwritten by the next draw's.
        """
        for _ in range(_MAX_TRIES):
            try:
                return self.append(*make())
            except Trap:
                continue
        raise RuntimeError(f"No legal instruction in {_MAX_TRIES} draws")

    def load_everything(self) -> None:
        """Load all local memories and overwrite all accumulators."""
        offsets = (
            (isa.Space.SCRATCHPAD, self.layout.scratchpad, self.layout.weights),
            (isa.Space.WEIGHTS, self.layout.weights, self.layout.params),
            (isa.Space.PARAMS, self.layout.params, self.layout.tables),
            (isa.Space.TABLES, self.layout.tables, self.layout.end),
        )
        for space, offset, end in offsets:
            self.append(block(isa.Load, space, DATA, offset, 0, end - offset))
        lanes, rows = self.config.rows, self.config.acc_rows
        geometry = isa.Geometry(
            lines=1, line_bytes=lanes + rows, col_step=1, lanes=lanes, lanes_last=lanes,
            weight_rows=lanes, weight_rows_last=lanes,
        )  # fmt: skip
        for bank in range(2):
            self.append(geometry, isa.Pass(acc=bank * rows, cols=rows, line_vectors=rows))

    def draw_anything(self) -> None:
        """Append one random step, most often a pass or a drain."""
        source, data_bytes = self.source, self.layout.end
        makers: tuple[tuple[int, Callable[[], list[isa.Instruction]]], ...] = (
            (6, source.draw_pass),
            (5, source.draw_drain),
            (2, source.draw_vector),
            (2, source.draw_quantize),
            (1, source.draw_elementwise),
            (2, lambda: source.draw_scratchpad_load(DATA, data_bytes)),
            (1, lambda: source.draw_weight_load(DATA, data_bytes)),
            (1, lambda: source.draw_param_load(DATA, self.layout.params)),
            (1, lambda: source.draw_table_load(DATA, data_bytes)),
            (2, lambda: source.draw_store(SCRATCH, _SCRATCH_BYTES)),
        )
        ticket = source.integer(1, sum(share for share, _ in makers))
        for share, make in makers:
            ticket -= share
            if ticket <= 0:
                return self.draw(make)


def dump(config: AcceleratorConfig, memory: int, sums: int) -> list[isa.Instruction]:
    """Return instructions that store the scratchpad, then each byte of each accumulator, and HALT.

    Each waits for everything before it. The accumulators pass through the scratchpad.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    memory : int
        Region that takes the scratchpad, `scratchpad_bytes`.
    sums : int
        Region that takes the accumulators, int8[4, 2 * acc_rows, cols]: their lowest bytes, then
        the others in order, the highest of which is rounded and saturated.
    """
    size, cols, acc_rows = config.scratchpad_bytes, config.cols, 2 * config.acc_rows
    items = [block(isa.Store, isa.Space.SCRATCHPAD, memory, 0, 0, size)]
    most = min(acc_rows, size // cols)
    offset = 0
    for shift in range(_TOP_BYTE_SHIFT, -1, -_BYTE_BITS):
        # (v << shift) * 2^7 * 2 / 2^32 is the byte of v that the shift brings to the top.
        items.append(isa.Quantize(multiplier=1 << 7, shift=shift, low=-128, high=127))
        for row in range(0, acc_rows, most):
            rows = min(most, acc_rows - row)
            items.append(isa.Drain(acc=row, cols=rows, lanes=cols, lanes_last=cols, col_step=cols))
            items.append(block(isa.Store, isa.Space.SCRATCHPAD, sums, offset, 0, rows * cols))
            offset += rows * cols
    items.append(isa.Halt())
    return [replace(item, **WAIT_FOR_ALL) for item in items]


def _random_data(
    config: AcceleratorConfig, layout: _DataLayout, rng: np.random.Generator, slots: int
) -> Bytes:
    """Return random images of all memories, with multipliers and shifts that give useful bytes."""
    data = rng.integers(0, 256, layout.end, dtype=np.uint8)
    word = config.weight_word_bytes
    params = data[layout.params : layout.tables].reshape(-1, word)
    for slot in range(slots):
        tile = params[slot * config.param_tile_words :][: config.param_tile_words]
        multipliers = tile[config.bias_words : 2 * config.bias_words]
        shifts = tile[2 * config.bias_words :]
        values = rng.integers(1 << 30, 1 << 31, multipliers.size // 4)
        # As Q31 multipliers, the bits of these float32 numbers are about 0.45.
        numbers = np.ldexp(rng.uniform(0.5, 1.0, values.size), rng.integers(-14, -3, values.size))
        bits = numbers.astype("<f4").view("<i4")
        values = np.where(rng.random(values.size) < _FLOAT_SHARE, bits, values)
        multipliers[...] = values.astype("<i4").view(np.uint8).reshape(multipliers.shape)
        # Biases are of the size of sums, so that they do not saturate every output.
        biases = rng.integers(-(1 << 14), 1 << 14, multipliers.size // 4)
        tile[: config.bias_words] = biases.astype("<i4").view(np.uint8).reshape(multipliers.shape)
        shifts[...] = rng.integers(-14, -3, shifts.shape).astype(np.int8).view(np.uint8)
    return data


def random_program(
    config: AcceleratorConfig,
    rng: np.random.Generator,
    length: int,
    source: type[InstructionSource] = InstructionSource,
) -> RandomProgram:
    """Return a random legal program.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine that executes it.
    rng : numpy.random.Generator
        Where every choice comes from: the same state gives the same program.
    length : int
        Random steps, of one or two instructions each, between loading and storing everything.
    source : type of InstructionSource
        What draws the instructions.
    """
    generator = _Generator(config, rng, source)
    generator.load_everything()
    generator.draw(generator.source.draw_quantize)
    generator.draw(generator.source.draw_elementwise)
    for _ in range(length):
        generator.draw_anything()
    generator.append(*dump(config, MEMORY, SUMS))
    instructions = tuple(generator.code)
    sizes = [region.nbytes for region in generator.machine.regions[SCRATCH:]]
    code = b"".join(item.to_bytes() for item in instructions)
    return RandomProgram(
        instructions=instructions,
        regions=(
            RegionImage(code, read=True, write=False),
            RegionImage(generator.data, read=True, write=False),
            *(RegionImage(bytes(size), read=False, write=True) for size in sizes),
        ),
        final=tuple(region.data.tobytes() for region in generator.machine.regions[DATA:]),
    )
