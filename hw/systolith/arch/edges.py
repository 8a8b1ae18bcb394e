"""The edge between a model's tensors and the accelerator's: element type and order of axes.

The accelerator computes on int8 with channels innermost. A uint8 tensor becomes int8 by flipping
the top bit, which is `value - 128`, with its zero point moved alike; nothing is lost or rounded.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLIP = 0x80
"""What is exclusively or-ed to the bytes of a uint8 tensor to make them int8, and back."""


def rearrange(values: NDArray[Any], attributes: Mapping[str, float | int]) -> NDArray[Any]:
    """Return bytes in the order and the element type of the other side.

    Parameters
    ----------
    values : ndarray of int8 or uint8
        Tensor of `rows * columns` elements.
    attributes : mapping
        `rows` and `columns` of the matrix that is transposed (1 row: the order stays), and `flip`,
        0 or `FLIP`.

    Returns
    -------
    ndarray
        One axis; of the other element type if bits are flipped, else of the same.
    """
    rows, columns = int(attributes["rows"]), int(attributes["columns"])
    matrix = np.ascontiguousarray(values).view(np.uint8).reshape(rows, columns)
    flip = int(attributes["flip"])
    is_signed = (values.dtype == np.int8) != bool(flip)
    flipped = np.ascontiguousarray(matrix.T) ^ np.uint8(flip)
    return flipped.reshape(-1).view(np.int8 if is_signed else np.uint8)
