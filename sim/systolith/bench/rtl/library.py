"""Simulators as shared libraries, whose functions are declared before they are called."""

import ctypes
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Signatures = Mapping[str, tuple[Any, tuple[Any, ...]]]
"""Result and arguments of each function, as types of `ctypes`, by its name."""


def load_library(path: Path, signatures: Signatures) -> ctypes.CDLL:
    """Return the library with the types of its functions declared."""
    library = ctypes.CDLL(str(path))
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype = result
        function.argtypes = arguments
    return library
