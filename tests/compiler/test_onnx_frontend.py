"""The ONNX reader: what it makes of QDQ models, and what it says of damaged files."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from systolith.arch.errors import ModelFormatError, SystolithError, UnsupportedModelError
from systolith.bench import onnx_mutation, onnx_random_layer
from systolith.bench.onnx_writer import QdqWriter, Quantization, WeightStyle, random_weights
from systolith.compiler import legalize_onnx, rules_onnx
from systolith.compiler.frontend import onnx as frontend
from systolith.compiler.frontend.onnx_values import FORMULA

FOLDER = Path(__file__).parents[2] / "examples" / "onnx"
ITEM = Quantization(scale=0.05, zero_point=3, dtype="int8")
OTHER = Quantization(scale=0.07, zero_point=-4, dtype="int8")
MUTATIONS = 500


def conv_model(clip: str | None = None) -> bytes:
    writer = QdqWriter()
    rng = np.random.default_rng(0)
    operands = [writer.float_input("x", (1, 2, 6, 6), ITEM)]
    operands += random_weights(
        writer, rng, "w", (3, 2, 3, 3), style=WeightStyle(), input_scale=ITEM.scale
    )
    value = writer.operator("Conv", operands, OTHER, name="conv", clip=clip)
    writer.nodes[-1].output[0] = "y"
    assert value
    writer.output("y", (1, 3, 4, 4))
    return writer.to_bytes()


def test_edges_bear_the_names_of_the_model():
    graph = frontend.parse(conv_model(), name="named")
    assert graph.name == "named"
    assert graph.inputs == ("x",) and graph.outputs == ("y",)
    assert graph.tensors["x"].dtype == "int8" and graph.tensors["x"].shape == (1, 2, 6, 6)
    output = graph.tensors["y"]
    assert output.shape == (1, 3, 4, 4)
    assert output.scale == pytest.approx(OTHER.scale) and output.zero_point == OTHER.zero_point


def test_quantization_is_no_operator():
    graph = frontend.parse(conv_model())
    assert [operator.kind for operator in graph.operators] == ["Conv"]
    weights = graph.tensors[graph.operators[0].inputs[1]]
    assert weights.dtype == "int8" and len(weights.scales) == 3 and weights.axis == 0


@pytest.mark.parametrize(
    ("clip", "clamp"), [(None, (None, None)), ("Relu", (0.0, None)), ("Clip", (0.0, 6.0))]
)
def test_clamps_become_part_of_the_operator(clip, clamp):
    (operator,) = frontend.parse(conv_model(clip)).operators
    assert operator.attributes["clamp"] == clamp


def test_float_operators_on_one_activation_become_a_formula():
    writer = QdqWriter()
    x = writer.input("x", (1, 2, 4, 4), ITEM)
    gate = writer.node("HardSigmoid", [x], "gate", alpha=1 / 6)
    value = writer.node("Mul", [x, gate], "product")
    value = writer.node("Add", [value, writer.constant("one", np.float32(1))], "sum")
    writer.quantize(value, OTHER, name="y")
    writer.output("y", (1, 2, 4, 4), "int8")
    (operator,) = frontend.parse(writer.to_bytes()).operators
    assert operator.kind == FORMULA
    assert operator.attributes["tree"][0] == "Add"
    assert operator.inputs == ("x",) and operator.outputs == ("y",)


def test_equal_quantization_behind_a_reshape_is_no_operator():
    writer = QdqWriter()
    x = writer.input("x", (1, 12), ITEM)
    shape = writer.constant("shape", np.array([3, 4]))
    x = writer.requantize(writer.node("Reshape", [x, shape], "r"), ITEM)
    writer.quantize(writer.node("Softmax", [x], "s"), OTHER, name="y")
    writer.output("y", (3, 4), "int8")
    graph = frontend.parse(writer.to_bytes())
    assert [operator.kind for operator in graph.operators] == ["Reshape", "Softmax"]


def test_float_weights_are_quantized_as_their_nodes_say():
    writer = QdqWriter()
    x = writer.input("x", (1, 4), ITEM)
    weights = writer.constant("w", np.array([[0.1, -0.25, 9.0, 0.0]], np.float32))
    scale, zero = writer.constant("s", np.float32(0.1)), writer.constant("z", np.int8(0))
    quantized = writer.node("QuantizeLinear", [weights, scale, zero], "wq")
    operands = [x, writer.node("DequantizeLinear", [quantized, scale, zero], "wf")]
    writer.quantize(writer.node("Gemm", operands, "g", transB=1), OTHER, name="y")
    writer.output("y", (1, 1), "int8")
    graph = frontend.parse(writer.to_bytes())
    np.testing.assert_array_equal(graph.tensors["wf"].data, [[1, -2, 90, 0]])


def test_a_file_is_read_under_its_name(tmp_path):
    path = tmp_path / "small.onnx"
    path.write_bytes(conv_model())
    assert frontend.read(path).name == "small"
    with pytest.raises(ModelFormatError, match=r"missing\.onnx\" cannot be read"):
        frontend.read(tmp_path / "missing.onnx")


@pytest.mark.parametrize("data", [b"", b"TFL3" * 9, conv_model()[:-9]])
def test_what_is_no_model_is_refused(data):
    with pytest.raises(ModelFormatError, match="must be an ONNX model"):
        frontend.parse(data)


def edited(edit) -> bytes:
    proto = onnx.load_from_string(conv_model())
    edit(proto.graph)
    return proto.SerializeToString()


def _set_dims(graph):
    graph.initializer[0].dims[:] = [1 << 40]


def _set_kind(graph):
    graph.node[2].attribute.add(name="axis", type=onnx.AttributeProto.STRING, s=b"one")


def _swap(graph):
    nodes = [*graph.node][::-1]
    del graph.node[:]
    graph.node.extend(nodes)


def _repeat(graph):
    graph.node.append(graph.node[-1])


def _rename_output(graph):
    graph.output[0].name = "nowhere"


@pytest.mark.parametrize(
    ("edit", "text"),
    [
        (_set_dims, "must hold 4398046511104 bytes"),
        (_set_kind, "must have a int in attribute axis"),
        (_swap, 'must make tensor "'),
        (_repeat, 'must write tensor "y" once only'),
        (_rename_output, 'must make its output "nowhere"'),
    ],
)
def test_contradictions_are_named(edit, text):
    with pytest.raises(ModelFormatError) as caught:
        frontend.parse(edited(edit), source='Model file "m.onnx"')
    assert str(caught.value).startswith('Model file "m.onnx" ')
    assert text in str(caught.value)


def test_contents_in_other_files_are_refused():
    def edit(graph):
        graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL

    with pytest.raises(UnsupportedModelError, match="must be stored in the model file"):
        frontend.parse(edited(edit))


def compile_kernels(data: bytes) -> None:
    graph = frontend.parse(data)
    rules_onnx.check(graph)
    legalize_onnx.legalize(graph)


@pytest.mark.parametrize("mutate", [onnx_mutation.mutate_bytes, onnx_mutation.mutate_fields])
def test_damaged_models_end_in_success_or_one_typed_error(mutate):
    rng = np.random.default_rng(2)
    models = [path.read_bytes() for path in sorted(FOLDER.glob("*.onnx"))]
    refused = 0
    for _ in range(MUTATIONS):
        try:
            compile_kernels(mutate(models[rng.integers(len(models))], rng))
        except SystolithError:
            refused += 1
    assert MUTATIONS // 2 < refused < MUTATIONS


def test_every_generated_layer_is_read():
    for family in onnx_random_layer.FAMILIES:
        compile_kernels(onnx_random_layer.layer(family, 0).model)
