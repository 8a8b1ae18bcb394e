"""Stacks of samples: what a user passes to a session taken apart, and results put together."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from systolith.arch.errors import InputError
from systolith.arch.program import TensorInfo

Array = NDArray[Any]


def split(infos: Sequence[TensorInfo], feed: Mapping[str, Array]) -> tuple[dict[str, Array], bool]:
    """Turn leading dimensions that are multiples of the model's into stacks of samples.

    Parameters
    ----------
    infos : sequence of TensorInfo
        Inputs of the model.
    feed : mapping of str to array
        What was passed for them.

    Returns
    -------
    dict of str to array
        The same, as `[samples, *shape]` where all arrays had such a leading dimension.
    bool
        Whether they had, so that results are to be joined the same way.
    """
    arrays = {name: np.asarray(array) for name, array in feed.items()}
    shapes = {info.name: info.shape for info in infos}
    joined = [
        name
        for name, array in arrays.items()
        if (shape := shapes.get(name))
        and array.ndim == len(shape)
        and array.shape[1:] == shape[1:]
        and len(array) > shape[0]
        and len(array) % shape[0] == 0
    ]
    if not joined or len(joined) < len(arrays):
        return arrays, False
    return {name: array.reshape(-1, *shapes[name]) for name, array in arrays.items()}, True


def check(infos: Sequence[TensorInfo], feed: Mapping[str, Array]) -> int | None:
    """Return the number of samples of a feed, or None if there is no such axis.

    Raises
    ------
    InputError
        A name, shape or dtype does not fit the model, or numbers of samples differ.
    """
    names = {info.name for info in infos}
    if set(feed) != names:
        raise InputError(f"Inputs must be named {sorted(names)}, not {sorted(feed)}")
    counts: dict[str, int | None] = {}
    for info in infos:
        array = np.asarray(feed[info.name])
        stacked = array.shape[1:] == info.shape and array.ndim == len(info.shape) + 1
        if array.dtype != np.dtype(info.dtype) or not (stacked or array.shape == info.shape):
            raise InputError(_wrong_input(info, array))
        counts[info.name] = len(array) if stacked else None
    if len(set(counts.values())) > 1:
        raise InputError(f"Inputs must have the same number of samples, not {counts}")
    return next(iter(counts.values()), None)


def stack(info: TensorInfo, arrays: Sequence[Array]) -> Array:
    """Return the arrays of a tensor as `[samples, *shape]`, also if there are none."""
    result = np.empty((len(arrays), *info.shape), np.dtype(info.dtype))
    for index, array in enumerate(arrays):
        result[index] = array
    return result


def _wrong_input(info: TensorInfo, array: Array) -> str:
    remedy = ""
    if np.issubdtype(array.dtype, np.floating):
        remedy = f"; quantize it with scale {info.scale} and zero point {info.zero_point}"
    return (
        f'Input "{info.name}" must be {info.dtype} of shape {info.shape} or '
        f"{('samples', *info.shape)}, not {array.dtype} of shape {array.shape}{remedy}"
    )
