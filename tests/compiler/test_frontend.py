"""The TFLite reader: what it reports, and that nothing in a file makes it fail otherwise."""

import time

import numpy as np
import pytest
import tflite as schema

from systolith.arch.errors import ModelFormatError, UnsupportedModelError
from systolith.bench.random_layer import random_model
from systolith.bench.random_operator import OPERATORS
from systolith.bench.tflite_mutation import mutate
from systolith.bench.tflite_writer import TfliteModel
from systolith.compiler import rules, spec
from systolith.compiler.frontend import tflite
from systolith.compiler.legalize import legalize


def every_operator():
    """One of each operator that the compiler knows, with distinct numbers everywhere."""
    rng = np.random.default_rng(7)
    model = TfliteModel()
    x = model.input("image", (1, 9, 7, 3), scale=0.05, zero_point=-7)
    weights = rng.integers(-128, 128, (5, 3, 2, 3), dtype=np.int8)
    conv = model.conv2d(
        x,
        weights,
        np.arange(5, dtype=np.int32),
        weight_scales=[0.01, 0.02, 0.03, 0.04, 0.05],
        scale=0.1,
        zero_point=3,
        stride=(2, 1),
        dilation=(1, 2),
        activation="RELU6",
        name="conv",
    )
    total = model.add(conv, conv, scale=0.17, zero_point=5, activation="RELU", name="total")
    pooled = model.average_pool(total, (2, 3), stride=(2, 1), padding="SAME", name="pooled")
    features = int(np.prod(pooled.shape))
    flat = model.reshape(pooled, (1, features), name="flat")
    weights = rng.integers(-128, 128, (4, features), dtype=np.int8)
    logits = model.fully_connected(
        flat, weights, None, weight_scale=0.01, scale=0.3, zero_point=1, name="logits"
    )
    model.softmax(logits, beta=0.5, name="scores")
    return model.build()


@pytest.fixture(scope="module")
def data():
    return every_operator()


def test_operators_are_reported_in_plain_values(data):
    graph = tflite.parse(data, name="one of each")
    assert graph.name == "one of each"
    assert (graph.inputs, graph.outputs) == (("image",), ("scores",))
    assert [operator.kind for operator in graph.operators] == [
        "CONV_2D",
        "ADD",
        "AVERAGE_POOL_2D",
        "RESHAPE",
        "FULLY_CONNECTED",
        "SOFTMAX",
    ]
    assert [operator.index for operator in graph.operators] == list(range(6))
    conv, add, pool, reshape, dense, softmax = graph.operators
    assert conv.inputs == ("image", "layer0/weights", "layer0/bias")
    assert conv.outputs == ("conv",)
    assert conv.attributes == {
        "stride": (2, 1),
        "dilation": (1, 2),
        "padding": "SAME",
        "activation": "RELU6",
    }
    assert add.inputs == ("conv", "conv")
    assert add.attributes == {"activation": "RELU"}
    assert pool.attributes == {
        "filter": (2, 3),
        "stride": (2, 1),
        "padding": "SAME",
        "activation": "NONE",
    }
    assert reshape.attributes == {}
    assert dense.inputs == ("flat", "layer4/weights", None)
    assert dense.attributes == {"activation": "NONE", "weights_format": "DEFAULT"}
    assert softmax.attributes == {"beta": 0.5}


def test_tensors_are_reported_with_quantization_and_contents(data):
    tensors = tflite.parse(data).tensors
    image, weights, bias = (tensors[n] for n in ("image", "layer0/weights", "layer0/bias"))
    assert (image.shape, image.dtype, image.data) == ((1, 9, 7, 3), "int8", None)
    assert (image.scale, image.zero_point) == (float(np.float32(0.05)), -7)
    assert weights.data.dtype == np.int8
    assert weights.data.shape == weights.shape == (5, 3, 2, 3)
    assert weights.scales == tuple(float(np.float32(s)) for s in (0.01, 0.02, 0.03, 0.04, 0.05))
    assert (weights.zero_points, weights.axis) == ((0,) * 5, 0)
    np.testing.assert_array_equal(bias.data, np.arange(5))
    spec.verify(tflite.parse(data))


def test_file_gives_the_graph_of_its_bytes(data, tmp_path):
    path = tmp_path / "little.tflite"
    path.write_bytes(data)
    graph = tflite.read(path)
    assert graph.name == "little"
    assert list(graph.tensors) == list(tflite.parse(data).tensors)


def test_unreadable_file_is_refused(tmp_path):
    with pytest.raises(ModelFormatError, match=r'absent.tflite" cannot be read: No such file'):
        tflite.read(tmp_path / "absent.tflite")
    with pytest.raises(ModelFormatError, match="cannot be read: Is a directory"):
        tflite.read(tmp_path)


@pytest.mark.parametrize("data", [b"", b"TFL3", b"\x08\0\0\0ONNX", b"PK\3\4" + bytes(100)])
def test_other_files_are_refused(data):
    with pytest.raises(ModelFormatError, match='identifier "TFL3" at byte 4, which it has not'):
        tflite.parse(data, source='Model file "x"')


def test_every_truncation_is_refused(data):
    for length in range(len(data)):
        with pytest.raises(ModelFormatError):
            tflite.parse(data[:length])


def test_truncation_names_file_and_size(data, tmp_path):
    path = tmp_path / "short.tflite"
    path.write_bytes(data[:-100])
    with pytest.raises(ModelFormatError, match=rf'short.tflite" must be .* {len(data) - 100} byte'):
        tflite.read(path)


def outcome(data):
    """Take a file as far as the kernels; return what came of it, or raise what must not be."""
    try:
        graph = tflite.parse(data)
        rules.check(graph)
        spec.verify(legalize(graph, "tflm"))
    except (ModelFormatError, UnsupportedModelError) as error:
        assert str(error)
        return type(error)
    return None


@pytest.mark.parametrize("number", range(3))
def test_mutations_end_in_a_typed_error_or_a_legal_graph(number, seed, data):
    rng = np.random.default_rng([seed, number])
    model = [data, random_model("network", 3).model, random_model("convolution", 4).model][number]
    assert outcome(model) is None
    slowest, outcomes = 0.0, []
    for _ in range(1000):
        start = time.process_time()
        outcomes.append(outcome(mutate(model, rng)))
        slowest = max(slowest, time.process_time() - start)
    assert {None, ModelFormatError, UnsupportedModelError} == set(outcomes)
    assert slowest < 1.0, "a hostile file must not keep the reader busy"


@pytest.mark.parametrize("kind", OPERATORS)
def test_mutations_of_every_operator_end_in_a_typed_error_or_a_legal_graph(kind, seed):
    rng = np.random.default_rng([seed, *kind.encode()])
    for number in range(4):
        model = random_model(kind, seed + number).model
        for _ in range(150):
            outcome(mutate(model, rng))


@pytest.mark.shared_models
@pytest.mark.parametrize("name", ["mlperf_resnet8", "mlperf_kws_dscnn"])
def test_mutations_of_real_models_end_in_a_typed_error_or_a_legal_graph(name, seed, shared_models):
    data = (shared_models / name / "model.tflite").read_bytes()
    rng = np.random.default_rng(seed)
    # Weights and tensor names are most of the file; offsets and counts lie at its two ends.
    for _ in range(300):
        outcome(mutate(data, rng))
    for length in np.linspace(0, len(data) - 1, 200, dtype=int):
        assert outcome(data[:length]) is ModelFormatError


def patched(change):
    """Return the model of `every_operator` after `change(ModelT)` through the object API."""
    table = pytest.importorskip("ai_edge_litert.schema_py_generated")
    flatbuffers = pytest.importorskip("flatbuffers")
    model = table.ModelT.InitFromPackedBuf(every_operator(), 0)
    change(model)
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_tensors_of_one_name_are_told_apart_by_number():
    def change(model):
        tensors = model.subgraphs[0].tensors
        for tensor in tensors:
            if tensor.name in (b"conv", b"total", b"layer0/bias"):
                tensor.name = b"same"

    graph = tflite.parse(patched(change))
    conv, add = graph.operators[:2]
    assert conv.inputs[2] == "same:2"
    assert conv.outputs == ("same:3",)
    assert add.outputs == ("same:4",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.subgraphs.clear(), "must have a subgraph, but has none"),
        (lambda m: setattr(m.subgraphs[0].tensors[0], "buffer", 99), "must have the buffer 99"),
        (
            lambda m: setattr(m.subgraphs[0].operators[1], "inputs", [3, 77]),
            r"must have a tensor 77 for operator 1 \(ADD\), but has",
        ),
        (
            lambda m: setattr(m.subgraphs[0].operators[1], "outputs", [-1]),
            r"must not leave out a tensor \(-1\) of operator 1 \(ADD\)",
        ),
        (
            lambda m: setattr(m.subgraphs[0].operators[0], "opcodeIndex", 40),
            "must have the operator code 40",
        ),
        (
            lambda m: setattr(m.subgraphs[0].tensors[1], "shape", [5, 3, 2, 4]),
            r'must hold 120 bytes for the int8 tensor "layer0/weights" of shape .*, but holds 90',
        ),
        (
            lambda m: setattr(m.subgraphs[0].tensors[1].quantization, "zeroPoint", [0, 0]),
            r'as many zero points as scales \(5\) in tensor "layer0/weights", not 2',
        ),
        (
            lambda m: setattr(m.subgraphs[0].tensors[0], "shape", [1] * 9),
            'at most 8 dimensions in tensor "image", not 9',
        ),
        (
            lambda m: setattr(m.subgraphs[0].operators[0], "builtinOptionsType", 0),
            r"must have options of type Conv2DOptions in operator 0 \(CONV_2D\)",
        ),
        (
            lambda m: setattr(m.subgraphs[0].operators[0].builtinOptions, "padding", 9),
            r"must have a known Padding, not 9 in operator 0 \(CONV_2D\)",
        ),
        (
            lambda m: m.subgraphs[0].operators.reverse(),
            r'must make tensor "logits" before operator 0 \(SOFTMAX\) reads it',
        ),
        (
            lambda m: setattr(m.subgraphs[0].operators[1], "outputs", [3]),
            'must write tensor "conv" once only',
        ),
        (lambda m: setattr(m.subgraphs[0], "inputs", [0, 1]), "a constant value"),
    ],
)
def test_contradictions_are_named(change, message):
    with pytest.raises(ModelFormatError, match=message):
        tflite.parse(patched(change))


def test_shared_vectors_do_not_multiply_the_work():
    """A few bytes that name a long vector again and again are cut short by the budget."""
    rank, tensors = 8, 20_000
    reader = tflite._Reader(every_operator())
    with pytest.raises(tflite.Damage, match="must not name more elements than its"):
        for _ in range(tensors):
            reader._vector(np.zeros(rank))


def test_sparse_tensors_are_refused():
    def change(model):
        table = pytest.importorskip("ai_edge_litert.schema_py_generated")
        model.subgraphs[0].tensors[1].sparsity = table.SparsityParametersT()

    with pytest.raises(UnsupportedModelError, match='Tensor "layer0/weights" must be dense'):
        tflite.parse(patched(change))


def test_unknown_operators_keep_their_names():
    def change(model):
        model.operatorCodes[0].builtinCode = schema.BuiltinOperator.CUSTOM
        model.operatorCodes[0].deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        model.operatorCodes[0].customCode = b"Wavelet"
        model.operatorCodes[1].builtinCode = 9999

    graph = tflite.parse(patched(change))
    assert graph.operators[0].kind == "CUSTOM Wavelet"
    assert graph.operators[1].kind == "operator code 9999"
    assert graph.operators[0].attributes == {}
