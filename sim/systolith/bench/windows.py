"""Every window of the simulated hardware, with a base of its own, and programs of many instructions.

Windows begin so far in front of the memory that offsets have to reach over most of 4 GiB; what is
loaded through one is stored through another. Their last byte is used, and the one behind it refused.
A long program makes the counters of instructions long: what it waits for, where it fails, and how far
each engine came.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from systolith.arch import csr, isa
from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Fault
from systolith.arch.errors import DeviceTimeout
from systolith.bench.device_bench import DeviceBench, fault_report
from systolith.bench.random_instruction import WAIT_FOR_ALL, block
from systolith.bench.rtl import RtlDevice

_PIECE = 64
"""Bytes that go through a window."""

_FIRST_PLACE, _PAGES = 0x8000, 1000
"""First byte that windows' places may begin at, behind the program, and pages that they may."""

_ROUNDS = 4
_PAGE = 4096
_MOVES = 5000
"""Instructions of each engine in a long program: enough for numbers of 13 bits."""

_FAULTY = (isa.Engine.LOAD, isa.Engine.EXECUTE, isa.Engine.DRAIN, isa.Engine.STORE)
"""Engines in which a long program ends."""

_SLOTS = 7
"""Places on the chip that they take turns in."""

_COUNT_BITS = 32
_MEMORY_BYTES = 1 << 22
_TIMEOUT_S = 1.0
_READABLE, _WRITABLE = (csr.pack("region0_flags", **{name: 1}) for name in ("read", "write"))
_BOTH = _READABLE | _WRITABLE
_MOVE_KINDS: tuple[type[isa.Load] | type[isa.Store], ...] = (isa.Load, isa.Store)
_ALL = (1 << 64) - 1


@dataclass(frozen=True)
class Window:
    """A region, and the offset at which its piece of memory is.

    Parameters
    ----------
    base, size : int
        Region, in bytes.
    offset : int
        Of the piece, in bytes; the piece ends with the region.
    place : int
        Of the piece in memory, in bytes.
    """

    base: int
    size: int
    offset: int
    place: int


class WindowBench(DeviceBench):
    """One device whose windows are tried; the seed is that of windows and of what is moved."""

    _places = _FIRST_PLACE

    def problems(self) -> Iterator[str]:
        """Yield one sentence for each thing that is not as it must be with windows."""
        for _ in range(_ROUNDS):
            self._places = _FIRST_PLACE + _PAGE * int(self._rng.integers(_PAGES))
            yield from self._copies()
            yield from self._edges()
            yield from self._permissions()
            yield from self._starts()

    def long_programs(self) -> Iterator[str]:
        """Yield one sentence for each thing that is not as it must be with long programs."""
        for engine in _FAULTY:
            yield from self._long_program(engine)

    def _window(self, place: int, size: int = _PIECE) -> Window:
        """Return a window of any base whose last `size` bytes are at a place in memory."""
        beat = self._config.axi_bytes
        offset = int(self._rng.integers((1 << 32) - size)) // beat * beat
        base = (self._device.memory_base + place - offset) & _ALL
        return Window(base, offset + size, offset, place)

    def _set(self, number: int, window: Window, flags: int = _BOTH) -> None:
        self._write_region(number, window.base, window.size, flags)

    def _run(self, items: list[isa.Instruction]) -> str | None:
        """Run a program in the window of region 0; return what is wrong if it does not end.

        It may be said to be longer than it is: nothing behind its end matters.
        """
        code = b"".join(item.to_bytes() for item in items)
        window = self._window(0, len(code))
        self._device.write_memory(self._device.memory_base, code)
        self._set(0, window)
        beyond = int(self._rng.integers(1 << int(self._rng.integers(_COUNT_BITS))))
        return self._start(window.offset, min(len(items) + beyond, (1 << _COUNT_BITS) - 1))

    def _start(self, offset: int, count: int) -> str | None:
        """Start a program of region 0; return what is wrong if it does not end."""
        self._write("program_offset", offset)
        self._write("program_count", count)
        self._write("irq_status", csr.pack("irq_status", done=1, fault=1))
        self._write("irq_enable", csr.pack("irq_enable", done=1, fault=1))
        self._write("control", csr.pack("control", start=1))
        try:
            self._device.wait_interrupt(_TIMEOUT_S)
        except DeviceTimeout as error:
            return str(error)
        return None

    def _copies(self) -> Iterator[str]:
        """Load through each window, and store through another one."""
        device, count = self._device, isa.REGION_COUNT
        windows = [self._window(self._places + _PIECE * n) for n in range(1, count)]
        for number, window in enumerate(windows, 1):
            self._set(number, window)
        before = self._rng.bytes(_PIECE * (count - 1))
        first = device.memory_base + windows[0].place
        device.write_memory(first, before)
        order = [int(n) for n in self._rng.permutation(count - 1)]
        space = isa.Space.SCRATCHPAD
        # In runs of a beat, so that more bursts are wanted than may be in flight.
        beat = self._config.axi_bytes
        runs: dict[str, Any] = {"run": beat, "run_step": beat}
        items: list[isa.Instruction] = [
            replace(block(isa.Load, space, n + 1, windows[n].offset, _PIECE * n, _PIECE), **runs)
            for n in range(count - 1)
        ]
        for n, source in enumerate(order):
            at = _PIECE * source
            store = block(isa.Store, space, n + 1, windows[n].offset, at, _PIECE)
            items.append(replace(store, wait_load=0, **runs))
        problem = self._run([*items, isa.Halt(**WAIT_FOR_ALL)])
        after = device.read_memory(first, len(before))
        wanted = b"".join(before[_PIECE * n : _PIECE * (n + 1)] for n in order)
        if problem or bytes(after) != wanted:
            yield f"copy through all windows: {problem or 'other bytes'}"

    def _edges(self) -> Iterator[str]:
        """Reach one byte beyond the end of a window, with a load and with a store."""
        number = int(self._rng.integers(1, isa.REGION_COUNT))
        # Its end may be anywhere in a beat.
        size = int(self._rng.integers(1, _PIECE))
        window = self._window(self._places + int(self._rng.integers(64)) * _PIECE, size)
        self._set(number, window)
        end = (window.base + window.size) & _ALL
        for kind in _MOVE_KINDS:
            item = block(kind, isa.Space.SCRATCHPAD, number, window.offset, 0, size + 1)
            yield from self._refused("beyond a window", item, Fault.REGION_BOUNDS, end)

    def _permissions(self) -> Iterator[str]:
        """Load from what may only be written, and store to what may only be read."""
        window = self._window(self._places)
        begin = self._device.memory_base + window.place
        for kind, flags in zip(_MOVE_KINDS, (_WRITABLE, _READABLE), strict=True):
            number = int(self._rng.integers(1, isa.REGION_COUNT))
            self._set(number, window, flags)
            item = block(kind, isa.Space.SCRATCHPAD, number, window.offset, 0, _PIECE)
            yield from self._refused("without permission", item, Fault.REGION_PERMISSION, begin)

    def _starts(self) -> Iterator[str]:
        """Start programs whose first or later instructions cannot be fetched."""
        beat, most = self._config.axi_bytes, _PIECE
        size = isa.INSTRUCTION_BYTES
        count = int(self._rng.integers(1, most))
        whole = self._window(0, most * size)
        window = replace(whole, size=whole.offset + count * size)
        askew = int(self._rng.integers(1, beat))
        self._device.write_memory(self._device.memory_base, isa.Quantize().to_bytes() * most)
        bounds, permission = Fault.REGION_BOUNDS, Fault.REGION_PERMISSION
        for what, region, flags, offset, number, (code, index) in (
            ("in a region that ends", window, _READABLE, 0, most + 1, (bounds, count)),
            ("without end", whole, _READABLE, 0, count, (bounds, count)),
            ("of no instructions", whole, _READABLE, 0, 0, (bounds, 0)),
            ("without permission", whole, _WRITABLE, 0, most, (permission, 0)),
            ("between beats", whole, _READABLE, askew, most, (Fault.ALIGNMENT, 0)),
            (
                "in a region between beats",
                replace(whole, base=(whole.base + askew) & _ALL),
                *(_READABLE, 0, most, (bounds, 0)),
            ),
        ):
            self._set(0, region, flags)
            begin = region.offset + offset
            problem = self._start(begin, number)
            if problem:
                yield f"program {what}: {problem}"
            addr = (region.base + begin + index * size) & _ALL
            report = fault_report(code, isa.Engine.SEQUENCER, index, addr)
            yield from self._differ(f"of a program {what}", report)

    def _refused(self, when: str, item: isa.Instruction, code: Fault, addr: int) -> Iterator[str]:
        """Run an instruction that must raise a fault at an address."""
        what = f"{type(item).__name__} {when}"
        problem = self._run([item, isa.Halt(**WAIT_FOR_ALL)])
        if problem:
            yield f"{what}: {problem}"
        yield from self._differ(f"of {what}", fault_report(code, item.ENGINE, 0, addr))

    def _broken(self, engine: isa.Engine, offsets: Sequence[int]) -> list[isa.Instruction]:
        """Return instructions of which the last raises a fault in an engine.

        `offsets` are those of the pieces that regions 1 and 2 end with.
        """
        beyond = self._config.scratchpad_bytes
        lanes = self._config.rows
        geometry = isa.Geometry(
            lines=1, line_bytes=lanes, lanes=lanes, lanes_last=lanes, weight_rows=lanes,
            weight_rows_last=lanes,
        )  # fmt: skip
        size = self._config.axi_bytes
        items: dict[isa.Engine, list[isa.Instruction]] = {
            isa.Engine.LOAD: [block(isa.Load, isa.Space.SCRATCHPAD, 1, offsets[0], beyond, size)],
            isa.Engine.EXECUTE: [geometry, isa.Pass(addr=beyond)],
            isa.Engine.DRAIN: [isa.Drain(addr=beyond)],
            isa.Engine.STORE: [block(isa.Store, isa.Space.SCRATCHPAD, 2, offsets[1], beyond, size)],
        }
        return [replace(item, **WAIT_FOR_ALL) for item in items[engine]]

    def _long_program(self, engine: isa.Engine) -> Iterator[str]:
        """Instructions of all engines that wait for each other in turns; then a fault in one.

        Loads and stores share few bytes on the chip.
        """
        device, size, space = self._device, self._config.axi_bytes, isa.Space.SCRATCHPAD
        windows = [self._window(half * _MEMORY_BYTES // 4, size * _MOVES) for half in (2, 3)]
        for number, window in enumerate(windows, 1):
            self._set(number, window)
        before = self._rng.bytes(size * _MOVES)
        device.write_memory(device.memory_base + windows[0].place, before)
        device.write_memory(device.memory_base + windows[1].place, bytes(len(before)))
        items: list[isa.Instruction] = []
        for n in range(_MOVES):
            slot = size * (n % _SLOTS)
            load = block(isa.Load, space, 1, windows[0].offset + size * n, slot, size)
            store = block(isa.Store, space, 2, windows[1].offset + size * n, slot, size)
            # Each store is the last of a chain, or follows its load at once.
            chained = n % 2
            items += [
                # All stores but those of the other slots.
                replace(load, wait_store=_SLOTS - 1),
                isa.Geometry(wait_load=0, wait_drain=_SLOTS),
                isa.Quantize(wait_execute=0),
                replace(store, wait_drain=0) if chained else replace(store, wait_load=0),
            ]
        broken = self._broken(engine, [window.offset for window in windows])
        what = f"a long program that ends in {engine.name}"
        problem = self._run([*items, *broken, isa.Halt()])
        if problem:
            yield f"{what}: {problem}"
        code = csr.field_value("fault", "code", self._read("fault"))
        wanted = {
            "fault": csr.pack("fault", code=code, engine=engine),
            "fault_index": len(items) + len(broken) - 1,
            "write_bytes": size * _MOVES,
            # A pass may be over when its fault is known.
            **{f"progress_{n.name.lower()}": _MOVES for n in _FAULTY if n is not engine},
        }
        yield from self._differ(f"of {what}", wanted)
        if code != Fault.LOCAL_ADDRESS:
            yield f"fault code of {what}: {code}"
        if bytes(device.read_memory(device.memory_base + windows[1].place, len(before))) != before:
            yield f"{what}: other bytes"


def problems(config: AcceleratorConfig, seed: int) -> Iterator[str]:
    """Yield what is wrong with the windows of a configuration's hardware.

    The memory is at two addresses, of which each bit above its size is one in one of them.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    seed : int
        Seed of the windows and of what is moved.
    """
    first = int(np.random.default_rng(seed).integers(1 << 50)) * _MEMORY_BYTES % (_ALL + 1)
    for base in (first, _ALL ^ first ^ (_MEMORY_BYTES - 1)):
        with RtlDevice(config, memory_size=_MEMORY_BYTES, memory_base=base) as device:
            yield from WindowBench(config, device, seed).problems()
    with RtlDevice(config, memory_size=_MEMORY_BYTES) as device:
        yield from WindowBench(config, device, seed).long_programs()
