"""Legalization of the operators that move bytes without changing them."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from systolith.compiler import images
from systolith.compiler.images import CHANNELS, HEIGHT, WIDTH, image_of
from systolith.compiler.ir import (
    ConcatKernel,
    Image,
    Kernel,
    PadKernel,
    ResizeKernel,
    SliceKernel,
    Tensor,
    ViewKernel,
)
from systolith.compiler.legal_sums import Maker
from systolith.compiler.ruleset import Site
from systolith.compiler.slices import Take, takes


def _view(site: Site, _reference: str) -> Iterator[Kernel]:
    yield ViewKernel(layer=site.operator.index, input=site.source.name, output=site.output.name)


def _pad(site: Site, _reference: str) -> Iterator[Kernel]:
    source, output = site.source, site.output
    value = output.zero_point
    if site.kind == "PADV2":
        value = int(np.asarray(site.input(2).data).reshape(-1)[0])
    before = [0, 0, 0]
    for axis, (first, _) in enumerate(site.parameter(1).tolist()):
        place = images.image_axis(source.shape, axis)
        if first and place is not None:
            before[place.axis] = first * place.unit
    yield PadKernel(
        layer=site.operator.index,
        input=image_of(source),
        output=image_of(output),
        top=before[HEIGHT],
        left=before[WIDTH],
        front=before[CHANNELS],
        value=value,
    )


def _concatenation(site: Site, _reference: str) -> Iterator[Kernel]:
    output = site.output
    axis = site.operator.attributes["axis"] % len(output.shape)
    place = images.image_axis(output.shape, axis)
    assert place is not None
    if len(site.operands) == 1:
        yield from _view(site, _reference)
        return
    yield ConcatKernel(
        layer=site.operator.index,
        inputs=tuple(image_of(tensor) for tensor in site.operands),
        output=image_of(output),
        axis=place.axis,
    )


def _slices(site: Site, _reference: str) -> Iterator[Kernel | Tensor]:
    for number, (output, taken) in enumerate(zip(site.outputs, takes(site), strict=True)):
        yield from _slice(site, output, taken, site.fresh_name(f"cut{number}"))


def _slice(site: Site, output: Tensor, taken: list[Take], cut: str) -> Iterator[Kernel | Tensor]:
    source = site.source
    start, step = [0, 0, 0], [1, 1, 1]
    image = image_of(source)
    size = [image.height, image.width, image.channels]
    for axis, take in enumerate(taken):
        if take == Take(0, source.shape[axis], 1):
            continue
        place = images.image_axis(source.shape, axis)
        assert place is not None
        start[place.axis] = take.start * place.unit
        size[place.axis] = take.size * place.unit
        step[place.axis] = take.step
    part = Image(tensor=output.name, height=size[0], width=size[1], channels=size[2])
    viewed = part != image_of(output)
    if viewed:
        # An axis was dropped: cut first, then look at the bytes in the output's shape.
        part = replace(part, tensor=cut)
        shape = (1, part.height, part.width, part.channels)
        yield replace(output, name=part.tensor, shape=shape)
    yield SliceKernel(
        layer=site.operator.index,
        input=image,
        output=part,
        start=(start[0], start[1], start[2]),
        step=(step[0], step[1]),
    )
    if viewed:
        yield ViewKernel(layer=site.operator.index, input=part.tensor, output=output.name)


def nearest(size: int, count: int, *, align_corners: bool, half_pixels: bool) -> tuple[int, ...]:
    """Return the input position of each of `count` output positions along an axis.

    Source: TensorFlow Lite `GetNearestNeighbor`,
    kernels/internal/reference/resize_nearest_neighbor.h: float32 throughout.
    """
    if align_corners and count > 1:
        scale = np.float32(size - 1) / np.float32(count - 1)
    else:
        scale = np.float32(size) / np.float32(count)
    offset = np.float32(0.5 if half_pixels else 0.0)
    positions = (np.arange(count, dtype=np.float32) + offset) * scale
    if align_corners:
        # Rounds half away from zero; no position is negative.
        positions = np.floor(positions.astype(np.float64) + 0.5)
    indices = np.floor(positions).astype(np.int64)
    return tuple(np.clip(indices, 0, size - 1).tolist())


def _resize(site: Site, _reference: str) -> Iterator[Kernel]:
    source, output = image_of(site.source), image_of(site.output)
    attributes = site.operator.attributes
    options = {
        "align_corners": attributes["align_corners"],
        "half_pixels": attributes["half_pixel_centers"],
    }
    yield ResizeKernel(
        layer=site.operator.index,
        input=source,
        output=output,
        rows=nearest(source.height, output.height, **options),
        cols=nearest(source.width, output.width, **options),
    )


MAKERS: Mapping[str, Maker] = {
    "CONCATENATION": _concatenation,
    "EXPAND_DIMS": _view,
    "PAD": _pad,
    "PADV2": _pad,
    "RESHAPE": _view,
    "RESIZE_NEAREST_NEIGHBOR": _resize,
    "SLICE": _slices,
    "SPLIT": _slices,
    "SQUEEZE": _view,
    "STRIDED_SLICE": _slices,
}
"""By operator."""
