"""A simulated board, whose serial port is a pseudo-terminal."""

import ctypes
import os
import threading
import tty
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from systolith.arch.config import AcceleratorConfig
from systolith.arch.link import DEFAULT_BAUD
from systolith.bench.rtl.library import load_library

from . import build

CLOCK_HZ = 8 * DEFAULT_BAUD
"""As few cycles per bit as the hardware accepts: most simulated time goes by while bits are sent."""

MEMORY_BYTES = 64 << 10

_SLICE_CYCLES = 1 << 14
_U32, _U64, _DOUBLE, _HANDLE = ctypes.c_uint32, ctypes.c_uint64, ctypes.c_double, ctypes.c_void_p


@dataclass(frozen=True)
class Traffic:
    """What went over the simulated line.

    Parameters
    ----------
    cycles : int
        Clock cycles since power-on.
    to_device, to_host : int
        Bytes that the host and the board sent.
    lost, corrupted : int
        Bytes of both directions that did not arrive, or not as they were.
    """

    cycles: int
    to_device: int
    to_host: int
    lost: int
    corrupted: int


class _Counts(ctypes.Structure):
    _fields_ = [(name, _U64) for name in Traffic.__dataclass_fields__]


_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "board_create": (_HANDLE, (ctypes.c_int, _U32, _DOUBLE, _DOUBLE, _U64)),
    "board_destroy": (None, (_HANDLE,)),
    "board_run": (ctypes.c_int, (_HANDLE, _U64)),
    "board_counts": (_Counts, (_HANDLE,)),
}


class SimulatedBoard:
    """The Verilated :class:`systolith.boards.top.BoardTop`, running in a thread of its own.

    A driver opens :attr:`port` as it would open a serial port. The board runs as fast as the
    simulator does while it owes an answer, and hardly at all while it does not.

    Parameters
    ----------
    config : AcceleratorConfig
        The accelerator.
    clock_hz, baud : int
        Clock, and bits per second.
    memory_bytes : int
        Block RAM.
    loss, corruption : float
        Probability that a byte is lost, or changed, in either direction.
    seed : int
        Of these accidents.

    Raises
    ------
    ToolchainError
        The simulator cannot be built here.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        *,
        clock_hz: int = CLOCK_HZ,
        baud: int = DEFAULT_BAUD,
        memory_bytes: int = MEMORY_BYTES,
        loss: float = 0.0,
        corruption: float = 0.0,
        seed: int = 0,
    ) -> None:
        verilog = build.verilog_of(
            config,
            clock_hz=clock_hz,
            baud=baud,
            memory_bytes=memory_bytes,
        )
        path = build.build_library(verilog)
        self._library = load_library(path, _SIGNATURES)
        self._controller, self._terminal = os.openpty()
        tty.setraw(self._terminal)
        os.set_blocking(self._controller, False)
        self.port = os.ttyname(self._terminal)
        self._handle = self._library.board_create(
            self._controller, round(clock_hz / baud), loss, corruption, seed
        )
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="board", daemon=True)
        self._thread.start()

    @property
    def traffic(self) -> Traffic:
        """What went over the line so far."""
        counts = self._library.board_counts(self._handle)
        return Traffic(
            **{name: int(getattr(counts, name)) for name in Traffic.__dataclass_fields__}
        )

    def close(self) -> None:
        """Stop the simulation."""
        if self._stop.is_set():
            return
        self._stop.set()
        self._thread.join()
        self._library.board_destroy(self._handle)
        os.close(self._controller)
        os.close(self._terminal)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self) -> None:
        # The library releases the interpreter, so the driver runs meanwhile.
        while not self._stop.is_set() and self._library.board_run(self._handle, _SLICE_CYCLES):
            pass
