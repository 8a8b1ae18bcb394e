"""Reader of ONNX models: from the bytes of a protobuf to an `ir.Graph` of quantized operators.

A model file is untrusted. Contents of constants are read only if the file holds exactly the bytes
that type and shape ask for, so that nothing is allocated by a size that the file names; attributes
are taken only in the type that the operator defines; whatever the protobuf library raises becomes a
`ModelFormatError`. Files with external data are refused: a model is one file.

Ref: ONNX IR, `onnx/onnx.proto`.
"""

import importlib
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.arch.errors import ModelFormatError, ToolchainError, UnsupportedModelError
from systolith.compiler import spec
from systolith.compiler.frontend.onnx_model import Constant, Damage, Model, Node, Port
from systolith.compiler.frontend.onnx_qdq import collapse
from systolith.compiler.ir import Graph

_MAX_RANK = 8
_MAX_MESSAGE_BYTES = 1 << 31

_RAW_ERRORS = (
    AssertionError,
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    OverflowError,
    RecursionError,
    TypeError,
    UnicodeError,
    ValueError,
)

_DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    11: "float64",
}
"""Element types that NumPy has, by number in `TensorProto.DataType`."""

_TYPED_FIELDS = {
    "float32": "float_data",
    "uint8": "int32_data",
    "int8": "int32_data",
    "uint16": "int32_data",
    "int16": "int32_data",
    "int32": "int32_data",
    "bool": "int32_data",
    "int64": "int64_data",
    "float64": "double_data",
}


def read(path: str | Path) -> Graph:
    """Read a model file; the graph is named after the file.

    Raises
    ------
    ModelFormatError
        The file cannot be read, is no ONNX model, is truncated, or contradicts itself.
    UnsupportedModelError
        Contents of the model are in other files.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelFormatError(f'Model file "{path}" cannot be read: {error.strerror}') from error
    return parse(data, name=path.stem, source=f'Model file "{path}"')


def parse(data: bytes, *, name: str = "model", source: str = "Model") -> Graph:
    """Read a model from memory; errors as of `read`, their messages beginning with `source`."""
    proto = _decode(data, source)
    try:
        model = _model(proto, name)
        graph = collapse(model)
    except Damage as error:
        raise ModelFormatError(f"{source} {error}") from error
    except _RAW_ERRORS as error:
        raise ModelFormatError(
            f"{source} must be a complete ONNX model, but contradicts itself "
            f"({error or type(error).__name__}); export it again"
        ) from error
    for violation in spec.violations(graph):
        raise ModelFormatError(f"{source} {violation}")
    return graph


@cache
def _onnx() -> Any:
    try:
        return importlib.import_module("onnx")
    except ImportError as error:
        raise ToolchainError(
            f'Reading ONNX models needs the package "onnx", which cannot be imported ({error}); '
            "install it with: pip install systolith[onnx]"
        ) from error


def _decode(data: bytes, source: str) -> Any:
    """Return the decoded message."""
    onnx = _onnx()
    decode_error = importlib.import_module("google.protobuf.message").DecodeError
    proto = onnx.ModelProto()
    try:
        if len(data) >= _MAX_MESSAGE_BYTES:
            raise ModelFormatError(f"{source} must be below 2 GiB, not {len(data)} bytes")
        proto.ParseFromString(data)
    except (decode_error, *_RAW_ERRORS) as error:
        raise ModelFormatError(
            f"{source} must be an ONNX model, but its {len(data)} bytes are no complete protobuf "
            "message; export the model again"
        ) from error
    if not proto.HasField("graph") or not proto.graph.node:
        raise ModelFormatError(
            f"{source} must be an ONNX model with a graph of operators, but has none"
        )
    return proto


def _model(proto: Any, name: str) -> Model:
    graph = proto.graph
    if graph.sparse_initializer:
        raise UnsupportedModelError(
            [f'Model "{name}" must hold dense constants, not sparse ones; export it without them']
        )
    opsets = [item.version for item in proto.opset_import if item.domain in ("", "ai.onnx")]
    constants = {item.name: _constant(item) for item in graph.initializer}
    inputs = [_port(item) for item in graph.input if item.name not in constants]
    model = Model(
        name=name,
        opset=max(opsets, default=1),
        inputs=tuple(inputs),
        outputs=tuple(item.name for item in graph.output),
        constants=constants,
        nodes=tuple(_node(item, index) for index, item in enumerate(graph.node)),
    )
    return model


def _port(item: Any) -> Port:
    """Return an input of the model; an unnamed or symbolic batch counts as 1."""
    kind = item.type.tensor_type
    if len(kind.shape.dim) > _MAX_RANK:
        raise Damage(f'must have at most {_MAX_RANK} dimensions in input "{item.name}"')
    shape = [dim.dim_value if dim.HasField("dim_value") else -1 for dim in kind.shape.dim]
    if shape and shape[0] == -1:
        shape[0] = 1
    return Port(item.name, tuple(shape), _DTYPES.get(kind.elem_type, f"type {kind.elem_type}"))


def _constant(item: Any) -> Constant:
    """Return the contents of a tensor, checked against its shape."""
    shape = tuple(item.dims)
    if len(shape) > _MAX_RANK or any(size < 0 for size in shape):
        raise Damage(
            f'must have at most {_MAX_RANK} dimensions, none negative, in constant "{item.name}"'
        )
    if item.data_location == type(item).EXTERNAL or item.external_data:
        raise UnsupportedModelError(
            [
                f'Constant "{item.name}" must be stored in the model file; save it without external data'
            ]
        )
    if item.data_type not in _DTYPES:
        return Constant(item.name, shape, f"type {item.data_type}", None)
    dtype = np.dtype(_DTYPES[item.data_type])
    return Constant(item.name, shape, dtype.name, _contents(item, shape, dtype))


def _contents(item: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    count = math.prod(shape)
    if item.HasField("raw_data"):
        if len(item.raw_data) != count * dtype.itemsize:
            raise Damage(
                f'must hold {count * dtype.itemsize} bytes in constant "{item.name}", '
                f"not {len(item.raw_data)}"
            )
        return np.frombuffer(item.raw_data, dtype.newbyteorder("<")).astype(dtype).reshape(shape)
    values = getattr(item, _TYPED_FIELDS[dtype.name])
    if len(values) != count:
        raise Damage(f'must hold {count} elements in constant "{item.name}", not {len(values)}')
    wide = np.array(values, np.float64 if dtype.kind == "f" else np.int64)
    with np.errstate(invalid="ignore", over="ignore"):
        return wide.astype(dtype).reshape(shape)


def _node(item: Any, index: int) -> Node:
    kind = item.op_type if item.domain in ("", "ai.onnx") else f"{item.domain}.{item.op_type}"
    return Node(
        kind=kind,
        index=index,
        inputs=tuple(item.input),
        outputs=tuple(item.output),
        attributes={attribute.name: _attribute(attribute) for attribute in item.attribute},
    )


def _attribute(item: Any) -> Any:
    """Return the value of an attribute: int, float, str, tuple of one of them, or `Constant`."""
    types = _onnx().AttributeProto
    readers: dict[int, Callable[[], Any]] = {
        types.INT: lambda: int(item.i),
        types.FLOAT: lambda: float(item.f),
        types.STRING: lambda: item.s.decode("utf-8", "replace"),
        types.INTS: lambda: tuple(item.ints),
        types.FLOATS: lambda: tuple(item.floats),
        types.TENSOR: lambda: _constant(item.t),
    }
    value: Any = readers[item.type]() if item.type in readers else None
    return value
