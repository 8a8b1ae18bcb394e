"""Host link: frames with sequence number and CRC-32 that carry registers and memory over a UART.

A frame, in the byte stream of either direction::

    FLAG  sequence 2  command 1  length 2  payload  CRC-32 4  FLAG

Numbers are little-endian. Between the flags, a byte that equals FLAG or ESCAPE is sent as ESCAPE and
the byte exclusive-or ESCAPE_XOR (as in RFC 1662), so that a FLAG is a border wherever it is seen:
after any damage, the next frame is understood again. The CRC is that of Ethernet, over everything
from `sequence` to the end of the payload. A frame is believed only if its CRC is right and it has
as many bytes as its length says. A FLAG may end one frame and begin the next; frames without any
byte mean nothing.

The host sends a request and waits for its answer, which has the same sequence number, the command
with :data:`ANSWER` set, and a payload that ends with a byte of :class:`Status`. If the answer does
not come, is damaged, or is :data:`NAK`, the host sends the same request again. A device executes
WRITE_REGISTERS once: if its sequence number is that of the request before, only the answer is
repeated. All other commands may be executed twice. Answers to earlier requests are recognized by
their sequence number, and ignored. A device that has not been identified since its reset executes
nothing else, because its memory is not what the host believes.

========================  ==============================  =========================
command                   payload of the request          of the answer, and status
========================  ==============================  =========================
IDENTIFY                                                  :class:`Identity`
READ_REGISTERS            address 2, for each             value 4, for each
WRITE_REGISTERS           address 2, value 4, for each
READ_MEMORY               offset 4, bytes 2               the bytes
WRITE_MEMORY              offset 4, the bytes
WAIT                      clock cycles 4, zero to ask     level of the interrupt 1
========================  ==============================  =========================

WAIT is answered when the interrupt is high, or after as many clock cycles.
"""

import enum
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Self

FLAG = 0x7E
"""Border of a frame."""

ESCAPE = 0x7D
"""The byte behind it is to be changed back with :data:`ESCAPE_XOR`."""

ESCAPE_XOR = 0x20
"""What distinguishes an escaped byte from the original."""

ANSWER = 0x80
"""Set in the command of every answer."""

NAK = 0xFF
"""Command of the answer to something that was damaged; its sequence number means nothing."""

MAX_DATA = 1024
"""Bytes of memory in one frame."""

MAX_PAYLOAD = MAX_DATA + 4
"""Bytes of payload of a request."""

SEQUENCES = 1 << 16
"""Sequence numbers; the next one of the last is zero."""

VERSION = 1
"""Version of all this."""

DEFAULT_BAUD = 1_000_000
"""Bits per second, if nothing else is said."""

_HEADER = struct.Struct("<HBH")
_CRC = struct.Struct("<I")
_IDENTITY = struct.Struct("<4sHHIIQ")
_MAGIC = b"SYSL"

HEADER_BYTES = _HEADER.size
CRC_BYTES = _CRC.size
IDENTITY_BYTES = _IDENTITY.size
READ_REGISTER = struct.Struct("<H")
WRITE_REGISTER = struct.Struct("<HI")
REGISTER_VALUE = struct.Struct("<I")
READ_MEMORY = struct.Struct("<IH")
WRITE_MEMORY = struct.Struct("<I")
WAIT = struct.Struct("<I")


class Command(enum.IntEnum):
    """What a request asks for; the payloads are in the table above."""

    IDENTIFY = 1
    READ_REGISTERS = 2
    WRITE_REGISTERS = 3
    READ_MEMORY = 4
    WRITE_MEMORY = 5
    WAIT = 6


class Status(enum.IntEnum):
    """Last byte of an answer's payload. If it is not OK, nothing else of the payload is valid."""

    OK = 0
    DAMAGED = 1  # only in NAK: a frame was damaged
    COMMAND = 2  # no such command, or a payload that it cannot have
    SESSION = 3  # the device was not identified since its reset
    BUS = 4  # a register did not answer OKAY
    ADDRESS = 5  # beyond the end of the memory


@dataclass(frozen=True, slots=True)
class Frame:
    """Content of a frame.

    Parameters
    ----------
    sequence : int
        16 bits.
    command : int
        A :class:`Command`, with :data:`ANSWER` set in answers; or :data:`NAK`.
    payload : bytes
        The rest.
    """

    sequence: int
    command: int
    payload: bytes

    def to_bytes(self) -> bytes:
        """Return the frame with flags, as it is sent."""
        body = _HEADER.pack(self.sequence, self.command, len(self.payload)) + self.payload
        return bytes([FLAG, *_escape(body + _CRC.pack(zlib.crc32(body))), FLAG])


@dataclass(frozen=True, slots=True)
class Identity:
    """What a device says of its link.

    Parameters
    ----------
    version : int
        Its :data:`VERSION`.
    max_data : int
        Its :data:`MAX_DATA`.
    clock_hz : int
        Frequency of its clock, the unit of WAIT.
    memory_size : int
        Bytes of its memory.
    memory_base : int
        Address of the memory on the accelerator's bus; offsets of the link count from there.
    """

    version: int
    max_data: int
    clock_hz: int
    memory_size: int
    memory_base: int

    def to_bytes(self) -> bytes:
        """Return the payload of an answer, without its status."""
        return _IDENTITY.pack(
            _MAGIC, self.version, self.max_data, self.clock_hz, self.memory_size, self.memory_base
        )

    @classmethod
    def from_bytes(cls, raw: bytes) -> Self | None:
        """Return what :meth:`to_bytes` wrote, or None if this is nothing of the kind."""
        if len(raw) != IDENTITY_BYTES:
            return None
        magic, *fields = _IDENTITY.unpack(raw)
        return cls(*fields) if magic == _MAGIC else None


class Decoder:
    """Frames out of a stream of bytes that may be damaged.

    Attributes
    ----------
    damaged : int
        Frames that were not believed; noise before the first flag is not counted.
    """

    def __init__(self) -> None:
        self.damaged = 0
        self._body: bytearray | None = None

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Take bytes, and yield the frames that they complete."""
        for byte in data:
            if byte != FLAG:
                if self._body is not None:
                    self._body.append(byte)
                continue
            body, self._body = self._body, bytearray()
            if body:
                frame = _parse(body)
                if frame is None:
                    self.damaged += 1
                else:
                    yield frame


def _escape(body: bytes) -> Iterator[int]:
    for byte in body:
        if byte in (FLAG, ESCAPE):
            yield ESCAPE
            yield byte ^ ESCAPE_XOR
        else:
            yield byte


def _parse(escaped: bytearray) -> Frame | None:
    """Return the frame between two flags, or None if it was damaged."""
    body = bytearray()
    change = 0
    for byte in escaped:
        if byte == ESCAPE and not change:
            change = ESCAPE_XOR
        else:
            body.append(byte ^ change)
            change = 0
    if change or len(body) < HEADER_BYTES + CRC_BYTES:
        return None
    content = bytes(body[:-CRC_BYTES])
    sequence, command, length = _HEADER.unpack_from(content)
    (crc,) = _CRC.unpack_from(body, len(content))
    if crc != zlib.crc32(content) or length != len(content) - HEADER_BYTES:
        return None
    return Frame(sequence, command, content[HEADER_BYTES:])
