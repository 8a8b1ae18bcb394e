"""Nearest-neighbor resizing: which input line or column each output takes, as onnxruntime finds it.

Ref: ONNX `Resize`; onnxruntime `GetOriginalCoordinate`, core/providers/cpu/tensor/upsample.cc.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

TRANSFORMATIONS = ("align_corners", "asymmetric", "half_pixel", "pytorch_half_pixel")
NEAREST = ("ceil", "floor", "round_prefer_ceil", "round_prefer_floor")

_HALF = np.float32(0.5)


def _coordinate(mode: str, position: int, scale: np.float32, given: int, wanted: int) -> float:
    place = np.float32(position)
    if mode == "asymmetric":
        return float(place / scale)
    if mode == "align_corners":
        return float(place * np.float32(given - 1) / np.float32(wanted - 1)) if wanted > 1 else 0.0
    if mode == "pytorch_half_pixel" and wanted <= 1:
        return 0.0
    return float((place + _HALF) / scale - _HALF)


_ROUND: Mapping[str, Callable[[float], int]] = {
    "ceil": math.ceil,
    "floor": math.floor,
    "round_prefer_ceil": lambda x: math.floor(x + 0.5),
    "round_prefer_floor": lambda x: math.ceil(x - 0.5),
}


def nearest(attributes: Mapping[str, Any], axis: int, given: int, wanted: int) -> tuple[int, ...]:
    """Return the input position for each of `wanted` output positions along an axis."""
    scale = np.float32(attributes["scales"][axis])
    mode, rounding = attributes["transformation"], _ROUND[attributes["nearest"]]
    if scale == 1.0:
        return tuple(range(given))
    places = (_coordinate(mode, x, scale, given, wanted) for x in range(wanted))
    return tuple(min(max(rounding(place), 0), given - 1) for place in places)
