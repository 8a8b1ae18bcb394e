"""Decide what stays on chip, and cut the kernels around the rest into stripes.

A tensor is *resident* if all of it lies in the scratchpad while it is needed, *spilled* if it lies
in DRAM, or *cascaded* if only the lines that the next kernel needs at a time are ever made. Kernels
joined by cascaded tensors form a group, which works stripe by stripe: some lines of the group's
output, and the lines of everything before it that these need. Lines that the next stripe needs too
are copied on chip, or made again where they cannot be; what comes from DRAM or goes there has two
buffers, so that moves overlap with work.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from systolith.arch.config import AcceleratorConfig, ceil_div

from .allocate import Lifetime, NoRoomError, place
from .effort import execute_cycles
from .ir import Image, ImageKernel, Kernel, MeanKernel, TransposeConvKernel
from .lower import Lowering
from .lower.context import Lines
from .tensors import SegmentTensors, operands, result

_FEWEST_STRIPES = 4
"""Stripes that a group is cut into if it is cut at all: the first one's load is not hidden."""

_LONGEST_GROUP = 6
"""Kernels in a group: each adds lines that are made twice."""


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


@dataclass(kw_only=True)
class MemoryPlan:
    """Where everything lies.

    Parameters
    ----------
    addresses : dict of str to int
        Scratchpad address of each resident tensor and of each stripe's buffers, by name.
    spilled, cascaded : set of str
        Tensors that are not resident.
    groups : list of Group
        Kernels that work stripe by stripe, in order.
    """

    addresses: dict[str, int] = field(default_factory=dict)
    spilled: set[str] = field(default_factory=set)
    cascaded: set[str] = field(default_factory=set)
    groups: list[Group] = field(default_factory=list)


class Planner:
    """Makes the memory plan of a segment.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    tensors : SegmentTensors
        Tensors of the segment.
    kernels : sequence of Kernel
        Kernels of the segment.
    lowerings : dict of int to Lowering
        Lowering of each kernel that is no view, by its position.
    later : set of str
        Tensors that something after the segment reads.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        tensors: SegmentTensors,
        kernels: Sequence[Kernel],
        lowerings: dict[int, Lowering],
        later: set[str],
    ) -> None:
        self._config = config
        self._tensors = tensors
        self._kernels = kernels
        self._lowerings = lowerings
        self._uses = tensors.uses()
        # Inputs with margins, inputs that are outputs under another name, and what kernels need
        # with all its lines at once.
        self._whole = {tensors.root(name) for name in tensors.made} & set(tensors.inputs())
        self._whole |= set(tensors.margins)
        for kernel in kernels:
            if isinstance(kernel, MeanKernel | TransposeConvKernel):
                self._whole |= {tensors.root(n) for n in (*operands(kernel), result(kernel))}
        self._fixed = later | {tensors.root(name) for name in later}

    def plan(self) -> MemoryPlan:
        """Return a plan; tensors leave the chip, largest first, until the rest fits.

        Raises
        ------
        AllocationError
            A single line of some kernel, or a tensor that cannot be cut, does not fit.
        """
        absent: set[str] = set()
        while True:
            try:
                plan = self._cut(absent)
                plan.addresses = place(self._lifetimes(plan), self._config)
                return plan
            except NoRoomError as error:
                absent.add(self._victim(absent, error))

    def _victim(self, absent: set[str], error: NoRoomError) -> str:
        """Return the largest resident tensor that is alive with what found no room."""
        candidates = [
            (self._tensors.chip_bytes(name), name)
            for name, use in self._uses.items()
            if name not in absent | self._whole
            and use.first <= error.item.last
            and error.item.first <= use.last
        ]
        if not candidates:
            raise error
        return max(candidates)[1]

    def _lifetimes(self, plan: MemoryPlan) -> list[Lifetime]:
        """Return what needs room; everything that a group touches lives as long as the group."""
        span = {
            position: (group.first, group.last)
            for group in plan.groups
            for position in range(group.first, group.last + 1)
        }
        items = [
            replace(
                item,
                first=span.get(item.first, (item.first,))[0],
                last=span.get(item.last, (item.last,))[-1],
            )
            for item in self._residents(plan.spilled | plan.cascaded)
        ]
        return items + [
            Lifetime(
                name=stripe.name, nbytes=self._bytes(stripe), first=group.first, last=group.last
            )
            for group in plan.groups
            for stripe in group.stripes
        ]

    def _residents(self, absent: set[str]) -> list[Lifetime]:
        return [
            Lifetime(
                name=name, nbytes=self._tensors.chip_bytes(name), first=use.first, last=use.last
            )
            for name, use in self._uses.items()
            if name not in absent
        ]

    def buffer_size(self, stripe: Stripe) -> int:
        """Return the bytes of one buffer."""
        nbytes = stripe.lines * self._tensors.layout(stripe.image).line
        return ceil_div(nbytes, self._config.word_bytes) * self._config.word_bytes

    def _bytes(self, stripe: Stripe) -> int:
        return stripe.buffers * self.buffer_size(stripe)

    def _touches(self, position: int, absent: set[str]) -> bool:
        kernel = self._kernels[position]
        names = {self._tensors.root(name) for name in (*operands(kernel), result(kernel))}
        return isinstance(kernel, ImageKernel) and bool(names & absent)

    def _joins(self, position: int, absent: set[str]) -> bool:
        """Whether a kernel's result may be made on demand of the next kernel, and never stored."""
        if position + 1 >= len(self._kernels):
            return False
        kernel, reader = self._kernels[position], self._kernels[position + 1]
        if not isinstance(kernel, ImageKernel) or not isinstance(reader, ImageKernel):
            return False
        name = kernel.output.tensor
        use = self._uses.get(name)
        return (
            name in absent - self._fixed
            and use is not None
            and use.last == position + 1
            and sum(image.tensor == name for image in reader.reads) == 1
            and all(image == kernel.output for image in reader.reads if image.tensor == name)
        )

    def _cut(self, absent: set[str]) -> MemoryPlan:
        """Cut the kernels that touch absent tensors into groups, for the least estimated time."""
        plan = MemoryPlan()
        position = 0
        while position < len(self._kernels):
            if not self._touches(position, absent):
                position += 1
                continue
            last = position
            while self._joins(last, absent):
                last += 1
            plan.groups += self._partition(position, last, absent)
            position = last + 1
        inner = {
            self._output(position)
            for group in plan.groups
            for position in range(group.first, group.last)
        }
        plan.cascaded, plan.spilled = inner, absent - inner
        return plan

    def _output(self, position: int) -> str:
        return result(self._kernels[position])

    def _partition(self, first: int, last: int, absent: set[str]) -> list[Group]:
        """Return the cheapest cut of kernels that could all be one group."""
        best: dict[int, tuple[int, list[Group]]] = {first: (0, [])}
        for end in range(first, last + 1):
            options = []
            for start in range(max(first, end - _LONGEST_GROUP + 1), end + 1):
                if start not in best:
                    continue
                try:
                    group = self._group(start, end, absent)
                except NoRoomError:
                    if start == end:
                        raise
                    continue
                cycles, before = best[start]
                options.append((cycles + group.cycles, [*before, group]))
            if options:
                best[end + 1] = min(options, key=lambda option: option[0])
        return best[last + 1][1]

    def _group(self, first: int, last: int, absent: set[str]) -> Group:
        """Return a group with the highest stripes that there is room for."""
        inner = {self._output(position) for position in range(first, last)}
        residents = self._residents(absent)
        alive = sum(x.nbytes for x in residents if x.first <= last and first <= x.last)
        room = self._config.scratchpad_bytes - alive
        kernel = self._kernels[last]
        assert isinstance(kernel, ImageKernel)
        height = ceil_div(kernel.output.height, _FEWEST_STRIPES)
        while True:
            work = self.work(first, last, height, absent)
            stripes = self._stripes(first, last, work, absent)
            need = sum(map(self._bytes, stripes))
            if need <= room:
                cycles = self._duration(first, last, work, absent - inner)
                return Group(
                    first=first, last=last, height=height, stripes=tuple(stripes), cycles=cycles
                )
            if height == 1:
                raise self._no_room(kernel, last, need, room)
            height -= max(1, height // 8)

    def work(self, first: int, last: int, height: int, absent: set[str]) -> list[Work]:
        """Return what each stripe of a group does, in order.

        Parameters
        ----------
        first, last : int
            Kernels of the group.
        height : int
            Lines of the last kernel's output that a stripe makes.
        absent : set of str
            Tensors that are not resident.
        """
        kernel = self._kernels[last]
        assert isinstance(kernel, ImageKernel)
        held: dict[str, Lines] = {}
        result = []
        for lines in stripe_ranges(kernel.output.height, height):
            made = {last: lines}
            windows: dict[str, Window] = {}
            for position in range(last, first - 1, -1):
                for image, part in self._reads(position, made.get(position, (0, 0))):
                    name = image.tensor
                    if self._tensors.root(name) not in absent:
                        continue
                    inner = position > first and name == self._output(position - 1)
                    if name in windows:
                        # Several kernels of the group read it: one buffer holds what all need.
                        part = _union(part, windows[name].lines)
                    fresh = self._fresh(image, part, held.get(name), inner)
                    windows[name] = Window(image=image, lines=part, fresh=fresh)
                    if inner:
                        made[position - 1] = (fresh, part[1])
            held = {name: window.lines for name, window in windows.items()}
            result.append(Work(made=made, windows=windows))
        return result

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
        kernel = self._kernels[position]
        assert isinstance(kernel, ImageKernel)
        merged: dict[str, tuple[Image, Lines]] = {}
        needs = self._lowerings[position].needs(lines)
        for image, (first, last) in zip(kernel.reads, needs, strict=True):
            part = (first, last)
            if image.tensor in merged:
                part = _union(part, merged[image.tensor][1])
            merged[image.tensor] = (image, part)
        return [(image, part) for image, part in merged.values() if part[0] < part[1]]

    def _stripes(self, first: int, last: int, work: list[Work], absent: set[str]) -> list[Stripe]:
        """Return the buffers of a group, each large enough for every stripe."""
        kernel = self._kernels[last]
        assert isinstance(kernel, ImageKernel)
        inner = {self._output(position) for position in range(first, last)}
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

    def _duration(self, first: int, last: int, work: list[Work], outside: set[str]) -> int:
        """Estimate a group's cycles: the busiest of EXECUTE, LOAD and STORE."""
        execute = load = store = 0
        kernel = self._kernels[last]
        assert isinstance(kernel, ImageKernel)
        for stripe in work:
            for position, (low, high) in stripe.made.items():
                maker = self._kernels[position]
                assert isinstance(maker, ImageKernel)
                execute += execute_cycles(maker, max(0, high - low), self._config)
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

    def _no_room(self, kernel: ImageKernel, position: int, need: int, room: int) -> NoRoomError:
        item = Lifetime(name=kernel.output.tensor, nbytes=need, first=position, last=position)
        return NoRoomError(
            item,
            f'Tensor "{kernel.output.tensor}" needs {need} bytes of scratchpad for one line at a '
            f'time, but "{self._config.name}" has {room} left; use a configuration with a larger '
            f"scratchpad",
        )


def _union(a: Lines, b: Lines) -> Lines:
    return min(a[0], b[0]), max(a[1], b[1])


def stripe_ranges(lines: int, height: int) -> list[Lines]:
    """Cut lines into ranges of at most `height`."""
    return [(first, min(first + height, lines)) for first in range(0, lines, height)]
