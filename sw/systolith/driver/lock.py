"""One session at a time on a device: advisory locks that end with the process that holds them.

A lock is held by an opened file, so the kernel gives it back however the process ends. It keeps
apart those that use this driver; whoever maps the registers past it is not kept from anything.
"""

import os
import re
import time
from pathlib import Path

from systolith.arch.errors import DeviceBusy, DeviceError

LOCK_FOLDER = Path("/run/lock")
"""Where locks of devices lie that have no file of their own; any user may write there."""

LOCKS = Path("/proc/locks")
"""Where the kernel says who holds which lock."""

_POLL_SECONDS = 0.05
_FLOCK = re.compile(
    r"^\d+: FLOCK +\S+ +\S+ (?P<pid>\d+) (?P<major>[0-9a-f]+):(?P<minor>[0-9a-f]+):(?P<inode>\d+) ",
    re.MULTILINE,
)


def acquire(file: int, device: str, *, wait_s: float = 0.0, shared: bool = False) -> None:
    """Lock an opened file until it is released, or the process ends.

    Parameters
    ----------
    file : int
        Descriptor of the device, or of its lock.
    device : str
        Its name, for the message.
    wait_s : float
        Seconds to wait for whoever has it.
    shared : bool
        Whether others may have it too, if they share it as well.

    Raises
    ------
    DeviceBusy
        Somebody else has it; the message names the process, if the kernel does.
    """
    # Not on Windows, where nothing but the serial port is used, which it keeps for one process.
    import fcntl

    mode = (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB
    deadline = time.monotonic() + wait_s
    while True:
        late = time.monotonic() >= deadline
        try:
            fcntl.flock(file, mode)
        except BlockingIOError as error:
            if late:
                raise DeviceBusy(device, holder(file), wait_s) from error
            time.sleep(_POLL_SECONDS)
        else:
            return


def release(file: int) -> None:
    """Unlock a file and close it; a mapping of it may live on, and does not keep the lock."""
    import fcntl

    fcntl.flock(file, fcntl.LOCK_UN)
    os.close(file)


def open_lock(name: str) -> int:
    """Return the descriptor of the lock of a device that has no file of its own.

    Raises
    ------
    DeviceError
        The file of the lock can be neither opened nor made.
    """
    path = LOCK_FOLDER / f"systolith-{name}.lock"
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        try:
            # Kernels refuse to make, but not to open, what belongs to another user there.
            return os.open(path, flags)
        except FileNotFoundError:
            file = os.open(path, flags | os.O_CREAT, 0o644)
            # Whatever the umask is: reading is enough to lock it.
            os.fchmod(file, 0o644)
            return file
    except OSError as error:
        raise DeviceError(
            f'Lock "{path}" cannot be opened: {error.strerror}; the folder must be writable, as '
            f"Linux distributions make it"
        ) from error


def holder(file: int | str) -> int | None:
    """Return the process that has locked a file, or None if that is not known."""
    try:
        found = os.fstat(file) if isinstance(file, int) else Path(file).stat()
        text = LOCKS.read_text(encoding="ascii")
    except OSError:
        return None
    wanted = (os.major(found.st_dev), os.minor(found.st_dev), found.st_ino)
    for match in _FLOCK.finditer(text):
        number = (int(match["major"], 16), int(match["minor"], 16), int(match["inode"]))
        # A process of another name space is shown as zero.
        if number == wanted and int(match["pid"]):
            return int(match["pid"])
    return None
