"""Attributes and result shapes of ONNX operators, in plain Python values.

A shape that cannot be known is empty; the rules refuse it. Nothing is allocated by a size here.

Ref: ONNX operator schemas, opsets 7 to 23.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from systolith.compiler.frontend.onnx_model import Damage, Node
from systolith.compiler.ir import Tensor

Shape = tuple[int, ...]
Attributes = dict[str, Any]

UNKNOWN: Shape = ()
_SOFTMAX_ANY_AXIS_OPSET = 13
_IMAGE_RANK = 4


def window(node: Node, input: Shape, kernel: Shape, *, ceil_mode: bool = False) -> Attributes:
    """Return stride, dilation, pads (all begins, then all ends) and output size of a window."""
    axes = len(kernel)
    stride = _list(node, "strides", 1, axes)
    dilation = _list(node, "dilations", 1, axes)
    pads = _list(node, "pads", 0, 2 * axes)
    size = input[2:]
    mode = node.text("auto_pad", "NOTSET")
    if len(size) != axes or min(stride, default=1) < 1 or mode not in _AUTO_PADS:
        size = ()
    elif mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = _same_pads(size, kernel, stride, dilation, mode)
    elif mode == "VALID":
        pads = (0,) * (2 * axes)
    output = []
    for axis in range(len(size)):
        reach = (kernel[axis] - 1) * dilation[axis] + 1
        room = size[axis] + pads[axis] + pads[axis + axes] - reach
        steps = -(-room // stride[axis]) if ceil_mode else room // stride[axis]
        # The last window of ceil_mode must begin inside the image or its left padding.
        if ceil_mode and steps * stride[axis] >= size[axis] + pads[axis]:
            steps -= 1
        output.append(steps + 1)
    return {
        "kernel": kernel,
        "stride": stride,
        "dilation": dilation,
        "pads": pads,
        "output": tuple(output),
    }


_AUTO_PADS = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")


def _list(node: Node, name: str, default: int, count: int) -> Shape:
    values = node.integers(name, ()) or (default,) * count
    if len(values) != count:
        raise Damage(f"must have {count} integers in attribute {name} of {node.where}")
    return values


def _same_pads(size: Shape, kernel: Shape, stride: Shape, dilation: Shape, mode: str) -> Shape:
    begins, ends = [], []
    for axis, pixels in enumerate(size):
        output = -(-pixels // stride[axis])
        reach = (kernel[axis] - 1) * dilation[axis] + 1
        total = max((output - 1) * stride[axis] + reach - pixels, 0)
        less, more = total // 2, total - total // 2
        begins.append(less if mode == "SAME_UPPER" else more)
        ends.append(more if mode == "SAME_UPPER" else less)
    return (*begins, *ends)


def conv(node: Node, inputs: Sequence[Tensor | None], opset: int) -> tuple[Attributes, Shape]:
    """Return attributes and shape of a Conv."""
    input, weights = inputs[0], inputs[1]
    if input is None or weights is None or len(weights.shape) < 3:
        return {"group": 1}, UNKNOWN
    attributes = window(node, input.shape, weights.shape[2:])
    attributes["group"] = node.integer("group", 1)
    shape = (*input.shape[:1], weights.shape[0], *attributes["output"])
    return attributes, shape if attributes["output"] else UNKNOWN


def pool(node: Node, inputs: Sequence[Tensor | None], opset: int) -> tuple[Attributes, Shape]:
    """Return attributes and shape of a MaxPool or AveragePool."""
    (input,) = inputs[:1]
    assert input is not None
    kernel = node.integers("kernel_shape", ())
    ceil_mode = bool(node.integer("ceil_mode", 0))
    attributes = window(node, input.shape, kernel, ceil_mode=ceil_mode)
    attributes["ceil_mode"] = ceil_mode
    attributes["include_pad"] = bool(node.integer("count_include_pad", 0))
    shape = (*input.shape[:2], *attributes["output"])
    return attributes, shape if attributes["output"] else UNKNOWN


def global_pool(
    node: Node, inputs: Sequence[Tensor | None], opset: int
) -> tuple[Attributes, Shape]:
    """Return attributes and shape of a GlobalAveragePool."""
    (input,) = inputs[:1]
    assert input is not None
    return {}, (*input.shape[:2], *(1 for _ in input.shape[2:]))


def reduce_mean(
    node: Node, inputs: Sequence[Tensor | None], opset: int
) -> tuple[Attributes, Shape]:
    """Return attributes and shape of a ReduceMean."""
    input = inputs[0]
    assert input is not None
    rank = len(input.shape)
    axes = node.integers("axes", ())
    if not axes and len(inputs) > 1:
        axes = _constant_integers(inputs[1])
    reduced = sorted({axis + rank if axis < 0 else axis for axis in axes} or range(rank))
    keep = bool(node.integer("keepdims", 1))
    sizes = [1 if axis in reduced else size for axis, size in enumerate(input.shape)]
    shape = [size for axis, size in enumerate(sizes) if keep or axis not in reduced]
    return {"axes": tuple(reduced)}, tuple(shape)


def gemm(node: Node, inputs: Sequence[Tensor | None], opset: int) -> tuple[Attributes, Shape]:
    """Return attributes and shape of a Gemm."""
    input, weights = inputs[0], inputs[1]
    attributes: Attributes = {
        "alpha": node.real("alpha", 1.0),
        "beta": node.real("beta", 1.0),
        "transpose_a": bool(node.integer("transA", 0)),
        "transpose_b": bool(node.integer("transB", 0)),
    }
    if input is None or weights is None or len(input.shape) != 2 or len(weights.shape) != 2:
        return attributes, UNKNOWN
    return attributes, (input.shape[0], weights.shape[0 if attributes["transpose_b"] else 1])


def matmul(node: Node, inputs: Sequence[Tensor | None], opset: int) -> tuple[Attributes, Shape]:
    """Return attributes and shape of a MatMul."""
    input, weights = inputs[0], inputs[1]
    attributes: Attributes = {
        "alpha": 1.0,
        "beta": 1.0,
        "transpose_a": False,
        "transpose_b": False,
    }
    if input is None or weights is None or len(weights.shape) != 2 or not input.shape:
        return attributes, UNKNOWN
    return attributes, (*input.shape[:-1], weights.shape[1])


def elementwise(
    node: Node, inputs: Sequence[Tensor | None], opset: int
) -> tuple[Attributes, Shape]:
    """Return attributes and shape of an operator on equal shapes or a scalar."""
    largest = max((t.shape for t in inputs if t is not None), key=math.prod, default=UNKNOWN)
    return {}, largest


def concat(node: Node, inputs: Sequence[Tensor | None], opset: int) -> tuple[Attributes, Shape]:
    """Return attributes and shape of a Concat."""
    shapes = [tensor.shape for tensor in inputs if tensor is not None]
    axis = node.integer("axis", 0)
    rank = len(shapes[0])
    axis += rank if axis < 0 else 0
    if not 0 <= axis < rank or any(len(shape) != rank for shape in shapes):
        return {"axis": axis}, UNKNOWN
    total = sum(shape[axis] for shape in shapes)
    return {"axis": axis}, (*shapes[0][:axis], total, *shapes[0][axis + 1 :])


def softmax(node: Node, inputs: Sequence[Tensor | None], opset: int) -> tuple[Attributes, Shape]:
    """Return attributes and shape of a Softmax."""
    (input,) = inputs[:1]
    assert input is not None
    any_axis = opset >= _SOFTMAX_ANY_AXIS_OPSET
    axis = node.integer("axis", -1 if any_axis else 1)
    axis += len(input.shape) if axis < 0 else 0
    # Before that opset, all axes from this one on were one row.
    alone = any_axis or math.prod(input.shape[axis + 1 :]) == 1
    return {"axis": axis, "alone": alone}, input.shape


def reshape(node: Node, inputs: Sequence[Tensor | None], opset: int) -> tuple[Attributes, Shape]:
    """Return attributes and shape of a Reshape."""
    input = inputs[0]
    assert input is not None
    wanted = list(_constant_integers(inputs[1])) if len(inputs) > 1 else []
    if not node.integer("allowzero", 0):
        wanted = [
            input.shape[axis] if size == 0 and axis < len(input.shape) else size
            for axis, size in enumerate(wanted)
        ]
    known = math.prod(size for size in wanted if size != -1)
    if wanted.count(-1) == 1 and known > 0:
        wanted[wanted.index(-1)] = math.prod(input.shape) // known
    return {}, tuple(wanted)


def flatten(node: Node, inputs: Sequence[Tensor | None], opset: int) -> tuple[Attributes, Shape]:
    """Return attributes and shape of a Flatten."""
    (input,) = inputs[:1]
    assert input is not None
    axis = node.integer("axis", 1)
    axis += len(input.shape) if axis < 0 else 0
    return {}, (math.prod(input.shape[:axis]), math.prod(input.shape[axis:]))


def squeeze(node: Node, inputs: Sequence[Tensor | None], opset: int) -> tuple[Attributes, Shape]:
    """Return attributes and shape of a Squeeze."""
    input = inputs[0]
    assert input is not None
    axes = node.integers("axes", ()) or _constant_integers(inputs[1] if len(inputs) > 1 else None)
    rank = len(input.shape)
    gone = {axis + rank if axis < 0 else axis for axis in axes}
    gone = gone or {axis for axis, size in enumerate(input.shape) if size == 1}
    return {}, tuple(size for axis, size in enumerate(input.shape) if axis not in gone)


def unsqueeze(node: Node, inputs: Sequence[Tensor | None], opset: int) -> tuple[Attributes, Shape]:
    """Return attributes and shape of an Unsqueeze."""
    input = inputs[0]
    assert input is not None
    axes = node.integers("axes", ()) or _constant_integers(inputs[1] if len(inputs) > 1 else None)
    rank = len(input.shape) + len(axes)
    new = {axis + rank if axis < 0 else axis for axis in axes}
    sizes = iter(input.shape)
    return {}, tuple(1 if axis in new else next(sizes, 0) for axis in range(rank))


def transpose(node: Node, inputs: Sequence[Tensor | None], opset: int) -> tuple[Attributes, Shape]:
    """Return attributes and shape of a Transpose."""
    (input,) = inputs[:1]
    assert input is not None
    rank = len(input.shape)
    order = node.integers("perm", ()) or tuple(reversed(range(rank)))
    if sorted(order) != list(range(rank)):
        raise Damage(f"must have a permutation of {rank} axes in {node.where}, not {order}")
    return {"order": order}, tuple(input.shape[axis] for axis in order)


def pad(node: Node, inputs: Sequence[Tensor | None], opset: int) -> tuple[Attributes, Shape]:
    """Return attributes and shape of a Pad."""
    input = inputs[0]
    assert input is not None
    pads = node.integers("pads", ()) or _constant_integers(inputs[1] if len(inputs) > 1 else None)
    rank = len(input.shape)
    filling = inputs[2] if len(inputs) > 2 else None
    value = node.real("value", 0.0)
    if filling is not None and filling.data is not None and filling.data.size == 1:
        value = float(filling.data.reshape(()))
    attributes = {"pads": pads, "mode": node.text("mode", "constant"), "value": value}
    if len(pads) != 2 * rank:
        return attributes, UNKNOWN
    return attributes, tuple(
        size + pads[axis] + pads[axis + rank] for axis, size in enumerate(input.shape)
    )


def resize(node: Node, inputs: Sequence[Tensor | None], opset: int) -> tuple[Attributes, Shape]:
    """Return attributes and shape of a Resize or Upsample."""
    input = inputs[0]
    assert input is not None
    old = node.kind == "Upsample"
    attributes: Attributes = {
        "mode": node.text("mode", "nearest"),
        "transformation": "asymmetric"
        if old
        else node.text("coordinate_transformation_mode", "half_pixel"),
        "nearest": "floor" if old else node.text("nearest_mode", "round_prefer_floor"),
    }
    scales, sizes = _resize_operands(inputs, old)
    rank = len(input.shape)
    if len(sizes) == rank:
        attributes["scales"] = tuple(
            size / max(given, 1) for size, given in zip(sizes, input.shape, strict=True)
        )
        return attributes, sizes
    if len(scales) != rank or not all(math.isfinite(s) and 0 < s < 2**20 for s in scales):
        return attributes, UNKNOWN
    attributes["scales"] = scales
    return attributes, tuple(
        math.floor(size * scale) for size, scale in zip(input.shape, scales, strict=True)
    )


def _resize_operands(
    inputs: Sequence[Tensor | None], old: bool
) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Return the scales and the sizes that a Resize names; at least one is empty."""
    position = 1 if old or len(inputs) == 2 else 2
    given = inputs[position] if len(inputs) > position else None
    scales: tuple[float, ...] = ()
    if given is not None and given.data is not None and given.data.dtype.kind == "f":
        scales = tuple(float(value) for value in given.data.reshape(-1))
    sizes = _constant_integers(inputs[3] if len(inputs) > 3 else None)
    return scales, sizes


def _constant_integers(tensor: Tensor | None) -> Shape:
    if tensor is None or tensor.data is None or tensor.data.dtype.kind != "i":
        return ()
    return tuple(int(value) for value in tensor.data.reshape(-1))


INFERENCE: Mapping[str, Any] = {
    "Add": elementwise,
    "AveragePool": pool,
    "Concat": concat,
    "Conv": conv,
    "Flatten": flatten,
    "Gemm": gemm,
    "GlobalAveragePool": global_pool,
    "MatMul": matmul,
    "MaxPool": pool,
    "Mul": elementwise,
    "Pad": pad,
    "ReduceMean": reduce_mean,
    "Reshape": reshape,
    "Resize": resize,
    "Softmax": softmax,
    "Squeeze": squeeze,
    "Transpose": transpose,
    "Unsqueeze": unsqueeze,
    "Upsample": resize,
}
"""Operator to a function of (node, inputs, opset) that returns its attributes and its shape."""
