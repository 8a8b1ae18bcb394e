"""Transport on a PYNQ board: registers through MMIO, memory from `pynq.allocate`.

PYNQ is imported when a device is opened; NumPy is all that this module needs before.
"""

import platform
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from systolith.arch.errors import DeviceError, InputError, ToolchainError

from . import lock
from .mapped import REGISTER_BYTES, MappedTransport

MEMORY_BYTES = 16 << 20
"""Contiguous memory that is allocated; boards set aside 128 MiB for everything."""

REGISTER_BASES = {"aarch64": 0xA000_0000, "armv7l": 0x4000_0000}
"""Where the block design of the hardware package puts the registers, by processor."""

_CORE_NAME = "systolith"

_LOGIC = "pynq-logic"
"""Lock of all that a bitfile replaces: shared by those who take the logic as it is."""


class PynqTransport(MappedTransport):
    """The accelerator in the logic of a Zynq; implements the driver's transport.

    The buffer is cached by the processor. It is flushed after it was written and invalidated
    before it is read, as far as the access goes. The interrupt is polled through the registers.

    Parameters
    ----------
    register_base : int
        Physical address of the registers.
    memory_bytes : int
        Memory to allocate.
    locks : sequence of int
        Files that are closed with this object.

    Raises
    ------
    ToolchainError
        PYNQ is not installed.
    DeviceError
        The registers cannot be mapped, or there is not as much contiguous memory.
    """

    def __init__(
        self, register_base: int, *, memory_bytes: int = MEMORY_BYTES, locks: Sequence[int] = ()
    ) -> None:
        pynq = _import_pynq()
        self._locks = locks
        try:
            registers = pynq.MMIO(register_base, REGISTER_BYTES)
        except (OSError, RuntimeError, ValueError) as error:
            raise DeviceError(
                f"Registers at {register_base:#x} cannot be mapped: {error}; load a bitstream "
                f"with the accelerator there, and run as root"
            ) from error
        try:
            self._buffer: Any = pynq.allocate(shape=(memory_bytes,), dtype=np.uint8)
        except (MemoryError, RuntimeError) as error:
            raise DeviceError(
                f"Device needs {memory_bytes} bytes of contiguous memory, which cannot be "
                f"allocated: {error}; free buffers of other programs, or raise the kernel's `cma`"
            ) from error
        super().__init__(registers.array, self._buffer, int(self._buffer.device_address))

    @classmethod
    def open(cls, place: str, *, wait_s: float = 0.0, memory_bytes: int = MEMORY_BYTES) -> Self:
        """Open what `BITFILE`, `@ADDRESS`, `BITFILE@ADDRESS` or nothing names.

        A bitfile is loaded first, and tells where the registers are, unless the address is given.
        Without either they are looked for where the hardware package's block design puts them.

        One session has the registers, or all of the logic if it has loaded a bitfile, until it is
        closed or its process ends; for another one it is waited up to `wait_s` seconds.

        Raises
        ------
        InputError
            The address is no number.
        DeviceBusy
            Another session has them.
        ToolchainError, DeviceError
            As of the class, or the bitfile cannot be loaded.
        """
        bitfile, at, text = place.partition("@")
        try:
            base = int(text, 0) if at else None
        except ValueError as error:
            raise InputError(
                f'Device "pynq:{place}" must end with the address of the registers, such as '
                f'"@{REGISTER_BASES["aarch64"]:#x}", not "@{text}"'
            ) from error
        _import_pynq()
        locks: list[int] = []
        try:
            _lock(locks, _LOGIC, "the programmable logic", wait_s, shared=not bitfile)
            found = _load(bitfile) if bitfile else REGISTER_BASES.get(platform.machine())
            base = found if base is None else base
            if base is None:
                raise InputError(
                    f"Device needs the address of its registers: write "
                    f'"pynq:{bitfile}@ADDRESS", or name a bitfile with one core "{_CORE_NAME}"'
                )
            _lock(locks, f"pynq-{base:x}", f"pynq:@{base:#x}", wait_s)
            return cls(base, memory_bytes=memory_bytes, locks=locks)
        except BaseException:
            _release(locks)
            raise

    def close(self) -> None:
        """Give the memory back."""
        try:
            self._buffer.freebuffer()
        finally:
            _release(self._locks)

    def _flush(self, place: slice) -> None:
        self._buffer[place].flush()

    def _invalidate(self, place: slice) -> None:
        self._buffer[place].invalidate()


def _lock(locks: list[int], name: str, device: str, wait_s: float, *, shared: bool = False) -> None:
    """Open a lock, note that it is to be closed, and wait until we have it."""
    locks.append(lock.open_lock(name))
    lock.acquire(locks[-1], device, wait_s=wait_s, shared=shared)


def _release(locks: Sequence[int]) -> None:
    for file in locks:
        lock.release(file)


def _import_pynq() -> Any:
    try:
        import pynq
    except ImportError as error:
        raise ToolchainError(
            f'Device "pynq" needs the Python package "pynq", which cannot be imported ({error}); '
            f'run it on a PYNQ image with its own Python, or "pip install pynq" there'
        ) from error
    return pynq


def _load(bitfile: str) -> int | None:
    """Load a bitfile, and return where the registers of its only core of ours are, if it says so."""
    try:
        overlay = _import_pynq().Overlay(bitfile)
    except (OSError, RuntimeError, ValueError) as error:
        raise DeviceError(f'Bitfile "{bitfile}" cannot be loaded: {error}') from error
    bases = [
        int(entry["phys_addr"])
        for entry in overlay.ip_dict.values()
        if _CORE_NAME in str(entry.get("type", "")).split(":")
    ]
    return bases[0] if len(bases) == 1 else None
