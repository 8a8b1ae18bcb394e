"""Decide what stays on chip, and cut the kernels around the rest into stripes.

A tensor is *resident* if all of it lies in the scratchpad while it is needed, or *spilled* to DRAM.
A kernel with spilled operands or result works stripe by stripe: some lines of its output, the lines
of its inputs that these need, in two buffers each, so that moves overlap with work.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from systolith.arch.config import AcceleratorConfig, ceil_div

from .allocate import Lifetime, NoRoomError, place
from .ir import Image, ImageKernel, Kernel, MeanKernel, TransposeConvKernel
from .lower import Lowering
from .tensors import SegmentTensors, operands, result

_FEWEST_STRIPES = 4
"""Stripes that a kernel is cut into if it is cut at all: the first one's load is not hidden."""

_BUFFERS = 2


@dataclass(frozen=True, kw_only=True)
class Stripe:
    """A buffer pair for lines of a spilled image at one kernel."""

    image: Image
    lines: int
    name: str


@dataclass(kw_only=True)
class MemoryPlan:
    """Where everything lies.

    Parameters
    ----------
    addresses : dict of str to int
        Scratchpad address of each resident tensor and of each stripe buffer pair, by name.
    spilled : set of str
        Tensors in DRAM.
    heights : dict of int to int
        Output lines of a stripe, for each kernel that is cut, by its position.
    stripes : dict of int to list of Stripe
        Buffer pairs of each kernel that is cut.
    """

    addresses: dict[str, int] = field(default_factory=dict)
    spilled: set[str] = field(default_factory=set)
    heights: dict[int, int] = field(default_factory=dict)
    stripes: dict[int, list[Stripe]] = field(default_factory=dict)


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
        self._uses = tensors.uses()
        # Kernels that need all lines at once, and inputs that are outputs under another name.
        self._whole = {tensors.root(name) for name in tensors.made} & set(tensors.inputs())
        for kernel in kernels:
            if isinstance(kernel, MeanKernel | TransposeConvKernel):
                self._whole |= {tensors.root(n) for n in (*operands(kernel), result(kernel))}

    def plan(self) -> MemoryPlan:
        """Return a plan; tensors are spilled, largest first, until the rest fits.

        Raises
        ------
        AllocationError
            A single line of some kernel, or a tensor that cannot be cut, does not fit.
        """
        spilled: set[str] = set()
        while True:
            plan = MemoryPlan(spilled=set(spilled))
            try:
                self._cut(plan)
                plan.addresses = place(self._lifetimes(plan), self._config)
                return plan
            except NoRoomError as error:
                spilled.add(self._victim(spilled, error))

    def _victim(self, spilled: set[str], error: NoRoomError) -> str:
        """Return the largest resident tensor that is alive with what found no room."""
        candidates = [
            (self._tensors.chip_bytes(name), name)
            for name, use in self._uses.items()
            if name not in spilled | self._whole
            and use.first <= error.item.last
            and error.item.first <= use.last
        ]
        if not candidates:
            raise error
        return max(candidates)[1]

    def _lifetimes(self, plan: MemoryPlan) -> list[Lifetime]:
        items = self._residents(plan)
        for position, stripes in plan.stripes.items():
            items += [
                Lifetime(
                    name=stripe.name,
                    nbytes=self._buffer_bytes(stripe.image, stripe.lines),
                    first=position,
                    last=position,
                )
                for stripe in stripes
            ]
        return items

    def _residents(self, plan: MemoryPlan) -> list[Lifetime]:
        return [
            Lifetime(
                name=name, nbytes=self._tensors.chip_bytes(name), first=use.first, last=use.last
            )
            for name, use in self._uses.items()
            if name not in plan.spilled
        ]

    def _buffer_bytes(self, image: Image, lines: int) -> int:
        """Return the bytes of both buffers."""
        line = self._tensors.layout(image).line
        return _BUFFERS * self.buffer_size(lines * line)

    def buffer_size(self, nbytes: int) -> int:
        """Return the distance of the two buffers of a pair."""
        return ceil_div(nbytes, self._config.word_bytes) * self._config.word_bytes

    def _cut(self, plan: MemoryPlan) -> None:
        """Choose the stripes of every kernel that touches a spilled tensor."""
        residents = self._residents(plan)
        for position, kernel in enumerate(self._kernels):
            if not isinstance(kernel, ImageKernel):
                continue
            names = {self._tensors.root(name) for name in (*operands(kernel), result(kernel))}
            if not names & plan.spilled:
                continue
            alive = sum(x.nbytes for x in residents if x.first <= position <= x.last)
            room = self._config.scratchpad_bytes - alive
            height = ceil_div(kernel.output.height, _FEWEST_STRIPES)
            while True:
                stripes = self._stripes(position, kernel, height, plan.spilled)
                need = sum(self._buffer_bytes(s.image, s.lines) for s in stripes)
                if need <= room:
                    break
                if height == 1:
                    raise self._no_room(position, kernel, need, room)
                height -= max(1, height // 8)
            plan.heights[position] = height
            plan.stripes[position] = stripes

    def _stripes(
        self, position: int, kernel: ImageKernel, height: int, spilled: set[str]
    ) -> list[Stripe]:
        """Return the buffer pairs of a kernel for stripes of so many output lines."""
        lowering = self._lowerings[position]
        ranges = stripe_ranges(kernel.output.height, height)
        needs = [lowering.needs(lines) for lines in ranges]
        found: dict[str, Stripe] = {}
        for number, image in enumerate((*kernel.reads, kernel.output)):
            if self._tensors.root(image.tensor) not in spilled:
                continue
            counts = [
                lines[number][1] - lines[number][0] if number < len(kernel.reads) else height
                for lines in needs
            ]
            name = f"{image.tensor} at kernel {position}"
            lines = max(*counts, found[name].lines if name in found else 0)
            found[name] = Stripe(image=image, lines=lines, name=name)
        return list(found.values())

    def _no_room(self, position: int, kernel: ImageKernel, need: int, room: int) -> NoRoomError:
        item = Lifetime(name=kernel.output.tensor, nbytes=need, first=position, last=position)
        return NoRoomError(
            item,
            f'Tensor "{kernel.output.tensor}" needs {need} bytes of scratchpad for one line at a '
            f'time, but "{self._config.name}" has {room} left; use a configuration with a larger '
            f"scratchpad",
        )


def stripe_ranges(lines: int, height: int) -> list[tuple[int, int]]:
    """Cut lines into ranges of at most `height`."""
    return [(first, min(first + height, lines)) for first in range(0, lines, height)]
