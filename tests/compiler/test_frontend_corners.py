"""Corners of the model readers: rare attributes and constants, and what is said of contradictions."""

import sys

import numpy as np
import pytest
from onnx import TensorProto, helper

from systolith.arch.errors import ModelFormatError, ToolchainError, UnsupportedModelError
from systolith.compiler.frontend import onnx as frontend
from systolith.compiler.frontend import onnx_shapes, onnx_values, tflite, tflite_schema
from systolith.compiler.frontend.onnx_model import Damage, Node
from systolith.compiler.ir import Tensor

SCALE = helper.make_tensor("scale", TensorProto.FLOAT, [], [0.5])
ZERO = helper.make_tensor("zero", TensorProto.INT8, [], [0])
QDQ = [
    helper.make_node("QuantizeLinear", ["x", "scale", "zero"], ["xq"]),
    helper.make_node("DequantizeLinear", ["xq", "scale", "zero"], ["xf"]),
]


def model(nodes, *, constants=(), output="y", shape=(1, 2, 5, 5), before=QDQ, edit=None):
    """Return the bytes of a model whose nodes work on the quantized input `xf`."""
    graph = helper.make_graph(
        [*before, *nodes],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [SCALE, ZERO, *constants],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    if edit:
        edit(proto)
    return proto.SerializeToString()


def quantized(source, name="yq"):
    return helper.make_node("QuantizeLinear", [source, "scale", "zero"], [name])


def parse(nodes, **options):
    return frontend.parse(model(nodes, **options), source="Model file")


def refuse(text, nodes, error=ModelFormatError, **options):
    with pytest.raises(error) as caught:
        parse(nodes, **options)
    assert text in str(caught.value)


@pytest.mark.parametrize(
    ("attributes", "pads", "output"),
    [
        ({"auto_pad": "SAME_UPPER", "strides": [2, 2]}, (0, 0, 1, 1), (3, 3)),
        ({"auto_pad": "SAME_LOWER", "strides": [2, 2]}, (1, 1, 0, 0), (3, 3)),
        ({"auto_pad": "VALID", "pads": [1, 1, 1, 1]}, (0, 0, 0, 0), (4, 4)),
        ({"ceil_mode": 1, "strides": [3, 3], "pads": [0, 0, 1, 1]}, (0, 0, 1, 1), (2, 2)),
    ],
)
def test_windows_are_placed_as_the_operator_says(attributes, pads, output):
    pool = helper.make_node("MaxPool", ["xf"], ["p"], kernel_shape=[2, 2], **attributes)
    graph = parse([pool, quantized("p", "y")])
    (operator,) = graph.operators
    assert operator.attributes["pads"] == pads
    assert graph.tensors["y"].shape == (1, 2, *output)


def test_windows_whose_reach_does_not_fit_have_the_padding_that_onnx_says():
    node = Node(
        kind="MaxPool", index=0, inputs=(), outputs=(), attributes={"auto_pad": "SAME_LOWER"}
    )
    assert onnx_shapes.window(node, (1, 1, 5, 6), (2, 3))["pads"] == (1, 1, 0, 1)


def test_last_window_of_ceil_mode_begins_inside():
    pool = helper.make_node(
        "MaxPool", ["xf"], ["p"], kernel_shape=[2, 2], strides=[4, 4], ceil_mode=1
    )
    assert parse([pool, quantized("p", "y")], shape=(1, 2, 4, 4)).tensors["y"].shape == (1, 2, 1, 1)


def test_lists_of_the_wrong_length_are_named():
    pool = helper.make_node("MaxPool", ["xf"], ["p"], kernel_shape=[2, 2], strides=[1, 1, 1])
    refuse("must have 2 integers in attribute strides of operator 2 (MaxPool)", [pool])
    node = Node(kind="Pad", index=4, inputs=(), outputs=(), attributes={"pads": (1, 2)})
    with pytest.raises(Damage, match=r"must have 3 integers in attribute pads of operator 4"):
        node.integers("pads", (0, 0, 0))


def test_axes_may_be_an_operand():
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [-1, 2])
    mean = helper.make_node("ReduceMean", ["xf", "axes"], ["m"], keepdims=0)
    graph = parse([mean, quantized("m", "y")], constants=[axes])
    assert graph.operators[0].attributes["axes"] == (2, 3)
    assert graph.tensors["y"].shape == (1, 2)


def test_axes_of_length_one_come_and_go():
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [0, -1])
    nodes = [
        helper.make_node("Squeeze", ["xf"], ["s"]),
        quantized("s", "sq"),
        helper.make_node("DequantizeLinear", ["sq", "scale", "zero"], ["sf"]),
        helper.make_node("Unsqueeze", ["sf", "axes"], ["u"]),
        quantized("u", "y"),
    ]
    graph = parse(nodes, constants=[axes], shape=(1, 3, 1, 4))
    shapes = [graph.tensors[operator.outputs[0]].shape for operator in graph.operators]
    assert shapes == [(3, 4), (1, 3, 4, 1)]
    gone = [helper.make_node("Squeeze", ["xf", "axes"], ["s"]), quantized("s", "y")]
    graph = parse(gone, constants=[axes], shape=(1, 3, 4, 1))
    assert graph.tensors[graph.outputs[0]].shape == (3, 4)


@pytest.mark.parametrize(
    ("attributes", "value"),
    [({"value_float": 1.5}, 1.5), ({"value_int": 3}, 3), ({"value_ints": [4]}, 4)],
)
def test_constants_may_be_attributes(attributes, value):
    nodes = [
        helper.make_node("Constant", [], ["c"], **attributes),
        helper.make_node("Add", ["xf", "c"], ["a"]),
        quantized("a", "y"),
    ]
    (operator,) = parse(nodes).operators
    name, operands, _ = operator.attributes["tree"]
    assert (name, operands[1]) == ("Add", ("constant", value))


def test_constants_without_a_value_are_named():
    refuse("must have a constant tensor in operator 2", [helper.make_node("Constant", [], ["c"])])


def test_constants_are_transposed_with_their_scales():
    weights = helper.make_tensor("w", TensorProto.INT8, [2, 3], range(6))
    scales = helper.make_tensor("ws", TensorProto.FLOAT, [3], [1, 2, 3])
    zeros = helper.make_tensor("wz", TensorProto.INT8, [3], [0, 0, 0])
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wf"], axis=1),
        helper.make_node("Transpose", ["wf"], ["wt"]),
        helper.make_node("Gemm", ["xf", "wt"], ["g"], transB=1),
        quantized("g", "y"),
    ]
    graph = parse(nodes, constants=[weights, scales, zeros], shape=(1, 2))
    tensor = graph.tensors["wt"]
    assert tensor.axis == 0 and tensor.shape == (3, 2)
    np.testing.assert_array_equal(tensor.data, [[0, 3], [1, 4], [2, 5]])


def test_float_ends_of_a_formula_stay_float():
    nodes = [helper.make_node("Sigmoid", ["xf"], ["y"])]
    graph = parse(nodes)
    assert graph.tensors[graph.outputs[0]].dtype == "float32"
    gelu = [helper.make_node("Gelu", ["xf"], ["g"], approximate="tanh"), quantized("g", "y")]
    (operator,) = parse(gelu).operators
    assert ("approximate", "tanh") in operator.attributes["tree"][2]


def test_bounds_may_be_attributes_and_must_be_constant():
    clip = [helper.make_node("Clip", ["xf"], ["c"], min=-1.0, max=2.0), quantized("c", "y")]
    (operator,) = parse(clip).operators
    assert dict(operator.attributes["tree"][2]) == {"low": -1.0, "high": 2.0}
    clip = [helper.make_node("Clip", ["xf", "xf"], ["c"])]
    refuse("must have constant bounds in operator 2 (Clip)", clip)


def test_nodes_without_outputs_and_names_used_twice_are_named():
    refuse("must have an output of operator 2 (Relu)", [helper.make_node("Relu", ["xf"], [])])
    tensor = Tensor(name="w", shape=(2,), dtype="int8")
    like = Tensor(name="w", shape=(), dtype="int8", scales=(1.0, 2.0, 3.0), zero_points=(0, 0, 0))
    with pytest.raises(Damage, match='must have a scale for each slice of "w"'):
        onnx_values.along(tensor, like)


def test_quantized_constants_of_one_element_are_numbers():
    tensor = Tensor(
        name="c",
        shape=(),
        dtype="int8",
        data=np.int8(7).reshape(()),
        scales=(0.5,),
        zero_points=(3,),
    )
    assert onnx_values.scalar(onnx_values.Fixed(tensor)) == 2.0


def test_sparse_constants_are_refused():
    values = helper.make_tensor("v", TensorProto.FLOAT, [1], [1.0])
    places = helper.make_tensor("p", TensorProto.INT64, [1], [0])
    sparse = helper.make_sparse_tensor(values, places, [4])
    nodes = [helper.make_node("Relu", ["xf"], ["r"]), quantized("r", "y")]
    edit = lambda proto: proto.graph.sparse_initializer.append(sparse)  # noqa: E731
    refuse("must hold dense constants", nodes, UnsupportedModelError, edit=edit)


def test_inputs_of_too_many_dimensions_are_named():
    nodes = [helper.make_node("Relu", ["xf"], ["r"]), quantized("r", "y")]
    refuse('dimensions in input "x"', nodes, shape=(1,) * 40)


def test_files_of_two_gibibytes_are_refused(monkeypatch):
    monkeypatch.setattr(frontend, "_MAX_MESSAGE_BYTES", 10)
    refuse("must be below 2 GiB, not ", [helper.make_node("Relu", ["xf"], ["y"])])


def test_graphs_that_contradict_themselves_are_refused(monkeypatch):
    monkeypatch.setattr(frontend.spec, "violations", lambda graph: iter(["must be whole"]))
    refuse(
        "Model file must be whole", [helper.make_node("Relu", ["xf"], ["r"]), quantized("r", "y")]
    )


@pytest.mark.parametrize(
    ("reader", "package", "extra"),
    [(frontend._onnx, "onnx", "onnx"), (tflite_schema.schema, "tflite", "tflite")],
)
def test_readers_say_which_package_is_missing(reader, package, extra, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    reader.cache_clear()
    with pytest.raises(ToolchainError, match=rf"pip install systolith\[{extra}\]"):
        reader()
    monkeypatch.undo()
    reader.cache_clear()
    assert reader().__name__ == package


def test_tensor_names_that_cannot_be_told_apart_are_refused():
    tensors = [Tensor(name=name, shape=(1,), dtype="int8") for name in ("a", "a", "a:0")]
    with pytest.raises(tflite.Damage, match="must have unique tensor names"):
        tflite._unique(tensors)


def test_whatever_else_a_file_contradicts_is_one_error(monkeypatch):
    def collapse(model):
        raise KeyError("lost")

    monkeypatch.setattr(frontend, "collapse", collapse)
    refuse("contradicts itself ('lost')", [helper.make_node("Relu", ["xf"], ["y"])])


def test_tensors_of_one_name_are_named():
    name = "x:Sigmoid:0"
    constant = helper.make_tensor(name, TensorProto.FLOAT, [2], [1.0, 2.0])
    nodes = [
        helper.make_node("Sigmoid", ["xf"], ["s"]),
        helper.make_node("Concat", [name, "s"], ["c"], axis=0),
        quantized("c", "y"),
    ]
    refuse(
        f'must name tensors differently, but "{name}" is there twice', nodes, constants=[constant]
    )
