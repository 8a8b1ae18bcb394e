"""What transports have in common that see registers and memory as arrays of their process."""

import time
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from systolith.arch import csr
from systolith.arch.errors import DeviceError, DeviceTimeout

REGISTER_BYTES = 4096
"""Bytes of the register map: what 12 address bits reach."""

_WORD_BYTES = 4
_POLL_SECONDS = 50e-6
_ENABLE = csr.BY_NAME["irq_enable"].addr
_STATUS = csr.BY_NAME["irq_status"].addr


class Words(Protocol):
    """Array of 32-bit words, each of which is read and written in one access."""

    def __getitem__(self, index: int, /) -> Any:
        """Read a word."""
        ...

    def __setitem__(self, index: int, value: Any, /) -> None:
        """Write a word."""
        ...


class MappedTransport:
    """Registers and memory in reach of loads and stores; implements the driver's transport.

    Parameters
    ----------
    registers : Words
        The register map; word `n` is the register at address `4 * n`.
    memory : array of uint8
        Memory that the accelerator reaches too.
    memory_base : int
        Address of its first byte on the accelerator's bus.
    """

    def __init__(self, registers: Words, memory: NDArray[np.uint8], memory_base: int) -> None:
        self._registers, self._memory = registers, memory
        self._memory_base = memory_base

    @property
    def memory_base(self) -> int:
        """First device address of the memory."""
        return self._memory_base

    @property
    def memory_size(self) -> int:
        """Bytes of the memory."""
        return int(self._memory.nbytes)

    def read_register(self, addr: int) -> int:
        """Return a register."""
        return int(self._registers[addr // _WORD_BYTES])

    def write_register(self, addr: int, value: int) -> None:
        """Write a register."""
        self._registers[addr // _WORD_BYTES] = np.uint32(value)

    def write_memory(self, addr: int, data: bytes) -> None:
        """Put bytes where the accelerator sees them."""
        place = self._locate(addr, len(data))
        self._memory[place] = np.frombuffer(data, np.uint8)
        self._flush(place)

    def read_memory(self, addr: int, size: int) -> bytes:
        """Return bytes as the accelerator wrote them."""
        place = self._locate(addr, size)
        self._invalidate(place)
        return self._memory[place].tobytes()

    def wait_interrupt(self, timeout_s: float) -> None:
        """Look at the interrupt registers until an enabled event is pending.

        Raises
        ------
        DeviceTimeout
            None is.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            # The clock first: whoever is kept from looking in time still sees what there is.
            late = time.monotonic() > deadline
            if self._pending():
                return
            if late:
                raise DeviceTimeout(f"Interrupt must rise within {timeout_s} s, and did not")
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Release the device."""

    def _pending(self) -> bool:
        return bool(self.read_register(_STATUS) & self.read_register(_ENABLE))

    def _flush(self, place: slice) -> None:
        """Write cached bytes back, if the memory is cached."""

    def _invalidate(self, place: slice) -> None:
        """Forget cached bytes, if the memory is cached."""

    def _locate(self, addr: int, size: int) -> slice:
        offset = addr - self.memory_base
        if not 0 <= offset <= offset + size <= self.memory_size:
            raise DeviceError(
                f"Memory access must be inside {self.memory_base:#x} to "
                f"{self.memory_base + self.memory_size - 1:#x}, not {size} bytes at {addr:#x}"
            )
        return slice(offset, offset + size)
