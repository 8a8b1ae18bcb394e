"""Serial ports by name: opened for one session at a time, with errors that say what to do."""

import errno
import time

from systolith.arch import link
from systolith.arch.errors import DeviceBusy, DeviceError, InputError, ToolchainError

from . import lock
from .connection import Port

_POLL_SECONDS = 0.02
_BUSY_POLL_SECONDS = 0.05


def parse(place: str) -> tuple[str, int]:
    """Return port and baud rate of `PORT` or `PORT@BAUD`.

    Raises
    ------
    InputError
        The text is no such thing.
    """
    name, at, rate = place.partition("@")
    if not name or (at and not (rate.isdecimal() and int(rate) > 0)):
        raise InputError(
            f'Device "uart:{place}" must name a serial port, and perhaps its baud rate, such as '
            f'"uart:/dev/ttyUSB0" or "uart:/dev/ttyUSB0@{link.DEFAULT_BAUD}"'
        )
    return name, int(rate) if at else link.DEFAULT_BAUD


def await_port(name: str, baud: int, wait_s: float) -> Port:
    """Open a port, as soon as nobody else has it.

    Parameters
    ----------
    name : str
        The port, such as `/dev/ttyUSB0`.
    baud : int
        Bits per second.
    wait_s : float
        Seconds to wait for another session that has it.

    Raises
    ------
    ToolchainError
        pyserial is not installed.
    DeviceBusy
        Another session has it.
    DeviceError
        There is no such port, or it may not be used.
    """
    deadline = time.monotonic() + wait_s
    while True:
        late = time.monotonic() >= deadline
        try:
            return _open_port(name, baud)
        except DeviceBusy as error:
            if late:
                raise DeviceBusy(name, error.holder, wait_s) from error
            time.sleep(_BUSY_POLL_SECONDS)


def _open_port(name: str, baud: int) -> Port:
    try:
        import serial
        from serial.tools import list_ports
    except ImportError as error:
        raise ToolchainError(
            f'Device "uart:{name}" needs the Python package "pyserial", which cannot be imported '
            f'({error}); run "pip install pyserial"'
        ) from error
    try:
        port: Port = serial.Serial(name, baud, timeout=_POLL_SECONDS, exclusive=True)
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)
        if number in (errno.EAGAIN, errno.EBUSY):
            raise DeviceBusy(name, lock.holder(name), 0.0) from error
        if number == errno.ENOENT:
            known = ", ".join(sorted(entry.device for entry in list_ports.comports())) or "none"
            raise DeviceError(
                f'Serial port "{name}" must exist; this machine has: {known}'
            ) from error
        if number in (errno.EACCES, errno.EPERM):
            raise DeviceError(
                f'Serial port "{name}" must be readable and writable by you; join its group with '
                f'"sudo usermod -aG dialout $USER", and log in again'
            ) from error
        raise DeviceError(
            f'Serial port "{name}" cannot be opened at {baud} baud: {error}'
        ) from error
    return port
