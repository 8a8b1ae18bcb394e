"""Errors, silence and resets of the bus at every point of whole programs.

Each beat of three programs is answered once with SLVERR and once with DECERR, each channel falls
silent behind each of its transfers, and a reset and an abort come in every cycle. Held are: an error
is reported with the right channel, address and instruction, silence by the watchdog, from whose
report channel and instruction follow, nothing hangs once the bus answers again or after a reset, no
rule of AXI is broken, and the program's next run leaves exactly its bytes.

    python -m systolith.bench.bus_faults --config micro-4x3
"""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from systolith.arch import csr, isa
from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Fault
from systolith.arch.program import Region as Use
from systolith.bench.campaign_random import draw_program
from systolith.bench.campaign_totals import TOTALS, Totals, hardware_key, render
from systolith.bench.differential import random_layer_cases
from systolith.bench.hostile import probe_program
from systolith.bench.random_config import find_any_config
from systolith.bench.random_program import RegionImage
from systolith.bench.rtl import RtlDevice
from systolith.bench.rtl.device import MEMORY_BASE
from systolith.bench.rtl.jobs import JOB, WINDOW, Action, Campaign, Channel, Jobs, Probe
from systolith.driver.stalled import stalls
from systolith.golden.machine import Machine, Region
from systolith.golden.moves import dram_offsets

CAMPAIGN = "bus faults"
"""Name of its totals."""

SLVERR, DECERR = 2, 3
WATCHDOG_CYCLES = 3000
"""Limit of the watchdog, longer than any instruction of these programs takes."""

HANGS = 240
"""Points at which a channel falls silent, spread over all programs and channels."""

CYCLES = 2000
"""Cycles in which a reset comes."""

MEMORY_BYTES = 1 << 20
_LATENCY = 6
_PAGE = 4096
_WIPED = 0xA5
_LIMIT_CYCLES = 1 << 17
_LAYER_SEED = 3
_FAILED = 3
_RESPONSES = (SLVERR, DECERR)
NAMES = {
    Action.READ_ERROR: "read errors",
    Action.WRITE_ERROR: "write errors",
    Action.HANG: "hangs",
    Action.HANG_RESET: "hangs ended by a reset",
    Action.RESET: "resets",
    Action.ABORT: "aborts",
}
"""What the totals call each action."""


Row = tuple[Action, int, int]
"""What happens, its argument, and where."""


@dataclass(frozen=True)
class Subject:
    """A program, its regions in memory, and what it leaves.

    Parameters
    ----------
    name : str
        Name for people.
    items : tuple of Instruction
        The program.
    images : tuple of RegionImage
        Regions from number 1 on.
    base : int
        First address of the memory.
    """

    name: str
    items: tuple[isa.Instruction, ...]
    images: tuple[RegionImage, ...]
    base: int = MEMORY_BASE

    @property
    def code(self) -> bytes:
        """Bytes of the program."""
        return b"".join(item.to_bytes() for item in self.items)

    def bases(self) -> list[int]:
        """Return the device addresses of the regions, region 0 first, those written at the end."""
        code = RegionImage(self.code, read=True, write=False)
        addr, result = self.base + _PAGE, {}
        images = (code, *self.images)
        for number in sorted(range(len(images)), key=lambda n: images[n].write):
            result[number] = addr
            addr += -(-len(images[number].data) // _PAGE) * _PAGE
        return [result[number] for number in range(len(images))]

    def expected(self, config: AcceleratorConfig) -> tuple[int, bytes]:
        """Return the address of everything that is written, and its bytes after a run.

        Before the run, all of it holds the byte of a wiped memory.
        """
        bases = self.bases()
        regions = [Region(np.frombuffer(self.code, np.uint8).copy())]
        for image in self.images:
            data = np.frombuffer(image.data, np.uint8).copy()
            if image.write:
                data[:] = _WIPED
            regions.append(Region(data, read=image.read, write=image.write))
        Machine(config).run(self.code, regions)
        written = [n for n, image in enumerate(self.images, 1) if image.write and image.data]
        start = min(bases[n] for n in written)
        last = max(written, key=lambda n: bases[n])
        memory = np.full(bases[last] + regions[last].data.size - start, _WIPED, np.uint8)
        for n in written:
            memory[bases[n] - start :][: regions[n].data.size] = regions[n].data
        return start, memory.tobytes()


def subjects(config: AcceleratorConfig, base: int = MEMORY_BASE) -> list[Subject]:
    """Return three programs: a short one for all engines, a random one, and a compiled layer."""
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, _PAGE, dtype=np.uint8).tobytes()
    probe = (
        RegionImage(data, read=True, write=False),
        RegionImage(bytes(_PAGE), read=False, write=True),
    )
    random = draw_program(config, 1)
    layer = random_layer_cases(config, "convolution", _LAYER_SEED)[0]
    images = layer.regions[: len(Use) - 1]
    return [
        Subject("probe", tuple(probe_program(config)), probe, base),
        Subject("random program", random.relaxed(config), random.regions[1:], base),
        Subject("convolution", (*layer.body, isa.Halt()), images, base),
    ]


def open_device(config: AcceleratorConfig, base: int = MEMORY_BASE) -> RtlDevice:
    """Return the device that all of this runs on."""
    return RtlDevice(config, latency=_LATENCY, memory_size=MEMORY_BYTES, memory_base=base)


class Bench:
    """One subject on one device.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    subject : Subject
        Program.
    device : RtlDevice
        Hardware.
    """

    def __init__(self, config: AcceleratorConfig, subject: Subject, device: RtlDevice) -> None:
        self.config, self.subject, self.device = config, subject, device
        self.bases = subject.bases()
        images = (RegionImage(subject.code, read=True, write=False), *subject.images)
        settings, windows = {}, []
        for n, (base, image) in enumerate(zip(self.bases, images, strict=True)):
            device.write_memory(base, image.data)
            settings[f"region{n}_base_lo"] = base & 0xFFFFFFFF
            settings[f"region{n}_base_hi"] = base >> 32
            settings[f"region{n}_size"] = len(image.data)
            flags = csr.pack("region0_flags", read=int(image.read), write=int(image.write))
            settings[f"region{n}_flags"] = flags
            if image.data:
                windows.append((base, len(image.data), image.read, image.write))
        settings["watchdog"] = WATCHDOG_CYCLES
        settings["irq_enable"] = csr.pack("irq_enable", done=1, fault=1)
        self._windows = np.array(windows, WINDOW)
        self._campaign = Campaign(
            settings=settings,
            code_addr=self.bases[0],
            code_size=len(subject.code),
            probe=Probe(subject.code, *subject.expected(config)),
        )

    def run(self, rows: Sequence[Row]) -> Jobs:
        """Run the program once for each (action, argument, at), each followed by a good run."""
        jobs = np.zeros(len(rows), JOB)
        jobs["size"], jobs["count"] = len(self.subject.code), len(self.subject.items)
        jobs["limit"] = _LIMIT_CYCLES
        jobs["action"] = [action for action, _, _ in rows]
        jobs["argument"] = [argument for _, argument, _ in rows]
        jobs["at"] = [at for _, _, at in rows]
        self.device.watch(self._windows)
        return self.device.run_jobs(self._campaign, self.subject.code, jobs)

    def wrong(self, row: Row, outcome: np.void) -> str | None:
        """Return what is wrong with the outcome of a job, or None."""
        if outcome["flags"] or outcome["violations"] or outcome["outside"]:
            return (
                f"flags {outcome['flags']}, {outcome['violations']} rules of AXI, "
                f"{outcome['outside']} bytes or beats outside"
            )
        action = row[0]
        if action == Action.RESET:
            return None
        code = Fault(csr.field_value("fault", "code", int(outcome["fault"])))
        wanted = {
            Action.READ_ERROR: (Fault.BUS_READ,),
            Action.WRITE_ERROR: (Fault.BUS_WRITE,),
            Action.ABORT: (Fault.ABORTED, Fault.NONE),
        }.get(action, (Fault.WATCHDOG,))
        if code not in wanted:
            return f"fault {code.name}"
        if action in (Action.READ_ERROR, Action.WRITE_ERROR):
            return self._wrong_report(outcome)
        if action in (Action.HANG, Action.HANG_RESET):
            return self._wrong_stall(Channel(row[1]), outcome)
        return None

    def _wrong_report(self, outcome: np.void) -> str | None:
        """Return what is wrong with address or instruction of a bus error, or None."""
        beat, failed = self.config.axi_bytes, int(outcome["failed_addr"])
        addr, index = int(outcome["fault_addr"]), int(outcome["fault_index"])
        if addr // beat * beat != failed:
            return f"address {addr:#x} for the beat at {failed:#x}"
        engine = isa.Engine(csr.field_value("fault", "engine", int(outcome["fault"])))
        if engine == isa.Engine.SEQUENCER:
            good = index == (addr - self.bases[0]) // isa.INSTRUCTION_BYTES
        else:
            item = self.subject.items[index]
            good = isinstance(item, isa.Load | isa.Store) and engine == item.ENGINE
            if good and isinstance(item, isa.Load | isa.Store):
                # Bases are beats' addresses, of which those of 64 bits are too large for an offset.
                wanted = addr // beat - self.bases[item.region] // beat
                good = bool((dram_offsets(item) // beat == wanted).any())
        return None if good else f"instruction {index} of {engine.name} for address {addr:#x}"

    def _wrong_stall(self, channel: Channel, outcome: np.void) -> str | None:
        """Return what is wrong with what the driver can say about a silent channel, or None."""
        direction = "read" if channel in (Channel.AR, Channel.R) else "write"
        progress = [int(count) for count in outcome["progress"]]
        found = stalls(self.subject.code, progress, int(outcome["fault_index"]))
        if direction in {stall.channel for stall in found}:
            return None
        return f"{', '.join(str(stall) for stall in found)} for a silent {channel.name}"

    def read_beats(self) -> int:
        """Return the beats that a good run reads."""
        self.run([(Action.NOTHING, 0, 0)])
        return self.device.read_register(csr.BY_NAME["read_bytes"].addr) // self.config.axi_bytes

    def transfers(self, channel: Channel) -> int:
        """Return the transfers of a channel in a good run: behind the last, silence does nothing."""
        low, high = 0, 1
        while self._hangs(channel, high):
            low, high = high, 2 * high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._hangs(channel, middle) else (low, middle)
        return low + 1

    def _hangs(self, channel: Channel, at: int) -> bool:
        (outcome,) = self.run([(Action.HANG, channel, at)])
        return bool(outcome["fault"])


def rows_of(bench: Bench, hangs: int, cycles: Sequence[int]) -> Iterator[Row]:
    """Yield all jobs for one subject.

    Parameters
    ----------
    bench : Bench
        The subject on its device.
    hangs : int
        Points at which a channel falls silent.
    cycles : sequence of int
        Cycles in which a reset or an abort comes.
    """
    transfers = {channel: bench.transfers(channel) for channel in Channel}
    for response in _RESPONSES:
        # The rare ones first: one of so many rows has at least one of them.
        for burst in range(transfers[Channel.AW]):
            yield Action.WRITE_ERROR, response, burst
        for beat in range(bench.read_beats()):
            yield Action.READ_ERROR, response, beat
    points = [(channel, at) for channel in Channel for at in range(transfers[channel])]
    chosen = np.unique(np.linspace(0, len(points) - 1, hangs).astype(int)).tolist()
    for number, index in enumerate(chosen):
        channel, at = points[index]
        yield (Action.HANG, Action.HANG_RESET)[number % 2], int(channel), at
    for cycle in cycles:
        yield Action.RESET, 0, cycle
        yield Action.ABORT, 0, cycle


def run(
    config: AcceleratorConfig,
    *,
    hangs: int = HANGS,
    cycles: int = CYCLES,
    stride: int = 1,
    base: int = MEMORY_BASE,
) -> tuple[Counter[str], list[str]]:
    """Run everything; return counts and failures.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    hangs : int
        Points at which a channel falls silent, over all programs.
    cycles : int
        Cycles in which a reset or an abort comes, one by one.
    stride : int
        Take one of so many rows of each kind: for a test of seconds.
    base : int
        First address of the memory.
    """
    counts: Counter[str] = Counter(cases=0)
    failures = []
    with open_device(config, base) as device:
        programs = subjects(config, base)
        for number, subject in enumerate(programs):
            bench = Bench(config, subject, device)
            share = hangs // len(programs) + (number < hangs % len(programs))
            rows = list(rows_of(bench, share * stride, range(0, cycles)))[::stride]
            outcomes = bench.run(rows)
            counts["cases"] += len(rows)
            counts.update(NAMES[action] for action, _, _ in rows)
            for row, outcome in zip(rows, outcomes, strict=True):
                problem = bench.wrong(row, outcome)
                if problem:
                    action, argument, at = row
                    place = f"{subject.name} on {config.name}, {action.name} ({argument}) at {at}"
                    failures.append(f"{place}: {problem}")
    return counts, failures


def main() -> int:
    """Run everything on one configuration; return 3 on a failure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="micro-4x3", help="name, or random-<seed>")
    parser.add_argument("--hangs", type=int, default=HANGS)
    parser.add_argument("--cycles", type=int, default=CYCLES)
    parser.add_argument("--stride", type=int, default=1, help="take one of so many")
    parser.add_argument("--totals", type=Path, default=TOTALS)
    options = parser.parse_args()
    config = find_any_config(options.config)
    counts, failures = run(
        config, hangs=options.hangs, cycles=options.cycles, stride=options.stride
    )
    print(dict(counts), *failures, sep="\n")
    command = f"`python -m systolith.bench.bus_faults --config {config.name}`"
    totals = Totals(options.totals)
    totals.add(
        CAMPAIGN, config.name, hardware_key(config), counts, following=0,
        failures=[f"{failure}; {command}" for failure in failures], anew=True,
    )  # fmt: skip
    render(totals)
    return _FAILED if failures else 0


if __name__ == "__main__":
    sys.exit(main())
