"""Rules about shapes of ONNX models: that they fit each other and the fields of instructions."""

import math
from collections.abc import Iterator
from functools import partial

from systolith.compiler import resize_onnx
from systolith.compiler.factors_onnx import matrix_outputs
from systolith.compiler.layout_onnx import MOVES
from systolith.compiler.rules_geometry import (
    MAX_DILATION_HEIGHT,
    MAX_KERNEL,
    MAX_LINE_BYTES,
    MAX_LINES,
    MAX_STEP_BYTES,
    MAX_STRIDE_HEIGHT,
)
from systolith.compiler.ruleset import (
    DAMAGED,
    Rule,
    Site,
    Stage,
    Verdict,
    register,
)
from systolith.compiler.ruleset_onnx import (
    BINARY,
    IMAGE_RANK,
    IMAGED,
    MATRICES,
    MAX_SOFTMAX_DEPTH,
    POOLS,
    RESIZED,
    WINDOWED,
    OnnxSite,
    site_activations,
)

RULES: list[Rule] = []
_rule = partial(register, RULES, Stage.GEOMETRY)


@_rule(WINDOWED, DAMAGED)
def windows_are_positive(site: Site) -> Iterator[Verdict]:
    """Kernel, strides and dilations must be positive, paddings not negative."""
    attributes = site.operator.attributes
    numbers = (*attributes["kernel"], *attributes["stride"], *attributes["dilation"])
    ok = len(attributes["kernel"]) == 2 and min(numbers) >= 1 and min(attributes["pads"]) >= 0
    yield Verdict(ok, site.output.name, f"{list(numbers)} and {list(attributes['pads'])}")


@_rule(
    WINDOWED,
    "split the operator into smaller ones",
    height=MAX_KERNEL[0],
    width=MAX_KERNEL[1],
    stride=MAX_STRIDE_HEIGHT,
    dilation=MAX_DILATION_HEIGHT,
    step=MAX_STEP_BYTES,
)
def windows_are_small(site: Site) -> Iterator[Verdict]:
    """Kernel must be at most {height} x {width}, its steps {stride} and {dilation} lines, {step} bytes."""
    attributes, pixel = site.operator.attributes, site.input().shape[1]
    (height, width), stride, dilation = (
        attributes["kernel"],
        attributes["stride"],
        attributes["dilation"],
    )
    ok = height <= MAX_KERNEL[0] and width <= MAX_KERNEL[1]
    ok = ok and stride[0] <= MAX_STRIDE_HEIGHT and dilation[0] <= MAX_DILATION_HEIGHT
    ok = ok and max(stride[1], dilation[1]) * pixel <= MAX_STEP_BYTES
    yield Verdict(ok, site.output.name, f"{height} x {width} with {stride} and {dilation}")


@_rule(IMAGED, "use smaller images", lines=MAX_LINES, line_bytes=MAX_LINE_BYTES)
def images_are_small(site: Site) -> Iterator[Verdict]:
    """Images must have at most {lines} lines of at most {line_bytes} bytes."""
    for tensor in site_activations(site):
        if len(tensor.shape) == IMAGE_RANK:
            _, channels, height, width = tensor.shape
            ok = height <= MAX_LINES and width * channels <= MAX_LINE_BYTES
            yield Verdict(ok, tensor.name, f"{height} lines of {width * channels} bytes")


@_rule(("Conv",), DAMAGED)
def groups_agree(site: Site) -> Iterator[Verdict]:
    """Weights must have the channels of the input over the groups, and outputs for each group."""
    groups, weights = site.operator.attributes["group"], site.input(1).shape
    given = site.input().shape[1]
    ok = groups >= 1 and weights[1] * groups == given and weights[0] % groups == 0
    yield Verdict(ok, site.input(1).name, f"{list(weights)} in {groups} groups for {given}")


@_rule(POOLS, "pool without dilation")
def pools_are_dense(site: Site) -> Iterator[Verdict]:
    """Pools must have dilation 1."""
    dilation = site.operator.attributes["dilation"]
    yield Verdict(all(step == 1 for step in dilation), site.output.name, list(dilation))


@_rule(POOLS, DAMAGED)
def windows_meet_the_image(site: Site) -> Iterator[Verdict]:
    """Windows of pools must begin in the image or before it, and meet at least one pixel."""
    attributes, sizes = site.operator.attributes, site.input().shape[2:]
    for axis in range(2):
        kernel, before = attributes["kernel"][axis], attributes["pads"][axis]
        last = (attributes["output"][axis] - 1) * attributes["stride"][axis] - before
        ok = before < kernel and last < sizes[axis]
        yield Verdict(ok, site.output.name, f"{before} before and {last} of {sizes[axis]}")


@_rule(("ReduceMean",), "use a mean over height and width")
def means_are_over_images(site: Site) -> Iterator[Verdict]:
    """Mean must be over height and width."""
    axes = site.operator.attributes["axes"]
    yield Verdict(axes == (2, 3), site.output.name, list(axes))


@_rule(MATRICES, "fold the factors into the scales")
def products_are_plain(site: Site) -> Iterator[Verdict]:
    """Product must have alpha and beta 1 and an input that is not transposed."""
    attributes = site.operator.attributes
    ok = attributes["alpha"] == attributes["beta"] == 1.0 and not attributes["transpose_a"]
    value = f"{attributes['alpha']}, {attributes['beta']}, {attributes['transpose_a']}"
    yield Verdict(ok, site.output.name, value)


@_rule(MATRICES, DAMAGED, most=MAX_LINE_BYTES)
def matrices_agree(site: Site) -> Iterator[Verdict]:
    """Input must have the features of the weights, and at most {most} elements."""
    weights = site.input(1).shape
    features = math.prod(weights) // matrix_outputs(site.operator, weights)
    input = site.input()
    ok = input.shape[-1] == features and math.prod(input.shape) <= MAX_LINE_BYTES
    ok = ok and math.prod(site.output.shape) <= MAX_LINE_BYTES
    yield Verdict(ok, input.name, f"{list(input.shape)} for {list(weights)}")


@_rule(BINARY, "give both operands the same shape; broadcast is not supported")
def operands_have_one_shape(site: Site) -> Iterator[Verdict]:
    """Operands and output must have one shape, apart from a constant scalar."""
    shapes = [tensor.shape for tensor in site_activations(site)]
    text = ", ".join(str(list(shape)) for shape in shapes)
    yield Verdict(len(set(shapes)) == 1, site.output.name, text)


@_rule(("Concat",), "join images along any axis but the batch, matrices along the last")
def parts_fit(site: Site) -> Iterator[Verdict]:
    """Parts must differ along the axis of a Concat only, which may not be the batch."""
    axis, output = site.operator.attributes["axis"], site.output.shape
    rank = len(output)
    axes = (1, 2, 3) if rank == IMAGE_RANK else (rank - 1,)
    assert isinstance(site, OnnxSite)
    for tensor in site.read:
        rest = (*tensor.shape[:axis], *tensor.shape[axis + 1 :])
        ok = axis in axes and rest == (*output[:axis], *output[axis + 1 :])
        ok = ok and (rank != IMAGE_RANK or output[0] == 1)
        yield Verdict(ok, tensor.name, f"{list(tensor.shape)} along axis {axis}")


@_rule((*MOVES, "Transpose"), DAMAGED)
def reshapes_keep_elements(site: Site) -> Iterator[Verdict]:
    """Input and output must have as many elements."""
    given, wanted = math.prod(site.output.shape), math.prod(site.input().shape)
    yield Verdict(given == wanted, site.output.name, f"{given} and {wanted}")


@_rule(("Pad",), "pad by a constant, outwards")
def paddings_are_constant(site: Site) -> Iterator[Verdict]:
    """Padding must be constant, not negative, and spare the batch."""
    attributes = site.operator.attributes
    pads = attributes["pads"]
    ok = attributes["mode"] == "constant" and min(pads) >= 0 and pads[0] == pads[4] == 0
    ok = ok and math.isfinite(attributes["value"])
    yield Verdict(ok, site.output.name, f"{attributes['mode']} {list(pads)}")


@_rule(
    RESIZED,
    "export a nearest-neighbor resize",
    transformations=", ".join(resize_onnx.TRANSFORMATIONS),
)
def resizes_are_nearest(site: Site) -> Iterator[Verdict]:
    """Resize must be nearest, of height and width only, by {transformations}."""
    attributes = site.operator.attributes
    ok = attributes["mode"] == "nearest" and attributes["nearest"] in resize_onnx.NEAREST
    ok = ok and attributes["transformation"] in resize_onnx.TRANSFORMATIONS
    ok = ok and site.output.shape[:2] == site.input().shape[:2]
    value = f"{attributes['mode']}, {attributes['transformation']}, {attributes['nearest']}"
    yield Verdict(ok, site.output.name, value)


@_rule(("Softmax",), "shorten the axis, or move it to the end", most=MAX_SOFTMAX_DEPTH)
def softmax_axes_are_short(site: Site) -> Iterator[Verdict]:
    """Axis of a Softmax must be one of at most {most} elements, and the last before opset 13."""
    axis, shape = site.operator.attributes["axis"], site.input().shape
    ok = 0 <= axis < len(shape) and shape[axis] <= MAX_SOFTMAX_DEPTH
    ok = ok and site.operator.attributes["alone"]
    yield Verdict(ok, site.output.name, f"axis {axis} of {list(shape)}")
