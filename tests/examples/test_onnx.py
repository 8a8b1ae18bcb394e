"""The ONNX examples and the shared ONNX models against onnxruntime."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from systolith.arch import float32
from systolith.arch.presets import find_config
from systolith.bench import onnx_witness
from systolith.compiler import pipeline, rules_onnx
from systolith.compiler.frontend import onnx as frontend
from systolith.driver.device import Device
from systolith.driver.runtime import run_sample
from systolith.golden.device import GoldenDevice

pytest.importorskip("onnxruntime")

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples" / "onnx"
DIGITS = ROOT / "examples" / "digits"
SHARED = ROOT.parent / "shared" / "models"
NETWORKS = sorted(path.stem for path in FOLDER.glob("*.onnx"))
SAMPLES = 8


def load(name: str) -> bytes:
    return (FOLDER / f"{name}.onnx").read_bytes()


def random_inputs(model: bytes) -> dict[str, np.ndarray]:
    graph = frontend.parse(model)
    rng = np.random.default_rng(3)
    return {
        name: rng.normal(0.0, 1.0, (SAMPLES, *graph.tensors[name].shape)).astype(np.float32)
        for name in graph.inputs
    }


def test_there_are_eight_networks_and_they_are_small():
    assert len(NETWORKS) >= 8
    assert all(len(load(name)) < 32_000 for name in NETWORKS)


@pytest.mark.parametrize("kernels", ["integer", "default"])
@pytest.mark.parametrize("name", NETWORKS)
def test_networks_equal_onnxruntime(name: str, kernels: onnx_witness.Kernels):
    model = load(name)
    rules_onnx.check(frontend.parse(model))
    comparison = onnx_witness.compare(model, random_inputs(model), kernels)
    assert comparison.whole.differing == 0
    assert comparison.layers
    for operator, found in comparison.layers.items():
        assert found.largest <= 1, operator
        assert found.differing <= 1, f"{operator}: {found} on {comparison.cpu}"


def test_operators_and_weights_are_those_that_the_networks_stand_for():
    def kinds(name: str) -> Counter[str]:
        graph = frontend.parse(load(name))
        return Counter(str(o.attributes.get("outer", o.kind)) for o in graph.operators)

    assert kinds("residual_cnn")["Add"] == 2
    assert kinds("hard_swish_cnn")["Sigmoid"] == 1 and kinds("hard_swish_cnn")["HardSigmoid"] == 3
    assert kinds("decoder_cnn")["Resize"] == kinds("decoder_cnn")["Concat"] == 1
    assert kinds("matmul_mixer")["MatMul"] == 2
    graph = frontend.parse(load("plain_cnn"))
    weights = graph.tensors[graph.operators[0].inputs[1]]
    assert weights.dtype == "uint8" and weights.zero_point != 0
    graph = frontend.parse(load("separable_cnn"))
    groups = [o.attributes["group"] for o in graph.operators if o.kind == "Conv"]
    assert sum(group > 1 for group in groups) == 2


def test_digits_keep_the_accuracy_of_their_reference():
    with np.load(DIGITS / "test_images.npz") as arrays:
        pixels, labels = arrays["image"].astype(np.int64) + 128, arrays["labels"]
    images = (pixels / 16).astype(np.float32).transpose(0, 1, 4, 2, 3)
    model = load("digits")
    expected = onnx_witness.run(model, {"image": images})["scores"].reshape(len(labels), -1)
    accuracy = float(np.mean(expected.argmax(axis=1) == labels))
    comparison = onnx_witness.compare(model, {"image": images})
    assert comparison.whole == onnx_witness.Difference(total=expected.size)
    facts = json.loads((DIGITS / "facts.json").read_text())
    # Every byte is the reference's, and so is the accuracy: that of the TFLite model or better.
    assert accuracy >= facts["accuracy"]["int8_test"]


@pytest.mark.shared_models
@pytest.mark.parametrize("name", ["onnx_kws_qdq_u8u8pt", "onnx_resnet8_qdq_s8s8pc"])
def test_shared_models_equal_onnxruntime(name: str):
    model = (SHARED / name / "model.onnx").read_bytes()
    with np.load(SHARED / name / "inputs.npz") as arrays:
        inputs = {key: values[:SAMPLES] for key, values in arrays.items()}
    with np.load(SHARED / name / "expected_onnxruntime_all.npz") as arrays:
        (expected,) = (values[:SAMPLES] for values in arrays.values())
    default = onnx_witness.run(model, inputs, "default")
    np.testing.assert_array_equal(next(iter(default.values())), expected)
    for kernels in ("integer", "default"):
        comparison = onnx_witness.compare(model, inputs, kernels)
        assert comparison.whole.differing == 0
        assert sum(found.differing for found in comparison.layers.values()) <= 1


def test_inputs_are_quantized_as_the_runtime_does():
    model = load("residual_cnn")
    inputs = random_inputs(model)
    graph = frontend.parse(model)
    tensor = graph.tensors["input"]
    expected = onnx_witness.all_tensors(model, inputs)["input_QuantizeLinear_Output"]
    found = float32.quantize_linear(inputs["input"], tensor.scale, tensor.zero_point, tensor.dtype)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("config", ["edge-8x8", "edge-16x16"])
@pytest.mark.parametrize("name", NETWORKS)
def test_programs_equal_onnxruntime_on_the_golden_machine(name: str, config: str):
    model = load(name)
    machine = find_config(config)
    program = pipeline.compile_file(FOLDER / f"{name}.onnx", machine)
    assert program.reference == "onnxruntime"
    inputs = {key: values[:2] for key, values in random_inputs(model).items()}
    expected = onnx_witness.run(model, inputs)
    device = Device(GoldenDevice(machine))
    for sample in range(2):
        quantized = {}
        for key in program.inputs:
            info = program.tensors[key]
            codes = float32.quantize_linear(
                inputs[key][sample], info.scale, info.zero_point, info.dtype
            )
            quantized[key] = codes.astype(info.dtype)
        result = run_sample(device, program, quantized)
        for key in program.outputs:
            info = program.tensors[key]
            codes = result.tensors[key].astype(np.float32) - np.float32(info.zero_point)
            np.testing.assert_array_equal(codes * np.float32(info.scale), expected[key][sample])
