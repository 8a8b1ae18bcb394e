"""The digits example: its files agree with each other, with the witness and with its README."""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import tflite

from systolith.bench import witness

FOLDER = Path(__file__).parents[2] / "examples" / "digits"
CLASSES = 10


def load(name: str) -> dict[str, np.ndarray]:
    with np.load(FOLDER / name) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def model():
    return (FOLDER / "digits.tflite").read_bytes()


@pytest.fixture(scope="module")
def test_set():
    return load("test_images.npz")


@pytest.fixture(scope="module")
def expected():
    return load("expected_tflm.npz")


@pytest.fixture(scope="module")
def facts():
    return json.loads((FOLDER / "facts.json").read_text())


@pytest.fixture(scope="module")
def readme():
    return (FOLDER / "README.md").read_text()


def int8_accuracy(expected, test_set) -> float:
    predicted = expected["scores"].reshape(-1, CLASSES).argmax(axis=1)
    return float(np.mean(predicted == test_set["labels"]))


def test_model_is_the_recorded_one_and_small(model, facts):
    assert hashlib.sha256(model).hexdigest() == facts["model_sha256"]
    assert len(model) == facts["model_bytes"] < 20_000


def test_operators(model):
    root = tflite.Model.GetRootAs(model, 0)
    graph = root.Subgraphs(0)
    op = tflite.BuiltinOperator
    codes = [
        root.OperatorCodes(graph.Operators(i).OpcodeIndex()).BuiltinCode()
        for i in range(graph.OperatorsLength())
    ]
    assert codes == [
        op.CONV_2D,
        op.CONV_2D,
        op.ADD,
        op.CONV_2D,
        op.AVERAGE_POOL_2D,
        op.RESHAPE,
        op.FULLY_CONNECTED,
        op.SOFTMAX,
    ]


def test_weights_are_per_channel_in_convolutions_and_per_tensor_in_the_dense_layer(model):
    root = tflite.Model.GetRootAs(model, 0)
    graph = root.Subgraphs(0)
    operators = [graph.Operators(i) for i in range(graph.OperatorsLength())]
    scales = {
        graph.Tensors(operator.Outputs(0)).Name().decode(): graph.Tensors(operator.Inputs(1))
        .Quantization()
        .ScaleLength()
        for operator in operators
        if operator.InputsLength() == 3
    }
    assert scales == {"conv1": 16, "conv2": 16, "conv3": 32, "dense": 1}


def test_test_set_is_balanced_and_in_range(test_set):
    assert list(test_set) == ["image", "labels"]
    assert test_set["image"].shape == (360, 1, 8, 8, 1)
    assert test_set["image"].dtype == np.int8
    assert test_set["image"].min() == -128
    assert test_set["image"].max() == 16 - 128
    assert np.bincount(test_set["labels"]).tolist() == [36] * CLASSES


def test_first_images_are_of_several_digits(test_set):
    assert len(set(test_set["labels"][:8].tolist())) > 3


def test_witness_gives_the_expected_scores(model, test_set, expected):
    got = witness.tflm(model, {"image": test_set["image"]})
    assert list(got) == list(expected) == ["scores"]
    assert expected["scores"].shape == (360, 1, CLASSES)
    np.testing.assert_array_equal(got["scores"], expected["scores"])


def test_accuracy_is_what_facts_and_readme_say(expected, test_set, facts, readme):
    accuracy = int8_accuracy(expected, test_set)
    recorded = facts["accuracy"]
    assert accuracy == recorded["int8_test"]
    assert recorded["float_test"] >= 0.97
    assert recorded["float_test"] - accuracy <= 0.01
    for value in recorded.values():
        assert f"{value:.2%}".replace("%", " %") in readme
    assert f"({round(accuracy * 360)} of 360)" in readme


def test_readme_states_the_size_of_the_model(model, readme):
    root = tflite.Model.GetRootAs(model, 0)
    graph = root.Subgraphs(0)
    weights = macs = 0
    for i in range(graph.OperatorsLength()):
        operator = graph.Operators(i)
        if operator.InputsLength() == 3:
            shape = graph.Tensors(operator.Inputs(1)).ShapeAsNumpy()
            output = graph.Tensors(operator.Outputs(0)).ShapeAsNumpy()
            weights += int(np.prod(shape))
            macs += int(np.prod(shape) * np.prod(output[:-1]))
    assert f"{macs:,} per image" in readme
    assert f"{len(model):,} bytes, of which {weights:,} weights" in readme


def test_every_shipped_file_is_described(readme):
    described = set(re.findall(r"`([\w.]+\.(?:py|npz|json|tflite))`", readme))
    shipped = {path.name for path in FOLDER.iterdir() if path.is_file()} - {"README.md"}
    assert described == shipped


def test_every_layer_is_used(model, test_set):
    # A tensor stuck at one value would hide errors of everything in front of it.
    tensors = witness.all_tensors(model, {"image": test_set["image"][:32]}, "tflm")
    assert len(tensors) == 9
    for name, values in tensors.items():
        assert len(np.unique(values)) > 16, name
