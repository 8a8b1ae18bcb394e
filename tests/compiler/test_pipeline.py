"""From model file to program: what the whole compiler accepts, refuses and records."""

from dataclasses import replace

import numpy as np
import pytest

from systolith.arch.errors import (
    AllocationError,
    InputError,
    ModelFormatError,
    UnsupportedModelError,
)
from systolith.arch.program import AcceleratorSegment, HostSegment, Program
from systolith.bench.tflite_writer import TfliteModel
from systolith.compiler import pipeline
from systolith.compiler.frontend import tflite


@pytest.fixture(scope="module")
def model():
    """A small network that ends in a softmax."""
    rng = np.random.default_rng(7)
    model = TfliteModel()
    x = model.input("x", (1, 6, 5, 3), scale=0.5, zero_point=-3)
    weights = rng.integers(-128, 128, (4, 3, 3, 3), dtype=np.int8)
    y = model.conv2d(x, weights, None, weight_scales=0.1, scale=20.0, zero_point=4)
    y = model.reshape(
        model.average_pool(model.add(y, y, scale=40.0, zero_point=5), (2, 2)), (1, 24)
    )
    weights = rng.integers(-128, 128, (7, 24), dtype=np.int8)
    logits = model.fully_connected(y, weights, None, weight_scale=0.0005, scale=0.5, zero_point=1)
    model.softmax(logits)
    return model.build()


def test_file_becomes_a_program(tmp_path, model, edge):
    path = tmp_path / "net.tflite"
    path.write_bytes(model)
    program = pipeline.compile_file(path, edge, reference="litert_reference")
    assert (program.model, program.reference) == ("net", "litert_reference")
    assert program.config == edge
    graph = tflite.parse(model)
    assert (program.inputs, program.outputs) == (graph.inputs, graph.outputs)
    assert [layer.op for layer in program.layers] == [o.kind for o in graph.operators]
    assert [layer.name for layer in program.layers] == [o.outputs[0] for o in graph.operators]


def test_same_model_gives_the_same_program(model, edge):
    first, second = (pipeline.compile_graph(tflite.parse(model), edge) for _ in range(2))
    assert first.to_bytes() == second.to_bytes()
    assert Program.from_bytes(first.to_bytes()) == first


def test_softmax_runs_on_the_host(model, edge):
    program = pipeline.compile_graph(tflite.parse(model), edge)
    kinds = [type(segment) for segment in program.segments]
    assert kinds == [AcceleratorSegment, HostSegment]
    assert [layer.target for layer in program.layers if layer.op == "SOFTMAX"] == ["cpu"]
    assert {layer.target for layer in program.layers if layer.op != "SOFTMAX"} == {"npu"}


def test_kept_tensors_are_at_the_edge_of_a_segment(model, edge):
    graph = tflite.parse(model)
    made = {name for operator in graph.operators for name in operator.outputs}
    program = pipeline.compile_graph(graph, edge, keep_tensors=True)
    assert set(program.tensors) == made | set(graph.inputs)
    for name, info in program.tensors.items():
        tensor = graph.tensors[name]
        assert (info.shape, info.dtype) == (tensor.shape, tensor.dtype)
        assert (info.scale, info.zero_point) == (tensor.scale, tensor.zero_point)


def test_contradicting_graph_is_refused(model, edge):
    graph = tflite.parse(model)
    backwards = replace(graph, operators=graph.operators[::-1])
    with pytest.raises(ModelFormatError, match=r'Model "model" must make tensor ".*" before'):
        pipeline.compile_graph(backwards, edge)


def test_unsupported_model_is_refused_before_anything_is_made(model, edge):
    graph = tflite.parse(model)
    operator = replace(graph.operators[0], kind="CONV_3D")
    changed = replace(graph, operators=(operator, *graph.operators[1:]))
    with pytest.raises(UnsupportedModelError, match=r"Operator 0 \(CONV_3D\)"):
        pipeline.compile_graph(changed, edge)


def test_model_beyond_the_memories_is_refused(tiny):
    model = TfliteModel()
    # One line of it is larger than the scratchpad.
    x = model.input("x", (1, 2, 4000, 64), scale=1.0, zero_point=0)
    model.average_pool(x, (2, 2))
    with pytest.raises(AllocationError, match='"tiny-4x4"'):
        pipeline.compile_graph(tflite.parse(model.build()), tiny)


def test_unknown_reference_is_refused(model, edge):
    with pytest.raises(ValueError, match="Reference must be one of tflm, litert_reference"):
        pipeline.compile_graph(tflite.parse(model), edge, reference="onnx")


def test_reference_of_another_kind_of_model_is_refused(tmp_path, model, edge):
    path = tmp_path / "net.tflite"
    path.write_bytes(model)
    with pytest.raises(
        InputError, match=r"must be one of tflm, litert_reference, litert_default, not onnxruntime"
    ):
        pipeline.compile_file(path, edge, reference="onnxruntime")
    with pytest.raises(InputError, match=r"must be one of onnxruntime, not tflm"):
        pipeline.compile_file(tmp_path / "net.onnx", edge, reference="tflm")
