"""Legalization of ONNX graphs: from quantized operators to kernels of integer arithmetic.

Factors are float32 numbers, computed with the roundings of onnxruntime's kernels. Images become
NHWC; uint8 becomes int8 by moving value and zero point by 128, which is exact. Both happen once,
at the edges of the model.

Ref: onnxruntime core/providers/cpu/quantization and contrib_ops/cpu/quantization.
"""

import math
from collections.abc import Callable, Mapping

from systolith.compiler.builder_onnx import Builder
from systolith.compiler.factors_onnx import matrix_outputs
from systolith.compiler.frontend.onnx_values import FORMULA
from systolith.compiler.ir import Graph, KernelGraph, Operator
from systolith.compiler.layout_onnx import MOVES
from systolith.compiler.legal_onnx_elements import add, formula, mul
from systolith.compiler.legal_onnx_moves import concat, pad, resize, softmax, view
from systolith.compiler.legal_onnx_pools import average_pool, max_pool, mean
from systolith.compiler.legal_onnx_weights import conv, matrix

REFERENCE = "onnxruntime"
"""Runtime whose results these kernels reproduce."""

_MAKERS: Mapping[str, Callable[[Builder, Operator], None]] = {
    **dict.fromkeys((*MOVES, "Transpose"), view),
    "Add": add,
    "AveragePool": average_pool,
    "Concat": concat,
    "Conv": conv,
    FORMULA: formula,
    "Gemm": matrix,
    "GlobalAveragePool": mean,
    "MatMul": matrix,
    "MaxPool": max_pool,
    "Mul": mul,
    "Pad": pad,
    "ReduceMean": mean,
    "Resize": resize,
    "Softmax": softmax,
    "Upsample": resize,
}


def legalize(graph: Graph) -> KernelGraph:
    """Return the kernels of a model that passed `rules_onnx.check`."""
    build = Builder(graph)
    for name in graph.inputs:
        build.enter(name)
    for operator in graph.operators:
        _MAKERS[operator.kind](build, operator)
    for name in graph.outputs:
        build.leave(name)
    return KernelGraph(
        name=graph.name,
        reference=REFERENCE,
        tensors=build.tensors,
        kernels=tuple(build.kernels),
        inputs=graph.inputs,
        outputs=graph.outputs,
        layers=tuple(
            (
                operator.outputs[0],
                str(operator.attributes.get("outer", operator.kind)),
                multiplications(graph, operator),
            )
            for operator in graph.operators
        ),
    )


def multiplications(graph: Graph, operator: Operator) -> int:
    """Return the multiplications that the model defines for an operator; 0 without weights."""
    if operator.kind not in ("Conv", "Gemm", "MatMul"):
        return 0
    weights = graph.tensors[operator.inputs[1] or ""].shape
    outputs = math.prod(graph.tensors[operator.outputs[0]].shape)
    if operator.kind == "Conv":
        return outputs * math.prod(weights[1:])
    return outputs * math.prod(weights) // matrix_outputs(operator, weights)
