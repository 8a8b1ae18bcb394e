"""Work in stripes: some lines of a group's output at a time, and all that these need.

A tensor that is not resident has buffers for the lines of a stripe. Lines that the next stripe
needs too are copied on chip, or made again where they cannot be; what comes from DRAM or goes there
has two buffers, so that moves overlap with work.
"""

from collections.abc import Sequence, Set
from dataclasses import dataclass

from systolith.arch.config import AcceleratorConfig, ceil_div

from .effort import execute_cycles
from .ir import Image, ImageKernel, Kernel
from .lower import Lowering
from .lower.context import Lines
from .tensors import SegmentTensors

_HANDOVER = 200
"""Cycles that pass, within a stripe, from one kernel's last pass to the next one's first."""


@dataclass(frozen=True, kw_only=True)
class Stripe:
    """Buffers for lines of an image that is not resident, within one group."""

    image: Image
    lines: int
    buffers: int
    name: str


@dataclass(frozen=True, kw_only=True)
class Window:
    """Lines of an image that one stripe reads.

    Parameters
    ----------
    image : Image
        What is read.
    lines : Lines
        The lines that the buffer holds.
    fresh : int
        First line that is loaded or made for this stripe; those before it are copied from where
        the stripe before had them.
    """

    image: Image
    lines: Lines
    fresh: int


@dataclass(frozen=True, kw_only=True)
class Work:
    """What one stripe does: the lines that each kernel makes, and the windows that it reads."""

    made: dict[int, Lines]
    windows: dict[str, Window]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Kernels `first` to `last` that are worked on together.

    Parameters
    ----------
    first, last : int
        Positions of the kernels.
    height : int
        Lines of the last kernel's output that a stripe makes.
    stripes : tuple of Stripe
        Buffers of the group.
    cycles : int
        Estimate of the group's duration.
    """

    first: int
    last: int
    height: int
    stripes: tuple[Stripe, ...]
    cycles: int

    def buffer_of(self, image: Image) -> Stripe:
        """Return the buffers of an image that is not resident."""
        return next(stripe for stripe in self.stripes if stripe.image.tensor == image.tensor)


class Striper:
    """Tells what the stripes of a group do, what buffers they need and how long they take.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    tensors : SegmentTensors
        Tensors of the segment.
    kernels : sequence of Kernel
        Kernels of the segment; those of a group are image kernels.
    lowerings : dict of int to Lowering
        Lowering of each kernel that is no view, by its position.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        tensors: SegmentTensors,
        kernels: Sequence[Kernel],
        lowerings: dict[int, Lowering],
    ) -> None:
        self._config = config
        self._tensors = tensors
        self._kernels = kernels
        self._lowerings = lowerings

    def kernel(self, position: int) -> ImageKernel:
        """Return a kernel of a group."""
        kernel = self._kernels[position]
        assert isinstance(kernel, ImageKernel)
        return kernel

    def inner(self, first: int, last: int) -> set[str]:
        """Return the tensors that a group makes for itself alone."""
        return {self.kernel(position).output.tensor for position in range(first, last)}

    def work(
        self, first: int, last: int, height: int, absent: Set[str], *, most: int | None = None
    ) -> list[Work]:
        """Return what each stripe of a group does, in order.

        Parameters
        ----------
        first, last : int
            Kernels of the group.
        height : int
            Lines of the last kernel's output that a stripe makes.
        absent : set of str
            Tensors that are not resident.
        most : int, optional
            Stripes to tell of, from the first one; by default, all.
        """
        held: dict[str, Lines] = {}
        works = []
        for lines in _ranges(self.kernel(last).output.height, height)[:most]:
            made = {last: lines}
            windows: dict[str, Window] = {}
            for position in range(last, first - 1, -1):
                for image, part in self._reads(position, made.get(position, (0, 0))):
                    name = image.tensor
                    if self._tensors.root(name) not in absent:
                        continue
                    inner = position > first and name == self.kernel(position - 1).output.tensor
                    if name in windows:
                        # Several kernels of the group read it: one buffer holds what all need.
                        part = _union(part, windows[name].lines)
                    fresh = self._fresh(image, part, held.get(name), inner)
                    windows[name] = Window(image=image, lines=part, fresh=fresh)
                    if inner:
                        made[position - 1] = (fresh, part[1])
            held = {name: window.lines for name, window in windows.items()}
            works.append(Work(made=made, windows=windows))
        return works

    def _fresh(self, image: Image, lines: Lines, before: Lines | None, inner: bool) -> int:
        """Return the first line that is not copied from the stripe before.

        One buffer alone takes copies only if they do not overlap with where they come from. What
        lies in DRAM is copied only if DRAIN moves more bytes per cycle than the port.
        """
        config = self._config
        if before is None or self._tensors.layout(image).pixel != image.channels:
            return lines[0]
        if not inner and config.axi_bytes >= config.lanes:
            return lines[0]
        overlap, step = before[1] - lines[0], lines[0] - before[0]
        if overlap <= 0 or step < 0 or lines[1] <= before[1] or (inner and overlap > step):
            return lines[0]
        return before[1]

    def _reads(self, position: int, lines: Lines) -> list[tuple[Image, Lines]]:
        """Return each image that output lines of a kernel need, once, with all lines needed."""
        if lines[0] >= lines[1]:
            return []
        kernel = self.kernel(position)
        merged: dict[str, tuple[Image, Lines]] = {}
        needs = self._lowerings[position].needs(lines)
        for image, (first, last) in zip(kernel.reads, needs, strict=True):
            part = (first, last)
            if image.tensor in merged:
                part = _union(part, merged[image.tensor][1])
            merged[image.tensor] = (image, part)
        return [(image, part) for image, part in merged.values() if part[0] < part[1]]

    def buffers(self, first: int, last: int, work: list[Work], absent: Set[str]) -> list[Stripe]:
        """Return the buffers of a group, each large enough for every stripe."""
        kernel, inner = self.kernel(last), self.inner(first, last)
        lines: dict[str, int] = {}
        images: dict[str, Image] = {}
        for stripe in work:
            parts = [(window.image, window.lines) for window in stripe.windows.values()]
            if self._tensors.root(kernel.output.tensor) in absent:
                parts.append((kernel.output, stripe.made[last]))
            for image, (low, high) in parts:
                images[image.tensor] = image
                lines[image.tensor] = max(lines.get(image.tensor, 1), high - low)
        return [
            Stripe(
                image=image,
                lines=lines[name],
                buffers=1 if name in inner else 2,
                name=f"{name} at kernel {first}",
            )
            for name, image in images.items()
        ]

    def buffer_size(self, stripe: Stripe) -> int:
        """Return the bytes of one buffer."""
        nbytes = stripe.lines * self._tensors.layout(stripe.image).line
        return ceil_div(nbytes, self._config.word_bytes) * self._config.word_bytes

    def nbytes(self, stripe: Stripe) -> int:
        """Return the bytes of all buffers of an image."""
        return stripe.buffers * self.buffer_size(stripe)

    def duration(self, first: int, last: int, work: list[Work], outside: Set[str]) -> int:
        """Estimate a group's cycles: the busiest of EXECUTE, LOAD and STORE."""
        execute = load = store = 0
        kernel = self.kernel(last)
        for stripe in work:
            for position, (low, high) in stripe.made.items():
                lines = max(0, high - low)
                execute += execute_cycles(self.kernel(position), lines, self._config)
            for window in stripe.windows.values():
                if self._tensors.root(window.image.tensor) in outside:
                    line = window.image.width * window.image.channels
                    load += (window.lines[1] - window.fresh) * line
            if self._tensors.root(kernel.output.tensor) in outside:
                low, high = stripe.made[last]
                store += (high - low) * kernel.output.width * kernel.output.channels
        # Each kernel of a stripe waits for the last drain of the one before it.
        execute += len(work) * (last - first + 1) * _HANDOVER
        return max(execute, load // self._config.axi_bytes, store // self._config.axi_bytes)


def _union(a: Lines, b: Lines) -> Lines:
    return min(a[0], b[0]), max(a[1], b[1])


def _ranges(lines: int, height: int) -> list[Lines]:
    """Cut lines into ranges of at most `height`."""
    return [(first, min(first + height, lines)) for first in range(0, lines, height)]
