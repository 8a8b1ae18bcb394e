"""Reader of TensorFlow Lite models: from the bytes of a flatbuffer to an `ir.Graph`.

A model file is untrusted. Every vector is read through one budget of elements, as a hostile file
may let many tables share one long vector; nothing is allocated by a size that the file names
(contents of constants are views of the file); and whatever the flatbuffer library raises becomes a
`ModelFormatError`. What the file says is reported as it is: whether we can compute it is decided
by `systolith.compiler.rules`.

Ref: TFLite schema, `tensorflow/compiler/mlir/lite/schema/schema.fbs`.
"""

import math
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.arch.errors import ModelFormatError, UnsupportedModelError
from systolith.compiler import spec
from systolith.compiler.frontend.tflite_options import attributes
from systolith.compiler.frontend.tflite_schema import Damage, names_of, schema
from systolith.compiler.ir import Graph, Operator, Tensor

IDENTIFIER = b"TFL3"
_IDENTIFIER_AT = 4

# Elements that may be read per byte of the file. Honest files stay below one, as no two vectors
# overlap in them; the factor leaves room for writers that share equal vectors.
_ELEMENTS_PER_BYTE = 4
# No operator of TensorFlow Lite takes tensors of more dimensions.
_MAX_RANK = 8
# Buffers of models beyond 2 GiB lie behind the flatbuffer; offsets 0 and 1 mean "inside".
_FIRST_OUTSIDE_OFFSET = 2

_RAW_ERRORS = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    ValueError,
    struct.error,
)


def read(path: str | Path) -> Graph:
    """Read a model file; the graph is named after the file.

    Raises
    ------
    ModelFormatError
        The file cannot be read, is no TFLite model, is truncated, or points outside itself.
    UnsupportedModelError
        A tensor is stored in sparse form.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFormatError(f'Model file "{path}" cannot be read: {error.strerror}') from error
    return parse(data, name=path.stem, source=f'Model file "{path}"')


def parse(data: bytes, *, name: str = "model", source: str = "Model") -> Graph:
    """Read a model from memory; errors as of `read`, their messages beginning with `source`."""
    if data[_IDENTIFIER_AT : _IDENTIFIER_AT + len(IDENTIFIER)] != IDENTIFIER:
        raise ModelFormatError(
            f"{source} must be a TFLite flatbuffer with the identifier "
            f'"{IDENTIFIER.decode()}" at byte {_IDENTIFIER_AT}, which it has not; '
            "export the model with the TFLite converter"
        )
    try:
        graph = _Reader(data).graph(name)
    except Damage as error:
        raise ModelFormatError(f"{source} {error}") from error
    except _RAW_ERRORS as error:
        raise ModelFormatError(
            f"{source} must be a complete flatbuffer, but is truncated or points outside its "
            f"{len(data)} bytes ({error or type(error).__name__})"
        ) from error
    for violation in spec.violations(graph):
        raise ModelFormatError(f"{source} {violation}")
    return graph


@cache
def _dtype_name(code: int) -> str:
    """Return the NumPy name of a tensor type; types that NumPy lacks keep the schema's name."""
    return names_of("TensorType").get(code, f"type {code}").lower()


def _is_numpy(dtype: str) -> bool:
    try:
        return np.dtype(dtype).itemsize > 0
    except TypeError:
        return False


class _Reader:
    """One pass over one file."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._budget = _ELEMENTS_PER_BYTE * len(data)
        self._model = schema().Model.GetRootAs(data, 0)

    def graph(self, name: str) -> Graph:
        """Return subgraph 0."""
        model = self._model
        if model.SubgraphsLength() < 1:
            raise Damage("must have a subgraph, but has none")
        buffers = [self._buffer(i) for i in range(self._spend(model.BuffersLength()))]
        graph = model.Subgraphs(0)
        self._check_codes()
        records = [graph.Tensors(i) for i in range(self._spend(graph.TensorsLength()))]
        tensors = [self._tensor(record, buffers) for record in records]
        tensors = _unique(tensors)
        names = [tensor.name for tensor in tensors]
        operators = [
            self._operator(graph.Operators(i), i, names)
            for i in range(self._spend(graph.OperatorsLength()))
        ]
        return Graph(
            name=name,
            tensors={tensor.name: tensor for tensor in tensors},
            operators=tuple(operators),
            inputs=self._references(graph.InputsAsNumpy(), names, "the model"),
            outputs=self._references(graph.OutputsAsNumpy(), names, "the model"),
        )

    def _check_codes(self) -> None:
        """Check that the tables of operator codes are whole.

        Converters write them first, and so at the very end, where a cut may hit padding that
        nobody reads.
        """
        for index in range(self._spend(self._model.OperatorCodesLength())):
            table = self._model.OperatorCodes(index)._tab
            vtable = table.Pos - int.from_bytes(
                self._data[table.Pos : table.Pos + 4], "little", signed=True
            )
            size_at = vtable + 2
            size = int.from_bytes(self._data[size_at : size_at + 2], "little")
            if table.Pos + size > len(self._data):
                raise Damage(f"must be complete, but is truncated after {len(self._data)} bytes")

    def _spend(self, count: int) -> int:
        """Take `count` elements off the budget and return it."""
        self._budget -= count
        if self._budget < 0:
            raise Damage(
                f"must not name more elements than its {len(self._data)} bytes can hold; "
                "it is damaged"
            )
        return count

    def _vector(self, array: Any) -> list[Any]:
        """Return a vector of the schema package, where an absent one is the number 0, as a list."""
        if not isinstance(array, np.ndarray):
            return []
        self._spend(array.size)
        return list(array.tolist())

    def _references(self, array: Any, names: list[str], owner: str) -> tuple[str, ...]:
        references = self._optional_references(array, names, owner)
        if None in references:
            raise Damage(f"must not leave out a tensor (-1) of {owner} that is not optional")
        return tuple(name for name in references if name is not None)

    def _optional_references(
        self, array: Any, names: list[str], owner: str
    ) -> tuple[str | None, ...]:
        indices = self._vector(array)
        for index in indices:
            if not -1 <= index < len(names):
                raise Damage(f"must have a tensor {index} for {owner}, but has {len(names)}")
        return tuple(None if index < 0 else names[index] for index in indices)

    def _buffer(self, index: int) -> NDArray[np.uint8]:
        record = self._model.Buffers(index)
        offset, size = record.Offset(), record.Size()
        if offset >= _FIRST_OUTSIDE_OFFSET:
            return np.frombuffer(self._data, np.uint8, count=size, offset=offset)
        array = record.DataAsNumpy()
        return array if isinstance(array, np.ndarray) else np.empty(0, np.uint8)

    def _tensor(self, record: Any, buffers: list[NDArray[np.uint8]]) -> Tensor:
        name = (record.Name() or b"").decode("utf-8", "replace")
        self._spend(len(name))
        if record.ShapeLength() > _MAX_RANK:
            raise Damage(
                f'must have at most {_MAX_RANK} dimensions in tensor "{name}", '
                f"not {record.ShapeLength()}"
            )
        if record.Sparsity() is not None:
            raise UnsupportedModelError(
                [f'Tensor "{name}" must be dense, not sparse; export the model without sparsity']
            )
        shape = tuple(self._vector(record.ShapeAsNumpy()))
        if record.Buffer() >= len(buffers):
            raise Damage(f'must have the buffer {record.Buffer()} of tensor "{name}"')
        dtype = _dtype_name(record.Type())
        scales, zero_points, axis = self._quantization(record.Quantization(), name)
        return Tensor(
            name=name,
            shape=shape,
            dtype=dtype,
            scales=scales,
            zero_points=zero_points,
            axis=axis,
            data=_constant(name, buffers[record.Buffer()], dtype, shape),
        )

    def _quantization(
        self, record: Any, name: str
    ) -> tuple[tuple[float, ...], tuple[int, ...], int]:
        if record is None or record.ScaleLength() == 0:
            return (), (), 0
        scales = tuple(self._vector(record.ScaleAsNumpy()))
        zero_points = tuple(self._vector(record.ZeroPointAsNumpy())) or (0,)
        if len(zero_points) == 1:
            zero_points *= self._spend(len(scales))
        if len(zero_points) != len(scales):
            raise Damage(
                f'must have as many zero points as scales ({len(scales)}) in tensor "{name}", '
                f"not {len(zero_points)}"
            )
        return scales, zero_points, record.QuantizedDimension()

    def _operator(self, record: Any, index: int, names: list[str]) -> Operator:
        kind = self._kind(record.OpcodeIndex())
        owner = f"operator {index} ({kind})"
        return Operator(
            kind=kind,
            index=index,
            inputs=self._optional_references(record.InputsAsNumpy(), names, owner),
            outputs=self._references(record.OutputsAsNumpy(), names, owner),
            attributes=self._attributes(record, kind, owner),
        )

    def _kind(self, index: int) -> str:
        if index >= self._model.OperatorCodesLength():
            raise Damage(f"must have the operator code {index}")
        record = self._model.OperatorCodes(index)
        # Writers fill the 8-bit field, the 32-bit field or both; readers take the larger number.
        code = max(record.DeprecatedBuiltinCode(), record.BuiltinCode())
        kind = names_of("BuiltinOperator").get(code, f"operator code {code}")
        if kind == "CUSTOM":
            return f"CUSTOM {(record.CustomCode() or b'').decode('utf-8', 'replace')}"
        return kind

    def _attributes(self, record: Any, kind: str, owner: str) -> Mapping[str, Any]:
        try:
            return attributes(record, kind)
        except Damage as error:
            raise Damage(f"{error} in {owner}") from error


def _constant(
    name: str, data: NDArray[np.uint8], dtype: str, shape: tuple[int, ...]
) -> NDArray[Any] | None:
    """Return the contents of a tensor as a view of the file, or None if it has none.

    Types that NumPy lacks stay raw bytes.
    """
    if data.size == 0:
        return None
    if not _is_numpy(dtype):
        return data
    expected = math.prod(shape) * np.dtype(dtype).itemsize
    if min(shape, default=1) < 0 or data.size != expected:
        raise Damage(
            f'must hold {expected} bytes for the {dtype} tensor "{name}" of shape {shape}, '
            f"but holds {data.size}"
        )
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<")).reshape(shape)


def _unique(tensors: list[Tensor]) -> list[Tensor]:
    """Call each of several tensors of one name `name:number`; activations have precedence."""
    activations = Counter(tensor.name for tensor in tensors if tensor.data is None)
    constants = Counter(tensor.name for tensor in tensors if tensor.data is not None)
    result = []
    for index, tensor in enumerate(tensors):
        others = activations if tensor.data is None else activations + constants
        if others[tensor.name] > 1:
            tensor = replace(tensor, name=f"{tensor.name}:{index}")
        result.append(tensor)
    if len({tensor.name for tensor in result}) < len(result):
        raise Damage("must have unique tensor names")
    return result
