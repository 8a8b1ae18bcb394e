"""Programs that end in one fault each, and what the hardware must report of it.

Engine, index and address of every kind of fault that an engine can raise: addresses just beyond a
memory and far beyond it, first bytes and later ones, alone or behind instructions that are still under
way. Each program has one instruction with one fault, so golden's report is the only right one.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Fault
from systolith.arch.errors import DeviceError
from systolith.bench import differential
from systolith.bench.random_instruction import InstructionSource, block
from systolith.bench.random_program import RegionImage
from systolith.bench.rtl import RtlDevice
from systolith.golden.machine import Machine, MachineFault, Region
from systolith.golden.memory import NO_REGION

PROGRAMS = 160
"""Programs of a seed."""

_READ, _WRITE, _BAD_READ, _BAD_WRITE, _NOTHING = range(1, 6)
"""Regions: for loads, for stores, two with errors of the bus, and one that may not be used."""

_REGION_BYTES, _PAGE = 1515, 4096
_GOOD_BYTES = 512
"""Bytes at the beginning of the region of bad reads that the bus has."""

_SLVERR = 2
_NEAR = 24
_MOST_FILLERS, _MOST_BEFORE, _MOST_AFTER = 300, 5, 3
_FEW_FILLERS_SHARE, _COMPANY_SHARE = 0.7, 0.5
_TIMEOUT_S = 0.1

_ADDR = (1 << 64) - 1

Items = list[isa.Instruction]
Report = tuple[Fault, isa.Engine, int, int] | None
"""Code, engine, index and address of a fault."""


class FaultSource(InstructionSource):
    """Draws instructions that raise one fault, which setup for them may precede."""

    def beyond(self, size: int, bits: int) -> int:
        """Return a number that is not below `size` and has at most `bits` bits: near, or of any size."""
        if self.chance(0.4):
            return min(size + self.integer(0, _NEAR), (1 << bits) - 1)
        length = self.integer(size.bit_length(), bits)
        return max(size, self.integer(1 << (length - 1), (1 << length) - 1))

    def crossing(self, size: int, total: int, bits: int) -> int:
        """Return an address from which `total` bytes leave a memory, after some or at once."""
        if self.chance(0.4):
            return size - self.integer(0, total - 1)
        return self.beyond(size, bits)

    def local_move(self) -> Items:
        """A load or store whose first or second segment is, or ends, outside its memory."""
        size, total = self.config.scratchpad_bytes, self.integer(2, 40 if self.chance(0.5) else 400)
        kind, region = (isa.Load, _READ) if self.chance(0.5) else (isa.Store, _WRITE)
        item = _move(kind, region, self.integer(0, 99), 0, total)
        if self.chance(0.6):
            return [replace(item, addr=self.crossing(size, total, isa.LOCAL_ADDR_BITS))]
        first = self.integer(1, total - 1)
        addr = self.integer(0, size - first)
        step = self.beyond(size, isa.LOCAL_ADDR_BITS) - addr
        groups = self.chance(0.5)
        steps: dict[str, Any] = {"group_step" if groups else "segment_step": max(step, 0)}
        return [replace(item, addr=addr, segment=first, segments=1 if groups else 2, **steps)]

    def other_load(self) -> Items:
        """A load beyond the memories that take whole beats, or not in whole beats."""
        config, beat = self.config, self.config.axi_bytes
        spaces = {isa.Space.WEIGHTS: config.weight_bytes, isa.Space.PARAMS: config.param_bytes}
        space = list(spaces)[self.integer(0, 1)]
        total = self.integer(1, 4) * beat
        addr = self.crossing(spaces[space], total, isa.LOCAL_ADDR_BITS)
        if self.chance(0.3):
            return [block(isa.Load, space, _READ, 0, self.integer(0, 99) * beat + 1, total)]
        return [block(isa.Load, space, _READ, 0, addr // beat * beat, total)]

    def region_move(self) -> Items:
        """A load or store beyond its region, or without permission."""
        kind, region = (isa.Load, _READ) if self.chance(0.5) else (isa.Store, _WRITE)
        total = self.integer(1, 200)
        addr = self.integer(0, self.config.scratchpad_bytes - total)
        if self.chance(0.3):
            number = self.integer(_NOTHING, isa.REGION_COUNT - 1)
            number = number if self.chance(0.5) else _READ + _WRITE - region
            return [block(kind, isa.Space.SCRATCHPAD, number, 0, addr, total)]
        offset = self.crossing(_REGION_BYTES, total, 32)
        item = _move(kind, region, offset, addr, total)
        if self.chance(0.3):
            run = self.integer(1, total)
            return [replace(item, offset=0, run=run, run_step=self.beyond(_REGION_BYTES, 24))]
        return [item]

    def bus_error(self) -> Items:
        """A load some of whose bytes the bus does not have, or a store to where it has none."""
        total = self.integer(1, 300)
        addr = self.integer(0, self.config.scratchpad_bytes - total)
        if self.chance(0.5):
            offset = self.integer(_GOOD_BYTES + 1 - total, _REGION_BYTES - total)
            return [block(isa.Load, isa.Space.SCRATCHPAD, _BAD_READ, max(offset, 0), addr, total)]
        offset = (
            self.integer(0, (_REGION_BYTES - total) // self.config.axi_bytes)
            * self.config.axi_bytes
        )
        return [block(isa.Store, isa.Space.SCRATCHPAD, _BAD_WRITE, offset, addr, total)]

    def one_pass(self) -> Items:
        """A pass of one vector or more that leaves one of its memories."""
        config, lanes = self.config, self.integer(1, self.config.rows)
        size, rows = config.scratchpad_bytes, 2 * config.acc_rows
        geometry = isa.Geometry(
            lines=1, line_bytes=(1 << 18) - 1, lanes=lanes, lanes_last=lanes, weight_rows=1,
            weight_rows_last=1, col_step=self.integer(0, 99),
        )  # fmt: skip
        vectors = self.integer(1, 9)
        good = isa.Pass(cols=vectors, line_vectors=vectors)
        where = self.integer(0, 3)
        if where == 0:
            return [geometry, replace(good, acc=self.beyond(rows, 11))]
        if where == 1:
            return [geometry, replace(good, weight_addr=self.beyond(config.weight_words, 16))]
        if where == 2:
            below = -self.beyond(1, isa.WINDOW_ADDR_BITS - 1)
            return [geometry, replace(good, addr=below)]
        return [geometry, replace(good, addr=self.crossing(size, lanes, 22))]

    def one_drain(self) -> Items:
        """A drain of one output or more, one of whose operands leaves its memory."""
        config, lanes = self.config, self.integer(1, self.config.cols)
        size, bits = config.scratchpad_bytes, isa.LOCAL_ADDR_BITS
        outputs = self.integer(1, 9)
        good = isa.Drain(cols=outputs, lanes=lanes, lanes_last=lanes, col_step=lanes)
        where = self.integer(0, 3)
        if where == 0:
            item = replace(good, acc=self.beyond(2 * config.acc_rows, 11))
        elif where == 1:
            addr = self.beyond(config.param_words, 12)
            item = replace(good, params=isa.ParamMode.LOAD, param_addr=addr)
        elif where == 2:
            item = replace(good, addr=self.crossing(size, outputs * lanes, bits))
        else:
            residual = self.crossing(size, outputs * lanes, bits)
            item = replace(good, use_residual=1, residual=residual, residual_col_step=lanes)
        return [item]

    def one_vector(self) -> Items:
        """A vector instruction, one of whose operands leaves the scratchpad."""
        size, length = self.config.scratchpad_bytes, self.integer(1, 40)
        good = isa.Vector(length=length, op=isa.VectorOp.ELEMENTWISE, a=length, b=2 * length)
        name = ("addr", "a", "b")[self.integer(0, 2)]
        outside: dict[str, Any] = {name: self.crossing(size, length, isa.LOCAL_ADDR_BITS)}
        return [replace(good, **outside)]

    def program(self) -> Items:
        """Return a program with one fault: behind fillers, and behind work of its engine."""
        makers: tuple[Callable[[], Items], ...] = (
            self.local_move, self.local_move, self.other_load, self.region_move, self.bus_error,
            self.one_pass, self.one_drain, self.one_vector,
        )  # fmt: skip
        broken = makers[self.integer(0, len(makers) - 1)]()
        most = _MOST_BEFORE if self.chance(_FEW_FILLERS_SHARE) else _MOST_FILLERS
        fillers: Items = [isa.Quantize()] * self.integer(0, most)
        return [
            *fillers,
            *(self._company() if self.chance(_COMPANY_SHARE) else ()),
            *(self._work_before(broken[0].ENGINE) for _ in range(self.integer(0, _MOST_BEFORE))),
            *broken,
            *[isa.Quantize()] * self.integer(0, _MOST_AFTER),
            isa.Halt(),
        ]

    def _company(self) -> Items:
        """Return instructions that keep the ports of the scratchpad busy while others work."""
        config = self.config
        vectors, lanes = config.acc_rows, config.rows
        geometry = isa.Geometry(
            lines=1, line_bytes=(1 << 18) - 1, col_step=1, lanes=lanes, lanes_last=lanes,
            weight_rows=1, weight_rows_last=1,
        )  # fmt: skip
        length = self.integer(1, config.scratchpad_bytes // 4)
        return [
            geometry,
            isa.Pass(cols=vectors, line_vectors=vectors),
            isa.Vector(length=length, a=length, addr=2 * length),
        ]

    def _work_before(self, engine: isa.Engine) -> isa.Instruction:
        """Return an instruction without fault of an engine."""
        total = self.integer(1, 50)
        addr = self.integer(0, self.config.scratchpad_bytes - total)
        space = isa.Space.SCRATCHPAD
        items: dict[isa.Engine, isa.Instruction] = {
            isa.Engine.LOAD: block(isa.Load, space, _READ, self.integer(0, 99), addr, total),
            isa.Engine.EXECUTE: isa.Geometry(),
            isa.Engine.DRAIN: isa.Vector(length=total, a=addr, addr=addr),
            isa.Engine.STORE: block(isa.Store, space, _WRITE, self.integer(0, 99), addr, total),
        }
        return items[engine]


def _move(
    kind: type[isa.Load] | type[isa.Store], region: int, offset: int, addr: int, total: int
) -> isa.Load | isa.Store:
    """Return a move of consecutive bytes from or to the scratchpad."""
    item = block(kind, isa.Space.SCRATCHPAD, region, offset, addr, total)
    assert isinstance(item, isa.Load | isa.Store)
    return item


def cases(config: AcceleratorConfig, seed: int) -> Iterator[tuple[int, Items, Report]]:
    """Yield the seed of the surroundings, the program, and what golden reports of it."""
    source = FaultSource(config, np.random.default_rng(seed))
    for number in range(PROGRAMS):
        items = source.program()
        yield seed + number, items, _golden_report(config, seed + number, items)


def _images() -> tuple[RegionImage, ...]:
    """Return regions 1 to 5."""
    data = bytes(_REGION_BYTES)
    flags = ((True, False), (False, True), (True, False), (False, True), (False, False))
    return tuple(RegionImage(data, read, write) for read, write in flags)


def _base(memory_base: int, items: Items, number: int) -> int:
    """Return the address at which :func:`differential.execute` places a region but the first."""
    code_pages = -(-len(items) * isa.INSTRUCTION_BYTES // _PAGE)
    return memory_base + (code_pages + number - 1) * _PAGE


def _golden_report(config: AcceleratorConfig, seed: int, items: Items) -> Report:
    base = differential.surroundings(seed)["memory_base"]
    present = {_BAD_READ: _GOOD_BYTES, _BAD_WRITE: 0}
    regions = [NO_REGION]
    for number, image in enumerate(_images(), 1):
        data = np.zeros(present.get(number, _REGION_BYTES), np.uint8)
        place = _base(base, items, number)
        regions.append(Region(data, place, image.read, image.write, size=_REGION_BYTES))
    try:
        Machine(config).run(b"".join(item.to_bytes() for item in items), regions)
    except MachineFault as fault:
        return fault.code, fault.engine, fault.index, fault.addr & _ADDR
    return None


def problem(config: AcceleratorConfig, seed: int, items: Items, wanted: Report) -> str | None:
    """Run a program on the hardware, and return what is wrong with its report."""
    own = differential.surroundings(seed)
    with RtlDevice(config, **own) as device:
        read, write = (_base(own["memory_base"], items, n) for n in (_BAD_READ, _BAD_WRITE))
        device.inject_error(read + _GOOD_BYTES, _PAGE - _GOOD_BYTES, _SLVERR, write=False)
        device.inject_error(write, _PAGE, _SLVERR, write=True)
        try:
            found = differential.execute(device, items, _images(), _TIMEOUT_S).fault
        except DeviceError as error:
            return str(error)
    return None if found == wanted else f"seed {seed}: {found}, not {wanted}"


def problems(config: AcceleratorConfig, seed: int) -> list[str]:
    """Return what the hardware of a configuration reports wrongly.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    seed : int
        Seed of the programs.
    """
    found = (problem(config, *case) for case in cases(config, seed))
    return [text for text in found if text]
