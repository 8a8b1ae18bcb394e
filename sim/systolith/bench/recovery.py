"""Clients that are killed at any point, and clients at the same time, on a device that outlives them.

A victim opens the device, runs, and is killed (SIGKILL) at a chosen point of a chosen access: in front
of it, in the middle, or behind it. Then somebody else opens the same device, and must get exactly its
own bytes. Then several clients want one device at once: each result must be exact, or the device busy.

    python -m systolith.bench.recovery uio --points 200
    python -m systolith.bench.recovery uart --points 200

The device is the Verilated core behind registers and memory of another process (`uio`), with the
driver's own files, locks and waiting, or a whole Verilated board behind a pseudo-terminal (`uart`).
"""

import argparse
import multiprocessing
import random
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import DeviceBusy
from systolith.arch.isa import Halt, Load, Space, Store
from systolith.arch.presets import PRESETS
from systolith.arch.program import AcceleratorSegment, Layer, Program, Region
from systolith.driver.device import Device

from .served import PHASES, Place, device_process, open_place

CONTEXT = multiprocessing.get_context("forkserver")
"""Clients are forked from a process that has imported everything and runs nothing else."""

CONTEXT.set_forkserver_preload(["__main__", __name__])

_BYTES = 256
_LOADS = 16
_LATENCY = 64
_RUNS = 2
_WAIT_SECONDS = 60.0
"""Time that clients wait for each other, if they do."""

_LIFE_SECONDS = 300.0
_FAILED = 3


def slow_copy(config: AcceleratorConfig) -> Program:
    """Return a program that fills the scratchpad some times, and then copies INPUT to OUTPUT.

    It takes longer than a client needs to be killed and followed, and each byte of its result is a
    byte of its own client's input.
    """
    size = config.scratchpad_bytes
    fill = Load(space=Space.SCRATCHPAD, region=Region.CONSTANTS, run=64, total=size, segment=size)
    load = replace(fill, region=Region.INPUT, run=_BYTES, total=_BYTES, segment=_BYTES)
    store = Store(wait_load=0, region=Region.OUTPUT, run=_BYTES, total=_BYTES, segment=_BYTES)
    items = (*(fill,) * _LOADS, load, store, Halt())
    segment = AcceleratorSegment(
        code=b"".join(item.to_bytes() for item in items),
        inputs=(),
        outputs=(),
        input_bytes=_BYTES,
        output_bytes=_BYTES,
        arena_bytes=0,
        layer_of=(0,) * len(items),
        cycles=_LOADS * size // config.axi_bytes + _LATENCY * len(items),
    )
    return Program(
        config=config,
        model="slow copy",
        reference="none",
        inputs=(),
        outputs=(),
        tensors={},
        segments=(segment,),
        constants=bytes(range(64)),
        layers=(Layer(name="copy", op="COPY", target="npu", macs=0),),
    )


@dataclass(frozen=True)
class Point:
    """Where a client is killed: at an access of its life, in one of :data:`PHASES`."""

    access: int
    phase: int

    def __str__(self) -> str:
        return f"{self.access}:{PHASES[self.phase]}"


@dataclass
class Counts:
    """What clients met.

    Parameters
    ----------
    exact, wrong : int
        Results that are, or are not, what the client gave.
    busy : int
        Times that the device had another client.
    """

    exact: int = 0
    wrong: int = 0
    busy: int = 0

    def run(self, place: Place, seed: int, *, wait_s: float, point: Point | None = None) -> int:
        """Open the device, run with inputs of a seed, close it; return the accesses that it took."""
        rng = random.Random(seed)
        doom = (point.access, point.phase) if point else None
        transport, fate = open_place(place, wait_s=wait_s, doom=doom)
        try:
            device = Device(transport, place.config, timeout_s=place.timeout_s, scrub=True)
            device.load(slow_copy(place.config))
            for _ in range(_RUNS):
                data = rng.randbytes(_BYTES)
                got = device.run(0, {0: data}).outputs
                self.exact += got == data
                self.wrong += got != data
            device.close()
        finally:
            transport.close()
        return fate.accesses

    def add(self, other: "Counts") -> None:
        """Add those of another client."""
        self.exact += other.exact
        self.wrong += other.wrong
        self.busy += other.busy


def _victim(place: Place, seed: int, point: Point) -> None:
    Counts().run(place, seed, wait_s=0.0, point=point)


def _contender(place: Place, seed: int, sessions: int, results: Any) -> None:
    """Run some sessions, asking again and again while the device is busy."""
    counts = Counts()
    done = 0
    while done < sessions:
        try:
            # Some ask once, some wait.
            counts.run(place, seed + done, wait_s=_WAIT_SECONDS * (done % 2))
            done += 1
        except DeviceBusy:
            counts.busy += 1
            time.sleep(0.01)
    results.send(counts)


def points_of(place: Place, count: int) -> list[Point]:
    """Return points spread over the accesses of a life that nobody disturbs."""
    total = Counts().run(place, 0, wait_s=0.0)
    return [Point(index * total // count, index % len(PHASES)) for index in range(count)]


def kill(place: Place, points: Sequence[Point], seed: int) -> tuple[Counts, int, list[str]]:
    """Kill a client at each point, and let another one run.

    Returns
    -------
    tuple
        What those that came later met, how many clients were killed, and what went wrong.
    """
    counts, killed, failures = Counts(), 0, []
    for number, point in enumerate(points):
        victim = CONTEXT.Process(target=_victim, args=(place, seed + 2 * number, point))
        victim.start()
        victim.join(_LIFE_SECONDS)
        # A line that is slow now and then makes a life shorter or longer by a few accesses.
        killed += victim.exitcode == -signal.SIGKILL
        if victim.exitcode not in (0, -signal.SIGKILL):
            failures.append(f"{point}: the client to be killed ended with {victim.exitcode}")
            victim.kill()
        wrong = counts.wrong
        try:
            counts.run(place, seed + 2 * number + 1, wait_s=0.0)
        except Exception as error:
            failures.append(f"{point}: {type(error).__name__}: {error}")
        if counts.wrong != wrong:
            failures.append(f"{point}: the next result is wrong")
    return counts, killed, failures


def contend(place: Place, clients: int, sessions: int, seed: int) -> tuple[Counts, list[str]]:
    """Let several clients want the device at once; return what they met, and what went wrong."""
    counts, failures, running = Counts(), [], []
    for number in range(clients):
        ours, theirs = CONTEXT.Pipe(duplex=False)
        arguments = (place, seed + 1000 * (number + 1), sessions, theirs)
        process = CONTEXT.Process(target=_contender, args=arguments)
        process.start()
        theirs.close()
        running.append((process, ours))
    for number, (process, ours) in enumerate(running):
        try:
            counts.add(ours.recv())
        except EOFError:
            failures.append(f"client {number} ended without a result")
        process.join()
    if counts.wrong:
        failures.append(f"{counts.wrong} results of clients at the same time are wrong")
    return counts, failures


def main() -> int:
    """Run both campaigns on one kind of device; return 3 on a failure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=("uio", "uart", "golden"))
    parser.add_argument("--config", default="tiny-4x4", choices=PRESETS)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--sessions", type=int, default=20, help="of each of two clients at once")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        device_process(options.kind, PRESETS[options.config], Path(folder), CONTEXT) as place,
    ):
        start = time.monotonic()
        points = points_of(place, options.points)
        last = points[-1].access + 1
        counts, killed, failures = kill(place, points, options.seed)
        print(
            f"{options.kind}: {len(points)} points in {last} accesses, {killed} clients killed, "
            f"{counts.exact} results after them exact, {counts.wrong} wrong, "
            f"{time.monotonic() - start:.0f} s",
            flush=True,
        )
        start = time.monotonic()
        counts, others = contend(place, 2, options.sessions, options.seed)
        print(
            f"{options.kind}: 2 clients at once, {options.sessions} sessions each: {counts.exact} "
            f"results exact, {counts.wrong} wrong, {counts.busy} times busy, "
            f"{time.monotonic() - start:.0f} s"
        )
    print(*failures, *others, sep="\n")
    return _FAILED if failures or others else 0


if __name__ == "__main__":
    sys.exit(main())
