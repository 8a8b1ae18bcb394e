"""Bench of the whole accelerator: programs of moves, from the doorbell to the interrupt."""

from typing import Any

from cocotb.task import bridge, resume
from cocotb.triggers import RisingEdge

from systolith.arch import isa
from systolith.arch.errors import DeviceTimeout
from systolith.bench.axi_checker import BOUNDARY_BYTES, Window
from systolith.bench.cocotb_bench import LIMIT_CYCLES, Bench
from systolith.bench.cocotb_bus import MEMORY_SIZE, reset
from systolith.bench.cocotb_moves import program_of_moves, program_that_copies, program_that_fills
from systolith.bench.differential import Case, execute, first_difference
from systolith.golden.device import GoldenDevice

_BASE = 0x1_0000_0000
_REGION_BYTES = 1 << 12
_SHORT_CYCLES = 1_000
"""Runs of fewer cycles only copy."""

_COPY_BYTES = 300


class CocotbTransport:
    """The driver's transport on the pins; its methods block the driver's thread, not the clock.

    Parameters
    ----------
    dut
        The accelerator.
    master, ram
        Models of cocotbext-axi.
    limit : int
        Cycles that an interrupt may take.
    """

    memory_base = _BASE
    memory_size = MEMORY_SIZE

    def __init__(self, dut: Any, master: Any, ram: Any, *, limit: int = LIMIT_CYCLES) -> None:
        self._dut, self._master, self.ram, self._limit = dut, master, ram, limit

    def read_register(self, addr: int) -> int:
        """Return the value of a register."""
        return int(resume(self._master.read_dword)(addr))

    def write_register(self, addr: int, value: int) -> None:
        """Write a register."""
        resume(self._master.write_dword)(addr, value)

    def write_memory(self, addr: int, data: bytes) -> None:
        """Write the memory, past the bus."""
        self.ram.write(addr % MEMORY_SIZE, data)

    def read_memory(self, addr: int, size: int) -> bytes:
        """Read the memory, past the bus."""
        return bytes(self.ram.read(addr % MEMORY_SIZE, size))

    def wait_interrupt(self, timeout_s: float) -> None:
        """Wait until the interrupt is high."""
        del timeout_s  # real time says nothing here
        resume(self._wait)()

    async def _wait(self) -> None:
        for _ in range(self._limit):
            if self._dut.interrupt.value:
                return
            await RisingEdge(self._dut.ap_clk)
        raise DeviceTimeout(f"no interrupt in {self._limit} cycles")

    def close(self) -> None:
        """Nothing is held."""


async def top(bench: Bench) -> None:
    """Run programs of random moves from doorbell to interrupt; both regions must be golden's.

    Before anything stalls, one program fills the scratchpad, so that both devices begin alike; if there
    are not enough cycles for that, programs copy a few bytes instead.
    """
    config, rng = bench.config, bench.rng
    transport: Any = CocotbTransport(bench.dut, bench.master, bench.memory)
    golden = GoldenDevice(config, memory_size=MEMORY_SIZE)
    await reset(bench.dut)
    short = bench.point.cycles < _SHORT_CYCLES
    if not short:
        await _run_on_both(bench, transport, golden, program_that_fills(config, rng))
    bench.stall()
    while bench.goes_on:
        case = (
            program_that_copies(config, rng, rng.randint(1, _COPY_BYTES))
            if short
            else program_of_moves(
                config,
                rng.randrange(1 << 31),
                groups=2 if bench.point.slow else 12,
                most=40 if bench.point.slow else 200,
                region_bytes=_REGION_BYTES,
            )
        )
        await _run_on_both(bench, transport, golden, case)


async def _run_on_both(bench: Bench, transport: Any, golden: GoldenDevice, case: Case) -> None:
    """Run a program on golden and on the pins, and compare what they leave in memory."""
    items = (*case.body, *case.tail)
    expected = execute(golden, items, case.regions)
    # Regions follow each other in whole pages, region 0 is the program.
    sizes = [len(items) * isa.INSTRUCTION_BYTES, *(len(image.data) for image in case.regions)]
    allowed = [(True, False), *((image.read, image.write) for image in case.regions)]
    windows, addr = [], CocotbTransport.memory_base
    for size, (readable, writable) in zip(sizes, allowed, strict=True):
        windows.append(Window(addr, size, read=readable, write=writable))
        addr += -(-size // BOUNDARY_BYTES) * BOUNDARY_BYTES
    bench.permit(windows)
    outcome = await bridge(execute)(transport, items, case.regions)
    found = first_difference(case, expected, outcome)
    assert found is None, f"{case.name}: {found}"
