"""Models, checkers and counts of one run on the pins of a block; inside a simulator."""

import random
from collections.abc import Callable
from typing import Any

from cocotb.triggers import RisingEdge

from systolith.arch.config import AcceleratorConfig
from systolith.bench import cocotb_points as points
from systolith.bench.axi_checker import AxiChecker, AxiLiteChecker, Limits, Window
from systolith.bench.cocotb_blocks import config_of
from systolith.bench.cocotb_bus import (
    CONTROL,
    MEMORY,
    REGISTER_READS,
    Monitor,
    attach_host,
    attach_memory,
    cycle,
    latency,
    reset,
    set_stalls,
)
from systolith.bench.cocotb_points import Point

Counts = dict[str, int]

LIMIT_CYCLES = 200_000
"""Cycles that nothing may take."""


class Bench:
    """Models, checkers and counts of one run.

    Parameters
    ----------
    dut
        The block.
    point : Point
        Its parameters.
    """

    def __init__(self, dut: Any, point: Point) -> None:
        self.dut, self.point = dut, point
        self.rng = random.Random(point.seed)
        self.config: AcceleratorConfig = config_of(point.data_bits)
        channels = points.MEMORY_CHANNELS[point.block]
        self.memory: Any = None
        self.master: Any = None
        self.axi: Monitor | None = None
        self.lite: Monitor | None = None
        if channels:
            delay = latency(point.latency, point.jitter, point.seed)
            self.memory = attach_memory(dut, delay, channels)
            outstanding = self.config.axi_outstanding
            checker = AxiChecker(
                data_bits=point.data_bits, limits=Limits(reads=outstanding, writes=outstanding)
            )
            self.axi = Monitor(dut, MEMORY, checker, channels)
        if hasattr(dut, f"{CONTROL}_arvalid"):
            self.master = attach_host(dut)
            self.lite = Monitor(dut, CONTROL, AxiLiteChecker(reads=REGISTER_READS))

    async def start(self) -> None:
        """Reset the block, and let the channels stall from then on."""
        await reset(self.dut)
        self.stall()

    def stall(self) -> None:
        """Let the channels stall, and count cycles, from now on."""
        models = [self.memory.read_if, self.memory.write_if] if self.memory else []
        set_stalls(models, self.point.stalls, "", self.point.seed)
        hosts = [self.master.read_if, self.master.write_if] if self.master else []
        set_stalls(hosts, self.point.stalls, "lite_", self.point.seed + 1)
        self._end = cycle() + self.point.cycles

    @property
    def beat_bytes(self) -> int:
        """Bytes of a beat."""
        return self.point.data_bits // 8

    @property
    def goes_on(self) -> bool:
        """Whether another round may begin."""
        return cycle() < self._end

    async def wait(self, condition: Callable[[], Any], what: str) -> None:
        """Wait for a condition at a clock edge."""
        for _ in range(LIMIT_CYCLES):
            await RisingEdge(self.dut.ap_clk)
            if condition():
                return
        raise AssertionError(f"no {what} in {LIMIT_CYCLES} cycles")

    def permit(self, windows: list[Window]) -> None:
        """Say what the memory port may touch from now on."""
        assert self.axi is not None and isinstance(self.axi.checker, AxiChecker)
        self.axi.checker.windows = windows

    def counts(self) -> Counts:
        """Judge the end, and return what was counted."""
        result = {"cycles": cycle() - self._end + self.point.cycles, "transactions": 0, "beats": 0}
        for monitor in (self.axi, self.lite):
            if monitor is None:
                continue
            monitor.finish()
            checker = monitor.checker
            result["transactions"] += checker.reads + checker.writes
            result["beats"] += checker.transfers.get("r", 0) + checker.transfers.get("w", 0)
            if isinstance(checker, AxiChecker):
                result["most_reads"] = checker.most_reads
                result["most_writes"] = checker.most_writes
        return result
