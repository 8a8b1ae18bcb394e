"""What a device offers the driver: registers, memory, an interrupt, and perhaps a timeline."""

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

DEVICES = ("golden", "rtl", "uart:PORT[@BAUD]", "pynq[:[BITFILE][@ADDRESS]]", "uio:FILE[,BUFFER]")
"""How devices are named: the model of the machine, the simulated hardware, and hardware."""

Event = tuple[int, int, int]
"""(engine, instructions completed by it, cycle since the doorbell)."""


class Transport(Protocol):
    """Way to one accelerator: simulated, modelled, or real."""

    @property
    def memory_base(self) -> int:
        """First device address of the DRAM that the driver may use."""
        ...

    @property
    def memory_size(self) -> int:
        """Bytes of DRAM that the driver may use."""
        ...

    def read_register(self, addr: int) -> int:
        """Return the 32-bit register at a byte address."""
        ...

    def write_register(self, addr: int, value: int) -> None:
        """Write the 32-bit register at a byte address."""
        ...

    def write_memory(self, addr: int, data: bytes) -> None:
        """Put bytes into DRAM at a device address."""
        ...

    def read_memory(self, addr: int, size: int) -> bytes:
        """Return bytes of DRAM from a device address."""
        ...

    def wait_interrupt(self, timeout_s: float) -> None:
        """Return when the interrupt line is high.

        Raises
        ------
        DeviceTimeout
            It stays low for `timeout_s` seconds.
        """
        ...

    def close(self) -> None:
        """Release the device; nothing else may be called afterwards."""
        ...


@runtime_checkable
class HasClock(Protocol):
    """A device that knows the frequency of its clock."""

    @property
    def clock_hz(self) -> float | None:
        """Cycles per second, from which time-outs follow; None if it is not known after all."""
        ...


@runtime_checkable
class HasTimeline(Protocol):
    """A device that can tell when each instruction of the last program completed."""

    def timeline(self) -> Sequence[Event]:
        """Return each change of an engine's progress counter, in order of time."""
        ...
