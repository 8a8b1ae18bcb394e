"""Devices that outlive their clients, each in a process of its own, and clients that can be killed.

`golden` and `uio` are registers and memory that a process answers for over a socket, access by
access; the driver's :class:`~systolith.driver.uio.UioTransport` uses them through arrays, with a file
that stands for `/dev/uioN` and carries its lock. `uart` is a simulated board's pseudo-terminal.
"""

import contextlib
import os
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, wait
from pathlib import Path
from typing import Any

import numpy as np

from systolith.arch.config import AcceleratorConfig
from systolith.arch.errors import DeviceTimeout
from systolith.driver import lock
from systolith.driver.connection import Port
from systolith.driver.transport import Transport
from systolith.driver.uart import UartTransport
from systolith.driver.uio import UioTransport

PHASES = ("in front", "in the middle", "behind")
"""Where a client is killed in an access: half of what it writes is written in the middle; what it
reads has been asked for and not been read."""

MEMORY_BYTES = 64 << 10

_WORD_BYTES = 4
_ACCESS_CYCLES = 256
"""Cycles that go by until a client reads another register."""

_ANSWER_SECONDS = 5.0
"""For a simulated line, which is slower than a real one."""

_UIO_TIMEOUT_S = 600.0
"""Real time says nothing about a simulator that runs only while it is accessed."""


@dataclass(frozen=True)
class Place:
    """Where a device is.

    Parameters
    ----------
    kind : str
        `golden`, `uio` or `uart`.
    path : str
        Its file or port; the socket of the first two has `.socket` behind it.
    config : AcceleratorConfig
        What it is.
    memory_base : int
        First address of its memory; boards tell it themselves.
    """

    kind: str
    path: str
    config: AcceleratorConfig
    memory_base: int

    @property
    def timeout_s(self) -> float | None:
        """Seconds that a run is given; boards count the time themselves."""
        return None if self.kind == "uart" else _UIO_TIMEOUT_S


class Fate:
    """Counts the accesses of this process, and kills it at one of them.

    Parameters
    ----------
    doom : tuple of int, optional
        Number of the access, and index in :data:`PHASES`.
    """

    def __init__(self, doom: tuple[int, int] | None) -> None:
        self.accesses = 0
        self._doom = doom

    def begin(self) -> None:
        """Count an access."""
        self.accesses += 1

    def reached(self, phase: int) -> bool:
        """Return whether this is where the process ends."""
        return self._doom == (self.accesses - 1, phase)

    def strike(self, phase: int) -> None:
        """End this process, if this is the place."""
        if self.reached(phase):
            os.kill(os.getpid(), signal.SIGKILL)


# The device's side


def _serve(kind: str, config: AcceleratorConfig, path: str, started: Any) -> None:
    """Answer for a device until this process is ended."""
    if kind == "uart":
        from systolith.bench.board import SimulatedBoard

        with SimulatedBoard(config, memory_bytes=MEMORY_BYTES) as board:
            started.send((board.port, 0))
            signal.pause()
    device = _device(kind, config)
    server = socket.socket(socket.AF_UNIX)
    server.bind(f"{path}.socket")
    server.listen()
    started.send((path, device.memory_base))
    clients: list[Connection] = []
    while True:
        for ready in wait([server, *clients]):
            if ready is server:
                clients.append(Connection(server.accept()[0].detach()))
            elif isinstance(ready, Connection) and not _answer(device, ready):
                clients.remove(ready)
                ready.close()


def _device(kind: str, config: AcceleratorConfig) -> Any:
    if kind == "golden":
        from systolith.golden.device import GoldenDevice

        return GoldenDevice(config, memory_size=MEMORY_BYTES)
    from systolith.bench.rtl.device import CLOCK_HZ, RtlDevice

    class Running(RtlDevice):
        """Hardware whose time goes on from one access to the next."""

        def read_register(self, addr: int) -> int:
            with contextlib.suppress(DeviceTimeout):
                self.wait_interrupt(_ACCESS_CYCLES / CLOCK_HZ)
            return super().read_register(addr)

    return Running(config, memory_size=MEMORY_BYTES)


def _answer(device: Any, client: Connection) -> bool:
    """Do what a client asks for; return whether it still lives."""
    try:
        name, arguments = client.recv()
        client.send(getattr(device, name)(*arguments))
    except (EOFError, OSError):
        return False
    return True


@contextlib.contextmanager
def device_process(
    kind: str, config: AcceleratorConfig, folder: Path, context: Any
) -> Iterator[Place]:
    """Start a device in a process of its own, and end it.

    Parameters
    ----------
    kind : str
        `golden`, `uio` or `uart`.
    config : AcceleratorConfig
        What it is.
    folder : Path
        Where its file and its socket are made.
    context : multiprocessing context
        How processes begin.
    """
    path = folder / "uio0"
    path.touch()
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(kind, config, str(path), theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        place, base = ours.recv()
        yield Place(kind, place, config, base)
    finally:
        process.terminate()
        process.join()


# The client's side


class _Arrays:
    """Registers and memory of a served device, as arrays."""

    def __init__(self, path: str, fate: Fate) -> None:
        self._connection = Client(f"{path}.socket", family="AF_UNIX")
        self._fate = fate

    def access(self, name: str, *arguments: Any) -> Any:
        """Ask the device's process, once."""
        self._fate.begin()
        self._fate.strike(0)
        if self._fate.reached(1):
            if name == "write_memory":
                addr, data = arguments
                self._connection.send((name, (addr, data[: len(data) // 2])))
                self._connection.recv()
            else:
                self._connection.send((name, arguments))
            self._fate.strike(1)
        self._connection.send((name, arguments))
        result = self._connection.recv()
        self._fate.strike(2)
        return result

    def close(self) -> None:
        """Leave the device."""
        self._connection.close()


class _Registers:
    """Words, each access of which reaches the device."""

    def __init__(self, arrays: _Arrays) -> None:
        self._arrays = arrays

    def __getitem__(self, index: int, /) -> Any:
        return self._arrays.access("read_register", _WORD_BYTES * index)

    def __setitem__(self, index: int, value: Any, /) -> None:
        self._arrays.access("write_register", _WORD_BYTES * index, int(value))


class _Memory(np.ndarray[Any, np.dtype[np.uint8]]):
    """Bytes of the device, uncached."""

    arrays: _Arrays
    first: int

    def __getitem__(self, place: Any) -> Any:
        data = self.arrays.access("read_memory", self.first + place.start, place.stop - place.start)
        return np.frombuffer(data, np.uint8)

    def __setitem__(self, place: Any, value: Any) -> None:
        self.arrays.access("write_memory", self.first + place.start, value.tobytes())


class ServedTransport(UioTransport):
    """The driver's UIO transport, on a served device."""

    def __init__(self, place: Place, *, wait_s: float, fate: Fate) -> None:
        file = os.open(place.path, os.O_RDWR)
        try:
            lock.acquire(file, place.path, wait_s=wait_s)
            self._arrays = _Arrays(place.path, fate)
        except BaseException:
            os.close(file)
            raise
        memory = np.zeros(MEMORY_BYTES, np.uint8).view(_Memory)
        memory.arrays, memory.first = self._arrays, place.memory_base
        self._open = True
        super().__init__(_Registers(self._arrays), memory, place.memory_base, file)

    def close(self) -> None:
        """Leave the device, and give its lock back."""
        if self._open:
            self._open = False
            self._arrays.close()
            super().close()


class _Line:
    """A serial port whose frames are counted, and may be the last."""

    def __init__(self, port: Any, fate: Fate) -> None:
        self._port, self._fate = port, fate

    @property
    def in_waiting(self) -> int:
        """Bytes that can be read at once."""
        return int(self._port.in_waiting)

    def read(self, size: int) -> bytes:
        """Return up to so many bytes; one of them may be the last."""
        if self._fate.reached(2):
            size = 1
        data: bytes = self._port.read(size)
        if data:
            self._fate.strike(2)
        return data

    def write(self, data: bytes) -> Any:
        """Send a frame, or half of it."""
        self._fate.begin()
        self._fate.strike(0)
        if self._fate.reached(1):
            self._port.write(data[: len(data) // 2])
            self._fate.strike(1)
        return self._port.write(data)

    def reset_input_buffer(self) -> None:
        """Forget what came."""
        self._port.reset_input_buffer()

    def close(self) -> None:
        """Release the port."""
        self._port.close()


def open_place(
    place: Place, *, wait_s: float, doom: tuple[int, int] | None = None
) -> tuple[Transport, Fate]:
    """Open a device as the driver does; return the way to it, and the count of its accesses.

    Parameters
    ----------
    place : Place
        Where it is.
    wait_s : float
        Seconds to wait for another client.
    doom : tuple of int, optional
        Where this process is killed, as for :class:`Fate`.

    Raises
    ------
    DeviceBusy
        Another client has it.
    """
    fate = Fate(doom)
    if place.kind != "uart":
        return ServedTransport(place, wait_s=wait_s, fate=fate), fate

    class Doomed(UartTransport):
        """The driver's transport on a line that counts."""

        def __init__(self, port: Port, name: str, *, baud: int) -> None:
            line: Any = _Line(port, fate)
            super().__init__(line, name, baud=baud, answer_seconds=_ANSWER_SECONDS)

    return Doomed.open(place.path, wait_s=wait_s), fate
