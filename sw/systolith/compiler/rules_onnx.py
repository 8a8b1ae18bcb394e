"""The rules that an ONNX model must obey, in the manner of `rules`.

Rules are functions whose docstring is the rule; all broken ones are reported at once. Operators
here are those that `frontend.onnx_qdq` makes of a model in QDQ form.
"""

import math
from collections.abc import Iterator
from functools import partial

import numpy as np

from systolith.arch import float32, numerics
from systolith.arch.errors import UnsupportedModelError
from systolith.compiler import resize_onnx
from systolith.compiler.frontend.onnx_qdq import FORMULA
from systolith.compiler.ir import Graph, Operator, Tensor
from systolith.compiler.layout_onnx import MOVES, Orders
from systolith.compiler.legalize_onnx import (
    matrix_outputs,
    mean_factor,
    product_factor,
    sum_factors,
    weight_factors,
)
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
    STATIC,
    Rule,
    Site,
    Stage,
    Verdict,
    reason,
    register,
)

INPUT_COUNTS: dict[str, tuple[int, int]] = {
    "Add": (2, 2),
    "AveragePool": (1, 1),
    "Concat": (1, 64),
    "Conv": (2, 3),
    FORMULA: (1, 1),
    "Flatten": (1, 1),
    "Gemm": (2, 3),
    "GlobalAveragePool": (1, 1),
    "MatMul": (2, 2),
    "MaxPool": (1, 1),
    "Mul": (2, 2),
    "Pad": (1, 4),
    "ReduceMean": (1, 2),
    "Reshape": (1, 2),
    "Resize": (1, 4),
    "Softmax": (1, 1),
    "Squeeze": (1, 2),
    "Transpose": (1, 1),
    "Unsqueeze": (1, 2),
    "Upsample": (1, 2),
}
"""Operators that the compiler knows: fewest (all of them given) and most inputs."""

ALL = tuple(INPUT_COUNTS)
WEIGHTED = ("Conv", "Gemm", "MatMul")
MATRICES = ("Gemm", "MatMul")
BINARY = ("Add", "Mul")
POOLS = ("AveragePool", "MaxPool")
WINDOWED = ("Conv", *POOLS)
RESIZED = ("Resize", "Upsample")
IMAGED = (*WINDOWED, "GlobalAveragePool", "Pad", "ReduceMean", *RESIZED)

QDQ = "quantize the model in QDQ form, with QuantizeLinear behind every operator"
_IMAGE_RANK = 4
MAX_ELEMENTS = 1 << 22
MAX_RANK = 6
MAX_BIAS_ERROR = 1e-3
MAX_FACTOR_LOG2 = 16
MAX_SOFTMAX_DEPTH = 4096
_DTYPES = ("int8", "uint8")


class _Site(Site):
    """An operator of an ONNX graph."""

    @property
    def read(self) -> list[Tensor]:
        """Activations that the operator reads; of two operands one may be a constant."""
        count = 1
        if self.operator.kind in BINARY or self.operator.kind == "Concat":
            count = len(self.operator.inputs)
        tensors = [self.input(position) for position in range(count)]
        constants = [tensor for tensor in tensors if tensor.data is not None]
        if self.operator.kind in BINARY and len(constants) == 1 and constants[0].scales:
            tensors.remove(constants[0])
        return tensors

    @property
    def all_activations(self) -> list[Tensor]:
        """Activations read, then the one written."""
        return [*self.read, self.output]


RULES: list[Rule] = []
_arity_rule = partial(register, RULES, Stage.ARITY)
_form_rule = partial(register, RULES, Stage.FORM)
_geometry_rule = partial(register, RULES, Stage.GEOMETRY)
_arithmetic_rule = partial(register, RULES, Stage.ARITHMETIC)


def _activations(site: Site) -> list[Tensor]:
    assert isinstance(site, _Site)
    return site.all_activations


@_arity_rule(ALL, DAMAGED)
def operands(site: Site) -> Iterator[Verdict]:
    """Operator must have the inputs that its definition names."""
    fewest, most = INPUT_COUNTS[site.operator.kind]
    inputs = site.operator.inputs
    ok = fewest <= len(inputs) <= most and None not in inputs[:fewest]
    if site.operator.kind == "Concat":
        ok = ok and None not in inputs
    yield Verdict(ok, site.operator.outputs[0], f"{len(inputs) - inputs.count(None)} inputs")


@_form_rule(ALL, QDQ)
def activations_are_bytes(site: Site) -> Iterator[Verdict]:
    """Activations must be quantized to int8 or uint8."""
    for tensor in _activations(site):
        yield Verdict(tensor.dtype in _DTYPES, tensor.name, tensor.dtype)


@_form_rule(ALL, STATIC, most=MAX_ELEMENTS, rank=MAX_RANK)
def activations_have_shapes(site: Site) -> Iterator[Verdict]:
    """Activations must have a static shape of 1 to {rank} dimensions and at most {most} elements."""
    for tensor in _activations(site):
        ok = 1 <= len(tensor.shape) <= MAX_RANK and min(tensor.shape, default=0) >= 1
        yield Verdict(
            ok and math.prod(tensor.shape) <= MAX_ELEMENTS, tensor.name, list(tensor.shape)
        )


@_form_rule(ALL, "quantize activations per tensor")
def activations_have_one_scale(site: Site) -> Iterator[Verdict]:
    """Activations must have one positive scale and a zero point in the range of their type."""
    for tensor in _activations(site):
        if tensor.dtype in _DTYPES:
            ok = len(tensor.scales) == 1 and _are_positive(tensor) and _zeros_fit(tensor)
            yield Verdict(ok, tensor.name, f"{_few(tensor.scales)} and {_few(tensor.zero_points)}")


@_form_rule(ALL, "fold the constant into a neighboring operator")
def activations_are_computed(site: Site) -> Iterator[Verdict]:
    """Activations must be computed or inputs of the model, except for one scalar of Add or Mul."""
    assert isinstance(site, _Site)
    for tensor in site.all_activations:
        yield Verdict(tensor.data is None, tensor.name, "constant")
    if site.operator.kind in BINARY:
        for position in range(2):
            tensor = site.input(position)
            if tensor.data is not None and tensor not in site.read:
                ok = tensor.data.size == 1 and tensor.dtype in _DTYPES and len(tensor.scales) == 1
                ok = ok and _are_positive(tensor) and _zeros_fit(tensor)
                yield Verdict(ok, tensor.name, f"{tensor.dtype} of shape {list(tensor.shape)}")


@_form_rule(IMAGED, "reshape the tensor to NCHW with batch 1")
def images_are_nchw(site: Site) -> Iterator[Verdict]:
    """Images must have four dimensions, NCHW, with batch 1."""
    for tensor in _activations(site):
        ok = len(tensor.shape) == _IMAGE_RANK and tensor.shape[0] == 1
        if site.operator.kind == "ReduceMean" and tensor is site.output:
            ok = len(tensor.shape) in (2, _IMAGE_RANK)
        yield Verdict(ok, tensor.name, list(tensor.shape))


@_form_rule(WEIGHTED, QDQ)
def weights_are_constant(site: Site) -> Iterator[Verdict]:
    """Weights must be constant, int8 or uint8, with two dimensions or, in Conv, four."""
    weights = site.input(1)
    rank = _IMAGE_RANK if site.operator.kind == "Conv" else 2
    ok = weights.dtype in _DTYPES and weights.data is not None
    ok = ok and len(weights.shape) == rank and min(weights.shape) >= 1
    storage = "computed" if weights.data is None else "constant"
    yield Verdict(ok, weights.name, f"{storage} {weights.dtype} of shape {list(weights.shape)}")


@_form_rule(WEIGHTED, "quantize the weights per tensor or per output channel")
def weights_have_scales(site: Site) -> Iterator[Verdict]:
    """Weights must have one positive scale, or one for each output channel, and zero points."""
    weights = site.input(1)
    axis = weight_axis(site.operator)
    count = len(weights.scales)
    per_channel = (
        weights.axis == axis and axis < len(weights.shape) and count == weights.shape[axis]
    )
    ok = (count == 1 or per_channel) and _are_positive(weights) and _zeros_fit(weights)
    yield Verdict(ok, weights.name, f"{_few(weights.scales)} along axis {weights.axis}")


@_form_rule(WEIGHTED, "quantize the bias to int32 with zero point 0")
def biases_are_constant(site: Site) -> Iterator[Verdict]:
    """Bias must be constant, int32 with zero point 0 or float32, one element per output channel."""
    bias = site.find(2)
    if bias is not None:
        size = math.prod(bias.shape)
        weights = site.input(1)
        axis = weight_axis(site.operator)
        channels = weights.shape[axis] if axis < len(weights.shape) else 0
        ok = bias.dtype in ("int32", "float32") and bias.data is not None and size == channels
        ok = ok and not any(bias.zero_points)
        if ok and bias.dtype == "float32" and bias.data is not None:
            ok = bool(np.all(np.isfinite(bias.data)))
        yield Verdict(ok, bias.name, f"{bias.dtype} with {size} elements for {channels}")


@_form_rule(("Reshape", "Squeeze", "Unsqueeze", *RESIZED, "Pad"), STATIC)
def shapes_are_constant(site: Site) -> Iterator[Verdict]:
    """Shapes, axes, scales and paddings must be constant."""
    for position in range(1, len(site.operator.inputs)):
        tensor = site.find(position)
        if tensor is not None:
            yield Verdict(tensor.data is not None, tensor.name, "computed")


@_geometry_rule(WINDOWED, DAMAGED)
def windows_are_positive(site: Site) -> Iterator[Verdict]:
    """Kernel, strides and dilations must be positive, paddings not negative."""
    attributes = site.operator.attributes
    numbers = (*attributes["kernel"], *attributes["stride"], *attributes["dilation"])
    ok = len(attributes["kernel"]) == 2 and min(numbers) >= 1 and min(attributes["pads"]) >= 0
    yield Verdict(ok, site.output.name, f"{list(numbers)} and {list(attributes['pads'])}")


@_geometry_rule(
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


@_geometry_rule(IMAGED, "use smaller images", lines=MAX_LINES, line_bytes=MAX_LINE_BYTES)
def images_are_small(site: Site) -> Iterator[Verdict]:
    """Images must have at most {lines} lines of at most {line_bytes} bytes."""
    for tensor in _activations(site):
        if len(tensor.shape) == _IMAGE_RANK:
            _, channels, height, width = tensor.shape
            ok = height <= MAX_LINES and width * channels <= MAX_LINE_BYTES
            yield Verdict(ok, tensor.name, f"{height} lines of {width * channels} bytes")


@_geometry_rule(("Conv",), DAMAGED)
def groups_agree(site: Site) -> Iterator[Verdict]:
    """Weights must have the channels of the input over the groups, and outputs for each group."""
    groups, weights = site.operator.attributes["group"], site.input(1).shape
    given = site.input().shape[1]
    ok = groups >= 1 and weights[1] * groups == given and weights[0] % groups == 0
    yield Verdict(ok, site.input(1).name, f"{list(weights)} in {groups} groups for {given}")


@_geometry_rule(POOLS, "pool without dilation")
def pools_are_dense(site: Site) -> Iterator[Verdict]:
    """Pools must have dilation 1."""
    dilation = site.operator.attributes["dilation"]
    yield Verdict(all(step == 1 for step in dilation), site.output.name, list(dilation))


@_geometry_rule(POOLS, DAMAGED)
def windows_meet_the_image(site: Site) -> Iterator[Verdict]:
    """Windows of pools must begin in the image or before it, and meet at least one pixel."""
    attributes, sizes = site.operator.attributes, site.input().shape[2:]
    for axis in range(2):
        kernel, before = attributes["kernel"][axis], attributes["pads"][axis]
        last = (attributes["output"][axis] - 1) * attributes["stride"][axis] - before
        ok = before < kernel and last < sizes[axis]
        yield Verdict(ok, site.output.name, f"{before} before and {last} of {sizes[axis]}")


@_geometry_rule(("ReduceMean",), "use a mean over height and width")
def means_are_over_images(site: Site) -> Iterator[Verdict]:
    """Mean must be over height and width."""
    axes = site.operator.attributes["axes"]
    yield Verdict(axes == (2, 3), site.output.name, list(axes))


@_geometry_rule(MATRICES, "fold the factors into the scales")
def products_are_plain(site: Site) -> Iterator[Verdict]:
    """Product must have alpha and beta 1 and an input that is not transposed."""
    attributes = site.operator.attributes
    ok = attributes["alpha"] == attributes["beta"] == 1.0 and not attributes["transpose_a"]
    value = f"{attributes['alpha']}, {attributes['beta']}, {attributes['transpose_a']}"
    yield Verdict(ok, site.output.name, value)


@_geometry_rule(MATRICES, DAMAGED, most=MAX_LINE_BYTES)
def matrices_agree(site: Site) -> Iterator[Verdict]:
    """Input must have the features of the weights, and at most {most} elements."""
    weights = site.input(1).shape
    features = math.prod(weights) // matrix_outputs(site.operator, weights)
    input = site.input()
    ok = input.shape[-1] == features and math.prod(input.shape) <= MAX_LINE_BYTES
    ok = ok and math.prod(site.output.shape) <= MAX_LINE_BYTES
    yield Verdict(ok, input.name, f"{list(input.shape)} for {list(weights)}")


@_geometry_rule(BINARY, "give both operands the same shape; broadcast is not supported")
def operands_have_one_shape(site: Site) -> Iterator[Verdict]:
    """Operands and output must have one shape, apart from a constant scalar."""
    shapes = [tensor.shape for tensor in _activations(site)]
    text = ", ".join(str(list(shape)) for shape in shapes)
    yield Verdict(len(set(shapes)) == 1, site.output.name, text)


@_geometry_rule(("Concat",), "join images along any axis but the batch, matrices along the last")
def parts_fit(site: Site) -> Iterator[Verdict]:
    """Parts must differ along the axis of a Concat only, which may not be the batch."""
    axis, output = site.operator.attributes["axis"], site.output.shape
    rank = len(output)
    axes = (1, 2, 3) if rank == _IMAGE_RANK else (rank - 1,)
    assert isinstance(site, _Site)
    for tensor in site.read:
        rest = (*tensor.shape[:axis], *tensor.shape[axis + 1 :])
        ok = axis in axes and rest == (*output[:axis], *output[axis + 1 :])
        ok = ok and (rank != _IMAGE_RANK or output[0] == 1)
        yield Verdict(ok, tensor.name, f"{list(tensor.shape)} along axis {axis}")


@_geometry_rule((*MOVES, "Transpose"), DAMAGED)
def reshapes_keep_elements(site: Site) -> Iterator[Verdict]:
    """Input and output must have as many elements."""
    given, wanted = math.prod(site.output.shape), math.prod(site.input().shape)
    yield Verdict(given == wanted, site.output.name, f"{given} and {wanted}")


@_geometry_rule(("Pad",), "pad by a constant, outwards")
def paddings_are_constant(site: Site) -> Iterator[Verdict]:
    """Padding must be constant, not negative, and spare the batch."""
    attributes = site.operator.attributes
    pads = attributes["pads"]
    ok = attributes["mode"] == "constant" and min(pads) >= 0 and pads[0] == pads[4] == 0
    ok = ok and math.isfinite(attributes["value"])
    yield Verdict(ok, site.output.name, f"{attributes['mode']} {list(pads)}")


@_geometry_rule(
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


@_arithmetic_rule(WEIGHTED, "quantize again with another output scale", log2=MAX_FACTOR_LOG2)
def factors_are_normal(site: Site) -> Iterator[Verdict]:
    """Input scale times weight scale over output scale must be in 2^-126 to 2^{log2}."""
    factors = weight_factors(site.input(), site.input(1), site.output, 1)
    yield from _normal(site, factors)


@_arithmetic_rule(("AveragePool", "GlobalAveragePool", "ReduceMean"), "quantize again")
def mean_factors_are_normal(site: Site) -> Iterator[Verdict]:
    """Input scale over output scale and count must be a normal float32."""
    yield from _normal(site, [mean_factor(site.input(), site.output, _count(site))])


@_arithmetic_rule(BINARY, "quantize again with another output scale", log2=MAX_FACTOR_LOG2)
def operand_factors_are_small(site: Site) -> Iterator[Verdict]:
    """Factors of both operands must be in 2^-31 to 2^{log2}."""
    a, b = site.input(0), site.input(1)
    factors: tuple[float, ...] = (product_factor(a, b, site.output),)
    if site.operator.kind == "Add":
        factors = sum_factors(a, b, site.output)
    for factor in factors:
        yield Verdict(2.0**-31 <= factor < 2.0**MAX_FACTOR_LOG2, site.output.name, factor)


@_geometry_rule(("Softmax",), "shorten the axis, or move it to the end", most=MAX_SOFTMAX_DEPTH)
def softmax_axes_are_short(site: Site) -> Iterator[Verdict]:
    """Axis of a Softmax must be one of at most {most} elements, and the last before opset 13."""
    axis, shape = site.operator.attributes["axis"], site.input().shape
    ok = 0 <= axis < len(shape) and shape[axis] <= MAX_SOFTMAX_DEPTH
    ok = ok and site.operator.attributes["alone"]
    yield Verdict(ok, site.output.name, f"axis {axis} of {list(shape)}")


@_arithmetic_rule(WEIGHTED, "quantize the bias to int32")
def float_biases_fit(site: Site) -> Iterator[Verdict]:
    """Float bias over the scale of the sums must fit int32."""
    bias, weights = site.find(2), site.input(1)
    if bias is not None and bias.dtype == "float32" and bias.data is not None:
        scales = np.float64(site.input().scale) * np.array(weights.scales)
        with np.errstate(over="ignore"):
            largest = float(np.max(np.abs(bias.data.reshape(-1).astype(np.float64) / scales)))
        yield Verdict(largest < numerics.INT32_MAX, bias.name, largest)


@_arithmetic_rule(WEIGHTED, DAMAGED, most=MAX_BIAS_ERROR)
def bias_scales_agree(site: Site) -> Iterator[Verdict]:
    """Bias scales must be input scale times weight scales, to {most} of their value."""
    bias, weights = site.find(2), site.input(1)
    if bias is None or not bias.scales:
        return
    wanted = np.float64(site.input().scale) * np.array(weights.scales)
    given = np.array(bias.scales)
    if given.size != wanted.size and 1 not in (given.size, wanted.size):
        yield Verdict(False, bias.name, f"{given.size} for {wanted.size}")
        return
    worst = float(np.max(np.abs(given / wanted - 1.0)))
    yield Verdict(worst <= MAX_BIAS_ERROR, bias.name, f"{worst} off")


def weight_axis(operator: Operator) -> int:
    """Return the axis of output channels of the weights."""
    return 0 if operator.kind == "Conv" or operator.attributes["transpose_b"] else 1


def check(graph: Graph) -> None:
    """Check a whole model against all rules.

    Raises
    ------
    UnsupportedModelError
        With a reason for each broken rule.
    """
    found = list(_model_reasons(graph))
    for operator in graph.operators:
        found.extend(_reasons(graph, operator))
    if not found:
        for operator, tensor, text in Orders(graph).problems:
            broken = f"elements must lie in an order that the operator can use, not {text}"
            remedy = "remove transposes and reshapes before it"
            found.append(reason(operator, tensor, broken, remedy))
    if found:
        raise UnsupportedModelError(found)


def _reasons(graph: Graph, operator: Operator) -> list[str]:
    """Return every reason of the first stage that has one."""
    if operator.kind not in ALL:
        broken = f"operator must be one of {', '.join(ALL)}, not {operator.kind}"
        remedy = "replace the operator in the model, or quantize its result"
        return [reason(operator, operator.outputs[0], broken, remedy)]
    site = _Site(graph, operator)
    found: list[str] = []
    for stage in Stage:
        for rule in RULES:
            if rule.stage == stage and operator.kind in rule.kinds:
                found.extend(rule.broken(site))
        if found:
            break
    return found


def _model_reasons(graph: Graph) -> Iterator[str]:
    """Yield the broken rules about the model as a whole."""
    if not graph.operators:
        yield f'Model "{graph.name}" must have an operator, not none; export it again'
    made = {name for operator in graph.operators for name in operator.outputs}
    for name in graph.outputs:
        if name not in made:
            yield (
                f'Output "{name}" of the model must be made by an operator, '
                "not be an input or a constant; remove it from the outputs"
            )
    for name in graph.inputs:
        tensor = graph.tensors[name]
        if (
            tensor.dtype not in _DTYPES
            or len(tensor.scales) != 1
            or min(tensor.shape, default=0) < 1
        ):
            yield (
                f'Input "{name}" of the model must be quantized to int8 or uint8 by the first '
                f"operator and have a static shape, not {tensor.dtype} {list(tensor.shape)}; {QDQ}"
            )
    for side, names in (("Inputs", graph.inputs), ("Outputs", graph.outputs)):
        if not names or len(set(names)) < len(names):
            yield (
                f"{side} of the model must be different tensors and at least one, "
                f"not {', '.join(names) or 'none'}; export the model with each listed once"
            )


def _normal(site: Site, factors: list[float]) -> Iterator[Verdict]:
    for factor in (min(factors), max(factors)):
        try:
            float32.to_bits(factor)
            ok = factor <= 2.0**MAX_FACTOR_LOG2
        except ValueError:
            ok = False
        yield Verdict(ok, site.output.name, factor)


def _count(site: Site) -> int:
    if site.operator.kind == "AveragePool":
        return math.prod(site.operator.attributes["kernel"])
    return math.prod(site.input().shape[2:])


def _are_positive(tensor: Tensor) -> bool:
    return bool(tensor.scales) and all(math.isfinite(s) and s > 0.0 for s in tensor.scales)


def _zeros_fit(tensor: Tensor) -> bool:
    if tensor.dtype not in _DTYPES:
        return False
    limits = np.iinfo(tensor.dtype)
    return all(limits.min <= zero <= limits.max for zero in tensor.zero_points)


def _few(values: tuple[float, ...]) -> str:
    """Return values for a message, which need not list thousands."""
    most = 3
    text = ", ".join(str(value) for value in values[:most]) or "none"
    return text if len(values) <= most else f"{text}, ... ({len(values)} in all)"
