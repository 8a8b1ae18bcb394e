"""Test module of cocotb: one test per run that the environment names; each leaves what it counted in a file.

`SYSTOLITH_POINTS` is a JSON file with the list of runs, `SYSTOLITH_RECORDS` the folder of the results.
`SYSTOLITH_OUTPUTS` is a JSON file with the pins of which no bit may be unknown after reset, see
:class:`~systolith.bench.cocotb_bus.UnknownMonitor`.
"""

import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import cocotb
from cocotb.triggers import ClockCycles

from systolith.bench import cocotb_memory_benches as memory
from systolith.bench import cocotb_points as points
from systolith.bench.cocotb_bench import Bench
from systolith.bench.cocotb_bus import UnknownMonitor
from systolith.bench.cocotb_points import Point
from systolith.bench.cocotb_register_bench import registers
from systolith.bench.cocotb_top_bench import top

BENCHES: dict[str, Callable[[Bench], Awaitable[None]]] = {
    points.REGISTERS: registers,
    points.READ: memory.read,
    points.WRITE: memory.write,
    points.FETCH: memory.fetch,
    points.TOP: top,
}
"""What is done to each block."""

_QUIET_CYCLES = 30
_POINTS = [
    Point.from_dict(fields)
    for fields in json.loads(Path(os.environ["SYSTOLITH_POINTS"]).read_text())
]
_OUTPUTS = json.loads(Path(os.environ["SYSTOLITH_OUTPUTS"]).read_text())


@cocotb.test()
@cocotb.parametrize(point=[cocotb.Param(point, point.name) for point in _POINTS])
async def run(dut: Any, point: Point) -> None:
    """Carry out one run; what it cannot explain fails: bytes, registers, order, and broken rules."""
    unknown = UnknownMonitor(dut, _OUTPUTS)
    bench = Bench(dut, point)
    await BENCHES[point.block](bench)
    await ClockCycles(dut.ap_clk, _QUIET_CYCLES)
    counts = bench.counts() | {"samples": unknown.samples}
    path = Path(os.environ["SYSTOLITH_RECORDS"]) / f"{point.name}.json"
    path.write_text(json.dumps(counts))
