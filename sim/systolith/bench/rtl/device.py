"""The RTL device: a simulator of the generated hardware, as a driver's transport."""

import ctypes
import os
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from systolith.arch import csr
from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import DeviceError, DeviceTimeout

from . import build
from . import mutant as mutants
from .jobs import OUTCOME, Campaign, Jobs
from .library import load_library

DEFAULT_LATENCY = 40
"""Cycles until the memory answers, as the performance figures are defined."""

CLOCK_HZ = 1_000_000
"""Cycles of a simulated second, in which time-outs are counted: they are the same on any machine."""

OUTSTANDING_BURSTS = 16
"""Bursts that the memory accepts before it answers the first."""

MEMORY_BASE = 0x1_0000_0000
"""Above 4 GiB, so that a lost upper half of an address is noticed."""

MEMORY_SIZE = 64 << 20

_SLICE_CYCLES = 1 << 16
_EVENT = np.dtype([("cycle", "<u8"), ("engine", "<u4"), ("count", "<u4")])
_STATE = np.dtype([("cycle", "<u8"), ("events", "<u8")])
STATES = tuple(name for name, _ in csr.COUNTERS if not name.endswith("_bytes"))
"""Names of the bits of a state, lowest first: the counters of cycles."""

_START = csr.pack("control", start=1)
_U32, _U64, _INT, _HANDLE = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_int, ctypes.c_void_p

_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "sim_create": (_HANDLE, (_U64, _U64, _U32, _U32, ctypes.c_double, _U64, ctypes.c_char_p)),
    "sim_destroy": (None, (_HANDLE,)),
    "sim_memory": (ctypes.c_void_p, (_HANDLE,)),
    "sim_cycle": (_U64, (_HANDLE,)),
    "sim_write_register": (_INT, (_HANDLE, _U32, _U32)),
    "sim_read_register": (_INT, (_HANDLE, _U32, ctypes.POINTER(_U32))),
    "sim_wait_interrupt": (_INT, (_HANDLE, _U64)),
    "sim_begin_timeline": (None, (_HANDLE,)),
    "sim_timeline_origin": (_U64, (_HANDLE,)),
    "sim_timeline_size": (_U64, (_HANDLE,)),
    "sim_timeline": (ctypes.c_void_p, (_HANDLE,)),
    "sim_record_states": (None, (_HANDLE, _U64)),
    "sim_states_size": (_U64, (_HANDLE,)),
    "sim_states": (ctypes.c_void_p, (_HANDLE,)),
    "sim_violations": (_U64, (_HANDLE,)),
    "sim_first_violation": (ctypes.c_char_p, (_HANDLE,)),
    "sim_inject_error": (None, (_HANDLE, _INT, _U64, _U64, _U32)),
    "sim_clear_errors": (None, (_HANDLE,)),
    "sim_watch": (None, (_HANDLE, _HANDLE, _U64)),
    "sim_run_jobs": (None, (_HANDLE, _HANDLE, _HANDLE, _HANDLE, _U64, _HANDLE)),
}

_CHOOSE: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "sim_choose_mutant": (None, (_U32,)),
    "sim_choose_late": (None, (_U32,)),
}


class RtlDevice:
    """Simulated hardware with AXI memory; implements the driver's transport.

    The simulator is built on first use (about a minute) and kept in a cache. Time passes only in
    register accesses and in :meth:`wait_interrupt`, so that equal calls take equal cycles.

    Parameters
    ----------
    config : AcceleratorConfig
        Hardware to generate.
    latency : int
        Cycles from a read's address to its first beat, and from a write's last beat to its answer.
    stall : float
        Probability, per cycle and channel, that the memory offers nothing and accepts nothing.
    seed : int
        Seed of the stalls.
    waves : Path, optional
        FST file to write waveforms to.
    memory_size : int
        Bytes of DRAM.
    memory_base : int
        Its first address, a multiple of 4096.
    verilog : str, optional
        Verilog to simulate in place of the configuration's.

    Raises
    ------
    ToolchainError
        The simulator cannot be built here.
    """

    clock_hz = float(CLOCK_HZ)

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        latency: int = DEFAULT_LATENCY,
        stall: float = 0.0,
        seed: int = 0,
        waves: Path | None = None,
        memory_size: int = MEMORY_SIZE,
        memory_base: int = MEMORY_BASE,
        verilog: str | None = None,
    ) -> None:
        if not 0.0 <= stall < 1.0:
            raise ValueError(f"Probability of a stall must be in 0..1, without 1, not {stall}")
        if latency < 1:
            raise ValueError(f"Latency must be at least 1 cycle, not {latency}")
        self.config = config
        self.memory_base = memory_base
        self.memory_size = memory_size
        self._library = self._load(verilog, waves=waves is not None)
        self._handle = self._library.sim_create(
            memory_base,
            memory_size,
            latency,
            OUTSTANDING_BURSTS,
            stall,
            seed,
            str(waves).encode() if waves else None,
        )
        self._memory = self._library.sim_memory(self._handle)

    def _load(self, verilog: str | None, *, waves: bool) -> ctypes.CDLL:
        """Return the library: of the Verilog given, else of the mutant chosen, else of the hardware."""
        mutant = None if waves or verilog is not None else mutants.chosen(self.config)
        if mutant is not None:
            library = load_library(mutant.library, {**_SIGNATURES, **_CHOOSE})
            library.sim_choose_mutant(mutant.number)
            library.sim_choose_late(mutant.late)
            return library
        path = build.build_library(
            build.verilog_of(self.config) if verilog is None else verilog,
            axi_bytes=self.config.axi_bytes,
            waves=waves,
        )
        return load_library(path, _SIGNATURES)

    @property
    def cycle(self) -> int:
        """Clock cycles since power-on."""
        return int(self._library.sim_cycle(self._handle))

    @property
    def violations(self) -> int:
        """Broken rules of AXI that the memory has seen the core break."""
        return int(self._library.sim_violations(self._handle))

    @property
    def first_violation(self) -> str:
        """The first of them in words, or an empty text."""
        return str(self._library.sim_first_violation(self._handle).decode())

    def read_register(self, addr: int) -> int:
        """Return a register through the AXI4-Lite port."""
        value = _U32()
        if not self._library.sim_read_register(self._handle, addr, ctypes.byref(value)):
            raise DeviceError(f"Register {addr:#x} must answer a read with OKAY, and did not")
        return value.value

    def write_register(self, addr: int, value: int) -> None:
        """Write a register through the AXI4-Lite port; a start begins a new timeline."""
        if not self._library.sim_write_register(self._handle, addr, value):
            raise DeviceError(f"Register {addr:#x} must answer a write with OKAY, and did not")
        if addr == csr.BY_NAME["control"].addr and value & _START:
            self._library.sim_begin_timeline(self._handle)

    def count_from(self, count: int) -> None:
        """Let the counters of programs begin at a value, in simulators of designs that can do that.

        Raises
        ------
        DeviceError
            This one cannot.
        """
        if mutants.chosen(self.config) is None:
            raise DeviceError(
                f"Counters begin at {count:#x} only in a design that was changed for that, which "
                f"variable {mutants.VARIABLE} must name"
            )
        self._library.sim_choose_late(count)

    def write_memory(self, addr: int, data: bytes) -> None:
        """Put bytes into DRAM, in no time."""
        ctypes.memmove(self._locate(addr, len(data)), bytes(data), len(data))

    def read_memory(self, addr: int, size: int) -> bytes:
        """Return bytes of DRAM, in no time."""
        return ctypes.string_at(self._locate(addr, size), size)

    def wait_interrupt(self, timeout_s: float) -> None:
        """Simulate until the interrupt line is high.

        Raises
        ------
        DeviceTimeout
            It is still low after `timeout_s` simulated seconds, of :data:`CLOCK_HZ` cycles.
        DeviceError
            The core broke a rule of AXI.
        """
        start = self.cycle
        end = start + max(1, round(timeout_s * CLOCK_HZ))
        # In slices, so that Python can handle signals.
        while not self._library.sim_wait_interrupt(
            self._handle, min(_SLICE_CYCLES, max(1, end - self.cycle))
        ):
            if self.cycle >= end:
                raise DeviceTimeout(
                    f"Interrupt must rise within {timeout_s} s, and did not in "
                    f"{self.cycle - start} simulated cycles"
                )
        if self.violations:
            raise DeviceError(
                f"Hardware must obey AXI, but broke {self.violations} rules: {self.first_violation}"
            )

    def timeline(self) -> list[tuple[int, int, int]]:
        """Return (engine, completed instructions, cycle since the doorbell) of each completion."""
        count = int(self._library.sim_timeline_size(self._handle))
        raw = ctypes.string_at(self._library.sim_timeline(self._handle), count * _EVENT.itemsize)
        events = np.frombuffer(raw, _EVENT)
        cycles = events["cycle"] - np.uint64(self._library.sim_timeline_origin(self._handle))
        columns = (events["engine"], events["count"], cycles)
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def record_states(self, enable: bool) -> None:
        """Keep what the engines do in each cycle, or stop doing so; it costs some time."""
        self._library.sim_record_states(self._handle, (1 << len(STATES)) - 1 if enable else 0)

    def states(self) -> NDArray[np.int64]:
        """Return rows of (cycle since the doorbell, bits by :data:`STATES` from then on)."""
        count = int(self._library.sim_states_size(self._handle))
        raw = ctypes.string_at(self._library.sim_states(self._handle), count * _STATE.itemsize)
        states = np.frombuffer(raw, _STATE)
        origin = int(self._library.sim_timeline_origin(self._handle))
        return np.stack(
            [states["cycle"].astype(np.int64) - origin, states["events"].astype(np.int64)], axis=1
        )

    def inject_error(self, addr: int, size: int, response: int, *, write: bool) -> None:
        """Answer reads (or writes) of these addresses with a response, until errors are cleared."""
        self._library.sim_inject_error(self._handle, int(write), addr, size, response)

    def clear_errors(self) -> None:
        """Answer everything with OKAY again."""
        self._library.sim_clear_errors(self._handle)

    def watch(self, windows: Jobs) -> None:
        """Count in jobs what the core touches outside these windows, an array of `jobs.WINDOW`."""
        self._library.sim_watch(self._handle, windows.ctypes.data, len(windows))

    def run_jobs(self, campaign: Campaign, codes: bytes, jobs: Jobs) -> Jobs:
        """Reset the core and run programs one after the other, without Python in between.

        Parameters
        ----------
        campaign : Campaign
            What they have in common.
        codes : bytes
            Code of all of them.
        jobs : array of `jobs.JOB`
            The programs.

        Returns
        -------
        array of `jobs.OUTCOME`
            How each ended.
        """
        outcomes = np.zeros(len(jobs), OUTCOME)
        structure, _alive = campaign.structure()
        self._library.sim_run_jobs(
            self._handle,
            ctypes.byref(structure),
            np.frombuffer(codes, np.uint8).ctypes.data,
            jobs.ctypes.data,
            len(jobs),
            outcomes.ctypes.data,
        )
        return outcomes

    def close(self) -> None:
        """End the simulation and finish its waveforms."""
        if self._handle:
            self._leave_coverage()
            self._library.sim_destroy(self._handle)
            self._handle = None

    def _leave_coverage(self) -> None:
        """Write what was counted, if that was asked for when the simulator was built.

        It is that of the device that was made last, so of several, one after the other counts.
        """
        folder = os.environ.get(build.COVERAGE_VARIABLE)
        write = getattr(self._library, "sim_write_coverage", None)
        if folder and write:
            handle, path = tempfile.mkstemp(suffix=".dat", dir=folder)
            os.close(handle)
            write(path.encode())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _locate(self, addr: int, size: int) -> int:
        offset = addr - self.memory_base
        if not 0 <= offset <= offset + size <= self.memory_size:
            raise DeviceError(
                f"Memory access must be inside {self.memory_base:#x} to "
                f"{self.memory_base + self.memory_size - 1:#x}, not {size} bytes at {addr:#x}"
            )
        return int(self._memory) + offset
