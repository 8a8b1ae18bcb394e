"""Rules about shapes: that they fit each other and the fields of the instructions."""

from collections.abc import Iterator
from functools import partial

from systolith.arch import isa, softmax
from systolith.compiler import geometry
from systolith.compiler.ruleset import (
    DAMAGED,
    WINDOWED,
    Rule,
    Site,
    Stage,
    Verdict,
    elements,
    kernel_size,
    out_channels,
    register,
)


def _largest(instruction: type[isa.Instruction], field: str) -> int:
    """Return the largest value of an instruction field."""
    return isa.field_range(instruction.__dataclass_fields__[field].metadata)[1]


MAX_KERNEL = (_largest(isa.Geometry, "ky_count"), _largest(isa.Geometry, "kx_count"))
MAX_STRIDE_HEIGHT = _largest(isa.Geometry, "row_lines")
MAX_DILATION_HEIGHT = _largest(isa.Geometry, "ky_lines")
MAX_STEP_BYTES = min(_largest(isa.Geometry, "col_step"), _largest(isa.Geometry, "kx_step"))
MAX_LINES = _largest(isa.Geometry, "lines")
MAX_LINE_BYTES = _largest(isa.Geometry, "line_bytes")

RULES: list[Rule] = []
_rule = partial(register, RULES, Stage.GEOMETRY)


@_rule(WINDOWED, "run the images one by one")
def batches_are_one(site: Site) -> Iterator[Verdict]:
    """Batch must be 1."""
    for tensor in site.activations:
        yield Verdict(tensor.shape[0] == 1, tensor.name, tensor.shape[0])


@_rule(WINDOWED, DAMAGED)
def windows_are_positive(site: Site) -> Iterator[Verdict]:
    """Kernel, strides and dilations must be positive."""
    attributes = site.operator.attributes
    numbers = (*kernel_size(site), *attributes["stride"], *attributes.get("dilation", ()))
    yield Verdict(min(numbers) >= 1, site.output.name, ", ".join(map(str, numbers)))


@_rule(
    WINDOWED,
    "split the operator into smaller ones",
    height=MAX_KERNEL[0],
    width=MAX_KERNEL[1],
)
def kernels_are_small(site: Site) -> Iterator[Verdict]:
    """Kernel must be at most {height} x {width}."""
    kernel = kernel_size(site)
    ok = all(size <= most for size, most in zip(kernel, MAX_KERNEL, strict=True))
    yield Verdict(ok, site.output.name, f"{kernel[0]} x {kernel[1]}")


@_rule(
    WINDOWED,
    "use smaller strides",
    most=MAX_STRIDE_HEIGHT,
    step=MAX_STEP_BYTES,
)
def strides_are_small(site: Site) -> Iterator[Verdict]:
    """Strides must be at most {most} lines and {step} bytes, where the window moves at all."""
    for vertical, horizontal in _axes(site):
        steps = vertical.window_step, horizontal.window_step
        ok = steps[0] <= MAX_STRIDE_HEIGHT and steps[1] * _pixel(site) <= MAX_STEP_BYTES
        yield Verdict(ok, site.output.name, f"{steps[0]} lines and {steps[1] * _pixel(site)} bytes")


@_rule(
    ("CONV_2D",),
    "use smaller dilations",
    most=MAX_DILATION_HEIGHT,
    step=MAX_STEP_BYTES,
)
def dilations_are_small(site: Site) -> Iterator[Verdict]:
    """Dilations must be at most {most} lines and {step} bytes, where there are several taps."""
    for vertical, horizontal in _axes(site):
        steps = vertical.tap_step, horizontal.tap_step
        ok = steps[0] <= MAX_DILATION_HEIGHT and steps[1] * _pixel(site) <= MAX_STEP_BYTES
        yield Verdict(ok, site.output.name, f"{steps[0]} lines and {steps[1] * _pixel(site)} bytes")


@_rule(
    WINDOWED,
    "use smaller images",
    lines=MAX_LINES,
    line_bytes=MAX_LINE_BYTES,
)
def images_are_small(site: Site) -> Iterator[Verdict]:
    """Images must have at most {lines} lines of at most {line_bytes} bytes."""
    for tensor in site.activations:
        _, height, width, channels = tensor.shape
        ok = height <= MAX_LINES and width * channels <= MAX_LINE_BYTES
        yield Verdict(ok, tensor.name, f"{height} lines of {width * channels} bytes")


@_rule(("FULLY_CONNECTED",), "split the rows", most=MAX_LINE_BYTES)
def matrices_are_small(site: Site) -> Iterator[Verdict]:
    """Matrices must have at most {most} elements."""
    for tensor in site.activations:
        size = elements(tensor.shape)
        yield Verdict(size <= MAX_LINE_BYTES, tensor.name, size)


@_rule(("CONV_2D",), "replace grouped convolutions by several dense ones")
def channels_agree(site: Site) -> Iterator[Verdict]:
    """Weights must have as many input channels as the input, and no groups."""
    given, wanted = site.weights.shape[3], site.input().shape[3]
    yield Verdict(given == wanted, site.weights.name, f"{given} for an input of {wanted}")


@_rule(WINDOWED, DAMAGED)
def windows_give_the_output(site: Site) -> Iterator[Verdict]:
    """Output must have the shape that input, kernel, stride, dilation and padding give."""
    channels = site.input().shape[3]
    if site.operator.kind == "CONV_2D":
        channels = out_channels(site.weights)
    for vertical, horizontal in _axes(site):
        wanted = (1, vertical.output, horizontal.output, channels)
        ok = site.output.shape == wanted and min(wanted) >= 1
        yield Verdict(ok, site.output.name, f"{list(site.output.shape)} for {list(wanted)}")


@_rule(("FULLY_CONNECTED",), DAMAGED)
def matrices_agree(site: Site) -> Iterator[Verdict]:
    """Input must be rows of as many features as the weights have, and output rows of outputs."""
    outputs, features = site.weights.shape
    rows, rest = divmod(elements(site.input().shape), features)
    ok = rest == 0 and site.output.shape[-1] == outputs
    ok = ok and elements(site.output.shape) == rows * outputs
    shapes = [list(tensor.shape) for tensor in (site.input(), site.weights, site.output)]
    yield Verdict(ok, site.output.name, f"{shapes[0]} times {shapes[1]} to {shapes[2]}")


@_rule(("FULLY_CONNECTED",), "export the weights in the default format")
def weights_are_in_order(site: Site) -> Iterator[Verdict]:
    """Weights must be in the format DEFAULT."""
    layout = site.operator.attributes["weights_format"]
    yield Verdict(layout == "DEFAULT", site.weights.name, layout)


@_rule(("ADD",), "give both operands the same shape; broadcast is not supported")
def operands_have_one_shape(site: Site) -> Iterator[Verdict]:
    """Operands and output of ADD must have one shape."""
    shapes = [tensor.shape for tensor in site.activations]
    text = ", ".join(str(list(shape)) for shape in shapes)
    yield Verdict(len(set(shapes)) == 1, site.output.name, text)


@_rule(("RESHAPE",), DAMAGED)
def reshapes_keep_elements(site: Site) -> Iterator[Verdict]:
    """Input and output of RESHAPE must have as many elements."""
    given, wanted = elements(site.output.shape), elements(site.input().shape)
    yield Verdict(given == wanted, site.output.name, f"{given} and {wanted}")


@_rule(("SOFTMAX",), "shorten the last axis", most=softmax.MAX_DEPTH)
def softmax_rows_are_short(site: Site) -> Iterator[Verdict]:
    """Input and output of SOFTMAX must have one shape, whose last axis is at most {most}."""
    given, wanted = site.output.shape, site.input().shape
    ok = given == wanted and given[-1] <= softmax.MAX_DEPTH
    yield Verdict(ok, site.output.name, f"{list(wanted)} and {list(given)}")


def _axes(site: Site) -> Iterator[tuple[geometry.Axis, geometry.Axis]]:
    """Yield the windows, or nothing if one is not positive, of which another rule speaks."""
    if all(verdict.ok for verdict in windows_are_positive(site)):
        yield geometry.axes(site.input().shape[1:3], kernel_size(site), site.operator.attributes)


def _pixel(site: Site) -> int:
    """Return the bytes of one input pixel."""
    return site.input().shape[3]
