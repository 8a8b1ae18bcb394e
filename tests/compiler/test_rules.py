"""Each rule refuses what it speaks of, in words that name operator, tensor, value and remedy."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from systolith.arch.errors import UnsupportedModelError
from systolith.bench.tflite_writer import TfliteModel
from systolith.compiler import rules
from systolith.compiler.frontend import tflite
from systolith.compiler.signatures import ALL

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def legal():
    """A graph with one of each operator that obeys every rule."""
    model = TfliteModel()
    x = model.input("x", (1, 6, 5, 3), scale=0.5, zero_point=-3)
    y = model.conv2d(
        x,
        np.ones((4, 2, 3, 3), np.int8),
        np.zeros(4, np.int32),
        weight_scales=[0.1, 0.2, 0.3, 0.4],
        scale=0.25,
        zero_point=4,
        name="y",
    )
    total = model.add(y, y, scale=0.25, zero_point=5, name="total")
    pooled = model.average_pool(total, (2, 2), name="pooled")
    flat = model.reshape(pooled, (1, 24), name="flat")
    ones = np.ones((7, 24), np.int8)
    logits = model.fully_connected(
        flat,
        ones,
        np.zeros(7, np.int32),
        weight_scale=0.01,
        scale=0.2,
        zero_point=1,
        name="logits",
    )
    model.softmax(logits, name="scores")
    return tflite.parse(model.build(), name="legal")


CONV, ADD, POOL, RESHAPE, DENSE, SOFTMAX = range(6)


def with_tensor(graph, name, **changes):
    tensor = replace(graph.tensors[name], **changes)
    return replace(graph, tensors={**graph.tensors, name: tensor})


def with_operator(graph, index, **changes):
    operators = list(graph.operators)
    operators[index] = replace(operators[index], **changes)
    return replace(graph, operators=tuple(operators))


def with_attribute(graph, index, **changes):
    attributes = {**graph.operators[index].attributes, **changes}
    return with_operator(graph, index, attributes=attributes)


def reasons(graph):
    with pytest.raises(UnsupportedModelError) as caught:
        rules.check(graph)
    assert str(caught.value) == "; ".join(caught.value.reasons)
    return caught.value.reasons


def test_legal_graph_passes(legal):
    rules.check(legal)


def tensor(name, **changes):
    return lambda graph: with_tensor(graph, name, **changes)


def operator(index, **changes):
    return lambda graph: with_operator(graph, index, **changes)


def attribute(index, **changes):
    return lambda graph: with_attribute(graph, index, **changes)


CONV_WEIGHTS, CONV_BIAS = "layer0/weights", "layer0/bias"
DENSE_WEIGHTS, DENSE_BIAS = "layer4/weights", "layer4/bias"
SHAPE = "pooled/shape"

# Rule, change that breaks it, and what the reason says.
CASES = [
    (
        "operands",
        operator(ADD, inputs=("y",)),
        (
            'Operator 1 (ADD), tensor "total": operator must have the inputs and outputs that its '
            "definition names, not 1 inputs and 1 outputs; the file is damaged, export the model again"
        ),
    ),
    ("operands", operator(DENSE, inputs=("flat", None)), "not 1 inputs and 1 outputs"),
    ("operands", operator(CONV, outputs=()), "not 3 inputs and 0 outputs"),
    (
        "activations_are_int8",
        tensor("x", dtype="float32"),
        (
            'Operator 0 (CONV_2D), tensor "x": activations must be int8, not float32; '
            "convert the model with full-integer int8 quantization"
        ),
    ),
    (
        "activations_have_shapes",
        tensor("x", shape=(1, -1, 5, 3)),
        (
            "activations must have a static shape of one dimension or more, without zeros, "
            "not [1, -1, 5, 3]; convert the model with a fixed input shape"
        ),
    ),
    ("activations_have_shapes", tensor("x", shape=()), "not []"),
    ("activations_have_one_scale", tensor("x", scales=(), zero_points=()), "not none and none"),
    ("activations_have_one_scale", tensor("x", scales=(float("nan"),)), "not nan and -3"),
    ("activations_have_one_scale", tensor("x", zero_points=(128,)), "not 0.5 and 128"),
    (
        "activations_are_computed",
        tensor("x", data=np.zeros((1, 6, 5, 3), np.int8)),
        (
            "activations must be computed or inputs of the model, but for one operand of ADD, MUL, "
            "SUB, not constant; "
            "fold the constant into a neighboring operator"
        ),
    ),
    (
        "images_have_four_dimensions",
        tensor("x", shape=(6, 5, 3)),
        "must have four dimensions, NHWC, not [6, 5, 3]; reshape the tensor to NHWC",
    ),
    (
        "weights_are_constant_int8",
        tensor(CONV_WEIGHTS, dtype="int4"),
        'tensor "layer0/weights": weights must be constant and int8, not constant int4',
    ),
    ("weights_are_constant_int8", tensor(DENSE_WEIGHTS, data=None), "not computed int8"),
    (
        "weights_have_shapes",
        tensor(DENSE_WEIGHTS, shape=(7, 2, 12)),
        "must have four dimensions, or two: [outputs, features], not [7, 2, 12]",
    ),
    (
        "weights_are_symmetric",
        tensor(CONV_WEIGHTS, zero_points=(0, 0, 1, 0)),
        (
            "weights must have zero point 0, not 0, 0, 1, ... (4 in all); "
            "quantize the weights symmetrically"
        ),
    ),
    ("weights_have_scales", tensor(CONV_WEIGHTS, axis=3), "along axis 3; quantize the weights per"),
    (
        "weights_have_scales",
        tensor(CONV_WEIGHTS, scales=(0.1, 0.2), zero_points=(0, 0)),
        "one for each output channel along its axis, not 0.1, 0.2 along axis 0",
    ),
    (
        "biases_are_constant_int32",
        tensor(CONV_BIAS, dtype="int64"),
        (
            'tensor "layer0/bias": bias must be constant and int32, with one element for each output '
            "channel, not constant int64 with 4 elements"
        ),
    ),
    ("biases_are_constant_int32", tensor(CONV_BIAS, shape=(1,)), "int32 with 1 elements"),
    (
        "parameters_are_constant",
        tensor(SHAPE, data=None),
        "must be constant integers, not computed int32",
    ),
    (
        "fused_activations",
        attribute(ADD, activation="TANH"),
        (
            "fused activation must be one of NONE, RELU, RELU6, RELU_N1_TO_1, not TANH; "
            "use one of these activations"
        ),
    ),
    ("batches_are_one", tensor("x", shape=(2, 6, 5, 3)), "batch must be 1, not 2"),
    (
        "windows_are_positive",
        attribute(CONV, stride=(0, 1)),
        "kernel, strides and dilations must be positive, not 2, 3, 0, 1, 1, 1",
    ),
    (
        "kernels_are_small",
        attribute(POOL, filter=(65, 2)),
        "kernel must be at most 64 x 64, not 65 x 2; split the operator into smaller ones",
    ),
    (
        "strides_are_small",
        lambda g: with_attribute(with_tensor(g, "x", shape=(1, 60, 5, 3)), CONV, stride=(32, 2)),
        (
            "strides must be at most 31 lines and 262143 bytes, where the window moves at all, "
            "not 32 lines and 6 bytes; use smaller strides"
        ),
    ),
    (
        "dilations_are_small",
        attribute(CONV, dilation=(64, 1)),
        (
            "dilations must be at most 63 lines and 262143 bytes, where there are several taps, "
            "not 64 lines and 3 bytes; use smaller dilations"
        ),
    ),
    (
        "images_are_small",
        tensor("x", shape=(1, 6, 100_000, 3)),
        (
            "images must have at most 16383 lines of at most 262143 bytes, "
            "not 6 lines of 300000 bytes; use smaller images"
        ),
    ),
    (
        "spread_weights_are_small",
        tensor("x", shape=(1, 6, 5, 3 * (1 << 22))),
        "weights of groups must be at most 134217728 bytes with zeros for the other groups, not 3",
    ),
    (
        "matrices_are_small",
        tensor("flat", shape=(11_000, 24)),
        "matrices must have at most 262143 elements, not 264000; split the rows",
    ),
    (
        "channels_agree",
        tensor("x", shape=(1, 6, 5, 7)),
        (
            "weights must have the input's channels, or divide them into groups of equal size, "
            "not 3 for an input of 7"
        ),
    ),
    (
        "windows_give_the_output",
        attribute(CONV, padding="VALID"),
        (
            "output must have the shape that input, kernel, stride, dilation and padding give, "
            "not [1, 6, 5, 4] for [1, 5, 3, 4]"
        ),
    ),
    (
        "matrices_agree",
        tensor("flat", shape=(1, 25)),
        "not [1, 25] times [7, 24] to [1, 7]",
    ),
    (
        "weights_are_in_order",
        attribute(DENSE, weights_format="SHUFFLED4x16INT8"),
        "weights must be in the format DEFAULT, not SHUFFLED4x16INT8",
    ),
    (
        "operands_fit",
        tensor("y", shape=(1, 6, 1, 4)),
        (
            "operands must have the output's shape, or one value per channel, or be one constant, "
            "not [1, 6, 1, 4], [1, 6, 1, 4], [1, 6, 5, 4]; give both operands the same shape"
        ),
    ),
    (
        "views_keep_elements",
        tensor("flat", shape=(2, 24)),
        "input and output must have as many elements, not 48 and 24",
    ),
    (
        "softmax_rows_are_short",
        lambda g: with_tensor(with_tensor(g, "logits", shape=(1, 4096)), "scores", shape=(1, 4096)),
        (
            "must have one shape, whose last axis is at most 4095, not [1, 4096] and [1, 4096]; "
            "shorten the last axis"
        ),
    ),
    (
        "factors_are_small",
        tensor("logits", scales=(1e-12,)),
        "input scale times weight scale over output scale must be below 2^30, not 2",
    ),
    (
        "factors_are_small",
        lambda g: with_tensor(
            with_tensor(g, "flat", scales=(1e38,)), DENSE_WEIGHTS, scales=(1e38,)
        ),
        "must be below 2^30, not inf; quantize again with a larger output scale",
    ),
    (
        "bias_scales_agree",
        tensor(DENSE_BIAS, scales=(0.02,)),
        (
            'tensor "layer4/bias": bias scale must be input scale times weight scale, to 0.02 of the '
            "output scale, not 0.02 for"
        ),
    ),
    (
        "activation_bounds_are_integers",
        lambda g: with_attribute(with_tensor(g, "total", scales=(1e-9,)), ADD, activation="RELU6"),
        "bounds of the fused activation over output scale must fit int32, not 6000000000",
    ),
    (
        "sums_are_small",
        tensor("total", scales=(2.0**-21,)),
        (
            "larger input scale over output scale must be below 2^19, not 524288.0; "
            "quantize again with a larger output scale"
        ),
    ),
    (
        "all_sides_are_quantized_alike",
        tensor("pooled", zero_points=(6,)),
        "outputs must have scale and zero point of the inputs, not 0.25 and 6 for 0.25 and 5",
    ),
    (
        "pools_are_small",
        lambda g: with_attribute(
            with_tensor(
                with_tensor(
                    with_tensor(
                        with_tensor(g, "y", shape=(1, 40, 40, 4)), "x", shape=(1, 40, 40, 3)
                    ),
                    "total",
                    shape=(1, 40, 40, 4),
                ),
                "pooled",
                shape=(1, 8, 8, 4),
            ),
            POOL,
            filter=(33, 33),
            stride=(1, 1),
        ),
        "average must be over at most 1024 pixels, not 1089; pool in two steps",
    ),
    (
        "softmax_outputs_are_fixed",
        tensor("scores", zero_points=(0,)),
        "output of SOFTMAX must have scale 1/256 and zero point -128, not 0.00390625 and 0",
    ),
    (
        "softmax_factors_are_small",
        attribute(SOFTMAX, beta=1000.0),
        "beta times input scale must be above 2^-26 and below 16, not 200.0",
    ),
]


@pytest.mark.parametrize(("name", "change", "message"), CASES)
def test_broken_rule_is_named(legal, name, change, message):
    broken = reasons(change(legal))
    assert any(message in reason for reason in broken), broken
    rule = next(rule for rule in rules.RULES if rule.check.__name__ == name)
    assert rule.text[1:] in next(reason for reason in broken if message in reason)


def test_every_rule_about_these_operators_has_a_case(legal):
    kinds = {operator.kind for operator in legal.operators}
    named = {rule.check.__name__ for rule in rules.RULES if kinds & set(rule.kinds)}
    assert named == {name for name, _, _ in CASES}


@pytest.mark.parametrize(
    "change",
    [
        # One window never moves, and one tap has no neighbor: such numbers do not matter.
        lambda g: with_attribute(g, POOL, stride=(2, 2)),
        lambda g: with_operator(g, DENSE, inputs=("flat", DENSE_WEIGHTS)),
        lambda g: with_operator(g, DENSE, inputs=("flat", DENSE_WEIGHTS, None)),
        lambda g: with_operator(g, RESHAPE, inputs=("pooled",), attributes={}),
        lambda g: with_tensor(g, DENSE_WEIGHTS, scales=(0.01,) * 7, zero_points=(0,) * 7),
    ],
)
def test_optional_parts_may_be_left_out(legal, change):
    rules.check(change(legal))


def test_single_window_may_have_any_stride(legal):
    graph = with_tensor(legal, "pooled", shape=(1, 1, 1, 4))
    graph = with_attribute(graph, POOL, filter=(6, 5), stride=(500, 500))
    broken = reasons(graph)
    assert [reason for reason in broken if "(AVERAGE_POOL_2D)" in reason] == []


def test_all_reasons_are_collected(legal):
    graph = with_tensor(legal, "x", dtype="int16")
    graph = with_tensor(graph, CONV_WEIGHTS, zero_points=(1, 1, 1, 1))
    graph = with_operator(graph, ADD, kind="DIV")
    graph = with_attribute(graph, SOFTMAX, beta=0.0)
    broken = reasons(graph)
    assert [reason.split(":")[0] for reason in broken] == [
        'Operator 0 (CONV_2D), tensor "x"',
        'Operator 0 (CONV_2D), tensor "layer0/weights"',
        'Operator 1 (DIV), tensor "total"',
        'Operator 5 (SOFTMAX), tensor "logits"',
    ]


def test_unknown_operator_is_named(legal):
    (broken,) = reasons(with_operator(legal, ADD, kind="DIV"))
    assert broken == (
        f'Operator 1 (DIV), tensor "total": operator must be one of {", ".join(ALL)}, '
        "not DIV; replace the operator in the model"
    )


def test_float_outputs_have_their_own_remedy(legal):
    (broken,) = reasons(with_operator(legal, SOFTMAX, kind="DEQUANTIZE"))
    assert broken.endswith("export the model with int8 or uint8 outputs (inference_output_type)")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"operators": ()}, 'Model "legal" must have an operator, not none'),
        ({"outputs": ("x",)}, 'Output "x" of the model must be made by an operator'),
        ({"outputs": ("y", "y")}, "Outputs of the model must be different tensors .* not y, y"),
        ({"inputs": ()}, "Inputs of the model must be .* at least one, not none"),
    ],
)
def test_model_as_a_whole_obeys_rules(legal, change, message):
    with pytest.raises(UnsupportedModelError, match=message):
        rules.check(replace(legal, **change))


def test_float_model_is_refused_for_its_activations(legal):
    tensors = {
        name: replace(tensor, dtype="float32", scales=(), zero_points=())
        if tensor.dtype == "int8"
        else tensor
        for name, tensor in legal.tensors.items()
    }
    broken = reasons(replace(legal, tensors=tensors))
    assert sum("activations must be int8, not float32" in reason for reason in broken) == 13
    assert sum("weights must be constant and int8, not constant float32" in r for r in broken) == 2


@pytest.mark.shared_models
@pytest.mark.parametrize(
    "name",
    [
        "coral_mbv2_100_224_ptq",
        "mlperf_ad_fcae",
        "mlperf_kws_dscnn",
        "mlperf_resnet8",
        "mlperf_vww_mbv1",
    ],
)
def test_real_models_obey_every_rule(shared_models, name):
    rules.check(tflite.read(shared_models / name / "model.tflite"))


def test_document_is_fresh():
    for path, text in rules.documents().items():
        assert (ROOT / path).read_text(encoding="utf-8") == text, f"{path} is stale: make docs"


def test_document_is_written_below_a_root(tmp_path):
    (tmp_path / "sw").mkdir()
    rules.main(str(tmp_path))
    text = (tmp_path / "sw" / "SUPPORTED_OPS.md").read_text(encoding="utf-8")
    assert all(rule.text in text for rule in rules.RULES)
