"""Layouts that Python and the C++ harness share, to run many short programs in one call."""

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum, IntFlag

import numpy as np
from numpy.typing import NDArray

from systolith.arch import csr, isa

_MAP = (
    "program_count",
    "control",
    "status",
    "irq_status",
    "fault",
    "fault_index",
    "fault_addr_lo",
    "fault_addr_hi",
    "progress_load",
    "progress_execute",
    "progress_drain",
    "progress_store",
)


class Action(IntEnum):
    """What happens to the bus, the reset or the core while a job runs."""

    NOTHING = 0
    READ_ERROR = 1
    WRITE_ERROR = 2
    HANG = 3
    HANG_RESET = 4
    RESET = 5
    ABORT = 6


class Channel(IntEnum):
    """Channel of the memory port."""

    AR = 0
    R = 1
    AW = 2
    W = 3
    B = 4


class Flag(IntFlag):
    """What went wrong in a job."""

    SILENT = 1
    BUSY = 2
    UNANSWERED = 4
    PROBE = 8


JOB = np.dtype(
    [
        ("source", "<u8"),
        ("size", "<u4"),
        ("count", "<u4"),
        ("action", "<u4"),
        ("argument", "<u4"),
        ("at", "<u8"),
        ("limit", "<u8"),
    ]
)
"""A program, what happens meanwhile (`Action`; response or `Channel`; beat, transfers or cycle), and
the cycles in which it must end."""

OUTCOME = np.dtype(
    [
        ("cycles", "<u8"),
        ("fault_addr", "<u8"),
        ("failed_addr", "<u8"),
        ("status", "<u4"),
        ("fault", "<u4"),
        ("fault_index", "<u4"),
        ("flags", "<u4"),
        ("progress", "<u4", 4),
        ("violations", "<u4"),
        ("outside", "<u4"),
    ]
)
"""How a job ended: registers, address that the memory failed, `Flag`, instructions completed if a
channel hung, broken rules of AXI, bytes and beats outside the windows."""

WINDOW = np.dtype([("addr", "<u8"), ("size", "<u8"), ("read", "<u4"), ("write", "<u4")])
"""Bytes of DRAM that the core may touch."""

_SETTING = np.dtype([("addr", "<u4"), ("value", "<u4")])


class _Campaign(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_uint32) for name in _MAP),
        ("settings_count", ctypes.c_uint32),
        ("probe_count", ctypes.c_uint32),
        ("settings", ctypes.c_void_p),
        ("code_addr", ctypes.c_uint64),
        ("code_size", ctypes.c_uint64),
        ("probe", ctypes.c_void_p),
        ("result_addr", ctypes.c_uint64),
        ("result_size", ctypes.c_uint64),
        ("expected", ctypes.c_void_p),
    )


@dataclass(frozen=True)
class Probe:
    """A good program, run after each job, and the bytes that it must leave.

    Parameters
    ----------
    code : bytes
        Its instructions.
    result_addr : int
        DRAM that is wiped before it runs and compared afterwards.
    expected : bytes
        What must be there.
    """

    code: bytes
    result_addr: int
    expected: bytes


@dataclass(frozen=True)
class Campaign:
    """What all jobs of a call have in common.

    Parameters
    ----------
    settings : mapping of str to int
        Registers and their values, written after each reset in this order.
    code_addr, code_size : int
        Region 0: a job's code lies at its start, and the rest of it is zero.
    probe : Probe, optional
        What must run unharmed after each job.
    """

    settings: Mapping[str, int]
    code_addr: int
    code_size: int
    probe: Probe | None = None

    def structure(self) -> tuple[ctypes.Structure, Sequence[object]]:
        """Return the C structure, and what must be kept alive while it is used."""
        pairs = [(csr.BY_NAME[name].addr, value) for name, value in self.settings.items()]
        settings = np.array(pairs, _SETTING)
        probe = self.probe or Probe(b"", 0, b"")
        code = np.frombuffer(probe.code.ljust(self.code_size, b"\0"), np.uint8)
        expected = np.frombuffer(probe.expected or b"\0", np.uint8)
        addresses = {name: csr.BY_NAME[name].addr for name in _MAP}
        structure = _Campaign(
            **addresses,
            settings_count=len(pairs),
            probe_count=len(probe.code) // isa.INSTRUCTION_BYTES,
            settings=settings.ctypes.data,
            code_addr=self.code_addr,
            code_size=self.code_size,
            probe=code.ctypes.data if self.probe else None,
            result_addr=probe.result_addr,
            result_size=len(probe.expected),
            expected=expected.ctypes.data,
        )
        return structure, (settings, code, expected)


Jobs = NDArray[np.void]
"""Array of :data:`JOB`, :data:`OUTCOME` or :data:`WINDOW`."""
