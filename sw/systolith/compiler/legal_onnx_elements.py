"""Operators on elements: formulas as tables, sums and products of two activations."""

import numpy as np

from systolith.arch import float32
from systolith.compiler import formula_onnx
from systolith.compiler.builder_onnx import Builder
from systolith.compiler.factors_onnx import (
    INT8_MAX,
    INT8_MIN,
    clamp_range,
    inner_zero,
    product_factor,
    sum_factors,
)
from systolith.compiler.ir import Image, Int8Array, Operator, TableKernel
from systolith.compiler.kernels_onnx import ProductKernel, SumKernel


def formula(build: Builder, operator: Operator) -> None:
    """Append a formula as a table."""
    input, image = build.source(operator)
    output, result = build.target(operator)
    table = formula_onnx.table(operator.attributes["tree"], input, output)
    append_table(build, operator, image, result, table)


def add(build: Builder, operator: Operator) -> None:
    """Append an Add."""
    a, b = (build.graph.tensors[name or ""] for name in operator.inputs[:2])
    output, result = build.target(operator)
    (a_multiplier, b_multiplier), shift = float32.factors(*sum_factors(a, b, output))
    low, high = clamp_range(operator, output)
    parameters = {
        "a_zero": inner_zero(a),
        "a_multiplier": a_multiplier,
        "b_zero": inner_zero(b),
        "b_multiplier": b_multiplier,
        "out_shift": shift,
        "out_zero": inner_zero(output),
        "low": low,
        "high": high,
    }
    append_binary(build, operator, result, SumKernel, parameters)


def mul(build: Builder, operator: Operator) -> None:
    """Append a Mul."""
    a, b = (build.graph.tensors[name or ""] for name in operator.inputs[:2])
    output, result = build.target(operator)
    (multiplier,), shift = float32.factors(product_factor(a, b, output))
    low, high = clamp_range(operator, output)
    parameters = {
        "a_zero": inner_zero(a),
        "b_zero": inner_zero(b),
        "out_multiplier": multiplier,
        "out_shift": shift,
        "out_zero": inner_zero(output),
        "low": low,
        "high": high,
    }
    append_binary(build, operator, result, ProductKernel, parameters)


def append_table(
    build: Builder, operator: Operator, image: Image, result: Image, table: Int8Array
) -> None:
    """Append a table."""
    build.kernels.append(
        TableKernel(layer=operator.index, input=image, output=like(image, result), table=table)
    )


def append_binary(
    build: Builder,
    operator: Operator,
    result: Image,
    kind: type[SumKernel] | type[ProductKernel],
    parameters: dict[str, int],
) -> None:
    """Append a kernel of two images, or the table of one image and a constant."""
    operands = [build.graph.tensors[name or ""] for name in operator.inputs[:2]]
    images = [
        None if tensor.data is not None else build.images[build.inner[tensor.name]]
        for tensor in operands
    ]
    if images[0] is not None and images[1] is not None:
        build.kernels.append(
            kind(
                layer=operator.index,
                a=images[0],
                b=images[1],
                output=like(images[0], result),
                parameters=parameters,
            )
        )
        return
    codes = np.arange(INT8_MIN, INT8_MAX + 1, dtype=np.int64)
    values = [
        codes
        if tensor.data is None
        else np.int64(int(tensor.data.reshape(())) + inner_zero(tensor) - tensor.zero_point)
        for tensor in operands
    ]
    function = float32.add if kind is SumKernel else float32.mul
    table = formula_onnx.arrange(function(*values, **parameters), "int8")
    image = images[0] or images[1]
    assert image is not None
    append_table(build, operator, image, result, table)


def like(image: Image, result: Image) -> Image:
    """Return the result of an operator on elements, in the form of its operand."""
    return Image(
        tensor=result.tensor, height=image.height, width=image.width, channels=image.channels
    )
