"""Tensors of any rank as images: which axis of a tensor is which axis of its image."""

import math
from typing import NamedTuple

from systolith.compiler.ir import Image, Tensor

HEIGHT, WIDTH, CHANNELS = range(3)

_IMAGE_RANK = 4


class ImageAxis(NamedTuple):
    """Where an axis of a tensor is in its image: `unit` pixels (or channels) for each element."""

    axis: int
    unit: int


def is_image(shape: tuple[int, ...]) -> bool:
    """Whether a shape is NHWC with a batch of 1."""
    return len(shape) == _IMAGE_RANK and shape[0] == 1


def image_of(tensor: Tensor) -> Image:
    """Return a tensor as an image: NHWC of batch 1, or the pixels of one line."""
    *leading, channels = tensor.shape
    if is_image(tensor.shape):
        _, height, width = leading
        return Image(tensor=tensor.name, height=height, width=width, channels=channels)
    return Image(tensor=tensor.name, height=1, width=math.prod(leading), channels=channels)


def image_axis(shape: tuple[int, ...], axis: int) -> ImageAxis | None:
    """Return the axis of the image of a tensor of this shape along which one of its axes runs.

    None if there is none: the axis lies within others that share the image's width.
    """
    last = len(shape) - 1
    if axis == last:
        return ImageAxis(CHANNELS, 1)
    if is_image(shape) and axis > 0:
        return ImageAxis(axis - 1, 1)
    if math.prod(shape[:axis]) == 1:
        return ImageAxis(WIDTH, math.prod(shape[axis + 1 : last]))
    return None


def shared_axis(shapes: list[tuple[int, ...]], axis: int) -> ImageAxis | None:
    """Return the image axis of an axis if it is the same one for tensors of all these shapes."""
    found = {image_axis(shape, axis) for shape in shapes}
    return found.pop() if len(found) == 1 else None
