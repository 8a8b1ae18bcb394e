"""Flips in the whole accelerator while it runs random programs, and how each ends."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum

import numpy as np

from systolith.arch import csr
from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Fault
from systolith.arch.errors import DeviceError, DeviceTimeout
from systolith.bench.campaign_random import draw_program, instructions_of
from systolith.bench.random_program import RandomProgram
from systolith.bench.rtl import RtlDevice, build

from .instrument import Site, instrument

CAMPAIGN = "core"
"""Name of its totals."""

FLIP_REGISTERS = {"which": 0xF00, "place": 0xF04, "row": 0xF08, "delay": 0xF0C}
"""Addresses beside the register map that the bench listens to: what to flip, and when after start."""

_MEMORY_BYTES = 1 << 20
_LATENCY = 12
_WATCHDOG_CYCLES = 200_000
_SECONDS = 20.0
_PAGE = 4096
_EVENTS = csr.pack("irq_enable", done=1, fault=1)
_WORD = 0xFFFFFFFF

_LISTENER = """\
  reg [31:0] flip_which = 0, flip_place = 0, flip_row = 0, flip_delay = 0, flip_left = 0;
  reg flip_armed = 0;
  wire flip_now = flip_armed && flip_left == 0;
  always @* begin
    flip::which = flip_now ? flip_which : 0;
    flip::place = flip_place;
    flip::row = flip_row;
  end
  always @(posedge ap_clk) begin
    if (flip_armed) flip_left <= flip_left - 1;
    if (flip_now) begin flip_armed <= 0; flip_which <= 0; end
    if (s_axi_control_awvalid && s_axi_control_awready) case (s_axi_control_awaddr)
{cases}
      12'h{control:03x}: if (s_axi_control_wdata[0]) begin
        flip_left <= flip_delay;
        flip_armed <= flip_which != 0;
      end
    endcase
  end
"""
"""Added to the top; address and data of a register are always taken in the same cycle."""

_PARTS = (
    (".execute.array.array", "array"),
    (".execute.array", "checksum column"),
    (".drain.lanes", "requantizer, elementwise, tables"),
    (".drain", "control of DRAIN"),
    (".execute", "control of EXECUTE, windows, tile loader"),
    (".load", "DMA"),
    (".store", "DMA"),
    (".reader", "DMA"),
    (".writer", "DMA"),
    (".scratchpad", "registers beside memories"),
    (".accumulators", "registers beside memories"),
    (".weights", "registers beside memories"),
    (".params", "registers beside memories"),
)
"""Parts by the path of their modules; the first that fits counts, else it is control."""

CONTROL = "sequencer, queues, registers, counters"
MEMORIES = "memories"
BARE = "queues of the buses and in front of engines, without parity"
_BARE_PATHS = (".reader", ".writer", ".rest")


class End(StrEnum):
    """What became of a flip."""

    MASKED = "masked"
    NOTICED = "noticed"
    STOPPED = "stopped by another fault, the watchdog or the host"
    SILENT = "silent"


def part_of(site: Site) -> str:
    """Return the part of the accelerator that a site belongs to."""
    if site.rows:
        return BARE if any(path in site.module for path in _BARE_PATHS) else MEMORIES
    for path, name in _PARTS:
        if path in site.module:
            return name
    return CONTROL


def flippable(config: AcceleratorConfig) -> tuple[str, list[Site]]:
    """Return Verilog of an accelerator whose bits can be flipped by writing registers, and its sites."""
    text, sites = instrument(build.verilog_of(config))
    cases = "\n".join(
        f"      12'h{addr:03x}: flip_{name} <= s_axi_control_wdata;"
        for name, addr in FLIP_REGISTERS.items()
    )
    listener = _LISTENER.format(cases=cases, control=csr.BY_NAME["control"].addr)
    head, top = text.rsplit(f"module {build.TOP}(", 1)
    body, end = top.split("endmodule", 1)
    return f"{head}module {build.TOP}({body}{listener}endmodule{end}", sites


class CoreInjector:
    """Flips bits of an accelerator that runs random programs.

    Parameters
    ----------
    config : AcceleratorConfig
        The accelerator, small enough for random programs to be short.
    """

    def __init__(self, config: AcceleratorConfig) -> None:
        self._config = config
        self._verilog, self.sites = flippable(config)
        self._device: RtlDevice | None = None
        self.key = build.digest([self._verilog])

    def open(self) -> RtlDevice:
        """Return the device, a new one if the last one got stuck."""
        if self._device is None:
            self._device = RtlDevice(
                self._config, latency=_LATENCY, memory_size=_MEMORY_BYTES, verilog=self._verilog
            )
        return self._device

    def close(self) -> None:
        """Forget the device."""
        if self._device is not None:
            self._device.close()
        self._device = None

    def run(self, seed: int, flips: int) -> tuple[Counter[str], list[str]]:
        """Run a random program without flip, then with some; return counts by part and end."""
        program = draw_program(self._config, seed)
        code = b"".join(item.to_bytes() for item in instructions_of(program, self._config, seed))
        rng = np.random.default_rng([seed, flips])
        before = self.open().cycle
        end = self._attempt(code, program)
        if end is not End.MASKED:
            # A flip that did no harm to its own program may have left bus and master apart.
            self.close()
            before = self.open().cycle
            end = self._attempt(code, program)
        cycles = self.open().cycle - before
        if end is not End.MASKED:
            return Counter(cases=0), [f"program {seed} on {self._config.name}, no flip: {end}"]
        shares = np.array([site.size for site in self.sites], np.float64)
        # Half of the flips in registers, or next to nothing would hit them.
        registers = np.array([not site.rows for site in self.sites])
        for kind in (registers, ~registers):
            shares[kind] /= 2 * shares[kind].sum()
        counts = Counter(cases=flips)
        for number in rng.choice(len(self.sites), flips, p=shares):
            site = self.sites[number]
            self.arm(site, rng, cycles)
            end = self._attempt(code, program)
            counts[f"{part_of(site)}: {end}"] += 1
            self.disarm()
            if end in (End.STOPPED, End.SILENT):
                # Bus and master may disagree about what is in flight, until both are reset.
                self.close()
        return counts, []

    def arm(self, site: Site, rng: np.random.Generator, cycles: int) -> None:
        """Flip a random bit of a site in a random one of the first cycles after the next start."""
        values = {
            "which": site.number,
            "place": int(rng.integers(site.bits)),
            "row": int(rng.integers(max(1, site.rows))),
            "delay": int(rng.integers(cycles)),
        }
        for name, value in values.items():
            self.open().write_register(FLIP_REGISTERS[name], value)

    def disarm(self) -> None:
        """Flip nothing in the next run."""
        self.open().write_register(FLIP_REGISTERS["which"], 0)

    def _attempt(self, code: bytes, program: RandomProgram) -> End:
        device = self.open()
        try:
            bases = _place(device, code, program)
            device.wait_interrupt(_SECONDS)
            device.write_register(csr.BY_NAME["irq_status"].addr, _EVENTS)
            status = device.read_register(csr.BY_NAME["status"].addr)
            fault = device.read_register(csr.BY_NAME["fault"].addr)
            if csr.field_value("status", "busy", status):
                # Stopped by the watchdog, with the bus still waiting.
                self.close()
                return End.STOPPED
        except (DeviceError, DeviceTimeout):
            self.close()
            return End.STOPPED
        if csr.field_value("status", "fault", status):
            noticed = csr.field_value("fault", "code", fault) == Fault.SOFT_ERROR
            return End.NOTICED if noticed else End.STOPPED
        found = [
            device.read_memory(base, len(data))
            for base, data in zip(bases[1:], program.final, strict=True)
        ]
        return End.MASKED if tuple(found) == program.final else End.SILENT


def _place(device: RtlDevice, code: bytes, program: RandomProgram) -> Sequence[int]:
    """Fill memory and registers and start; return the bases of the regions."""

    def write(register: str, value: int) -> None:
        device.write_register(csr.BY_NAME[register].addr, value & _WORD)

    images = (replace(program.regions[0], data=code), *program.regions[1:])
    bases, addr = [], -(-device.memory_base // _PAGE) * _PAGE
    for number, image in enumerate(images):
        bases.append(addr)
        device.write_memory(addr, image.data)
        flags = csr.pack("region0_flags", read=int(image.read), write=int(image.write))
        write(f"region{number}_base_lo", addr)
        write(f"region{number}_base_hi", addr >> 32)
        write(f"region{number}_size", len(image.data))
        write(f"region{number}_flags", flags)
        addr += -(-len(image.data) // _PAGE) * _PAGE
    write("program_offset", 0)
    write("program_count", len(code) // 32)
    write("watchdog", _WATCHDOG_CYCLES)
    write("irq_enable", _EVENTS)
    write("control", csr.pack("control", start=1))
    return bases
