"""The golden device: the register map and DRAM around a golden machine, as a driver sees them."""

import numpy as np

from systolith.arch import csr, isa
from systolith.arch.config import AcceleratorConfig
from systolith.arch.csr import Access, Fault
from systolith.arch.errors import DeviceError, DeviceTimeout

from .machine import Machine, MachineFault, Region, Trace
from .memory import Bytes

_REGISTER_MASK = 0xFFFFFFFF
_ADDR_MASK = ((1 << csr.ADDR_BITS) - 1) & ~3

DEFAULT_MEMORY_BASE = 0x1_0000_0000
"""Device address of the DRAM: above 4 GiB, so that a lost upper half is noticed."""

DEFAULT_MEMORY_SIZE = 64 << 20


class GoldenDevice:
    """A device in the sense of the driver's transport, computed by the golden machine.

    A program runs to its end within the write of `control.start`, so that the device is never
    seen busy. `cycles` and the counters of cycles read zero; `read_bytes` counts the beats of
    moves and of the instructions executed, without those fetched ahead.

    Parameters
    ----------
    config : AcceleratorConfig
        Which accelerator.
    memory_size : int
        Bytes of DRAM.
    memory_base : int
        Device address of the first byte of DRAM.
    trace : callable, optional
        Called as `trace(index, instruction)` after each instruction.

    Attributes
    ----------
    machine : Machine
        The machine behind the registers.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        memory_size: int = DEFAULT_MEMORY_SIZE,
        memory_base: int = DEFAULT_MEMORY_BASE,
        trace: Trace | None = None,
    ) -> None:
        self.config = config
        self.memory_base = memory_base
        self.memory_size = memory_size
        self.machine = Machine(config, trace=trace)
        self._dram: Bytes = np.zeros(memory_size, np.uint8)
        self._by_addr = {register.addr: register for register in csr.REGISTERS}
        self._values = {register.name: register.reset for register in csr.REGISTERS}
        self._values.update(csr.constants(config))

    def read_register(self, addr: int) -> int:
        """Return a register; undeclared addresses and registers to write only read zero."""
        register = self._by_addr.get(addr & _ADDR_MASK)
        if register is None or register.access == Access.W1:
            return 0
        return self._values[register.name]

    def write_register(self, addr: int, value: int) -> None:
        """Write a register; a start runs the program to its end."""
        register = self._by_addr.get(addr & _ADDR_MASK)
        if register is None:
            return
        value &= _REGISTER_MASK
        if register.access == Access.RW:
            if register.fields:
                value &= sum(((1 << f.width) - 1) << f.low for f in register.fields)
            self._values[register.name] = value
        elif register.access == Access.W1C:
            self._values[register.name] &= ~value
        elif register.name == "control" and csr.field_value("control", "start", value):
            self._run()

    def write_memory(self, addr: int, data: bytes) -> None:
        """Write DRAM at a device address.

        Raises
        ------
        DeviceError
            The bytes are not inside the DRAM.
        """
        start = self._locate(addr, len(data))
        self._dram[start : start + len(data)] = np.frombuffer(data, np.uint8)

    def read_memory(self, addr: int, size: int) -> bytes:
        """Read DRAM at a device address.

        Raises
        ------
        DeviceError
            The bytes are not inside the DRAM.
        """
        start = self._locate(addr, size)
        return self._dram[start : start + size].tobytes()

    def wait_interrupt(self, timeout_s: float) -> None:
        """Return if the interrupt line is high.

        Raises
        ------
        DeviceTimeout
            It is low; nothing can raise it while the caller waits.
        """
        if not self._values["irq_status"] & self._values["irq_enable"]:
            raise DeviceTimeout(
                f"Interrupt must rise within {timeout_s} s, but the golden device is idle; "
                f"start a program with its interrupt enabled"
            )

    def close(self) -> None:
        """Release the device: nothing is held."""

    def _locate(self, addr: int, size: int) -> int:
        start = addr - self.memory_base
        if start < 0 or size < 0 or start + size > self.memory_size:
            raise DeviceError(
                f"Memory access must be inside {self.memory_base:#x} to "
                f"{self.memory_base + self.memory_size - 1:#x}, not {size} bytes at {addr:#x}"
            )
        return start

    def _region(self, number: int) -> Region:
        """Return a region of the table; what is not in DRAM has no bytes and answers with errors."""
        value = {f: self._values[f"region{number}_{f}"] for f in ("base_lo", "base_hi", "size")}
        base = value["base_hi"] << 32 | value["base_lo"]
        start, size = base - self.memory_base, value["size"]
        data = self._dram[start : start + size] if start >= 0 else self._dram[:0]
        flags = self._values[f"region{number}_flags"]
        return Region(
            data=data,
            base=base,
            read=bool(csr.field_value("region0_flags", "read", flags)),
            write=bool(csr.field_value("region0_flags", "write", flags)),
            size=size,
        )

    def _fetch(self, region: Region) -> tuple[bytes, Fault]:
        """Return the code that can be fetched and the fault of the instruction that follows it."""
        offset = self._values["program_offset"]
        size = self._values["program_count"] * isa.INSTRUCTION_BYTES
        inside = max(0, min(size, region.nbytes - offset))
        if inside and not region.read:
            return b"", Fault.REGION_PERMISSION
        present = max(0, min(inside, region.data.size - offset))
        fault = Fault.BUS_READ if present < inside else Fault.REGION_BOUNDS
        whole = present - present % isa.INSTRUCTION_BYTES
        return region.data[offset : offset + whole].tobytes(), fault

    def _run(self) -> None:
        regions = [self._region(number) for number in range(isa.REGION_COUNT)]
        code, end_fault = self._fetch(regions[0])
        addr = regions[0].base + self._values["program_offset"]
        self._report(Fault.NONE, isa.Engine.LOAD, 0, 0)
        event = "done"
        try:
            self.machine.run(code, regions, code_addr=addr)
        except MachineFault as fault:
            event = "fault"
            ran_off = fault.index * isa.INSTRUCTION_BYTES == len(code)
            self._report(
                end_fault if ran_off else fault.code, fault.engine, fault.index, fault.addr
            )
        self._values["status"] = csr.pack("status", **{event: 1})
        self._values["irq_status"] |= csr.pack("irq_status", **{event: 1})
        for engine in list(isa.Engine)[: isa.Engine.SEQUENCER]:
            self._values[f"progress_{engine.name.lower()}"] = self.machine.completed[engine]
        self._values["read_bytes"] = self.machine.read_bytes & _REGISTER_MASK
        self._values["write_bytes"] = self.machine.write_bytes & _REGISTER_MASK

    def _report(self, code: Fault, engine: isa.Engine, index: int, addr: int) -> None:
        addr &= (1 << 64) - 1
        self._values["fault"] = csr.pack("fault", code=int(code), engine=int(engine))
        self._values["fault_index"] = index
        self._values["fault_addr_lo"] = addr & _REGISTER_MASK
        self._values["fault_addr_hi"] = addr >> 32
