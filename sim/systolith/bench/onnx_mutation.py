"""Damaged ONNX models: bytes flipped or cut off, and fields that contradict the rest.

A flipped byte mostly breaks the protobuf; a changed field leaves a well-formed file whose contents
make no sense, which is what a reader must survive.
"""

from typing import Any

import numpy as np

_NUMBERS = (0, 1, 2, 3, 5, 255, -1, -2, -(1 << 31), 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1)
_MAX_FLIPS = 30
_KINDS = (
    *("Add", "AveragePool", "Concat", "Conv", "DequantizeLinear", "Flatten", "Gemm", "MaxPool"),
    *("Mul", "Pad", "QuantizeLinear", "Reshape", "Resize", "Softmax", "Sum", "Transpose"),
)


def mutate_bytes(model: bytes, rng: np.random.Generator) -> bytes:
    """Return a model with its end cut off or some bytes changed."""
    if rng.integers(4) == 0:
        return model[: int(rng.integers(len(model)))]
    changed = bytearray(model)
    for _ in range(int(rng.integers(1, _MAX_FLIPS))):
        changed[int(rng.integers(len(changed)))] = int(rng.integers(256))
    return bytes(changed)


def mutate_fields(model: bytes, rng: np.random.Generator) -> bytes:
    """Return a model with some fields changed."""
    import onnx

    proto = onnx.load_from_string(model)
    for _ in range(int(rng.integers(1, 4))):
        _CHANGES[int(rng.integers(len(_CHANGES)))](proto.graph, rng)
    data: bytes = proto.SerializeToString()
    return data


def _pick(items: Any, rng: np.random.Generator) -> Any:
    return items[int(rng.integers(len(items)))] if len(items) else None


def _number(rng: np.random.Generator) -> int:
    return int(_NUMBERS[int(rng.integers(len(_NUMBERS)))])


def _kind(graph: Any, rng: np.random.Generator) -> None:
    _pick(graph.node, rng).op_type = _KINDS[int(rng.integers(len(_KINDS)))]


def _operand(graph: Any, rng: np.random.Generator) -> None:
    node, other = _pick(graph.node, rng), _pick(graph.node, rng)
    if len(node.input):
        names = [*other.input, *other.output, "", "nothing"]
        node.input[int(rng.integers(len(node.input)))] = names[int(rng.integers(len(names)))]


def _drop_operand(graph: Any, rng: np.random.Generator) -> None:
    node = _pick(graph.node, rng)
    if len(node.input):
        del node.input[int(rng.integers(len(node.input)))]


def _drop_node(graph: Any, rng: np.random.Generator) -> None:
    del graph.node[int(rng.integers(len(graph.node)))]


def _attribute(graph: Any, rng: np.random.Generator) -> None:
    node = _pick([node for node in graph.node if len(node.attribute)], rng)
    attribute = _pick(node.attribute, rng) if node is not None else None
    if attribute is None:
        return
    if len(attribute.ints):
        attribute.ints[int(rng.integers(len(attribute.ints)))] = _number(rng)
    elif rng.integers(2):
        attribute.i = _number(rng)
    else:
        attribute.type = int(rng.integers(8))


def _dimension(graph: Any, rng: np.random.Generator) -> None:
    constant = _pick(graph.initializer, rng)
    if len(constant.dims):
        constant.dims[int(rng.integers(len(constant.dims)))] = _number(rng)


def _element_type(graph: Any, rng: np.random.Generator) -> None:
    _pick(graph.initializer, rng).data_type = int(rng.integers(20))


def _contents(graph: Any, rng: np.random.Generator) -> None:
    constant = _pick(graph.initializer, rng)
    values = np.frombuffer(constant.raw_data, np.uint8)
    constant.raw_data = rng.integers(0, 256, values.size).astype(np.uint8).tobytes()


def _input_shape(graph: Any, rng: np.random.Generator) -> None:
    dims = graph.input[0].type.tensor_type.shape.dim
    _pick(dims, rng).dim_value = _number(rng)


def _output(graph: Any, rng: np.random.Generator) -> None:
    names = [*_pick(graph.node, rng).output, graph.input[0].name, graph.output[0].name]
    graph.output.add().name = names[int(rng.integers(len(names)))]


_CHANGES = (
    _attribute,
    _contents,
    _dimension,
    _drop_node,
    _drop_operand,
    _element_type,
    _input_shape,
    _kind,
    _operand,
    _output,
)
