"""Rules about shapes: that they fit each other and the fields of the instructions."""

from collections.abc import Iterator
from functools import partial

from systolith.arch import isa, softmax
from systolith.compiler import geometry
from systolith.compiler.images import image_of
from systolith.compiler.ir import Tensor
from systolith.compiler.legal_sums import transposed_windows
from systolith.compiler.ruleset import (
    DAMAGED,
    Rule,
    Site,
    Stage,
    Verdict,
    elements,
    kernel_size,
    register,
)
from systolith.compiler.signatures import BINARY, IMAGED, TABLED, WINDOWED


def _largest(instruction: type[isa.Instruction], field: str) -> int:
    """Return the largest value of an instruction field."""
    return isa.field_range(instruction.__dataclass_fields__[field].metadata)[1]


MAX_KERNEL = (_largest(isa.Geometry, "ky_count"), _largest(isa.Geometry, "kx_count"))
MAX_STRIDE_HEIGHT = _largest(isa.Geometry, "row_lines")
MAX_DILATION_HEIGHT = _largest(isa.Geometry, "ky_lines")
MAX_STEP_BYTES = min(_largest(isa.Geometry, "col_step"), _largest(isa.Geometry, "kx_step"))
MAX_LINES = _largest(isa.Geometry, "lines")
# Sums of so many int8 values less a zero point fit int32.
MAX_MEAN_PIXELS = 1 << 22
# Far beyond any model of grouped convolutions; it bounds the memory that a hostile file takes.
MAX_SPREAD_BYTES = 1 << 27
MAX_LINE_BYTES = _largest(isa.Geometry, "line_bytes")

RULES: list[Rule] = []
_rule = partial(register, RULES, Stage.GEOMETRY)


@_rule(IMAGED, "run the images one by one")
def batches_are_one(site: Site) -> Iterator[Verdict]:
    """Batch must be 1."""
    for tensor in site.activations[: 1 if site.kind == "MEAN" else None]:
        yield Verdict(tensor.shape[0] == 1, tensor.name, tensor.shape[0])


@_rule((*WINDOWED, "TRANSPOSE_CONV"), DAMAGED)
def windows_are_positive(site: Site) -> Iterator[Verdict]:
    """Kernel, strides and dilations must be positive."""
    attributes = site.operator.attributes
    numbers = (*kernel_size(site), *attributes["stride"], *attributes.get("dilation", ()))
    yield Verdict(min(numbers) >= 1, site.output.name, ", ".join(map(str, numbers)))


@_rule(
    (*WINDOWED, "TRANSPOSE_CONV"),
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
    ("CONV_2D", "DEPTHWISE_CONV_2D"),
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
    (*IMAGED, *BINARY),
    "use smaller images",
    lines=MAX_LINES,
    line_bytes=MAX_LINE_BYTES,
)
def images_are_small(site: Site) -> Iterator[Verdict]:
    """Images must have at most {lines} lines of at most {line_bytes} bytes."""
    for tensor in site.activations:
        image = image_of(tensor)
        line = image.width * image.channels
        ok = image.height <= MAX_LINES and line <= MAX_LINE_BYTES
        yield Verdict(ok, tensor.name, f"{image.height} lines of {line} bytes")


@_rule(("FULLY_CONNECTED",), "split the rows", most=MAX_LINE_BYTES)
def matrices_are_small(site: Site) -> Iterator[Verdict]:
    """Matrices must have at most {most} elements."""
    for tensor in site.activations:
        size = elements(tensor.shape)
        yield Verdict(size <= MAX_LINE_BYTES, tensor.name, size)


@_rule(("CONV_2D",), DAMAGED)
def channels_agree(site: Site) -> Iterator[Verdict]:
    """Weights must have the input's channels, or divide them into groups of equal size."""
    given, wanted = site.weights.shape[3], site.source.shape[3]
    ok = wanted % given == 0 and site.out_channels % (wanted // given) == 0
    yield Verdict(ok, site.weights.name, f"{given} for an input of {wanted}")


@_rule(("DEPTHWISE_CONV_2D",), DAMAGED)
def depthwise_channels_agree(site: Site) -> Iterator[Verdict]:
    """Weights must be [1, height, width, channels] with a multiple of the input's channels."""
    shape, wanted = site.weights.shape, site.source.shape[3]
    ok = shape[0] == 1 and shape[3] % wanted == 0
    yield Verdict(ok, site.weights.name, f"{list(shape)} for an input of {wanted}")


@_rule(("CONV_2D", "DEPTHWISE_CONV_2D"), "use fewer channels", most=MAX_SPREAD_BYTES)
def spread_weights_are_small(site: Site) -> Iterator[Verdict]:
    """Weights of groups must be at most {most} bytes with zeros for the other groups."""
    shape, channels = site.weights.shape, site.source.shape[3]
    if site.kind == "DEPTHWISE_CONV_2D" and shape[3] == channels:
        return
    size = site.out_channels * shape[1] * shape[2] * channels
    yield Verdict(size <= MAX_SPREAD_BYTES, site.weights.name, size)


@_rule(("TRANSPOSE_CONV",), DAMAGED)
def transposed_windows_give_the_input(site: Site) -> Iterator[Verdict]:
    """Input must have the shape that output, kernel, stride and padding of its transpose give."""
    if all(verdict.ok for verdict in windows_are_positive(site)):
        vertical, horizontal = transposed_windows(site)
        wanted = (1, vertical.output, horizontal.output, site.weights.shape[3])
        ok = site.source.shape == wanted and site.output.shape[3] == site.out_channels
        yield Verdict(ok, site.source.name, f"{list(site.source.shape)} for {list(wanted)}")


@_rule(WINDOWED, DAMAGED)
def windows_give_the_output(site: Site) -> Iterator[Verdict]:
    """Output must have the shape that input, kernel, stride, dilation and padding give."""
    channels = site.source.shape[3]
    if "filter" not in site.operator.attributes:
        channels = site.out_channels
    for vertical, horizontal in _axes(site):
        wanted = (1, vertical.output, horizontal.output, channels)
        ok = site.output.shape == wanted and min(wanted) >= 1
        yield Verdict(ok, site.output.name, f"{list(site.output.shape)} for {list(wanted)}")


@_rule(("FULLY_CONNECTED",), DAMAGED)
def matrices_agree(site: Site) -> Iterator[Verdict]:
    """Input must be rows of as many features as the weights have, and output rows of outputs."""
    outputs, features = site.weights.shape
    rows, rest = divmod(elements(site.source.shape), features)
    ok = rest == 0 and site.output.shape[-1] == outputs
    ok = ok and elements(site.output.shape) == rows * outputs
    shapes = [list(tensor.shape) for tensor in (site.input(), site.weights, site.output)]
    yield Verdict(ok, site.output.name, f"{shapes[0]} times {shapes[1]} to {shapes[2]}")


@_rule(("FULLY_CONNECTED",), "export the weights in the default format")
def weights_are_in_order(site: Site) -> Iterator[Verdict]:
    """Weights must be in the format DEFAULT."""
    layout = site.operator.attributes["weights_format"]
    yield Verdict(layout == "DEFAULT", site.weights.name, layout)


@_rule(BINARY, "give both operands the same shape")
def operands_fit(site: Site) -> Iterator[Verdict]:
    """Operands must have the output's shape, or one value per channel, or be one constant."""
    shapes = [tensor.shape for tensor in site.activations]
    ok = all(_fits(tensor, site.output) for tensor in site.operands)
    ok = ok and any(_is_whole(tensor, site.output) for tensor in site.operands)
    text = ", ".join(str(list(shape)) for shape in shapes)
    yield Verdict(ok, site.output.name, text)


def _is_whole(tensor: Tensor, output: Tensor) -> bool:
    return tensor.data is None and tensor.shape == output.shape


def _fits(tensor: Tensor, output: Tensor) -> bool:
    if _is_whole(tensor, output):
        return True
    size = elements(tensor.shape)
    if size == 1 and tensor.data is not None:
        return True
    return size == output.shape[-1] and tensor.shape[-1] == size


@_rule(TABLED, DAMAGED)
def elements_keep_their_places(site: Site) -> Iterator[Verdict]:
    """Input and output must have one shape."""
    given, wanted = site.output.shape, site.source.shape
    yield Verdict(given == wanted, site.output.name, f"{list(wanted)} and {list(given)}")


@_rule(("MEAN",), "use a mean over height and width, or AVERAGE_POOL_2D")
def means_are_over_images(site: Site) -> Iterator[Verdict]:
    """Mean must be over axes 1 and 2, and the output hold one value per channel."""
    shape, axes = site.source.shape, site.parameter(1).reshape(-1).tolist()
    inside = all(-len(shape) <= axis < len(shape) for axis in axes)
    ok = inside and {axis % len(shape) for axis in axes} == {1, 2}
    ok = ok and elements(site.output.shape) == shape[3] == site.output.shape[-1]
    yield Verdict(ok, site.output.name, f"{axes} from {list(shape)} to {list(site.output.shape)}")


@_rule(("MEAN",), "use AVERAGE_POOL_2D first", most=MAX_MEAN_PIXELS)
def means_are_small(site: Site) -> Iterator[Verdict]:
    """Mean must be over at most {most} pixels."""
    pixels = site.source.shape[1] * site.source.shape[2]
    yield Verdict(pixels <= MAX_MEAN_PIXELS, site.source.name, pixels)


@_rule(("SOFTMAX",), "shorten the last axis", most=softmax.MAX_DEPTH)
def softmax_rows_are_short(site: Site) -> Iterator[Verdict]:
    """Input and output of SOFTMAX must have one shape, whose last axis is at most {most}."""
    given, wanted = site.output.shape, site.source.shape
    ok = given == wanted and given[-1] <= softmax.MAX_DEPTH
    yield Verdict(ok, site.output.name, f"{list(wanted)} and {list(given)}")


def _axes(site: Site) -> Iterator[tuple[geometry.Axis, geometry.Axis]]:
    """Yield the windows, or nothing if one is not positive, of which another rule speaks."""
    if all(verdict.ok for verdict in windows_are_positive(site)):
        yield geometry.axes(site.source.shape[1:3], kernel_size(site), site.operator.attributes)


def _pixel(site: Site) -> int:
    """Return the bytes of one input pixel."""
    return site.source.shape[3]
