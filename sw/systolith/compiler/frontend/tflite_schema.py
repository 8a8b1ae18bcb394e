"""The schema of TensorFlow Lite models, imported on first use."""

import importlib
from functools import cache
from typing import Any

from systolith.arch.errors import ToolchainError


class Damage(Exception):
    """The file contradicts itself; the text continues a sentence about the file."""


@cache
def schema() -> Any:
    """Return the package of the schema.

    Raises
    ------
    ToolchainError
        It is not installed.
    """
    try:
        return importlib.import_module("tflite")
    except ImportError as error:
        raise ToolchainError(
            f'Reading TFLite models needs the package "tflite", which cannot be imported ({error}); '
            "install it with: pip install systolith[tflite]"
        ) from error


@cache
def names_of(enumeration: str) -> dict[int, str]:
    """Return the members of an enumeration of the schema by number."""
    members = vars(getattr(schema(), enumeration))
    return {value: key for key, value in members.items() if isinstance(value, int)}


def member(enumeration: str, value: int) -> str:
    """Return the name of a member.

    Raises
    ------
    Damage
        There is none of this value.
    """
    names = names_of(enumeration)
    if value not in names:
        raise Damage(f"must have a known {enumeration}, not {value}")
    return names[value]
