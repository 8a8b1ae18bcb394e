"""Transport through Linux's userspace I/O: registers and memory by mmap, interrupt by read.

The kernel's `uio_pdrv_genirq` makes `/dev/uioN` of a device-tree node::

    map 0   registers
    map 1   memory for the accelerator, if the node names some (a reserved range)

Otherwise the memory is a buffer of the u-dma-buf driver, such as `/dev/udmabuf0`. Files are opened
with O_SYNC, which maps the memory uncached, so nothing has to be flushed.
"""

import errno
import mmap
import os
import select
import struct
import time
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from systolith.arch.errors import DeviceError, DeviceTimeout, InputError

from . import lock
from .mapped import REGISTER_BYTES, MappedTransport, Words

SYSFS = Path("/sys/class")
"""Where the kernel describes its devices."""

_COUNT = struct.Struct("=I")
_ENABLE = _COUNT.pack(1)


class UioTransport(MappedTransport):
    """The accelerator behind `/dev/uioN`; implements the driver's transport.

    Parameters
    ----------
    registers : Words
        The registers.
    memory : array of uint8
        Memory, uncached.
    memory_base : int
        Its physical address.
    file : int
        The opened `/dev/uioN`, closed with this object: a read of it waits for the interrupt, and
        a write enables it again.
    buffer_file : int, optional
        Another file to be closed with this object, that of the memory.
    """

    def __init__(
        self,
        registers: Words,
        memory: NDArray[np.uint8],
        memory_base: int,
        file: int,
        buffer_file: int | None = None,
    ) -> None:
        super().__init__(registers, memory, memory_base)
        self._file = file
        self._files = [file] if buffer_file is None else [file, buffer_file]

    @classmethod
    def open(cls, place: str, *, wait_s: float = 0.0) -> Self:
        """Open `/dev/uioN`, or `/dev/uioN,/dev/udmabufN` if the memory is from there.

        One session has these files, until it is closed or its process ends; for another one it is
        waited up to `wait_s` seconds.

        Raises
        ------
        InputError
            The text is no such thing.
        DeviceBusy
            Another session has the device, or the buffer.
        DeviceError
            There is no such device, it may not be used, or it has no memory.
        """
        device, comma, buffer = place.partition(",")
        if not device or (comma and not buffer):
            raise InputError(
                f'Device "uio:{place}" must name a file, and perhaps a buffer, such as '
                f'"uio:/dev/uio0" or "uio:/dev/uio0,/dev/udmabuf0"'
            )
        maps = SYSFS / "uio" / Path(device).name / "maps"
        files = [_open(device)]
        try:
            lock.acquire(files[0], device, wait_s=wait_s)
            registers = _map(files[0], _map_size(maps / "map0", device), 0)
            if buffer:
                folder = SYSFS / "u-dma-buf" / Path(buffer).name
                base, size = _number(folder / "phys_addr", buffer), _number(folder / "size", buffer)
                files.append(_open(buffer))
                lock.acquire(files[1], buffer, wait_s=wait_s)
                memory = _map(files[1], size, 0)
            else:
                if not (maps / "map1").is_dir():
                    raise DeviceError(
                        f'Device "{device}" must have its memory as map 1, and has none; name a '
                        f'buffer of u-dma-buf: "uio:{device},/dev/udmabuf0"'
                    )
                base = _number(maps / "map1" / "addr", device)
                # By convention of the kernel, the offset chooses the map, in pages.
                memory = _map(files[0], _number(maps / "map1" / "size", device), mmap.PAGESIZE)
            return cls(registers.view(np.uint32), memory, base, *files)
        except BaseException:
            for file in files:
                lock.release(file)
            raise

    def wait_interrupt(self, timeout_s: float) -> None:
        """Sleep until the interrupt is high.

        Raises
        ------
        DeviceTimeout
            It stays low.
        """
        deadline = time.monotonic() + timeout_s
        # Whoever reported the last interrupt has left it disabled. An interrupt that was counted
        # before may be an old one: the registers decide.
        while not self._pending():
            os.write(self._file, _ENABLE)
            seconds = max(0.0, deadline - time.monotonic())
            readable, _, _ = select.select([self._file], [], [], seconds)
            if readable:
                os.read(self._file, _COUNT.size)
            elif not self._pending():
                raise DeviceTimeout(f"Interrupt must rise within {timeout_s} s, and did not")

    def close(self) -> None:
        """Release the device; what is mapped goes with the last array of it."""
        for file in self._files:
            lock.release(file)


def _open(device: str) -> int:
    try:
        return os.open(device, os.O_RDWR | os.O_SYNC | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EPERM):
            remedy = "run as root, or give your group access by a udev rule"
        else:
            remedy = "load the kernel driver, and look for the device-tree node"
        raise DeviceError(
            f'Device "{device}" cannot be opened: {error.strerror}; {remedy}'
        ) from error


def _map(file: int, size: int, offset: int) -> NDArray[np.uint8]:
    try:
        area = mmap.mmap(file, size, offset=offset)
    except (OSError, ValueError) as error:
        raise DeviceError(f"Device cannot map {size} bytes at {offset:#x}: {error}") from error
    return np.frombuffer(area, np.uint8)


def _map_size(folder: Path, device: str) -> int:
    size = _number(folder / "size", device)
    if size < REGISTER_BYTES:
        raise DeviceError(
            f'Device "{device}" must have {REGISTER_BYTES} bytes of registers as map 0, not {size}; '
            f"correct the `reg` property of its device-tree node"
        )
    return size


def _number(path: Path, device: str) -> int:
    """Return the number that the kernel says in a file, decimal or with 0x."""
    try:
        return int(path.read_text(encoding="ascii"), 0)
    except (OSError, ValueError) as error:
        raise DeviceError(
            f'Device "{device}" must be described in "{path}", which cannot be read: {error}'
        ) from error
