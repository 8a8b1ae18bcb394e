"""Decide what stays on chip, and cut the kernels around the rest into groups.

A tensor is *resident* if all of it lies in the scratchpad while it is needed, *spilled* if it lies
in DRAM, or *cascaded* if only the lines that the next kernel needs at a time are ever made. Kernels
joined by cascaded tensors form a group, which works stripe by stripe (`stripes.py`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from systolith.arch.config import AcceleratorConfig, ceil_div

from .allocate import Lifetime, NoRoomError, place
from .ir import ImageKernel, Kernel, MeanKernel, TransposeConvKernel
from .lower import Lowering
from .stripes import Group, Striper
from .tensors import SegmentTensors, operands, result

_FEWEST_STRIPES = 4
"""Stripes that a group is cut into if it is cut at all: the first one's load is not hidden."""

_LONGEST_GROUP = 6
"""Kernels in a group: each adds lines that are made twice."""

_PROBED_STRIPES = 3
"""Stripes that tell what buffers a group needs: those between the first and the last are alike."""


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
        self.striper = Striper(config, tensors, kernels, lowerings)
        self._groups: dict[tuple[int, int, int, frozenset[str]], Group | NoRoomError] = {}
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
                name=stripe.name,
                nbytes=self.striper.nbytes(stripe),
                first=group.first,
                last=group.last,
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

    def _touches(self, position: int, absent: set[str]) -> bool:
        return isinstance(self._kernels[position], ImageKernel) and bool(
            self._roots(position) & absent
        )

    def _roots(self, position: int) -> set[str]:
        """Return the tensors that a kernel touches."""
        kernel = self._kernels[position]
        return {self._tensors.root(name) for name in (*operands(kernel), result(kernel))}

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
        inner: set[str] = set()
        for group in plan.groups:
            inner |= self.striper.inner(group.first, group.last)
        plan.cascaded, plan.spilled = inner, absent - inner
        return plan

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
        residents = self._residents(absent)
        alive = sum(x.nbytes for x in residents if x.first <= last and first <= x.last)
        room = self._config.scratchpad_bytes - alive
        names = {name for position in range(first, last + 1) for name in self._roots(position)}
        key = (first, last, room, frozenset(names & absent))
        if key not in self._groups:
            self._groups[key] = self._highest(first, last, room, absent)
        group = self._groups[key]
        if isinstance(group, NoRoomError):
            raise group
        return group

    def _highest(self, first: int, last: int, room: int, absent: set[str]) -> Group | NoRoomError:
        striper = self.striper
        height = ceil_div(striper.kernel(last).output.height, _FEWEST_STRIPES)
        while True:
            for most in (_PROBED_STRIPES, None):
                work = striper.work(first, last, height, absent, most=most)
                stripes = striper.buffers(first, last, work, absent)
                need = sum(map(striper.nbytes, stripes))
                if need > room:
                    break
            else:
                cycles = striper.duration(first, last, work, absent - striper.inner(first, last))
                return Group(
                    first=first, last=last, height=height, stripes=tuple(stripes), cycles=cycles
                )
            if height == 1:
                return self._no_room(striper.kernel(last), last, need, room)
            height -= max(1, height // 8)

    def _no_room(self, kernel: ImageKernel, position: int, need: int, room: int) -> NoRoomError:
        item = Lifetime(name=kernel.output.tensor, nbytes=need, first=position, last=position)
        return NoRoomError(
            item,
            f'Tensor "{kernel.output.tensor}" needs {need} bytes of scratchpad for one line at a '
            f'time, but "{self._config.name}" has {room} left; use a configuration with a larger '
            f"scratchpad",
        )
