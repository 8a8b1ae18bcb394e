"""Files of arrays, and writing of files as a whole or not at all."""

import io
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.arch.errors import InputError

_NEW_FILE_MODE = 0o666


def check_writable(*paths: Path | None) -> None:
    """Refuse targets that could not be written after long work.

    Raises
    ------
    InputError
        The folder of a target does not exist, or the target is a folder.
    """
    for path in paths:
        if path is not None and (path.is_dir() or not path.parent.is_dir()):
            raise InputError(f'Output "{path}" must be a file in a folder that exists')


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file by one rename, once all bytes are on disk."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
        # A temporary file is private; the result is as public as other files of this user.
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(_NEW_FILE_MODE & ~mask)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write an npz file of arrays by name."""
    buffer = io.BytesIO()
    # `np.savez` takes names as keyword arguments and so excludes some; a zip has no such limit.
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, np.asanyarray(array), allow_pickle=False)
    write_bytes(path, buffer.getvalue())


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of an npz file by name.

    Raises
    ------
    InputError
        The file cannot be read, is no npz file, or holds something else than plain arrays.
    """
    try:
        # Opened here, because NumPy leaves a file open that it cannot read.
        with path.open("rb") as stream:
            archive = np.load(stream, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise InputError(f'File "{path}" must be an npz file of named arrays')
            return dict(archive)
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f'File "{path}" cannot be read: {reason}') from error
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f'File "{path}" must be an npz file of plain arrays: {error}') from error


def first_difference(
    actual: Mapping[str, NDArray[Any]], expected: Mapping[str, NDArray[Any]]
) -> str | None:
    """Return a sentence about the first element that differs, or None if none does.

    Raises
    ------
    InputError
        A tensor is expected that there is not, or one of another shape or dtype.
    """
    differing, total, first = 0, 0, None
    for name, wanted in expected.items():
        if name not in actual:
            raise InputError(f'Expected tensor "{name}" must be one of {sorted(actual)}')
        found = actual[name]
        if found.shape != wanted.shape or found.dtype != wanted.dtype:
            raise InputError(
                f'Expected tensor "{name}" must be {found.dtype} of shape {found.shape}, '
                f"not {wanted.dtype} of shape {wanted.shape}"
            )
        unequal = np.argwhere(found != wanted)
        total += found.size
        differing += len(unequal)
        if len(unequal) and first is None:
            place = tuple(int(i) for i in unequal[0])
            first = f'"{name}" at {place}: {found[place]}, expected {wanted[place]}'
    if first is None:
        return None
    return f"{differing} of {total} elements differ; the first is {first}"
