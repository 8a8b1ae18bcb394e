"""Rules about operators that move bytes: where in an image their axes lie, and what is inside."""

from collections.abc import Iterator
from functools import partial

from systolith.compiler import images
from systolith.compiler.images import CHANNELS
from systolith.compiler.ruleset import (
    DAMAGED,
    Rule,
    Site,
    Stage,
    Verdict,
    elements,
    register,
)
from systolith.compiler.signatures import PADS, SLICES, VIEWS
from systolith.compiler.slices import Take, takes

_NHWC = "reshape the tensor to NHWC with a batch of 1"

RULES: list[Rule] = []
_rule = partial(register, RULES, Stage.GEOMETRY)


@_rule(VIEWS, DAMAGED)
def views_keep_elements(site: Site) -> Iterator[Verdict]:
    """Input and output must have as many elements."""
    given, wanted = elements(site.output.shape), elements(site.source.shape)
    yield Verdict(given == wanted, site.output.name, f"{given} and {wanted}")


@_rule(("CONCATENATION",), _NHWC)
def parts_make_the_whole(site: Site) -> Iterator[Verdict]:
    """Inputs must make up the output along an axis that images have."""
    shapes = [tensor.shape for tensor in site.operands]
    output, axis = site.output.shape, site.operator.attributes["axis"]
    ok = -len(output) <= axis < len(output) and all(len(s) == len(output) for s in shapes)
    if ok:
        axis %= len(output)
        rests = {(*shape[:axis], *shape[axis + 1 :]) for shape in (*shapes, output)}
        ok = len(rests) == 1 and sum(shape[axis] for shape in shapes) == output[axis]
        ok = ok and images.shared_axis([*shapes, output], axis) is not None
    text = ", ".join(str(list(shape)) for shape in shapes)
    yield Verdict(ok, site.output.name, f"{text} to {list(output)} along axis {axis}")


@_rule(("CONCATENATION",), "use a separate operator for the activation")
def parts_are_not_activated(site: Site) -> Iterator[Verdict]:
    """Concatenation must have no fused activation."""
    activation = site.operator.attributes["activation"]
    yield Verdict(activation == "NONE", site.output.name, activation)


@_rule(PADS, _NHWC)
def paddings_give_the_output(site: Site) -> Iterator[Verdict]:
    """Paddings must be positive or zero, along axes that images have, and give the output."""
    shape, output = site.source.shape, site.output.shape
    table = site.parameter(1)
    ok = table.shape == (len(shape), 2) and len(output) == len(shape)
    if ok:
        ok = bool((table >= 0).all())
        ok = ok and output == tuple(int(n) for n in table.sum(axis=1) + shape)
        for axis in range(len(shape)):
            padded = bool(table[axis].any())
            ok = ok and (not padded or images.shared_axis([shape, output], axis) is not None)
    yield Verdict(ok, site.output.name, f"{table.tolist()} for {list(shape)} to {list(output)}")


@_rule(("PADV2",), DAMAGED)
def padding_values_are_constant(site: Site) -> Iterator[Verdict]:
    """Value of the padding must be one constant of the output's type and quantization."""
    value, output = site.input(2), site.output
    ok = value.data is not None and elements(value.shape) == 1 and value.dtype == output.dtype
    ok = ok and (value.scales, value.zero_points) == (output.scales, output.zero_points)
    yield Verdict(ok, value.name, f"{value.dtype} {value.scales} {value.zero_points}")


@_rule(SLICES, DAMAGED)
def slice_parameters_agree(site: Site) -> Iterator[Verdict]:
    """Starts, sizes, ends, steps and axis must fit the input's dimensions."""
    rank = len(site.source.shape)
    sizes = [site.parameter(position).size for position in site.signature.parameters]
    if site.kind == "SPLIT":
        axis = site.parameter(0).reshape(-1).tolist()
        ok = sizes == [1] and -rank <= axis[0] < rank
    elif site.kind == "SLICE":
        ok = sizes == [rank, rank]
    else:
        ok = len(set(sizes)) == 1 and sizes[0] <= rank
    yield Verdict(ok, site.output.name, f"{sizes} for {rank} dimensions")


@_rule(("STRIDED_SLICE",), "use plain slices")
def slices_are_plain(site: Site) -> Iterator[Verdict]:
    """Slice must have no ellipsis, no new axis, and ends that are no offsets."""
    attributes = site.operator.attributes
    found = [name for name in ("ellipsis_mask", "new_axis_mask", "offset") if attributes[name]]
    yield Verdict(not found, site.output.name, ", ".join(found))


@_rule(SLICES, _NHWC)
def slices_are_inside(site: Site) -> Iterator[Verdict]:
    """Slices must be inside the input, forward, along axes of images, channels one by one."""
    if not all(verdict.ok for verdict in slice_parameters_agree(site)):
        return
    for output, taken in zip(site.outputs, takes(site), strict=True):
        ok = all(_is_cut(site, axis, take) for axis, take in enumerate(taken))
        count = 1
        for take in taken:
            count *= take.size
        ok = ok and count == elements(output.shape)
        text = ", ".join(f"{take.start}+{take.size}*{take.step}" for take in taken)
        yield Verdict(ok, output.name, f"{text} of {list(site.source.shape)}")


def _is_cut(site: Site, axis: int, take: Take) -> bool:
    """Whether one axis can be cut like this."""
    shape = site.source.shape
    if not take.fits(shape[axis]):
        return False
    if take == Take(0, shape[axis], 1):
        return True
    place = images.image_axis(shape, axis)
    if place is None:
        return False
    return take.step == 1 or (place.unit == 1 and place.axis != CHANNELS)


@_rule(("RESIZE_NEAREST_NEIGHBOR",), DAMAGED)
def resizes_give_the_output(site: Site) -> Iterator[Verdict]:
    """Output must have the size that the second input names, and the input's channels."""
    size = site.parameter(1).reshape(-1).tolist()
    shape = site.output.shape
    ok = list(shape[1:3]) == size and shape[3] == site.source.shape[3]
    yield Verdict(ok, site.output.name, f"{list(shape)} for {size}")
