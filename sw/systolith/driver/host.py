"""Operators that the host computes between accelerator segments, each defined to the last bit."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.arch import edges, float32, softmax
from systolith.arch.errors import ProgramError
from systolith.arch.program import HostSegment

Arrays = Sequence[NDArray[Any]]
Operator = Callable[[Arrays, Mapping[str, float | int]], Arrays]


def _softmax(inputs: Arrays, attributes: Mapping[str, float | int]) -> Arrays:
    (values,) = inputs
    return (softmax.softmax(values, attributes),)


def _of_one(
    function: Callable[[NDArray[Any], Mapping[str, float | int]], NDArray[Any]],
) -> Operator:
    """Return a function of one array as an operator."""
    return lambda inputs, attributes: (function(inputs[0], attributes),)


OPERATORS: Mapping[str, Operator] = {
    "average_pool_float32": _of_one(float32.average_pool),
    "rearrange": _of_one(edges.rearrange),
    "softmax": _softmax,
    "softmax_float32": _of_one(float32.softmax),
}
"""Host operators by the name in `HostSegment.op`."""


def run(segment: HostSegment, tensors: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return the output tensors of a host segment by name.

    Raises
    ------
    ProgramError
        The driver has no operator of that name.
    """
    if segment.op not in OPERATORS:
        raise ProgramError(
            f'Host operator must be one of {", ".join(sorted(OPERATORS))}, not "{segment.op}"; '
            f"compile the model again with the compiler of this version"
        )
    inputs = [np.ascontiguousarray(tensors[name]) for name in segment.inputs]
    outputs = OPERATORS[segment.op](inputs, segment.attributes)
    return dict(zip(segment.outputs, outputs, strict=True))
