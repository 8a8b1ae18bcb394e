"""Rules about the operators beyond those of residual networks: each refuses what it speaks of."""

from dataclasses import replace

import numpy as np
import pytest

from systolith.arch.errors import UnsupportedModelError
from systolith.bench.tflite_schema import Quantization
from systolith.bench.tflite_writer import TfliteModel
from systolith.compiler import rules
from systolith.compiler.frontend import tflite
from systolith.compiler.signatures import ALL

ELSEWHERE = {"ADD", "AVERAGE_POOL_2D", "CONV_2D", "FULLY_CONNECTED", "RESHAPE", "SOFTMAX"}
"""Operators whose rules have their cases in `test_rules`."""

SAME = Quantization(0.5, -3)


@pytest.fixture(scope="module")
def legal():
    """A graph with one of each other operator that obeys every rule."""
    model = TfliteModel()
    x = model.input("x", (1, 6, 5, 4), scale=0.5, zero_point=-3)
    ones, zeros = np.ones((1, 3, 3, 4), np.int8), np.zeros(4, np.int32)
    settings = {"weight_scales": 0.1, "scale": 0.5, "zero_point": -3}
    model.depthwise_conv2d(x, ones, zeros, name="depthwise", **settings)
    model.transpose_conv(
        x, np.ones((4, 3, 3, 4), np.int8), None, size=(12, 10), stride=(2, 2), name="transposed",
        **settings,
    )  # fmt: skip
    for operator in ("SUB", "MUL"):
        model.binary(operator, x, x, scale=2.0, zero_point=0, name=operator)
    for operator in ("ABS", "ELU", "EXP", "GELU", "HARD_SWISH", "LEAKY_RELU", "QUANTIZE", "RELU"):
        model.unary(operator, x, SAME, alpha=0.1, name=operator)
    for operator in ("RELU6", "RELU_0_TO_1", "RELU_N1_TO_1"):
        model.unary(operator, x, SAME, name=operator)
    model.unary("LOGISTIC", x, Quantization(1 / 256, -128), name="LOGISTIC")
    model.unary("TANH", x, Quantization(1 / 128, 0), name="TANH")
    model.max_pool(x, (2, 2), name="largest")
    model.mean(x, (1, 2), scale=0.5, zero_point=0, name="mean")
    model.pad(x, [(0, 0), (1, 2), (0, 1), (0, 0)], name="padded")
    model.pad(x, [(0, 0), (1, 2), (0, 1), (0, 0)], value=5, name="padded2")
    model.concatenation([x, x], 3, name="joined")
    model.slice(x, (0, 1, 0, 0), (1, 2, -1, 4), name="cut")
    model.strided_slice(x, (0, 0, 1, 0), (1, 6, 5, 4), (1, 2, 2, 1), name="strided")
    model.split(x, 3, 2, name="part")
    model.resize_nearest(x, (12, 10), name="resized")
    model.view("EXPAND_DIMS", x, (1, 1, 6, 5, 4), axis=0)
    model.view("SQUEEZE", x, (6, 5, 4))
    return tflite.parse(model.build(), name="legal")


def with_tensor(name, **changes):
    def change(graph):
        tensor = replace(graph.tensors[name], **changes)
        return replace(graph, tensors={**graph.tensors, name: tensor})

    return change


def index_of(graph, kind):
    return next(n for n, operator in enumerate(graph.operators) if operator.kind == kind)


def with_attribute(kind, **changes):
    def change(graph):
        operators = list(graph.operators)
        at = index_of(graph, kind)
        attributes = {**operators[at].attributes, **changes}
        operators[at] = replace(operators[at], attributes=attributes)
        return replace(graph, operators=tuple(operators))

    return change


def with_constant(kind, position, values):
    """Replace a shape, axis or the like by other numbers."""

    def change(graph):
        name = "parameter"
        operators = list(graph.operators)
        at = index_of(graph, kind)
        inputs = list(operators[at].inputs)
        data = np.asarray(values, np.int32)
        old = graph.tensors[inputs[position]]
        inputs[position] = name
        operators[at] = replace(operators[at], inputs=tuple(inputs))
        tensor = replace(old, name=name, data=data, shape=data.shape)
        tensors = {**graph.tensors, name: tensor}
        return replace(graph, operators=tuple(operators), tensors=tensors)

    return change


def reasons(graph):
    with pytest.raises(UnsupportedModelError) as caught:
        rules.check(graph)
    return caught.value.reasons


def test_legal_graph_has_every_other_operator(legal):
    rules.check(legal)
    assert {operator.kind for operator in legal.operators} == set(ALL) - ELSEWHERE


# Rule, change that breaks it, and what the reason says.
CASES = [
    (
        "quantized_activations_are_bytes",
        with_tensor("QUANTIZE", dtype="float32"),
        (
            'tensor "QUANTIZE": input and output of QUANTIZE must be int8 or uint8, not float32; '
            "export the model with int8 or uint8 inputs (inference_input_type)"
        ),
    ),
    (
        "depthwise_channels_agree",
        with_tensor("layer0/weights", shape=(2, 3, 3, 4)),
        (
            "weights must be [1, height, width, channels] with a multiple of the input's channels, "
            "not [2, 3, 3, 4] for an input of 4"
        ),
    ),
    (
        "transposed_windows_give_the_input",
        with_attribute("TRANSPOSE_CONV", stride=(3, 2)),
        (
            'tensor "x": input must have the shape that output, kernel, stride and padding of its '
            "transpose give, not [1, 6, 5, 4] for [1, 4, 5, 4]"
        ),
    ),
    (
        "elements_keep_their_places",
        with_tensor("RELU", shape=(1, 5, 6, 4)),
        "input and output must have one shape, not [1, 6, 5, 4] and [1, 5, 6, 4]",
    ),
    (
        "means_are_over_images",
        with_constant("MEAN", 1, [1]),
        (
            "mean must be over axes 1 and 2, and the output hold one value per channel, not [1] from "
            "[1, 6, 5, 4] to [1, 1, 1, 4]; use a mean over height and width, or AVERAGE_POOL_2D"
        ),
    ),
    (
        "means_are_small",
        with_tensor("x", shape=(1, 1 << 12, 1 << 11, 4)),
        "mean must be over at most 4194304 pixels, not 8388608; use AVERAGE_POOL_2D first",
    ),
    (
        "parts_make_the_whole",
        with_attribute("CONCATENATION", axis=2),
        (
            "inputs must make up the output along an axis that images have, not [1, 6, 5, 4], "
            "[1, 6, 5, 4] to [1, 6, 5, 8] along axis 2; reshape the tensor to NHWC"
        ),
    ),
    (
        "parts_make_the_whole",
        with_attribute("CONCATENATION", axis=7),
        "along axis 7",
    ),
    (
        "parts_are_not_activated",
        with_attribute("CONCATENATION", activation="RELU"),
        "concatenation must have no fused activation, not RELU",
    ),
    (
        "paddings_give_the_output",
        with_constant("PAD", 1, [(0, 0), (1, 2), (0, 2), (0, -1)]),
        (
            "paddings must be positive or zero, along axes that images have, and give the output, not "
            "[[0, 0], [1, 2], [0, 2], [0, -1]] for [1, 6, 5, 4] to [1, 9, 6, 4]"
        ),
    ),
    ("paddings_give_the_output", with_constant("PAD", 1, [1, 2]), "not [1, 2] for"),
    (
        "padding_values_are_constant",
        with_tensor("value", zero_points=(0,)),
        "value of the padding must be one constant of the output's type and quantization",
    ),
    (
        "slice_parameters_agree",
        with_constant("SPLIT", 0, 4),
        "starts, sizes, ends, steps and axis must fit the input's dimensions, not [1] for 4",
    ),
    ("slice_parameters_agree", with_constant("SLICE", 1, [0, 0]), "not [2, 4] for 4 dimensions"),
    (
        "slices_are_plain",
        with_attribute("STRIDED_SLICE", new_axis_mask=2),
        "slice must have no ellipsis, no new axis, and ends that are no offsets, not new_axis_mask",
    ),
    (
        "slices_are_inside",
        with_constant("SLICE", 2, [1, 9, 5, 4]),
        (
            "slices must be inside the input, forward, along axes of images, channels one by one, not "
            "0+1*1, 1+9*1, 0+5*1, 0+4*1 of [1, 6, 5, 4]"
        ),
    ),
    ("slices_are_inside", with_constant("STRIDED_SLICE", 3, [1, -2, 2, 1]), "0+0*-2, 1+2*2"),
    ("slices_are_inside", with_constant("STRIDED_SLICE", 3, [1, 2, 2, 2]), "0+2*2 of"),
    (
        "resizes_give_the_output",
        with_constant("RESIZE_NEAREST_NEIGHBOR", 1, [12, 11]),
        (
            "output must have the size that the second input names, and the input's channels, not "
            "[1, 12, 10, 4] for [12, 11]"
        ),
    ),
    (
        "products_are_small",
        with_tensor("MUL", scales=(0.25,)),
        "product of the input scales over the output scale must be below 1, not 1.0",
    ),
    (
        "scales_are_similar",
        with_tensor("ABS", scales=(2.0**-30,)),
        "input scale over output scale must be between 2^-22 and 2^22, not 536870912.0",
    ),
    (
        "slopes_are_not_negative",
        with_attribute("LEAKY_RELU", alpha=-0.5),
        "slope must be positive or zero, not -0.5; use a slope that is not negative",
    ),
    (
        "curves_have_fixed_outputs",
        with_tensor("LOGISTIC", zero_points=(0,)),
        (
            "output must have scale 1/256 and zero point -128 (LOGISTIC), or 1/128 and 0 (TANH), not "
            "0.00390625 and 0"
        ),
    ),
    (
        "arguments_are_in_range",
        with_tensor("x", scales=(2.0**21,)),
        "input scale must be between 2^-20 and 2^20, not 2097152.0",
    ),
    (
        "hard_swish_fits_sixteen_bits",
        with_tensor("HARD_SWISH", scales=(0.0001,)),
        (
            "input scale over output scale must be between 2^-8 and 2^7, and input scale below 2^8, not "
            "0.5 and 0.0001"
        ),
    ),
]


@pytest.mark.parametrize(("name", "change", "message"), CASES)
def test_broken_rule_is_named(legal, name, change, message):
    broken = reasons(change(legal))
    assert any(message in reason for reason in broken), broken
    rule = next(rule for rule in rules.RULES if rule.check.__name__ == name)
    assert rule.text[1:] in next(reason for reason in broken if message in reason)


def test_subtraction_without_an_exact_addition_is_refused(legal, monkeypatch):
    monkeypatch.setattr("systolith.compiler.rules_arithmetic.sub_parameters", lambda *_: None)
    (reason,) = reasons(legal)
    assert (
        'tensor "SUB": an addition must exist that gives the bytes of the subtraction for all '
        "operands, not 0.5, 0.5, 2.0; quantize again with other scales"
    ) in reason


def test_every_other_rule_has_a_case():
    others = {rule.check.__name__ for rule in rules.RULES if not ELSEWHERE & set(rule.kinds)}
    assert others == {name for name, _, _ in CASES} | {"differences_are_exact"}


def test_batches_are_refused_only_where_images_are_needed(legal):
    graph = with_tensor("x", shape=(2, 3, 5, 4))(legal)
    broken = [reason for reason in reasons(graph) if "batch must be 1" in reason]
    named = {reason.split("(")[1].split(")")[0] for reason in broken}
    assert named == {
        "DEPTHWISE_CONV_2D",
        "MAX_POOL_2D",
        "MEAN",
        "RESIZE_NEAREST_NEIGHBOR",
        "TRANSPOSE_CONV",
    }


def test_elements_may_have_any_batch():
    model = TfliteModel()
    x = model.input("x", (3, 4, 5, 6), scale=0.5, zero_point=0)
    y = model.unary("RELU", x, SAME)
    model.binary("MUL", y, x, scale=1.0, zero_point=0)
    rules.check(tflite.parse(model.build()))
