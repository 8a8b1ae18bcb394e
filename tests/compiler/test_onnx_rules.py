"""Every rule about ONNX models: one case that breaks it, and what its message says."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from systolith.arch.errors import UnsupportedModelError
from systolith.bench.onnx_writer import (
    QdqWriter,
    Quantization,
    WeightStyle,
    random_weights,
)
from systolith.compiler import rules_onnx
from systolith.compiler.frontend import onnx as frontend
from systolith.compiler.ir import Graph, Tensor

ITEM = Quantization(scale=0.05, zero_point=3, dtype="int8")
IMAGE = (1, 4, 8, 8)


def model(kind: str) -> Graph:
    """Return a legal model of one operator with input "x", weights "w_f" and output "y"."""
    writer = QdqWriter()
    rng = np.random.default_rng(1)
    shape = (2, 6) if kind in ("Gemm", "Reshape", "Softmax") else IMAGE
    operands = [writer.input("x", shape, ITEM)]
    attributes: dict[str, object] = {}
    style = WeightStyle()
    match kind:
        case "Conv":
            attributes = {"pads": [1, 1, 1, 1]}
            operands += random_weights(
                writer, rng, "w", (5, 4, 3, 3), style=style, input_scale=ITEM.scale
            )
        case "Gemm":
            attributes = {"transB": 1}
            operands += random_weights(
                writer, rng, "w", (5, 6), style=style, input_scale=ITEM.scale
            )
        case "Add" | "Concat":
            operands.append(writer.input("z", shape, ITEM))
            attributes = {"axis": 1} if kind == "Concat" else {}
        case "MaxPool" | "AveragePool":
            attributes = {"kernel_shape": [2, 2], "strides": [2, 2]}
        case "ReduceMean":
            attributes = {"axes": [2, 3]}
        case "Pad":
            operands.append(writer.constant("pads", np.array([0, 0, 1, 1, 0, 0, 1, 1])))
        case "Reshape":
            operands.append(writer.constant("shape", np.array([1, -1])))
        case "Resize":
            scales = writer.constant("scales", np.array([1, 1, 2, 2], np.float32))
            operands += ["", scales]
            attributes = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        case "Transpose":
            attributes = {"perm": [0, 2, 3, 1]}
    value = writer.node(kind, operands, "raw", **attributes)
    writer.quantize(value, ITEM, name="y")
    writer.output("y", ["a"] * 4, "int8")
    return frontend.parse(writer.to_bytes())


def with_tensor(name: str, **changes: object) -> Callable[[Graph], Graph]:
    def edit(graph: Graph) -> Graph:
        tensors = dict(graph.tensors)
        tensors[name] = replace(tensors[name], **changes)
        return replace(graph, tensors=tensors)

    return edit


def with_attributes(**changes: object) -> Callable[[Graph], Graph]:
    def edit(graph: Graph) -> Graph:
        operator = graph.operators[0]
        changed = replace(operator, attributes={**operator.attributes, **changes})
        return replace(graph, operators=(changed, *graph.operators[1:]))

    return edit


def with_inputs(*names: str | None) -> Callable[[Graph], Graph]:
    def edit(graph: Graph) -> Graph:
        operator = replace(graph.operators[0], inputs=names)
        return replace(graph, operators=(operator, *graph.operators[1:]))

    return edit


def plain(name: str, data: np.ndarray) -> Tensor:
    return Tensor(name=name, shape=data.shape, dtype=data.dtype.name, data=data)


CASES: dict[str, tuple[str, Callable[[Graph], Graph], str, str]] = {
    "operands": ("Conv", with_inputs("x"), "y", "1 inputs"),
    "activations_are_bytes": ("Conv", with_tensor("y", dtype="int16"), "y", "int16"),
    "activations_have_shapes": ("Conv", with_tensor("y", shape=()), "y", "[]"),
    "activations_have_one_scale": ("Conv", with_tensor("y", zero_points=(200,)), "y", "200"),
    "activations_are_computed": (
        "Add",
        with_tensor("z", data=np.zeros(IMAGE, np.int8), scales=()),
        "z",
        "constant",
    ),
    "images_are_nchw": ("MaxPool", with_tensor("x", shape=(2, 4, 8, 8)), "x", "[2, 4, 8, 8]"),
    "weights_are_constant": ("Conv", with_tensor("w_f", data=None), "w_f", "computed int8"),
    "weights_have_scales": ("Conv", with_tensor("w_f", axis=1), "w_f", "along axis 1"),
    "biases_are_constant": ("Conv", with_tensor("w_bias_f", dtype="int64"), "w_bias_f", "int64"),
    "shapes_are_constant": ("Reshape", with_tensor("shape", data=None), "shape", "computed"),
    "windows_are_positive": ("Conv", with_attributes(stride=(0, 1)), "y", "[3, 3, 0, 1, 1, 1]"),
    "windows_are_small": ("Conv", with_attributes(stride=(999, 1)), "y", "999"),
    "images_are_small": ("Pad", with_tensor("x", shape=(1, 1, 20000, 8)), "x", "20000 lines"),
    "groups_agree": ("Conv", with_attributes(group=3), "w_f", "3 groups"),
    "pools_are_dense": ("MaxPool", with_attributes(dilation=(2, 1)), "y", "[2, 1]"),
    "windows_meet_the_image": ("MaxPool", with_attributes(output=(9, 4)), "y", "16 of 8"),
    "means_are_over_images": ("ReduceMean", with_attributes(axes=(1, 2)), "y", "[1, 2]"),
    "products_are_plain": ("Gemm", with_attributes(alpha=2.0), "y", "2.0"),
    "matrices_agree": ("Gemm", with_tensor("x", shape=(3, 4)), "x", "[3, 4]"),
    "operands_have_one_shape": ("Add", with_tensor("z", shape=(1, 4, 1, 1)), "y", "[1, 4, 1, 1]"),
    "parts_fit": ("Concat", with_tensor("z", shape=(1, 4, 8, 9)), "z", "[1, 4, 8, 9]"),
    "reshapes_keep_elements": ("Reshape", with_tensor("y", shape=(1, 13)), "y", "13 and 12"),
    "paddings_are_constant": ("Pad", with_attributes(mode="reflect"), "y", "reflect"),
    "resizes_are_nearest": ("Resize", with_attributes(mode="cubic"), "y", "cubic"),
    "softmax_axes_are_short": ("Softmax", with_attributes(axis=7), "y", "axis 7"),
    "factors_are_normal": ("Conv", with_tensor("y", scales=(1e-30,)), "y", "e+"),
    "mean_factors_are_normal": ("GlobalAveragePool", with_tensor("y", scales=(1e-30,)), "y", "e+"),
    "operand_factors_are_small": ("Add", with_tensor("y", scales=(1e-9,)), "y", "5000"),
    "float_biases_fit": (
        "Conv",
        with_tensor("w_bias_f", data=np.full(5, 1e30, np.float32), dtype="float32", scales=()),
        "w_bias_f",
        "e+",
    ),
    "bias_scales_agree": ("Conv", with_tensor("w_bias_f", scales=(0.5,) * 5), "w_bias_f", "off"),
}


def test_every_rule_has_a_case():
    assert set(CASES) == {rule.check.__name__ for rule in rules_onnx.RULES}


@pytest.mark.parametrize("name", CASES)
def test_broken_rules_are_named(name: str):
    kind, edit, tensor, value = CASES[name]
    rule = next(rule for rule in rules_onnx.RULES if rule.check.__name__ == name)
    graph = model(kind)
    rules_onnx.check(graph)
    with pytest.raises(UnsupportedModelError) as caught:
        rules_onnx.check(edit(graph))
    text = rule.text[0].lower() + rule.text[1:]
    wanted = f'Operator 0 ({kind}), tensor "{tensor}": {text}, not '
    reasons = [reason for reason in caught.value.reasons if reason.startswith(wanted)]
    assert reasons, caught.value.reasons
    assert value in reasons[0]
    assert reasons[0].endswith(f"; {rule.remedy}")


def test_unknown_operators_are_named():
    writer = QdqWriter()
    value = writer.node("LRN", [writer.input("x", IMAGE, ITEM)], "raw", size=3)
    writer.quantize(value, ITEM, name="y")
    writer.output("y", IMAGE, "int8")
    with pytest.raises(
        UnsupportedModelError, match=r'\(LRN\), tensor "y": operator must be one of'
    ):
        rules_onnx.check(frontend.parse(writer.to_bytes()))


def test_all_refusals_are_reported_at_once():
    graph = with_tensor("w_f", data=None)(model("Conv"))
    other = replace(graph.operators[0], index=1, outputs=("q",), kind="Einsum")
    tensors = {**graph.tensors, "q": replace(graph.tensors["y"], name="q")}
    graph = replace(graph, operators=(*graph.operators, other), tensors=tensors)
    with pytest.raises(UnsupportedModelError) as caught:
        rules_onnx.check(graph)
    assert len(caught.value.reasons) == 2


def test_results_that_stay_in_float_are_refused():
    writer = QdqWriter()
    value = writer.node("MaxPool", [writer.input("x", IMAGE, ITEM)], "m", kernel_shape=[2, 2])
    value = writer.node("GlobalAveragePool", [value], "raw")
    writer.output(writer.node("Softmax", [value], "y", axis=1), (1, 4, 1, 1))
    with pytest.raises(UnsupportedModelError) as caught:
        rules_onnx.check(frontend.parse(writer.to_bytes()))
    assert any('"raw": activations must be quantized' in reason for reason in caught.value.reasons)
    assert any("QuantizeLinear behind every operator" in reason for reason in caught.value.reasons)


def test_inputs_must_be_quantized_and_static():
    graph = model("Add")
    for changes in ({"dtype": "float32"}, {"scales": ()}, {"shape": (1, 4, -1, 8)}):
        with pytest.raises(UnsupportedModelError) as caught:
            rules_onnx.check(with_tensor("x", **changes)(graph))
        reasons = caught.value.reasons
        assert any(
            reason.startswith('Input "x" of the model must be quantized') for reason in reasons
        )


def test_orders_that_no_operator_can_use_are_refused():
    writer = QdqWriter()
    value = writer.input("x", IMAGE, ITEM)
    turned = writer.requantize(writer.node("Transpose", [value], "t", perm=[0, 3, 1, 2]), ITEM)
    pooled = writer.node("MaxPool", [turned], "p", kernel_shape=[2, 2])
    writer.quantize(pooled, ITEM, name="y")
    writer.output("y", ["a"] * 4, "int8")
    with pytest.raises(UnsupportedModelError, match="elements must lie in an order"):
        rules_onnx.check(frontend.parse(writer.to_bytes()))


def test_outputs_must_be_made_and_different():
    graph = model("Add")
    with pytest.raises(UnsupportedModelError, match="must be made by an operator"):
        rules_onnx.check(replace(graph, outputs=("x",)))
    with pytest.raises(UnsupportedModelError, match="must be different tensors"):
        rules_onnx.check(replace(graph, outputs=("y", "y")))
