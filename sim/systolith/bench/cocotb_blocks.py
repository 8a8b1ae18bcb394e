"""The bus-facing blocks of the gateware with flat pins, as cocotb wants them, and their Verilog.

Each block is the real one between real neighbors; only what lies behind it on chip is replaced by
pins: the commands of the sequencer, the ports of the scratchpad, the decoder.
"""

import dataclasses
import zlib
from collections.abc import Callable, Iterable
from typing import Any

from amaranth.back import verilog
from amaranth.hdl import (
    Cat,
    ClockDomain,
    Module,
    ResetInserter,
    Signal,
)
from amaranth.lib import wiring

from systolith.arch import csr, isa
from systolith.arch.config import AcceleratorConfig
from systolith.arch.presets import PRESETS
from systolith.bench import cocotb_points
from systolith.bench.region_lookup import answer_lookup
from systolith.bench.rtl import verilog_of
from systolith.gateware.csr_bank import CsrBank
from systolith.gateware.fetch import Fetch
from systolith.gateware.load import LoadEngine
from systolith.gateware.read_master import ReadMaster
from systolith.gateware.store import StoreEngine
from systolith.gateware.words import BODY_BITS
from systolith.gateware.write_master import WriteMaster

TOP_NAME = "systolith"
CONTROL, MEMORY = "s_axi_control", "m_axi_gmem"

REGION_BYTES = 1 << 14
REGIONS_BASE = 0x1_0000_0000
READ_LATENCY, WRITE_LATENCY = 4, 2
"""Latencies of the scratchpad that is played."""

_OUTGOING = ("ar", "aw", "w")
_STATE_REGISTERS = tuple(
    register.name for register in csr.REGISTERS if register.access is csr.Access.RO
)


def config_of(data_bits: int) -> AcceleratorConfig:
    """Return the smallest machine with a memory port of that width."""
    tiny = PRESETS["tiny-4x4"]
    return dataclasses.replace(tiny, name=f"tiny-{data_bits}", axi_data_bits=data_bits)


def region_base(number: int) -> int:
    """Return the device address of a region."""
    return REGIONS_BASE + number * REGION_BYTES


def region_size(number: int) -> int:
    """Return the bytes of a region; most do not end with a beat."""
    return REGION_BYTES - 3 * number


def state_value(register: str) -> int:
    """Return what a read-only register of the bank under test holds."""
    return zlib.crc32(register.encode())


def pattern(addr: int) -> int:
    """Return the byte that the played scratchpad has at an address."""
    return (addr ^ addr >> 8 ^ 0x5A) & 0xFF


class _Flat:
    """A module with named pins; those that nothing drives become inputs."""

    def __init__(self) -> None:
        self.m: Any = Module()
        self.ports: list[Any] = []
        clock, self.reset = self.pin("ap_clk", 1), self.pin("ap_rst_n", 1)
        domain = ClockDomain("sync")
        # The pin is the clock, not a copy of it: a simulator may order a copy after its users.
        domain.clk = clock
        self.m.domains.sync = domain
        self.m.d.comb += domain.rst.eq(~self.reset)

    def pin(self, name: str, shape: Any) -> Any:
        signal = Signal(shape, name=name)
        self.ports.append(signal)
        return signal

    def output(self, name: str, value: Any) -> None:
        self.m.d.comb += self.pin(name, len(value)).eq(value)

    def input(self, name: str, target: Any) -> None:
        self.m.d.comb += target.eq(self.pin(name, len(target)))

    def stream(self, prefix: str, stream: Any, *, outgoing: bool) -> None:
        """Show a stream; `outgoing` if the block is its source."""
        forth, back = (self.output, self.input) if outgoing else (self.input, self.output)
        forth(f"{prefix}valid", stream.valid)
        back(f"{prefix}ready", stream.ready)
        shape = stream.payload.shape()
        names = [name for name, _ in shape] if isinstance(shape, Iterable) else []
        for name in names:
            forth(f"{prefix}{name}", Cat(stream.p[name]))
        if not names:
            forth(f"{prefix}payload", Cat(stream.payload))

    def bus(self, prefix: str, component: Any, channels: Iterable[str], *, master: bool) -> None:
        for channel in channels:
            outgoing = (channel in _OUTGOING) is master
            self.stream(f"{prefix}_{channel}", getattr(component, channel), outgoing=outgoing)

    def verilog(self) -> str:
        text = verilog.convert(
            self.m, name=TOP_NAME, ports=self.ports, strip_internal_attrs=True, emit_src=False
        )
        return str(text)


def _region(number: int) -> dict[str, int]:
    return {"base": region_base(number), "size": region_size(number), "read": 1, "write": 1}


def _set_regions(flat: _Flat, lookup: Any) -> None:
    answer_lookup(flat.m, lookup, {n: _region(n) for n in range(isa.REGION_COUNT)})


def _command(flat: _Flat, engine: Any) -> None:
    """Make pins of what an engine takes from the sequencer and tells it."""
    command = engine.command
    flat.input("command_valid", command.valid)
    flat.output("command_ready", command.ready)
    flat.m.d.comb += command.p.body.eq(flat.pin("command_body", BODY_BITS))
    flat.output("done", engine.done)
    flat.output("fault_stb", engine.fault_stb)
    flat.output("fault_code", engine.fault.code)
    flat.output("fault_addr", engine.fault.addr)


def _registers(flat: _Flat, config: AcceleratorConfig) -> None:
    bank = CsrBank(constants=csr.constants(config))
    flat.m.submodules.bank = bank
    flat.bus(CONTROL, bank.bus, ("ar", "r", "aw", "w", "b"), master=False)
    for name in _STATE_REGISTERS:
        if name not in bank.constants:
            flat.m.d.comb += bank.state[name].eq(state_value(name))
    flat.input("busy", bank.busy)
    flat.input("events", bank.event.irq_status)
    flat.output("command", bank.command.control)
    flat.output("interrupt", bank.interrupt)


def _reader(flat: _Flat, config: AcceleratorConfig) -> Any:
    reader = ReadMaster(data_bits=config.axi_data_bits, outstanding=config.axi_outstanding)
    _set_regions(flat, reader.load_region)
    flat.m.d.comb += [reader.fetch_region[name].eq(value) for name, value in _region(0).items()]
    flat.bus(MEMORY, reader, ("ar", "r"), master=True)
    flat.output("bus_idle", reader.idle)
    return reader


def _read(flat: _Flat, config: AcceleratorConfig) -> None:
    load = LoadEngine(config, WRITE_LATENCY)
    flat.m.submodules.load = load
    flat.m.submodules.reader = reader = _reader(flat, config)
    wiring.connect(flat.m, load.request, reader.load_request)
    wiring.connect(flat.m, reader.load_data, load.beats)
    _command(flat, load)
    flat.stream("write_", load.write, outgoing=True)


def _write(flat: _Flat, config: AcceleratorConfig) -> None:
    m = flat.m
    store = StoreEngine(config, READ_LATENCY)
    writer = WriteMaster(data_bits=config.axi_data_bits, outstanding=config.axi_outstanding)
    m.submodules.store, m.submodules.writer = store, writer
    _set_regions(flat, writer.region)
    flat.bus(MEMORY, writer, ("aw", "w", "b"), master=True)
    flat.output("bus_idle", writer.idle)
    wiring.connect(m, store.request, writer.request)
    wiring.connect(m, writer.beats, store.beats)
    wiring.connect(m, store.bus_data, writer.data)
    m.d.comb += [
        store.bus_done.eq(writer.done),
        store.bus_error.eq(writer.error),
        store.bus_error_addr.eq(writer.error_addr),
    ]
    _command(flat, store)
    flat.input("read_ready", store.read.ready)
    valid, addr = store.read.valid & store.read.ready, store.read.payload
    for _ in range(READ_LATENCY):
        late_valid, late_addr = Signal(), Signal(len(addr))
        m.d.sync += [late_valid.eq(valid), late_addr.eq(addr)]
        valid, addr = late_valid, late_addr
    m.d.comb += store.data_valid.eq(valid)
    for lane in range(config.axi_bytes):
        at = Signal(len(addr))
        m.d.comb += [
            at.eq(addr + lane),
            store.data.word_select(lane, 8).eq(at ^ (at >> 8) ^ pattern(0)),
        ]


def _fetch(flat: _Flat, config: AcceleratorConfig) -> None:
    m = flat.m
    restart = flat.pin("restart", 1)
    fetch = Fetch(axi_bytes=config.axi_bytes)
    reader = _reader(flat, config)
    # The sequencer does the same between two programs.
    m.submodules.fetch = ResetInserter(restart)(fetch)
    m.submodules.reader = ResetInserter(restart)(reader)
    wiring.connect(m, fetch.request, reader.fetch_request)
    wiring.connect(m, reader.fetch_data, fetch.data)
    m.d.comb += [fetch.region[name].eq(reader.fetch_region[name]) for name in ("base", "size")]
    for name in ("enable", "offset", "count"):
        flat.input(name, getattr(fetch, name))
    flat.stream("o_", fetch.o, outgoing=True)
    flat.output("fault_stb", fetch.fault_stb)
    flat.output("fault_code", fetch.fault.code)
    flat.output("fault_index", fetch.fault.index)
    flat.output("fault_addr", fetch.fault.addr)


_BLOCKS: dict[str, Callable[[_Flat, AcceleratorConfig], None]] = {
    cocotb_points.REGISTERS: _registers,
    cocotb_points.READ: _read,
    cocotb_points.WRITE: _write,
    cocotb_points.FETCH: _fetch,
}


def block_verilog(block: str, data_bits: int) -> str:
    """Return the Verilog of a block, or of the whole accelerator, with top module :data:`TOP_NAME`."""
    config = config_of(data_bits)
    if block == cocotb_points.TOP:
        return verilog_of(config)
    flat = _Flat()
    _BLOCKS[block](flat, config)
    return flat.verilog()
