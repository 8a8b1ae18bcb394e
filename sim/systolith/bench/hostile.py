"""The walls of the hardware against streams that nobody should run.

Legal, damaged and random streams run one after the other; after each, a good program must leave
exactly its bytes. Held are: every stream ends (the watchdog at the latest), no read beat and no
written byte lies outside the windows, no rule of AXI is broken, and a stream that the host's validator
accepts raises no fault. A batch is known by its configuration and number alone.

    python -m systolith.bench.hostile --config tiny-4x4 --streams 1000000
"""

import argparse
import random
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from systolith.arch import csr, isa
from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Fault
from systolith.arch.errors import ProgramError, ValidationError
from systolith.bench.campaign_totals import TOTALS, Totals, hardware_key, render
from systolith.bench.random_config import find_any_config
from systolith.bench.random_instruction import InstructionSource, block
from systolith.bench.rtl import RtlDevice
from systolith.bench.rtl.device import MEMORY_BASE
from systolith.bench.rtl.jobs import JOB, WINDOW, Campaign, Flag, Jobs, Probe
from systolith.bench.stream_mutation import StreamSource
from systolith.driver.validate import RegionExtent, Validator
from systolith.golden.machine import Machine, Region
from systolith.golden.memory import Trap

CAMPAIGN = "hostile streams"
"""Name of its totals."""

BATCH = 2000
"""Streams of a batch, which share a table of regions and the legal instructions they are made of."""

WATCHDOG_CYCLES = 2048
"""Limit of the hardware's watchdog, and of what the validator accepts."""

MEMORY_BYTES = 1 << 20
_GROUPS = 120
_STALL = 0.3
_LATENCY = 6
_CODE_BYTES, _REGION_STRIDE = 4096, 1 << 16
_ALL = {"wait_load": 0, "wait_execute": 0, "wait_drain": 0, "wait_store": 0}
_WIPED = 0xA5
_PROBE_BYTES = 64
# Each instruction that completes sets the watchdog back.
_LIMIT_CYCLES = 256 * WATCHDOG_CYCLES
_DATA, _RESULT, _SCRATCH = 1, 2, 3
_FAILED = 3


@dataclass(frozen=True)
class Table:
    """Regions of one batch: place, size, permissions; and what the readable ones hold."""

    base: tuple[int, ...]
    size: tuple[int, ...]
    read: tuple[bool, ...]
    write: tuple[bool, ...]

    @classmethod
    def draw(cls, config: AcceleratorConfig, rng: random.Random, base: int) -> "Table":
        """Return a random table: code, data, result and scratch as they must be, four of any kind."""
        sizes = [_CODE_BYTES, 4096 + rng.randrange(200), 700 + rng.randrange(64)]
        sizes += [
            16384 + rng.randrange(64),
            *(rng.choice((0, rng.randrange(400))) for _ in range(4)),
        ]
        read = [True, True, False, True, *(rng.random() < 0.5 for _ in range(4))]
        write = [False, False, True, True, *(rng.random() < 0.5 for _ in range(4))]
        bases = [base + (n + 1) * _REGION_STRIDE for n in range(isa.REGION_COUNT)]
        for n in range(_SCRATCH + 1, isa.REGION_COUNT):
            # Anywhere in a page, now and then not at a beat: such a region has no bytes.
            unit = rng.choice((1, config.axi_bytes, config.axi_bytes))
            bases[n] += rng.randrange(0, 4096 // unit) * unit
        return cls(tuple(bases), tuple(sizes), tuple(read), tuple(write))

    def extents(self, config: AcceleratorConfig) -> dict[int, RegionExtent]:
        """Return what a validator must know of the regions."""
        return {
            n: RegionExtent(
                0 if self.base[n] % config.axi_bytes else self.size[n],
                read=self.read[n],
                write=self.write[n],
            )
            for n in range(isa.REGION_COUNT)
        }

    def settings(self) -> dict[str, int]:
        """Return the registers of the table."""
        result = {}
        for n in range(isa.REGION_COUNT):
            result[f"region{n}_base_lo"] = self.base[n] & 0xFFFFFFFF
            result[f"region{n}_base_hi"] = self.base[n] >> 32
            result[f"region{n}_size"] = self.size[n]
            flags = csr.pack("region0_flags", read=int(self.read[n]), write=int(self.write[n]))
            result[f"region{n}_flags"] = flags
        return result

    def windows(self, config: AcceleratorConfig) -> Jobs:
        """Return the bytes that the core may touch, an array of `jobs.WINDOW`."""
        rows = [
            (self.base[n], extent.size, extent.read, extent.write)
            for n, extent in self.extents(config).items()
            if extent.size
        ]
        return np.array(rows, WINDOW)


def probe_program(config: AcceleratorConfig) -> list[isa.Instruction]:
    """Return a short good program that uses every engine; each instruction waits for all before."""
    lanes, vectors = config.rows, min(8, config.acc_rows)
    word = config.weight_word_bytes
    weights, params = config.rows * word, config.param_tile_words * word
    run = lanes * vectors
    made = vectors * config.cols
    items = [
        block(isa.Load, isa.Space.SCRATCHPAD, _DATA, 0, 0, run),
        block(isa.Load, isa.Space.WEIGHTS, _DATA, 1024, 0, weights),
        block(isa.Load, isa.Space.PARAMS, _DATA, 2048, 0, params),
        isa.Geometry(
            lines=1, line_bytes=run, col_step=lanes, lanes=lanes, lanes_last=lanes,
            weight_rows=config.rows, weight_rows_last=config.rows,
        ),
        isa.Pass(cols=vectors, line_vectors=vectors),
        isa.Quantize(multiplier=1 << 30, shift=-6, low=-128, high=127),
        isa.Drain(
            cols=vectors, lanes=config.cols, lanes_last=config.cols, params=isa.ParamMode.LOAD,
            addr=run, col_step=config.cols,
        ),
        isa.Vector(length=made, a=run, addr=run + made),
        block(isa.Store, isa.Space.SCRATCHPAD, _RESULT, 3, run + made, min(made, _PROBE_BYTES)),
        isa.Halt(),
    ]  # fmt: skip
    return [replace(item, **_ALL) for item in items]


class Batch:
    """Streams that share a table of regions.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    number : int
        Seed of every choice.
    size : int, optional
        Streams, `BATCH` of them by default.
    base : int
        First address of the memory.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        number: int,
        size: int | None = None,
        *,
        base: int = MEMORY_BASE,
    ) -> None:
        self.number, self.base = number, base
        rng = random.Random(number)
        self.config = config
        self.table = Table.draw(config, rng, base)
        generator = np.random.default_rng(number)
        self._data = generator.integers(0, 256, self.table.size[_DATA], dtype=np.uint8)
        source = StreamSource(self._legal_groups(generator), rng)
        self.streams = [source.draw() for _ in range(size or BATCH)]

    def regions(self) -> list[Region]:
        """Return the regions as they are before a stream runs; no code is in them."""
        table = self.table
        datas = [np.zeros(size, np.uint8) for size in table.size]
        datas[_DATA] = self._data
        datas[_RESULT][:] = _WIPED
        return [
            Region(data, read=table.read[n], write=table.write[n]) for n, data in enumerate(datas)
        ]

    def _legal_groups(self, rng: np.random.Generator) -> list[list[int]]:
        """Return words of instructions that the golden machine and the validator take."""
        source, machine = InstructionSource(self.config, rng), Machine(self.config)
        machine.regions = self.regions()
        validator = self.validator()
        params = 2048
        makers = (
            source.draw_pass,
            source.draw_drain,
            source.draw_vector,
            source.draw_quantize,
            source.draw_elementwise,
            lambda: source.draw_scratchpad_load(_DATA, 4096),
            lambda: source.draw_weight_load(_DATA, 4096),
            lambda: source.draw_param_load(_DATA, params),
            lambda: source.draw_table_load(_DATA, 4096),
            lambda: source.draw_store(_SCRATCH, 16384),
        )
        groups: list[list[int]] = []
        while len(groups) < _GROUPS:
            items = [replace(item, **_ALL) for item in makers[rng.integers(len(makers))]()]
            try:
                validator.check(b"".join(item.to_bytes() for item in [*items, isa.Halt()]))
                for item in items:
                    machine.execute(item)
            except (Trap, ProgramError):
                continue
            for item in items:
                source.accept(item)
            groups.append([item.encode() for item in items])
        return groups

    def validator(self) -> Validator:
        """Return the host's validator for the table of this batch."""
        return Validator(
            self.config, self.table.extents(self.config), watchdog_cycles=WATCHDOG_CYCLES
        )

    def accepted(self) -> list[bool]:
        """Return whether the validator accepts each stream."""
        validator = self.validator()
        result = []
        for code, count in self.streams:
            # Behind a stream, its region holds zeros.
            size = count * isa.INSTRUCTION_BYTES
            try:
                validator.check(code[:size].ljust(min(size, _CODE_BYTES + 1), b"\0"))
                result.append(True)
            except ValidationError:
                result.append(False)
        return result

    def campaign(self) -> Campaign:
        """Return registers, memory and probe of the batch."""
        probe = b"".join(item.to_bytes() for item in probe_program(self.config))
        regions = self.regions()
        Machine(self.config).run(probe, regions)
        table = self.table
        settings = {
            **table.settings(),
            "watchdog": WATCHDOG_CYCLES,
            "irq_enable": csr.pack("irq_enable", done=1, fault=1),
        }
        expected = regions[_RESULT].data.tobytes()
        return Campaign(
            settings=settings,
            code_addr=table.base[0],
            code_size=table.size[0],
            probe=Probe(probe, table.base[_RESULT], expected),
        )

    def run(self, device: RtlDevice) -> Jobs:
        """Run all streams, and return an array of `jobs.OUTCOME`."""
        jobs = np.zeros(len(self.streams), JOB)
        sizes = [len(code) for code, _ in self.streams]
        jobs["source"] = np.cumsum([0, *sizes[:-1]])
        jobs["size"] = sizes
        jobs["count"] = [count for _, count in self.streams]
        jobs["limit"] = _LIMIT_CYCLES
        device.write_memory(self.table.base[_DATA], self._data.tobytes())
        device.watch(self.table.windows(self.config))
        return device.run_jobs(self.campaign(), b"".join(code for code, _ in self.streams), jobs)


def judge(batch: Batch, outcomes: Jobs, accepted: Sequence[bool]) -> tuple[Counter[str], list[int]]:
    """Return counts by name, and the streams that did what they must not do."""
    counts: Counter[str] = Counter()
    done, fault = csr.pack("status", done=1), csr.pack("status", fault=1)
    counts["cases"] = len(outcomes)
    counts["accepted by the validator"] = sum(accepted)
    counts["cycles"] = int(outcomes["cycles"].sum())
    ended = np.isin(outcomes["status"] & (done | fault), (done, fault))
    good = ended & (outcomes["flags"] == 0)
    good &= (outcomes["violations"] == 0) & (outcomes["outside"] == 0)
    fault_free = outcomes["status"] == done
    good &= fault_free | ~np.array(accepted, bool)
    good &= fault_free == (outcomes["fault"] == 0)
    counts["without fault"] = int(fault_free.sum())
    for word, number in Counter(outcomes["fault"].tolist()).items():
        if word:
            counts[Fault(csr.field_value("fault", "code", word)).name] += number
    return counts, np.flatnonzero(~good).tolist()


def describe(batch: Batch, outcomes: Jobs, accepted: Sequence[bool], index: int) -> str:
    """Return one sentence about a stream."""
    row = outcomes[index]
    return (
        f"stream {index}: status {row['status']:#x}, fault {row['fault']:#x} at instruction "
        f"{row['fault_index']}, address {row['fault_addr']:#x}; {Flag(int(row['flags']))!r}, "
        f"{row['violations']} rules of AXI, {row['outside']} bytes or beats outside, "
        f"{'accepted' if accepted[index] else 'refused'} by the validator"
    )


def listing(code: bytes) -> str:
    """Return a stream as text, words that are no instruction as numbers."""
    lines = []
    for start in range(0, len(code), isa.INSTRUCTION_BYTES):
        word = int.from_bytes(code[start : start + isa.INSTRUCTION_BYTES], "little")
        try:
            text = str(isa.decode(word))
        except Exception as error:
            text = f"{word:#066x} ({error})"
        lines.append(f"{start // isa.INSTRUCTION_BYTES:4d}  {text}")
    return "\n".join(lines)


def open_devices(config: AcceleratorConfig, base: int = MEMORY_BASE) -> tuple[RtlDevice, RtlDevice]:
    """Return a device with a quiet bus and one with a stalling one."""
    quiet, stalling = (
        RtlDevice(
            config,
            latency=_LATENCY,
            memory_size=MEMORY_BYTES,
            memory_base=base,
            stall=stall,
            seed=1,
        )
        for stall in (0.0, _STALL)
    )
    return quiet, stalling


def replay_command(config: AcceleratorConfig, number: int, index: int) -> str:
    """Return the command that runs one stream again."""
    return f"python -m systolith.bench.hostile --config {config.name} --batch {number} --stream {index}"


def run_batch(
    config: AcceleratorConfig, number: int, devices: Sequence[RtlDevice], size: int | None = None
) -> tuple[Counter[str], list[str]]:
    """Run a batch on the device that its number selects; return counts and failures."""
    batch = Batch(config, number, size)
    accepted = batch.accepted()
    outcomes = batch.run(devices[number % len(devices)])
    counts, failed = judge(batch, outcomes, accepted)
    return counts, [
        f"{describe(batch, outcomes, accepted, index)}; `{replay_command(config, number, index)}`"
        for index in failed
    ]


def _replay(config: AcceleratorConfig, number: int, index: int) -> int:
    batch = Batch(config, number)
    accepted = batch.accepted()
    code, count = batch.streams[index]
    print(f"{count} instructions said, {len(code) // isa.INSTRUCTION_BYTES} given")
    print(listing(code))
    print(batch.table)
    batch.streams, accepted = [batch.streams[index]], [accepted[index]]
    outcomes = batch.run(open_devices(config)[number % 2])
    print(describe(batch, outcomes, accepted, 0))
    return _FAILED if judge(batch, outcomes, accepted)[1] else 0


def main() -> int:
    """Run batches until enough streams have run on the present hardware; return 3 on a failure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="tiny-4x4")
    parser.add_argument("--streams", type=int, default=1_000_000, help="on this hardware, in all")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--totals", type=Path, default=TOTALS)
    parser.add_argument("--batch", type=int, help="run this batch only, and count nothing")
    parser.add_argument("--stream", type=int, help="and of it this stream only")
    options = parser.parse_args()
    config = find_any_config(options.config)
    if options.stream is not None:
        return _replay(config, options.batch, options.stream)
    devices = open_devices(config)
    if options.batch is not None:
        counts, failures = run_batch(config, options.batch, devices)
        print(dict(counts), *failures, sep="\n")
        return _FAILED if failures else 0
    key, totals = hardware_key(config), Totals(options.totals)
    end = time.monotonic() + options.minutes * 60
    failed = False
    while time.monotonic() < end:
        entry = totals.entry(CAMPAIGN, config.name, key)
        if entry.on_this_hardware >= options.streams:
            break
        counts, failures = run_batch(config, entry.next, devices)
        totals.add(CAMPAIGN, config.name, key, counts, following=entry.next + 1, failures=failures)
        failed |= bool(failures)
        print(f"batch {entry.next}: {dict(counts)}", *failures, sep="\n", flush=True)
    render(totals)
    return _FAILED if failed else 0


if __name__ == "__main__":
    sys.exit(main())
