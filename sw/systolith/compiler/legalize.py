"""Legalization: from the model's operators to kernels of integer arithmetic.

Everything real ends here: scales become Q31 multipliers with shifts, fused activations become
clamps, zero points of inputs go into biases. One function for each operator, in `legal_sums`,
`legal_elements` and `legal_moves`.
"""

import math

from systolith.compiler.ir import Graph, Kernel, KernelGraph, Operator, Tensor
from systolith.compiler.legal_elements import MAKERS as ELEMENT_MAKERS
from systolith.compiler.legal_moves import MAKERS as MOVE_MAKERS
from systolith.compiler.legal_sums import MAKERS as SUM_MAKERS
from systolith.compiler.legal_sums import REFERENCES, ROUNDINGS
from systolith.compiler.ruleset import Site

__all__ = ["REFERENCES", "ROUNDINGS", "legalize", "multiplications"]

_MAKERS = {**SUM_MAKERS, **ELEMENT_MAKERS, **MOVE_MAKERS}


def legalize(graph: Graph, reference: str) -> KernelGraph:
    """Return the kernels of a model that passed `rules.check`.

    An operator may become several kernels with tensors of their own between them.

    Parameters
    ----------
    graph : Graph
        Model.
    reference : str
        Runtime whose results are reproduced, a key of `ROUNDINGS`.

    Raises
    ------
    ValueError
        The reference is unknown.
    """
    if reference not in ROUNDINGS:
        raise ValueError(f"Reference must be one of {', '.join(ROUNDINGS)}, not {reference!r}")
    kernels: list[Kernel] = []
    edges = {*graph.inputs, *graph.outputs}
    edges.update(name for operator in graph.operators for name in operator.outputs)
    tensors = {name: tensor for name, tensor in graph.tensors.items() if name in edges}
    for operator in graph.operators:
        for item in _MAKERS[operator.kind](Site(graph, operator), reference):
            if isinstance(item, Tensor):
                tensors[item.name] = item
            else:
                kernels.append(item)
    return KernelGraph(
        name=graph.name,
        reference=reference,
        tensors=tensors,
        kernels=tuple(kernels),
        inputs=graph.inputs,
        outputs=graph.outputs,
        layers=tuple(
            (operator.outputs[0], operator.kind, multiplications(graph, operator))
            for operator in graph.operators
        ),
    )


def multiplications(graph: Graph, operator: Operator) -> int:
    """Return the multiplications that the model defines for an operator; 0 without weights."""
    site = Site(graph, operator)
    match operator.kind:
        case "CONV_2D" | "FULLY_CONNECTED":
            return math.prod(site.output.shape) * math.prod(site.weights.shape[1:])
        case "DEPTHWISE_CONV_2D":
            return math.prod(site.output.shape) * math.prod(site.weights.shape[1:3])
        case "TRANSPOSE_CONV":
            return math.prod(site.source.shape) * math.prod(site.weights.shape[:3])
    return 0
