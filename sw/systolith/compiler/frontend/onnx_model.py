"""An ONNX model as it stands in the file: nodes with typed attributes, constants, inputs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from numpy.typing import NDArray


class Damage(Exception):
    """The file contradicts itself; the text continues a sentence about the file."""


class Port(NamedTuple):
    """An input of the model; unknown sizes are -1."""

    name: str
    shape: tuple[int, ...]
    dtype: str


class Constant(NamedTuple):
    """A constant; `data` is None for element types that NumPy lacks."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    data: NDArray[Any] | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """A node, with readers of attributes that check their types."""

    kind: str
    index: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def integer(self, name: str, default: int) -> int:
        """Return an integer attribute."""
        return int(self._typed(name, default, int))

    def real(self, name: str, default: float) -> float:
        """Return a float attribute."""
        return float(self._typed(name, default, float))

    def text(self, name: str, default: str) -> str:
        """Return a string attribute."""
        return str(self._typed(name, default, str))

    def integers(self, name: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """Return a list of integers, as long as the default unless that is empty."""
        values: tuple[int, ...] = self._typed(name, default, tuple)
        whole = all(isinstance(value, int) for value in values)
        if not whole or (default and len(values) != len(default)):
            raise Damage(
                f"must have {len(default) or 'some'} integers in attribute {name} of {self.where}"
            )
        return values

    @property
    def where(self) -> str:
        """The node, for messages."""
        return f"operator {self.index} ({self.kind})"

    def _typed(self, name: str, default: Any, kind: type) -> Any:
        value = self.attributes.get(name, default)
        if not isinstance(value, kind):
            raise Damage(f"must have a {kind.__name__} in attribute {name} of {self.where}")
        return value


@dataclass(frozen=True, kw_only=True, eq=False)
class Model:
    """What the file says."""

    name: str
    opset: int
    inputs: tuple[Port, ...]
    outputs: tuple[str, ...]
    constants: Mapping[str, Constant]
    nodes: tuple[Node, ...]
