"""The register file of the simulated hardware, against its declaration: values, locks, interrupts.

Held are what `systolith.arch.csr` says of each register, and what a program's end does to those that
report it. The bus rules of the port are checked elsewhere.
"""

from collections.abc import Iterator
from dataclasses import replace

from systolith.arch import csr, isa
from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Access, Fault, Register
from systolith.arch.errors import DeviceTimeout
from systolith.bench.device_bench import DeviceBench, fault_report
from systolith.bench.random_instruction import WAIT_FOR_ALL, block
from systolith.bench.rtl import RtlDevice

_ONES = 0xFFFFFFFF
_PATTERNS = 6
_UNDECLARED = (0x028, 0x06C, 0x138, 0x3FC, 0x800, 0xFFC)
_PROGRAM_OFFSET, _LOADED = 0x1000, 0x2000
_SLOW_CYCLES = 4000
_SOON_S, _LATE_S = 600e-6, 0.1
_BOTH = csr.pack("irq_enable", done=1, fault=1)
_DONE, _FAULT = csr.pack("irq_enable", done=1), csr.pack("irq_enable", fault=1)


def mask_of(register: Register) -> int:
    """Return the bits of a register that can be written."""
    fields = sum(((1 << field.width) - 1) << field.low for field in register.fields)
    return fields or _ONES


class RegisterBench(DeviceBench):
    """One device whose registers are tried; the seed is that of the values that are written."""

    def problems(self) -> Iterator[str]:
        """Yield one sentence for each value that is not as declared."""
        yield from self._after_reset()
        yield from self._written_values()
        yield from self._end_of_program()

    def _interrupt(self) -> bool:
        return self._ends(_SOON_S)

    def _ends(self, within_s: float = _LATE_S) -> bool:
        try:
            self._device.wait_interrupt(within_s)
        except DeviceTimeout:
            return False
        return True

    def _after_reset(self) -> Iterator[str]:
        wanted = {register.name: register.reset for register in csr.REGISTERS}
        yield from self._differ("after reset", {**wanted, **csr.constants(self._config)})
        if self._interrupt():
            yield "interrupt after reset"

    def _written_values(self) -> Iterator[str]:
        """Write everything that idle hardware takes, read-only and undeclared addresses too."""
        stored = [r for r in csr.REGISTERS if r.access is Access.RW]
        others = [r.addr for r in csr.REGISTERS if r.access is Access.RO]
        for pattern in range(_PATTERNS):
            fixed = {0: _ONES, 1: 0}.get(pattern)
            wanted = {}
            for register in stored:
                value = int(self._rng.integers(_ONES + 1)) if fixed is None else fixed
                self._write(register.name, value)
                wanted[register.name] = value & mask_of(register)
            for addr in (*others, *_UNDECLARED):
                self._device.write_register(addr, _ONES)
            yield from self._differ("written while idle", wanted)
            yield from self._differ("is constant", csr.constants(self._config))
            for addr in _UNDECLARED:
                if self._device.read_register(addr):
                    yield f"address {addr:#x} is not declared, and reads something"
        self._write("control", csr.pack("control", abort=1))
        yield from self._differ("after an abort while idle", {"status": 0, "fault": 0})

    def _place(self, items: list[isa.Instruction]) -> None:
        """Put a program into memory, and tell the hardware where it is."""
        base = self._device.memory_base
        code = b"".join(replace(item, **WAIT_FOR_ALL).to_bytes() for item in items)
        self._device.write_memory(base + _PROGRAM_OFFSET, code)
        for n in range(isa.REGION_COUNT):
            flags = csr.pack("region0_flags", read=1)
            self._write_region(n, base, _LOADED if n < 2 else 0, flags)
        self._write("program_offset", _PROGRAM_OFFSET)
        self._write("program_count", len(items))
        self._write("watchdog", 0)

    def _start(self, enable: int) -> None:
        self._write("irq_enable", enable)
        self._write("control", csr.pack("control", start=1))

    def _end_of_program(self) -> Iterator[str]:
        """One program ends well and one in a fault, with each interrupt enabled and not."""
        load = block(isa.Load, isa.Space.SCRATCHPAD, 1, 0, 0, 64)
        bad = block(isa.Load, isa.Space.SCRATCHPAD, 1, _LOADED - 1, 0, 64)
        done, fault = csr.pack("status", done=1), csr.pack("status", fault=1)
        base = self._device.memory_base + _LOADED
        report = fault_report(Fault.REGION_BOUNDS, isa.Engine.LOAD, 1, base)
        for items, status, event, wanted in (
            ([load, load, isa.Halt()], done, _DONE, dict.fromkeys(report, 0)),
            ([load, bad, isa.Halt()], fault, _FAULT, report),
        ):
            beats = (len(items) * isa.INSTRUCTION_BYTES + 128) // self._config.axi_bytes
            self._place(items)
            self._start(0)
            if self._interrupt():
                yield "interrupt that is not enabled"
            yield from self._differ("at the end", {"status": status, "irq_status": event, **wanted})
            if event == _DONE:
                counters = {"progress_load": 2, "read_bytes": beats * self._config.axi_bytes}
                yield from self._differ("at the end", {**counters, "write_bytes": 0})
            self._write("irq_status", _BOTH & ~event)
            for enable in (_BOTH & ~event, event):
                self._write("irq_enable", enable)
                if self._interrupt() != (enable == event):
                    yield f"interrupt with irq_enable {enable:#x} and irq_status {event:#x}"
            self._write("irq_status", event)
            if self._interrupt():
                yield "interrupt after it was cleared"
            yield from self._differ("cleared", {"irq_status": 0, "status": status})

    def locked_while_busy(self) -> Iterator[str]:
        """While a program waits for a slow memory, nothing that it depends on can be changed."""
        stored = [r.name for r in csr.REGISTERS if r.access is Access.RW]
        self._place([block(isa.Load, isa.Space.SCRATCHPAD, 1, 0, 0, 64), isa.Halt()])
        self._start(_BOTH)
        values = {name: self._read(name) for name in stored}
        for name in stored:
            self._write(name, ~values[name] & _ONES)
        self._write("control", csr.pack("control", start=1))
        busy = {"status": csr.pack("status", busy=1), "irq_status": 0}
        yield from self._differ("written while busy", {**values, **busy})
        self._write("control", csr.pack("control", abort=1))
        if not self._ends():
            yield "no interrupt after an abort"
        code = csr.field_value("fault", "code", self._read("fault"))
        if code != Fault.ABORTED:
            yield f"fault {code} after an abort"


def problems(config: AcceleratorConfig, seed: int) -> list[str]:
    """Return what is not as declared, on a quick memory, and on one slower than all accesses.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    seed : int
        Seed of the values that are written.
    """
    with RtlDevice(config) as device:
        found = list(RegisterBench(config, device, seed).problems())
    with RtlDevice(config, latency=_SLOW_CYCLES) as device:
        return found + list(RegisterBench(config, device, seed).locked_while_busy())
