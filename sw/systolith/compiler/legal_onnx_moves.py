"""Operators that move elements, and softmax."""

import math

import numpy as np

from systolith.arch import float32
from systolith.compiler import formula_onnx
from systolith.compiler.builder_onnx import IMAGE_RANK, Builder
from systolith.compiler.factors_onnx import INT8_MAX, INT8_MIN, inner_zero
from systolith.compiler.ir import (
    ConcatKernel,
    HostKernel,
    Image,
    Operator,
    PadKernel,
    ResizeKernel,
    Tensor,
    ViewKernel,
)
from systolith.compiler.legal_onnx_elements import append_table
from systolith.compiler.resize_onnx import nearest

_AXES = {1: 2, 2: 0, 3: 1}
"""Axis of an image (height, width, channels) by axis of NCHW."""


def view(build: Builder, operator: Operator) -> None:
    """Append an operator that moves no byte."""
    name = operator.inputs[0] or ""
    output = build.declare(operator.outputs[0])
    build.kernels.append(ViewKernel(layer=operator.index, input=build.inner[name], output=output))


def concat(build: Builder, operator: Operator) -> None:
    """Append a Concat."""
    output, _ = build.target(operator)
    axis, rank = operator.attributes["axis"], len(output.shape)
    parts = tuple(
        _requantized(build, operator, position, output) for position in range(len(operator.inputs))
    )
    images = tuple(_joined(image, output, rank, axis) for image in parts)
    sizes = [sum(getattr(i, side) for i in images) for side in ("height", "width", "channels")]
    along = _AXES[axis] if rank == IMAGE_RANK else (2 if axis == rank - 1 else 1)
    first = images[0]
    height, width, channels = first.height, first.width, first.channels
    size = [height, width, channels]
    size[along] = sizes[along]
    build.kernels.append(
        ConcatKernel(
            layer=operator.index,
            inputs=images,
            output=Image(
                tensor=build.inner[output.name],
                height=size[0],
                width=size[1],
                channels=size[2],
            ),
            axis=along,
        )
    )


def pad(build: Builder, operator: Operator) -> None:
    """Append a Pad."""
    input, image = build.source(operator)
    _, result = build.target(operator)
    pads = operator.attributes["pads"]
    value = float32.quantize_linear(
        np.array(operator.attributes["value"]), input.scale, input.zero_point, input.dtype
    )
    build.kernels.append(
        PadKernel(
            layer=operator.index,
            input=image,
            output=result,
            top=pads[2],
            left=pads[3],
            front=pads[1],
            value=int(value) + inner_zero(input) - input.zero_point,
        )
    )


def resize(build: Builder, operator: Operator) -> None:
    """Append a Resize."""
    _, image = build.source(operator)
    _, result = build.target(operator)
    build.kernels.append(
        ResizeKernel(
            layer=operator.index,
            input=image,
            output=result,
            rows=nearest(operator.attributes, 2, image.height, result.height),
            cols=nearest(operator.attributes, 3, image.width, result.width),
        )
    )


def softmax(build: Builder, operator: Operator) -> None:
    """Append a Softmax."""
    input, _ = build.source(operator)
    output, _ = build.target(operator)
    build.kernels.append(
        HostKernel(
            layer=operator.index,
            op="softmax_float32",
            inputs=(build.inner[input.name],),
            outputs=(build.inner[output.name],),
            attributes={
                "depth": input.shape[operator.attributes["axis"]],
                "input_scale": input.scale,
                "output_scale": output.scale,
                "output_zero": inner_zero(output),
            },
        )
    )


def _requantized(build: Builder, operator: Operator, position: int, output: Tensor) -> Image:
    """Return an operand with the quantization of the output, behind a table if need be."""
    input, image = build.source(operator, position)
    table = formula_onnx.table(("input",), input, output)
    identity = formula_onnx.arrange(np.arange(INT8_MIN, INT8_MAX + 1), "int8")
    if np.array_equal(table, identity):
        return image
    name = f"{output.name}:{position}"
    given = build.tensors[image.tensor]
    build.tensors[name] = Tensor(
        name=name,
        shape=given.shape,
        dtype="int8",
        scales=output.scales,
        zero_points=(inner_zero(output),),
    )
    result = Image(tensor=name, height=image.height, width=image.width, channels=image.channels)
    append_table(build, operator, image, result, table)
    return result


def _joined(image: Image, output: Tensor, rank: int, axis: int) -> Image:
    """Return a part of a concatenation, in the form in which parts are joined."""
    if rank == IMAGE_RANK or axis == rank - 1:
        return image
    channels = math.prod(output.shape[axis + 1 :])
    return Image(tensor=image.tensor, height=1, width=image.nbytes // channels, channels=channels)
