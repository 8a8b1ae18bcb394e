"""Which elements SLICE, STRIDED_SLICE and SPLIT take, axis by axis.

Ref: `StridedSliceParams` and `StartForAxis`,
    tensorflow/lite/kernels/internal/strided_slice_logic.h.
"""

from typing import NamedTuple

from systolith.compiler.ruleset import Site


class Take(NamedTuple):
    """`size` elements of one axis from `start` on, `step` apart."""

    start: int
    size: int
    step: int

    def fits(self, dimension: int) -> bool:
        """Whether all elements exist, and at least one is taken."""
        if self.size < 1 or self.step < 1 or self.start < 0:
            return False
        return self.start + (self.size - 1) * self.step < dimension


def takes(site: Site) -> list[list[Take]]:
    """Return what each output takes of each axis; such as do not fit if the model is damaged."""
    if site.kind == "SPLIT":
        return _split(site)
    return [_slice(site) if site.kind == "SLICE" else _strided_slice(site)]


def _split(site: Site) -> list[list[Take]]:
    shape, count = site.source.shape, len(site.outputs)
    axis = int(site.parameter(0).reshape(-1)[0])
    size, rest = divmod(shape[axis], count)
    whole = [Take(0, dimension, 1) for dimension in shape]
    result = []
    for number in range(count):
        part = list(whole)
        part[axis] = Take(number * size, 0 if rest else size, 1)
        result.append(part)
    return result


def _slice(site: Site) -> list[Take]:
    begins, sizes = site.parameter(1).tolist(), site.parameter(2).tolist()
    return [
        Take(begin, dimension - begin if size == -1 else size, 1)
        for begin, size, dimension in zip(begins, sizes, site.source.shape, strict=True)
    ]


def _strided_slice(site: Site) -> list[Take]:
    begins, ends, steps = (site.parameter(position).tolist() for position in (1, 2, 3))
    attributes = site.operator.attributes
    result = []
    for axis, dimension in enumerate(site.source.shape):
        if axis >= len(steps):
            result.append(Take(0, dimension, 1))
            continue
        bit = 1 << axis
        if steps[axis] < 1:
            result.append(Take(0, 0, steps[axis]))
            continue
        start = 0 if attributes["begin_mask"] & bit else _bounded(begins[axis], dimension)
        stop = dimension if attributes["end_mask"] & bit else _bounded(ends[axis], dimension)
        if attributes["shrink_axis_mask"] & bit:
            stop = start + 1
        size = max(0, -(-(stop - start) // steps[axis]))
        result.append(Take(start, size, steps[axis] if size > 1 else 1))
    return result


def _bounded(index: int, dimension: int) -> int:
    """Return an index counted from the start and within 0..dimension."""
    return min(max(index + dimension if index < 0 else index, 0), dimension)
