"""Compile one run of accelerator kernels to a segment of a program."""

from collections.abc import Iterator
from dataclasses import replace

from systolith.arch import isa
from systolith.arch.config import AcceleratorConfig, ceil_div
from systolith.arch.program import AcceleratorSegment, Binding, Region

from . import cost, race
from .emit import Emitter
from .ir import Image, ImageKernel, Kernel, KernelGraph
from .join import join_lines
from .lower import Context, Lowering, drop_repeated_setups, make_lowering
from .lower.context import Lines
from .plan import MemoryPlan, Planner
from .schedule import Scheduler
from .stripes import Group, Work
from .tensors import SegmentTensors, operands, result, segments
from .tile import Item, Placement

_INPUT_PIECES = 8
"""Loads that bring an input: the first tile may start on the first one."""

_ALIGNMENT = 64
"""Bytes that tensors in DRAM are aligned to: a beat of the widest bus."""

_Home = tuple[Region, int]
"""Region and byte offset of a tensor in DRAM."""


class SegmentBuilder:
    """Compiles one run of accelerator kernels.

    Parameters
    ----------
    config : AcceleratorConfig
        Machine.
    graph : KernelGraph
        Model that the kernels are of.
    kernels : tuple of Kernel
        Kernels that the accelerator executes, and views.
    later : set of str
        Tensors that something after the segment reads.
    constants : bytearray
        Contents of the CONSTANTS region, extended by the segment's.
    """

    def __init__(
        self,
        config: AcceleratorConfig,
        graph: KernelGraph,
        kernels: tuple[Kernel, ...],
        later: set[str],
        constants: bytearray,
    ) -> None:
        self._config = config
        self._constants = constants
        self._kernels, margins = join_lines(kernels, config)
        kernels = self._kernels
        self._tensors = SegmentTensors(config, graph, kernels, margins)
        self._inputs = self._bind(self._tensors.inputs())
        self._outputs = self._bind([name for name in self._tensors.made if name in later])
        self._overrides: dict[str, Placement] = {}
        self._plan = MemoryPlan()
        self._context = Context(config=config, place=self._locate)
        self._lowerings: dict[int, Lowering] = {
            position: make_lowering(kernel, self._context)
            for position, kernel in enumerate(kernels)
            if isinstance(kernel, ImageKernel)
        }
        planner = Planner(config, self._tensors, kernels, self._lowerings, later)
        self._striper, self._plan = planner.striper, planner.plan()
        self._arena = self._bind(
            sorted(self._plan.spilled - {binding.tensor for binding in self._inputs[0]})
        )
        self._homes: dict[str, _Home] = {
            binding.tensor: (region, binding.offset)
            for region, bindings in ((Region.INPUT, self._inputs), (Region.ARENA, self._arena))
            for binding in bindings[0]
        }

    def build(self) -> AcceleratorSegment:
        """Return the segment; its code is proved free of races."""
        emitter = Emitter(self._config)
        scheduler = Scheduler(self._config, self._constants)
        items = list(drop_repeated_setups(self._items()))
        for instruction, layer in scheduler.order(items, self._preload()):
            emitter.emit(instruction, layer)
        emitter.emit(isa.Halt(), -1)
        code = emitter.to_bytes()
        race.check(code, self._config)
        return AcceleratorSegment(
            code=code,
            inputs=self._inputs[0],
            outputs=self._outputs[0],
            input_bytes=self._inputs[1],
            output_bytes=self._outputs[1],
            arena_bytes=self._arena[1],
            layer_of=tuple(emitter.layers),
            # A segment that only renames tensors has nothing but its HALT.
            cycles=max(1, cost.estimate(code, self._config).cycles),
        )

    def _bind(self, names: list[str]) -> tuple[tuple[Binding, ...], int]:
        """Return places for tensors in a region, and the bytes that they take."""
        bindings, offset = [], 0
        for name in names:
            bindings.append(Binding(tensor=name, offset=offset))
            offset += ceil_div(self._tensors.dense_bytes(name), _ALIGNMENT) * _ALIGNMENT
        return tuple(bindings), offset

    def _locate(self, image: Image) -> Placement:
        """Return where an image lies now; before the plan is made, only its pitches count."""
        if image.tensor in self._overrides:
            return self._overrides[image.tensor]
        layout = self._tensors.layout(image)
        address = self._plan.addresses.get(self._tensors.root(image.tensor), 0)
        return Placement(address=address, pixel=layout.pixel, line=layout.line)

    def _items(self) -> Iterator[Item]:
        groups = {group.first: group for group in self._plan.groups}
        position = 0
        while position < len(self._kernels):
            kernel = self._kernels[position]
            if position in groups:
                yield from self._striped(groups[position])
                position = groups[position].last
            elif isinstance(kernel, ImageKernel):
                self._context.share = 1
                yield from self._lowerings[position].items((0, kernel.output.height))
            yield from self._store_whole(self._kernels[position])
            position += 1

    def _store_whole(self, kernel: Kernel) -> Iterator[Item]:
        """Yield the store of a resident result that something after the segment reads."""
        name = result(kernel)
        root = self._tensors.root(name)
        for binding in self._outputs[0]:
            if binding.tensor == name and root not in self._plan.spilled:
                count = self._tensors.dense_bytes(name)
                store = isa.Store(
                    region=Region.OUTPUT,
                    offset=binding.offset,
                    run=count,
                    total=count,
                    addr=self._plan.addresses[root],
                )
                store = replace(store, **self._tensors.whole_segments(name))
                yield Item(instruction=store, layer=kernel.layer)

    def _striped(self, group: Group) -> Iterator[Item]:
        """Yield a group's items stripe by stripe, the loads of each ahead of the one before."""
        kernel = self._kernels[group.last]
        assert isinstance(kernel, ImageKernel)
        self._context.share = group.last - group.first + 1
        absent = self._plan.spilled | self._plan.cascaded
        stripes = self._striper.work(group.first, group.last, group.height, absent)
        before: list[Work | None] = [None, *stripes]
        yield from self._arrivals(group, 0, stripes[0], None, self._plan.spilled)
        for number, stripe in enumerate(stripes):
            if number + 1 < len(stripes):
                following = stripes[number + 1]
                yield from self._arrivals(group, number + 1, following, stripe, self._plan.spilled)
            yield from self._arrivals(group, number, stripe, before[number], self._plan.cascaded)
            self._point(group, number, stripe)
            for position in range(group.first, group.last + 1):
                first, last = stripe.made.get(position, (0, 0))
                if first < last:
                    yield from self._lowerings[position].items((first, last))
            yield from self._stripe_stores(kernel, stripe.made[group.last])
        self._overrides.clear()

    def _point(self, group: Group, number: int, stripe: Work) -> None:
        """Let the places of images that are not resident be those of one stripe."""
        last = self._kernels[group.last]
        assert isinstance(last, ImageKernel)
        parts = [(window.image, window.lines) for window in stripe.windows.values()]
        if self._tensors.root(last.output.tensor) in self._plan.spilled:
            parts.append((last.output, stripe.made[group.last]))
        for image, lines in parts:
            self._overrides[image.tensor] = self._buffer(group, image, number, lines)

    def _buffer(self, group: Group, image: Image, number: int, lines: Lines) -> Placement:
        """Return the place of an image of which a stripe holds some lines: line 0 may be before."""
        stripe = group.buffer_of(image)
        layout = self._tensors.layout(image)
        start = self._plan.addresses[stripe.name]
        start += number % stripe.buffers * self._striper.buffer_size(stripe)
        return Placement(
            address=start - lines[0] * layout.line, pixel=layout.pixel, line=layout.line
        )

    def _arrivals(
        self, group: Group, number: int, stripe: Work, before: Work | None, names: set[str]
    ) -> Iterator[Item]:
        """Yield what brings the windows of a stripe, of some tensors, into their buffers.

        Lines that the stripe before held are copied; of spilled tensors, the others are loaded.
        """
        for window in stripe.windows.values():
            root = self._tensors.root(window.image.tensor)
            if root not in names:
                continue
            image, (first, last) = window.image, window.lines
            place = self._buffer(group, image, number, window.lines)
            layer = self._kernels[group.first].layer
            if window.fresh > first:
                assert before is not None
                held = before.windows[image.tensor].lines
                source = self._buffer(group, image, number - 1, held)
                copy = isa.Vector(
                    op=isa.VectorOp.COPY,
                    rows=window.fresh - first,
                    length=image.width * image.channels,
                    addr=place.at(first, 0),
                    row_step=place.line,
                    a=source.at(first, 0),
                    a_step=source.line,
                )
                yield Item(instruction=copy, layer=layer)
            if root in self._plan.spilled and window.fresh < last:
                region, offset = self._homes[root]
                line = image.width * image.channels
                count = (last - window.fresh) * line
                load = isa.Load(
                    region=region,
                    offset=offset + window.fresh * line,
                    run=count,
                    total=count,
                    addr=place.at(window.fresh, 0),
                )
                fields = segments(image, self._tensors.layout(image), count)
                yield Item(instruction=replace(load, **fields), layer=layer)

    def _stripe_stores(self, kernel: ImageKernel, lines: Lines) -> Iterator[Item]:
        """Yield the stores of the output lines of a stripe, wherever they are read again."""
        image = kernel.output
        root = self._tensors.root(image.tensor)
        if root not in self._plan.spilled:
            return
        line = image.width * image.channels
        count = (lines[1] - lines[0]) * line
        homes = [
            (Region.OUTPUT, binding.offset)
            for binding in self._outputs[0]
            if self._tensors.root(binding.tensor) == root
        ]
        read = {
            self._tensors.root(n) for k in self._kernels if k is not kernel for n in operands(k)
        }
        if root in read:
            homes.append(self._homes[root])
        for region, offset in homes:
            store = isa.Store(
                region=region,
                offset=offset + lines[0] * line,
                run=count,
                total=count,
                addr=self._locate(image).at(lines[0], 0),
            )
            fields = segments(image, self._tensors.layout(image), count)
            yield Item(instruction=replace(store, **fields), layer=kernel.layer)

    def _preload(self) -> Iterator[Item]:
        """Yield the loads of the resident inputs, cut into pieces."""
        for binding in self._inputs[0]:
            name = binding.tensor
            if name in self._plan.spilled:
                continue
            yield from self._fill_margin(name)
            margin = self._tensors.margins.get(name)
            start = self._plan.addresses[name] + (margin.offset if margin else 0)
            size = self._tensors.dense_bytes(name)
            unit, step = self._tensors.unit(name) or (_ALIGNMENT, _ALIGNMENT)
            piece = ceil_div(size, _INPUT_PIECES * unit)
            for number in range(0, ceil_div(size, unit), piece):
                count = min(piece * unit, size - number * unit)
                load = isa.Load(
                    region=Region.INPUT,
                    offset=binding.offset + number * unit,
                    run=count,
                    total=count,
                    addr=start + number * step,
                )
                load = replace(load, **self._tensors.whole_segments(name, count))
                yield Item(instruction=load, layer=self._kernels[0].layer)

    def _fill_margin(self, name: str) -> Iterator[Item]:
        """Yield the load that fills an input's place with its padding, before the input comes."""
        margin = self._tensors.margins.get(name)
        if margin is None:
            return
        load = isa.Load(
            region=Region.CONSTANTS,
            offset=len(self._constants),
            run=_ALIGNMENT,
            run_step=0,
            total=margin.nbytes,
            addr=self._plan.addresses[name],
            segment=margin.nbytes,
        )
        self._constants += bytes([margin.value % 256]) * _ALIGNMENT
        yield Item(instruction=load, layer=self._kernels[0].layer)
