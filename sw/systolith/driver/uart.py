"""Transport over a serial port: a board and its memory behind a line that may lose bytes.

Register writes are collected and sent in one frame, before anything else is asked of the device; an
error in one of them is therefore reported by the access that follows.
"""

from typing import Self

from systolith.arch import link
from systolith.arch.errors import DeviceError, DeviceTimeout
from systolith.arch.link import Command

from . import serial_port
from .connection import ANSWER_SECONDS, TRIES, Connection, Port

_WAIT_SECONDS = 0.1
_WORD = 0xFFFF_FFFF


class UartTransport:
    """A board behind a serial port; implements the driver's transport.

    Parameters
    ----------
    port : Port
        The port, closed with this object.
    name : str
        Its name, for messages.
    baud, answer_seconds, tries, sequence
        As for :class:`Connection`.
    chunk : int
        Bytes of memory in one frame; fewer survive a bad line more often.

    Raises
    ------
    DeviceError
        No board answers, or it speaks another version of the protocol.
    """

    def __init__(
        self,
        port: Port,
        name: str,
        *,
        baud: int = link.DEFAULT_BAUD,
        answer_seconds: float = ANSWER_SECONDS,
        tries: int = TRIES,
        sequence: int | None = None,
        chunk: int = link.MAX_DATA,
    ) -> None:
        self._port, self._name = port, name
        self._connection = Connection(
            port, name, baud=baud, answer_seconds=answer_seconds, tries=tries, sequence=sequence
        )
        self._writes: list[bytes] = []
        port.reset_input_buffer()
        raw = self._connection.request(Command.IDENTIFY, size=link.IDENTITY_BYTES)
        identity = link.Identity.from_bytes(raw)
        if identity is None or identity.version != link.VERSION:
            found = "something else" if identity is None else f"version {identity.version}"
            raise DeviceError(
                f'Device at "{name}" must speak version {link.VERSION} of the host link, not '
                f"{found}; generate its hardware again"
            )
        self._identity = identity
        self._chunk = min(chunk, identity.max_data)

    @classmethod
    def open(cls, place: str, *, wait_s: float = 0.0) -> Self:
        """Open `PORT` or `PORT@BAUD`, such as `/dev/ttyUSB0@2000000`.

        One session has the port, until it is closed or its process ends; for another one it is
        waited up to `wait_s` seconds.

        Raises
        ------
        InputError
            The text is no such thing.
        ToolchainError
            pyserial is not installed.
        DeviceBusy
            Another session has it.
        DeviceError
            There is no such port, it may not be used, or no board answers.
        """
        name, baud = serial_port.parse(place)
        port = serial_port.await_port(name, baud, wait_s)
        try:
            return cls(port, name, baud=baud)
        except BaseException:
            port.close()
            raise

    @property
    def memory_base(self) -> int:
        """First address of the board's memory."""
        return self._identity.memory_base

    @property
    def memory_size(self) -> int:
        """Bytes of it."""
        return self._identity.memory_size

    @property
    def clock_hz(self) -> float:
        """Clock of the board."""
        return float(self._identity.clock_hz)

    @property
    def identity(self) -> link.Identity:
        """What the board says of itself."""
        return self._identity

    @property
    def requests(self) -> int:
        """Requests that were made of the board."""
        return self._connection.requests

    @property
    def repeated(self) -> int:
        """How often a request had to be sent again."""
        return self._connection.repeated

    def read_register(self, addr: int) -> int:
        """Return a register."""
        self._flush()
        size = link.REGISTER_VALUE.size
        request = link.READ_REGISTER.pack(addr)
        raw = self._connection.request(Command.READ_REGISTERS, request, size=size)
        return int(link.REGISTER_VALUE.unpack(raw)[0])

    def write_register(self, addr: int, value: int) -> None:
        """Write a register, before anything else is asked of the device."""
        self._writes.append(link.WRITE_REGISTER.pack(addr, value & _WORD))
        if (len(self._writes) + 1) * link.WRITE_REGISTER.size > self._identity.max_data:
            self._flush()

    def write_memory(self, addr: int, data: bytes) -> None:
        """Put bytes into the board's memory."""
        self._flush()
        offset = self._locate(addr, len(data))
        for start in range(0, len(data), self._chunk):
            request = link.WRITE_MEMORY.pack(offset + start) + data[start : start + self._chunk]
            self._connection.request(Command.WRITE_MEMORY, request, size=0)

    def read_memory(self, addr: int, size: int) -> bytes:
        """Return bytes of the board's memory."""
        self._flush()
        offset = self._locate(addr, size)
        result = bytearray()
        while len(result) < size:
            count = min(self._chunk, size - len(result))
            request = link.READ_MEMORY.pack(offset + len(result), count)
            result += self._connection.request(Command.READ_MEMORY, request, size=count)
        return bytes(result)

    def wait_interrupt(self, timeout_s: float) -> None:
        """Return when the interrupt is high.

        It is the board that counts the time, in cycles of its clock, so that a slow line or a busy
        host takes nothing away from a run.

        Raises
        ------
        DeviceTimeout
            It stays low.
        """
        self._flush()
        clock_hz = self._identity.clock_hz
        left = int(timeout_s * clock_hz)
        longest = max(1, min(int(_WAIT_SECONDS * clock_hz), _WORD))
        while True:
            cycles = min(left, longest)
            (level,) = self._connection.request(
                Command.WAIT, link.WAIT.pack(cycles), size=1, seconds=cycles / clock_hz
            )
            if level:
                return
            left -= cycles
            if left <= 0:
                raise DeviceTimeout(
                    f'Interrupt of the device at "{self._name}" must rise within {timeout_s} s, '
                    f"and did not"
                )

    def close(self) -> None:
        """Send what was written, and release the port."""
        try:
            self._flush()
        finally:
            self._port.close()

    def _flush(self) -> None:
        if self._writes:
            request, self._writes = b"".join(self._writes), []
            self._connection.request(Command.WRITE_REGISTERS, request, size=0)

    def _locate(self, addr: int, size: int) -> int:
        offset = addr - self.memory_base
        if not 0 <= offset <= offset + size <= self.memory_size:
            raise DeviceError(
                f"Memory access must be inside {self.memory_base:#x} to "
                f"{self.memory_base + self.memory_size - 1:#x}, not {size} bytes at {addr:#x}"
            )
        return offset
